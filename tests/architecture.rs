//! The rules of ARCHITECTURE.md that a test can check: which room may import which, and where names and texts may
//! appear.

#[path = "architecture/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

use circles::Crate;

/// Each room of `src/`, and the rooms it may import. Only the command line may import a room that is not listed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("advice", &[]),
    ("count", &[]),
    ("parallel", &[]),
    ("tensor", &["count", "parallel"]),
    ("graph", &["error", "advice"]),
    ("archive", &["error", "count", "tensor"]),
    ("hub", &["error", "archive"]),
    ("checkpoint", &["error", "tensor", "parallel", "archive"]),
    ("kernels", &["error", "advice", "count", "graph"]),
    ("vit", &["error", "advice", "count", "tensor", "checkpoint", "graph", "kernels"]),
    ("cpu", &["error", "tensor", "vit"]),
    ("heads", &["error", "tensor", "parallel", "cpu"]),
    ("gpu", &["error", "advice", "tensor", "parallel", "graph", "kernels", "vit"]),
    ("ct", &["error", "count", "tensor", "parallel", "archive", "vit"]),
    ("verify", &["error", "tensor", "archive", "vit", "backbone"]),
    ("maps", &["error", "tensor", "archive", "vit"]),
    ("picture", &["error", "tensor", "archive", "ct", "maps"]),
    ("output", &["error", "count", "tensor", "archive", "vit", "ct"]),
    ("backbone", &["error", "advice", "tensor", "graph", "vit", "cpu", "gpu"]),
    ("embedding", &["error", "count", "tensor", "gpu", "graph", "kernels", "vit", "ct", "maps"]),
    ("nnunet", &["error", "tensor", "parallel", "archive", "checkpoint", "vit", "ct"]),
    ("segmenter", &["error", "count", "tensor", "vit", "cpu", "gpu", "backbone", "nnunet"]),
    ("fitted", &["error", "tensor", "archive", "vit", "ct", "heads", "output"]),
    (
        "jobs",
        &[
            "error",
            "count",
            "tensor",
            "heads",
            "archive",
            "hub",
            "checkpoint",
            "vit",
            "ct",
            "maps",
            "output",
            "backbone",
            "nnunet",
            "segmenter",
            "fitted",
        ],
    ),
];

/// Each text, and the only rooms in which it may appear.
const MAY_SAY: &[(&str, &[&str])] = &[
    ("wgpu::", &["gpu", "embedding"]),
    ("include_str!", &["kernels", "lib"]),
    ("blocks.{", &["checkpoint", "vit", "cpu", "gpu", "cli"]),
    ("ureq::", &["hub"]),
    ("println!", &["cli", "main"]),
    // Submissions and polls are counted where they are made, in gpu/context.rs.
    ("queue().submit", &[]),
    // Only the recorder appends shaders without run-time checks. The graph states the conditions.
    ("push_unchecked(", &["kernels", "graph"]),
    ("create_shader_module_trusted", &["gpu"]),
    ("device().poll", &[]),
];

/// Returns the files with this extension in a folder and in all folders below it.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files(&path, extension) } else { vec![path] }
        })
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect()
}

/// (room, path, code without comments and unit tests)
fn sources() -> Vec<(String, String, String)> {
    sources_of("src")
}

fn sources_of(folder: &str) -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(&src).expect("under the folder").to_owned();
        let room = relative.components().next().expect("a name").as_os_str().to_string_lossy().trim_end_matches(".rs").to_string();
        let text = fs::read_to_string(&path).expect("a source");
        (room, relative.display().to_string(), without_tests(&text))
    };
    files(&src, "rs").into_iter().map(read).collect()
}

/// Returns the lines that are neither comments nor a module of unit tests at the end of the file.
fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let is_test = |at: &usize| {
        lines[*at] == "#[cfg(test)]"
            && lines[at + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len()).find(is_test).unwrap_or(lines.len());
    lines[..end].join("\n")
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else { continue };
        for piece in code.split("crate::").skip(1) {
            let imported: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_room = imported.chars().next().is_some_and(char::is_lowercase);
            if is_room && imported != room && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{path} imports {imported}"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports must point down:\n{}", wrong.join("\n"));
}

#[test]
fn no_module_uses_one_that_uses_it() {
    let files = sources();
    let library = Crate::new(files.iter().filter(|(room, ..)| room != "main").map(|(_, path, code)| (path.as_str(), code.as_str())));
    let circles_of = |folder: &str| {
        let files = sources_of(folder);
        Crate::new(files.iter().map(|(_, path, code)| (path.as_str(), code.as_str()))).circles()
    };
    let circles = [library.circles(), circles_of("viewer/src"), circles_of("python/src"), circles_of("web/src")].concat();
    let circles: Vec<String> = circles.iter().map(|circle| circle.join(", ")).collect();
    assert!(
        circles.is_empty(),
        "these modules use each other in a circle (move what they share into a module below them):\n{}",
        circles.join("\n")
    );
}

/// The modules of the library that `viewer/` may mention: the room for hosts of a device, and what a guest needs for
/// scans, maps, pictures, checkpoints and heads. The parts of a pass stay behind `embedding`.
const VIEWER_MAY_IMPORT: &[&str] = &[
    "embedding",
    "ct",
    "maps",
    "picture",
    "hub",
    "checkpoint",
    "vit::layers",
    "vit::model",
    "vit::source",
    "error",
    "tensor",
    "fitted",
    "heads",
    "output",
    "jobs::Case",
    "jobs::View",
    "jobs::fit_marks",
    "jobs::name_text",
    "jobs::targets",
    "Error",
    "Result",
    "Tensor",
];

