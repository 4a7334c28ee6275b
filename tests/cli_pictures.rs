//! `meddino pca` and `meddino similarity` as users run them.
#![cfg(feature = "cli")]

mod common;
#[path = "common/desk.rs"]
mod desk;
#[cfg(target_os = "linux")]
#[path = "common/interrupt.rs"]
mod interrupt;
#[path = "nifti/file.rs"]
#[allow(dead_code, reason = "some fields are for other tests")]
mod nifti;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use common::max_abs;
use desk::{Desk, text};
use meddino::Tensor;
use meddino::ct::Volume;
use meddino::maps::{BasisFile, Moments, limits};

const TINY: &str = "-c seeded:0:tiny --backend cpu";

/// A PNG file: its size, pixels and texts.
struct Shown {
    height: usize,
    width: usize,
    pixels: Vec<[u8; 3]>,
    texts: HashMap<String, String>,
}

impl Shown {
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels[y * self.width + x]
    }

    fn colours(&self, columns: std::ops::Range<usize>) -> usize {
        let all = self.pixels.chunks_exact(self.width).flat_map(|row| &row[columns.clone()]);
        all.collect::<std::collections::HashSet<_>>().len()
    }
}

/// A folder with a scan of three slices of 96 x 128 (the phantom's middle, the same darker, and mirrored) and smaller
/// scans.
fn desk() -> Desk {
    let desk = Desk::new();
    let thorax = Volume::phantom().read_slice(0).expect("built in");
    let (h, w) = (96, 128);
    let pixel = |y: usize, x: usize| thorax.data()[(150 + 2 * y) * 512 + 130 + 2 * x];
    let hu = (0..3 * h * w).map(|i| {
        let (slice, y, x) = (i / (h * w), i / w % h, i % w);
        [pixel(y, x), pixel(y, x) / 3.0 - 200.0, pixel(y, w - 1 - x)][slice]
    });
    desk.npy("scan.npy", &Tensor::new([3, h, w], hu.collect()));
    desk.npy("patch.npy", &Tensor::new([16, 16], thorax.data()[..256].to_vec()));
    desk.npy("pair.npy", &Tensor::new([16, 32], thorax.data()[100_000..100_512].to_vec()));
    desk
}

/// Runs `line`, which must succeed. Returns its stdout and stderr.
fn succeed(desk: &Desk, line: &str) -> (String, String) {
    let output = desk.run(line);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{err}", output.status);
    (out, err)
}

/// Runs `line`, which must write one picture and print its name on stdout. Returns the picture.
fn draw(desk: &Desk, line: &str) -> Shown {
    let (out, _) = succeed(desk, line);
    read(&desk.path(out.trim_end()))
}

fn read(path: &Path) -> Shown {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().expect("a PNG");
    let mut bytes = vec![0; reader.output_buffer_size().expect("small")];
    let info = reader.next_frame(&mut bytes).expect("a picture");
    let texts = reader.info().utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().expect("text"))).collect();
    Shown { height: info.height as usize, width: info.width as usize, pixels: bytes.as_chunks().0.to_vec(), texts }
}

