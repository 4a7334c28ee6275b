//! Values that no model may have.

use meddino::Tensor;
use meddino::vit::config::Config;

use crate::{changed, error, open};

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
