//! The turn of readers that reorient, for scans that lie nearly as close to one axis of the patient as to another.

use std::fs;

use meddino::ct::{Turn, Volume};
use meddino::nnunet::Reader;

use crate::desk::Desk;

/// A name; the directions in LPS, a row for each of the patient's axes and a column for each stored axis; for each axis
/// of RAS, the stored axis that SimpleITK 2.5's `DICOMOrient` takes for it, and whether it reverses it; and whether
/// nibabel 5.4's `io_orientation` agrees, where that does not depend on rounding.
type Case = (&'static str, [[f64; 3]; 3], [usize; 3], [bool; 3], Option<bool>);

#[rustfmt::skip]
#[allow(clippy::excessive_precision, clippy::unreadable_literal, clippy::approx_constant, reason = "numbers as Python prints them")]
const CASES: [Case; 24] = [
    ("two equal", [[0.7071067811865476, -0.7071067811865476, 0.0], [0.0, 0.0, 1.0], [0.7071067811865476, 0.7071067811865476, 0.0]], [0, 2, 1], [true, true, false], None),
    ("two equal", [[0.0, -0.7071067811865476, -0.7071067811865476], [0.0, 0.7071067811865476, -0.7071067811865476], [-1.0, 0.0, 0.0]], [1, 2, 0], [false, false, true], None),
    ("two equal", [[0.0, 0.7071067811865476, -0.7071067811865476], [0.0, -0.7071067811865476, -0.7071067811865476], [-1.0, 0.0, 0.0]], [1, 2, 0], [true, false, true], None),
    ("three equal", [[0.6666666666666666, 0.6666666666666666, -0.3333333333333333], [-0.6666666666666666, 0.3333333333333333, -0.6666666666666666], [-0.3333333333333333, 0.6666666666666666, 0.6666666666666666]], [1, 0, 2], [true, false, false], None),
    ("three equal", [[-0.6666666666666666, 0.3333333333333333, -0.6666666666666666], [-0.6666666666666666, -0.6666666666666666, 0.3333333333333333], [-0.3333333333333333, 0.6666666666666666, 0.6666666666666666]], [0, 1, 2], [false, false, false], None),
    ("three equal", [[0.3333333333333333, -0.6666666666666666, -0.6666666666666666], [0.6666666666666666, 0.6666666666666666, -0.3333333333333333], [-0.6666666666666666, 0.3333333333333333, -0.6666666666666666]], [0, 1, 2], [true, true, true], None),
    ("four equal of a half", [[0.7071067811865476, 0.7071067811865476, 0.0], [0.5, -0.5, -0.7071067811865476], [0.5, -0.5, 0.7071067811865476]], [1, 0, 2], [true, true, false], None),
    ("four equal of a half", [[0.7071067811865476, 0.5, -0.5], [0.0, 0.7071067811865476, 0.7071067811865476], [0.7071067811865476, -0.5, 0.5]], [1, 2, 0], [true, true, false], None),
    ("four equal of a half", [[-0.7071067811865476, 0.5, -0.5], [0.0, 0.7071067811865476, 0.7071067811865476], [-0.7071067811865476, -0.5, 0.5]], [1, 2, 0], [true, true, true], None),
    ("1e-15 beside a tie", [[0.7071067811865482, -0.7071067811865469, 3.1755846317496483e-16], [0.7071067811865469, 0.7071067811865482, -1.1646086190756567e-16], [-1.4219747753652641e-16, 3.0689800793186593e-16, 1.0]], [0, 1, 2], [true, true, false], None),
    ("1e-15 beside a tie", [[-0.3333333333333331, 0.6666666666666665, 0.666666666666667], [0.6666666666666673, -0.33333333333333304, 0.6666666666666661], [0.666666666666666, 0.666666666666667, -0.33333333333333387]], [2, 0, 1], [true, true, false], None),
    ("1e-12 beside a tie", [[0.7071067811862894, -0.7071067811868057, -5.383316585493618e-13], [0.7071067811868057, 0.7071067811862894, -7.595755133971681e-13], [9.177589626340456e-13, 1.5644303005873602e-13, 1.0]], [1, 0, 2], [false, true, false], Some(true)),
    ("1e-12 beside a tie", [[-0.33333333333384624, 0.6666666666659723, 0.6666666666671045], [0.6666666666665597, -0.33333333333362164, 0.6666666666666294], [0.6666666666665171, 0.6666666666672169, -0.33333333333253207]], [2, 0, 1], [true, true, false], Some(true)),
    ("1e-06 beside a tie", [[0.7071074100827612, -0.7071061522896764, 3.7236227079687744e-07], [0.7071061522897704, 0.7071074100827156, -2.651880556992718e-07], [-7.57840152526513e-08, 4.5081609180546456e-07, 0.9999999999998955]], [0, 1, 2], [true, true, false], Some(true)),
    ("1e-06 beside a tie", [[-0.33333385986741315, 0.6666670914692902, 0.6666659785963047], [0.6666661746079392, -0.3333328740543623, 0.666667388364149], [0.6666668954579252, 0.6666664715032066, -0.33333326607759395]], [1, 2, 0], [true, true, false], Some(true)),
    ("0.001 beside a tie", [[0.7077788738388967, -0.7064339858009547, -0.00029908647509404294], [0.7064340318828443, 0.7077788866519868, 7.878719868701731e-05], [0.0001560291375561635, -0.00026704877924193344, 0.9999999521699278]], [0, 1, 2], [true, true, false], Some(true)),
    ("0.001 beside a tie", [[-0.3330661745686336, 0.6672497087158407, 0.6662167436929533], [0.6669756626103752, -0.3327083497213442, 0.6666697979593424], [0.66649110184883, 0.666395513373496, -0.3342254193085964]], [1, 0, 2], [true, true, true], Some(true)),
    ("sheared", [[0.7537197202323257, 0.2088155262549757, 0.65012800674691], [0.5419013812932788, -0.7339182493967336, -0.6975601397981716], [-0.37181914459228865, -0.6463436231582171, 0.301236495478296]], [0, 1, 2], [true, false, false], Some(false)),
    ("sheared", [[0.5688984085485135, -0.5110554253886753, 0.24446634575848725], [0.2861357894603081, -0.6115340056464755, -0.7771163873141596], [-0.7710258820175203, -0.6040269134059977, 0.5799364847630134]], [1, 2, 0], [false, false, true], Some(false)),
    ("sheared", [[0.10183366872361278, -0.36539662627002184, 0.8795733661077318], [0.673679440250773, -0.6590367446750003, -0.013284768070667913], [0.7319739856700475, 0.6573856361974031, 0.47557776290657505]], [2, 1, 0], [true, false, false], Some(false)),
    ("sheared", [[-0.8295586529325358, 0.5563526968565173, -0.011394547037626492], [-0.4087149544987953, -0.5463457477209658, 0.6936446666664094], [-0.38050562060737597, -0.6260814648651555, -0.7202272146365014]], [0, 1, 2], [false, false, true], Some(false)),
    ("random", [[-0.9031397343271648, 0.2326135454768999, 0.3608733278314215], [-0.20405057898158455, -0.9720733900009212, 0.11591671867939246], [-0.3777591580580655, -0.03105258302917046, -0.9253830318254588]], [0, 1, 2], [false, false, true], Some(true)),
    ("random", [[0.4862448350570292, -0.761444174690311, 0.4286825506252309], [0.08698966538140344, -0.44596532176812914, -0.8908129601083948], [-0.8694818908391331, -0.4704441524883057, 0.1506105603613698]], [1, 2, 0], [false, false, true], Some(true)),
    ("random", [[0.7498227776986726, 0.01975912530836762, 0.6613436164440505], [0.6156121299112569, 0.3454574453849212, -0.7082943307229347], [0.24246135269434768, -0.9382263748132283, -0.24686790405894146]], [0, 2, 1], [true, false, true], Some(true)),
];

/// [slices, rows, columns]
const SHAPE: [usize; 3] = [4, 3, 2];

#[test]
fn readers_match_the_axes_of_oblique_scans_as_simpleitk_and_nibabel_do() {
    let desk = Desk::new();
    for (name, directions, from, flip, nibabel_agrees) in CASES {
        // A row of MetaImage's matrix is a stored axis.
        let matrix: Vec<String> = (0..9).map(|n| format!("{:?}", directions[n % 3][n / 3])).collect();
        let header = format!(
            "ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = False\nTransformMatrix = {}\nOffset = 0 0 0\nElementSpacing = 1 1 1\n\
             DimSize = 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
            matrix.join(" ")
        );
        fs::write(desk.path("scan.mha"), [header.as_bytes(), &[0; 48]].concat()).expect("written");
        let geometry = Volume::open(desk.path("scan.mha")).and_then(|scan| scan.geometry()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let is_itks = |turn: Turn| {
            let sides = [2, 1, 0].map(|axis: usize| SHAPE[2 - from[axis]]);
            turn.of_axes(SHAPE) == sides && {
                // One step along each axis, from the first voxel.
                [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]].into_iter().all(|index| {
                    let mut stored = [0; 3];
                    for axis in 0..3 {
                        let at = index[2 - axis];
                        stored[2 - from[axis]] = if flip[axis] { SHAPE[2 - from[axis]] - 1 - at } else { at };
                    }
                    turn.stored_index(index, SHAPE) == stored
                })
            }
        };
        assert!(is_itks(Reader::SimpleItkWithReorient.turn(&geometry)), "{name} {directions:?}");
        let agrees = is_itks(Reader::NibabelWithReorient.turn(&geometry));
        assert!(nibabel_agrees.is_none_or(|expected| agrees == expected), "{name} {directions:?}: nibabel");
    }
}
