//! Names with prefixes and wrappers, and several models in one file.

use std::collections::BTreeMap;
use std::fs;

use meddino::Tensor;
use meddino::vit::config::Config;

use crate::{State, ensure, fixture, micro, opened, renamed, state, table};

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
