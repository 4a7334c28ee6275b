//! The cache: its layout, its environment variables, and disks that refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use meddino::hub::{Event, Hub, HubFile, Identity, RELEASED};

use crate::server::{COMMIT, Reply, World};
use crate::{Machine, noise, says, write};

/// Every file and link under `folder`, with the target of each link.
fn tree(folder: &Path) -> Vec<(String, Option<String>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, Option<String>)>) {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                walk(root, &path, found);
            } else {
                let target = fs::read_link(&path).ok().map(|t| t.display().to_string());
                found.push((path.strip_prefix(root).expect("under it").display().to_string(), target));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

#[test]
#[cfg(unix)]
fn the_layout_is_that_of_huggingface_hub() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let path = machine.fetch().expect("fetched");
    let (repository, sha256) = ("models--ricklisz123--MedDINOv3-ViTB-16-CT-3M", &world.sha256);
    let pointer = format!("{repository}/snapshots/{COMMIT}/MedDINOv3-B-CT3M.pth");
    let cache = machine.path(".cache/huggingface/hub");
    assert_eq!(path, cache.join(&pointer));
    let want = [
        (format!(".locks/{repository}/{sha256}.lock"), None),
        (format!("{repository}/blobs/{sha256}"), None),
        (format!("{repository}/refs/main"), None),
        (pointer, Some(format!("../../blobs/{sha256}"))),
    ];
    assert_eq!(tree(&cache), want);
    assert_eq!(fs::read_to_string(cache.join(repository).join("refs/main")).expect("read"), COMMIT);
    // The files have the permissions of any newly written file.
    write(&machine.path("plain"), b"");
    let mode = |path: PathBuf| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).expect("there"));
    let plain = mode(machine.path("plain"));
    assert_eq!([mode(path), mode(cache.join(repository).join("refs/main"))], [plain, plain]);
}

#[test]
fn a_cached_file_needs_no_request() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    assert_eq!(machine.hub().cached(&RELEASED), None);
    let path = machine.fetch().expect("fetched");
    let before = tree(machine.home.path());
    for machine in [&machine, &Machine { vars: machine.vars.clone(), ..machine_at(&machine) }.set("HF_HUB_OFFLINE", "1")] {
        assert_eq!(machine.fetch().as_ref(), Ok(&path));
    }
    assert_eq!(world.hub.requests().len(), 1);
    assert_eq!(tree(machine.home.path()), before, "nothing is written");
    assert_eq!(machine.hub().verify(&RELEASED).expect("read"), Some(true));
}

/// A machine with the same variables, and another home folder to remove.
fn machine_at(machine: &Machine) -> Machine {
    Machine { home: tempfile::tempdir().expect("a folder"), vars: machine.vars.clone() }
}

#[test]
fn files_that_python_fetched_are_found() {
    // huggingface_hub's layout with links, and without.
    for with_links in [true, false] {
        let machine = Machine::new("http://127.0.0.1:1");
        let repository = machine.repository();
        let pointer = repository.join("snapshots").join(COMMIT).join(RELEASED.file);
        write(&repository.join("refs/main"), COMMIT.as_bytes());
        let blob = repository.join("blobs/9f86b27e0dd6efa8a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0");
        if with_links {
            write(&blob, b"weights");
            fs::create_dir_all(pointer.parent().expect("a folder")).expect("made");
            #[cfg(unix)]
            std::os::unix::fs::symlink(Path::new("../../blobs").join(blob.file_name().expect("a name")), &pointer).expect("linked");
            #[cfg(not(unix))]
            continue;
        } else {
            write(&pointer, b"weights");
        }
        assert_eq!(machine.fetch().as_ref(), Ok(&pointer));
        // The blob is not named by its SHA-256 here, so it fails verification. Without a blob there is no SHA-256 to
        // verify.
        assert_eq!(machine.hub().verify(&RELEASED).expect("read"), if with_links { Some(false) } else { None });
        machine.hub().forget(&RELEASED).expect("removed");
        assert!(!pointer.exists() && !blob.exists());
    }
    // A reference to another place, or to a missing snapshot, counts as no reference.
    for main in ["../../..", COMMIT, ""] {
        let machine = Machine::new("http://127.0.0.1:1");
        write(&machine.repository().join("refs/main"), main.as_bytes());
        fs::create_dir_all(machine.repository().join("snapshots")).expect("made");
        write(&machine.path(".cache/huggingface/MedDINOv3-B-CT3M.pth"), b"weights");
        assert_eq!(machine.hub().cached(&RELEASED), None);
    }
}

/// Puts `bytes` into the cache as the file of `commit`, without a reference.
fn pin(machine: &Machine, commit: &str, bytes: &[u8]) -> PathBuf {
    let path = machine.repository().join("snapshots").join(commit).join(RELEASED.file);
    write(&path, bytes);
    path
}

