//! The JSON files of an nnU-Net results folder.

use meddino::nnunet::{Configuration, Dataset};

use super::Desk;

pub fn plans(desk: &Desk, bytes: &[u8]) -> bool {
    let path = desk.write("plans.json", bytes);
    let mut understood = false;
    for name in ["2d", "2d_small", ""] {
        let Ok(found) = Configuration::open(&path, name) else { continue };
        assert!(found.tile.iter().all(|&side| side > 0), "{found:?}");
        assert!(found.spacing.iter().all(|&mm| mm > 0.0 && mm.is_finite()), "{found:?}");
        assert!(found.ct.std > 0.0 && found.ct.lower <= found.ct.upper, "{found:?}");
        assert!(found.ct.apply(0.0).is_finite(), "{found:?}");
        understood = true;
    }
    understood
}

pub fn dataset(desk: &Desk, bytes: &[u8]) -> bool {
    let Ok(dataset) = Dataset::open(&desk.write("dataset.json", bytes)) else { return false };
    assert!(dataset.labels.len() > 1, "{dataset:?}");
    true
}
