//! The facade: a checkpoint and a backend in, features out.

use std::fmt;

use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::gpu::{self, Auto, Context, Gpu, Profile, Selection};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;
use crate::vit::weights::Weights;

/// Which backend is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A real GPU if there is one, else the CPU: it is faster than a software GPU.
    #[default]
    Auto,
    /// The selected adapter, a software one too, or an error.
    Gpu(Selection),
    /// The CPU.
    Cpu,
}

impl Choice {
    /// The adapter that it means, or none for the CPU.
    fn selection(self) -> Option<Selection> {
        match self {
            Self::Cpu => None,
            Self::Gpu(selection) => Some(selection),
            Self::Auto => match pollster::block_on(gpu::devices()).auto() {
                Auto::Gpu(index) => Some(Selection::Index(index)),
                Auto::Cpu => None,
            },
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
    Cpu(Box<Weights<Tensor, Layer>>),
    Gpu(Box<Gpu>),
}

impl Backbone {
    /// Loads a model's weights onto a backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had.
    pub fn new(model: &Model, choice: Choice) -> Result<Self> {
        match choice.selection() {
            None => Ok(Self {
                config: model.config().clone(),
                backend: Backend::Cpu(Box::new(cpu::layers(model.weights()?, cpu::Precision::F32))),
            }),
            Some(selection) => Self::on(model, &Context::new(&selection)?),
        }
    }

    /// Loads a model's weights onto a device: one of ours, or a host's by [`Context::from_host`].
    ///
    /// # Errors
    /// If a tensor cannot be read, or the weights do not fit the device.
    pub fn on(model: &Model, context: &Context) -> Result<Self> {
        let gpu = Gpu::new(context, model.config(), &model.weights()?)?;
        Ok(Self { config: model.config().clone(), backend: Backend::Gpu(Box::new(gpu)) })
    }

    /// The model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the features are computed on, for people: `CPU (2 threads)`.
    pub fn device(&self) -> String {
        match &self.backend {
            Backend::Cpu(_) => format!("CPU ({} threads)", rayon::current_num_threads()),
            Backend::Gpu(gpu) => {
                let info = gpu.context().info();
                format!("{} ({:?})", info.name, info.backend)
            }
        }
    }

    /// Runs a batch of normalised images, [B, in_chans, H, W] or [B, 1, H, W]; `mask` [B * P], if given, is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    pub fn features(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        match &self.backend {
            Backend::Cpu(weights) => cpu::forward(weights, &self.config, image, mask, request),
            Backend::Gpu(gpu) => gpu.forward(image, mask, request),
        }
    }

    /// How many threads compute, on the CPU.
    pub fn threads(&self) -> Option<usize> {
        matches!(self.backend, Backend::Cpu(_)).then(rayon::current_num_threads)
    }

    /// Bytes of device memory that a batch of this shape and the weights are planned to take together; the CPU plans nothing.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn planned_bytes(&self, image_shape: &[usize], request: &Request) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Cpu(_) => Ok(None),
            Backend::Gpu(gpu) => {
                let bytes = gpu.bytes(image_shape, false, request)?;
                Ok(Some(bytes.weights + bytes.inputs + bytes.outputs + bytes.slots))
            }
        }
    }

    /// Runs a batch once more on the GPU, a dispatch at a time, and says where the time goes.
    ///
    /// # Errors
    /// As [`Backbone::features`], and on the CPU, which has no such profile.
    pub fn profile(&self, image: &Tensor, request: &Request) -> Result<Profile> {
        match &self.backend {
            Backend::Cpu(_) => Err(Error::option("profile", "the CPU backend has no profile by kernel; choose a GPU with --backend gpu")),
            Backend::Gpu(gpu) => gpu.profile(image, None, request),
        }
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backbone").field("config", &self.config).field("device", &self.device()).finish_non_exhaustive()
    }
}
