//! PCA and cosine maps against scikit-learn and PyTorch, and tokens that have no components.
#![cfg(feature = "pictures")]

mod common;

use std::collections::HashMap;

use common::{data, max_abs, read_safetensors, uniform};
use meddino::Tensor;
use meddino::maps::{Basis, BasisFile, Moments, cosine, limits};

/// Largest allowed difference of a score, a component's entry or a cosine from the reference. Values are up to about 4.
const TOLERANCE: f32 = 1e-5;

fn golden() -> (HashMap<String, Tensor>, usize) {
    let (tensors, metadata) = read_safetensors(&data("golden/maps.safetensors"));
    (tensors.into_iter().collect(), metadata["query"].parse().expect("a number"))
}

fn basis(tokens: &Tensor) -> Basis {
    let mut moments = Moments::new(tokens.cols());
    moments.add(tokens);
    moments.basis().expect("tokens that differ")
}

/// Tokens `from..to` of [.., C], as [to - from, C].
fn part(tokens: &Tensor, from: usize, to: usize) -> Tensor {
    let c = tokens.cols();
    Tensor::new([to - from, c], tokens.data()[from * c..to * c].to_vec())
}

#[test]
fn components_and_scores_are_those_of_scikit_learn() {
    let (golden, _) = golden();
    let tokens = &golden["tokens"];
    for (case, tokens) in [("whole", tokens.clone()), ("first40", part(tokens, 0, 40))] {
        let basis = basis(&tokens);
        let scores = basis.scores(&tokens);
        // The reference follows the same sign convention, so signs must agree too.
        for (name, got) in [("mean", basis.mean()), ("components", basis.components()), ("variance", basis.variance()), ("scores", &scores)]
        {
            let want = &golden[&format!("{case}.{name}")];
            let distance = max_abs(got.data(), want.data());
            assert!(distance < TOLERANCE, "{case}: {name} is {distance} away");
        }
    }
}

#[test]
fn images_added_one_by_one_give_the_same_components() {
    let (golden, _) = golden();
    let tokens = &golden["tokens"];
    let mut moments = Moments::new(tokens.cols());
    for (from, to) in [(0, 1), (1, 120), (120, 120), (120, 240)] {
        moments.add(&part(tokens, from, to));
    }
    let scores = moments.basis().expect("tokens that differ").scores(tokens);
    assert_eq!(scores.shape(), [2, 120, 3]);
    let distance = max_abs(scores.data(), golden["whole.scores"].data());
    assert!(distance < TOLERANCE, "{distance}");
}

#[test]
fn whitened_scores_have_mean_zero_and_variance_one_and_signs_do_not_depend_on_the_order() {
    let n = 50;
    let tokens = Tensor::new([n, 20], uniform("any", n * 20, 3));
    let mut reversed = tokens.clone();
    reversed.data_mut().chunks_exact_mut(20).zip(tokens.data().chunks_exact(20).rev()).for_each(|(to, from)| to.copy_from_slice(from));
    let (basis, backwards) = (basis(&tokens), basis(&reversed));
    assert!(max_abs(basis.components().data(), backwards.components().data()) < 1e-6);
    let scores = basis.scores(&tokens);
    for k in 0..3 {
        let column: Vec<f64> = scores.data().iter().skip(k).step_by(3).map(|&v| f64::from(v)).collect();
        let mean = column.iter().sum::<f64>() / n as f64;
        let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "component {k}: {mean} {variance}");
        let direction = &basis.components().data()[k * 20..][..20];
        let greatest = direction.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a }).expect("entries");
        assert!(greatest > 0.0);
    }
}

#[test]
fn cosines_are_those_of_pytorch() {
    let (golden, query) = golden();
    let tokens = &golden["tokens"];
    let map = cosine(tokens, part(tokens, query, query + 1).data());
    assert_eq!(map.shape(), [2, 120]);
    assert!(max_abs(map.data(), golden["cosine"].data()) < 1e-6);
    assert!((map.data()[query] - 1.0).abs() < 1e-6);
    // A token of zeros has cosine 0 with every query, and never NaN.
    assert_eq!(cosine(&Tensor::zeros([2, 3]), &[1.0, 2.0, 3.0]).data(), [0.0, 0.0]);
    assert_eq!(cosine(&Tensor::new([1, 3], vec![1.0; 3]), &[0.0; 3]).data(), [0.0]);
}

#[test]
fn degenerate_tokens_are_refused_or_have_fewer_components() {
    let refused = |tokens: &Tensor| {
        let mut moments = Moments::new(tokens.cols());
        moments.add(tokens);
        moments.basis().expect_err("nothing to find").to_string()
    };
    assert!(refused(&Tensor::zeros([0, 4])).contains("0 patch has none"));
    assert!(refused(&Tensor::new([1, 4], vec![1.0, 2.0, 3.0, 4.0])).contains("1 patch has none"));
    assert!(refused(&Tensor::new([5, 4], [0.1, 1e6, -3.3, 7.7].repeat(5))).contains("all 5 patches have the same features"));
    assert!(refused(&Tensor::zeros([5, 4])).contains("all 5 patches have the same features"));
    assert!(refused(&Tensor::new([2, 2], vec![f32::NAN, 0.0, 1.0, 1.0])).contains("NaN"));
    // n points span at most n - 1 directions; the remaining components score 0.
    for (n, rank) in [(2, 1), (3, 2), (4, 3), (9, 3)] {
        let tokens = Tensor::new([n, 8], uniform("few", n * 8, 1));
        let basis = basis(&tokens);
        let scores = basis.scores(&tokens);
        assert_eq!(basis.rank(), rank, "{n} tokens");
        assert!(scores.data().iter().all(|v| v.is_finite()));
        assert!(scores.data().chunks_exact(3).all(|s| s[rank..].iter().all(|v| *v == 0.0)), "{n} tokens");
    }
    // One unit in the last place of f32 is enough for a component.
    let mut close = vec![1.0_f32; 3 * 2];
    close[0] = 1.0_f32.next_up();
    assert_eq!(basis(&Tensor::new([3, 2], close)).rank(), 1);
}

#[test]
fn a_stored_basis_reads_back_equal_and_a_damaged_one_is_refused() {
    let (golden, _) = golden();
    let basis = basis(&golden["tokens"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("basis.safetensors");
    let file = BasisFile {
        limits: limits(&basis.scores(&golden["tokens"])),
        basis,
        metadata: [("checkpoint".to_string(), "seeded:0".to_string())].into(),
    };
    file.save(&path).expect("written");
    assert_eq!(BasisFile::open(&path).expect("read"), file);

    let mut damaged = file.clone();
    damaged.limits = (1.0, -1.0);
    damaged.save(&path).expect("written");
    assert!(BasisFile::open(&path).expect_err("upside down").to_string().contains("limits: 1 is above -1"));
    damaged.limits = (f32::NAN, 1.0);
    damaged.save(&path).expect("written");
    assert!(BasisFile::open(&path).expect_err("NaN").to_string().contains("limits holds NaN"));
    let error = BasisFile::open(&data("golden/maps.safetensors")).expect_err("another file").to_string();
    assert!(error.contains("holds no components"), "{error}");
}
