//! The `meddino` command as users run it: files in and out, messages, exit codes.
#![cfg(feature = "cli")]

mod common;
#[path = "common/desk.rs"]
mod desk;
mod device;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::Golden;
use desk::{Desk, hu, text};
use meddino::Tensor;
use meddino::cpu::{Bf16, InstructionSet};
use meddino::ct::{Size, Volume, Window, prepare};
use meddino::graph::{Elem, Tier};
use meddino::vit::config::{Config, Grid, RopePrecision};
use meddino::vit::features::Features;

#[test]
fn images_give_the_features_of_pytorch() {
    let golden = Golden::open("tiny_b3_70x115_rope-f32");
    let desk = Desk::new();
    desk.images("image.safetensors", &golden.image);
    desk.succeed(
        "features image.safetensors -c seeded:0:tiny --rope f32 --tokens cls,storage,patch,prenorm --layers 0,2 -o out.safetensors",
    );
    let (mut tensors, metadata) = desk.read("out.safetensors");
    let config = Config::tiny();
    let grid = Grid { rows: 4, cols: 7 };
    // Joins the file's three kinds of tokens again: [B, T, C].
    let parts = [&tensors["x_norm_clstoken"], &tensors["x_storage_tokens"], &tensors["x_norm_patchtokens"]];
    let image = |b: usize| parts.iter().flat_map(move |t| t.data().chunks_exact(t.data().len() / 3).nth(b).expect("three images"));
    let x_norm = (0..3).flat_map(image).copied().collect();
    let features = Features {
        grid,
        x_norm: Tensor::new([3, config.prefix_tokens() + grid.patches(), config.embed_dim], x_norm),
        x_prenorm: tensors.remove("x_prenorm"),
        layers: [0, 2].map(|n| (n, tensors.remove(&format!("layers.{n}")).expect("asked for"))).to_vec(),
        taps: Vec::new(),
    };
    for (name, l2, largest) in golden.compare(&features) {
        assert!(l2 <= 2e-6 && largest <= 1e-3, "{name}: relative L2 {l2:.2e}, largest error {largest:.2e}");
    }
    assert_eq!(golden.rope, RopePrecision::F32);
    assert_eq!(metadata["rope"], "f32");
    assert_eq!(metadata["grid"], "[4,7]");
    assert_eq!(metadata["image"], "[70,115]");
    assert!(metadata["preprocessing"].contains("normalised"), "{}", metadata["preprocessing"]);
}

#[test]
fn a_scan_gives_the_features_of_its_prepared_slices() {
    let desk = Desk::new();
    let volume = hu(3, 40, 56);
    desk.npy("scan.npy", &volume);
    let mut scan = Volume::from_hu("scan", volume).expect("a volume");
    for (size, parsed) in [("native", Size::Native), ("32", Size::Square(32)), ("48x33", Size::Exact { height: 48, width: 33 })] {
        let slices: Vec<Tensor> = (0..3).map(|i| prepare(&scan.read_slice(i).expect("a slice"), &Window::DEMO, parsed)).collect();
        let [_, _, h, w] = slices[0].shape()[..] else { panic!("an image") };
        let pixels = slices.iter().flat_map(Tensor::data).copied().collect();
        desk.images("images.safetensors", &Tensor::new([3, 1, h, w], pixels));
        desk.succeed(&format!("features scan.npy -c seeded:0:micro --size {size} -o a.safetensors"));
        desk.succeed("features images.safetensors -c seeded:0:micro -o b.safetensors");
        let ((a, _), (b, _)) = (desk.read("a.safetensors"), desk.read("b.safetensors"));
        assert_eq!(a.len(), 3);
        assert_eq!(a["x_norm_patchtokens"].shape(), [3, (h / 16) * (w / 16), 64], "{size}");
        assert!(a == b, "{size}: the same slices give the same features");
    }
}

