//! One vector in an HDF5 file, as libhdf5 has written such files since its first version: superblock 0, a group with a
//! symbol table, and a contiguous dataset. An attribute of the dataset names this program.
//!
//! "HDF5 File Format Specification Version 3.0", sections II.A (superblock), III (groups) and IV (object headers).

use std::path::Path;

use super::ours::WRITTEN_BY;
use crate::archive::NewFile;
use crate::error::{Error, Result};

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// An address that is none.
const NOWHERE: u64 = u64::MAX;
/// Half the keys of a leaf of symbols, and of a node of the tree of leaves.
const LEAF_K: u16 = 4;
const NODE_K: u16 = 16;
/// The longest name of a dataset, with the zero at its end.
const NAME: usize = 16;

/// The lengths of the parts of a file, in their order.
const SUPERBLOCK: u64 = 96;
const GROUP: u64 = 16 + 24;
const DATASET: u64 = 16 + MESSAGES;
const MESSAGES: u64 = (8 + 16) + (8 + 24) + (8 + 8) + (8 + 24) + (8 + 48);
const TREE: u64 = 24 + 8 * (4 * NODE_K as u64 + 1);
const HEAP: u64 = 32 + 8 + NAME as u64 + 16;
const LEAF: u64 = 8 + 2 * LEAF_K as u64 * 40;

/// The addresses of the parts.
const AT_GROUP: u64 = SUPERBLOCK;
const AT_DATASET: u64 = AT_GROUP + GROUP;
const AT_TREE: u64 = AT_DATASET + DATASET;
const AT_HEAP: u64 = AT_TREE + TREE;
const AT_LEAF: u64 = AT_HEAP + HEAP;
const AT_VALUES: u64 = AT_LEAF + LEAF;

/// Writes `values` as the dataset `name`, f32, with one axis.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the name takes more than 15 bytes, which is a programmer's mistake.
pub fn write_hdf5(path: &Path, name: &str, values: &[f32]) -> Result<()> {
    let bytes = encoded(name, values);
    let mut file = NewFile::create(path)?;
    file.write_at(0, &bytes).map_err(|e| Error::output(path.display(), e.to_string()))?;
    file.commit()
}

/// Bytes, little-endian.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends zeros up to the address `end`.
    fn fill_to(&mut self, end: u64) -> &mut Self {
        assert!(self.0.len() as u64 <= end, "{} bytes are more than {end}", self.0.len());
        self.0.resize(end as usize, 0);
        self
    }

    /// Appends a message of an object header: its type, and its data with zeros up to `length`.
    fn message(&mut self, kind: u16, length: u16, data: &[u8]) -> &mut Self {
        let end = self.0.len() as u64 + 8 + u64::from(length);
        self.u16(kind).u16(length).bytes(&[0; 4]).bytes(data).fill_to(end)
    }

    /// Appends the start of an object header with `messages` of `length` bytes in all.
    fn object(&mut self, messages: u16, length: u64) -> &mut Self {
        self.bytes(&[1, 0]).u16(messages).u32(1).u32(length as u32).u32(0)
    }
}

