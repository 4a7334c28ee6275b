//! `features` and `demo`: the values, and what the file records.

use std::fs;

use meddino::Tensor;
use meddino::cpu::InstructionSet;
use meddino::ct::{Size, Volume, Window, prepare};
use meddino::vit::config::{Config, Grid, RopePrecision};
use meddino::vit::features::Features;

use crate::common::Golden;
use crate::desk::{Desk, hu, text};

#[test]
fn images_give_the_features_of_pytorch() {
    let golden = Golden::open("tiny_b3_70x115_rope-f32");
    let desk = Desk::new();
    desk.images("image.safetensors", &golden.image);
    desk.succeed(
        "features image.safetensors -c seeded:0:tiny --rope f32 --tokens cls,storage,patch,prenorm --layers 0,2 -o out.safetensors",
    );
    let (mut tensors, metadata) = desk.read("out.safetensors");
    let config = Config::tiny();
    let grid = Grid { rows: 4, cols: 7 };
    // Joins the file's three kinds of tokens again: [B, T, C].
    let parts = [&tensors["x_norm_clstoken"], &tensors["x_storage_tokens"], &tensors["x_norm_patchtokens"]];
    let image = |b: usize| parts.iter().flat_map(move |t| t.data().chunks_exact(t.data().len() / 3).nth(b).expect("three images"));
    let x_norm = (0..3).flat_map(image).copied().collect();
    let features = Features {
        grid,
        x_norm: Tensor::new([3, config.prefix_tokens() + grid.patches(), config.embed_dim], x_norm),
        x_prenorm: tensors.remove("x_prenorm"),
        layers: [0, 2].map(|n| (n, tensors.remove(&format!("layers.{n}")).expect("asked for"))).to_vec(),
        taps: Vec::new(),
    };
    for (name, l2, largest) in golden.compare(&features) {
        assert!(l2 <= 2e-6 && largest <= 1e-3, "{name}: relative L2 {l2:.2e}, largest error {largest:.2e}");
    }
    assert_eq!(golden.rope, RopePrecision::F32);
    assert_eq!(metadata["rope"], "f32");
    assert_eq!(metadata["grid"], "[4,7]");
    assert_eq!(metadata["image"], "[70,115]");
    assert!(metadata["preprocessing"].contains("normalised"), "{}", metadata["preprocessing"]);
}

#[test]
fn a_scan_gives_the_features_of_its_prepared_slices() {
    let desk = Desk::new();
    let volume = hu(3, 40, 56);
    desk.npy("scan.npy", &volume);
    let mut scan = Volume::from_hu("scan", volume).expect("a volume");
    for (size, parsed) in [("native", Size::Native), ("32", Size::Square(32)), ("48x33", Size::Exact { height: 48, width: 33 })] {
        let slices: Vec<Tensor> = (0..3).map(|i| prepare(&scan.read_slice(i).expect("a slice"), &Window::DEMO, parsed)).collect();
        let [_, _, h, w] = slices[0].shape()[..] else { panic!("an image") };
        let pixels = slices.iter().flat_map(Tensor::data).copied().collect();
        desk.images("images.safetensors", &Tensor::new([3, 1, h, w], pixels));
        desk.succeed(&format!("features scan.npy -c seeded:0:micro --size {size} -o a.safetensors"));
        desk.succeed("features images.safetensors -c seeded:0:micro -o b.safetensors");
        let ((a, _), (b, _)) = (desk.read("a.safetensors"), desk.read("b.safetensors"));
        assert_eq!(a.len(), 3);
        assert_eq!(a["x_norm_patchtokens"].shape(), [3, (h / 16) * (w / 16), 64], "{size}");
        assert!(a == b, "{size}: the same slices give the same features");
    }
}

