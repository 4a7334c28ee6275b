//! The facade for features: it takes a model and a backend, and computes features of images.

mod backend;
mod choice;
#[cfg(feature = "cpu")]
mod cpu;
mod gpu;
mod tuning;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use self::choice::Choice;
pub(crate) use self::choice::{Device, judged};
pub use self::tuning::{Precision, Tuning};
pub use crate::gpu::{Pending, PendingScores, Projector};

use self::backend::{Backend, Batch, Local};
use crate::error::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Context, Gpu, Profile};
use crate::tensor::{Tensor, TensorView};
use crate::vit::config::Config;
use crate::vit::features::{Check, Features, Projection, Request};
use crate::vit::model::Model;

/// Nobody ends the work.
const GO_ON: Check<'static> = &|| Ok(());

/// A model loaded onto a backend, ready to compute features.
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
/// A browser, or a program with its own executor, uses the `_async` forms, which return futures instead of blocking:
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
    warnings: Vec<String>,
}

impl Backbone {
    /// Loads a model's weights onto a backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend is not available.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(model: &Model, choice: Choice) -> Result<Self> {
        block_on(Self::new_async(model, choice))
    }

    /// [`Backbone::new`] as a future.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend is not available.
    pub async fn new_async(model: &Model, choice: Choice) -> Result<Self> {
        Self::tuned_async(model, choice, Tuning::default()).await
    }

    /// Loads a model's weights onto a backend that computes with the precision and the tier of `tuning`.
    ///
    /// # Errors
    /// As [`Backbone::new`], or if the backend does not support that precision or tier.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tuned(model: &Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        block_on(Self::tuned_async(model, choice, tuning))
    }

    /// [`Backbone::tuned`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::new_async`], or if the backend does not support that precision or tier.
    pub async fn tuned_async(model: &Model, choice: Choice, tuning: Tuning) -> Result<Self> {
        let mut attempts = choice.attempts(tuning).await;
        loop {
            let device = attempts.device().await?;
            match Self::on_device(model, device, attempts.may_go_on()).await {
                Ok(backbone) => return Ok(Self { warnings: attempts.warnings(&backbone.warnings), ..backbone }),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Loads a model's weights onto a device. If `try_out`, a small image is computed, so that a device that refuses a
    /// kernel of the model, or is lost at its first batch, is an error here.
    async fn on_device(model: &Model, device: Device, try_out: bool) -> Result<Self> {
        match device {
            Device::Gpu(context) => {
                let backbone = Self::on_async(model, &context).await?;
                if try_out {
                    backbone.try_out_async().await?;
                }
                Ok(backbone)
            }
            #[cfg(feature = "cpu")]
            Device::Cpu(precision) => Ok(Self::of(model.config(), cpu::Cpu::new(model.config(), model.weights()?, precision))),
        }
    }

    /// Computes one image of two by two patches, to see whether the device runs the model.
    ///
    /// # Errors
    /// If the GPU fails, for instance because it refuses a kernel or is lost. Values out of range are no failure of it.
    pub async fn try_out_async(&self) -> Result<()> {
        let side = 2 * self.config.patch_size;
        judged(self.features_async(&Tensor::zeros([1, 1, side, side]), None, &Request::default()).await)
    }

    /// Loads a model's weights onto an opened device, with the kernels that the context is tuned to. The device may be
    /// a host's ([`Context::from_host`]).
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
        Ok(Self::from_gpu(Gpu::open_async(context, model).await?))
    }

    /// Wraps a model that is on a GPU already, such as one of a [`ShardLoader`](crate::gpu::ShardLoader).
    pub fn from_gpu(gpu: Gpu) -> Self {
        Self::of(&gpu.config().clone(), gpu)
    }

    fn of(config: &Config, backend: impl Backend + 'static) -> Self {
        Self { config: config.clone(), warnings: backend.warnings().to_vec(), backend: Box::new(backend) }
    }

    /// Loads weights onto the CPU without a checkpoint, for tests.
    #[cfg(all(test, feature = "cpu"))]
    pub(crate) fn from_weights(config: &Config, weights: crate::vit::weights::Weights<Tensor>) -> Self {
        Self::of(config, cpu::Cpu::new(config, weights, crate::cpu::FactorType::F32))
    }

    /// Returns the model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a readable name of the device, such as `CPU (2 threads, avx2)`.
    pub fn device(&self) -> String {
        self.backend.device()
    }

    /// Returns all that decides the last bits of the features, as parts separated by `; `: the device with its driver,
    /// the kernels with the limits by which they divide their work, and the precision. The number of threads and the
    /// width of registers are not part of the text, because they do not change the bits.
    ///
    /// On a GPU the last bits may depend on the batch as well, because the number of rows decides which kernels run.
    pub fn method(&self) -> String {
        let Tuning { precision, tier } = self.tuning();
        let tier = tier.map_or(String::new(), |tier| format!("; tier {tier}"));
        format!("{}; precision {precision}{tier}", self.backend.method())
    }

    /// Computes the features of normalised images [B, in_chans, H, W] or [B, 1, H, W]. `mask` [B * P], if given, is
    /// true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn features<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        block_on(self.features_async(image, mask, request))
    }

    /// [`Backbone::features`] as a future.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    pub async fn features_async<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit_async(image, mask, request).await?.await
    }

    /// Computes features as [`Backbone::features_async`] does, in steps: the pass waits for `pause`, on the CPU before each
    /// block of the model, on a GPU once, before it begins. Where the CPU computes on the only thread, as in a browser's
    /// worker, other work has its turn then; a program with more threads takes [`Backbone::submit_while`]. An error of
    /// `pause` ends the pass. The future stays on its thread, so that `pause` may return a promise of JavaScript.
    ///
    /// # Errors
    /// As [`Backbone::features_async`], and the error of `pause`.
    pub async fn features_pausing_async<'a, P: Future<Output = Result<()>>>(
        &self,
        images: impl Into<TensorView<'a>>,
        mask: Option<&[bool]>,
        request: &Request,
        pause: impl Fn() -> P,
    ) -> Result<Features> {
        let pause = || -> Local<'_, Result<()>> { Box::pin(pause()) };
        self.backend.features_pausing(Batch { images: images.into(), mask, request, check: GO_ON }, &pause).await
    }

    /// Submits a batch of images as [`Backbone::features`] does, and does not wait. A GPU computes in the background,
    /// so that the caller can submit the next batch before it waits for this one's features. The CPU computes before
    /// this method returns.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_async(image, mask, request))
    }

    /// [`Backbone::submit`] as a future, which is ready once the batch is submitted ([`Gpu::submit_async`]).
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn submit_async<'a>(&self, images: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_while_async(images, mask, request, GO_ON).await
    }

    /// Submits a batch of images as [`Backbone::submit`] does, as long as `check` says so. It runs before the batch
    /// and, on the CPU, before each block of the model; its error ends the work. A GPU completes what it has begun.
    ///
    /// # Errors
    /// As [`Backbone::features`], and the error of `check`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit_while<'a>(
        &self,
        images: impl Into<TensorView<'a>>,
        mask: Option<&[bool]>,
        request: &Request,
        check: Check<'_>,
    ) -> Result<Pending> {
        block_on(self.submit_while_async(images, mask, request, check))
    }

    /// [`Backbone::submit_while`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`], and the error of `check`.
    pub async fn submit_while_async<'a>(
        &self,
        images: impl Into<TensorView<'a>>,
        mask: Option<&[bool]>,
        request: &Request,
        check: Check<'_>,
    ) -> Result<Pending> {
        self.backend.submit(Batch { images: images.into(), mask, request, check }, false).await
    }

    /// Submits as [`Backbone::submit`] does, and times the pass by the GPU's clock; [`Pending::wait_clocked`] returns
    /// the time.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit_clocked<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_clocked_async(image, mask, request))
    }

    /// [`Backbone::submit_clocked`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn submit_clocked_async<'a>(
        &self,
        images: impl Into<TensorView<'a>>,
        mask: Option<&[bool]>,
        request: &Request,
    ) -> Result<Pending> {
        self.backend.submit(Batch { images: images.into(), mask, request, check: GO_ON }, true).await
    }

    /// Prepares passes that hand out the projection of patch tokens in place of all tokens, so that a GPU copies K values a
    /// patch and block to the host and not C. `None` on the CPU, which copies nothing.
    ///
    /// # Errors
    /// If the projection is for tokens of another model, or the device fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn projector(&self, projection: &Projection) -> Result<Option<Projector>> {
        block_on(self.projector_async(projection))
    }

    /// [`Backbone::projector`] as a future.
    ///
    /// # Errors
    /// If the projection is for tokens of another model, or the device fails.
    pub async fn projector_async(&self, projection: &Projection) -> Result<Option<Projector>> {
        self.backend.projector(projection).await
    }

    /// Takes features back whose values are no longer needed. On a GPU a later batch uses their memory, which saves the
    /// time to allocate it: for many batches, that time exceeds the time to copy the features from the device.
    pub fn reuse(&self, features: Features) {
        self.backend.reuse(features);
    }

    /// Measures how long a GPU takes for the pass alone, `runs` times. The images are on the device before each run,
    /// and the features stay there. `None` on the CPU, which copies nothing, so that the pass is all it does.
    ///
    /// # Errors
    /// As [`Backbone::features`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pass_times<'a>(&self, image: impl Into<TensorView<'a>>, request: &Request, runs: usize) -> Result<Option<Vec<Duration>>> {
        block_on(self.pass_times_async(image, request, runs))
    }

    /// [`Backbone::pass_times`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`].
    pub async fn pass_times_async<'a>(
        &self,
        images: impl Into<TensorView<'a>>,
        request: &Request,
        runs: usize,
    ) -> Result<Option<Vec<Duration>>> {
        self.backend.pass_times(Batch { images: images.into(), mask: None, request, check: GO_ON }, runs).await
    }

    /// Returns the precision and the tier in use. On a GPU the tier may be a fallback from the one that the caller
    /// asked for.
    pub fn tuning(&self) -> Tuning {
        self.backend.tuning()
    }

    /// Returns warnings for the user: the devices that [`Choice::Auto`] passed over, and [`Context::warnings`].
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Measures the FLOP/s of one large matrix product on a GPU, with the model's own kernels and precision. `None` on
    /// the CPU.
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

    /// Returns the number of threads that compute on the CPU; `None` on a GPU.
    pub fn threads(&self) -> Option<usize> {
        self.backend.threads()
    }

    /// Returns the bytes of device memory that the plan reserves for the weights, a batch of shape `image_shape`, and
    /// the features of `pending` batches that are on their way to the host at once ([`Backbone::submit`]). `None` on
    /// the CPU, which has no plan.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>> {
        self.backend.planned_bytes(image_shape, pending, request)
    }

    /// Runs a batch on the GPU, once to warm up and once a dispatch at a time, and reports where the time goes.
    ///
    /// # Errors
    /// As [`Backbone::features`], and on the CPU, which has no such profile.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile<'a>(&self, image: impl Into<TensorView<'a>>, request: &Request) -> Result<Profile> {
        block_on(self.profile_async(image, request))
    }

    /// [`Backbone::profile`] as a future.
    ///
    /// # Errors
    /// As [`Backbone::features_async`], and on the CPU, which has no such profile.
    pub async fn profile_async<'a>(&self, images: impl Into<TensorView<'a>>, request: &Request) -> Result<Profile> {
        self.backend.profile(Batch { images: images.into(), mask: None, request, check: GO_ON }).await
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backbone").field("config", &self.config).field("device", &self.device()).finish_non_exhaustive()
    }
}
