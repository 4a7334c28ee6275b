//! Weights that arrive shard by shard: the same bits as from one file, memory for one shard, and errors that name the
//! tensor and its shard.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;

use meddino::backbone::Backbone;
use meddino::checkpoint::{CONFIG_KEY, Checkpoint, Dtype};
use meddino::gpu::{Gpu, ShardLoader};
use meddino::graph::Elem;
use meddino::vit::config::{Config, ModelSize};
use meddino::vit::model::Model;
use meddino::vit::weights::{Spec, Weights};
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::{common, device, everything, image, same_bits};

/// The tensors of a shard by name: type, shape and bytes.
type ShardTensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A model in shards, as `meddino` writes one.
#[derive(Clone)]
struct Sharded {
    config: serde_json::Value,
    shards: Vec<ShardTensors>,
    map: BTreeMap<String, String>,
}

fn name(shard: usize) -> String {
    format!("model-{shard}.safetensors")
}

impl Sharded {
    /// Divides the tensors of a safetensors file among `count` shards.
    fn of(file: &[u8], config: &Config, count: usize) -> Self {
        let mut sharded = Self { config: config.to_json(), shards: vec![BTreeMap::new(); count], map: BTreeMap::new() };
        let file = safetensors::SafeTensors::deserialize(file).expect("a safetensors file");
        for (i, spec) in Weights::specs(config).leaves().into_iter().enumerate() {
            let tensor = file.tensor(&spec.name).expect("a tensor");
            sharded.map.insert(spec.name.clone(), name(i % count));
            sharded.shards[i % count].insert(spec.name.clone(), (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
        }
        sharded
    }

    /// The micro model in two shards.
    fn micro() -> Self {
        let model = Model::seeded(0, ModelSize::Micro);
        Self::of(&file_of(&model, Dtype::F32), model.config(), 2)
    }

    fn index(&self) -> Vec<u8> {
        json!({ "weight_map": self.map }).to_string().into_bytes()
    }

    fn bytes(&self, shard: usize) -> Vec<u8> {
        let tensors = self.shards[shard].iter();
        let views = tensors.map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a view")));
        let metadata = (!self.config.is_null()).then(|| [(CONFIG_KEY.to_string(), self.config.to_string())].into());
        safetensors::serialize(views, metadata).expect("written")
    }

    fn cls_token(&mut self) -> &mut (safetensors::Dtype, Vec<usize>, Vec<u8>) {
        self.shards[0].get_mut("cls_token").expect("a tensor")
    }

    /// Puts the first shard's class token into the second shard under this name.
    fn copy(&mut self, name: &str) {
        let token = self.cls_token().clone();
        self.shards[1].insert(name.into(), token);
    }

    /// Loads the shards in this order.
    fn load(&self, context: &meddino::gpu::Context, order: &[usize]) -> meddino::Result<Gpu> {
        let mut loader = ShardLoader::with_index(context, "micro", &self.index())?;
        for &shard in order {
            loader.add(&name(shard), self.bytes(shard))?;
        }
        loader.finish()
    }
}

/// The bytes of the file that `model` writes.
fn file_of(model: &Model, dtype: Dtype) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model.write_safetensors(&path, dtype).expect("written");
    fs::read(path).expect("read")
}

#[test]
fn shards_give_the_bits_of_one_file_in_any_order() {
    let Some(context) = device::context() else { return };
    let model = Model::seeded(3, ModelSize::Tiny);
    let (image, request) = (image([2, 3, 48, 80]), everything(model.config()));
    let contexts = [Elem::F32, Elem::F16].map(|elem| context.tuned(elem, None));
    for context in contexts.into_iter().flatten() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let file = file_of(&model, dtype);
            let sharded = Sharded::of(&file, model.config(), 4);
            let whole = Model::from_checkpoint(Checkpoint::from_bytes("file", file).expect("a checkpoint")).expect("a model");
            let want = Gpu::new(&context, model.config(), &whole.weights().expect("weights")).unwrap();
            let features = want.forward(&image, None, &request).unwrap();
            for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
                let gpu = sharded.load(&context, &order).unwrap();
                assert_eq!((gpu.config(), gpu.weights().bytes()), (model.config(), want.weights().bytes()));
                assert!(same_bits(&gpu.forward(&image, None, &request).unwrap(), &features), "{dtype} {order:?}");
            }
            let opened = Gpu::open(&context, &whole).unwrap();
            assert!(same_bits(&opened.forward(&image, None, &request).unwrap(), &features), "{dtype}: one file");
        }
    }
}

