//! The facade: a checkpoint and a backend in, features out.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "cpu")]
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
pub use crate::gpu::Pending;
#[cfg(feature = "files")]
use crate::gpu::TileCache;
use crate::gpu::{self, Auto, Context, Gpu, Profile, Selection};
use crate::graph::{Elem, Limits, Tier};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;
#[cfg(feature = "cpu")]
use crate::vit::weights::Weights;

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
    pub(crate) fn device(self, tuning: Tuning) -> Result<Device> {
        match self.selection() {
            #[cfg(feature = "cpu")]
            None => Ok(Device::Cpu(tuning.on_the_cpu()?)),
            #[cfg(not(feature = "cpu"))]
            None => Err(Error::option("backend", "this build has no CPU backend (feature `cpu`), and no GPU was found; add either")),
            Some(selection) => {
                let context = Context::new_tuned(&selection, tuning.elem()?, tuning.tier)?;
                #[cfg(feature = "files")]
                let context = context.with_best_tiles(TileCache::from_env().as_ref());
                Ok(Device::Gpu(Box::new(context)))
            }
        }
    }

    /// The GPU that it means, with the kernels that `tuning` asks for and no tile geometries of its own; none for the CPU.
    ///
    /// # Errors
    /// If no adapter answers to the selection, or it cannot compute as `tuning` says.
    pub fn context(self, tuning: Tuning) -> Result<Option<Context>> {
        let Some(selection) = self.selection() else { return Ok(None) };
        Context::new_tuned(&selection, tuning.elem()?, tuning.tier).map(Some)
    }

    /// The adapter that it means, or none for the CPU.
    fn selection(self) -> Option<Selection> {
        match self {
            Self::Cpu => None,
            Self::Gpu(selection) => Some(selection),
            Self::Auto => match gpu::devices().auto() {
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

/// In what the factors of products are held. Sums, statistics and the residual stream are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32: features as PyTorch's in f32, to the sixth digit.
    #[default]
    F32,
    /// f16, on a GPU: half the memory, and features that differ from those of f32 by up to 3e-3 (relative L2).
    F16,
    /// bf16, on a CPU with AVX512-BF16: half the time, and features that differ from those of f32 by about 1e-2 (relative L2), as by PyTorch's autocast.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// How a backend computes; by default in f32, with the best kernels that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// In what factors are held.
    pub precision: Precision,
    /// How a GPU's kernels are written; `None` for the best tier that the device runs.
    pub tier: Option<Tier>,
}

impl Tuning {
    /// What the CPU computes in.
    #[cfg(feature = "cpu")]
    fn on_the_cpu(self) -> Result<cpu::Precision> {
        if self.tier.is_some() {
            return Err(Error::option("tier", "the CPU has one kind of kernels; choose a GPU with `backend` gpu, or leave it out"));
        }
        match self.precision {
            Precision::F32 => Ok(cpu::Precision::F32),
            Precision::F16 => Err(Error::option("precision", "f16 is for GPUs; choose one with `backend` gpu, or take f32 or bf16")),
            Precision::Bf16 => cpu::Bf16::here()
                .map(cpu::Precision::Bf16)
                .ok_or_else(|| Error::option("precision", "bf16 needs a CPU with AVX512-BF16, which this one has not; take f32")),
        }
    }

    /// What a GPU's kernels hand to each other.
    ///
    /// # Errors
    /// If no GPU computes so.
    pub fn elem(self) -> Result<Elem> {
        match self.precision {
            Precision::F32 => Ok(Elem::F32),
            Precision::F16 => Ok(Elem::F16),
            Precision::Bf16 => Err(Error::option("precision", "bf16 is for CPUs; choose it with `backend` cpu, or take f32 or f16")),
        }
    }
}

/// A model ready to run.
///
/// ```
/// use meddino::backbone::{Backbone, Choice};
/// use meddino::vit::features::Request;
/// use meddino::vit::model::Model;
/// use meddino::Tensor;
///
/// let model = Model::open("seeded:0:tiny")?;
/// let backbone = Backbone::new(&model, Choice::Cpu)?;
/// let image = Tensor::zeros([1, 1, 48, 64]); // [B, 1, H, W], normalised
/// let features = backbone.features(&image, None, &Request::default())?;
/// assert_eq!(features.patches().shape(), [1, 12, 128]); // [B, P, C]
/// # Ok::<(), meddino::Error>(())
/// ```
pub struct Backbone {
    config: Config,
    backend: Backend,
}

enum Backend {
    #[cfg(feature = "cpu")]
    Cpu(Box<Weights<Tensor, Layer>>),
    Gpu(Box<Gpu>),
}

impl Backbone {
    /// Loads a model's weights onto a backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had.
    pub fn new(model: &Model, choice: Choice) -> Result<Self> {
        Self::tuned(model, choice, Tuning::default())
    }

    /// Loads a model's weights onto a backend that computes as `tuning` says.
    ///
    /// # Errors
    /// As [`Backbone::new`], or if the backend cannot compute so.
    pub fn tuned(model: &Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        match choice.device(tuning)? {
            Device::Gpu(context) => Self::on(model, &context),
            #[cfg(feature = "cpu")]
            Device::Cpu(precision) => {
                let layers = Box::new(cpu::layers(model.weights()?, precision));
                Ok(Self { config: model.config().clone(), backend: Backend::Cpu(layers) })
            }
        }
    }

    /// Loads a model's weights onto a device: one of ours, or a host's by [`Context::from_host`], with the kernels that it is tuned to.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the weights do not fit the device.
    pub fn on(model: &Model, context: &Context) -> Result<Self> {
        let gpu = Gpu::new(context, model.config(), &model.weights()?)?;
        Ok(Self { config: model.config().clone(), backend: Backend::Gpu(Box::new(gpu)) })
    }

    /// On the CPU, without a checkpoint.
    #[cfg(all(test, feature = "cpu"))]
    pub(crate) fn from_weights(config: Config, weights: Weights<Tensor>) -> Self {
        Self { config, backend: Backend::Cpu(Box::new(cpu::layers(weights, cpu::Precision::F32))) }
    }

    /// The model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the features are computed on, for people: `CPU (2 threads)`.
    pub fn device(&self) -> String {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => {
                let precision = match self.tuning().precision {
                    Precision::F32 => String::new(),
                    other => format!(", {other}"),
                };
                format!("CPU ({} threads{precision})", rayon::current_num_threads())
            }
            Backend::Gpu(gpu) => gpu.context().name(),
        }
    }

    /// By what features are computed, as far as it decides their last bits, in parts that `; ` divides: the device with its driver, the kernels and how they
    /// divide their work, the precision. Threads do not count, nor do registers' widths.
    ///
    /// On a GPU the last bits may hang on the batch as well: kernels are chosen by the number of rows.
    pub fn method(&self) -> String {
        let Tuning { precision, tier } = self.tuning();
        let device = match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => {
                let rounding = if cpu::is_fused() { "fused" } else { "separate" };
                format!("device CPU, {}, {}; sums {rounding}", std::env::consts::ARCH, std::env::consts::OS)
            }
            Backend::Gpu(gpu) => {
                let (about, limits) = (gpu.context().info(), gpu.context().limits());
                // How much a dispatch may do is measured anew each time. It decides which rows are computed together, and not how one is computed.
                let limits = Limits { max_work: None, ..*limits };
                let driver = format!("{} {}", about.driver, about.driver_info);
                format!(
                    "device {} ({:?}, {:x}:{:x}); driver {driver}; limits {limits:?}",
                    about.name, about.backend, about.vendor, about.device
                )
            }
        };
        let tier = tier.map_or(String::new(), |tier| format!("; tier {tier}"));
        format!("{device}; precision {precision}{tier}")
    }

    /// Runs a batch of normalised images, [B, in_chans, H, W] or [B, 1, H, W]; `mask` [B * P], if given, is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    pub fn features(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit(image, mask, request)?.wait()
    }

    /// Begins the same: a GPU goes on with it by itself, and may be given the next batch before the features of this one are waited for; the
    /// CPU computes at once.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    pub fn submit(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(weights) => {
                // Not the whole backbone goes to the pool: one with a GPU may not change threads in a browser.
                let config = &self.config;
                cpu::in_pool(|| cpu::forward(weights, config, image, mask, request)).map(Pending::ready)
            }
            Backend::Gpu(gpu) => gpu.submit(image, mask, request),
        }
    }

    /// The same, with a look at a GPU's clock when the pass begins and when it ends: [`Pending::wait_clocked`].
    ///
    /// # Errors
    /// As [`Backbone::features`].
    pub fn submit_clocked(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => self.submit(image, mask, request),
            Backend::Gpu(gpu) => gpu.submit_clocked(image, mask, request),
        }
    }

    /// How long a GPU takes for the pass alone, `runs` times: the images lie on the device before each, and the features stay there. `None` on the CPU,
    /// which has nothing else to do.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    pub fn pass_times(&self, image: &Tensor, request: &Request, runs: usize) -> Result<Option<Vec<Duration>>> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => Ok(None),
            Backend::Gpu(gpu) => gpu.pass_times(image, request, runs).map(Some),
        }
    }

    /// How it computes: as was asked for or, on a GPU, as was fallen back to.
    pub fn tuning(&self) -> Tuning {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(weights) => {
                let precision = match weights.patch_embed.precision() {
                    cpu::Precision::F32 => Precision::F32,
                    cpu::Precision::Bf16(_) => Precision::Bf16,
                };
                Tuning { precision, tier: None }
            }
            Backend::Gpu(gpu) => {
                let limits = gpu.context().limits();
                let precision = match limits.elem {
                    Elem::F32 => Precision::F32,
                    Elem::F16 => Precision::F16,
                };
                Tuning { precision, tier: Some(limits.tier) }
            }
        }
    }

    /// What a user should know and may not expect: [`Context::warnings`].
    pub fn warnings(&self) -> &[String] {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => &[],
            Backend::Gpu(gpu) => gpu.context().warnings(),
        }
    }

    /// FLOP/s of one large matrix product on a GPU, by the model's own kernels and in its precision. `None` on the CPU.
    ///
    /// # Errors
    /// If the device fails.
    pub fn peak_flops(&self) -> Result<Option<f64>> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => Ok(None),
            Backend::Gpu(gpu) => gpu.context().peak_flops().map(Some),
        }
    }

    /// How many threads compute, on the CPU.
    pub fn threads(&self) -> Option<usize> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => Some(rayon::current_num_threads()),
            Backend::Gpu(_) => None,
        }
    }

    /// Bytes of device memory that a batch of this shape and the weights are planned to take together, and the features of `pending` batches on their way
    /// to the host at once ([`Backbone::submit`]); the CPU plans nothing.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => Ok(None),
            Backend::Gpu(gpu) => {
                let bytes = gpu.bytes(image_shape, false, request)?;
                Ok(Some(bytes.total() + pending * bytes.outputs))
            }
        }
    }

    /// Runs a batch once more on the GPU, a dispatch at a time, and says where the time goes.
    ///
    /// # Errors
    /// As [`Backbone::features`], and on the CPU, which has no such profile.
    pub fn profile(&self, image: &Tensor, request: &Request) -> Result<Profile> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => Err(Error::option("profile", "the CPU backend has no profile by kernel; choose a GPU with `backend` gpu")),
            Backend::Gpu(gpu) => gpu.profile(image, None, request),
        }
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backbone").field("config", &self.config).field("device", &self.device()).finish_non_exhaustive()
    }
}
