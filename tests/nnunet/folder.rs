//! Results folders that meddino does not support: each error says what was found and what was expected.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use crate::desk::{Desk, text};
use crate::{BIASED, MULTISCALE, SINGLE, common, copied, edit, labels, results, scan};

type Change = Box<dyn Fn(&Path)>;
/// The case's name, the change to a folder, the flags, and a part of the expected error.
type Row = (&'static str, Change, &'static str, &'static str);

fn plans(from: &'static str, to: &'static str) -> Change {
    Box::new(move |model| edit(&model.join("plans.json"), from, to))
}

fn dataset(from: &'static str, to: &'static str) -> Change {
    Box::new(move |model| edit(&model.join("dataset.json"), from, to))
}

/// Replaces the text `from` by `to` in the pickle of fold 0's checkpoint, which stores each text after its length.
fn pickle(from: &'static str, to: &'static str) -> Change {
    let [from, to] = [from, to].map(|text| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat());
    Box::new(move |model| {
        let path = model.join("fold_0/checkpoint_final.pth");
        let mut old = zip::ZipArchive::new(fs::File::open(&path).expect("a file")).expect("a zip");
        let mut new = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for i in 0..old.len() {
            let mut entry = old.by_index(i).expect("an entry");
            let (mut bytes, name) = (Vec::new(), entry.name().expect("a name").to_string());
            entry.read_to_end(&mut bytes).expect("read");
            if name.ends_with("data.pkl") {
                let places: Vec<_> = (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(&from)).collect();
                assert!(!places.is_empty(), "{}", String::from_utf8_lossy(&from));
                places.iter().rev().for_each(|&at| drop(bytes.splice(at..at + from.len(), to.iter().copied())));
            }
            new.start_file(name, stored).expect("started");
            new.write_all(&bytes).expect("written");
        }
        let bytes = new.finish().expect("finished").into_inner();
        fs::write(path, bytes).expect("written");
    })
}

fn file(name: &'static str, with: &'static str) -> Change {
    Box::new(move |model| {
        fs::create_dir_all(model.join(name).parent().expect("a folder")).expect("made");
        fs::copy(common::data(with), model.join(name)).map(drop).expect("copied");
    })
}

fn without(name: &'static str) -> Change {
    Box::new(move |model| fs::remove_file(model.join(name)).expect("removed"))
}

fn nothing() -> Change {
    Box::new(|_| {})
}

fn check(cases: Vec<Row>) {
    let mut wrong = Vec::new();
    for (name, change, flags, expected) in cases {
        let desk = Desk::new();
        change(&copied(&desk, MULTISCALE));
        let output = desk.run(&format!("segment -m model -i {} -o labels.nii.gz --backend cpu {flags}", scan("thin").display()));
        let stderr = text(&output.stderr);
        let error = stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        if output.status.code() != Some(1) || !stderr.contains(expected) || error.is_empty() || desk.path("labels.nii.gz").exists() {
            wrong.push(format!("{name}: {} and '{expected}' not in: {stderr}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsupported_plans_are_refused_by_name() {
    let chain = "\"2d_small\": {\n   \"inherits_from\": \"2d_middle\"";
    let cases: Vec<Row> = vec![
        ("no plans", without("plans.json"), "", "(os error 2); an nnU-Net results folder"),
        ("no dataset", without("dataset.json"), "", "an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION) holds"),
        ("no such fold", nothing(), "-f 3", "there is no fold_3/checkpoint_final.pth; its folds: fold_0, fold_1"),
        ("no fold_all", nothing(), "-f all", "there is no fold_all/checkpoint_final.pth"),
        ("no such checkpoint", nothing(), "--chk checkpoint_best.pth", "its folds: none with checkpoint_best.pth"),
        ("no number", nothing(), "-f one", "'one' is not a number"),
        ("damaged plans", plans("\"configurations\"", "configurations"), "", "plans.json: is damaged"),
        (
            "no configuration",
            plans("\"2d_small\"", "\"2d_other\""),
            "",
            "has no configuration \"2d_small\"; it has [\"2d\",\"2d_middle\",\"2d_other\"]",
        ),
        (
            "a parent that is not there",
            plans(chain, "\"2d_small\": {\n   \"inherits_from\": \"2d_gone\""),
            "",
            "has no configuration \"2d_gone\"",
        ),
        ("a loop", plans(chain, "\"2d_small\": {\n   \"inherits_from\": \"2d_small\""), "", "inherits from itself"),
        ("volumes", plans("64,\n    80", "64,\n    80,\n    80"), "", "is for volumes"),
        ("a ragged tile", plans("64,\n    80", "64,\n    72"), "", "patch_size [64, 72]; expected multiples of 16"),
        ("a huge tile", plans("64,\n    80", "64,\n    99999999"), "", "patch_size [64,99999999]; expected two sides"),
        ("no spacing", plans("0.9,\n    1.0", "0.0,\n    1.0"), "", "spacing [0.0,1.0]; expected two distances"),
        (
            "a cascade",
            plans("\"preprocessor_name\"", "\"previous_stage\": \"2d\", \"preprocessor_name\""),
            "",
            "a cascade, which is not supported",
        ),
        ("normalisation", plans("CTNormalization", "ZScoreNormalization"), "", "only CTNormalization is supported"),
        ("channels", plans("\"CTNormalization\"", "\"CTNormalization\", \"CTNormalization\""), "", "is for 2 channels"),
        ("a preprocessor", plans("DefaultPreprocessor", "OtherPreprocessor"), "", "only DefaultPreprocessor is supported"),
        (
            "a reader",
            plans("SimpleITKIO", "NaturalImage2DIO"),
            "",
            "only SimpleITKIO or NibabelIO or SimpleITKIOWithReorient or NibabelIOWithReorient is supported",
        ),
        ("a label manager", plans("\"LabelManager\"", "\"OtherManager\""), "", "only LabelManager is supported"),
        (
            "a resampler",
            plans("\"resample_data_or_seg_to_shape\"", "\"resample_torch_fornnunet\""),
            "",
            "only resample_data_or_seg_to_shape",
        ),
        ("an order", plans("\"order\": 3", "\"order\": 1"), "", "expected order 3 and is_seg false"),
        (
            "axes",
            plans("\"transpose_forward\": [\n  0,\n  1,\n  2", "\"transpose_forward\": [\n  1,\n  2,\n  0"),
            "",
            "which do not undo each other",
        ),
        (
            "no axis",
            plans("\"transpose_forward\": [\n  0,\n  1,\n  2", "\"transpose_forward\": [\n  0,\n  1,\n  3"),
            "",
            "expected an order of the axes",
        ),
        ("no percentiles", plans("percentile_00_5", "percentile"), "", "holds no percentile_00_5"),
        ("crossed percentiles", plans("-240.0", "291.0"), "", "percentile_99_5 290, which is less"),
    ];
    check(cases);
}

#[test]
fn unsupported_datasets_checkpoints_and_flags_are_refused_by_name() {
    const BIASED_PTH: &str =
        "fixtures/nnunet/results/dinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small/fold_0/checkpoint_final.pth";
    let cases: Vec<Row> = vec![
        ("too few labels", dataset("\"kidney\": 2,", ""), "", "expected background 0, then 1, 2 and so on"),
        (
            "another count",
            dataset("\"spleen\": 3", "\"spleen\": 3, \"heart\": 4"),
            "",
            "tells 4 classes apart, but dataset.json names 5 labels",
        ),
        (
            "regions without an order",
            dataset("\"spleen\": 3", "\"spleen\": [2, 3]"),
            "",
            "holds no regions_class_order; expected a label for each",
        ),
        (
            "another order",
            dataset("\"spleen\": 3", "\"spleen\": [2, 3]}, \"regions_class_order\": [1, 2], \"x\": {\"y\": 0"),
            "",
            "says regions_class_order [1,2] for 3 regions; expected a label above 0 for each",
        ),
        (
            "too few outputs",
            dataset("\"spleen\": 3", "\"spleen\": [2, 3]}, \"regions_class_order\": [1, 2, 3], \"x\": {\"y\": 0"),
            "",
            "tells 4 classes apart, but dataset.json names 3 regions",
        ),
        (
            "no number",
            dataset("\"spleen\": 3", "\"spleen\": [2, -3]"),
            "",
            "says label spleen [2,-3]; expected whole numbers from 0 to 65535",
        ),
        ("an empty list", dataset("\"spleen\": 3", "\"spleen\": []"), "", "says label spleen []; expected whole numbers"),
        ("a low ignored label", dataset("\"spleen\": 3", "\"spleen\": 3, \"ignore\": 2"), "", "expected ignore to be the highest label"),
        ("two channels", dataset("\"0\": \"CT\"", "\"0\": \"CT\", \"1\": \"PET\""), "", "2 channels; only one, CT, is supported"),
        ("other files", dataset(".nii.gz", ".tif"), "", "file_ending \".tif\"; only .nii.gz, .nii, .nrrd, .mha are supported"),
        ("a flat checkpoint", file("fold_0/checkpoint_final.pth", "fixtures/micro/flat.pth"), "", "is no nnU-Net checkpoint (flat"),
        ("another network's fold", file("fold_1/checkpoint_final.pth", BIASED_PTH), "", "is of another network than fold_0"),
        (
            "a trainer of another family",
            pickle(MULTISCALE, "flexict_base_primus_multiscale_x_Trainer"),
            "",
            "was trained by flexict_base_primus_multiscale_x_Trainer (FlexiCT is another model family)",
        ),
        (
            "one scale for four",
            pickle(MULTISCALE, SINGLE),
            "-f 0",
            "over 1 of the model's layers: up_projection.decode.0.0.weight [64, 32, 2, 2] instead of [16, 32, 2, 2]",
        ),
        ("a decoder's tensor", pickle("up_projection.decode.2.1.bias", "up_projection.decode.2.1.bigs"), "", "decode.2.1.bias is missing"),
        ("no configuration in it", pickle("configuration", "configuratiom"), "", "holds no init_args.configuration"),
        ("a step of nothing", nothing(), "--step-size 0", "step-size: 0 is not from 0.01 to 1"),
        ("little memory", nothing(), "--max-memory 1MiB", "max-memory: 1 MiB are too few: one tile of 64 x 80 needs"),
    ];
    check(cases);
}

#[test]
fn paths_that_are_no_results_folder_are_refused() {
    let desk = Desk::new();
    let pth = results(BIASED).join("fold_0/checkpoint_final.pth");
    for model in ["nowhere".to_string(), pth.display().to_string()] {
        let output = desk.run(&format!("segment -m {model} -i x.nii -o y.nii"));
        assert!(text(&output.stderr).contains("expected an nnU-Net results folder"), "{}", text(&output.stderr));
    }
}

/// The label that training ignored does not count, numbers may be stored as texts or alone in a list, older files use
/// `modality`, and Python writes NaN. All give the same labels.
#[test]
fn other_spellings_are_understood() {
    let run = |change: Change, flags: &str| {
        let desk = Desk::new();
        change(&copied(&desk, MULTISCALE));
        let output = desk.run(&format!("segment -m model -f 0 {flags} -i {} -o labels.nii.gz --backend cpu", scan("thin").display()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        (labels(desk.path("labels.nii.gz")), text(&output.stderr))
    };
    let (want, messages) = run(nothing(), "--disable-tta");
    // The scan is stored as RAS.
    assert!(messages.contains("is stored as RAS (columns, rows, slices run to these sides), and LPS is usual"), "{messages}");
    for change in [
        dataset("\"spleen\": 3", "\"spleen\": \"3\", \"ignore\": 4"),
        dataset("\"spleen\": 3", "\"spleen\": [3]}, \"regions_class_order\": [3, 2, 1], \"x\": {\"y\": 0"),
        dataset("channel_names", "modality"),
        plans("SimpleITKIO", "NibabelIO"),
        plans("\"median\": 70.0", "\"median\": NaN, \"x\": [-Infinity, Infinity]"),
    ] {
        assert_eq!(run(change, "--disable-tta").0, want);
    }
    // Without axes in the checkpoint nothing is mirrored.
    let (labels, _) = run(pickle("inference_allowed_mirroring_axes", "inference_allowed_mirroring_eyes"), "");
    assert_eq!(labels, want);
    // Of a trainer of another name, the weights tell how many blocks the decoder takes.
    let other = "nnUNetTrainer_of_the_same_length_as_that";
    let (labels, messages) = run(pickle(MULTISCALE, other), "--disable-tta");
    assert!(labels == want && messages.contains(&format!("was trained by {other}, which is no known trainer")), "{messages}");
    let subclass = concat!("meddinov3_base_primus_multiscale_Trainer", "_250epochs");
    let (labels, messages) = run(pickle(MULTISCALE, subclass), "--disable-tta");
    assert!(
        labels == want && messages.contains("was trained by meddinov3_base_primus_multiscale_Trainer_250epochs; its weights"),
        "{messages}"
    );
}

/// The decoder's first layer shows that it takes the last block alone.
#[test]
fn a_trainer_of_another_name_may_have_a_single_scale() {
    let run = |change: Change| {
        let desk = Desk::new();
        change(&copied(&desk, SINGLE));
        desk.succeed(&format!("segment -m model -f 0 --disable-tta -i {} -o labels.nii.gz --backend cpu", scan("thin").display()));
        labels(desk.path("labels.nii.gz"))
    };
    assert_eq!(run(pickle(SINGLE, "my_nnUNet_multiscale_Tra7")), run(nothing()));
}
