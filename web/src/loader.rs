//! A model whose shards go to the GPU one by one, while others still arrive.

use meddino::backbone::Backbone;
use meddino::gpu::{Context, ShardLoader};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::device;
use crate::engine::Engine;
use crate::error::Result;
use crate::identity::Pieces;
use crate::options;

/// The shards of a model, which are added in any order. Memory holds one shard at a time.
#[wasm_bindgen]
pub struct Loader {
    shards: ShardLoader,
    context: Context,
    name: String,
    pieces: Pieces,
}

#[wasm_bindgen]
impl Loader {
    /// Opens the browser's GPU for the model whose index of shards (`model.safetensors.index.json`) is `index`. The
    /// options are those of [`Engine::load`].
    pub async fn open(
        name: String,
        index: Vec<u8>,
        precision: Option<String>,
        tier: Option<String>,
        rope: Option<String>,
    ) -> Result<Loader> {
        let rope = rope.as_deref().map(options::rope).transpose()?;
        let (mut shards, context) = device::on(precision, tier, async |context| ShardLoader::with_index(context, &name, &index)).await?;
        shards.set_rope(rope);
        let pieces = Pieces::of_index(&name, &index);
        Ok(Self { shards, context, name, pieces })
    }

    /// Checks the shard called `shard`, which has this SHA-256, and uploads it. After an error the shard may be added
    /// again.
    pub async fn add(&mut self, shard: String, sha256: String, bytes: Vec<u8>) -> Result<()> {
        self.shards.add_async(&shard, bytes).await.map_err(device::failed)?;
        self.pieces.add(shard, sha256);
        Ok(())
    }

    /// Returns the bytes of weights on the GPU.
    pub fn bytes(&self) -> f64 {
        self.shards.bytes() as f64
    }

    /// Opens the model that the shards hold.
    pub async fn finish(self) -> Result<Engine> {
        let gpu = self.shards.finish_async().await.map_err(device::failed)?;
        let mut engine = Engine::new(Backbone::from_gpu(gpu), Some(self.context), self.name, &[])?;
        engine.identify(self.pieces.identity());
        Ok(engine)
    }
}
