//! The facade: a checkpoint and a backend in, features out.

mod choice;
#[cfg(feature = "cpu")]
mod cpu;
mod gpu;
mod tuning;

use std::fmt;
use std::time::Duration;

pub use self::choice::Choice;
pub(crate) use self::choice::Device;
pub use self::tuning::{Precision, Tuning};
pub use crate::gpu::Pending;

use crate::error::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Boxed, Context, Gpu, Profile, WasmNotSendSync};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;

/// A model ready to run.
///
/// ```
/// use meddino::backbone::{Backbone, Choice};
/// use meddino::vit::features::Request;
/// use meddino::vit::config::ModelSize;
/// use meddino::vit::model::Model;
/// use meddino::Tensor;
///
/// let model = Model::seeded(0, ModelSize::Tiny);
/// let backbone = Backbone::new(&model, Choice::Cpu)?;
/// let image = Tensor::zeros([1, 1, 48, 64]); // [B, 1, H, W], normalised
/// let features = backbone.features(&image, None, &Request::default())?;
/// assert_eq!(features.patches().shape(), [1, 12, 128]); // [B, P, C]
/// # Ok::<(), meddino::Error>(())
/// ```
///
/// In a browser, and in a program with an executor of its own, each form that blocks gives way to the one that is a future:
///
/// ```
/// use meddino::backbone::{Backbone, Choice};
/// use meddino::vit::{features::Features, features::Request, model::Model};
/// use meddino::{Result, Tensor};
///
/// async fn features(model: &Model, image: &Tensor) -> Result<Features> {
///     let backbone = Backbone::new_async(model, Choice::Auto).await?;
///     let pending = backbone.submit_async(image, None, &Request::default()).await?;
///     pending.await
/// }
/// ```
pub struct Backbone {
    config: Config,
    backend: Box<dyn Backend>,
}

/// What computes features; [`Backbone`] says what each method gives.
trait Backend: WasmNotSendSync {
    fn device(&self) -> String;
    /// As [`Backbone::method`], without the tuning.
    fn method(&self) -> String;
    fn tuning(&self) -> Tuning;
    fn warnings(&self) -> &[String];
    fn threads(&self) -> Option<usize>;
    fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>>;
    /// With a look at the device's clock if it is to be `clocked`.
    fn submit<'a>(&'a self, batch: Batch<'a>, clocked: bool) -> Boxed<'a, Result<Pending>>;
    fn pass_times<'a>(&'a self, batch: Batch<'a>, runs: usize) -> Boxed<'a, Result<Option<Vec<Duration>>>>;
    fn peak_flops(&self) -> Boxed<'_, Result<Option<f64>>>;
    fn profile<'a>(&'a self, batch: Batch<'a>) -> Boxed<'a, Result<Profile>>;
}

/// Images, which of their patches are masked, and what is asked for.
#[derive(Clone, Copy)]
struct Batch<'a> {
    images: &'a Tensor,
    mask: Option<&'a [bool]>,
    request: &'a Request,
}