/// Fetches. Returns the path, and the commit that the event named, if the file came from a cached commit.
fn fetched(machine: &Machine) -> (Result<PathBuf, String>, Option<String>) {
    let mut pinned = None;
    let path = machine.listen(&mut |event| {
        if let Event::Pinned { commit } = event {
            pinned = Some(commit);
        }
    });
    (path, pinned)
}

/// `huggingface_hub` writes no reference for a revision that was requested by its commit.
#[test]
fn a_revision_without_a_reference_is_found() {
    let nobody = "http://127.0.0.1:1";
    let [a, b] = ["a", "b"].map(|digit| digit.repeat(40));
    for offline in ["0", "1"] {
        let machine = Machine::new(nobody).set("HF_HUB_OFFLINE", offline);
        // Another revision without the file, and a folder whose name is no commit, are ignored.
        write(&machine.repository().join("snapshots").join(&b).join("config.json"), b"{}");
        pin(&machine, "main", b"no commit");
        let path = pin(&machine, &a, b"weights");
        assert_eq!(fetched(&machine), (Ok(path.clone()), Some(a.clone())), "{offline}");
        assert_eq!(machine.hub().cached(&RELEASED), Some(path), "{offline}");
        let identity = machine.hub().identify(&RELEASED).expect("read").expect("there");
        assert_eq!((identity.commit.as_str(), identity.is_sound), (a.as_str(), None));
        // A tag's reference says nothing about `main`.
        write(&machine.repository().join("refs/v1.0"), a.as_bytes());
        assert_eq!(fetched(&machine).1, Some(a.clone()), "{offline}");
    }
    // The revision of `main` takes precedence, and sends no `Pinned` event.
    let machine = Machine::new(nobody);
    pin(&machine, &a, b"weights");
    let path = pin(&machine, &b, b"others");
    write(&machine.repository().join("refs/main"), b.as_bytes());
    assert_eq!(fetched(&machine), (Ok(path), None));
}

#[test]
fn several_revisions_without_a_reference_are_refused() {
    let [a, b] = ["a", "b"].map(|digit| digit.repeat(40));
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address).set("HF_HUB_OFFLINE", "1");
    pin(&machine, &a, b"weights");
    pin(&machine, &b, b"others");
    says(&machine.fail(), &["in several versions", &a, &b, "refs/main", "HF_HUB_OFFLINE", "name its path"]);
    assert_eq!(machine.hub().cached(&RELEASED), None);
    // Online, the hub says which revision is meant.
    let machine = machine.set("HF_HUB_OFFLINE", "0");
    let (path, pinned) = fetched(&machine);
    assert_eq!((fs::read(path.expect("fetched")).expect("read"), pinned), (noise(), None));
    assert_eq!(fetched(&machine).1, None, "main now points to it");
}

/// Two commits with the same blob are one version.
#[test]
#[cfg(unix)]
fn revisions_with_the_same_file_count_as_one() {
    let machine = Machine::new("http://127.0.0.1:1");
    write(&machine.repository().join("blobs").join("0".repeat(64)), b"weights");
    for digit in ["c", "a"] {
        let folder = machine.repository().join("snapshots").join(digit.repeat(40));
        fs::create_dir_all(&folder).expect("made");
        std::os::unix::fs::symlink(Path::new("../../blobs").join("0".repeat(64)), folder.join(RELEASED.file)).expect("linked");
    }
    assert_eq!(fetched(&machine).1, Some("a".repeat(40)));
    // A dangling link counts as no file.
    fs::remove_file(machine.repository().join("blobs").join("0".repeat(64))).expect("removed");
    assert_eq!(machine.hub().cached(&RELEASED), None);
}

/// `main` may have moved on, so the hub is asked unless offline mode forbids it.
#[test]
fn an_old_reference_without_its_file_asks_the_hub() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address).set("HF_HUB_OFFLINE", "1");
    let a = "a".repeat(40);
    let path = pin(&machine, &a, b"weights");
    write(&machine.repository().join("refs/main"), "f".repeat(40).as_bytes());
    assert_eq!(fetched(&machine), (Ok(path), Some(a)));
    let machine = machine.set("HF_HUB_OFFLINE", "0");
    assert_eq!(fs::read(machine.fetch().expect("fetched")).expect("read"), noise());
    assert_eq!(world.hub.requests().len(), 1);
}

