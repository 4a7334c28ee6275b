//! Checkpoints of other models are refused by name.

use std::collections::BTreeMap;
use std::fs;

use meddino::Tensor;

use crate::{State, changed, ensure, error, fixture, micro, open, renamed, table};

#[test]
fn one_error_lists_every_mismatch() {
    let (_dir, path) = changed(|state| {
        state.remove("cls_token");
        state.remove("blocks.1.mlp.fc1.bias");
        state.insert("blocks.0.attn.k_norm.weight".into(), Tensor::zeros([64]));
        state.insert("surprise".into(), Tensor::zeros([1, 2]));
        state.insert("norm.weight".into(), Tensor::zeros([65]));
        state.insert("blocks.1.mlp.fc2.weight".into(), Tensor::zeros([64, 255]));
    });
    let error = error(&path);
    for part in [
        "model.safetensors",
        "missing (2): blocks.1.mlp.fc1.bias [256], cls_token [1, 1, 64]",
        "unexpected (2): blocks.0.attn.k_norm.weight [64], surprise [1, 2]",
        "misshapen (2): blocks.1.mlp.fc2.weight [64, 255] instead of [64, 256], norm.weight [65] instead of [64]",
        "64 wide and 2 deep",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn a_missing_tensor_of_any_name_is_found() {
    let names: Vec<String> = micro().into_keys().filter(|n| n != "storage_tokens").collect();
    table(&names, Clone::clone, |name| {
        let (_dir, path) = changed(|state| drop(state.remove(name)));
        let error = error(&path);
        ensure(error.contains(&format!("missing (1): {name} [")), || error)
    });
}

/// A change that turns the micro model into another model.
type Change = Box<dyn Fn(&mut State)>;

#[test]
fn known_models_that_are_not_this_one_are_refused_by_name() {
    let add = |name: &'static str, shape: &'static [usize]| move |s: &mut State| drop(s.insert(name.into(), Tensor::zeros(shape)));
    let cases: Vec<(&str, Change)> = vec![
        ("SwiGLU", Box::new(add("blocks.0.mlp.w1.weight", &[8, 64]))),
        ("SwiGLU", Box::new(add("blocks.0.mlp.fc1_g.weight", &[8, 64]))),
        ("SwiGLU", Box::new(add("layer.0.mlp.gate_proj.weight", &[8, 64]))),
        ("class token", Box::new(add("cls_norm.weight", &[64]))),
        ("class token", Box::new(add("local_cls_norm.weight", &[64]))),
        ("FlexiCT", Box::new(add("patch_embed_2D.proj.weight", &[64, 1, 8, 8]))),
        ("FlexiCT", Box::new(add("patch_embed.proj.weight", &[64, 1, 8, 8, 8]))),
        ("DINOv2", Box::new(add("pos_embed", &[1, 5, 64]))),
        ("no known layout", Box::new(|s| *s = BTreeMap::from([("conv1.weight".into(), Tensor::zeros([3]))]))),
        ("conv1.weight", Box::new(|s| *s = BTreeMap::from([("conv1.weight".into(), Tensor::zeros([3]))]))),
        ("no tensor at all", Box::new(BTreeMap::clear)),
        ("more than 256 blocks", Box::new(add("blocks.99999999.norm1.weight", &[64]))),
        ("more than 256 blocks", Box::new(add("blocks.x.norm1.weight", &[64]))),
    ];
    table(
        &cases,
        |c| c.0.into(),
        |(part, change)| {
            let (_dir, path) = changed(change);
            let error = error(&path);
            ensure(error.contains(part), || error)
        },
    );
}

#[test]
fn parts_of_models_are_refused_with_advice() {
    let add = |name: &'static str| move |s: &mut State| drop(s.insert(name.into(), Tensor::zeros([8])));
    let chunked = |s: &mut State| *s = renamed(s, |name| name.replace("blocks.", "blocks.0."));
    let cases: Vec<(&[&str], Change)> = vec![
        (&["blocks.0.0.attn", "in chunks", "re.sub("], Box::new(chunked)),
        (
            &["blocks.3.41.", "in chunks"],
            Box::new(|s| *s = renamed(s, |name| format!("teacher.backbone.{}", name.replace("blocks.1.", "blocks.3.41.")))),
        ),
        (&["_flat_param", "FSDP", "FULL_STATE_DICT"], Box::new(add("model._fsdp_wrapped_module._flat_param"))),
        (&["ConvNeXt", "take a ViT"], Box::new(|s| *s = BTreeMap::from([("downsample_layers.0.0.weight".into(), Tensor::zeros([8]))]))),
        (&["ConvNeXt"], Box::new(|s| *s = BTreeMap::from([("model.stages.0.layers.0.depthwise_conv.weight".into(), Tensor::zeros([8]))]))),
        (&["ConvNeXt"], Box::new(|s| *s = BTreeMap::from([("stages.3.blocks.2.conv_dw.bias".into(), Tensor::zeros([8]))]))),
        (&["no known layout"], Box::new(|s| *s = BTreeMap::from([("stages.0.conv.weight".into(), Tensor::zeros([8]))]))),
    ];
    table(
        &cases,
        |c| c.0.join(" "),
        |(parts, change)| {
            let (_dir, path) = changed(change);
            let error = error(&path);
            ensure(parts.iter().all(|part| error.contains(part)), || error)
        },
    );
    // torch.distributed.checkpoint: the folder, and each of its files.
    let dir = tempfile::tempdir().unwrap();
    for name in [".metadata", "__0_0.distcp", "__1_0.distcp"] {
        fs::write(dir.path().join(name), b"\x80\x02}.").unwrap();
    }
    let paths = [dir.path().to_path_buf(), dir.path().join(".metadata"), dir.path().join("__1_0.distcp")];
    table(&paths, |p| p.display().to_string(), |path| ensure(error(path).contains("dcp_to_torch FOLDER model.pth"), || error(path)));
}

#[test]
fn nnunet_trainers_of_other_names_are_told_by_their_weights() {
    // The pickle holds names as strings of a known length, so others of the same length can replace them if checksums
    // are off.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint_final.pth");
    let write = |changes: &[(&str, &str)]| {
        let mut bytes = fs::read(fixture("nnunet.pth")).unwrap();
        for (old, new) in changes {
            assert_eq!(old.len(), new.len());
            let places: Vec<usize> = (0..=bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
            assert!(!places.is_empty(), "{old}");
            places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new.as_bytes()));
        }
        clear_checksums(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    let known = "meddinov3_base_primus_multiscale_Trainer";
    let unknown = (known, "meddinov9_base_primus_multiscale_Trainer");
    write(&[unknown]);
    let model = open(&path).unwrap();
    let warnings = model.checkpoint().warnings().join("; ");
    assert!(warnings.contains("was trained by meddinov9_base_primus_multiscale_Trainer, which is no known trainer"), "{warnings}");
    // Without the encoder's or the decoder's names it is another network.
    for part in [("dino_encoder.", "dino_decoder."), ("up_projection.", "op_projection.")] {
        write(&[unknown, part]);
        let error = error(&path);
        assert!(error.contains("was trained by meddinov9_base_primus_multiscale_Trainer, whose network is not MedDINOv3's"), "{error}");
        assert!(error.contains("Supported trainers: meddinov3_base_primus_multiscale_Trainer"), "{error}");
    }
}

/// Sets every entry's CRC-32 in a zip's central directory to 0, which PyTorch writes for "not computed".
fn clear_checksums(zip: &mut [u8]) {
    let at: Vec<_> = (0..zip.len() - 4).filter(|i| zip[*i..].starts_with(b"PK\x01\x02")).collect();
    for i in at {
        zip[i + 16..i + 20].fill(0);
    }
}
