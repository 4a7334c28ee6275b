//! Nearest neighbours against scikit-learn's.

use meddino::Tensor;
use meddino::heads::Neighbours;

use super::{features, golden, number, numbers};

#[test]
fn votes_equal_scikit_learns() {
    let ((bank, labels), (queries, _)) = (features(400, 24, 3, 4), features(50, 24, 3, 5));
    let neighbours = Neighbours::new(&bank, &labels, 3, Neighbours::TEMPERATURE).expect("a bank");
    let golden = golden("neighbours");
    let cases = golden.as_array().expect("cases");
    let ks: Vec<usize> = cases.iter().map(|case| number(&case["k"])).collect();
    let votes = neighbours.probabilities(&queries, &ks).expect("votes");
    for (case, votes) in cases.iter().zip(votes) {
        let want = numbers(&case["probabilities"]);
        assert_eq!(votes.len(), want.len());
        for (i, (got, want)) in votes.iter().zip(want).enumerate() {
            assert!((got - want).abs() < 1e-9, "k {}: {got} for {want} at {i}", case["k"]);
        }
    }
    let all = neighbours.probabilities(&queries, &[400, 5000]).expect("votes");
    assert_eq!(all[0], all[1], "more neighbours than there are");
}

#[test]
fn a_bank_of_unit_vectors_votes_with_the_same_bits() {
    let ((bank, labels), (queries, _)) = (features(40, 11, 3, 4), features(9, 11, 3, 5));
    let neighbours = Neighbours::new(&bank, &labels, 3, 0.07).expect("a bank");
    let vectors: Vec<f64> = neighbours.unit_vectors().collect();
    let again = Neighbours::of_unit_vectors(&vectors, 11, &labels, 3, 0.07).expect("a bank");
    assert_eq!(again.probabilities(&queries, &[5]).expect("votes"), neighbours.probabilities(&queries, &[5]).expect("votes"));
    for (vectors, width) in [(&vectors[..20], 11), (&vectors[..0], 11), (&vectors[..11], 0), (&[f64::NAN; 11][..], 11)] {
        assert!(Neighbours::of_unit_vectors(vectors, width, &labels, 3, 0.07).is_err(), "{} values", vectors.len());
    }
}

#[test]
fn what_cannot_vote_is_an_error() {
    let (bank, labels) = features(10, 4, 2, 0);
    let refused = |labels: &[usize], temperature| Neighbours::new(&bank, labels, 2, temperature).expect_err("refused").to_string();
    assert!(refused(&labels[..9], 0.07).contains("a class below 2 for each of 10"));
    assert!(refused(&[2; 10], 0.07).contains("a class below 2"));
    assert!(refused(&labels, 0.0).starts_with("temperature: "));
    let neighbours = Neighbours::new(&bank, &labels, 2, 0.07).expect("a bank");
    assert!(neighbours.probabilities(&Tensor::zeros([1, 5]), &[1]).expect_err("refused").to_string().contains("4 channels"));
    assert!(neighbours.probabilities(&bank, &[0]).is_err());
}