impl Backbone {
    /// Loads a model's weights onto a backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(model: &Model, choice: Choice) -> Result<Self> {
        block_on(Self::new_async(model, choice))
    }

    /// [`Backbone::new`] as a future.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had.
    pub async fn new_async(model: &Model, choice: Choice) -> Result<Self> {
        Self::tuned_async(model, choice, Tuning::default()).await
    }

    /// Loads a model's weights onto a backend that computes as `tuning` says.
    ///
    /// # Errors
    /// As [`Backbone::new`], or if the backend cannot compute so.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tuned(model: &Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        block_on(Self::tuned_async(model, choice, tuning))
    }

    /// [`Backbone::tuned`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::new_async`], or if the backend cannot compute so.
    pub async fn tuned_async(model: &Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        match choice.device(tuning).await? {
            Device::Gpu(context) => Self::on_async(model, &context).await,
            #[cfg(feature = "cpu")]
            Device::Cpu(precision) => Ok(Self::of(model.config(), cpu::Cpu::new(model.config(), model.weights()?, precision))),
        }
    }

    /// Loads a model's weights onto a device: one of ours, or a host's by [`Context::from_host`], with the kernels that it is tuned to.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the weights do not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn on(model: &Model, context: &Context) -> Result<Self> {
        block_on(Self::on_async(model, context))
    }

    /// [`Backbone::on`] as a future.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the weights do not fit the device.
    pub async fn on_async(model: &Model, context: &Context) -> Result<Self> {
        Ok(Self::of(model.config(), Gpu::new_async(context, model.config(), &model.weights()?).await?))
    }

    fn of(config: &Config, backend: impl Backend + 'static) -> Self {
        Self { config: config.clone(), backend: Box::new(backend) }
    }

    /// On the CPU, without a checkpoint.
    #[cfg(all(test, feature = "cpu"))]
    pub(crate) fn from_weights(config: &Config, weights: crate::vit::weights::Weights<Tensor>) -> Self {
        Self::of(config, cpu::Cpu::new(config, weights, crate::cpu::Precision::F32))
    }

    /// The model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the features are computed on, for people: `CPU (2 threads)`.
    pub fn device(&self) -> String {
        self.backend.device()
    }

    /// By what features are computed, as far as it decides their last bits, in parts that `; ` divides: the device with its driver, the kernels and how they
    /// divide their work, the precision. Threads do not count, nor do registers' widths.
    ///
    /// On a GPU the last bits may hang on the batch as well: kernels are chosen by the number of rows.
    pub fn method(&self) -> String {
        let Tuning { precision, tier } = self.tuning();
        let tier = tier.map_or(String::new(), |tier| format!("; tier {tier}"));
        format!("{}; precision {precision}{tier}", self.backend.method())
    }

    /// Runs a batch of normalised images, [B, in_chans, H, W] or [B, 1, H, W]; `mask` [B * P], if given, is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn features(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        block_on(self.features_async(image, mask, request))
    }

    /// [`Backbone::features`] as a future.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    pub async fn features_async(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit_async(image, mask, request).await?.await
    }

    /// Begins the same: a GPU goes on with it by itself, and may be given the next batch before the features of this one are waited for; the
    /// CPU computes at once.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_async(image, mask, request))
    }

    /// [`Backbone::submit`] as a future, which is ready once the batch is submitted ([`Gpu::submit_async`]).
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn submit_async(&self, images: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.backend.submit(Batch { images, mask, request }, false).await
    }

    /// The same, with a look at a GPU's clock when the pass begins and when it ends: [`Pending::wait_clocked`].
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit_clocked(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_clocked_async(image, mask, request))
    }

    /// [`Backbone::submit_clocked`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn submit_clocked_async(&self, images: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.backend.submit(Batch { images, mask, request }, true).await
    }

    /// How long a GPU takes for the pass alone, `runs` times: the images lie on the device before each, and the features stay there. `None` on the CPU,
    /// which has nothing else to do.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pass_times(&self, image: &Tensor, request: &Request, runs: usize) -> Result<Option<Vec<Duration>>> {
        block_on(self.pass_times_async(image, request, runs))
    }

    /// [`Backbone::pass_times`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn pass_times_async(&self, images: &Tensor, request: &Request, runs: usize) -> Result<Option<Vec<Duration>>> {
        self.backend.pass_times(Batch { images, mask: None, request }, runs).await
    }

    /// How it computes: as was asked for or, on a GPU, as was fallen back to.
    pub fn tuning(&self) -> Tuning {
        self.backend.tuning()
    }

    /// What a user should know and may not expect: [`Context::warnings`].
    pub fn warnings(&self) -> &[String] {
        self.backend.warnings()
    }

    /// FLOP/s of one large matrix product on a GPU, by the model's own kernels and in its precision. `None` on the CPU.
    ///
    /// # Errors
    /// If the device fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn peak_flops(&self) -> Result<Option<f64>> {
        block_on(self.peak_flops_async())
    }

    /// [`Backbone::peak_flops`] as a future.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn peak_flops_async(&self) -> Result<Option<f64>> {
        self.backend.peak_flops().await
    }

    /// How many threads compute, on the CPU.
    pub fn threads(&self) -> Option<usize> {
        self.backend.threads()
    }

    /// Bytes of device memory that a batch of this shape and the weights are planned to take together, and the features of `pending` batches on their way
    /// to the host at once ([`Backbone::submit`]); the CPU plans nothing.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>> {
        self.backend.planned_bytes(image_shape, pending, request)
    }

    /// Runs a batch once more on the GPU, a dispatch at a time, and says where the time goes.
    ///
    /// # Errors
    /// As [`Backbone::features`], and on the CPU, which has no such profile.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&self, image: &Tensor, request: &Request) -> Result<Profile> {
        block_on(self.profile_async(image, request))
    }

    /// [`Backbone::profile`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`], and on the CPU, which has no such profile.
    pub async fn profile_async(&self, images: &Tensor, request: &Request) -> Result<Profile> {
        self.backend.profile(Batch { images, mask: None, request }).await
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backbone").field("config", &self.config).field("device", &self.device()).finish_non_exhaustive()
    }
}
