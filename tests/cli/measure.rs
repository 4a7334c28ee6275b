//! `bench`, `profile` and `tune`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use meddino::cpu::{Bf16, InstructionSet};
use meddino::graph::{Elem, Tier};
use meddino::vit::config::{Config, Grid};

use crate::desk::{Desk, text};
use crate::device;

#[test]
fn bench_reports_its_measurements() {
    let desk = Desk::new();
    let line = "bench -c seeded:0:micro --backend cpu --size 48 --batch 2 --runs 3";
    // Whatever set the tests are held to: the product that a pass is compared with cannot be held to a lower one.
    let run = |set: Option<InstructionSet>, more: &str| {
        let mut command = desk.command(&format!("{line} {more}"));
        match set {
            Some(set) => command.env("MEDDINO_CPU", set.to_string()),
            None => command.env_remove("MEDDINO_CPU"),
        };
        let output = command.output().expect("the command starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let json = |set| -> serde_json::Value { serde_json::from_str(&run(set, "--json")).expect("JSON") };
    let table = run(None, "");
    assert!(["device", "start", "time", "speed", "GFLOP/s", "memory"].iter().all(|word| table.contains(word)), "{table}");
    let lower = InstructionSet::of_this_cpu().nth(1).map(|set| json(Some(set)));
    let json = json(None);
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} is a number: {json:#}"));
    assert!(0.0 < number("min_s") && number("min_s") <= number("median_s"), "{json:#}");
    assert_eq!(["size", "batch", "runs"].map(|key| json[key].as_u64()), [Some(48), Some(2), Some(3)]);
    let flops = Config::micro().product_flops(1, Grid { rows: 3, cols: 3 }) as f64;
    assert!((number("gflop") * 1e9 / flops - 1.0).abs() < 1e-9);
    assert!((number("gflop_per_s") * number("median_s") / number("gflop") - 1.0).abs() < 1e-9);
    assert!((number("matmul_share") * number("matmul_gflop_per_s") / number("gflop_per_s") - 1.0).abs() < 1e-9);
    assert!(lower.is_none_or(|json| json["matmul_share"].is_null() && json["matmul_gflop_per_s"].is_null()));
    assert!(number("open_s") > 0.0 && number("first_s") > 0.0, "{json:#}");
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

/// The trials take about a minute on software Vulkan.
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

    // Without a cache folder nothing is stored or read, which the command says before the first trial.
    let mut tuning = desk.command("tune --backend gpu").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let messages = BufReader::new(tuning.stderr.take().expect("piped"));
    let first = messages.lines().map_while(Result::ok).find(|line| line.starts_with("warning") || line.contains(" geometries"));
    tuning.kill().and_then(|()| tuning.wait()).expect("it is killed");
    let first = first.expect("a message");
    assert!(first.contains("the result will not be saved, because MEDDINO_CACHE is empty"), "{first}");
    assert!(!text(&with_cache(features, Path::new("")).stderr).contains("is ignored"));
    let refused = desk.run("tune --backend cpu");
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("--backend gpu"), "{}", text(&refused.stderr));
}