#[test]
fn the_file_records_its_origin() {
    let desk = Desk::new();
    desk.npy("case_0001.npy", &hu(1, 32, 48).reshaped([32, 48]));
    let stdout = desk.succeed("features case_0001.npy -c seeded:3:micro");
    assert_eq!(stdout, "case_0001.features.safetensors\n");
    let (tensors, metadata) = desk.read("case_0001.features.safetensors");
    let mut shapes: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t.shape().to_vec())).collect();
    shapes.sort();
    assert_eq!(shapes, [("x_norm_clstoken", vec![1, 64]), ("x_norm_patchtokens", vec![1, 6, 64]), ("x_storage_tokens", vec![1, 4, 64])]);
    for (name, value) in [
        ("meddino", env!("CARGO_PKG_VERSION")),
        ("input", "case_0001.npy"),
        ("image", "[32,48]"),
        ("grid", "[2,3]"),
        ("patch_size", "16"),
        ("rope", "bf16"),
        ("norm_eps", "0.000001"),
        ("checkpoint", "seeded:3:micro"),
    ] {
        assert_eq!(metadata[name], value, "{name}");
    }
    let preprocessing: serde_json::Value = serde_json::from_str(&metadata["preprocessing"]).expect("JSON");
    assert_eq!(preprocessing["clamp_hu"], serde_json::json!([-1000.0, 1000.0]));
    assert!(!metadata.contains_key("checkpoint_sha256"), "seeded weights have no file");
    assert_eq!(desk.files(), ["case_0001.features.safetensors", "case_0001.npy"], "nothing else is left behind");

    // The same input gives the same file, to the last byte.
    desk.succeed("features case_0001.npy -c seeded:3:micro -o again.safetensors");
    assert_eq!(
        fs::read(desk.path("again.safetensors")).expect("read"),
        fs::read(desk.path("case_0001.features.safetensors")).expect("read")
    );
}

#[test]
fn a_converted_checkpoint_gives_the_same_features_and_its_hash() {
    let desk = Desk::new();
    assert_eq!(desk.succeed("convert seeded:0:micro -o micro.safetensors"), "micro.safetensors\n");
    desk.succeed("features phantom --size 32 -c seeded:0:micro -o a.safetensors");
    desk.succeed("features phantom --size 32 -c micro.safetensors -o b.safetensors");
    let ((a, _), (b, metadata)) = (desk.read("a.safetensors"), desk.read("b.safetensors"));
    assert!(a == b, "the same weights give the same features");
    let hash = sha256(&desk.path("micro.safetensors"));
    assert_eq!(metadata["checkpoint_sha256"], hash);
    for dtype in ["f16", "bf16"] {
        desk.succeed(&format!("convert seeded:0:micro -o half.safetensors --dtype {dtype}"));
        assert!(desk.succeed("inspect half.safetensors").contains(&format!("(33 {dtype})")));
    }
}

/// The instruction sets that round a product and a sum once give the same bits, and an unfinished file of one may be
/// finished by another.
#[test]
fn fused_instruction_sets_give_the_same_features() {
    let desk = Desk::new();
    let of = |set: InstructionSet| {
        let line = format!("features phantom --size 96 -c seeded:0:tiny -o {set}.safetensors");
        let output = desk.command(&line).env("MEDDINO_CPU", set.to_string()).output().expect("the command starts");
        assert!(output.status.success(), "{set}: {}", text(&output.stderr));
        desk.read(&format!("{set}.safetensors")).0
    };
    let fused = |set: &InstructionSet| set.is_fused();
    let features: Vec<_> = InstructionSet::of_this_cpu().filter(fused).map(of).collect();
    assert!(features.windows(2).all(|two| two[0] == two[1]), "the features differ");
    assert!(features.is_empty() || of(InstructionSet::Portable) != features[0], "the variable chooses nothing");
}

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

fn sha256(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    format!("{:x}", Sha256::digest(fs::read(path).expect("read")))
}

