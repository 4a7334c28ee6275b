//! The `meddino` command without `-c`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use meddino::hub::RELEASED;

use crate::server::{COMMIT, Reply, World};
use crate::{Machine, noise, says};

impl Machine {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meddino"));
        // Clears the environment, whose proxies and tokens do not concern the test.
        command.env_clear().envs(&self.vars).current_dir(self.home.path()).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> (bool, String, String) {
        outcome(self.command(line).output().expect("started"))
    }
}

fn outcome(output: Output) -> (bool, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn micro() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/micro/teacher.pth")).expect("a fixture")
}

#[test]
fn features_without_c_take_the_released_weights() {
    let world = World::new(micro());
    let machine = Machine::new(&world.hub.address);
    let line = "features phantom --size 64 --backend cpu -o a.safetensors";
    let (ok, stdout, stderr) = machine.run(line);
    assert!(ok, "{stderr}");
    assert_eq!(stdout, "a.safetensors\n");
    says(&stderr, &["downloading MedDINOv3-B-CT3M.pth of ricklisz123/MedDINOv3-ViTB-16-CT-3M"]);
    let first_bytes = fs::read(machine.path("a.safetensors")).expect("written");
    says(&String::from_utf8_lossy(&first_bytes), &[&world.sha256]);
    // The second run uses the cache. Naming the file gives the same bytes.
    let (ok, _, stderr) = machine.run(&line.replace("a.s", "b.s"));
    assert!(ok && !stderr.contains("downloading"), "{stderr}");
    assert_eq!(world.hub.requests().len(), 1);
    let path = machine.hub().cached(&RELEASED).expect("cached");
    let (ok, ..) = machine.run(&format!("{} -c {}", line.replace("a.s", "c.s"), path.display()));
    assert!(ok);
    assert_eq!(fs::read(machine.path("b.safetensors")).expect("written"), first_bytes);
    assert_eq!(fs::read(machine.path("c.safetensors")).expect("written"), first_bytes);
}

#[test]
fn input_errors_are_reported_before_anything_is_fetched() {
    let world = World::new(micro());
    let (ok, _, stderr) = Machine::new(&world.hub.address).run("features nowhere.npy");
    assert!(!ok && stderr.contains("nowhere.npy"), "{stderr}");
    assert!(world.hub.requests().is_empty());
}

#[test]
fn download_prints_the_path_and_checks_the_cached_file() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let (ok, stdout, stderr) = machine.run("download");
    assert!(ok, "{stderr}");
    let path = machine.hub().cached(&RELEASED).expect("cached");
    assert_eq!(stdout, format!("{}\n", path.display()));
    says(&stderr, &["downloading", "its SHA-256 matches the hub's"]);
    says(&stderr, &[&format!("commit {COMMIT} of ricklisz123/MedDINOv3-ViTB-16-CT-3M, SHA-256 {}", world.sha256)]);
    // A flipped bit is found. The file is fetched again if the network may be used.
    let mut bytes = noise();
    bytes[5] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let offline = outcome(machine.command("download").env("HF_HUB_OFFLINE", "1").output().expect("started"));
    assert!(!offline.0);
    says(&offline.2, &["is damaged", "without HF_HUB_OFFLINE"]);
    let (ok, stdout, stderr) = machine.run("download -q");
    assert!(ok && stdout.trim() == path.to_str().expect("text"), "{stdout}{stderr}");
    says(&stderr, &["warning", "is damaged", "downloading it again"]);
    assert_eq!(fs::read(&path).expect("read"), noise());
    let (ok, _, stderr) = machine.run("download -q");
    assert!(ok && stderr.is_empty(), "{stderr}");
}

#[test]
fn a_cached_revision_without_a_reference_is_reported() {
    let (world, commit) = (World::new(micro()), "a".repeat(40));
    let machine = Machine::new(&world.hub.address);
    let path = machine.repository().join("snapshots").join(&commit).join(RELEASED.file);
    crate::write(&path, &micro());
    let notice = format!("using MedDINOv3-B-CT3M.pth of commit {commit} from the cache");
    let (ok, stdout, stderr) = machine.run("download");
    assert!(ok && Path::new(stdout.trim_end()) == path, "{stdout}{stderr}");
    says(&stderr, &[&notice, &format!("commit {commit} of"), &format!("SHA-256 {}", world.sha256), "the cache holds no SHA-256 for it"]);
    let (ok, _, stderr) = machine.run("features phantom --size 64 --backend cpu -o a.safetensors");
    assert!(ok, "{stderr}");
    says(&stderr, &[&notice]);
    assert!(world.hub.requests().is_empty());
}

#[test]
fn without_network_and_file_the_message_lists_alternatives() {
    let machine = Machine::new("http://127.0.0.1:1").set("HF_HUB_OFFLINE", "1");
    for line in ["features phantom", "download"] {
        let (ok, stdout, stderr) = machine.run(line);
        assert!(!ok && stdout.is_empty());
        let page = "http://127.0.0.1:1/ricklisz123/MedDINOv3-ViTB-16-CT-3M";
        says(
            &stderr,
            &["HF_HUB_OFFLINE", "--checkpoint, or", page, "`meddino download` once", ".cache/huggingface/hub", "--checkpoint seeded:0"],
        );
    }
}

#[test]
fn two_processes_fetch_once_and_a_killed_one_is_resumed() {
    let world = World::new(noise());
    let slow = |reply| Reply { slow: Duration::from_millis(5), ..reply };
    world.twist(slow).twist(slow);
    let machine = Machine::new(&world.hub.address);
    let start = || machine.command("download").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // Killed in the middle of the download, while it holds the lock.
    let mut killed = start();
    let partial = machine.partial(&world.sha256);
    while partial.metadata().map_or(0, |m| m.len()) < 300_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    let kept = partial.metadata().expect("kept").len();
    let two = [start(), start()].map(|child| outcome(child.wait_with_output().expect("ended")));
    assert!(two.iter().all(|(ok, ..)| *ok), "{two:?}");
    assert_eq!(two[0].1, two[1].1);
    assert_eq!(two.iter().filter(|(.., stderr)| stderr.contains("another process is downloading")).count(), 1, "{two:?}");
    assert_eq!(world.ranges(), [None, Some(format!("bytes={kept}-"))]);
    assert_eq!(fs::read(two[0].1.trim()).expect("read"), noise());
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let world = World::new(noise());
    // The hub also acts as the proxy for a host that does not exist. The storage is local and needs no proxy.
    let machine = Machine::new("http://hub.invalid").set("ALL_PROXY", world.hub.address.clone()).set("NO_PROXY", "127.0.0.1");
    let (ok, _, stderr) = machine.run("download");
    assert!(ok, "{stderr}");
    let requests = world.hub.requests();
    assert!(requests.iter().any(|r| r.target.contains("hub.invalid") || r.header("host") == Some("hub.invalid")), "{requests:?}");
}
