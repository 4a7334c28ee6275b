//! From a scan to an image: the readers against files that NumPy wrote, preprocessing against PyTorch.
#![cfg(feature = "readers")]

mod common;

use common::{data, read_safetensors, uniform};
use meddino::Tensor;
use meddino::ct::{Images, Size, Volume, Window, prepare, resize};
use meddino::tensor::relative_l2;

/// `HxW`
fn sides(text: &str) -> (usize, usize) {
    let (h, w) = text.split_once('x').expect("HxW");
    (h.parse().expect("a number"), w.parse().expect("a number"))
}

#[test]
fn resize_and_preprocessing_equal_pytorch() {
    let (cases, _) = read_safetensors(&data("golden/resize/resize.safetensors"));
    let mut table = Vec::new();
    for (name, want) in &cases {
        let (case, every) = name.split_once("_every").map_or((name.as_str(), 1), |(case, n)| (case, n.parse().expect("a number")));
        let [what, from, to] = case.split('.').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let ((h, w), (height, width)) = (sides(from), sides(to));
        let noise = uniform(from, h * w, 0);
        let got = if what == "preprocess" {
            let hu = Tensor::new([h, w], noise.iter().map(|v| (v * 1500.0).trunc()).collect());
            prepare(&hu, &Window::DEMO, Size::Exact { height, width })
        } else {
            resize(&Tensor::new([h, w], noise), height, width)
        };
        let got: Vec<f32> = got.data().iter().step_by(every).copied().collect();
        // Without a resize the bits must be equal.
        let limit = if from == to { 0.0 } else { 1e-6 };
        let error = relative_l2(&got, want.data());
        table.push((error <= limit, format!("{name}: relative L2 {error:.1e} of {limit:.0e}")));
    }
    assert_eq!(table.len(), 17);
    let text: Vec<&str> = table.iter().map(|(_, row)| row.as_str()).collect();
    println!("{}", text.join("\n"));
    assert!(table.iter().all(|(ok, _)| *ok), "{}", text.join("\n"));
}

#[test]
fn every_dtype_byte_order_and_axis_order_reads_as_numpy_wrote_it() {
    let mut files = 0;
    for entry in std::fs::read_dir(data("golden/npy")).expect("the folder").map(|e| e.expect("an entry").path()) {
        let name = entry.file_name().expect("a name").to_string_lossy().to_string();
        if entry.extension() != Some("npy".as_ref()) {
            continue;
        }
        files += 1;
        let mut scan = Volume::open(&entry).unwrap_or_else(|e| panic!("{e}"));
        let slices = if name.contains("3d") { 2 } else { 1 };
        assert_eq!((scan.slices(), scan.height(), scan.width()), (slices, 3, 4), "{name}");
        let base = if name.contains("_u") { 0 } else { -20 };
        // Backwards first, then forwards: slices can be read in any order, any number of times.
        for s in (0..slices).rev().chain(0..slices) {
            let want: Vec<f32> = (0..12).map(|i| (base + 100 * s as i32 + 10 * (i / 4) + i % 4) as f32).collect();
            assert_eq!(scan.read_slice(s).unwrap_or_else(|e| panic!("{e}")).data(), want, "{name}, slice {s}");
        }
    }
    assert_eq!(files, 44);
}

#[test]
fn a_volume_in_memory_is_sliced_like_a_file() {
    let mut scan = Volume::from_hu("array", Tensor::new([2, 1, 2], vec![1.0, 2.0, 3.0, 4.0])).expect("a volume");
    assert_eq!((scan.slices(), scan.height(), scan.width(), scan.name()), (2, 1, 2, "array"));
    assert_eq!(scan.read_slice(1).expect("a slice").data(), [3.0, 4.0]);
    for shape in [vec![4], vec![1, 1, 2, 2], vec![0, 2]] {
        let error = Volume::from_hu("array", Tensor::zeros(shape.clone())).expect_err("refused").to_string();
        assert!(error.starts_with("input array: ") && error.contains(&format!("{shape:?}")), "{error}");
    }
}

#[test]
fn the_phantom_is_one_slice_that_the_model_can_take() {
    let mut scan = Volume::phantom();
    assert_eq!((scan.slices(), scan.height(), scan.width(), scan.name()), (1, 512, 512, "phantom"));
    let image = prepare(&scan.read_slice(0).expect("a slice"), &Window::DEMO, Size::Square(224));
    assert_eq!(image.shape(), [1, 1, 224, 224]);
    // Every patch holds at least two different values.
    for patch in 0..196 {
        let first = (patch / 14) * 16 * 224 + (patch % 14) * 16;
        let values: Vec<f32> = (0..256).map(|i| image.data()[first + (i / 16) * 224 + i % 16]).collect();
        assert!(values.iter().any(|v| v.to_bits() != values[0].to_bits()), "patch {patch}");
    }
}

#[test]
fn images_of_every_float_type_are_read_one_at_a_time() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| i as f32 / 4.0 - 8.0).collect();
    let bytes = |to: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| to(v)).collect::<Vec<u8>>();
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [
        (Dtype::F32, bytes(&|v| v.to_le_bytes().to_vec())),
        (Dtype::F64, bytes(&|v| f64::from(v).to_le_bytes().to_vec())),
        (Dtype::F16, bytes(&|v| half::f16::from_f32(v).to_le_bytes().to_vec())),
        (Dtype::BF16, bytes(&|v| half::bf16::from_f32(v).to_le_bytes().to_vec())),
    ];
    for (dtype, bytes) in kinds {
        let path = folder.path().join(format!("{dtype:?}.safetensors"));
        let image = TensorView::new(dtype, vec![2, 3, 4, 5], &bytes).expect("a tensor");
        let other = TensorView::new(Dtype::U8, vec![8], &[7; 8]).expect("a tensor");
        serialize_to_file([("a", &other), ("image", &image), ("z", &other)], None, &path).expect("written");
        let images = Images::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(images.shape(), [2, 3, 4, 5]);
        let second = images.read(1).expect("an image");
        assert_eq!(second.shape(), [1, 3, 4, 5]);
        assert_eq!(second.data(), &values[60..], "{dtype:?}");
        assert_eq!(images.read(0).expect("an image").data(), &values[..60], "{dtype:?}");
    }
}