/// Without an index, and on an executor that does not know the device.
#[test]
fn shards_load_on_any_executor_and_the_facade_takes_the_model() {
    let Some(context) = device::context() else { return };
    let (sharded, image) = (Sharded::micro(), image([1, 1, 32, 48]));
    let loaded = async {
        let mut loader = ShardLoader::new(&context, "micro");
        assert!(loader.missing().is_empty() && loader.bytes() == 0);
        for shard in [1, 0] {
            loader.add_async(&name(shard), sharded.bytes(shard)).await?;
        }
        let backbone = Backbone::from_gpu(loader.finish_async().await?);
        backbone.features_async(&image, None, &everything(backbone.config())).await
    };
    let want = Backbone::on(&Model::seeded(0, ModelSize::Micro), &context).unwrap();
    let want = want.features(&image, None, &everything(want.config())).unwrap();
    assert!(same_bits(&pollster::block_on(loaded).unwrap(), &want));
}

#[test]
fn a_wrong_shard_is_an_error_that_names_the_tensor_and_the_shard() {
    type Change = fn(&mut Sharded);
    let Some(context) = device::context() else { return };
    let cases: [(Change, &[&str]); 11] = [
        (|s| drop(s.shards[0].remove("cls_token")), &["model-0", "cls_token is missing from it", "the index lists it"]),
        (|s| s.copy("cls_token"), &["model-1", "cls_token is in it", "model-0"]),
        (
            |s| {
                s.copy("cls_token");
                s.map.remove("cls_token");
            },
            &["model-1", "cls_token occurs twice", "model-0"],
        ),
        (|s| s.copy("head"), &["model-1", "head [1, 1, 64] is no tensor"]),
        (|s| s.cls_token().1 = vec![64], &["model-0", "cls_token [64] instead of [1, 1, 64]"]),
        (|s| s.cls_token().2[..4].copy_from_slice(&f32::NAN.to_le_bytes()), &["model-0", "tensor cls_token holds NaN at index 0"]),
        (|s| s.cls_token().0 = safetensors::Dtype::I32, &["model-0", "tensor cls_token", "expected f32"]),
        (|s| s.config = json!({ "embed_dim": 64 }), &["model-0", "does not state depth"]),
        (|s| s.config["num_heads"] = json!(7), &["model-0", "7 heads"]),
        (|s| s.config = json!(null), &["model-0", CONFIG_KEY, "checkpoint::Shards"]),
        (|s| drop(s.map.insert("cls_token".into(), "../other".into())), &["../other", "a file in the same folder"]),
    ];
    for (change, parts) in cases {
        let mut wrong = Sharded::micro();
        change(&mut wrong);
        let error = wrong.load(&context, &[0, 1]).expect_err("refused").to_string();
        assert!(error.starts_with("checkpoint micro: ") && parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
    let (one, mut other) = (Sharded::micro(), Sharded::micro());
    other.config["norm_eps"] = json!(1e-5);
    let mut loader = ShardLoader::new(&context, "micro");
    loader.add(&name(1), one.bytes(1)).unwrap();
    let error = loader.add(&name(0), other.bytes(0)).expect_err("refused").to_string();
    assert!(error.contains("model-0") && error.contains("another configuration than the shard model-1"), "{error}");
}

/// An error leaves the loader as it was, so that the right shard can follow.
#[test]
fn missing_repeated_and_cut_shards_are_named_and_the_right_one_may_follow() {
    let Some(context) = device::context() else { return };
    let sharded = Sharded::micro();
    let mut loader = ShardLoader::with_index(&context, "micro", &sharded.index()).unwrap();
    let refused = |loader: &mut ShardLoader, shard: &str, bytes: Vec<u8>| {
        let before = (loader.missing(), loader.bytes());
        let error = loader.add(shard, bytes).expect_err("refused").to_string();
        assert!(error.contains(&format!("shard {shard}")) && before == (loader.missing(), loader.bytes()), "{error}");
        error
    };
    let whole = sharded.bytes(0);
    assert!(refused(&mut loader, &name(0), whole[..whole.len() - 1].to_vec()).contains("download it again"));
    assert!(refused(&mut loader, &name(0), b"<html>not found</html>".to_vec()).contains("safetensors"));
    let mut nan = sharded.clone();
    let last = nan.shards[0].values_mut().last().expect("a tensor");
    last.2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(refused(&mut loader, &name(0), nan.bytes(0)).contains("finite"));
    loader.add(&name(0), whole.clone()).unwrap();
    assert!(refused(&mut loader, &name(0), whole).contains("already"));
    assert!(refused(&mut loader, "other.safetensors", sharded.bytes(1)).contains("the index does not list it"));
    assert_eq!(loader.missing(), [name(1)]);
    loader.add(&name(1), sharded.bytes(1)).unwrap();
    let parameters: usize =
        Weights::specs(loader.finish().unwrap().config()).leaves().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
    assert_eq!(parameters, Model::seeded(0, ModelSize::Micro).parameters());

    let error = sharded.load(&context, &[0]).expect_err("refused").to_string();
    assert!(error.contains("shard model-1.safetensors: it is missing"), "{error}");
    let mut unlisted = ShardLoader::new(&context, "micro");
    unlisted.add(&name(0), sharded.bytes(0)).unwrap();
    let error = unlisted.finish().expect_err("refused").to_string();
    let (first, _) = sharded.shards[1].first_key_value().expect("a tensor");
    assert!(error.contains("model-0.safetensors do") && error.contains(first), "{error}");
    let error = ShardLoader::new(&context, "micro").finish().expect_err("refused").to_string();
    assert!(error.contains("no shard was added"), "{error}");
}

/// The system's allocator, which records the bytes that each thread holds, and their peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no more counters.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
    });
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one hands everything to the system's")]
// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`, and returns the most bytes that this thread held meanwhile beyond what it held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let value = work();
    (value, (PEAK.get() - before).cast_unsigned())
}

