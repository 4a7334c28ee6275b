//! Where the fields of a NIfTI header are, and how their numbers are stored: `nifti1.h` and `nifti2.h`. NIfTI-2 has the
//! fields of NIfTI-1 in another order, with wider numbers.

use super::fields::Fields;

/// The text of `descrip` in a file that this program writes.
const DESCRIP: &[u8] = concat!("meddino ", env!("CARGO_PKG_VERSION")).as_bytes();

/// The layout of a version of the format.
#[derive(Debug)]
pub(super) struct Layout {
    pub name: &'static str,
    /// The length of the header in bytes: `sizeof_hdr`.
    pub length: usize,
    /// The magic of a file with voxels, and that of a header whose voxels are in another file.
    pub single: &'static [u8],
    pub pair: &'static [u8],
    magic: usize,
    dim_info: Field,
    dim: Field,
    datatype: Field,
    bitpix: Field,
    pixdim: Field,
    vox_offset: Field,
    /// `scl_slope`, then `scl_inter`.
    scaling: Field,
    xyzt_units: Field,
    descrip: usize,
    /// `qform_code`, then `sform_code`.
    codes: Field,
    /// `quatern_b` to `quatern_d`, `qoffset_x` to `qoffset_z`, `srow_x` to `srow_z`.
    forms: Field,
}

pub(super) const NIFTI_1: Layout = Layout {
    name: "NIfTI-1",
    length: 348,
    single: b"n+1\0",
    pair: b"ni1\0",
    magic: 344,
    dim_info: Field(39, Number::U8),
    dim: Field(40, Number::I16),
    datatype: Field(70, Number::I16),
    bitpix: Field(72, Number::I16),
    pixdim: Field(76, Number::F32),
    vox_offset: Field(108, Number::F32),
    scaling: Field(112, Number::F32),
    xyzt_units: Field(123, Number::U8),
    descrip: 148,
    codes: Field(252, Number::I16),
    forms: Field(256, Number::F32),
};

pub(super) const NIFTI_2: Layout = Layout {
    name: "NIfTI-2",
    length: 540,
    single: b"n+2\0\r\n\x1a\n",
    pair: b"ni2\0\r\n\x1a\n",
    magic: 4,
    dim_info: Field(524, Number::U8),
    dim: Field(16, Number::I64),
    datatype: Field(12, Number::I16),
    bitpix: Field(14, Number::I16),
    pixdim: Field(104, Number::F64),
    vox_offset: Field(168, Number::I64),
    scaling: Field(176, Number::F64),
    xyzt_units: Field(500, Number::I32),
    descrip: 240,
    codes: Field(344, Number::I32),
    forms: Field(352, Number::F64),
};

impl Layout {
    /// Returns the offset of the voxels in a single file without extensions.
    pub fn first_voxel(&self) -> usize {
        self.length + 4
    }

