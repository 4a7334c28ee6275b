//! The linear probe against PyTorch's `nn.Linear`, with the same order of batches.

use meddino::heads::{LinearProbe, Optimiser, Standard, Targets};

use super::{features, golden, number, numbers};

#[test]
fn the_linear_probe_equals_pytorchs() {
    let golden = golden("probe");
    let cases = golden.as_array().expect("cases");
    for (name, optimiser) in [("sgd", Optimiser::Sgd { momentum: 0.9 }), ("adamw", Optimiser::AdamW { decay: 0.01 })] {
        let cases: Vec<_> = cases.iter().filter(|case| case["optimiser"] == name).collect();
        assert_eq!(cases.len(), 2);
        let [k, steps, warmup] = ["k", "steps", "warmup"].map(|name| number(&cases[0][name]));
        let (x, labels) = features(500, 32, k, 6);
        let rates = cases.iter().map(|case| case["rate"].as_f64().expect("a rate")).collect();
        let probe = LinearProbe { optimiser, rates, batch: 64, steps, warmup, seed: 11 };
        let targets = Targets::of_labels(&labels, k).expect("labels");
        let found = probe.fit(&x, &targets, &Standard::of(&x).expect("standardised")).expect("trained");
        for (case, linear) in cases.iter().zip(found) {
            for (got, want) in [(&linear.weight, numbers(&case["weight"])), (&linear.bias, numbers(&case["bias"]))] {
                let worst = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
                println!("{name} {}: {worst:e}", case["rate"]);
                assert!(got.len() == want.len() && worst < 1e-4, "{name} {}: {worst}", case["rate"]);
            }
        }
    }
}

#[test]
fn a_probe_needs_rates_and_steps() {
    let (x, labels) = features(20, 4, 2, 0);
    let targets = Targets::of_labels(&labels, 2).expect("labels");
    let default = LinearProbe::default();
    assert_eq!((default.rates.len(), default.steps, default.batch), (13, 12_500, 128));
    for (probe, name) in [
        (LinearProbe { rates: vec![], ..default.clone() }, "rates: "),
        (LinearProbe { rates: vec![f64::NAN], ..default.clone() }, "rates: "),
        (LinearProbe { batch: 0, ..default.clone() }, "batch: "),
        (LinearProbe { optimiser: Optimiser::Sgd { momentum: 1.0 }, ..default.clone() }, "momentum: "),
        (LinearProbe { optimiser: Optimiser::AdamW { decay: -1.0 }, ..default.clone() }, "decay: "),
        (LinearProbe { steps: 0, ..default }, "steps: "),
    ] {
        let error = probe.fit(&x, &targets, &Standard::none(4)).expect_err("refused").to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