#[test]
fn a_source_may_be_pinned_to_a_commit() {
    const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";
    let world = World::new(noise());
    let pinned = HubFile { revision: Some(COMMIT), ..RELEASED };
    let machine = Machine::new(&world.hub.address);
    // Files of other commits do not count.
    pin(&machine, &"a".repeat(40), b"weights");
    write(&machine.repository().join("refs/main"), "a".repeat(40).as_bytes());
    assert_eq!(machine.hub().cached(&pinned), None);
    let path = machine.hub().fetch(&pinned, &mut |_| {}).expect("fetched");
    assert_eq!((fs::read(&path).expect("read"), path.parent().expect("a folder").ends_with(COMMIT)), (noise(), true));
    assert_eq!(world.hub.requests()[0].target, format!("/{}/resolve/{COMMIT}/{}", RELEASED.repository, RELEASED.file));
    let identity = machine.hub().identify(&pinned).expect("read").expect("there");
    assert_eq!(identity, Identity { commit: COMMIT.into(), sha256: world.sha256.clone(), is_sound: identity.is_sound });
    assert_eq!(fs::read_to_string(machine.repository().join("refs/main")).expect("read"), "a".repeat(40), "main is left alone");
    // The second call finds the file in the cache. A hub that answers with another commit is an error.
    machine.hub().fetch(&pinned, &mut |_| {}).expect("found");
    assert_eq!(world.hub.requests().len(), 1);
    let error = machine.hub().fetch(&HubFile { revision: Some(OTHER), ..RELEASED }, &mut |_| {}).expect_err("another commit").to_string();
    says(&error, &[COMMIT, OTHER, "HF_ENDPOINT"]);
    assert!(!machine.repository().join("snapshots").join(OTHER).exists());
}

#[test]
fn without_symbolic_links_there_are_plain_files() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address).set("HF_HUB_DISABLE_SYMLINKS", "1");
    let path = machine.fetch().expect("fetched");
    assert!(path.symlink_metadata().expect("there").is_file());
    assert_eq!(fs::read(&path).expect("read"), noise());
    assert_eq!(machine.hub().verify(&RELEASED).expect("read"), Some(true));
    // Damage both copies: the file must not be restored from the damaged blob.
    fs::write(&path, vec![0; noise().len()]).expect("written");
    assert_eq!(machine.hub().verify(&RELEASED).expect("read"), Some(false));
    machine.hub().forget(&RELEASED).expect("removed");
    let path = machine.fetch().expect("fetched");
    assert_eq!(fs::read(&path).expect("read"), noise());
    assert_eq!(world.storage.requests().len(), 2);
}

#[test]
fn an_existing_blob_is_linked_to_a_new_commit() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let path = machine.fetch().expect("fetched");
    write(&machine.repository().join("refs/main"), "f".repeat(40).as_bytes());
    machine.fetch().expect("linked");
    assert_eq!(world.storage.requests().len(), 1);
    // A correct link is left alone, because another process may be opening it.
    let modified = || path.symlink_metadata().expect("there").modified().expect("a time");
    let before = modified();
    write(&machine.repository().join("refs/main"), "f".repeat(40).as_bytes());
    thread::sleep(Duration::from_millis(20));
    machine.fetch().expect("found");
    assert_eq!(modified(), before);
    // A blob of another length is fetched again.
    write(&machine.repository().join("refs/main"), "f".repeat(40).as_bytes());
    write(&machine.repository().join("blobs").join(&world.sha256), b"cut off");
    let path = machine.fetch().expect("fetched");
    assert_eq!(fs::read(path).expect("read"), noise());
}

#[test]
fn two_at_once_fetch_once() {
    let world = World::new(noise());
    world.twist(|reply| Reply { slow: Duration::from_millis(5), ..reply });
    let machine = Machine::new(&world.hub.address);
    let fetch = || {
        let mut waited = false;
        let path = machine.listen(&mut |event| waited |= matches!(event, Event::Waiting)).expect("fetched");
        (path, waited)
    };
    let (a, b) = thread::scope(|s| {
        let second = s.spawn(fetch);
        (fetch(), second.join().expect("no panic"))
    });
    assert_eq!(a.0, b.0);
    assert!(a.1 != b.1, "one waits for the other: {} {}", a.1, b.1);
    assert_eq!(world.storage.requests().len(), 1);
}