    /// Returns the magic of a header, which has the length of the layout.
    pub fn magic<'a>(&self, header: &'a [u8]) -> &'a [u8] {
        &header[self.magic..][..self.single.len()]
    }

    /// Describes a `magic` that is not the layout's.
    pub fn not_its(&self, magic: &[u8]) -> String {
        let [magic, single, pair] = [magic, self.single, self.pair].map(<[u8]>::escape_ascii);
        let cause = match () {
            () if self.single.len() == 4 => "Analyze 7.5 does not state an orientation",
            () => "a program that changes the ends of lines damages the file",
        };
        format!("its magic is \"{magic}\", and neither \"{single}\" nor \"{pair}\" of {} ({cause})", self.name)
    }

    /// Returns the fields of a header, which has the length of the layout.
    pub fn read(&self, header: &[u8], is_big_endian: bool) -> Fields {
        let number = |field: Field, index: usize| field.get(index, header, is_big_endian);
        let form = |first: usize| [0, 1, 2, 3].map(|i| number(self.forms, first + i));
        Fields {
            is_f64: self.pixdim.1 == Number::F64,
            dim_info: number(self.dim_info, 0) as u8,
            dim: std::array::from_fn(|i| number(self.dim, i) as i64),
            datatype: number(self.datatype, 0) as i16,
            bitpix: number(self.bitpix, 0) as i16,
            pixdim: std::array::from_fn(|i| number(self.pixdim, i)),
            vox_offset: number(self.vox_offset, 0),
            scl_slope: number(self.scaling, 0),
            scl_inter: number(self.scaling, 1),
            xyzt_units: number(self.xyzt_units, 0) as i32,
            qform_code: number(self.codes, 0) as i32,
            sform_code: number(self.codes, 1) as i32,
            quatern: [0, 1, 2].map(|i| number(self.forms, i)),
            qoffset: [3, 4, 5].map(|i| number(self.forms, i)),
            srow: [form(6), form(10), form(14)],
        }
    }

    /// Returns whether the layout's numbers can hold those of `fields`, apart from rounding.
    pub fn holds(&self, fields: &Fields) -> bool {
        self.numbers(fields).iter().all(|(field, _, value)| field.1.holds(*value))
    }

    /// Returns the little-endian header of a single file, up to its voxels.
    pub fn write(&self, fields: &Fields) -> Vec<u8> {
        let mut header = vec![0; self.first_voxel()];
        header[..4].copy_from_slice(&(self.length as i32).to_le_bytes());
        header[self.magic..][..self.single.len()].copy_from_slice(self.single);
        header[self.descrip..][..DESCRIP.len()].copy_from_slice(DESCRIP);
        self.numbers(fields).into_iter().for_each(|(field, index, value)| field.put(index, value, &mut header));
        header
    }

    /// Returns each number of a single file: its field, its place in the field, and its value.
    fn numbers(&self, fields: &Fields) -> Vec<(Field, usize, f64)> {
        let list: [(Field, &[f64]); 11] = [
            (self.dim_info, &[fields.dim_info.into()]),
            (self.dim, &fields.dim.map(|n| n as f64)),
            (self.datatype, &[fields.datatype.into()]),
            (self.bitpix, &[fields.bitpix.into()]),
            (self.pixdim, &fields.pixdim),
            (self.vox_offset, &[self.first_voxel() as f64]),
            (self.scaling, &[fields.scl_slope, fields.scl_inter]),
            (self.xyzt_units, &[fields.xyzt_units.into()]),
            (self.codes, &[fields.qform_code.into(), fields.sform_code.into()]),
            (self.forms, &[fields.quatern, fields.qoffset].concat()),
            (Field(self.forms.0 + 6 * self.forms.1.size(), self.forms.1), fields.srow.as_flattened()),
        ];
        list.into_iter().flat_map(|(field, values)| values.iter().enumerate().map(move |(i, v)| (field, i, *v))).collect()
    }
}

/// The offset of a field's first number, and how its numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Field(usize, Number);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    U8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Field {
    /// Returns number `index` of the field. Integers beyond 2^53, which no check accepts, lose digits.
    fn get(self, index: usize, header: &[u8], is_big_endian: bool) -> f64 {
        let Self(at, number) = self;
        let size = number.size();
        let mut bytes = header[at + index * size..][..size].to_vec();
        if is_big_endian {
            bytes.reverse();
        }
        number.decode(&bytes)
    }

    fn put(self, index: usize, value: f64, header: &mut [u8]) {
        let Self(at, number) = self;
        let bytes = number.encode(value);
        header[at + index * bytes.len()..][..bytes.len()].copy_from_slice(&bytes);
    }
}

impl Number {
    fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Returns the number in `bytes`, which are as many as its size, in little-endian order.
    fn decode(self, bytes: &[u8]) -> f64 {
        match self {
            Self::U8 => bytes[0].into(),
            Self::I16 => i16::from_le_bytes(array(bytes)).into(),
            Self::I32 => i32::from_le_bytes(array(bytes)).into(),
            Self::I64 => i64::from_le_bytes(array(bytes)) as f64,
            Self::F32 => f32::from_le_bytes(array(bytes)).into(),
            Self::F64 => f64::from_le_bytes(array(bytes)),
        }
    }

    fn encode(self, value: f64) -> Vec<u8> {
        match self {
            Self::U8 => vec![value as u8],
            Self::I16 => (value as i16).to_le_bytes().to_vec(),
            Self::I32 => (value as i32).to_le_bytes().to_vec(),
            Self::I64 => (value as i64).to_le_bytes().to_vec(),
            Self::F32 => (value as f32).to_le_bytes().to_vec(),
            Self::F64 => value.to_le_bytes().to_vec(),
        }
    }

    /// Returns whether `value` is in the range of the number. An f32 must neither become infinite nor 0.
    fn holds(self, value: f64) -> bool {
        let within = |least: f64, most: f64| (least..=most).contains(&value);
        let narrow = value as f32;
        match self {
            Self::U8 => within(0.0, u8::MAX.into()),
            Self::I16 => within(i16::MIN.into(), i16::MAX.into()),
            Self::I32 => within(i32::MIN.into(), i32::MAX.into()),
            Self::F32 => narrow.is_finite() == value.is_finite() && (narrow == 0.0) == (value == 0.0),
            Self::I64 | Self::F64 => true,
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("as many bytes as the number has")
}