#[test]
fn rope_precision_can_be_chosen() {
    let desk = Desk::new();
    for rope in ["auto", "bf16", "f32"] {
        desk.succeed(&format!("features phantom --size 64 -c seeded:0:tiny --rope {rope} -o {rope}.safetensors"));
    }
    let read = |name: &str| desk.read(name);
    let ((auto, auto_metadata), (bf16, _), (f32, f32_metadata)) =
        (read("auto.safetensors"), read("bf16.safetensors"), read("f32.safetensors"));
    assert!(auto == bf16 && auto != f32);
    assert_eq!((auto_metadata["rope"].as_str(), f32_metadata["rope"].as_str()), ("bf16", "f32"));
}

#[test]
fn tokens_and_layers_are_those_requested() {
    let desk = Desk::new();
    for (flags, names) in [
        ("--tokens patch", vec!["x_norm_patchtokens"]),
        ("--tokens prenorm,cls,cls", vec!["x_norm_clstoken", "x_prenorm"]),
        ("--tokens cls --layers 1,0,1", vec!["layers.0", "layers.1", "x_norm_clstoken"]),
    ] {
        desk.succeed(&format!("features phantom --size 32 -c seeded:0:micro -o out.safetensors {flags}"));
        let (tensors, _) = desk.read("out.safetensors");
        let mut found: Vec<_> = tensors.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, names, "{flags}");
    }
}

#[test]
fn inspect_prints_text_and_json() {
    let desk = Desk::new();
    assert!(desk.succeed("inspect seeded:0").contains("85641984"));
    let json: serde_json::Value = serde_json::from_str(&desk.succeed("inspect seeded:5:micro --json")).expect("JSON");
    assert_eq!(json["config"]["embed_dim"], 64);
    assert_eq!(json["config"]["norm_eps"], 1e-6);
    assert_eq!(json["parameters"], 149_568);
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
        let output = desk.command(line).stdout(writer).stderr(Stdio::piped()).output().expect("started");
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
fn demo_writes_features_and_pictures() {
    let desk = Desk::new();
    let printed = desk.succeed("demo -o new/folder");
    for word in ["phantom", "seeded:0", "224 x 224", "196 patches", "written"] {
        assert!(printed.contains(word), "{printed}");
    }
    let (tensors, _) = desk.read("new/folder/phantom.features.safetensors");
    assert_eq!(tensors["x_norm_patchtokens"].shape(), [1, 196, 768]);
    for picture in ["new/folder/phantom.pca.png", "new/folder/phantom.similarity.png"] {
        assert!(printed.contains(picture) && desk.path(picture).is_file(), "{printed}");
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
    let commands: Vec<String> = {
        let help = desk.succeed("--help");
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // A command's line starts with two spaces, lines of its description with more.
        listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()).map(Into::into).collect()
    };
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
    for command in commands.iter().filter(|command| *command != "help") {
        assert!(whole.contains(&escaped(&format!("meddino-{command}(1)"))), "{command}: {whole}");
        let (page, help) = (desk.succeed(&format!("man {command}")), desk.succeed(&format!("{command} --help")));
        assert!(page.contains(&format!(".TH meddino-{command} 1")), "{page}");
        for flag in
            help.split_whitespace().filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()))
        {
            assert!(page.contains(&escaped(flag)), "{command} {flag}: {page}");
        }
    }
    let wrong = desk.run("man teleport");
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("expected one of features"), "{}", text(&wrong.stderr));
}