#[test]
fn the_viewer_runs_on_embedding() {
    let files = sources_of("viewer/src");
    let viewer = Crate::new(files.iter().map(|(_, path, code)| (path.as_str(), code.as_str())));
    let names = viewer.names_of("meddino");
    assert!(names.iter().any(|(_, name)| name.starts_with("embedding::")), "{names:?}");
    let is_allowed = |name: &str| VIEWER_MAY_IMPORT.iter().any(|may| name == *may || name.starts_with(&format!("{may}::")));
    let wrong = names.iter().filter(|(_, name)| !is_allowed(name)).map(|(module, name)| format!("{module} mentions {name}"));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "the viewer may mention {VIEWER_MAY_IMPORT:?} alone:\n{}", wrong.join("\n"));
}

#[test]
fn some_words_have_their_rooms() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        for (text, rooms) in MAY_SAY {
            if code.contains(text) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{path} says {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The library names parameters in backticks; the command line prints them as its flags.
#[test]
fn the_library_names_no_flag() {
    let is_flag = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let below = sources().into_iter().filter(|(room, ..)| !["cli", "main"].contains(&room.as_str()));
    let lines = below.flat_map(|(_, path, code)| code.lines().map(|line| format!("{path}: {}", line.trim())).collect::<Vec<_>>());
    let wrong: Vec<_> = lines.filter(|line| line.split("--").skip(1).any(is_flag)).collect();
    assert!(wrong.is_empty(), "name the parameter in backticks (`size`), not the flag:\n{}", wrong.join("\n"));
}

/// A kernel's noun names shaders/X.wgsl, kernels/X.rs, one test table and one bench row. Its counterpart on the CPU is
/// in cpu/X.rs or, if what it computes is not part of the model, in ct/X.rs or maps/X.rs.
#[test]
fn a_kernel_has_one_name_everywhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text_of =
        |folder: &str| -> String { files(&root.join(folder), "rs").iter().map(|f| fs::read_to_string(f).expect("a source")).collect() };
    let (tests, benches) = (text_of("tests"), text_of("benches"));
    let mut missing = Vec::new();
    let mut kernels = 0;
    for entry in fs::read_dir(root.join("shaders")).expect("shaders/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "wgsl") {
            continue;
        }
        kernels += 1;
        let noun = path.file_stem().expect("a name").to_string_lossy().to_string();
        for rooms in [&["kernels"][..], &["cpu", "ct", "maps"]] {
            let found = rooms.iter().any(|room| root.join(format!("src/{room}/{noun}.rs")).exists());
            missing.extend((!found).then(|| format!("{noun}.rs in {}", rooms.join(", "))));
        }
        missing.extend(
            [("a test", &tests), ("a bench", &benches)]
                .iter()
                .filter(|(_, text)| !text.contains(&noun))
                .map(|(what, _)| format!("{what} of {noun}")),
        );
    }
    assert!(kernels > 0, "no shader found");
    assert!(missing.is_empty(), "the same-name law is broken: {missing:?}");
}

/// A command that reads only the start of a pipe ends before the one that writes it, which may then be ended by a signal. With
/// `pipefail`, which all scripts set, the script ends there now and then, without a word.
#[test]
fn scripts_read_pipes_to_their_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["benches", "fuzz", "packaging", "python", "tests", "viewer", "web"];
    let mut scripts: Vec<PathBuf> = folders.iter().flat_map(|folder| files(&root.join(folder), "sh")).collect();
    scripts.push(root.join(".ci/run"));
    assert!(scripts.len() > 10, "{scripts:?}");
    let mut wrong = Vec::new();
    for script in scripts {
        let text = fs::read_to_string(&script).expect("a script").replace("||", "or").replace("|\n", "| ");
        let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        wrong.extend(
            code.filter(|line| line.split('|').skip(1).any(ends_early)).map(|line| format!("{}: {}", script.display(), line.trim())),
        );
    }
    assert!(wrong.is_empty(), "these read only the start of a pipe (take `sed -n 1p`, or `grep … >/dev/null`):\n{}", wrong.join("\n"));
}

/// Whether a command of a shell, as far as a glance tells, stops before the end of its input.
fn ends_early(command: &str) -> bool {
    let mut words = command.split_whitespace();
    match words.next() {
        Some("head") => true,
        Some("grep") => words.take_while(|word| word.starts_with('-')).any(|word| !word.starts_with("--") && word.contains(['q', 'm'])),
        Some("sed") => words.any(|word| word.trim_matches(['\'', '"', ')']).ends_with('q')),
        Some("awk") => command.contains("exit"),
        _ => false,
    }
}

#[test]
fn commands_that_stop_early_are_known() {
    for early in [" head -n 1)", " grep -q x", " grep -Eq x", " grep -om1 x", " sed 1q", " sed -n '1p;q'", " awk '{ print; exit }'"] {
        assert!(ends_early(early), "{early}");
    }
    for whole in [" sed -n 1p)", " grep -o quiet", " sort -rn", " awk 'on && !NF { on = 0 }'", " sed 's/q/m/'"] {
        assert!(!ends_early(whole), "{whole}");
    }
}