#[test]
fn variables_mean_the_same_as_in_python() {
    let cache = |vars: &[(&str, &str)]| {
        let var = |name: &str| vars.iter().chain(&[("HOME", "/h"), ("USERPROFILE", "/h")]).find(|(n, _)| *n == name).map(|(_, v)| v.into());
        Hub::from_vars(var).expect("sound").cache().to_path_buf()
    };
    for (vars, want) in [
        (&[][..], "/h/.cache/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")], "/hf/hub"),
        (&[("HF_HOME", "")], "/h/.cache/huggingface/hub"),
        (&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c"),
        (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c"),
        (&[("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
        (&[("HF_HOME", "~/hf")], "/h/hf/hub"),
        (&[("HF_HOME", "$SCRATCH/${USER}_hf$"), ("SCRATCH", "/s"), ("USER", "u")], "/s/u_hf$/hub"),
        (&[("HF_HOME", "/$NONE/a")], "/$NONE/a/hub"),
    ] {
        assert_eq!(cache(vars), Path::new(want), "{vars:?}");
    }
    let bad = |name: &'static str, value: &str| {
        let machine = Machine::new("https://huggingface.co").set(name, value);
        Hub::from_vars(|name| machine.vars.get(name).cloned()).expect_err("refused").to_string()
    };
    says(&bad("HF_ENDPOINT", "huggingface.co"), &["HF_ENDPOINT", "https://huggingface.co", "found \"huggingface.co\""]);
    says(&bad("HF_ENDPOINT", "ftp://h"), &["HF_ENDPOINT", "ftp://h"]);
    says(&bad("HF_HUB_DOWNLOAD_TIMEOUT", "soon"), &["HF_HUB_DOWNLOAD_TIMEOUT", "soon"]);
    says(&bad("SSL_CERT_FILE", "/no/such/file"), &["SSL_CERT_FILE", "/no/such/file", "cannot be read"]);
    says(&bad("REQUESTS_CA_BUNDLE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), &["REQUESTS_CA_BUNDLE", "holds no certificate"]);
    let message = bad("HF_TOKEN", "two words");
    says(&message, &["HF_TOKEN", "no token"]);
    assert!(!message.contains("two words"), "a token is not shown");
}

#[test]
fn the_token_comes_from_the_variable_or_the_file() {
    let world = World::new(noise());
    let sent = |machine: &Machine| {
        machine.fetch().expect("fetched");
        world.hub.requests().last().expect("asked").header("authorization").map(String::from)
    };
    let new = || Machine::new(&world.hub.address);
    assert_eq!(sent(&new()), None);
    let machine = new();
    write(&machine.path(".cache/huggingface/token"), b"hf_file\n");
    assert_eq!(sent(&machine).as_deref(), Some("Bearer hf_file"));
    let machine = new().set("HF_TOKEN", "hf_var");
    write(&machine.path(".cache/huggingface/token"), b"hf_file\n");
    assert_eq!(sent(&machine).as_deref(), Some("Bearer hf_var"));
    let machine = new();
    write(&machine.path("elsewhere"), b"hf_else");
    let elsewhere = machine.path("elsewhere");
    assert_eq!(sent(&machine.set("HF_TOKEN_PATH", elsewhere)).as_deref(), Some("Bearer hf_else"));
    assert_eq!(sent(&new().set("HF_TOKEN", "hf_var").set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")), None);
    let hub = new().set("HF_TOKEN", "hf_var").hub();
    assert!(!format!("{hub:?}").contains("hf_var"), "no log shows a token");
}

#[test]
fn offline_without_a_file_sends_no_request() {
    for (name, value) in [("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "yes"), ("TRANSFORMERS_OFFLINE", "TRUE")] {
        let world = World::new(noise());
        let machine = Machine::new(&world.hub.address).set(name, value);
        says(&machine.fail(), &["is not in the cache", "huggingface/hub", "HF_HUB_OFFLINE"]);
        assert!(world.hub.requests().is_empty());
        assert!(!machine.path(".cache").exists());
    }
    let world = World::new(noise());
    Machine::new(&world.hub.address).set("HF_HUB_OFFLINE", "0").fetch().expect("fetched");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    write(&machine.path("file"), b"");
    let cache = machine.path("file/cache");
    let machine = machine.set("HF_HUB_CACHE", cache.clone());
    says(&machine.fail(), &["cannot be written into the cache", cache.to_str().expect("text"), "set HF_HOME"]);
    assert!(world.storage.requests().is_empty(), "nothing is fetched in vain");
}

#[test]
#[cfg(unix)]
fn a_read_only_cache_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let cache = machine.path("cache");
    fs::create_dir(&cache).expect("made");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555)).expect("closed");
    if fs::write(cache.join("probe"), b"").is_ok() {
        eprintln!("skipped: this user may write into read-only folders");
        return;
    }
    let machine = machine.set("HF_HUB_CACHE", cache.clone());
    says(&machine.fail(), &["cannot be written into the cache", cache.to_str().expect("text"), "set HF_HOME"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported() {
    let world = World::new(noise());
    let machine = Machine::new(&world.hub.address);
    let partial = machine.partial(&world.sha256);
    fs::create_dir_all(partial.parent().expect("a folder")).expect("made");
    // Every write to /dev/full fails with "no space left".
    std::os::unix::fs::symlink("/dev/full", &partial).expect("linked");
    says(&machine.fail(), &["cannot be written into the cache", "make room there, or set HF_HOME"]);
    assert_eq!(machine.cause(), Some(std::io::ErrorKind::StorageFull));
}
