//! Damaged, lying and malicious checkpoints: each gets a clear error, nothing panics, no code in a file runs, and no
//! claim takes memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use meddino::vit::model::Model;

/// The system's allocator, which records the peak of allocated memory.
struct Watching;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn take(size: usize) {
    PEAK.fetch_max(TAKEN.fetch_add(size, Relaxed).saturating_add(size), Relaxed);
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one hands everything to the system's")]
// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// The most that the tests of this file, which run side by side, may hold at once, whatever their files claim. A claim
/// of one tensor beyond its file may reach 64 MiB (pth.rs allows that), and the largest fixture takes less than 1 MB.
const MOST: usize = 256 << 20;

fn assert_little_memory() {
    let peak = PEAK.load(Relaxed);
    assert!(peak < MOST, "{peak} bytes were held at once");
}

const FIXTURES: [&str; 13] = [
    "flat.pth",
    "flat_bf16.pth",
    "flat_f16.pth",
    "legacy.pth",
    "strided.pth",
    "flat.safetensors",
    "teacher.pth",
    "wrapped.pth",
    "nnunet.pth",
    "meta_qkvb.pth",
    "hf/model.safetensors",
    "timm.safetensors",
    "timm_qkvb.safetensors",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro").join(name)
}

/// Opens a checkpoint and loads its weights. Returns the error's text, or "no error".
fn load(path: &Path) -> String {
    let loaded = Model::open(path).and_then(|model| model.weights());
    loaded.err().map_or_else(|| "no error".into(), |e| e.to_string())
}

fn load_bytes(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    load(&path)
}

/// Offsets in the first few KB, which hold headers and pickles of every container, and in the last few, which hold the
/// zip's directory.
fn offsets(length: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..length.min(2048))
        .step_by(97)
        .chain((0..length).step_by(step))
        .chain((length.saturating_sub(8192)..length).step_by(211))
        .chain([length - 1])
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let mut failed = Vec::new();
    for name in FIXTURES {
        let bytes = fs::read(fixture(name)).unwrap();
        for at in offsets(bytes.len(), bytes.len() / 23) {
            let error = load_bytes(&bytes[..at]);
            if !error.starts_with("checkpoint ") {
                failed.push(format!("{name} cut to {at} of {}: {error}", bytes.len()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_little_memory();
}

/// xorshift64*, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

/// The ranges of a file without tensor values, where damage has the most effect.
fn structure(name: &str, bytes: &[u8]) -> [std::ops::Range<usize>; 2] {
    let length = bytes.len();
    if name.ends_with(".safetensors") {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        [0..8, 0..8 + header]
    } else if name == "legacy.pth" {
        [0..64, 0..8192]
    } else {
        [0..8192, length - 8192..length]
    }
}

/// Sets every entry's CRC-32 in a zip's directory to 0, which PyTorch writes for "not computed", so that damage reaches
/// the pickle's parser.
fn clear_checksums(file: &mut [u8]) {
    for at in 0..file.len() - 20 {
        if file[at..].starts_with(b"PK\x01\x02") {
            file[at + 16..at + 20].fill(0);
        }
    }
}

/// How often each fixture is damaged. `MEDDINO_FUZZ_ROUNDS` sets another number.
fn rounds() -> usize {
    std::env::var("MEDDINO_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

#[test]
fn flipped_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for name in FIXTURES {
        let mut intact = fs::read(fixture(name)).unwrap();
        let ranges = structure(name, &intact);
        clear_checksums(&mut intact);
        for _ in 0..rounds() {
            let mut bytes = intact.clone();
            let range = ranges[dice.below(ranges.len())].clone();
            for _ in 0..=dice.below(4) {
                let at = range.start + dice.below(range.len());
                bytes[at] = match dice.below(4) {
                    0 => 0xFF,
                    1 => 0,
                    2 => bytes[at] ^ (1 << dice.below(8)),
                    _ => dice.below(256) as u8,
                };
            }
            fs::write(&path, &bytes).unwrap();
            // An error and a success are both fine, because a flipped bit may hit padding. A panic fails the test.
            let began = Instant::now();
            load(&path);
            assert!(began.elapsed() < Duration::from_secs(10), "{name} took {:?}", began.elapsed());
        }
    }
    assert_little_memory();
}

/// A safetensors file of this header and `data` zeros.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn tensor(shape: &str, from: u64, to: u64) -> String {
    format!(r#"{{"cls_token": {{"dtype": "F32", "shape": {shape}, "data_offsets": [{from}, {to}]}}}}"#)
}

/// A pickle (protocol 2) of `{"cls_token": os.system("touch FILE")}`.
fn reducing_pickle(marker: &Path) -> Vec<u8> {
    let command = format!("touch {}", marker.display());
    let mut pickle = b"\x80\x02}X\x09\0\0\0cls_tokencposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85Rs.");
    pickle
}

#[test]
fn false_claims_and_nonsense_get_a_clear_error() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "is empty"),
        ("text", b"hello, this is no model\n".to_vec(), "neither a PyTorch nor a safetensors file"),
        ("html", b"<!DOCTYPE html><html>404</html>".to_vec(), "neither a PyTorch nor a safetensors file"),
        ("json", b"{\"a\": 1}".to_vec(), "is JSON"),
        ("git lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git lfs pull"),
        ("tar", [vec![b'a'; 257], b"ustar\0".to_vec(), vec![0; 512]].concat(), "tar archive"),
        ("zip without a pickle", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "data.pkl"),
        ("8 bytes", vec![1, 0, 0, 0, 0, 0, 0, 0], "neither"),
        ("header of 2^60", [(1u64 << 60).to_le_bytes().to_vec(), b"{}".to_vec()].concat(), "claims a header of 1152921504606846976"),
        ("header of 2^64-1", [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat(), "claims a header"),
        ("header past the end", [100u64.to_le_bytes().to_vec(), b"{}".to_vec()].concat(), "claims a header of 100"),
        ("header that is no JSON", safetensors("{\"a\"", 0), "header is damaged"),
        ("no tensors", safetensors("{}", 0), "no tensor at all"),
        ("offsets past the end", safetensors(&tensor("[4]", 0, 16), 8), "download it again"),
        ("bytes left over", safetensors(&tensor("[4]", 0, 16), 24), "download it again"),
        ("offsets backwards", safetensors(&tensor("[4]", 16, 0), 16), "header is damaged"),
        ("offset not at 0", safetensors(&tensor("[4]", 8, 24), 24), "header is damaged"),
        ("shape and offsets disagree", safetensors(&tensor("[5]", 0, 16), 16), "header is damaged"),
        ("negative extent", safetensors(&tensor("[-1]", 0, 16), 16), "header is damaged"),
        ("shape that overflows", safetensors(&tensor("[4294967296, 4294967296, 4294967296]", 0, 16), 16), "header is damaged"),
        ("zero times overflow", safetensors(&tensor("[0, 4294967296, 4294967296, 4294967296]", 0, 0), 0), "its width would be 4294967296"),
        ("offsets near 2^64", safetensors(&tensor("[4611686018427387903]", 0, 18_446_744_073_709_551_612), 0), "header"),
        (
            "overlapping offsets",
            safetensors(
                r#"{"cls_token": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}"#,
                24,
            ),
            "header is damaged",
        ),
        ("unknown type", safetensors(r#"{"cls_token": {"dtype": "F7", "shape": [4], "data_offsets": [0, 4]}}"#, 4), "header is damaged"),
        ("no known name", safetensors(r#"{"weird": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#, 4), "it holds weird"),
        (
            "a name with an escape",
            safetensors(r#"{"\u001b[31m": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#, 4),
            "it holds ?[31m",
        ),
        ("a cut pickle", b"\x80\x02}X\xff\xff\xff\x7fcls".to_vec(), "cannot be read as a PyTorch file"),
        ("a pickle that is no dictionary", b"\x80\x02K\x01.".to_vec(), "dictionary"),
        ("a pickle of lists without end", [b"\x80\x02".to_vec(), vec![b']'; 100_000]].concat(), "cannot be read as a PyTorch file"),
        (
            "a pickle nested without end",
            [b"\x80\x02".to_vec(), vec![b'('; 100_000], vec![b't'; 100_000], b".".to_vec()].concat(),
            "cannot be read",
        ),
    ];
    let mut failed = Vec::new();
    for (what, bytes, part) in cases {
        let error = load_bytes(&bytes);
        if !error.starts_with("checkpoint ") || !error.contains(part) || error.chars().any(|c| c == '\u{1b}') {
            failed.push(format!("{what}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_little_memory();
}

#[test]
fn paths_that_are_no_file_get_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load(dir.path()).contains("is a directory"), "{}", load(dir.path()));
    let missing = dir.path().join("missing.pth");
    let error = load(&missing);
    assert!(error.contains("missing.pth") && error.contains("os error 2"), "{error}");
}

#[test]
fn no_code_in_a_pickle_runs() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("marker");
    let path = dir.path().join("evil.pth");
    fs::write(&path, reducing_pickle(&marker)).unwrap();
    let error = load(&path);
    assert!(error.contains("no tensor at all"), "{error}");
    assert!(!marker.exists());
}

/// Offsets of the sizes of the entry `name` in a zip: (compressed, uncompressed) in the local header and in the central
/// directory.
fn size_fields(zip: &[u8], name: &[u8]) -> Vec<usize> {
    let named = |at: usize, header: usize| zip[at + header..].starts_with(name);
    let mut fields = Vec::new();
    for at in 0..zip.len() - 46 {
        if zip[at..].starts_with(b"PK\x03\x04") && named(at, 30) {
            fields.push(at + 18);
        } else if zip[at..].starts_with(b"PK\x01\x02") && named(at, 46) {
            fields.push(at + 20);
        }
    }
    fields
}

#[test]
fn a_zip_may_not_claim_more_than_it_holds() {
    let intact = fs::read(fixture("flat.pth")).unwrap();
    let mut failed = Vec::new();
    for (entry, size) in
        [("flat/data/0", 0xFFFF_FFF0u32), ("flat/data/7", 0x7FFF_FFFF), ("flat/data.pkl", 0x7FFF_FFFF), ("flat/data.pkl", 0xFFFF_FFF0)]
    {
        let fields = size_fields(&intact, entry.as_bytes());
        assert_eq!(fields.len(), 2, "{entry} should stand in a local header and in the directory");
        for both in [true, false] {
            let mut bytes = intact.clone();
            for field in &fields {
                bytes[field + 4..field + 8].copy_from_slice(&size.to_le_bytes());
                if both {
                    bytes[*field..field + 4].copy_from_slice(&size.to_le_bytes());
                }
            }
            let error = load_bytes(&bytes);
            if !error.contains("claims") {
                failed.push(format!("{entry} of {size}: {error}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_little_memory();
}

/// A zip64 archive of one stored entry `a/data.pkl` that claims `size` bytes.
fn zip64(size: u64) -> Vec<u8> {
    let name = b"a/data.pkl";
    let mut extra = vec![1, 0, 16, 0];
    extra.extend(size.to_le_bytes());
    extra.extend(size.to_le_bytes());
    let sizes = [0xFF; 8];
    let lengths = [name.len() as u16, extra.len() as u16].map(u16::to_le_bytes).concat();
    let mut zip = b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    zip.extend([&sizes[..], &lengths, name, &extra, b"\x80\x02}."].concat());
    let directory = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0");
    zip.extend([&sizes[..], &lengths, &[0; 14], name, &extra].concat());
    let length = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend([length.to_le_bytes(), directory.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

#[test]
fn a_zip_may_not_claim_terabytes() {
    // With its true size the forged archive is valid and reads as an empty dictionary.
    let honest = load_bytes(&zip64(4));
    assert!(honest.contains("no tensor at all"), "{honest}");
    for size in [1 << 42, u64::MAX - 8] {
        let error = load_bytes(&zip64(size));
        assert!(error.contains("claims") || error.contains("damaged"), "{error}");
    }
    assert_little_memory();
}

#[test]
fn a_repeated_storage_may_not_fill_the_memory() {
    // A legacy file of one f32, seen through a tensor [2^27, 4] with strides 0: 2 GiB from four bytes.
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}X\x0d\0\0\0little_endian\x88s.");
    file.extend(b"\x80\x02}X\x09\0\0\0cls_tokenctorch._utils\n_rebuild_tensor_v2\n(");
    file.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01NtQ");
    file.extend(b"K\0J\0\0\0\x08K\x04\x86K\0K\0\x86\x89}tRs.");
    file.extend(b"\x80\x02]X\x01\0\0\x000a.");
    file.extend([1i64.to_le_bytes().to_vec(), 1f32.to_le_bytes().to_vec()].concat());
    let error = load_bytes(&file);
    assert!(error.contains("its tensors claim 2147483648 bytes"), "{error}");
    assert_little_memory();
}
