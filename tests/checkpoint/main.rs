//! Checkpoints: every layout gives the same weights and the right configuration, from files, from memory and in shards.
//! One error lists every mismatch.

mod config;
mod conversion;
mod layouts;
mod pieces;
mod refused;
mod seeded;
mod values;
mod wrapping;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use meddino::Tensor;
use meddino::vit::config::ModelSize;
use meddino::vit::model::Model;
use meddino::vit::weights::Weights;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/micro").join(name)
}

fn open(path: &Path) -> meddino::Result<Model> {
    Model::open(path)
}

fn error(path: &Path) -> String {
    open(path).err().map_or_else(|| "no error".into(), |e| e.to_string())
}

/// Runs `check` on every case and reports every failure.
fn table<C>(cases: &[C], name: impl Fn(&C) -> String, check: impl Fn(&C) -> Result<(), String>) {
    let failed: Vec<_> = cases.iter().filter_map(|c| check(c).err().map(|e| format!("{}: {e}", name(c)))).collect();
    assert!(failed.is_empty(), "{} of {} cases fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn ensure(ok: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(problem()) }
}

/// The parameters by name.
type State = BTreeMap<String, Tensor>;

fn state(model: &Model) -> State {
    let specs = Weights::specs(model.config());
    let weights = model.weights().unwrap();
    specs.leaves().iter().zip(weights.leaves()).map(|(s, t)| (s.name.clone(), t.clone())).collect()
}

fn micro() -> State {
    state(&Model::seeded(0, ModelSize::Micro))
}

fn write(path: &Path, state: &State, metadata: Option<HashMap<String, String>>) {
    let bytes: BTreeMap<_, Vec<u8>> = state.iter().map(|(n, t)| (n, t.data().iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = state.iter().map(|(n, t)| (n, TensorView::new(FileDtype::F32, t.shape().to_vec(), &bytes[n]).unwrap()));
    fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

/// Writes the micro model, after `change`, to a file in a new folder.
fn changed(change: impl FnOnce(&mut State)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut state = micro();
    change(&mut state);
    write(&path, &state, None);
    (dir, path)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A copy whose tensors are renamed by `rename`.
fn renamed(state: &State, rename: impl Fn(&str) -> String) -> State {
    state.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

/// Writes a file of these tensors and opens it.
fn opened(state: &State) -> (TempDir, Result<Model, String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, state, None);
    let model = open(&path).map_err(|e| e.to_string());
    (dir, model)
}

/// A value rounded to half precision.
type Rounding = fn(f32) -> f32;
const EXACT: Rounding = |v| v;
const TO_BF16: Rounding = |v| bf16::from_f32(v).to_f32();
const TO_F16: Rounding = |v| f16::from_f32(v).to_f32();