#[test]
fn components_appear_beside_the_ct_and_record_their_origin() {
    let desk = desk();
    let shown = draw(&desk, &format!("pca scan.npy {TINY}"));
    assert!(desk.path("scan.pca.png").is_file());
    // 96 x 128 pixels scaled to 448 on the longer side, twice, with a gap.
    assert_eq!((shown.height, shown.width), (336, 448 * 2 + 8));
    let gray = |x: usize, y: usize| shown.at(x, y)[0] == shown.at(x, y)[1] && shown.at(x, y)[1] == shown.at(x, y)[2];
    assert!((0..336).all(|y| (0..448).all(|x| gray(x, y))), "the CT is gray");
    assert!(shown.colours(0..448) > 50, "and shows something");
    assert!((20..=48).contains(&shown.colours(456..904)), "a colour a patch: {}", shown.colours(456..904));
    // Patches are blocks of 56 pixels.
    assert!((0..56).all(|i| shown.at(456 + i, i) == shown.at(456, 0)));
    for (keyword, want) in [("Software", "meddino "), ("Title", "Principal components"), ("slices", "[1]"), ("checkpoint", "seeded:0:tiny")]
    {
        assert!(shown.texts.get(keyword).is_some_and(|text| text.contains(want)), "{keyword}: {:?}", shown.texts);
    }

    let map_only = draw(&desk, &format!("pca scan.npy {TINY} --layout map -o map.png"));
    assert_eq!((map_only.height, map_only.width), (336, 448));
    assert!((0..336).all(|y| map_only.pixels[y * 448..][..448] == shown.pixels[y * 904 + 456..][..448]), "the same map, by itself");
    let channels = map_only.pixels.as_flattened();
    assert_eq!((channels.iter().min(), channels.iter().max()), (Some(&0), Some(&255)), "from the least score to the greatest");
    let smooth = draw(&desk, &format!("pca scan.npy {TINY} --layout map --smooth -o smooth.png"));
    assert!(smooth.colours(0..448) > 1000);
    let over = draw(&desk, &format!("pca scan.npy {TINY} --layout over -o over.png"));
    assert!(over.pixels != map_only.pixels && (over.height, over.width) == (336, 448));
}

#[test]
fn several_slices_make_a_sheet_or_a_picture_each() {
    let desk = desk();
    let line = format!("pca scan.npy {TINY} --layout map --slices all");
    let sheet = draw(&desk, &format!("{line} -o sheet.png"));
    assert_eq!(sheet.texts["slices"], "[0,1,2]");
    // Two columns and two rows of 96 x 128, each with a caption.
    assert_eq!((sheet.height, sheet.width), (2 * (96 + 14 + 16) + 8, 2 * 128 + 8));
    let (out, _) = succeed(&desk, &format!("{line} -o slice_{{}}.png"));
    assert_eq!(out, "slice_000.png\nslice_001.png\nslice_002.png\n");
    let single = draw(&desk, &format!("pca scan.npy {TINY} --layout map --slice 1 -o one.png"));
    assert!(read(&desk.path("slice_001.png")).pixels == single.pixels, "a slice by itself has the same colours: components are its own");

    // One basis for all slices. Slice 2 mirrors slice 0, so blocks at the same place have other colours, but one colour
    // range covers all slices.
    succeed(&desk, &format!("{line} --fit volume -o shared_{{}}.png"));
    let shared: Vec<Shown> = (0..3).map(|i| read(&desk.path(&format!("shared_00{i}.png")))).collect();
    assert!(shared[1].pixels != single.pixels, "components of all slices are not those of one");
    let ends = |i: usize| {
        let channels = shared[i].pixels.as_flattened();
        (channels.contains(&0), channels.contains(&255))
    };
    assert!((0..3).any(|i| ends(i).0) && (0..3).any(|i| ends(i).1) && (0..3).any(|i| ends(i) != (true, true)), "one range over all");
}

