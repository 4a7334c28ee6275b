//! Codes of structures that networks often name, by their names.
//!
//! Codes and meanings are those of SNOMED CT in DICOM PS3.16: CID 7151 for types, CID 7150 for categories, CID 244 for
//! sides.

/// A code of SNOMED CT and its meaning.
pub(super) type Sct = (&'static str, &'static str);

pub(super) const ANATOMY: Sct = ("91723000", "Anatomical Structure");
pub(super) const ABNORMAL: Sct = ("49755003", "Morphologically Abnormal Structure");
/// Category and type of a label that no table names.
pub(super) const TISSUE: Sct = ("85756007", "Tissue");

const RIGHT: Sct = ("24028007", "Right");
const LEFT: Sct = ("7771000", "Left");

/// The names of a structure, in lower case and with single spaces, its category, and its type.
#[rustfmt::skip]
const STRUCTURES: &[(&[&str], Sct, Sct)] = &[
    (&["adrenal gland", "adrenal"], ANATOMY, ("23451007", "Adrenal gland")),
    (&["aorta"], ANATOMY, ("15825003", "Aorta")),
    (&["bladder", "urinary bladder"], ANATOMY, ("89837001", "Bladder")),
    (&["brain"], ANATOMY, ("12738006", "Brain")),
    (&["clavicle", "clavicula"], ANATOMY, ("51299004", "Clavicle")),
    (&["colon"], ANATOMY, ("71854001", "Colon")),
    (&["cyst"], ABNORMAL, ("367643001", "Cyst")),
    (&["duodenum"], ANATOMY, ("38848004", "Duodenum")),
    (&["esophagus", "oesophagus"], ANATOMY, ("32849002", "Esophagus")),
    (&["femur"], ANATOMY, ("71341001", "Femur")),
    (&["gallbladder", "gall bladder"], ANATOMY, ("28231008", "Gallbladder")),
    (&["heart"], ANATOMY, ("80891009", "Heart")),
    (&["hemorrhage", "haemorrhage"], ABNORMAL, ("50960005", "Hemorrhage")),
    (&["hepatic vein"], ANATOMY, ("8993003", "Hepatic vein")),
    (&["hip"], ANATOMY, ("29836001", "Hip")),
    (&["humerus"], ANATOMY, ("85050009", "Humerus")),
    (&["inferior vena cava", "postcava", "ivc"], ANATOMY, ("64131007", "Inferior vena cava")),
    (&["kidney", "kidneys"], ANATOMY, ("64033007", "Kidney")),
    (&["large intestine"], ANATOMY, ("14742008", "Large intestine")),
    (&["lesion"], ABNORMAL, ("52988006", "Lesion")),
    (&["liver"], ANATOMY, ("10200004", "Liver")),
    (&["lung", "lungs"], ANATOMY, ("39607008", "Lung")),
    (&["mass", "masses"], ABNORMAL, ("4147007", "Mass")),
    (&["neoplasm", "tumor", "tumour"], ABNORMAL, ("108369006", "Neoplasm")),
    (&["nodule"], ABNORMAL, ("27925004", "Nodule")),
    (&["pancreas"], ANATOMY, ("15776009", "Pancreas")),
    (&["portal vein"], ANATOMY, ("32764006", "Portal vein")),
    (&["prostate"], ANATOMY, ("41216001", "Prostate")),
    (&["pulmonary artery"], ANATOMY, ("81040000", "Pulmonary artery")),
    (&["rectum"], ANATOMY, ("34402009", "Rectum")),
    (&["sacrum"], ANATOMY, ("54735007", "Sacrum")),
    (&["scapula"], ANATOMY, ("79601000", "Scapula")),
    (&["small intestine", "small bowel"], ANATOMY, ("30315005", "Small intestine")),
    (&["spinal cord"], ANATOMY, ("2748008", "Spinal cord")),
    (&["spleen"], ANATOMY, ("78961009", "Spleen")),
    (&["splenic vein"], ANATOMY, ("35819009", "Splenic vein")),
    (&["sternum"], ANATOMY, ("56873002", "Sternum")),
    (&["stomach"], ANATOMY, ("69695003", "Stomach")),
    (&["thyroid", "thyroid gland"], ANATOMY, ("69748006", "Thyroid")),
    (&["trachea"], ANATOMY, ("44567001", "Trachea")),
    (&["uterus"], ANATOMY, ("35039007", "Uterus")),
];

/// The category, type and side that a label's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub category: Sct,
    pub kind: Sct,
    pub side: Option<Sct>,
}

/// Returns what a label's name says, or `None` if the table does not have it. Case, `_` and `-` do not matter, and a
/// side (`left`, `right`) may stand before or behind.
pub(super) fn named(label: &str) -> Option<Named> {
    let lower = label.to_lowercase().replace(['_', '-'], " ");
    let words: Vec<&str> = lower.split_whitespace().collect();
    let side = |word: &str| match word {
        "right" => Some(RIGHT),
        "left" => Some(LEFT),
        _ => None,
    };
    let (side, words) = match &words[..] {
        [first, rest @ ..] if side(first).is_some() => (side(first), rest),
        [rest @ .., last] if side(last).is_some() => (side(last), rest),
        all => (None, all),
    };
    let name = words.join(" ");
    let (_, category, kind) = STRUCTURES.iter().find(|(names, ..)| names.contains(&name.as_str()))?;
    Some(Named { category: *category, kind: *kind, side })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_found_in_any_case_and_with_a_side() {
        for (label, code, side) in [
            ("Spleen", "78961009", None),
            ("right kidney", "64033007", Some(RIGHT)),
            ("adrenal_gland_left", "23451007", Some(LEFT)),
            ("LEFT-ADRENAL-GLAND", "23451007", Some(LEFT)),
            ("postcava", "64131007", None),
            ("tumour", "108369006", None),
        ] {
            let named = named(label).expect(label);
            assert_eq!((named.kind.0, named.side), (code, side), "{label}");
        }
        for label in ["", "left", "right left kidney", "prostate/uterus", "portal vein and splenic vein", "liver 2"] {
            assert_eq!(named(label), None, "{label}");
        }
    }

    #[test]
    fn every_name_and_code_stands_once() {
        let names: Vec<&str> = STRUCTURES.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        let codes: HashSet<_> = STRUCTURES.iter().map(|(_, _, kind)| kind.0).collect();
        assert_eq!(codes.len(), STRUCTURES.len());
    }
}
