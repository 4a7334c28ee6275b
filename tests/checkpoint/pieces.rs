//! Checkpoints from memory and in shards give the same model as one file. A missing or repeated tensor is an error that
//! names the shard.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meddino::Tensor;
use meddino::checkpoint::{Checkpoint, Container, Shards, files_of};
use meddino::vit::config::ModelSize;
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use meddino::vit::weights::Weights;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro").join(name)
}

/// Every weight by its name, as bits.
fn weights(model: &Model) -> BTreeMap<String, Vec<u32>> {
    let (specs, weights) = (Weights::specs(model.config()), model.weights().expect("weights"));
    let bits = |tensor: &Tensor| tensor.data().iter().map(|v| v.to_bits()).collect();
    specs.leaves().iter().zip(weights.leaves()).map(|(spec, tensor)| (spec.name.clone(), bits(tensor))).collect()
}

fn same(found: Checkpoint, wanted: Checkpoint, case: &str) {
    assert_eq!(found.layout(), wanted.layout(), "{case}");
    assert_eq!(found.entries(), wanted.entries(), "{case}");
    assert_eq!(found.ignored(), wanted.ignored(), "{case}");
    assert_eq!(found.hints(), wanted.hints(), "{case}");
    assert_eq!(found.warnings(), wanted.warnings(), "{case}");
    assert_eq!(found.periods(), wanted.periods(), "{case}");
    assert_eq!(found.decoder(), wanted.decoder(), "{case}");
    let [found, wanted] = [found, wanted].map(|checkpoint| Model::from_checkpoint(checkpoint).expect(case));
    assert_eq!(found.config(), wanted.config(), "{case}");
    assert!(weights(&found) == weights(&wanted), "{case}: weights differ");
}

#[test]
fn bytes_hold_the_same_checkpoint_as_a_file() {
    for name in [
        "flat.pth",
        "flat.safetensors",
        "flat_bf16.pth",
        "flat_f16.pth",
        "legacy.pth",
        "meta_qkvb.pth",
        "nnunet.pth",
        "strided.pth",
        "teacher.pth",
        "timm.safetensors",
        "timm_qkvb.safetensors",
        "wrapped.pth",
    ] {
        let path = fixture(name);
        let file = Checkpoint::open(&path).expect(name);
        let memory = Checkpoint::from_bytes(name, fs::read(&path).expect("read")).expect(name);
        assert_eq!(memory.container(), file.container(), "{name}");
        assert_eq!(memory.sha256().expect("hashed"), file.sha256().expect("hashed"), "{name}");
        assert_eq!((memory.source_name(), memory.files()), (name, &[][..]));
        assert_eq!(memory.training().ok(), file.training().ok(), "{name}");
        same(memory, file, name);
        let reader = Checkpoint::from_reader(name, fs::File::open(&path).expect("opened")).expect(name);
        same(reader, Checkpoint::open(&path).expect(name), name);
    }
    let error = Checkpoint::from_bytes("cut", fs::read(fixture("flat.safetensors")).expect("read")[..999].to_vec()).err();
    assert!(error.expect("refused").to_string().starts_with("checkpoint cut: "));
}

#[test]
fn a_hugging_face_model_in_memory_uses_the_given_config() {
    let (path, config) = (fixture("hf/model.safetensors"), fs::read_to_string(fixture("hf/config.json")).expect("read"));
    let in_memory = |config: Option<&str>| {
        let mut shards = Shards::new("hf");
        config.into_iter().for_each(|config| shards.set_config(config));
        shards.add_bytes("model.safetensors", fs::read(&path).expect("read")).expect("added");
        shards.finish().expect("whole")
    };
    let hash = |checkpoint: &Checkpoint| checkpoint.sha256().expect("hashed").expect("stored");
    assert_ne!(hash(&in_memory(Some(&config))), hash(&in_memory(None)), "the config counts");
    same(in_memory(Some(&config)), Checkpoint::open(&path).expect("a file"), "hf");
    let bare = in_memory(None);
    assert!(bare.warnings()[0].contains("no config.json"), "{:?}", bare.warnings());
}

/// The tensors of a shard by name: shape, and bytes of f32.
type Shard = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// The micro model in two shards and their index.
struct Sharded {
    shards: [Shard; 2],
    map: BTreeMap<String, String>,
}

impl Sharded {
    fn new() -> Self {
        let model = Model::seeded(0, ModelSize::Micro);
        let (specs, weights) = (Weights::specs(model.config()), model.weights().expect("weights"));
        let mut sharded = Self { shards: [BTreeMap::new(), BTreeMap::new()], map: BTreeMap::new() };
        for (i, (spec, tensor)) in specs.leaves().iter().zip(weights.leaves()).enumerate() {
            let bytes = tensor.data().iter().flat_map(|v| v.to_le_bytes()).collect();
            sharded.shards[i % 2].insert(spec.name.clone(), (tensor.shape().to_vec(), bytes));
            sharded.map.insert(spec.name.clone(), [FIRST, SECOND][i % 2].into());
        }
        sharded
    }

    fn index(&self) -> Vec<u8> {
        json!({ "metadata": { "total_size": 1 }, "weight_map": self.map }).to_string().into_bytes()
    }

    fn bytes(&self, shard: usize) -> Vec<u8> {
        let view = |bytes, shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a view");
        let views = self.shards[shard].iter().map(|(name, (shape, bytes))| (name, view(bytes.as_slice(), shape)));
        safetensors::serialize(views, None).expect("written")
    }

