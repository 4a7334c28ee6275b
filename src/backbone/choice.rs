//! The choice of a backend and its device.

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

/// The backend that a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A real GPU if the machine has one, else the CPU, which is faster than a software rasteriser.
    #[default]
    Auto,
    /// The selected adapter, which may be a software rasteriser; an error if there is no such adapter.
    Gpu(Selection),
    /// The CPU; an error in a build without the feature `cpu`.
    Cpu,
}

impl Choice {
    /// Opens the chosen device for the precision and tier of `tuning`.
    pub(crate) async fn device(self, tuning: Tuning) -> Result<Device> {
        let Some(context) = self.context_async(tuning).await? else { return Device::cpu(tuning) };
        #[cfg(feature = "files")]
        let context = context.with_best_tiles_async(TileCache::from_env().as_ref()).await;
        Ok(Device::Gpu(Box::new(context)))
    }

    /// Opens the chosen GPU with the kernels that `tuning` asks for and the default tile geometries. `None` if the
    /// choice is the CPU.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the adapter does not support the precision or the tier of `tuning`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn context(self, tuning: Tuning) -> Result<Option<Context>> {
        block_on(self.context_async(tuning))
    }

    /// [`Choice::context`] as a future.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the adapter does not support the precision or the tier of `tuning`.
    pub async fn context_async(self, tuning: Tuning) -> Result<Option<Context>> {
        let Some(selection) = self.selection().await else { return Ok(None) };
        Context::new_tuned_async(&selection, tuning.elem()?, tuning.tier).await.map(Some)
    }

    /// Returns the chosen adapter, or `None` for the CPU.
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

/// The backend that a [`Choice`] resolves to: the CPU with its precision, or an opened GPU.
pub(crate) enum Device {
    #[cfg(feature = "cpu")]
    Cpu(cpu::FactorType),
    Gpu(Box<Context>),
}

impl Device {
    #[cfg(feature = "cpu")]
    fn cpu(tuning: Tuning) -> Result<Self> {
        tuning.on_the_cpu().map(Self::Cpu)
    }

    #[cfg(not(feature = "cpu"))]
    fn cpu(_: Tuning) -> Result<Self> {
        Err(Error::option(
            "backend",
            "this build has no CPU backend (cargo feature cpu), and no GPU was found; build it with that feature, or add a GPU",
        ))
    }
}