#[test]
fn bench_reports_its_measurements() {
    let desk = Desk::new();
    let line = "bench -c seeded:0:micro --backend cpu --size 48 --batch 2 --runs 3";
    let table = desk.succeed(line);
    assert!(["device", "time", "speed", "GFLOP/s", "memory"].iter().all(|word| table.contains(word)), "{table}");
    let json: serde_json::Value = serde_json::from_str(&desk.succeed(&format!("{line} --json"))).expect("JSON");
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} is a number: {json:#}"));
    assert!(0.0 < number("min_s") && number("min_s") <= number("median_s"), "{json:#}");
    assert_eq!(["size", "batch", "runs"].map(|key| json[key].as_u64()), [Some(48), Some(2), Some(3)]);
    let flops = Config::micro().product_flops(1, Grid { rows: 3, cols: 3 }) as f64;
    assert!((number("gflop") * 1e9 / flops - 1.0).abs() < 1e-9);
    assert!((number("gflop_per_s") * number("median_s") / number("gflop") - 1.0).abs() < 1e-9);
    assert!((number("matmul_share") * number("matmul_gflop_per_s") / number("gflop_per_s") - 1.0).abs() < 1e-9);
    // The product that a pass is compared with cannot be held to a lower instruction set.
    if let Some(lower) = InstructionSet::of_this_cpu().nth(1) {
        let output = desk.command(&format!("{line} --json")).env("MEDDINO_CPU", lower.to_string()).output().expect("it starts");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(json["matmul_share"].is_null() && json["matmul_gflop_per_s"].is_null(), "{json:#}");
    }
    assert!(number("threads") >= 1.0 && json["device"].as_str().is_some_and(|device| device.starts_with("CPU")));
    // Where the system reports memory, the process held at least its weights.
    assert!(json["peak_bytes"].is_null() && !cfg!(target_os = "linux") || number("peak_bytes") > 1e6);

    let refused = desk.run("bench -c seeded:0:micro --backend cpu --size 8");
    assert!(!refused.status.success() && text(&refused.stderr).contains("no patch"), "{}", text(&refused.stderr));
}

#[test]
fn kernels_are_those_requested_or_refused_by_name() {
    let desk = Desk::new();
    let bench = "bench -c seeded:0:micro --size 32 --runs 1 --json";
    for (wrong, words) in [
        ("--backend cpu --precision f16", ["--precision", "--backend gpu"]),
        ("--backend cpu --tier baseline", ["--tier", "--backend gpu"]),
    ] {
        let refused = desk.run(&format!("{bench} {wrong}"));
        let message = text(&refused.stderr);
        assert!(refused.status.code() == Some(1) && words.iter().all(|word| message.contains(word)), "{wrong}: {message}");
    }
    let bf16 = desk.run(&format!("{bench} --backend cpu --precision bf16"));
    if Bf16::here().is_some() {
        let report: serde_json::Value = serde_json::from_slice(&bf16.stdout).expect("JSON");
        assert_eq!(report["precision"].as_str(), Some("bf16"), "{report:#}");
    } else {
        assert!(bf16.status.code() == Some(1) && text(&bf16.stderr).contains("AVX512-BF16"), "{}", text(&bf16.stderr));
    }
    let refused = desk.run(&format!("{bench} --backend gpu --tier warp"));
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("cooperative16"), "{}", text(&refused.stderr));
    let Some(context) = device::context() else { return };
    let refused = desk.run(&format!("{bench} --backend gpu --precision bf16"));
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("--backend cpu"), "{}", text(&refused.stderr));
    for (tier, elem) in Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]) {
        let line = format!("{bench} --backend gpu --tier {tier} --precision {}", elem.name());
        let ran = desk.run(&line);
        if context.abilities().run(tier, elem) {
            let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
            assert_eq!((report["tier"].as_str(), report["precision"].as_str()), (Some(tier.name()), Some(elem.name())), "{report:#}");
        } else {
            let message = text(&ran.stderr);
            assert!(ran.status.code() == Some(1) && message.contains("baseline (f32"), "{line}: {message}");
        }
    }
}

