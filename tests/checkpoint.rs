//! Checkpoints of every layout: each gives the same weights and the right configuration, and one error lists every
//! mismatch.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use meddino::Tensor;
use meddino::checkpoint::{CONFIG_KEY, Checkpoint, Dtype};
use meddino::vit::config::{Config, ModelSize, RopePrecision};
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use meddino::vit::weights::Weights;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro").join(name)
}

fn open(path: &Path) -> meddino::Result<Model> {
    Model::open(path)
}

fn error(path: &Path) -> String {
    open(path).err().map_or_else(|| "no error".into(), |e| e.to_string())
}

/// Runs `check` on every case and reports every failure.
fn table<C>(cases: &[C], name: impl Fn(&C) -> String, check: impl Fn(&C) -> Result<(), String>) {
    let failed: Vec<_> = cases.iter().filter_map(|c| check(c).err().map(|e| format!("{}: {e}", name(c)))).collect();
    assert!(failed.is_empty(), "{} of {} cases fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn ensure(ok: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(problem()) }
}

/// The parameters by name.
type State = BTreeMap<String, Tensor>;

fn state(model: &Model) -> State {
    let specs = Weights::specs(model.config());
    let weights = model.weights().unwrap();
    specs.leaves().iter().zip(weights.leaves()).map(|(s, t)| (s.name.clone(), t.clone())).collect()
}

fn micro() -> State {
    state(&Model::seeded(0, ModelSize::Micro))
}

fn write(path: &Path, state: &State, metadata: Option<HashMap<String, String>>) {
    let bytes: BTreeMap<_, Vec<u8>> = state.iter().map(|(n, t)| (n, t.data().iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = state.iter().map(|(n, t)| (n, TensorView::new(FileDtype::F32, t.shape().to_vec(), &bytes[n]).unwrap()));
    fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

/// Writes the micro model, after `change`, to a file in a new folder.
fn changed(change: impl FnOnce(&mut State)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut state = micro();
    change(&mut state);
    write(&path, &state, None);
    (dir, path)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A value rounded to half precision.
type Rounding = fn(f32) -> f32;
const EXACT: Rounding = |v| v;
const TO_BF16: Rounding = |v| bf16::from_f32(v).to_f32();
const TO_F16: Rounding = |v| f16::from_f32(v).to_f32();

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
fn seeded_weights_are_those_of_the_generator() {
    // (seed, tensor of vit_base, flat index, bits), computed by tests/golden/seeded.py.
    const CASES: [(u64, &str, usize, u32); 28] = [
        (0, "cls_token", 0, 0xBE44_2D14),
        (0, "storage_tokens", 3071, 0x3EC0_4912),
        (0, "mask_token", 5, 0x3ED2_BDD4),
        (0, "patch_embed.proj.weight", 123_456, 0x3BEA_4248),
        (0, "patch_embed.proj.bias", 7, 0x3C96_6180),
        (0, "blocks.0.norm1.weight", 12, 0x3F40_060E),
        (0, "blocks.0.norm1.weight", 13, 0x409B_CF7B),
        (0, "blocks.3.norm2.weight", 110, 0x409B_32E0),
        (0, "norm.weight", 304, 0x4092_705D),
        (0, "norm.bias", 13, 0xBDF1_FEB8),
        (0, "blocks.0.attn.qkv.weight", 1_769_471, 0xBCD0_A040),
        (0, "blocks.11.attn.proj.weight", 1, 0xBCD5_35E0),
        (0, "blocks.4.attn.proj.bias", 767, 0x3D96_1702),
        (0, "blocks.2.mlp.fc1.weight", 3843, 0x3D48_7B70),
        (0, "blocks.2.mlp.fc1.bias", 3071, 0xBDAE_3FB4),
        (0, "blocks.2.mlp.fc2.weight", 5 * 3072, 0x4156_B7E0),
        (0, "blocks.2.mlp.fc2.weight", 5 * 3072 + 3071, 0xC03F_F910),
        (0, "blocks.2.mlp.fc2.weight", 6 * 3072, 0xBB97_5358),
        (0, "blocks.2.mlp.fc2.weight", 321 * 3072 + 17, 0xC111_1634),
        (0, "blocks.2.mlp.fc2.weight", 320 * 3072 + 17, 0xBC40_80C0),
        (0, "blocks.1.mlp.fc2.weight", 5 * 3072, 0xBCB7_678A),
        (0, "blocks.9.ls1.gamma", 0, 0x3E33_F16A),
        (0, "blocks.9.ls2.gamma", 400, 0x3E9C_4546),
        (12_345_678_901_234_567_890, "cls_token", 0, 0x3E63_0FB0),
        (12_345_678_901_234_567_890, "blocks.0.norm1.weight", 13, 0x4064_A06E),
        (12_345_678_901_234_567_890, "blocks.3.norm2.weight", 110, 0x406E_E7FA),
        (12_345_678_901_234_567_890, "norm.bias", 13, 0x3BC1_BB80),
        (12_345_678_901_234_567_890, "blocks.9.ls1.gamma", 0, 0x3E7D_C51A),
    ];
    table(
        &CASES,
        |c| format!("{c:?}"),
        |(seed, name, index, want)| {
            let model = Model::seeded(*seed, ModelSize::Base);
            let found = model.checkpoint().load(name).unwrap().data()[*index];
            ensure(found.to_bits() == *want, || format!("{found} = {:#010X}", found.to_bits()))
        },
    );
    // Checksums of whole tensors: the wrapping sum of bits[i] * (2654435761 i + 1).
    let sums = [
        (0u64, "blocks.2.mlp.fc2.weight", 0xf2e7_bc6a_e280_8a26u64),
        (0, "patch_embed.proj.weight", 0x045c_4dc4_c753_94ae),
        (0, "norm.weight", 0x4165_2fb2_bda3_bfb6),
        (12_345_678_901_234_567_890, "blocks.2.mlp.fc2.weight", 0x2c01_9f4f_8f4a_d614),
    ];
    table(
        &sums,
        |c| format!("{c:?}"),
        |(seed, name, want)| {
            let tensor = Model::seeded(*seed, ModelSize::Base).checkpoint().load(name).unwrap();
            let add = |sum: u64, (v, i): (&f32, u64)| {
                sum.wrapping_add(u64::from(v.to_bits()).wrapping_mul(i.wrapping_mul(2_654_435_761).wrapping_add(1)))
            };
            let found = tensor.data().iter().zip(0u64..).fold(0, add);
            ensure(found == *want, || format!("{found:#x}"))
        },
    );
}

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
fn seeded_sources_are_read_strictly() {
    let cases = [("seeded:0", 85_641_984), ("seeded:18446744073709551615:micro", 149_568), ("seeded:3:tiny", 693_888)];
    table(
        &cases,
        |c| c.0.into(),
        |(source, parameters)| {
            let model = ModelSource::parse(source).and_then(|source| source.open()).map_err(|e| e.to_string())?;
            ensure(model.parameters() == *parameters, || format!("{} parameters", model.parameters()))?;
            ensure(model.warnings().iter().any(|w| w.contains("untrained")), || "no word that it is untrained".into())?;
            ensure(model.checkpoint().source_name() == *source && model.checkpoint().sha256().unwrap().is_none(), || "misnamed".into())
        },
    );
    let bad = ["seeded:", "seeded:-1", "seeded:x", "seeded:0:huge", "seeded:0:", "seeded:18446744073709551616"];
    table(
        &bad,
        |c| (*c).into(),
        |source| {
            let error = ModelSource::parse(source).and_then(|source| source.open()).err().map(|e| e.to_string()).unwrap_or_default();
            ensure(error.contains("expected seeded:N"), || format!("error {error:?}"))
        },
    );
}

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

/// A copy whose tensors are renamed by `rename`.
fn renamed(state: &State, rename: impl Fn(&str) -> String) -> State {
    state.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

/// Writes a file of these tensors and opens it.
fn opened(state: &State) -> (TempDir, Result<Model, String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, state, None);
    let model = open(&path).map_err(|e| e.to_string());
    (dir, model)
}

/// Prefixes and wrappers around the names do not change the model. Each case: the prefix, the layout, and the key if
/// the layout has one.
#[test]
fn wrappers_are_removed() {
    type Rename = fn(&str) -> String;
    let inside = |infix: &'static str| {
        move |name: &str| name.replace(".attn.", &format!(".{infix}attn.")).replace(".mlp.", &format!(".mlp.{infix}"))
    };
    let prefix: [(&str, &str, Option<&str>); 14] = [
        ("model.", "wrapped", Some("model")),
        ("state_dict.model.", "wrapped", Some("state_dict.model")),
        ("state_dict.model.backbone.", "wrapped", Some("state_dict.model")),
        ("model.teacher.backbone.", "teacher", None),
        ("teacher.", "teacher", None),
        ("state_dict.student.backbone.", "wrapped", Some("state_dict.student")),
        ("dinov3_vit.", "wrapped", Some("dinov3_vit")),
        ("backbone.", "flat", None),
        ("module.backbone.module.", "flat", None),
        ("_fsdp_wrapped_module.", "flat", None),
        ("_orig_mod._fsdp_wrapped_module.module.", "flat", None),
        ("model._forward_module.net.", "wrapped", Some("model.net")),
        ("teacher._fsdp_wrapped_module.backbone._fsdp_wrapped_module.", "teacher", None),
        ("a.name.nobody.knows.", "wrapped", Some("a.name.nobody.knows")),
    ];
    let micro = micro();
    let same = |renamed: &State, layout: &str, key: Option<&str>| {
        let model = opened(renamed).1?;
        let summary = model.summary().to_json();
        ensure(summary["layout"] == layout, || format!("layout {}", summary["layout"]))?;
        ensure(summary["wrapped_under"].as_str() == key, || format!("under {}", summary["wrapped_under"]))?;
        let is_student = key.is_some_and(|key| key.ends_with("student"));
        let has_warning = model.warnings().iter().any(|w| w.contains("a student (state_dict.student.backbone) without its teacher"));
        ensure(is_student == has_warning && model.warnings().len() == usize::from(is_student), || format!("{:?}", model.warnings()))?;
        ensure(*model.config() == Config::micro() && state(&model) == micro, || "another model".into())
    };
    table(&prefix, |c| c.0.into(), |(prefix, layout, key)| same(&renamed(&micro, |name| format!("{prefix}{name}")), layout, *key));
    let infixes = [
        "_fsdp_wrapped_module.",
        "_orig_mod.",
        "_checkpoint_wrapped_module.",
        "_fsdp_wrapped_module._checkpoint_wrapped_module.",
        "module.",
    ];
    table(&infixes, |c| (*c).into(), |infix| same(&renamed(&micro, inside(infix)), "flat", None));
    // Hugging Face's model in a classifier, and with the encoder prefix of newer versions; timm's in Lightning's
    // wrapper.
    let file = |name: &str| {
        let bytes = fs::read(fixture(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
        file.iter().map(|(name, view)| (name.to_string(), Tensor::new(view.shape().to_vec(), values(view.data())))).collect::<State>()
    };
    let (hugging_face, timm) = (file("hf/model.safetensors"), file("timm.safetensors"));
    let renames: [(&State, &str, Rename); 5] = [
        (&hugging_face, "huggingface", |name| format!("dinov3_vit.{name}")),
        (&hugging_face, "huggingface", |name| name.replace("layer.", "model.layer.")),
        (&hugging_face, "huggingface", |name| format!("model.{}", name.replace("layer.", "model.layer."))),
        (&hugging_face, "huggingface", |name| format!("state_dict.model.{name}")),
        (&timm, "timm", |name| format!("state_dict.model._orig_mod.{name}")),
    ];
    table(
        &renames,
        |(_, layout, rename)| format!("{layout} {}", rename("layer.0")),
        |(tensors, layout, rename)| {
            let want = opened(tensors).1?;
            let model = opened(&renamed(tensors, rename)).1?;
            ensure(model.summary().layout.name() == *layout, || model.summary().layout.to_string())?;
            ensure(model.config() == want.config() && state(&model) == state(&want), || "another model".into())
        },
    );
}

/// Tensors beside a wrapped backbone do not belong to the model.
#[test]
fn tensors_beside_a_wrapped_backbone_are_ignored() {
    let mut wrapped = renamed(&micro(), |name| format!("state_dict.model.{name}"));
    for name in [
        "state_dict.model.head.weight",
        "state_dict.criterion.center",
        "optimizer_states.0.state.0.exp_avg",
        // The names in PyTorch's distributed checkpoints.
        "optimizer.state.model.cls_token.exp_avg",
        "optimizer.state.teacher.backbone.patch_embed.proj.weight.step",
        "callbacks.best",
    ] {
        wrapped.insert(name.into(), Tensor::zeros([3]));
    }
    let model = opened(&wrapped).1.unwrap();
    let ignored: BTreeMap<_, _> = model.summary().ignored.iter().map(|(reason, names)| (*reason, names.len())).collect();
    assert_eq!(
        ignored,
        BTreeMap::from([("classification head", 1), ("optimizer state", 3), ("training state beside the network", 2)]),
        "{:?}",
        model.summary().ignored
    );
    // An unknown tensor within the backbone stays an error.
    wrapped.insert("state_dict.model.adapter.weight".into(), Tensor::zeros([3]));
    let error = opened(&wrapped).1.err().unwrap();
    assert!(error.contains("unexpected (1): adapter.weight [3]"), "{error}");
}

/// If a file holds several models, a fixed rule chooses one, or the file is refused.
#[test]
fn one_of_several_models_is_chosen_or_none() {
    let scaled = |by: f32| {
        let scale = |t: &Tensor| Tensor::new(t.shape().to_vec(), t.data().iter().map(|v| v * by).collect());
        micro().iter().map(|(name, tensor)| (name.clone(), scale(tensor))).collect::<State>()
    };
    // The first prefix of each case is the model to choose.
    let cases: [&[&str]; 7] = [
        &["teacher.backbone.", "student.backbone."],
        &["model.teacher.backbone.", "model.student.backbone."],
        &["teacher.backbone.", "model_ema.backbone.", "student.backbone."],
        &["state_dict_ema.", "state_dict."],
        &["ema_model.module.", "model.module."],
        &["model.", "student."],
        &["", "student.backbone."],
    ];
    table(
        &cases,
        |c| c.join(" "),
        |prefixes| {
            let with_prefix = |(i, prefix): (usize, &&str)| renamed(&scaled(1.0 + i as f32), |name| format!("{prefix}{name}"));
            let file = prefixes.iter().enumerate().flat_map(with_prefix).collect::<State>();
            let model = opened(&file).1?;
            ensure(state(&model) == micro(), || format!("another one was taken: {:?}", model.warnings()))?;
            let [warning] = model.warnings() else { return Err(format!("{:?}", model.warnings())) };
            let named = prefixes.iter().map(|p| p.trim_end_matches('.').trim_end_matches(".module"));
            ensure(named.into_iter().all(|prefix| warning.contains(prefix)) && warning.contains("the first was taken"), || {
                warning.clone()
            })?;
            let ignored = model.summary().ignored.iter().find(|(reason, _)| reason.contains("another model")).map(|(_, names)| names.len());
            ensure(ignored == Some((prefixes.len() - 1) * micro().len()), || format!("{ignored:?}"))
        },
    );
    for [a, b] in [["model.", "net."], ["teacher.backbone.", "gram.teacher.backbone."], ["student.1.", "student.2."]] {
        let both = [a, b].iter().flat_map(|prefix| renamed(&micro(), |name| format!("{prefix}{name}"))).collect();
        let error = opened(&both).1.err().unwrap();
        let shown = |prefix: &str| prefix.trim_end_matches('.').to_string();
        assert!(error.contains("several models") && error.contains(&shown(a)) && error.contains(&shown(b)), "{error}");
        assert!(error.contains("save that one alone"), "{error}");
    }
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

#[test]
fn weights_must_be_finite() {
    let (_dir, path) = changed(|s| s.get_mut("blocks.1.ls2.gamma").unwrap().data_mut()[7] = f32::NAN);
    let error = open(&path).unwrap().weights().unwrap_err().to_string();
    assert!(error.contains("blocks.1.ls2.gamma") && error.contains("NaN at index 7"), "{error}");
}

#[test]
fn a_bias_mask_must_be_finite_and_have_its_bias() {
    let bias = "blocks.0.attn.qkv.bias";
    let with = |mask: Option<f32>, shape: usize, bias_too: bool| {
        changed(|s| {
            for i in 0..2 {
                s.insert(format!("blocks.{i}.attn.qkv.bias"), Tensor::new([192], vec![1.0; 192]));
                s.insert(format!("blocks.{i}.attn.qkv.bias_mask"), Tensor::new([shape], vec![mask.unwrap_or(1.0); shape]));
            }
            if !bias_too {
                s.remove(bias);
            }
        })
    };
    let (_a, nan) = with(Some(f32::NAN), 192, true);
    let error_of_nan = open(&nan).unwrap().weights().unwrap_err().to_string();
    assert!(error_of_nan.contains(bias) && error_of_nan.contains("mask") && error_of_nan.contains("NaN"), "{error_of_nan}");
    let (_b, short) = with(None, 100, true);
    assert!(error(&short).contains("must be equal"), "{}", error(&short));
    let (_c, mask_only) = with(None, 192, false);
    let text = error(&mask_only);
    assert!(text.contains(&format!("missing (1): {bias}")) && text.contains(&format!("unexpected (1): {bias}_mask")), "{text}");
    // A bias without a mask is the authors' variant, with their epsilon and RoPE.
    let (_d, unmasked) = changed(|s| (0..2).for_each(|i| drop(s.insert(format!("blocks.{i}.attn.qkv.bias"), Tensor::zeros([192])))));
    let config = Config { qkv_bias: true, ..Config::micro() };
    assert_eq!(*open(&unmasked).unwrap().config(), config);
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
fn metadata_that_contradicts_the_weights_is_an_error() {
    let cases = [
        (r#"{"depth": 3}"#, "depth 3"),
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
