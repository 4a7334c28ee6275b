//! Folders: which files are slices, their order, and the warnings.

use std::fs::{self, File};
use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::make::{ct, hu, put_pixels, save, stored};
use super::{cut, of_modality, other, read, with, with_u16, without};

/// Either the z of each slice in order and parts of the warnings, or parts of the error.
type Expected = Result<(&'static [f64], &'static [&'static str]), &'static [&'static str]>;
type Case = (&'static str, fn(&Path), Expected);

#[test]
fn files_that_are_no_ct_slices_are_left_out_and_reported() {
    check(&[
        ("empty", |_| {}, Err(&["the folder is empty"])),
        ("text", |f| fs::write(f.join("notes.txt"), "hello").unwrap(), Err(&["holds no CT slice; 1 file: no DICOM (notes.txt)"])),
        (
            "sorted by position, not by name or number",
            |f| {
                for (name, z, number) in [("a", 5.0, "1"), ("b.dcm", 2.5, "3"), ("c.txt", 7.5, "2"), ("d", 0.0, "9")] {
                    save(with(ct(z), tags::INSTANCE_NUMBER, VR::IS, number), &f.join(name));
                }
            },
            Ok((&[0.0, 2.5, 5.0, 7.5], &[])),
        ),
        (
            "folders in folders",
            |f| {
                fs::create_dir_all(f.join("x/y")).unwrap();
                save(ct(1.0), &f.join("x/y/1"));
                save(ct(2.0), &f.join("x/1"));
                save(ct(3.0), &f.join("1"));
            },
            Ok((&[1.0, 2.0, 3.0], &[])),
        ),
        (
            "what is no CT slice",
            |f| {
                fs::write(f.join("notes.txt"), "hello").unwrap();
                fs::write(f.join("empty"), "").unwrap();
                save(with(ct(9.0), tags::SOP_CLASS_UID, VR::UI, uids::MEDIA_STORAGE_DIRECTORY_STORAGE), &f.join("DICOMDIR"));
                save(of_modality("PT"), &f.join("pet"));
                save(of_modality("MR"), &f.join("mr"));
                save(with(ct(9.0), tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER"), &f.join("scout"));
                save(with_u16(ct(9.0), tags::SAMPLES_PER_PIXEL, 3), &f.join("dose"));
                save(ct(1.0), &f.join("1"));
                save(ct(2.0), &f.join("2"));
            },
            Ok((
                &[1.0, 2.0],
                &[
                    "left out: 1 file: colour picture (dose); 1 file: localizer (scout)",
                    "1 file: no DICOM (notes.txt)",
                    "left out, as it cannot be used: empty: it is empty",
                    "1 file: modality PT, no CT (pet)",
                    "1 file: modality MR",
                    "1 file: localizer (scout)",
                    "1 file: colour picture (dose)",
                ],
            )),
        ),
        ("only a PET", |f| save(of_modality("PT"), &f.join("pet")), Err(&["holds no CT slice; 1 file: modality PT, no CT (pet)"])),
    ]);
}

#[test]
fn several_series_are_listed() {
    check(&[
        (
            "two series, a PET and a text",
            |f| {
                fs::write(f.join("notes.txt"), "hello").unwrap();
                save(of_modality("PT"), &f.join("pet"));
                (0..3).for_each(|z| save(ct(f64::from(z)), &f.join(format!("a{z}"))));
                (0..2).for_each(|z| save(other(f64::from(z)), &f.join(format!("b{z}"))));
            },
            Err(&[
                "2 CT series are there; choose one",
                "1: Lung, 2 slices of 4 x 6, 0.75 x 0.50 x 1.00 mm, UID ...22",
                "2: Thorax, 3 slices of 4 x 6, 0.75 x 0.50 x 1.00 mm, UID ...1",
            ]),
        ),
        (
            "one series in two sizes",
            |f| {
                save(ct(0.0), &f.join("a"));
                let mut wide = with_u16(ct(1.0), tags::COLUMNS, 3);
                put_pixels(&mut wide, &[0; 12]);
                save(wide, &f.join("b"));
            },
            Err(&["2 stacks of slices are in one CT series", "1 slices of 4 x 6", "1 slices of 4 x 3"]),
        ),
        (
            "one series in two orientations",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(with(ct(1.0), tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "0\\1\\0\\0\\0\\-1"), &f.join("b"));
            },
            Err(&[
                "2 stacks of slices are in one CT series; choose one by its number (`series` 1.1)",
                "1.1: Thorax, orientation 1.00\\0.00\\0.00\\0.00\\1.00\\0.00, 1 slices",
                "1.2: Thorax, orientation 0.00\\1.00\\0.00\\0.00\\0.00\\-1.00, 1 slices",
            ]),
        ),
    ]);
}

#[test]
fn an_uneven_stack_is_read_with_a_warning_that_names_the_place() {
    check(&[
        (
            "a missing slice",
            |f| [0.0, 2.5, 7.5, 10.0].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((
                &[0.0, 2.5, 7.5, 10.0],
                &["slices are 2.50 mm apart, but 5.00 mm between slices 1 and 2 (at -10.0, -20.0, 2.5 mm, 1 missing)"],
            )),
        ),
        (
            "uneven",
            |f| [0.0, 1.0, 2.0, 3.02].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((&[0.0, 1.0, 2.0, 3.02], &["slices are 1.00 mm apart, but 1.02 mm between slices 2 and 3"])),
        ),
        (
            "even within 1 %",
            |f| [0.0, 1.0, 2.0, 3.009].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string()))),
            Ok((&[0.0, 1.0, 2.0, 3.009], &[])),
        ),
        (
            "duplicates",
            |f| {
                let again = |number| with(with(ct(1.0), tags::SOP_INSTANCE_UID, VR::UI, "1.2"), tags::INSTANCE_NUMBER, VR::IS, number);
                let mut first = again("4");
                put_pixels(&mut first, &stored(6.0));
                save(again("5"), &f.join("a"));
                save(first, &f.join("b"));
                [0.0, 2.0].into_iter().for_each(|z| save(ct(z), &f.join(z.to_string())));
            },
            Ok((
                &[0.0, 6.0, 2.0],
                &["1 of 4 slices have the position of another one (the first at -10.0, -20.0, 1.0 mm, a) and are left out"],
            )),
        ),
        (
            "gantry tilt",
            |f| {
                for (i, z) in [0.0, 1.0, 2.0].into_iter().enumerate() {
                    let position = format!("-10\\{}\\{z}", -20.0 + 0.26795 * z);
                    save(with(ct(z), tags::IMAGE_POSITION_PATIENT, VR::DS, &position), &f.join(i.to_string()));
                }
            },
            Ok((&[0.0, 1.0, 2.0], &["gantry tilt: slices are sheared by 15.0 degrees"])),
        ),
        (
            "off the line",
            |f| {
                for (z, x) in [(0.0, -10), (1.0, -7), (2.0, -10)] {
                    save(with(ct(z), tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("{x}\\-20\\{z}")), &f.join(z.to_string()));
                }
            },
            Ok((&[0.0, 1.0, 2.0], &["slice 1 (at -7.0, -20.0, 1.0 mm) is 3.00 mm beside it"])),
        ),
        (
            "no positions",
            |f| (0..2).for_each(|z| save(without(ct(f64::from(z)), tags::IMAGE_POSITION_PATIENT), &f.join(z.to_string()))),
            Err(&["its 2 slices have no ImagePositionPatient or no ImageOrientationPatient: their order is unknown"]),
        ),
    ]);
}

#[test]
fn a_damaged_slice_is_an_error() {
    check(&[
        (
            "cut off",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(ct(1.0), &f.join("b"));
                cut(&f.join("b"), 1);
            },
            Err(&[
                "b: its pixel data is cut off: 1 x 4 x 6 pixels of 16 bits need 48 bytes, 47 are there; repair the file, or move it away",
            ]),
        ),
        (
            "cut off in a series that is not chosen",
            |f| {
                save(ct(0.0), &f.join("a"));
                save(other(1.0), &f.join("b"));
                cut(&f.join("b"), 1);
            },
            Ok((&[0.0], &[])),
        ),
        (
            "cut off before it says what it is",
            |f| {
                save(ct(0.0), &f.join("a"));
                fs::copy(f.join("a"), f.join("b")).unwrap();
                File::options().write(true).open(f.join("b")).unwrap().set_len(140).unwrap();
            },
            Ok((&[0.0], &["left out, as it cannot be used: b: its meta information is damaged"])),
        ),
        (
            "nothing but damage",
            |f| {
                save(ct(0.0), &f.join("a"));
                cut(&f.join("a"), 1);
            },
            Err(&["no CT slice can be read; a: its pixel data is cut off"]),
        ),
    ]);
}

/// Reads a folder of three slices IM0 to IM2 after `make` has changed it.
fn read_after(make: impl Fn(&Path)) -> Result<(Vec<Vec<f32>>, String), String> {
    let folder = tempfile::tempdir().expect("a folder");
    (0..3).for_each(|z| save(ct(f64::from(z)), &folder.path().join(format!("IM{z}"))));
    make(folder.path());
    read(folder.path(), None)
}

/// A defective file is an error if its name looks like a slice's, and is left out with a warning if not.
#[cfg(unix)]
#[test]
fn a_defective_file_that_may_be_a_slice_is_an_error() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    type Make = fn(&Path);
    let kinds: [(&str, Make); 4] = [
        ("a dangling link", |path| symlink("../.git/annex/objects/xx", path).unwrap()),
        ("it is empty", |path| fs::write(path, "").unwrap()),
        ("its meta information is damaged", |path| fs::write(path, [&[0; 128][..], b"DICM\x02\0\0\0UL\x04\0"].concat()).unwrap()),
        ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ];
    for (problem, make) in kinds {
        // Inside the stack, at its end, and in a subfolder.
        for name in ["IM1", "IM2", "IM003", "more/IM3"] {
            let error = read_after(|folder| {
                fs::create_dir_all(folder.join("more")).unwrap();
                let _ = fs::remove_file(folder.join(name));
                make(&folder.join(name));
            });
            let error = error.expect_err(name);
            let file = name.rsplit('/').next().unwrap();
            assert!(error.contains(&format!("{file}: {problem}")) && error.contains("by its name it may be a slice"), "{error}");
        }
        let (slices, warned) = read_after(|folder| make(&folder.join("notes.txt"))).expect("the rest");
        assert_eq!(slices, [0.0, 1.0, 2.0].map(hu));
        assert!(warned.contains(&format!("left out, as it cannot be used: notes.txt: {problem}")), "{warned}");
        // A name unlike the slices' is an error too if the stack has a gap that the file might fill.
        let error = read_after(|folder| {
            save(ct(4.0), &folder.join("IM4"));
            make(&folder.join("other"));
        });
        assert!(error.as_ref().is_err_and(|error| error.contains(&format!("other: {problem}"))), "{error:?}");
        // In the folder of another series, the defective file counts for that series.
        let folder = tempfile::tempdir().expect("a folder");
        ["a", "b"].iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
        (0..3).for_each(|z| save(ct(f64::from(z)), &folder.path().join(format!("a/IM{z}"))));
        save(other(0.0), &folder.path().join("b/IM7"));
        make(&folder.path().join("b/IM8"));
        assert_eq!(read(folder.path(), Some("2")).expect("three slices").0.len(), 3);
        assert!(read(folder.path(), Some("1")).is_err());
        // Without other slices, the error names the defective file.
        let folder = tempfile::tempdir().expect("a folder");
        make(&folder.path().join("IM1"));
        fs::write(folder.path().join("notes.txt"), "hello").unwrap();
        let error = read(folder.path(), None).expect_err("no slice");
        assert!(
            error.contains(&format!("no CT slice can be read; IM1: {problem}")) && error.contains("1 file: no DICOM (notes.txt)"),
            "{error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_slice_without_read_permission() {
    use std::os::unix::fs::PermissionsExt;
    let read = read_after(|folder| {
        fs::set_permissions(folder.join("IM1"), fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read(folder.join("IM1")).is_ok() {
            eprintln!("NOT TESTED: this user reads every file");
            fs::remove_file(folder.join("IM1")).unwrap();
            fs::write(folder.join("IM1"), "").unwrap();
        }
    });
    let error = read.expect_err("a slice is missing");
    assert!(error.contains("IM1: it cannot be read (Permission denied") || error.contains("IM1: it is empty"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_pipes_do_not_block() {
    use std::os::unix::fs::symlink;
    let elsewhere = tempfile::tempdir().expect("a folder");
    (3..5).for_each(|z| save(ct(f64::from(z)), &elsewhere.path().join(format!("IM{z}"))));
    let (slices, warned) = read_after(|folder| {
        symlink(elsewhere.path(), folder.join("linked")).unwrap();
        symlink(folder, folder.join("back")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().expect("mkfifo");
        assert!(pipe.success());
    })
    .expect("five slices");
    assert_eq!(slices, [0.0, 1.0, 2.0, 3.0, 4.0].map(hu));
    assert!(warned.contains("left out, as it cannot be used: back: a link back to a folder that contains it, and 1 more"), "{warned}");
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let error = read(&pipe, None).expect_err("a pipe");
    assert!(error.contains("is a named pipe"), "{error}");
}

fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, make, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path());
        let found = read(folder.path(), None);
        let right = match (&found, expected) {
            (Ok((slices, warned)), Ok((places, warnings))) => {
                *slices == places.iter().map(|&z| hu(z)).collect::<Vec<_>>()
                    && warnings.iter().all(|warning| warned.contains(warning))
                    && warnings.is_empty() == warned.is_empty()
            }
            (Err(error), Err(parts)) => {
                error.starts_with(&format!("input {}: ", folder.path().display())) && parts.iter().all(|part| error.contains(part))
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(unix)]
#[test]
fn a_folder_without_read_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("created");
    save(ct(0.0), &folder.path().join("a"));
    save(ct(1.0), &closed.join("b"));
    let permit = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("permissions");
    permit(0o000);
    if fs::read_dir(&closed).is_ok() {
        eprintln!("NOT TESTED: this user reads every folder");
    } else {
        let error = read(&closed, None).expect_err("no permission");
        assert!(error.contains("the folder cannot be read: Permission denied"), "{error}");
        let (slices, warned) = read(folder.path(), None).expect("the rest");
        assert!(
            slices.len() == 1 && warned.contains("left out, as it cannot be used: closed: a folder that cannot be read (Permission denied"),
            "{warned}"
        );
    }
    permit(0o700);
}