#[test]
fn the_file_records_its_origin() {
    let desk = Desk::new();
    desk.npy("case_0001.npy", &hu(1, 32, 48).reshaped([32, 48]));
    let stdout = desk.succeed("features case_0001.npy -c seeded:3:micro");
    assert_eq!(stdout, "case_0001.features.safetensors\n");
    let (tensors, metadata) = desk.read("case_0001.features.safetensors");
    let mut shapes: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t.shape().to_vec())).collect();
    shapes.sort();
    assert_eq!(shapes, [("x_norm_clstoken", vec![1, 64]), ("x_norm_patchtokens", vec![1, 6, 64]), ("x_storage_tokens", vec![1, 4, 64])]);
    for (name, value) in [
        ("meddino", env!("CARGO_PKG_VERSION")),
        ("input", "case_0001.npy"),
        ("image", "[32,48]"),
        ("grid", "[2,3]"),
        ("patch_size", "16"),
        ("rope", "bf16"),
        ("norm_eps", "0.000001"),
        ("checkpoint", "seeded:3:micro"),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    let preprocessing: serde_json::Value = serde_json::from_str(&metadata["preprocessing"]).expect("JSON");
    assert_eq!(preprocessing["clamp_hu"], serde_json::json!([-1000.0, 1000.0]));
    assert!(!metadata.contains_key("checkpoint_sha256"), "seeded weights have no file");
    assert_eq!(desk.files(), ["case_0001.features.safetensors", "case_0001.npy"], "nothing else is left behind");

    // The same input gives the same file, to the last byte.
    desk.succeed("features case_0001.npy -c seeded:3:micro -o again.safetensors");
    assert_eq!(
        fs::read(desk.path("again.safetensors")).expect("read"),
        fs::read(desk.path("case_0001.features.safetensors")).expect("read")
    );
}

/// The instruction sets that round a product and a sum once give the same bits, and an unfinished file of one may be
/// finished by another.
#[test]
fn fused_instruction_sets_give_the_same_features() {
    let desk = Desk::new();
    let of = |set: InstructionSet| {
        let line = format!("features phantom --size 96 -c seeded:0:tiny -o {set}.safetensors");
        let output = desk.command(&line).env("MEDDINO_CPU", set.to_string()).output().expect("the command starts");
        assert!(output.status.success(), "{set}: {}", text(&output.stderr));
        desk.read(&format!("{set}.safetensors")).0
    };
    let fused = |set: &InstructionSet| set.is_fused();
    let features: Vec<_> = InstructionSet::of_this_cpu().filter(fused).map(of).collect();
    assert!(features.windows(2).all(|two| two[0] == two[1]), "the features differ");
    assert!(features.is_empty() || of(InstructionSet::Portable) != features[0], "the variable chooses nothing");
}

#[test]
fn rope_precision_can_be_chosen() {
    let desk = Desk::new();
    for rope in ["auto", "bf16", "f32"] {
        desk.succeed(&format!("features phantom --size 64 -c seeded:0:tiny --rope {rope} -o {rope}.safetensors"));
    }
    let read = |name: &str| desk.read(name);
    let ((auto, auto_metadata), (bf16, _), (f32, f32_metadata)) =
        (read("auto.safetensors"), read("bf16.safetensors"), read("f32.safetensors"));
    assert!(auto == bf16 && auto != f32);
    assert_eq!((auto_metadata["rope"].as_str(), f32_metadata["rope"].as_str()), ("bf16", "f32"));
}

#[test]
fn tokens_and_layers_are_those_requested() {
    let desk = Desk::new();
    for (flags, names) in [
        ("--tokens patch", vec!["x_norm_patchtokens"]),
        ("--tokens prenorm,cls,cls", vec!["x_norm_clstoken", "x_prenorm"]),
        ("--tokens cls --layers 1,0,1", vec!["layers.0", "layers.1", "x_norm_clstoken"]),
    ] {
        desk.succeed(&format!("features phantom --size 32 -c seeded:0:micro -o out.safetensors {flags}"));
        let (tensors, _) = desk.read("out.safetensors");
        let mut found: Vec<_> = tensors.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, names, "{flags}");
    }
}

#[test]
fn demo_writes_features_and_pictures() {
    let desk = Desk::new();
    let printed = desk.succeed("demo -o new/folder");
    for word in ["phantom", "seeded:0", "224 x 224", "196 patches", "written"] {
        assert!(printed.contains(word), "{printed}");
    }
    let (tensors, _) = desk.read("new/folder/phantom.features.safetensors");
    assert_eq!(tensors["x_norm_patchtokens"].shape(), [1, 196, 768]);
    for picture in ["new/folder/phantom.pca.png", "new/folder/phantom.similarity.png"] {
        assert!(printed.contains(picture) && desk.path(picture).is_file(), "{printed}");
    }
}
