//! The configuration, from shapes and from metadata.

use std::collections::HashMap;

use meddino::Tensor;
use meddino::checkpoint::{CONFIG_KEY, Checkpoint};
use meddino::vit::config::Config;
use meddino::vit::model::Model;
use meddino::vit::weights::Weights;

use crate::{changed, ensure, micro, open, table, write};

#[test]
fn sizes_are_inferred_from_shapes() {
    let base = Config::vit_base();
    let sized = |c, depth, heads| Config { embed_dim: c, depth, num_heads: heads, ffn_dim: 4 * c, ..base.clone() };
    let cases = [
        base.clone(),
        Config::tiny(),
        Config::micro(),
        sized(384, 12, 6),
        sized(1024, 24, 16),
        Config { in_chans: 1, patch_size: 8, ..base.clone() },
        Config { n_storage_tokens: 0, qkv_bias: true, ..base.clone() },
        Config { ffn_dim: 100, n_storage_tokens: 1, ..Config::tiny() },
    ];
    table(
        &cases,
        |c| format!("{c:?}"),
        |config| {
            let table = Weights::specs(config).leaves().iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
            let model = Model::from_checkpoint(Checkpoint::seeded(7, table)).map_err(|e| e.to_string())?;
            ensure(model.config() == config, || format!("{:?}", model.config()))
        },
    );
}

#[test]
fn strange_periods_are_a_warning() {
    let with = |base: f32, n: usize| {
        let periods = Tensor::new([n], (0..n).map(|i| base.powf(i as f32 / n as f32)).collect());
        let (_dir, path) = changed(|s| drop(s.insert("rope_embed.periods".into(), periods)));
        open(&path).unwrap()
    };
    assert!(with(100.0, 16).warnings().is_empty());
    let warnings = with(50.0, 16).warnings().to_vec();
    assert!(warnings.iter().any(|w| w.contains("periods") && w.contains("100")), "{warnings:?}");
    // Eight periods mean heads of 32.
    let halves = with(100.0, 8);
    assert_eq!(halves.config().num_heads, 2);
    assert!(halves.warnings().is_empty(), "{:?}", halves.warnings());
}

#[test]
fn metadata_that_contradicts_the_weights_is_an_error() {
    let cases = [
        (r#"{"depth": 3}"#, "depth 3"),
        (r#"{"in_chans": 1}"#, "number of input channels 1"),
        // Without this, a file that lost its biases would be another model.
        (r#"{"qkv_bias": true}"#, "missing (2): blocks.0.attn.qkv.bias [192]"),
        (r#"{"rope": "f64"}"#, "says rope \"f64\"; expected \"bf16\" or \"f32\""),
        ("{", "damaged"),
        (r#"{"mask_token": false}"#, ""),
    ];
    table(
        &cases,
        |c| c.0.into(),
        |(json, part)| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.safetensors");
            write(&path, &micro(), Some(HashMap::from([(CONFIG_KEY.into(), (*json).into())])));
            match open(&path) {
                // The weights have a mask token, whatever the metadata say.
                Ok(model) => ensure(part.is_empty() && model.config().mask_token, || "accepted".into()),
                Err(e) => ensure(!part.is_empty() && e.to_string().contains(part), || e.to_string()),
            }
        },
    );
}
