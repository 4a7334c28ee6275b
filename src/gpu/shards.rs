//! A model whose weights go to the device shard by shard, as they arrive.

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::model::Gpu;
use super::weights::{GpuWeights, Upload};
use crate::error::Result;
use crate::vit::arriving::ArrivingWeights;
use crate::vit::config::RopePrecision;
use crate::vit::forward::stored;

/// Loads a model from safetensors shards, and needs host memory for one shard at a time.
///
/// Every shard must state the model's configuration, as the files that this crate writes do
/// ([`CONFIG_KEY`](crate::checkpoint::CONFIG_KEY)). It is checked, converted to the device's element type and uploaded
/// when it is added, in any order, and its bytes are then dropped. The model computes the same bits as one from a single
/// file. For shards of other programs, use [`Shards`](crate::checkpoint::Shards).
///
/// ```no_run
/// use meddino::backbone::Backbone;
/// use meddino::gpu::{Context, Selection, ShardLoader};
/// # async fn fetch(name: &str) -> Vec<u8> { Vec::new() }
/// # async fn example(index: &[u8]) -> meddino::Result<()> {
/// let context = Context::new_async(&Selection::Auto).await?;
/// let mut loader = ShardLoader::with_index(&context, "MedDINOv3", index)?; // model.safetensors.index.json
/// for name in loader.missing() {
///     loader.add_async(&name, fetch(&name).await).await?;
/// }
/// let backbone = Backbone::from_gpu(loader.finish_async().await?);
/// # Ok(())
/// # }
/// ```
pub struct ShardLoader {
    context: Context,
    arriving: ArrivingWeights,
    weights: GpuWeights,
    rope: Option<RopePrecision>,
}

impl ShardLoader {
    /// Creates a loader for a model that messages call `source_name`. Without an index, [`ShardLoader::finish`] tells
    /// whether all shards were added.
    pub fn new(context: &Context, source_name: impl Into<String>) -> Self {
        Self::of(context, ArrivingWeights::new(source_name))
    }

    /// Creates a loader for the shards that the JSON of an index (`model.safetensors.index.json`) lists.
    ///
    /// # Errors
    /// If `index` is not the JSON of such an index.
    pub fn with_index(context: &Context, source_name: impl Into<String>, index: &[u8]) -> Result<Self> {
        Ok(Self::of(context, ArrivingWeights::with_index(source_name, index)?))
    }

    fn of(context: &Context, arriving: ArrivingWeights) -> Self {
        Self { context: context.without_shader_checks(), arriving, weights: GpuWeights::default(), rope: None }
    }

    /// Sets the precision of the position embedding; none for the one that the shards state.
    pub fn set_rope(&mut self, rope: Option<RopePrecision>) {
        self.rope = rope;
    }

    /// Returns the names of the shards that the index lists and that are not added yet; empty without an index.
    pub fn missing(&self) -> Vec<String> {
        self.arriving.missing()
    }

    /// Returns the bytes of weights on the device.
    pub fn bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Uploads the shard called `shard`, which `bytes` hold as a whole; blocks until the device has it.
    ///
    /// Beside the shard, the host holds one parameter as f32, and at most about 64 MiB that the device has not copied
    /// yet. After an error the loader is as it was before, so that the caller may fetch the shard again and add it.
    ///
    /// # Errors
    /// If the bytes are not a complete safetensors file; if the shard was added already, or the index does not list it;
    /// if it states no configuration, or another one than the shards before it; if a tensor is unknown, misshapen, in
    /// another shard as well, not in the shard that the index lists, or not finite; or if the device is out of memory
    /// or lost. An error in a shard names the shard and the tensor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn add(&mut self, shard: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<()> {
        block_on(self.add_async(shard, bytes))
    }

    /// `ShardLoader::add` as a future. If the future is dropped, the shard is not added.
    ///
    /// # Errors
    /// If the bytes are not a complete safetensors file; if the shard was added already, or the index does not list it;
    /// if it states no configuration, or another one than the shards before it; if a tensor is unknown, misshapen, in
    /// another shard as well, not in the shard that the index lists, or not finite; or if the device is out of memory
    /// or lost. An error in a shard names the shard and the tensor.
    pub async fn add_async(&mut self, shard: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<()> {
        let arrived = self.arriving.open(shard, bytes)?;
        let mut upload = Upload::new(&self.context);
        for spec in arrived.specs() {
            upload.add(&spec.name, &arrived.load(spec)?, stored(spec, self.context.limits().elem)).await?;
        }
        self.weights.extend(upload.finish().await?);
        self.arriving.accept(arrived);
        Ok(())
    }

    /// Opens the model; blocks while the device's speed is measured.
    ///
    /// # Errors
    /// If a shard or a tensor is missing, or the device is out of memory or lost. The error names the missing ones.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish(self) -> Result<Gpu> {
        block_on(self.finish_async())
    }

    /// `ShardLoader::finish` as a future.
    ///
    /// # Errors
    /// If a shard or a tensor is missing, or the device is out of memory or lost. The error names the missing ones.
    pub async fn finish_async(self) -> Result<Gpu> {
        let mut config = self.arriving.finish()?;
        config.rope = self.rope.unwrap_or(config.rope);
        Gpu::assembled(self.context, &config, self.weights).await
    }
}
