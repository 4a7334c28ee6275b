//! Which tiles are the fastest on a device. This file decides what is tried and what is used: [`bench`] runs tiles,
//! [`contest`] judges them, and [`trial`] reports them.

mod bench;
mod contest;
mod trial;

use std::time::Duration;

use self::bench::{Bench, Subject};
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
#[cfg(feature = "files")]
use super::tile_cache::TileCache;
use crate::error::Result;
use crate::graph::{Elem, Limits, ProductTile, TensorId, TileChoice, Tiles};
use crate::kernels::{Epilogue, Recorder, Rotation, attention_tiles, product_defaults, product_tiles};
use crate::vit::config::Config;

pub use self::trial::Trial;

/// Sides in pixels of the images that stand for few, some and many rows.
const FEW: usize = 224;
const SOME: usize = 512;
const MANY: usize = 896;

/// A device is slow if it takes longer than this for the image of [`SOME`] rows. The dispatches of the largest image
/// could then last so long that the driver resets the device, so what is fastest for some rows is taken for many.
const SLOW: Duration = Duration::from_millis(10);

impl Context {
    /// The same device with these tiles.
    #[must_use]
    pub fn with_tiles(&self, tiles: Tiles) -> Self {
        let mut tuned = self.clone();
        tuned.limits.tiles = tiles;
        tuned
    }

    /// The same device with the tiles that an earlier [`Context::tune`] kept in `cache`. If `cache` has none, a real
    /// GPU is tuned, which takes some seconds, and the result is kept; a software GPU is not tuned, because that would
    /// take a minute. Without a cache the device stays as it is.
    ///
    /// If the record makes no sense, the trials fail, or the folder cannot be written to, [`Context::warnings`] says
    /// so, and the device has the tiles that suit most devices.
    #[cfg(all(feature = "files", not(target_arch = "wasm32")))]
    #[must_use]
    pub fn with_best_tiles(&self, cache: Option<&TileCache>) -> Self {
        block_on(self.with_best_tiles_async(cache))
    }

    /// [`Context::with_best_tiles`] as a future.
    #[cfg(feature = "files")]
    #[must_use]
    pub async fn with_best_tiles_async(&self, cache: Option<&TileCache>) -> Self {
        let Some(cache) = cache else { return self.clone() };
        let mut warnings = Vec::new();
        let kept = cache.load(self).unwrap_or_else(|problem| {
            warnings.push(problem);
            None
        });
        let tiles = match kept {
            None if !self.abilities().is_software() => self.tuned_tiles(cache, &mut warnings).await,
            kept => kept,
        };
        let mut tuned = self.with_tiles(tiles.unwrap_or_default());
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        tuned.warnings.extend(warnings);
        tuned
    }

    /// Tunes, and keeps the result in `cache`. A failure becomes a warning, because the device computes without the
    /// result as well.
    #[cfg(feature = "files")]
    async fn tuned_tiles(&self, cache: &TileCache, warnings: &mut Vec<String>) -> Option<Tiles> {
        match self.tune_async(|_| Ok(())).await {
            Ok(tiles) => {
                warnings.extend(cache.save(self, tiles).err().map(|e| e.to_string()));
                Some(tiles)
            }
            Err(problem) => {
                warnings.push(format!("tile geometries could not be tried, and those that suit most devices are used: {problem}"));
                None
            }
        }
    }

