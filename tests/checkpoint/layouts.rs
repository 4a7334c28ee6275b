//! Every layout holds the same weights.

use std::collections::BTreeMap;
use std::fs;

use meddino::Tensor;
use meddino::checkpoint::{Checkpoint, Dtype};
use meddino::vit::config::{Config, RopePrecision};

use crate::{EXACT, Rounding, State, TO_BF16, TO_F16, bits, ensure, error, fixture, micro, open, state, table};

struct Case {
    file: &'static str,
    name: &'static str,
    container: &'static str,
    stored: (Dtype, Rounding),
    /// Expects Meta's numbers (eps 1e-5, f32 RoPE) and not the authors'.
    meta: bool,
    /// Expects the generator's qkv bias, with zeros for k.
    bias: bool,
    mask_token: bool,
    /// A part of the reason, and the number of tensors that are ignored for it.
    ignored: &'static [(&'static str, usize)],
}

#[test]
fn all_layouts_hold_the_same_weights() {
    const PERIODS: (&str, usize) = ("position embedding", 1);
    let f32s = (Dtype::F32, EXACT);
    let plain = |file, name, container, stored, ignored| Case {
        file,
        name,
        container,
        stored,
        meta: false,
        bias: false,
        mask_token: true,
        ignored,
    };
    let cases = [
        plain("flat.pth", "flat", "PyTorch (zip)", f32s, &[PERIODS]),
        plain("flat_bf16.pth", "flat", "PyTorch (zip)", (Dtype::Bf16, TO_BF16), &[PERIODS]),
        plain("flat_f16.pth", "flat", "PyTorch (zip)", (Dtype::F16, TO_F16), &[PERIODS]),
        plain("legacy.pth", "flat", "PyTorch (legacy pickle)", f32s, &[PERIODS]),
        plain("strided.pth", "flat", "PyTorch (zip)", f32s, &[PERIODS]),
        plain("flat.safetensors", "flat", "safetensors", f32s, &[PERIODS]),
        plain("teacher.pth", "teacher", "PyTorch (zip)", f32s, &[PERIODS, ("training head", 3)]),
        plain("wrapped.pth", "wrapped", "PyTorch (zip)", f32s, &[PERIODS]),
        plain("nnunet.pth", "nnunet", "PyTorch (zip)", f32s, &[PERIODS, ("decoder", 18), ("optimizer", 3)]),
        Case { meta: true, bias: true, ..plain("meta_qkvb.pth", "meta", "PyTorch (zip)", f32s, &[PERIODS]) },
        Case { meta: true, bias: true, ..plain("hf/model.safetensors", "huggingface", "safetensors", f32s, &[]) },
        Case { meta: true, mask_token: false, ..plain("timm.safetensors", "timm", "safetensors", f32s, &[]) },
        Case { meta: true, bias: true, mask_token: false, ..plain("timm_qkvb.safetensors", "timm", "safetensors", f32s, &[]) },
    ];
    let seeded = micro();
    table(
        &cases,
        |c| c.file.into(),
        |c| {
            let model = open(&fixture(c.file)).map_err(|e| e.to_string())?;
            let summary = model.summary();
            ensure(summary.layout.name() == c.name, || format!("layout {}", summary.layout.name()))?;
            ensure(summary.container.to_string() == c.container, || format!("container {}", summary.container))?;
            ensure(summary.dtypes.keys().eq([&c.stored.0]), || format!("dtypes {:?}", summary.dtypes))?;
            ensure(summary.warnings.is_empty(), || format!("warnings {:?}", summary.warnings))?;
            let (norm_eps, rope) = if c.meta { (1e-5, RopePrecision::F32) } else { (1e-6, RopePrecision::Bf16) };
            let config = Config { norm_eps, rope, qkv_bias: c.bias, mask_token: c.mask_token, ..Config::micro() };
            ensure(*model.config() == config, || format!("config {:?}", model.config()))?;
            let ignored: BTreeMap<_, _> = summary.ignored.iter().map(|(reason, names)| (*reason, names.len())).collect();
            let expected = |(part, n): &(&str, usize)| ignored.iter().any(|(reason, m)| reason.contains(part) && m == n);
            ensure(ignored.len() == c.ignored.len() && c.ignored.iter().all(expected), || format!("ignored {ignored:?}"))?;
            same_weights(&state(&model), &seeded, c)
        },
    );
}

