//! Files that this crate writes, and their identity.

use std::fs;

use meddino::checkpoint::{CONFIG_KEY, Dtype};
use meddino::vit::source::ModelSource;

use crate::{EXACT, TO_BF16, TO_F16, bits, changed, ensure, fixture, micro, open, state, table};

#[test]
fn a_converted_model_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let dtypes = [(Dtype::F32, EXACT), (Dtype::F16, TO_F16), (Dtype::Bf16, TO_BF16)];
    let files = ["seeded:0:micro", "flat.pth", "meta_qkvb.pth", "hf/model.safetensors", "timm.safetensors", "nnunet.pth"];
    let cases: Vec<_> = files.iter().flat_map(|f| dtypes.map(|d| (*f, d))).collect();
    table(
        &cases,
        |c| format!("{} as {}", c.0, c.1.0),
        |(file, (dtype, rounding))| {
            let source = if file.starts_with("seeded:") { (*file).into() } else { fixture(file).display().to_string() };
            let original = ModelSource::parse(source).and_then(|source| source.open()).unwrap();
            let path = dir.path().join("converted.safetensors");
            original.write_safetensors(&path, *dtype).map_err(|e| e.to_string())?;
            let converted = open(&path).map_err(|e| e.to_string())?;
            ensure(converted.config() == original.config(), || format!("config {:?}", converted.config()))?;
            ensure(converted.checkpoint().layout().name() == "meddino", || format!("layout {}", converted.checkpoint().layout()))?;
            let (a, b) = (state(&original), state(&converted));
            for (name, t) in &a {
                let want: Vec<f32> = t.data().iter().map(|v| rounding(*v)).collect();
                ensure(bits(b[name].data()) == bits(&want), || format!("{name} differs"))?;
            }
            ensure(a.len() == b.len(), || "number of tensors".into())
        },
    );
    // Other readers can open the file as plain safetensors, and the folder holds no other file.
    let bytes = fs::read(dir.path().join("converted.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert!(header.metadata().as_ref().unwrap().contains_key(CONFIG_KEY));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_value_beyond_the_range_of_f16_is_an_error_and_keeps_the_old_file() {
    let (dir, path) = changed(|s| s.get_mut("norm.bias").unwrap().data_mut()[3] = 65_520.0);
    let out = dir.path().join("out.safetensors");
    fs::write(&out, "as it was").unwrap();
    let error = open(&path).unwrap().write_safetensors(&out, Dtype::F16).unwrap_err().to_string();
    assert!(error.contains("norm.bias") && error.contains("65520") && error.contains("f16"), "{error}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "as it was");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    open(&path).unwrap().write_safetensors(&out, Dtype::Bf16).unwrap();
    for (target, part) in [(dir.path().to_path_buf(), "is a folder"), (dir.path().join("no/such/x.safetensors"), "there is no folder")] {
        let error = open(&path).unwrap().write_safetensors(&target, Dtype::F32).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_same_weights_are_written_as_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let written = |source: &str| {
        let path = dir.path().join("out.safetensors");
        ModelSource::parse(source).and_then(|source| source.open()).unwrap().write_safetensors(&path, Dtype::F32).unwrap();
        fs::read(path).unwrap()
    };
    let seeded = written("seeded:0:micro");
    for file in ["legacy.pth", "nnunet.pth", "flat.safetensors"] {
        assert!(written(fixture(file).to_str().unwrap()) == seeded, "{file}");
    }
    assert!(safetensors::SafeTensors::deserialize(&seeded).is_ok());
}

#[test]
fn a_model_may_replace_its_own_file() {
    let (_dir, path) = changed(|_| ());
    open(&path).unwrap().write_safetensors(&path, Dtype::F32).unwrap();
    assert_eq!(state(&open(&path).unwrap()), micro());
}

#[test]
fn a_file_has_its_sha256() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flat.safetensors");
    fs::copy(fixture("flat.safetensors"), &path).unwrap();
    let sum = open(&path).unwrap().checkpoint().sha256().unwrap().unwrap();
    // Computed with sha256sum.
    assert_eq!(sum, "6cb9aeb465866c273e09bb42e691e3abacb45375a8d06e8b22952933919bf949");
}

#[test]
fn a_summary_describes_the_contents_of_the_file() {
    let summary = open(&fixture("nnunet.pth")).unwrap().summary();
    let json = summary.to_json();
    assert_eq!(json["layout"], "nnunet");
    assert_eq!(json["trainer"], "meddinov3_base_primus_multiscale_Trainer");
    assert_eq!(json["config"]["embed_dim"], 64);
    assert_eq!(json["config"]["rope"], "bf16");
    assert_eq!(json["parameters"], micro().values().map(|t| t.data().len()).sum::<usize>());
    assert_eq!(json["dtypes"]["f32"], 34 - 1);
    assert_eq!(json["ignored"]["segmentation decoder, no part of the backbone"].as_array().unwrap().len(), 18);
    let text = summary.to_string();
    for part in [
        "nnU-Net checkpoint of meddinov3_base",
        "64 wide, 2 deep, 1 heads of 64",
        "epsilon 1e-6, RoPE in bf16",
        "(optimizer state)",
        "33 f32",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(open(&fixture("wrapped.pth")).unwrap().summary().to_json()["wrapped_under"], "state_dict");
}