#[test]
fn on_a_gpu_bench_times_the_pass_alone() {
    let desk = Desk::new();
    let line = "bench -c seeded:0:micro --size 32 --runs 3";
    let json = |more: &str| -> serde_json::Value { serde_json::from_str(&desk.succeed(&format!("{line} --json {more}"))).expect("JSON") };
    assert!(json("--backend cpu")["device_s"].is_null(), "the CPU has nothing but the pass");
    if device::context().is_none() {
        return;
    }
    let report = json("--backend gpu --batch 2");
    let seconds = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} is a number: {report:#}"));
    // Transfers of this size cost little beside the pass, but a busy machine may slow down one measurement and not the
    // other.
    assert!(0.0 < seconds("device_s") && seconds("device_s") < 5.0 * seconds("median_s"), "{report:#}");
    assert!(desk.succeed(&format!("{line} --backend gpu")).contains("s the pass alone on the device (median)"));
}

#[test]
fn bench_takes_a_volume_as_features_does() {
    let desk = Desk::new();
    let line = "bench -c seeded:0:micro --size 32 --slices 37 --batch 4";
    let run = |more: &str| {
        let output = desk.command(&format!("{line} {more}")).env("TMPDIR", desk.path("")).output().expect("the command starts");
        assert!(output.status.success(), "{more}: {}", text(&output.stderr));
        assert!(desk.files().is_empty(), "{:?} is left", desk.files());
        text(&output.stdout)
    };
    let json = |more: &str| -> serde_json::Value { serde_json::from_str(&run(&format!("--json {more}"))).expect("JSON") };
    let report = json("--backend cpu");
    assert_eq!(["slices", "batch", "size"].map(|key| report[key].as_u64()), [Some(37), Some(4), Some(32)], "{report:#}");
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} is a number: {report:#}"));
    assert!((number("slices_per_s") * number("seconds") / 37.0 - 1.0).abs() < 1e-9, "{report:#}");
    assert!(report["gpu_idle_share"].is_null(), "there is no GPU: {report:#}");
    assert!(run("--backend cpu").contains("slices per second"));
    let refused = desk.run(&format!("{line} --runs 3"));
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("--runs"), "{}", text(&refused.stderr));

    let Some(context) = device::context() else { return };
    let (report, table) = (json("--backend gpu"), run("--backend gpu"));
    if context.device().features().contains(meddino::gpu::wgpu::Features::TIMESTAMP_QUERY) {
        let idle = report["gpu_idle_share"].as_f64().unwrap_or_else(|| panic!("a share: {report:#}"));
        assert!((0.0..1.0).contains(&idle), "{report:#}");
        assert!(table.contains("% of the time from the first pass to the last"), "{table}");
    } else {
        assert!(report["gpu_idle_share"].is_null() && table.contains("no timestamps"), "{report:#}\n{table}");
    }
}

#[test]
fn a_profile_is_written_as_json() {
    let desk = Desk::new();
    // Without `Desk::command`, which runs on the CPU.
    let line = "-q features phantom -c seeded:0:tiny --size 64 --backend gpu --profile-json profile.json";
    let refused = desk.run(&format!("{line} --out-dir out"));
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("--profile-json"), "{}", text(&refused.stderr));
    let Some(context) = device::context() else { return };
    desk.succeed(line);
    let profile: serde_json::Value = serde_json::from_slice(&fs::read(desk.path("profile.json")).expect("written")).expect("JSON");
    assert_eq!(profile["image"], serde_json::json!([1, 1, 64, 64]));
    assert!(profile["device"].as_str().is_some_and(|device| device.contains(&context.info().name)), "{profile:#}");
    if context.device().features().contains(meddino::gpu::wgpu::Features::TIMESTAMP_QUERY) {
        let kernels = profile["kernels"].as_array().expect("a list");
        let row_of = |name: &str| kernels.iter().find(|kernel| kernel["name"] == name).unwrap_or_else(|| panic!("no {name}: {profile:#}"));
        for name in ["matmul", "attention", "layernorm"] {
            assert!(row_of(name)["ms"].as_f64().is_some_and(|ms| ms > 0.0) && row_of(name)["gb_per_s"].as_f64().is_some(), "{profile:#}");
        }
        let runs: u64 = kernels.iter().filter_map(|kernel| kernel["dispatches"].as_u64()).sum();
        assert_eq!(profile["dispatches"].as_u64(), Some(runs));
        let rate = row_of("matmul")["gflop"].as_f64().unwrap_or(0.0) / row_of("matmul")["ms"].as_f64().unwrap_or(1.0) * 1e3;
        assert!((row_of("matmul")["gflop_per_s"].as_f64().unwrap_or(0.0) / rate - 1.0).abs() < 1e-6, "{profile:#}");
        assert!(profile["longest"]["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{profile:#}");
    } else {
        assert!(profile["kernels"].is_null(), "{profile:#}");
    }
}

