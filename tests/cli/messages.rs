//! Messages, help and exit codes.

use std::fs;

use meddino::Tensor;

use crate::desk::{Desk, hu, text};

#[test]
fn an_instruction_set_that_the_cpu_lacks_is_refused() {
    let desk = Desk::new();
    for (set, problem) in
        [("sse9", "MEDDINO_CPU: sse9 is no instruction set that meddino knows; this CPU has "), (missing(), "MEDDINO_CPU: ")]
    {
        for line in ["features phantom --size 32 -c seeded:0:micro -o out.safetensors", "devices"] {
            let output = desk.command(line).env("MEDDINO_CPU", set).output().expect("the command starts");
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert!(text(&output.stderr).contains(problem), "{line}: {}", text(&output.stderr));
        }
    }
    assert!(desk.succeed("devices").contains("portable; "));
}

/// A set of another architecture.
fn missing() -> &'static str {
    if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" }
}

#[test]
fn messages_go_to_stderr_and_quiet_leaves_warnings() {
    let desk = Desk::new();
    let loud = desk.run("features phantom --size 32 -c seeded:0:micro");
    assert_eq!(text(&loud.stdout), "phantom.features.safetensors\n");
    let messages = text(&loud.stderr);
    assert!(messages.contains("untrained") && messages.contains("1 image of 32 x 32"), "{messages}");
    let quiet = text(&desk.run("features phantom --size 32 -c seeded:0:micro --quiet").stderr);
    assert!(quiet.contains("untrained") && !quiet.contains("1 image"), "{quiet}");
}

