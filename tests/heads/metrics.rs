//! Metrics against scikit-learn's, intervals against NumPy's on the same draws.

use meddino::heads::Bootstrap;
use meddino::heads::metrics::{Confusion, auroc, average_precision, brier, calibration, calibration_error, decisions, roc};
use serde_json::Value;

use super::{golden, number, numbers};

fn equal(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-12, "{what}: {got} for {want}");
    }
}

#[test]
fn metrics_equal_scikit_learns() {
    for case in golden("metrics").as_array().expect("cases") {
        let (k, p) = (number(&case["k"]), numbers(&case["probabilities"]));
        let labels: Vec<usize> = numbers(&case["labels"]).iter().map(|label| *label as usize).collect();
        let guesses = decisions(&p, k);
        let confusion = Confusion::of(k, labels.iter().copied().zip(guesses.iter().copied()));
        let counts: Vec<f64> = (0..k * k).map(|i| confusion.count(i / k, i % k) as f64).collect();
        equal("confusion", &counts, &numbers(&case["confusion"]));
        let each = |figure: &dyn Fn(usize) -> f64| (0..k).map(figure).collect::<Vec<_>>();
        let truth = |class: usize| labels.iter().map(|label| *label == class).collect::<Vec<_>>();
        let scores = |class: usize| p.iter().skip(class).step_by(k).copied().collect::<Vec<_>>();
        let want = |name: &str| match &case[name] {
            list @ Value::Array(_) => numbers(list),
            one => vec![one.as_f64().expect("a number")],
        };
        for (name, got) in [
            ("accuracy", vec![confusion.accuracy()]),
            ("balanced_accuracy", vec![confusion.balanced_accuracy()]),
            ("f1", each(&|class| confusion.f1(class))),
            ("macro_f1", vec![confusion.macro_f1()]),
            ("sensitivity", each(&|class| confusion.sensitivity(class))),
            ("specificity", each(&|class| confusion.specificity(class))),
            ("auroc", each(&|class| auroc(&scores(class), &truth(class)))),
            ("average_precision", each(&|class| average_precision(&scores(class), &truth(class)))),
            ("brier", vec![brier(&p, &labels, k)]),
        ] {
            equal(name, &got, &want(name));
        }
        let bins = calibration(&scores(1), &truth(1), 10);
        equal("predicted", &bins.iter().map(|bin| bin.predicted).collect::<Vec<_>>(), &numbers(&case["calibration"][0]));
        equal("observed", &bins.iter().map(|bin| bin.observed).collect::<Vec<_>>(), &numbers(&case["calibration"][1]));
        assert!((0.0..1.0).contains(&calibration_error(&bins)));

        let groups: Vec<usize> = (0..labels.len()).map(|i| i / 3).collect();
        let (scores, truth) = (scores(1), truth(1));
        let intervals = Bootstrap { draws: 500, level: 0.95, seed: 9 }.intervals(&groups, |rows| {
            let accuracy = Confusion::of(k, rows.iter().map(|&row| (labels[row], guesses[row]))).accuracy();
            let (scores, truth): (Vec<_>, Vec<_>) = rows.iter().map(|&row| (scores[row], truth[row])).unzip();
            vec![accuracy, auroc(&scores, &truth)]
        });
        assert!(intervals.iter().all(|interval| interval.draws == 500));
        equal("low", &intervals.iter().map(|interval| interval.low).collect::<Vec<_>>(), &numbers(&case["intervals"][0]));
        equal("high", &intervals.iter().map(|interval| interval.high).collect::<Vec<_>>(), &numbers(&case["intervals"][1]));
    }
}

#[test]
fn what_rows_do_not_have_is_no_number() {
    assert!(auroc(&[0.1, 0.2], &[true, true]).is_nan() && average_precision(&[0.1], &[false]).is_nan());
    assert!(roc(&[], &[]).is_none());
    let confusion = Confusion::of(3, [(0, 0), (0, 1)]);
    assert!(confusion.f1(2).is_nan() && confusion.sensitivity(1).is_nan());
    assert_eq!((confusion.balanced_accuracy(), confusion.accuracy()), (0.5, 0.5));
    // One patient of two has the only positive: about a quarter of the draws lack it, and a quarter lack the negative.
    let intervals = Bootstrap::default().intervals(&[0, 1], |rows| {
        let truth: Vec<bool> = rows.iter().map(|row| *row == 0).collect();
        vec![auroc(&vec![0.5; truth.len()], &truth)]
    });
    assert!((900..1100).contains(&intervals[0].draws), "{intervals:?}");
    assert_eq!((intervals[0].low, intervals[0].high), (0.5, 0.5));
}
