//! Logistic regression against scikit-learn's.

use meddino::Tensor;
use meddino::heads::{Link, Logistic, Standard, Targets, dinov3_cs};

use super::{features, golden, number, numbers};

#[test]
fn logistic_regression_equals_scikit_learns() {
    for case in golden("logistic").as_array().expect("cases") {
        let [n, d, k] = ["n", "d", "k"].map(|name| number(&case[name]));
        let one_against_rest = case["link"] == "one_against_rest";
        let balanced = case["balanced"] == true;
        let (x, mut labels) = features(n, d, k, if one_against_rest { 2 } else { 1 });
        if balanced {
            labels.iter_mut().enumerate().for_each(|(i, label)| *label = usize::from(i % 5 == 0));
        }
        let targets = Targets::of_labels(&labels, k).expect("labels");
        let targets = if balanced { targets.balanced() } else { targets };
        let link = if one_against_rest { Link::OneAgainstRest } else { Link::Softmax };
        let settings = Logistic { c: case["c"].as_f64().expect("C"), link, tolerance: 1e-11, iterations: 5000 };
        let fitted = settings.fit(&x, &targets, &Standard::of(&x).expect("standardised")).expect("fitted");
        let want = case["objective"].as_f64().expect("an objective");
        let name = format!("{n} x {d}, {k} classes, C {}, {link:?}", settings.c);
        let distance = (fitted.objective - want) / want;
        println!("{name}: objective {} for {want} ({distance:e}), {} iterations", fitted.objective, fitted.iterations);
        assert!(fitted.converged && distance.abs() < 1e-8, "{name}: {} for {want}", fitted.objective);
        let first = Tensor::new([20, d], x.data()[..20 * d].to_vec());
        let got = fitted.linear.probabilities(&first).expect("predicted");
        for (i, (got, want)) in got.iter().zip(numbers(&case["probabilities"])).enumerate() {
            assert!((got - want).abs() < 1e-6, "{name}: {got} for {want} at {i}");
        }
    }
}

#[test]
fn weights_of_plain_features_give_the_same_logits() {
    let (x, labels) = features(60, 9, 3, 0);
    let (targets, standard) = (Targets::of_labels(&labels, 3).expect("labels"), Standard::of(&x).expect("standardised"));
    let linear = Logistic::default().fit(&x, &targets, &standard).expect("fitted").linear;
    let plain = linear.of_plain_features();
    assert_eq!(plain.standard, Standard::none(9));
    for (got, want) in plain.scores(&x).expect("scores").iter().zip(linear.scores(&x).expect("scores")) {
        assert!((got - want).abs() < 1e-10, "{got} for {want}");
    }
}

#[test]
fn a_path_has_the_fits_of_each_c() {
    let (x, labels) = features(240, 12, 3, 3);
    let (targets, standard) = (Targets::of_labels(&labels, 3).expect("labels"), Standard::of(&x).expect("standardised"));
    let cs = dinov3_cs();
    assert_eq!((cs.len(), cs[0]), (45, 1e-6));
    assert!((cs[44] - 1e5).abs() < 1e-6);
    let settings = Logistic { tolerance: 1e-10, ..Logistic::default() };
    let path = settings.path(&x, &targets, &standard, &cs).expect("fitted");
    for (c, fitted) in cs.iter().zip(&path).step_by(7) {
        let alone = Logistic { c: *c, ..settings }.fit(&x, &targets, &standard).expect("fitted");
        assert!((alone.objective - fitted.objective).abs() < 1e-9, "{c}: {} and {}", alone.objective, fitted.objective);
    }
}

#[test]
fn what_cannot_be_fitted_is_an_error() {
    let (x, labels) = features(12, 3, 2, 0);
    let refused = |x: &Tensor, labels: &[usize], settings: Logistic| {
        let fit = Targets::of_labels(labels, 2).and_then(|targets| settings.fit(x, &targets, &Standard::none(3)));
        fit.expect_err("refused").to_string()
    };
    let settings = Logistic::default();
    assert!(refused(&x, &[0; 12], settings).contains("one class only"));
    assert!(refused(&x, &[2; 12], settings).contains("classes below 2, found 2"));
    assert!(refused(&x, &labels[..11], settings).contains("a target for each of 12 vectors, found 11"));
    assert!(refused(&x, &labels, Logistic { c: 0.0, ..settings }).starts_with("c: expected a number above 0"));
    let mut broken = x.clone();
    broken.data_mut()[7] = f32::NAN;
    let error = refused(&broken, &labels, settings);
    assert!(error.contains("found NaN in channel 1 of vector 2"), "{error}");
    assert!(refused(&Tensor::new([0, 3], vec![]), &[0, 1], settings).contains("at least one vector"));
}

#[test]
fn few_rows_have_the_fit_of_the_same_rows_many_times() {
    for (n, d, k) in [(2, 30, 2), (7, 40, 3), (24, 50, 4)] {
        let (x, labels) = features(n, d, k, 5);
        let often = Tensor::new([n * d, d], x.data().repeat(d));
        let settings = Logistic { c: 0.7, tolerance: 1e-11, iterations: 5000, ..Logistic::default() };
        let targets = |times: usize| Targets::of_labels(&labels.repeat(times), k).expect("labels");
        let standard = Standard::of(&x).expect("standardised");
        let few = settings.fit(&x, &targets(1), &standard).expect("fitted");
        // The objective is the same, because the penalty counts once for all rows.
        let many = Logistic { c: 0.7 / d as f64, ..settings }.fit(&often, &targets(d), &standard).expect("fitted");
        assert!(few.converged && many.converged);
        assert!((few.objective - many.objective).abs() < 1e-10, "{n} x {d}: {} and {}", few.objective, many.objective);
        for (few, many) in few.linear.weight.iter().zip(&many.linear.weight) {
            assert!((few - many).abs() < 1e-7, "{n} x {d}: {few} and {many}");
        }
        assert!(few.iterations <= many.iterations + 5, "{n} x {d}: {} iterations, not {}", few.iterations, many.iterations);
    }
}