#[test]
fn a_basis_is_shared_between_scans() {
    let desk = desk();
    let line = format!("pca scan.npy {TINY} --layout map");
    succeed(&desk, &format!("{line} --slices all --fit volume --save-basis basis.safetensors -o fitted_{{}}.png"));
    let (_, messages) = succeed(&desk, &format!("{line} --slice 2 --basis basis.safetensors -o again.png"));
    assert!(!messages.contains("basis.safetensors"), "{messages}");
    assert!(read(&desk.path("fitted_002.png")).pixels == read(&desk.path("again.png")).pixels);

    // The stored basis equals that of the features of all slices.
    succeed(&desk, "features scan.npy -c seeded:0:tiny -o features.safetensors");
    let tokens = desk.read("features.safetensors").0.remove("x_norm_patchtokens").expect("patch tokens");
    let mut moments = Moments::new(128);
    moments.add(&tokens);
    let stored = BasisFile::open(&desk.path("basis.safetensors")).expect("a basis");
    let components = moments.basis().expect("tokens that differ");
    assert!(max_abs(stored.basis.components().data(), components.components().data()) < 1e-5);
    let (lo, hi) = limits(&components.scores(&tokens));
    assert!((stored.limits.0 - lo).abs() < 1e-5 && (stored.limits.1 - hi).abs() < 1e-5, "{:?} for {lo} {hi}", stored.limits);

    let (_, messages) = succeed(&desk, "pca scan.npy -c seeded:1:tiny --backend cpu --basis basis.safetensors -o other.png");
    assert!(messages.contains("warning: basis.safetensors: its checkpoint is seeded:0:tiny, but here it is seeded:1:tiny"), "{messages}");
    let refused = desk.run("pca scan.npy -c seeded:0:micro --backend cpu --basis basis.safetensors -o wrong.png");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("holds components for tokens of width 128, but this model's tokens have width 64"),
        "{}",
        text(&refused.stderr)
    );
    assert!(!desk.path("wrong.png").exists());
}

#[test]
fn similarity_is_greatest_at_the_point_and_a_bar_explains_the_colours() {
    let desk = desk();
    let line = format!("similarity scan.npy {TINY} --point 70,40");
    let shown = draw(&desk, &format!("{line} --layout map -o map.png"));
    assert!(shown.height == 336 && shown.width > 448 + 8 + 50, "{} x {}", shown.height, shown.width);
    // Pixel (70, 40) is in patch (4, 2), a block of 56 pixels. It is most similar to itself, so it has the topmost
    // colour of the bar. The centre of the mark is white.
    let top = (0..336).map(|y| shown.at(456, y)).find(|c| *c != [0; 3]).expect("a bar");
    assert_eq!(shown.at(4 * 56 + 1, 2 * 56 + 54), top);
    assert_eq!(shown.at(246, 141), [255; 3]);
    assert!(shown.texts["Title"].contains("pixel 70,40 of slice 1"));

    // Other limits of the bar give other colours.
    let ranged = draw(&desk, &format!("{line} --layout map --range -1,3 -o ranged.png"));
    assert!(ranged.at(4 * 56 + 1, 2 * 56 + 54) != top);
    // Slices other than the point's have no mark.
    succeed(&desk, &format!("similarity scan.npy {TINY} --point 70,40,0 --slices all --layout map -o all_{{}}.png"));
    assert_eq!(read(&desk.path("all_000.png")).at(246, 141), [255; 3]);
    assert_ne!(read(&desk.path("all_002.png")).at(246, 141), [255; 3]);
    // A slice given with the point is the one that is drawn.
    let named = draw(&desk, &format!("similarity scan.npy {TINY} --point 70,40,2 -o named.png"));
    assert_eq!(named.texts["slices"], "[2]");
}

