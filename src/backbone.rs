//! The facade: a checkpoint and a backend in, features out.

use std::fmt;

use crate::cpu;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;
use crate::vit::weights::Weights;

/// Which backend is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A real GPU if there is one, else the CPU: it is faster than a software GPU.
    #[default]
    Auto,
    /// A GPU, a software one too, or an error.
    Gpu,
    /// The CPU.
    Cpu,
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
    Cpu(Weights<Tensor>),
}

impl Backbone {
    /// Loads a model's weights onto a backend.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had.
    pub fn new(model: &Model, choice: Choice) -> Result<Self> {
        let backend = match choice {
            Choice::Gpu => return Err(Error::gpu("this build has no GPU backend yet; use the CPU")),
            Choice::Auto | Choice::Cpu => Backend::Cpu(model.weights()?),
        };
        Ok(Self { config: model.config().clone(), backend })
    }

    /// The model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the features are computed on, for people: `CPU (2 threads)`.
    pub fn device(&self) -> String {
        match &self.backend {
            Backend::Cpu(_) => format!("CPU ({} threads)", rayon::current_num_threads()),
        }
    }

    /// Runs a batch of normalised images, [B, in_chans, H, W] or [B, 1, H, W]; `mask` [B * P], if given, is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device fails.
    pub fn features(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        match &self.backend {
            Backend::Cpu(weights) => cpu::forward(weights, &self.config, image, mask, request),
        }
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backbone").field("config", &self.config).field("device", &self.device()).finish()
    }
}