    /// Tries every tile that the device allows, for this context's tier and type of elements. `seen` receives each
    /// group of trials, those of one kernel over the same number of rows, and ends the tuning if it returns an error. A
    /// tile whose results differ from the default's is never taken.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or `seen` fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tune(&self, seen: impl FnMut(&[Trial]) -> Result<()>) -> Result<Tiles> {
        block_on(self.tune_async(seen))
    }

    /// [`Context::tune`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or `seen` fails.
    pub async fn tune_async(&self, mut seen: impl FnMut(&[Trial]) -> Result<()>) -> Result<Tiles> {
        // Without the checks, because the model runs its kernels without them.
        let context = self.without_shader_checks();
        let model = Config::vit_base();
        let few = context.fastest(&model, FEW, &mut seen).await?;
        let some = context.fastest(&model, SOME, &mut seen).await?;
        let slow = context.is_slow(&model, SOME).await?;
        let many = if slow { some } else { context.fastest(&model, MANY, &mut seen).await? };
        Ok(Tiles { few, some, many })
    }

    /// The fastest tiles for an image of `side` x `side` pixels.
    async fn fastest(&self, model: &Config, side: usize, seen: &mut impl FnMut(&[Trial]) -> Result<()>) -> Result<TileChoice> {
        let limits = self.untuned();
        let rows = tokens(model, side)?;
        let all = |choice| Limits { tiles: Tiles::all(choice), ..limits };
        let products = product_tiles(&limits, limits.elem);
        let with_product = |tile| all(TileChoice::of_products(tile));
        let defaults = product_defaults(&limits, limits.elem).of(rows);
        let wide =
            contest::run((self, &wide_products(limits.elem, model, rows)), &led_by(defaults.wide, &products), with_product, seen).await?;
        let narrow =
            contest::run((self, &narrow_products(limits.elem, model, rows)), &led_by(defaults.narrow, &products), with_product, seen)
                .await?;
        let tiles = attention_tiles(&limits, model.head_dim(), limits.elem);
        let with_attention = |tile| all(TileChoice::of_attention(tile));
        let attention = contest::run((self, &attention(limits.elem, model, rows)), &tiles, with_attention, seen).await?;
        Ok(TileChoice { wide, narrow, attention })
    }

    /// Whether the default tiles take long for an image of `side` x `side` pixels.
    async fn is_slow(&self, model: &Config, side: usize) -> Result<bool> {
        let rows = tokens(model, side)?;
        let elem = self.limits.elem;
        for subject in [wide_products(elem, model, rows), attention(elem, model, rows)] {
            if Bench::new(self, &subject).await?.once(&self.untuned()).await?.seconds > SLOW.as_secs_f64() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn untuned(&self) -> Limits {
        Limits { tiles: Tiles::DEFAULT, max_work: None, ..self.limits }
    }
}

/// The same tiles with the default first, so that a contest compares the others with it.
fn led_by(default: Option<ProductTile>, tiles: &[ProductTile]) -> Vec<ProductTile> {
    let first = default.or(tiles.first().copied());
    first.into_iter().chain(tiles.iter().copied().filter(|tile| Some(*tile) != first)).collect()
}

fn tokens(model: &Config, side: usize) -> Result<usize> {
    Ok(model.prefix_tokens() + model.grid(side, side)?.patches())
}

/// The products of a block that count as wide ([`TileChoice::WIDE`]), with what follows them. All tiles of a tier give queries
/// and keys the same order, so results can be compared. They are not rounded to bf16, which would make large differences of
/// differences in the last bit.
fn wide_products(elem: Elem, model: &Config, rows: usize) -> Subject<'static> {
    let (c, hidden) = (model.embed_dim, model.ffn_dim);
    let record = &|g: &mut Recorder, inputs: &[TensorId]| {
        let &[x, qkv, qkv_bias, table, fc1, fc1_bias] = inputs else { unreachable!("six inputs") };
        let [width, half] = [(fc1, 1), (table, 2)].map(|(id, axis): (TensorId, usize)| g.graph().info(id).shape[axis]);
        let rotation = Rotation { table, heads: width / (2 * half), bf16: false };
        let [(turned, _), ..] = g.rope("qkv", x, qkv, Some(qkv_bias), rotation)?.parts();
        Ok(vec![turned, g.matmul("fc1", x, fc1, Epilogue::BiasGelu(fc1_bias))?])
    };
    let inputs = vec![
        (elem, vec![1, rows, c]),
        (elem, vec![3 * c, c]),
        (Elem::F32, vec![3 * c]),
        (Elem::F32, vec![2, rows - model.prefix_tokens(), model.head_dim() / 2]),
        (elem, vec![hidden, c]),
        (Elem::F32, vec![hidden]),
    ];
    Subject { kernel: "wide products", rows, inputs, record }
}

/// The products of a block that count as narrow, with what follows them. One vector serves as bias and as LayerScale's
/// factors of both.
fn narrow_products(elem: Elem, model: &Config, rows: usize) -> Subject<'static> {
    let (c, hidden) = (model.embed_dim, model.ffn_dim);
    let record = &|g: &mut Recorder, inputs: &[TensorId]| {
        let &[attended, activated, proj, fc2, vector, residual] = inputs else { unreachable!("six inputs") };
        let epilogue = Epilogue::BiasLayerScaleResidual { bias: vector, gamma: vector, residual };
        Ok(vec![g.matmul("proj", attended, proj, epilogue)?, g.matmul("fc2", activated, fc2, epilogue)?])
    };
    let inputs = vec![
        (elem, vec![rows, c]),
        (elem, vec![rows, hidden]),
        (elem, vec![c, c]),
        (elem, vec![c, hidden]),
        (Elem::F32, vec![c]),
        (Elem::F32, vec![rows, c]),
    ];
    Subject { kernel: "narrow products", rows, inputs, record }
}

fn attention(elem: Elem, model: &Config, tokens: usize) -> Subject<'static> {
    let record = &|g: &mut Recorder, inputs: &[TensorId]| {
        let qkv = g.heads("attention", [inputs[0], inputs[1], inputs[2]]);
        Ok(vec![g.attention("attention", qkv)?])
    };
    let shape = vec![1, model.num_heads, tokens, model.head_dim()];
    Subject { kernel: "attention", rows: tokens, inputs: vec![(elem, shape); 3], record }
}
