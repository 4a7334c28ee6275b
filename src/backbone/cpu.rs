//! The CPU as a backend.

use std::future::ready;
use std::time::Duration;

use super::backend::{Backend, Batch, Local, Pause};
use super::tuning::{Precision, Tuning};
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::gpu::{Boxed, Pending, Profile, Projector};
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

    fn features_pausing<'a>(&'a self, Batch { images, mask, request, .. }: Batch<'a>, pause: Pause<'a>) -> Local<'a, Result<Features>> {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use super::*;
    use crate::backbone::{Backbone, Choice};
    use crate::gpu::block_on;
    use crate::vit::config::ModelSize;
    use crate::vit::model::Model;

    /// Is ready when it is asked for the second time.
    async fn later() {
        let mut is_asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut is_asked, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn a_pass_pauses_before_each_block_and_ends_with_the_error_of_a_pause() {
        let backbone = Backbone::new(&Model::seeded(0, ModelSize::Micro), Choice::Cpu).expect("weights");
        let (image, request, depth) = (Tensor::zeros([1, 1, 32, 48]), Request::default(), backbone.config().depth);
        let pauses = AtomicUsize::new(0);
        let pass = |allowed: usize| {
            block_on(backbone.features_pausing_async(&image, None, &request, || async {
                later().await;
                if pauses.fetch_add(1, Ordering::Relaxed) < allowed { Ok(()) } else { Err(Error::Cancelled) }
            }))
        };
        let features = pass(depth).expect("features");
        assert_eq!(pauses.swap(0, Ordering::Relaxed), depth);
        assert_eq!(features.x_norm, backbone.features(&image, None, &request).expect("features").x_norm);
        assert!(matches!(pass(1), Err(Error::Cancelled)));
        assert_eq!(pauses.load(Ordering::Relaxed), 2);
    }
}