    /// Writes the shards and the index. Returns the path of the index.
    fn write(&self, folder: &Path) -> PathBuf {
        fs::write(folder.join(FIRST), self.bytes(0)).expect("written");
        fs::write(folder.join(SECOND), self.bytes(1)).expect("written");
        fs::write(folder.join(INDEX), self.index()).expect("written");
        folder.join(INDEX)
    }

    /// Opens the model from memory, as a program that downloads shards does.
    fn open(&self) -> meddino::Result<Model> {
        let mut shards = Shards::with_index("micro", &self.index())?;
        for name in shards.missing() {
            let shard = [FIRST, SECOND].iter().position(|known| *known == name);
            shards.add_bytes(&name, self.bytes(shard.unwrap_or(0)))?;
        }
        assert!(shards.missing().is_empty());
        Model::from_checkpoint(shards.finish()?)
    }

    /// The error of opening from files, which must equal the error of opening from memory.
    fn error(&self) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let from_files = Model::open(self.write(folder.path())).err().expect("refused").to_string();
        let from_memory = self.open().err().expect("refused").to_string();
        let problem = |error: &str| error.split_once(": ").expect("a problem").1.to_string();
        assert_eq!(problem(&from_files), problem(&from_memory));
        from_files
    }
}

#[test]
fn shards_hold_the_same_model_as_one_file() {
    let (sharded, folder) = (Sharded::new(), tempfile::tempdir().expect("a folder"));
    let index = sharded.write(folder.path());
    let whole = Model::seeded(0, ModelSize::Micro);
    for model in [Model::open(&index).expect("files"), sharded.open().expect("memory")] {
        assert_eq!(model.checkpoint().container(), Container::Shards(2));
        assert_eq!(model.checkpoint().shard_of("cls_token"), Some(FIRST));
        assert_eq!((model.config(), weights(&model) == weights(&whole)), (whole.config(), true));
    }
    let opened = Checkpoint::open(&index).expect("files");
    assert_eq!(opened.files(), [INDEX, FIRST, SECOND].map(|name| folder.path().join(name)));
    let config = folder.path().join("config.json");
    assert_eq!(files_of(&index), [index.clone(), config, folder.path().join(FIRST), folder.path().join(SECOND)]);
    // The hash covers every shard.
    let before = opened.sha256().expect("hashed");
    let mut changed = Sharded::new();
    changed.shards[1].values_mut().next().expect("a tensor").1[0] ^= 1;
    changed.write(folder.path());
    assert_ne!(Checkpoint::open(&index).expect("files").sha256().expect("hashed"), before);
    // A single shard is refused.
    let error = Model::open(folder.path().join(FIRST)).err().expect("refused").to_string();
    assert!(error.contains("is one shard of a model") && error.contains(INDEX), "{error}");
}

#[test]
fn errors_in_a_shard_name_it() {
    type Change = fn(&mut Sharded);
    let cases: [(Change, &[&str]); 6] = [
        (|s| drop(s.shards[0].remove("cls_token")), &["cls_token is missing from it", FIRST]),
        (
            |s| {
                let twice = s.shards[0]["cls_token"].clone();
                s.shards[1].insert("cls_token".into(), twice);
            },
            &["cls_token occurs twice", FIRST, SECOND],
        ),
        (|s| s.shards[0].get_mut("cls_token").expect("a tensor").0 = vec![64], &["cls_token [64] instead of [1, 1, 64]", FIRST]),
        (|s| drop(s.map.insert("cls_token".into(), SECOND.into())), &["cls_token should be in it", FIRST, SECOND]),
        (|s| drop(s.map.insert("cls_token".into(), "../other".into())), &["../other", "a file in the same folder"]),
        (|s| s.map.clear(), &["lists no tensor"]),
    ];
    for (change, parts) in cases {
        let mut sharded = Sharded::new();
        change(&mut sharded);
        let error = sharded.error();
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
}

#[test]
fn missing_and_repeated_shards_are_named() {
    let (sharded, folder) = (Sharded::new(), tempfile::tempdir().expect("a folder"));
    let index = sharded.write(folder.path());
    fs::remove_file(folder.path().join(SECOND)).expect("removed");
    let mut shards = Shards::with_index("micro", &sharded.index()).expect("an index");
    shards.add_bytes(FIRST, sharded.bytes(0)).expect("added");
    let twice = shards.add_bytes(FIRST, sharded.bytes(0)).expect_err("refused").to_string();
    assert!(twice.contains(FIRST) && twice.contains("already"), "{twice}");
    let pickle = shards.add_bytes(SECOND, fs::read(fixture("flat.pth")).expect("read")).expect_err("refused").to_string();
    assert!(pickle.contains(SECOND) && pickle.contains("no safetensors file"), "{pickle}");
    assert_eq!(shards.missing(), [SECOND]);
    for error in [Model::open(&index).err().expect("refused").to_string(), shards.finish().err().expect("refused").to_string()] {
        assert!(error.contains(SECOND), "{error}");
    }
    fs::write(&index, "{\"hello\": 1}").expect("written");
    let error = Model::open(&index).err().expect("refused").to_string();
    assert!(error.contains("is JSON, but no checkpoint") && error.contains("weight_map"), "{error}");
}

/// On Linux, file names are bytes.
#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_unicode() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(OsStr::from_bytes(b"m\xe9dino.pth"));
    fs::copy(fixture("flat.pth"), &path).expect("copied");
    let written = folder.path().join(OsStr::from_bytes(b"m\xe9dino.safetensors"));
    let model = ModelSource::parse(&path).and_then(|source| source.open()).expect("opened");
    model.write_safetensors(&written, meddino::checkpoint::Dtype::F32).expect("written");
    assert!(weights(&Model::open(&written).expect("opened")) == weights(&model));
}