fn same_weights(found: &State, seeded: &State, case: &Case) -> Result<(), String> {
    let mut want = seeded.clone();
    if !case.mask_token {
        want.remove("mask_token");
    }
    if case.bias {
        want.extend((0..2).map(|i| format!("blocks.{i}.attn.qkv.bias")).map(|name| (name.clone(), stored_bias(&name))));
    }
    ensure(found.keys().eq(want.keys()), || format!("names {:?}", found.keys()))?;
    for (name, want) in want {
        let rounded: Vec<f32> = want.data().iter().map(|v| case.stored.1(*v)).collect();
        ensure(found[&name].shape() == want.shape(), || format!("{name} is {:?}", found[&name].shape()))?;
        // A masked bias is -x * 0 = -0 where another layout has no value and gets +0. Attention gives the same result.
        let same = if name.ends_with("qkv.bias") { found[&name].data() == rounded } else { bits(found[&name].data()) == bits(&rounded) };
        ensure(same, || format!("{name} differs"))?;
    }
    Ok(())
}

/// The generator's qkv bias: uniform in [-1, 1), and 0 for k. Seeded biases are an eighth of that.
fn stored_bias(name: &str) -> Tensor {
    let mut bias = Checkpoint::seeded(0, vec![(name.into(), vec![192])]).load(name).unwrap();
    for (i, v) in bias.data_mut().iter_mut().enumerate() {
        *v *= if (64..128).contains(&i) { 0.0 } else { 8.0 };
    }
    bias
}

#[test]
fn hugging_face_files_go_by_their_config() {
    let config = |text: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::copy(fixture("hf/model.safetensors"), &path).unwrap();
        if let Some(text) = text {
            fs::write(dir.path().join("config.json"), text).unwrap();
        }
        (dir, path)
    };
    let (_dir, bare) = config(None);
    let model = open(&bare).unwrap();
    assert!(model.warnings()[0].contains("config.json"), "{:?}", model.warnings());
    assert_eq!((model.config().num_heads, model.config().norm_eps), (1, 1e-5));

    let (_dir, configured) =
        config(Some(r#"{"num_attention_heads": 4, "layer_norm_eps": 1e-3, "rope_theta": 50, "num_register_tokens": 4}"#));
    let model = open(&configured).unwrap();
    assert_eq!((model.config().num_heads, model.config().norm_eps, model.config().rope_base), (4, 1e-3, 50.0));
    let (_dir, newer) = config(Some(r#"{"rope_parameters": {"rope_theta": 25.0}}"#));
    assert_eq!(open(&newer).unwrap().config().rope_base.to_bits(), 25f32.to_bits());

    let bad = [
        (r#"{"num_hidden_layers": 12}"#, "depth 12"),
        (r#"{"hidden_size": 128}"#, "width 128"),
        (r#"{"num_register_tokens": 0}"#, "registers 0"),
        (r#"{"num_attention_heads": 0}"#, "number of heads"),
        (r#"{"num_attention_heads": 32}"#, "multiple of 4"),
        (r#"{"num_attention_heads": -1}"#, "says num_attention_heads -1; expected a whole number"),
        (r#"{"patch_size": [16, 8]}"#, "says patch_size [16,8]; expected a whole number"),
        (r#"{"rope_parameters": {"rope_theta": "50"}}"#, "says rope_parameters.rope_theta \"50\"; expected a number above 0"),
        (r#"{"layer_norm_eps": 0}"#, "above 0"),
        (r#"{"layer_norm_eps": "x"}"#, "above 0"),
        (r#"{"use_gated_mlp": true}"#, "SwiGLU"),
        (r#"{"hidden_act": "silu"}"#, "silu"),
        (r#"{"model_type": "dinov2"}"#, "dinov2"),
        ("{", "damaged"),
    ];
    table(
        &bad,
        |c| c.0.into(),
        |(text, part)| {
            let (_dir, path) = config(Some(text));
            ensure(error(&path).contains(part), || error(&path))
        },
    );
}
