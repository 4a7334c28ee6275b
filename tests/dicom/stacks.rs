//! Which slices form one stack, and which form several.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use meddino::ct::series;

use super::make::{ct, hu, item, put_pixels, save, sequence, stored};
use super::{frames, read, with};

/// Elements of a slice besides its position.
type Elements<'a> = &'a [(Tag, &'a str)];

/// A slice at `z` whose pixels are those of slice `id`.
fn slice(id: f64, z: f64, elements: Elements) -> InMemDicomObject {
    let mut object = with(ct(z), tags::SOP_INSTANCE_UID, VR::UI, &format!("1.2.9.{id}"));
    put_pixels(&mut object, &stored(id));
    elements.iter().fold(object, |object, (tag, text)| with(object, *tag, vr(*tag), text))
}

fn vr(tag: Tag) -> VR {
    match tag {
        tags::IMAGE_POSITION_PATIENT | tags::TRIGGER_TIME | tags::KVP | tags::SLICE_THICKNESS => VR::DS,
        tags::PATIENT_ID | tags::STACK_ID => VR::LO,
        tags::CONVOLUTION_KERNEL => VR::SH,
        tags::STUDY_INSTANCE_UID | tags::FRAME_OF_REFERENCE_UID => VR::UI,
        tags::ACQUISITION_TIME => VR::TM,
        tags::IMAGE_TYPE => VR::CS,
        _ => VR::IS,
    }
}

/// Reads `objects` from a folder and checks its stacks against `expected`: the choice of each, what its line in the
/// list says about it, and its slices by id.
fn check(name: &str, objects: Vec<InMemDicomObject>, expected: &[(&str, &str, &[f64])]) {
    let folder = tempfile::tempdir().expect("a folder");
    objects.into_iter().enumerate().for_each(|(index, object)| save(object, &folder.path().join(format!("IM{index}"))));
    let listed = series(folder.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let found: Vec<_> = listed.iter().map(|row| (row.choice(), row.apart.as_str())).collect();
    assert_eq!(found, expected.iter().map(|row| (row.0.to_string(), row.1)).collect::<Vec<_>>(), "{name}");
    for (choice, _, ids) in expected {
        let (slices, warned) = read(folder.path(), Some(choice)).unwrap_or_else(|e| panic!("{name}, {choice}: {e}"));
        assert_eq!(slices, ids.iter().map(|&id| hu(id)).collect::<Vec<_>>(), "{name}, {choice}: {warned}");
        assert!(!warned.contains("have the position of another one"), "{name}, {choice}: {warned}");
    }
    if expected.len() > 1 {
        let error = read(folder.path(), None).expect_err(name);
        assert!(expected.iter().all(|(choice, apart, _)| error.contains(&format!("{choice}: Thorax, {apart}"))), "{name}: {error}");
    } else {
        read(folder.path(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Two stacks of three slices 2 mm apart. The second is `shifted` against the first, and `tag` differs between them.
fn two(tag: Tag, values: [&str; 2], shifted: f64) -> Vec<InMemDicomObject> {
    let of = |stack: usize| {
        (0..3).map(move |k| slice(f64::from(k) + 3.0 * stack as f64, 2.0 * f64::from(k) + shifted * stack as f64, &[(tag, values[stack])]))
    };
    of(0).chain(of(1)).collect()
}

#[test]
fn slices_of_another_patient_study_kernel_or_type_are_another_stack() {
    for (tag, values, descriptions) in [
        (tags::PATIENT_ID, ["1", "2"], ["patient 1", "patient 2"]),
        (tags::STUDY_INSTANCE_UID, ["1.2.840.1", "1.2.840.2"], ["study 1.2.840.1", "study 1.2.840.2"].map(|_| "")),
        (tags::CONVOLUTION_KERNEL, ["B30f", "B70f"], ["kernel B30f", "kernel B70f"]),
        (tags::IMAGE_TYPE, ["ORIGINAL\\PRIMARY\\AXIAL", "DERIVED\\PRIMARY\\AXIAL"], ["", ""]),
        (tags::STACK_ID, ["a", "b"], ["stack a", "stack b"]),
    ] {
        // The stacks stay separate wherever the second lies, even directly behind the first.
        for shifted in [0.0, 1.0, 6.0] {
            let mut descriptions = descriptions.map(str::to_string);
            let name = match tag {
                tags::STUDY_INSTANCE_UID => Some("study"),
                tags::IMAGE_TYPE => Some("type"),
                _ => None,
            };
            if let Some(name) = name {
                let short =
                    |value: &str| if value.starts_with("1.") { format!("...{}", value.rsplit('.').next().unwrap()) } else { value.into() };
                descriptions = values.map(|value| format!("{name} {}", short(value)));
            }
            let is_sorted = descriptions[0] < descriptions[1];
            let stacks: [(&str, &[f64]); 2] = [(&descriptions[0], &[0.0, 1.0, 2.0]), (&descriptions[1], &[3.0, 4.0, 5.0])];
            let [a, b] = if is_sorted { stacks } else { [stacks[1], stacks[0]] };
            check(&descriptions[0], two(tag, values, shifted), &[("1.1", a.0, a.1), ("1.2", b.0, b.1)]);
        }
    }
}

#[test]
fn acquisitions_and_phases_that_overlap_are_stacks() {
    for (tag, values, descriptions) in [
        (tags::ACQUISITION_NUMBER, ["2", "10"], ["acquisition 2", "acquisition 10"]),
        (tags::TEMPORAL_POSITION_IDENTIFIER, ["1", "2"], ["temporal position 1", "temporal position 2"]),
        (tags::KVP, ["80", "140"], ["tube voltage 80 kV", "tube voltage 140 kV"]),
        (tags::SLICE_THICKNESS, ["1", "5.0"], ["slice thickness 1 mm", "slice thickness 5 mm"]),
        (tags::TRIGGER_TIME, ["40", "400"], ["trigger 40 ms", "trigger 400 ms"]),
        (tags::ACQUISITION_TIME, ["101010", "101500.5"], ["time 101010", "time 101500.5"]),
    ] {
        // In the same positions, half-way between, and with one position in common.
        for shifted in [0.0, 1.0, 4.0] {
            if shifted > 3.0 && matches!(tag, tags::TRIGGER_TIME | tags::ACQUISITION_TIME) {
                continue;
            }
            let expected: [(&str, &str, &[f64]); 2] =
                [("1.1", descriptions[0], &[0.0, 1.0, 2.0]), ("1.2", descriptions[1], &[3.0, 4.0, 5.0])];
            check(descriptions[0], two(tag, values, shifted), &expected);
        }
        // One behind the other, they are one stack.
        check(descriptions[0], two(tag, values, 6.0), &[("1", "", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
    }
}

/// A step-and-shoot scan has an acquisition number and a time for each step of one or several slices.
#[test]
fn numbers_and_times_that_differ_by_step_do_not_split_a_stack() {
    let steps = |per_step: usize| -> Vec<InMemDicomObject> {
        let slice_of_step = |k: usize| {
            let (number, time) = ((k / per_step).to_string(), (101_010 + k / per_step).to_string());
            slice(
                k as f64,
                5.0 * k as f64,
                &[(tags::ACQUISITION_NUMBER, &number), (tags::ACQUISITION_TIME, &time), (tags::TRIGGER_TIME, &time)],
            )
        };
        (0..8).map(slice_of_step).collect()
    };
    for per_step in [1, 2, 4] {
        check("steps", steps(per_step), &[("1", "", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])]);
    }
    // The times do not follow the order of the slices.
    let times = ["1005", "1001", "1004", "1002", "1003", "1006"];
    let jumping = times.iter().enumerate().map(|(k, time)| slice(k as f64, k as f64, &[(tags::ACQUISITION_TIME, time)])).collect();
    check("jumping", jumping, &[("1", "", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
}

/// Two rounds of a step-and-shoot scan: each slice has its own number or time, and each position has two slices.
#[test]
fn rounds_are_separated_by_numbers_that_differ_in_every_slice() {
    let rounds = |tag: Tag, value: fn(usize, usize) -> usize| -> Vec<InMemDicomObject> {
        let slice_of_round = |i: usize| slice(i as f64, 2.0 * (i % 3) as f64, &[(tag, &value(i / 3, i % 3).to_string())]);
        (0..6).map(slice_of_round).collect()
    };
    let first: &[f64] = &[0.0, 1.0, 2.0];
    let second: &[f64] = &[3.0, 4.0, 5.0];
    // The numbers run through one round after the other, or alternate between the rounds at each step.
    for value in [(|round, step| 100_000 + 10 * round + step) as fn(usize, usize) -> usize, |round, step| 100_000 + 10 * step + round] {
        let span = |round: usize| format!("{} to {}", value(round, 0), value(round, 2));
        for (tag, name) in [(tags::ACQUISITION_TIME, "time"), (tags::ACQUISITION_NUMBER, "acquisition"), (tags::INSTANCE_NUMBER, "")] {
            let description = |round: usize| match name {
                "" => format!("instances {}, one slice at -10.0, -20.0, 0.0 mm", span(round)),
                name => format!("{name} {}", span(round)),
            };
            check(name, rounds(tag, value), &[("1.1", &description(0), first), ("1.2", &description(1), second)]);
        }
    }
    // A slice of the first round is missing, so the nth time at a position is not the nth round.
    let mut one_after_other = rounds(tags::ACQUISITION_TIME, |round, step| 100_000 + 10 * round + step);
    one_after_other.remove(1);
    let descriptions = ["time 100000 to 100002", "time 100010 to 100012"];
    check("missing", one_after_other, &[("1.1", descriptions[0], &[0.0, 2.0]), ("1.2", descriptions[1], second)]);
    let mut at_each_step = rounds(tags::ACQUISITION_TIME, |round, step| 100_000 + 10 * step + round);
    at_each_step.remove(1);
    let folder = tempfile::tempdir().expect("a folder");
    at_each_step.into_iter().enumerate().for_each(|(index, object)| save(object, &folder.path().join(format!("IM{index}"))));
    let error = read(folder.path(), None).expect_err("a riddle");
    assert!(error.contains("differ in time, and it cannot be told which ones belong together"), "{error}");
}

#[test]
fn slices_beside_each_other_form_two_stacks() {
    let at = |id: f64, x: f64, y: f64, z: f64| slice(id, z, &[(tags::IMAGE_POSITION_PATIENT, &format!("{x}\\{y}\\{z}"))]);
    let description = |[x, y]: [f64; 2], z: f64| format!("one slice at {x:.1}, {y:.1}, {z:.1} mm");
    for (aside, shifted) in [(60.0, 0.0), (60.0, 1.0), (2.0, 0.0)] {
        let objects: Vec<InMemDicomObject> = (0..6_i32)
            .map(|i| at(f64::from(i), aside * f64::from(i / 3), -20.0, f64::from(i % 3 * 2) + shifted * f64::from(i / 3)))
            .collect();
        let [a, b] = [description([0.0, -20.0], 0.0), description([aside, -20.0], shifted)];
        check("aside", objects, &[("1.1", &a, &[0.0, 1.0, 2.0]), ("1.2", &b, &[3.0, 4.0, 5.0])]);
    }
    // Two stacks that are both sheared by a gantry tilt.
    let tilted =
        (0..8_i32).map(|i| at(f64::from(i), 0.0, 40.0 * f64::from(i / 4) + 0.3 * 2.0 * f64::from(i % 4), f64::from(i % 4 * 2))).collect();
    let [a, b] = [description([0.0, 0.0], 0.0), description([0.0, 40.0], 0.0)];
    check("tilted", tilted, &[("1.1", &a, &[0.0, 1.0, 2.0, 3.0]), ("1.2", &b, &[4.0, 5.0, 6.0, 7.0])]);
    // The slices are sheared by more than the distance that would put them on another line, and are still one stack.
    let steep = (0..40_i32).map(|i| at(f64::from(i), 0.0, 0.5 * 5.0 * f64::from(i), 5.0 * f64::from(i))).collect();
    check("steep", steep, &[("1", "", &(0..40).map(f64::from).collect::<Vec<_>>())]);
}

#[test]
fn copies_are_read_once_and_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a", "b"] {
        (0..3).for_each(|z| {
            save(slice(f64::from(z), f64::from(z), &[(tags::ACQUISITION_TIME, "1010")]), &folder.path().join(format!("{name}{z}")));
        });
    }
    let (slices, warned) = read(folder.path(), None).expect("one stack");
    assert_eq!(slices, [hu(0.0), hu(1.0), hu(2.0)]);
    assert!(warned.contains("3 files or frames are copies of others, with one SOPInstanceUID and place"), "{warned}");
}

#[test]
fn a_stack_of_several_parts_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = two(tags::ACQUISITION_NUMBER, ["1", "2"], 6.0);
    parts.into_iter().enumerate().for_each(|(index, object)| save(object, &folder.path().join(index.to_string())));
    let (_, warned) = read(folder.path(), None).expect("one stack");
    assert_eq!(warned, "it is put together from 2 parts, one behind another: acquisition 1 to 2");
}

#[test]
fn a_stack_is_chosen_by_its_number_or_as_the_largest() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let acquisitions = two(tags::ACQUISITION_NUMBER, ["1", "2"], 1.0);
    acquisitions.into_iter().enumerate().for_each(|(index, object)| save(object, &at(&format!("a{index}"))));
    for (choice, expected) in [
        (None, "2 stacks of slices are in one CT series; choose one by its number (`series` 1.1)"),
        (Some("1"), "'1' names a series of several stacks; give one's number, as 1.1"),
        (Some(".99.1"), "'.99.1' names a series of several stacks; give one's number, as 1.1"),
        (Some("1.3"), "no series is named by '1.3'"),
        (Some("largest"), "several have most slices; choose one by its number:\n  1.1: Thorax, acquisition 1, 3 slices"),
    ] {
        let error = read(folder.path(), choice).expect_err(expected);
        assert!(error.contains(expected) && error.contains("1.2: Thorax, acquisition 2") || error.contains("'1.3'"), "{error}");
    }
    save(slice(9.0, 7.0, &[(tags::ACQUISITION_NUMBER, "2")]), &at("b"));
    assert_eq!(read(folder.path(), Some("largest")).expect("four slices").0, [3.0, 4.0, 5.0, 9.0].map(hu));
    save(super::other(0.0), &at("c"));
    let error = read(folder.path(), None).expect_err("two series");
    assert!(error.contains("2 CT series are there") && error.contains("1: Lung, 1 slices") && error.contains("2.2: Thorax"), "{error}");
    assert_eq!(read(folder.path(), Some("2.1")).expect("three slices").0, [0.0, 1.0, 2.0].map(hu));
    assert_eq!(read(folder.path(), Some("1")).expect("one slice").0, [hu(0.0)]);
}

/// The element that a frame of this phase holds.
type Content = fn(usize) -> (Tag, VR, PrimitiveValue);

/// Phases and stacks within one enhanced file.
#[test]
fn frames_of_one_file_can_be_several_stacks() {
    let us = |tag, vr, value: PrimitiveValue| DataElement::new(tag, vr, value);
    let places = [0.0, 2.0, 4.0, 0.0, 2.0, 4.0];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("enhanced");
    let contents: [(&str, Content); 3] = [
        ("temporal position", |phase| (tags::TEMPORAL_POSITION_INDEX, VR::UL, PrimitiveValue::from(phase as u32))),
        ("stack", |phase| (tags::STACK_ID, VR::SH, PrimitiveValue::from(phase.to_string()))),
        ("acquisition", |phase| (tags::FRAME_ACQUISITION_NUMBER, VR::US, PrimitiveValue::from(phase as u16))),
    ];
    for (name, content) in contents {
        let mut object = frames::enhanced(&places);
        let groups = object.take_element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).expect("frames").items().expect("items").to_vec();
        let with_content = |(index, mut group): (usize, InMemDicomObject)| {
            let (tag, vr, value) = content(1 + index / 3);
            group.put(sequence(tags::FRAME_CONTENT_SEQUENCE, vec![item([us(tag, vr, value)])]));
            group
        };
        object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups.into_iter().enumerate().map(with_content).collect()));
        save(object, &path);
        let listed: Vec<_> = series(&path).expect("stacks").iter().map(|row| (row.choice(), row.apart.clone(), row.slices)).collect();
        assert_eq!(listed, [("1.1".into(), format!("{name} 1"), 3), ("1.2".into(), format!("{name} 2"), 3)]);
        let (slices, _) = read(&path, Some("1.2")).expect("the second");
        assert_eq!(slices[1], hu(2.0).iter().map(|v| v - 400.0).collect::<Vec<_>>(), "frame 4, with its own rescale");
    }
}
