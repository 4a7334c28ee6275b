//! The CPU as a backend.

use std::future::ready;
use std::time::Duration;

use super::backend::{Backend, Batch};
use super::tuning::{Precision, Tuning};
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::gpu::{Boxed, Pause, Pending, Profile, Projector};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::{Features, Projection, Request};
use crate::vit::weights::Weights;

/// A model's weights, packed for the CPU's matrix products.
pub(super) struct Cpu {
    config: Config,
    weights: Weights<Tensor, Layer>,
}

impl Cpu {
    pub fn new(config: &Config, weights: Weights<Tensor>, precision: cpu::FactorType) -> Self {
        Self { config: config.clone(), weights: cpu::layers(weights, precision) }
    }
}

impl Backend for Cpu {
    fn device(&self) -> String {
        let precision = match self.tuning().precision {
            Precision::F32 => String::new(),
            precision => format!(", {precision}"),
        };
        let threads = match rayon::current_num_threads() {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        };
        format!("CPU ({threads}, {}{precision})", cpu::InstructionSet::in_use())
    }

    fn method(&self) -> String {
        let rounding = if cpu::InstructionSet::in_use().is_fused() { "fused" } else { "separate" };
        format!("device CPU, {}, {}; sums {rounding}", std::env::consts::ARCH, std::env::consts::OS)
    }

    fn tuning(&self) -> Tuning {
        let precision = match self.weights.patch_embed.precision() {
            cpu::FactorType::F32 => Precision::F32,
            cpu::FactorType::Bf16(_) => Precision::Bf16,
        };
        Tuning { precision, tier: None }
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn threads(&self) -> Option<usize> {
        Some(rayon::current_num_threads())
    }

    fn planned_bytes(&self, _: &[usize], _: u64, _: &Request) -> Result<Option<u64>> {
        Ok(None)
    }

    fn submit<'a>(&'a self, Batch { images, mask, request, check }: Batch<'a>, _: bool) -> Boxed<'a, Result<Pending>> {
        let features = cpu::in_pool(|| cpu::forward_while(&self.weights, &self.config, images, mask, request, check));
        Box::pin(ready(features.map(Pending::ready)))
    }

    fn features_pausing<'a>(&'a self, Batch { images, mask, request, .. }: Batch<'a>, pause: Pause<'a>) -> Boxed<'a, Result<Features>> {
        Box::pin(cpu::forward_pausing(&self.weights, &self.config, images, mask, request, pause))
    }

    /// Frees the memory, because a batch takes far longer to compute here than its memory to allocate.
    fn reuse(&self, features: Features) {
        drop(features);
    }

    fn pass_times<'a>(&'a self, _: Batch<'a>, _: usize) -> Boxed<'a, Result<Option<Vec<Duration>>>> {
        Box::pin(ready(Ok(None)))
    }

    fn peak_flops(&self) -> Boxed<'_, Result<Option<f64>>> {
        Box::pin(ready(Ok(None)))
    }

    fn profile<'a>(&'a self, _: Batch<'a>) -> Boxed<'a, Result<Profile>> {
        Box::pin(ready(Err(Error::option("profile", "the CPU backend cannot profile kernels; choose a GPU with `backend` gpu"))))
    }

    fn projector<'a>(&'a self, _: &'a Projection) -> Boxed<'a, Result<Option<Projector>>> {
        Box::pin(ready(Ok(None)))
    }
}