#[test]
fn pictures_that_cannot_be_drawn_are_errors_and_leave_no_file() {
    let desk = desk();
    let before = desk.files();
    let cases = [
        (format!("pca scan.npy {TINY} -o x.jpg"), 1, "give a name that ends in .png"),
        (format!("pca scan.npy {TINY} --slices 3"), 1, "there is no slice 3; this input has 3 slices, 0 to 2"),
        (format!("pca scan.npy {TINY} --slices all --save-basis b.safetensors"), 1, "add --fit volume"),
        (format!("pca scan.npy {TINY} --basis scan.npy"), 1, "error: input scan.npy: "),
        (format!("pca scan.npy {TINY} --save-basis scan.npy"), 1, "would take the place of"),
        (format!("pca patch.npy {TINY}"), 1, "1 patch has none; give a larger image"),
        (format!("pca scan.npy {TINY} -o no/such/x.png"), 1, "there is no folder no/such"),
        (format!("pca scan.npy {TINY} --fit volume --slices all -o no/such/x_{{}}.png"), 1, "there is no folder no/such"),
        (format!("pca scan.npy {TINY} --save-basis no/such/b.safetensors"), 1, "there is no folder no/such"),
        ("pca scan.npy".into(), 1, "seeded:0"),
        (format!("pca scan.npy {TINY} --gray 40"), 2, "LEVEL,WIDTH"),
        (format!("pca scan.npy {TINY} --slices 1:2:0"), 2, "is not a selection of slices"),
        (format!("pca scan.npy {TINY} --fit volume --basis b.safetensors"), 2, "cannot be used with"),
        (format!("similarity scan.npy {TINY}"), 2, "--point"),
        (format!("similarity scan.npy {TINY} --point 1"), 2, "is not X,Y or X,Y,SLICE"),
        (format!("similarity scan.npy {TINY} --point 128,0"), 1, "X goes from 0 to 127 and Y from 0 to 95"),
        (format!("similarity scan.npy {TINY} --point 0,96"), 1, "X goes from 0 to 127 and Y from 0 to 95"),
        (format!("similarity scan.npy {TINY} --size 72x72 --point 127,95"), 1, "X goes from 0 to 113 and Y from 0 to 84"),
        (format!("similarity scan.npy {TINY} --point 0,0,3"), 1, "there is no slice 3"),
        (format!("similarity scan.npy {TINY} --point 0,0 --slices all"), 1, "name the slice of the point"),
        (format!("similarity scan.npy {TINY} --point 0,0 --range 1,0"), 2, "LO below HI"),
    ];
    let mut wrong = Vec::new();
    for (line, code, expected) in cases {
        let output = desk.run(&line);
        let stderr = text(&output.stderr);
        if output.status.code() != Some(code) || !stderr.contains(expected) || stderr.contains("panicked") || desk.files() != before {
            wrong.push(format!("{line}: expected {code} and {expected:?}, found {:?}, {:?}\n{stderr}", output.status.code(), desk.files()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn two_patches_have_one_component_and_a_picture() {
    let desk = desk();
    let (_, messages) = succeed(&desk, &format!("pca pair.npy {TINY} --layout map -o pair.png"));
    assert!(messages.contains("vary in only 1 directions"), "{messages}");
    let shown = read(&desk.path("pair.png"));
    assert_eq!((shown.height, shown.width, shown.colours(0..448)), (224, 448, 2));
    // Two tokens with opposite scores: red is full or none, and the other channels are in the middle.
    assert!([0, 255].contains(&shown.at(0, 0)[0]) && (127..=128).contains(&shown.at(0, 0)[1]), "{:?}", shown.at(0, 0));
    // A single patch equals itself, and the bar has one number.
    succeed(&desk, &format!("similarity patch.npy {TINY} --point 3,3 -o patch.png"));
}

#[test]
fn stored_features_make_the_same_pictures() {
    let desk = desk();
    desk.succeed("features scan.npy -c seeded:0:tiny --slices 2,0 -o scan.features.safetensors");
    let stored = "--features scan.features.safetensors";
    let same = |computed: &str, read: &str| {
        let (computed, read) = (draw(&desk, &format!("{computed} -o computed.png")), draw(&desk, read));
        assert!(computed.pixels == read.pixels && (computed.height, computed.width) == (read.height, read.width));
        read
    };
    let shown = same(&format!("pca scan.npy {TINY} --slice 2"), &format!("pca scan.npy {stored} --slice 2"));
    assert!(desk.path("scan.pca.png").is_file());
    for (keyword, want) in [("features", "scan.features.safetensors"), ("checkpoint", "seeded:0:tiny"), ("slices", "[2]")] {
        assert_eq!(shown.texts.get(keyword).map(String::as_str), Some(want), "{keyword}: {:?}", shown.texts);
    }
    same(&format!("pca scan.npy {TINY} --slices 0,2 --fit volume"), &format!("pca scan.npy {stored} --slices all --fit volume"));
    let point = "--point 70,40,0 --slices 0,2";
    same(&format!("similarity scan.npy {TINY} {point}"), &format!("similarity scan.npy {stored} {point}"));

    // Without a scan there is no CT to draw below the maps.
    same(&format!("pca scan.npy {TINY} --layout map --slice 0"), &format!("pca {stored} --slice 0 -o alone.png"));
    let named = draw(&desk, &format!("similarity {stored} --point 70,40"));
    assert_eq!((named.texts["slices"].as_str(), desk.path("scan.similarity.png").is_file()), ("[0]", true));

    // A basis file records its origin.
    succeed(&desk, &format!("pca {stored} --slices all --fit volume --save-basis basis.safetensors -o x.png"));
    let (_, messages) = succeed(&desk, &format!("pca scan.npy {TINY} --basis basis.safetensors -o x.png"));
    assert!(!messages.contains("basis.safetensors"), "{messages}");

    // Another scan of the same shape gets a warning. A scan of another shape is refused.
    desk.npy("other.npy", &desk::hu(3, 96, 128));
    let (_, messages) = succeed(&desk, &format!("pca other.npy {stored} -o x.png"));
    assert!(
        messages.contains("warning: other.npy: the features in scan.features.safetensors were computed from other content"),
        "{messages}"
    );
    let before = desk.files();
    desk.images("plain.safetensors", &Tensor::zeros([1, 1, 32, 32]));
    for (line, code, expected) in [
        (format!("pca pair.npy {stored}"), 1, "give the scan that they were computed from"),
        (format!("pca scan.npy {stored} --slice 1"), 1, "slice 1 is not among the features in the file"),
        (format!("similarity scan.npy {stored} --point 3,3,1 --slices all"), 1, "slice 1 is not among the features in the file"),
        ("pca scan.npy --features plain.safetensors".into(), 1, "holds no x_norm_patchtokens"),
        (
            format!("pca {stored} -o scan.features.safetensors.png --save-basis scan.features.safetensors --fit volume"),
            1,
            "would take the place of",
        ),
        (format!("pca scan.npy {stored} -c seeded:0"), 2, "cannot be used with"),
        (format!("pca scan.npy {stored} --orient stored"), 2, "cannot be used with"),
        ("pca".into(), 2, "<INPUT>"),
    ] {
        let output = desk.run(&line);
        let messages = text(&output.stderr);
        assert!(output.status.code() == Some(code) && messages.contains(expected), "{line}: {:?}\n{messages}", output.status.code());
    }
    assert_eq!(desk.files().len(), before.len() + 1, "{:?}", desk.files());
}

#[test]
fn a_slice_has_its_shape_in_the_patient() {
    let desk = Desk::new();
    // 96 axial slices of 64 x 128 pixels: columns of 0.5 mm to the left, rows of 1 mm to posterior, 2 mm between
    // slices.
    let voxel = |n: i32| (n * 37 % 1500 - 700) as i16;
    let mut scan = nifti::Nifti::i16([96, 64, 128], (0..96 * 64 * 128).map(voxel));
    scan.srow = [-0.5, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    std::fs::write(desk.path("axial.nii"), scan.bytes()).expect("written");
    let size = |shown: &Shown| (shown.height, shown.width);
    // A slice is 64 x 64 mm.
    assert_eq!(size(&draw(&desk, &format!("pca axial.nii {TINY} --layout map"))), (448, 448));
    // The same scan as coronal slices, with columns to the left and rows of 2 mm upwards: 192 x 64 mm.
    scan.dim = [3, 128, 96, 64, 1, 1, 1, 1];
    scan.srow = [-0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 2.0, 0.0, 0.0];
    std::fs::write(desk.path("coronal.nii"), scan.bytes()).expect("written");
    let line = format!("coronal.nii {TINY} --orient stored --point 64,48");
    let shown = draw(&desk, &format!("similarity {line} --layout beside"));
    assert_eq!(shown.height, 448);
    // The point is in the middle of the CT and of the map, which are 149 pixels wide.
    for middle in [75, 75 + 149 + 8] {
        assert_eq!(shown.at(middle, 226), [255; 3]);
    }
    desk.succeed("features coronal.nii -c seeded:0:tiny --orient stored -o f.safetensors");
    assert_eq!(size(&draw(&desk, "pca --features f.safetensors")), (448, 149));
    assert_eq!(size(&draw(&desk, "pca coronal.nii --features f.safetensors")), (448, 149 * 2 + 8));
    let (tall, wide) = size(&draw(&desk, &format!("pca coronal.nii {TINY} --orient stored --slices 0:2 --layout map -o sheet.png")));
    // Captions of 7 letters take 12 pixels per letter, less the last gap, and are wider than slices of 43 pixels.
    assert_eq!((tall, wide), (128 + 14 + 16, 2 * 82 + 8));
}

#[test]
fn anterior_is_up_and_the_patients_right_is_left() {
    let desk = Desk::new();
    // Stored in RAS+: columns run to the right, rows to anterior. Bone at the patient's right (i from 64) and front (j
    // from
    // 64), air elsewhere.
    let bone = |n: usize| if n % 96 >= 64 && n / 96 % 96 >= 64 { 700 } else { -1000 };
    let scan = nifti::Nifti::i16([2, 96, 96], (0..2 * 96 * 96).map(bone));
    std::fs::write(desk.path("ras.nii"), scan.bytes()).expect("written");
    let shown = draw(&desk, &format!("similarity ras.nii {TINY} --point 8,8 --layout beside"));
    // CT and map are 448 pixels a side, and bone fills a third of it. The map is brightest at the point.
    let third = 448 / 3;
    let brightest = shown.at(456 + 5, 5);
    for (x, y) in [(5, 5), (third - 5, 5), (5, third - 5)] {
        assert_eq!(shown.at(x, y), [255; 3], "{x},{y}");
    }
    for (x, y) in [(third + 5, 5), (5, third + 5), (440, 440), (440, 5), (5, 440)] {
        assert_eq!(shown.at(x, y), [0; 3], "{x},{y}");
        assert_ne!(shown.at(456 + x, y), brightest, "{x},{y}");
    }
    // In storage order the picture is upside down.
    let stored = draw(&desk, &format!("similarity ras.nii {TINY} --point 8,8 --layout beside --orient stored -o stored.png"));
    assert_eq!((stored.at(5, 5), stored.at(440, 440)), ([0; 3], [255; 3]));
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_leaves_no_file() {
    for line in ["pca --fit volume --save-basis basis.safetensors", "pca", "similarity --point 9,9,0"] {
        let desk = Desk::new();
        desk.npy("long.npy", &desk::hu(300, 96, 96));
        let line = format!("{line} long.npy {TINY} --slices all");
        let mut command = desk.command(&line);
        let mut child = interrupt::start(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()));
        // SIGINT is bit 1 of the mask of signals with a handler.
        let caught = |status: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask of signals");
            u64::from_str_radix(mask.trim(), 16).expect("a number") & 2 != 0
        };
        let since = std::time::Instant::now();
        while !std::fs::read_to_string(format!("/proc/{}/status", child.id())).is_ok_and(|status| caught(&status)) {
            assert!(since.elapsed().as_secs() < 60, "{line}: no handler");
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        assert!(interrupt::interrupt(&mut child));
        let output = child.wait_with_output().expect("ended");
        let messages = text(&output.stderr);
        assert!(output.status.code() == Some(130) && messages.contains("error: interrupted"), "{line}: {output:?}");
        assert_eq!(desk.files(), ["long.npy"], "{line}");
    }
}
