//! Which device computes.

use super::Tuning;
#[cfg(feature = "cpu")]
use crate::cpu;
#[cfg(not(feature = "cpu"))]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "files")]
use crate::gpu::TileCache;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Auto, Context, Selection, devices_async};

/// Which backend is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A real GPU if there is one, else the CPU: it is faster than a software GPU.
    #[default]
    Auto,
    /// The selected adapter, a software one too, or an error.
    Gpu(Selection),
    /// The CPU; an error in a build without the feature `cpu`.
    Cpu,
}

impl Choice {
    /// The device that it means, to compute as `tuning` says.
    pub(crate) async fn device(self, tuning: Tuning) -> Result<Device> {
        let Some(context) = self.context_async(tuning).await? else { return Device::cpu(tuning) };
        #[cfg(feature = "files")]
        let context = context.with_best_tiles_async(TileCache::from_env().as_ref()).await;
        Ok(Device::Gpu(Box::new(context)))
    }

    /// The GPU that it means, with the kernels that `tuning` asks for and no tile geometries of its own; none for the CPU.
    ///
    /// # Errors
    /// If no adapter answers to the selection, or it cannot compute as `tuning` says.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn context(self, tuning: Tuning) -> Result<Option<Context>> {
        block_on(self.context_async(tuning))
    }

    /// [`Choice::context`] as a future.
    ///
    /// # Errors
    /// If no adapter answers to the selection, or it cannot compute as `tuning` says.
    pub async fn context_async(self, tuning: Tuning) -> Result<Option<Context>> {
        let Some(selection) = self.selection().await else { return Ok(None) };
        Context::new_tuned_async(&selection, tuning.elem()?, tuning.tier).await.map(Some)
    }

    /// The adapter that it means, or none for the CPU.
    async fn selection(self) -> Option<Selection> {
        match self {
            Self::Cpu => None,
            Self::Gpu(selection) => Some(selection),
            Self::Auto => match devices_async().await.auto() {
                Auto::Gpu(index) => Some(Selection::Index(index)),
                Auto::Cpu => None,
            },
        }
    }
}

/// What a [`Choice`] comes to.
pub(crate) enum Device {
    #[cfg(feature = "cpu")]
    Cpu(cpu::Precision),
    Gpu(Box<Context>),
}

impl Device {
    #[cfg(feature = "cpu")]
    fn cpu(tuning: Tuning) -> Result<Self> {
        tuning.on_the_cpu().map(Self::Cpu)
    }

    #[cfg(not(feature = "cpu"))]
    fn cpu(_: Tuning) -> Result<Self> {
        Err(Error::option("backend", "this build has no CPU backend (feature `cpu`), and no GPU was found; add either"))
    }
}
