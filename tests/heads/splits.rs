//! Folds by patient against scikit-learn's.

use meddino::heads::split::{folds, leak};

use super::{golden, number, numbers};

#[test]
fn folds_equal_scikit_learns() {
    for case in golden("folds").as_array().expect("cases") {
        let [labels, groups, want] =
            ["labels", "groups", "fold"].map(|name| numbers(&case[name]).iter().map(|v| *v as usize).collect::<Vec<_>>());
        let got = folds(&labels, &groups, number(&case["folds"])).expect("folds");
        assert_eq!(got, want);
        assert_eq!(leak(&groups, &got), None);
    }
    assert!(folds(&[0, 1, 0], &[5, 5, 6], 3).expect_err("two patients").to_string().contains("number of patients, 2, found 3"));
}