/// Each case: the command line, the exit code, and a part of the message. The command prints one line of error, does
/// not panic, and leaves no file.
#[test]
fn errors_are_reported_in_one_line() {
    let desk = Desk::new();
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    desk.npy("fine.npy", &hu(1, 32, 32));
    desk.npy("one.npy", &Tensor::zeros([1, 1]));
    desk.npy_of("empty.npy", &header("(0, 32, 32)"), &[]);
    desk.npy_of("negative.npy", &header("(-4, -4)"), &f32s(&[0.0; 16]));
    desk.npy_of("huge.npy", &header("(1099511627776, 512, 512)"), &[]);
    let mut nan = hu(3, 32, 32);
    nan.data_mut()[2 * 1024 + 33] = f32::NAN;
    desk.npy("nan.npy", &nan);
    nan.data_mut()[2 * 1024 + 33] = f32::INFINITY;
    desk.npy("inf.npy", &nan);
    fs::write(desk.path("picture.png"), b"\x89PNG\r\n\x1a\n").expect("written");
    fs::write(desk.path("noise.pth"), [7; 999]).expect("written");
    fs::write(desk.path("scan.mnc"), "NRRD0004\n").expect("written");
    desk.images("two_channels.safetensors", &Tensor::zeros([1, 2, 32, 32]));
    desk.images("fine.safetensors", &Tensor::zeros([1, 3, 32, 32]));
    let before = desk.files();

    let micro = "-c seeded:0:micro";
    let cases = [
        (format!("features empty.npy {micro}"), 1, "error: input empty.npy: the array is empty"),
        (format!("features one.npy {micro}"), 1, "1 x 1 pixels hold no patch of 16 x 16"),
        (format!("features negative.npy {micro}"), 1, "error: input negative.npy: "),
        (format!("features huge.npy {micro}"), 1, "slices are beyond 16777216"),
        (format!("features nan.npy {micro}"), 1, "slice 2 holds 1 values that are no HU, the first at row 1, column 1: NaN"),
        (format!("features inf.npy {micro}"), 1, "column 1: inf"),
        (format!("features picture.png {micro}"), 1, "no HU"),
        (format!("features scan.mnc {micro}"), 1, "not a scan that can be read: expected a name ending in .npy"),
        (format!("features missing.nrrd {micro}"), 1, "error: input missing.nrrd: "),
        (format!("features missing.npy {micro}"), 1, "error: input missing.npy: "),
        (format!("features two_channels.safetensors {micro}"), 1, "this model takes [B, 3, H, W] or [B, 1, H, W]"),
        (format!("features noise.pth {micro}"), 1, "error: input noise.pth: "),
        ("features phantom".into(), 1, "--checkpoint seeded:0 uses untrained weights"),
        ("features phantom -c noise.pth".into(), 1, "error: checkpoint noise.pth: "),
        ("features phantom -c seeded:x".into(), 1, "seeded:N"),
        (format!("features phantom {micro} --layers 2"), 1, "there is no block 2: this model has blocks 0 to 1"),
        (format!("features fine.npy {micro} --size 8"), 1, "8 x 8 pixels hold no patch"),
        (format!("features fine.npy {micro} -o no/such/out.safetensors"), 1, "there is no folder no/such"),
        (format!("features fine.npy {micro} -o ."), 1, "error: output .: "),
        (format!("features fine.safetensors {micro} -o fine.safetensors"), 1, "would take the place of the input"),
        ("inspect noise.pth".into(), 1, "error: checkpoint noise.pth: "),
        ("convert noise.pth -o out.safetensors".into(), 1, "error: checkpoint noise.pth: "),
        ("convert seeded:0:micro -o no/such/out.safetensors".into(), 1, "error: output no/such/out.safetensors: "),
        ("demo -o fine.npy".into(), 1, "error: output fine.npy: "),
        (format!("features fine.npy {micro} --size 0"), 2, "'0' is neither native, nor N, nor HxW"),
        (format!("features fine.npy {micro} --tokens cls,eyes"), 2, "possible values: cls, storage, patch, prenorm"),
        (format!("features fine.npy {micro} --layers x"), 2, "--layers"),
        (format!("features fine.npy {micro} --rope f64"), 2, "possible values: auto, bf16, f32"),
        ("features".into(), 2, "<INPUT>"),
        ("convert seeded:0:micro".into(), 2, "--output"),
        ("convert seeded:0:micro -o x.safetensors --dtype i8".into(), 2, "possible values: f32, f16, bf16"),
        ("teleport".into(), 2, "unrecognized subcommand"),
    ];
    let mut wrong = Vec::new();
    for (line, code, expected) in cases {
        let output = desk.run(&line);
        let stderr = text(&output.stderr);
        let errors = stderr.lines().filter(|l| l.starts_with("error: ")).count();
        // Besides the error there may be warnings. Lines after clap's error are its advice.
        let one_line = code == 2 || stderr.lines().all(|l| l.starts_with("error: ") || l.starts_with("warning: "));
        if output.status.code() != Some(code) || !stderr.contains(expected) || errors != 1 || !one_line || !output.stdout.is_empty() {
            wrong.push(format!("{line}: expected {code} and {expected:?}, found {:?}\n{stderr}", output.status.code()));
        }
        if desk.files() != before {
            wrong.push(format!("{line}: left {:?}", desk.files()));
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[cfg(unix)]
fn a_closed_or_full_stdout_is_no_panic() {
    let desk = Desk::new();
    for line in ["inspect seeded:0:micro", "--help", "features phantom --size 32 -c seeded:0:micro"] {
        // The reading end is closed before the command starts.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = desk.command(line).stdout(writer).stderr(std::process::Stdio::piped()).output().expect("started");
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{line}: {}", text(&output.stderr));
    }
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let output = desk.command("inspect seeded:0:micro").stdout(full).output().expect("started");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with("error: output stdout: "), "{}", text(&output.stderr));
    }
}

#[test]
fn help_and_version_are_results() {
    let desk = Desk::new();
    assert_eq!(desk.succeed("--version"), format!("meddino {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["features", "inspect", "convert", "demo"] {
        assert!(desk.succeed("--help").contains(command));
        assert!(desk.succeed(&format!("{command} --help")).contains("Usage: meddino"));
    }
}

/// Every command and flag is in the scripts and in the pages, as it is in `--help`.
#[test]
fn completions_and_the_manual_know_every_command() {
    let desk = Desk::new();
    let commands_of = |command: &str| -> Vec<String> {
        let help = desk.succeed(&format!("{command} --help"));
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // A command's line starts with two spaces, lines of its description with more.
        let names = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(|name| format!("{command} {name}").trim().to_owned()).collect()
    };
    let commands = commands_of("");
    assert!(commands.len() > 12, "{commands:?}");
    for (shell, its_own) in [
        ("bash", "complete -F _meddino"),
        ("elvish", "edit:completion"),
        ("fish", "complete -c meddino"),
        ("powershell", "Register-ArgumentCompleter"),
        ("zsh", "#compdef meddino"),
    ] {
        let script = desk.succeed(&format!("completions {shell}"));
        assert!(script.contains(its_own), "{shell}: {script}");
        assert!(commands.iter().all(|command| script.contains(command.as_str())) && script.contains("save-probabilities"), "{shell}");
    }
    // The format of `man` escapes each hyphen.
    let escaped = |name: &str| text(name.replace('-', "\\-").as_bytes());
    let whole = desk.succeed("man");
    assert!(whole.starts_with(".ie") && whole.contains(".TH meddino 1"), "{whole}");
    assert!(commands.iter().all(|command| whole.contains(&escaped(&format!("meddino-{command}(1)")))), "{whole}");
    let parts: Vec<String> = commands.iter().flat_map(|command| commands_of(command)).collect();
    assert!(parts.iter().any(|part| part == "probe fit"), "{parts:?}");
    for command in commands.iter().chain(&parts) {
        let (page, help) = (desk.succeed(&format!("man {command}")), desk.succeed(&format!("{command} --help")));
        assert!(page.contains(&format!(".TH meddino-{} 1", command.replace(' ', "-"))), "{page}");
        for flag in
            help.split_whitespace().filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()))
        {
            assert!(page.contains(&escaped(flag)), "{command} {flag}: {page}");
        }
    }
    let wrong = desk.run("man teleport");
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("expected one of features"), "{}", text(&wrong.stderr));
    let wrong = desk.run("man features all");
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("expected no more names"), "{}", text(&wrong.stderr));
}