/// The trials take about ten seconds on software Vulkan, twice.
#[test]
fn tune_stores_its_results_and_a_bad_record_is_ignored() {
    let desk = Desk::new();
    if device::context().is_none() {
        return;
    }
    let with_cache = |line: &str, cache: &Path| desk.command(line).env("MEDDINO_CACHE", cache).output().expect("the command starts");
    let cache = desk.path("cache");
    let tuned = with_cache("tune --backend gpu --json", &cache);
    assert!(tuned.status.success(), "{}", text(&tuned.stderr));
    let report: serde_json::Value = serde_json::from_slice(&tuned.stdout).expect("JSON");
    let trials = report["trials"].as_array().expect("a list");
    for kernel in ["wide products", "narrow products", "attention"] {
        let of_kernel = trials.iter().filter(|trial| trial["kernel"] == kernel);
        let mut rows: Vec<u64> = of_kernel.clone().filter_map(|trial| trial["rows"].as_u64()).collect();
        rows.dedup();
        let taken: Vec<u64> = of_kernel.clone().filter(|trial| trial["taken"] == true).filter_map(|trial| trial["rows"].as_u64()).collect();
        assert_eq!(taken, rows, "one tile for each number of rows: {report:#}");
        // A slow device is not given the rows of the largest image.
        assert!([&[201, 1029][..], &[201, 1029, 3141]].contains(&&taken[..]), "{report:#}");
        assert!(
            of_kernel.clone().all(|trial| trial["median_s"].as_f64().is_some_and(|s| s > 0.0) && trial["problem"].is_null()),
            "{report:#}"
        );
    }
    let file = Path::new(report["file"].as_str().expect("kept")).to_owned();
    assert!(file.starts_with(&cache), "{report:#}");
    let record = fs::read_to_string(&file).expect("written");

    // A valid record is used silently. An invalid record is reported, left unchanged, and not used.
    let features = "-q features phantom -c seeded:0:tiny --size 64 --backend gpu -o out.safetensors";
    for (text_of_record, warned) in [(record.as_str(), false), ("{ not quite", true)] {
        fs::write(&file, text_of_record).expect("written");
        let output = with_cache(features, &cache);
        let messages = text(&output.stderr);
        assert!(output.status.success() && messages.contains("is ignored, and `meddino tune` writes it anew") == warned, "{messages}");
        assert_eq!(fs::read_to_string(&file).expect("there"), text_of_record);
    }

    // Without a cache folder nothing is stored or read.
    let tuned = with_cache("tune --backend gpu", Path::new(""));
    let (table, messages) = (text(&tuned.stdout), text(&tuned.stderr));
    assert!(tuned.status.success() && messages.contains("the result is not saved, because MEDDINO_CACHE is empty"), "{messages}");
    assert!(table.starts_with("kernel") && table.matches("  taken").count() == 6, "{table}");
    assert!(!text(&with_cache(features, Path::new("")).stderr).contains("is ignored"));
    let refused = desk.run("tune --backend cpu");
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("--backend gpu"), "{}", text(&refused.stderr));
}