fn encoded(name: &str, values: &[f32]) -> Vec<u8> {
    assert!(name.len() < NAME, "{name} is too long");
    let size = 4 * values.len() as u64;
    let mut file = Bytes::default();
    file.bytes(SIGNATURE).bytes(&[0, 0, 0, 0, 0, 8, 8, 0]).u16(LEAF_K).u16(NODE_K).u32(0);
    file.u64(0).u64(NOWHERE).u64(AT_VALUES + size).u64(NOWHERE);
    // The root group: no name, and where its symbols are.
    file.u64(0).u64(AT_GROUP).u32(1).u32(0).u64(AT_TREE).u64(AT_HEAP).fill_to(AT_GROUP);
    let table = [AT_TREE, AT_HEAP].map(u64::to_le_bytes).concat();
    file.object(1, 24).message(0x11, 16, &table).fill_to(AT_DATASET);

    let part = |write: &dyn Fn(&mut Bytes)| {
        let mut part = Bytes::default();
        write(&mut part);
        part.0
    };
    let space = part(&|part| {
        part.bytes(&[1, 1, 0, 0]).u32(0).u64(values.len() as u64);
    });
    let layout = part(&|part| {
        part.bytes(&[3, 1]).u64(AT_VALUES).u64(size);
    });
    file.object(5, MESSAGES).message(1, 16, &space).message(3, 24, &float()).message(5, 8, &[2, 2, 2, 1]).message(8, 24, &layout);
    file.message(0xc, 48, &mark()).fill_to(AT_TREE);

    // A node with one leaf, whose names are those between the empty one and the dataset's.
    file.bytes(b"TREE").bytes(&[0, 0]).u16(1).u64(NOWHERE).u64(NOWHERE).u64(0).u64(AT_LEAF).u64(8).fill_to(AT_HEAP);
    // The names: an empty one, the dataset's, and free space, which is the last.
    let names = 8 + NAME as u64;
    file.bytes(b"HEAP").u32(0).u64(names + 16).u64(names).u64(AT_HEAP + 32);
    file.u64(0).bytes(name.as_bytes()).fill_to(AT_HEAP + 32 + names).u64(1).u64(16);
    file.bytes(b"SNOD").bytes(&[1, 0]).u16(1).u64(8).u64(AT_DATASET).fill_to(AT_VALUES);
    for value in values {
        file.bytes(&value.to_le_bytes());
    }
    file.0
}

/// The type of f32 in little-endian bytes: where its sign, exponent and mantissa are.
fn float() -> Vec<u8> {
    let mut float = Bytes::default();
    float.bytes(&[0x11, 0x20, 31, 0]).u32(4).u16(0).u16(32).bytes(&[23, 8, 0, 23]).u32(127);
    float.0
}

/// The attribute that names this program: a text of 16 bytes that ends with a zero.
fn mark() -> Vec<u8> {
    let mut mark = Bytes::default();
    mark.bytes(&[1, 0]).u16(8).u16(8).u16(8).bytes(WRITTEN_BY.as_bytes()).fill_to(16);
    mark.bytes(&[0x13, 0, 0, 0]).u32(16).bytes(&[1, 0, 0, 0, 0, 0, 0, 0]);
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    mark.bytes(&version[..version.len().min(15)]).fill_to(48);
    mark.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::is_ours;

    /// h5py reads these bytes: `tests/golden/hdf5.py` compares the whole file.
    #[test]
    fn the_parts_are_where_the_addresses_say() {
        let bytes = encoded("y_hat", &[1.0, -2.5]);
        let at = |address: u64, length: usize| &bytes[address as usize..][..length];
        assert_eq!((at(0, 8), at(AT_TREE, 4), at(AT_HEAP, 4), at(AT_LEAF, 4)), (SIGNATURE, &b"TREE"[..], &b"HEAP"[..], &b"SNOD"[..]));
        assert_eq!(at(AT_HEAP + 40, 6), b"y_hat\0");
        assert_eq!(at(AT_VALUES, 8), [1.0_f32.to_le_bytes(), (-2.5_f32).to_le_bytes()].concat());
        let address = |at_byte: u64| u64::from_le_bytes(at(at_byte, 8).try_into().expect("eight bytes"));
        assert_eq!([address(64), address(80), address(88)], [AT_GROUP, AT_TREE, AT_HEAP]);
        assert_eq!([address(AT_TREE + 32), address(AT_HEAP + 24), address(AT_LEAF + 16)], [AT_LEAF, AT_HEAP + 32, AT_DATASET]);
        assert_eq!(bytes.len() as u64, AT_VALUES + 8);
        assert_eq!(at(40, 8), (AT_VALUES + 8).to_le_bytes(), "the end of the file");
        let path = tempfile::tempdir().expect("a folder");
        let file = path.path().join("a.h5");
        write_hdf5(&file, "y_hat", &[1.0]).expect("written");
        assert!(is_ours(&file));
        std::fs::write(&file, &bytes[..200]).expect("written");
        assert!(!is_ours(&file), "without its attribute");
    }
}