/// A model of 38 MB, with a shard for each block. Beside the shard, the host holds one tensor: its bytes, and its values
/// as f32.
#[test]
fn the_host_holds_one_shard_at_a_time() {
    let Some(context) = device::context() else { return };
    let config = Config { embed_dim: 256, depth: 12, num_heads: 4, ffn_dim: 1024, ..Config::tiny() };
    let folder = tempfile::tempdir().expect("a folder");
    let specs = Weights::specs(&config);
    let shard_of = |spec: &Spec| spec.name.split('.').nth(1).and_then(|block| block.parse().ok()).unwrap_or(config.depth);
    let (mut whole, mut largest_shard, mut largest_tensor) = (0, 0, 0);
    for shard in 0..=config.depth {
        let mut sharded = Sharded { config: config.to_json(), shards: vec![ShardTensors::new()], map: BTreeMap::new() };
        for spec in specs.leaves().into_iter().filter(|spec| shard_of(spec) == shard) {
            let values = common::uniform(&spec.name, spec.shape.iter().product(), 0);
            let bytes: Vec<u8> = values.iter().flat_map(|v| (0.02 * v).to_le_bytes()).collect();
            largest_tensor = largest_tensor.max(bytes.len());
            sharded.shards[0].insert(spec.name.clone(), (safetensors::Dtype::F32, spec.shape.clone(), bytes));
        }
        let bytes = sharded.bytes(0);
        (whole, largest_shard) = (whole + bytes.len(), largest_shard.max(bytes.len()));
        fs::write(folder.path().join(name(shard)), bytes).expect("written");
    }
    let (gpu, held) = peak(|| {
        let mut loader = ShardLoader::new(&context, "large");
        for shard in 0..=config.depth {
            loader.add(&name(shard), fs::read(folder.path().join(name(shard))).expect("read"))?;
        }
        loader.finish()
    });
    assert_eq!(gpu.unwrap().config(), &config);
    println!("{whole} bytes in shards of at most {largest_shard}; the host held {held}");
    let allowed = largest_shard + 2 * largest_tensor + (1 << 20);
    assert!(held >= largest_shard && held < allowed && allowed < whole / 4, "{held} of {whole} bytes; allowed are {allowed}");
}
