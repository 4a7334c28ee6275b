//! The facade for segmentation: it takes a results folder and a backend, and computes scores of slices.

mod backend;
#[cfg(feature = "cpu")]
mod cpu;
mod fold;
mod gpu;

use std::fmt;

use self::backend::FoldBackend;
use self::fold::Fold;
#[cfg(feature = "cpu")]
use crate::backbone::Backbone;
use crate::backbone::{Choice, Device, Tuning, judged};
use crate::error::Result;
use crate::gpu::Scorer;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
#[cfg(feature = "cpu")]
use crate::nnunet::Network;
use crate::nnunet::{Results, Tiling};
use crate::tensor::{Tensor, TensorView};

/// The networks of a results folder, one a fold, loaded onto a GPU or the CPU and ready to run.
pub struct Segmenter {
    folds: Vec<Fold>,
    classes: usize,
    warnings: Vec<String>,
}

impl Segmenter {
    /// Loads the weights of every fold onto a backend that computes with the precision and the tier of `tuning`.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend is not available or does not support that precision or tier.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(results: &Results, choice: &Choice, tuning: Tuning) -> Result<Self> {
        block_on(Self::new_async(results, choice, tuning))
    }

    /// [`Segmenter::new`] as a future.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend is not available or does not support that precision or tier.
    pub async fn new_async(results: &Results, choice: &Choice, tuning: Tuning) -> Result<Self> {
        let mut attempts = choice.clone().attempts(tuning).await;
        loop {
            let device = attempts.device().await?;
            match Self::on_device(results, &device, tuning, attempts.may_go_on()).await {
                Ok(segmenter) => return Ok(Self { warnings: attempts.warnings(segmenter.first().warnings()), ..segmenter }),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Loads the weights of every fold onto a device. If `try_out`, a small tile is computed, so that a device that
    /// refuses a kernel of the networks, or is lost at its first batch, is an error here.
    #[cfg_attr(not(feature = "cpu"), expect(unused_variables, reason = "only the CPU reads the tuning here"))]
    async fn on_device(results: &Results, device: &Device, tuning: Tuning, try_out: bool) -> Result<Self> {
        let mut folds = Vec::with_capacity(results.folds.len());
        for (_, network) in &results.folds {
            folds.push(match device {
                Device::Gpu(context) => {
                    let (config, weights, decoder) = (network.model.config(), network.model.weights()?, network.decoder_weights()?);
                    Fold::Gpu(Box::new(Scorer::new_async(context, config, &weights, &network.decoder, &decoder).await?))
                }
                #[cfg(feature = "cpu")]
                Device::Cpu(precision) => Fold::Cpu(Box::new(on_cpu(results, network, tuning, *precision).await?)),
            });
        }
        let first = &results.folds[0].1;
        let segmenter = Self { folds, classes: first.decoder.classes, warnings: Vec::new() };
        if try_out {
            segmenter.try_out(2 * first.model.config().patch_size).await?;
        }
        Ok(segmenter)
    }

    /// Computes one tile [side, side].
    ///
    /// # Errors
    /// As [`judged`].
    async fn try_out(&self, side: usize) -> Result<()> {
        let tiling = Tiling::new([side, side], 0.5, &[]);
        judged(self.slice_async(&Tensor::zeros([side, side]), &tiling, 1, || Ok(())).await)
    }

    /// Returns the number of scores per pixel, K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    fn first(&self) -> &dyn FoldBackend {
        self.folds[0].backend()
    }

    /// Returns a readable name of the device that the networks run on.
    pub fn device(&self) -> String {
        self.first().device()
    }

    /// Returns the scores [K, H, W] of a slice [H, W] of [`crate::nnunet::Prepared`], as the mean over the folds. At
    /// most `batch` tiles run at a time. `check` runs before each batch, and on the CPU before each block of the
    /// encoder; its error stops the slice.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` returns an error.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn slice<'a>(
        &self,
        slice: impl Into<TensorView<'a>>,
        tiling: &Tiling,
        batch: usize,
        check: impl Fn() -> Result<()> + Sync,
    ) -> Result<Tensor> {
        block_on(self.slice_async(slice, tiling, batch, check))
    }

    /// [`Segmenter::slice`] as a future. The CPU computes on the thread that polls the future.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` returns an error.
    pub async fn slice_async<'a>(
        &self,
        slice: impl Into<TensorView<'a>>,
        tiling: &Tiling,
        batch: usize,
        check: impl Fn() -> Result<()> + Sync,
    ) -> Result<Tensor> {
        let slice = slice.into();
        let mut scores = Tensor::empty();
        for fold in &self.folds {
            let sums = fold.sums(slice, tiling, batch, &check).await?;
            if scores.data().is_empty() {
                scores = sums;
            } else {
                scores.data_mut().iter_mut().zip(sums.data()).for_each(|(sum, v)| *sum += v);
            }
        }
        tiling.mean(&mut scores, self.folds.len());
        if scores.is_finite() { Ok(scores) } else { Err(self.first().overflow()) }
    }

    /// Returns warnings for the user: the devices that [`Choice::Auto`] passed over, and those of the backend.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns whether the networks run on the CPU.
    pub fn is_on_cpu(&self) -> bool {
        !matches!(self.folds[0], Fold::Gpu(_))
    }

    /// Estimates the bytes that the weights and a batch of tiles [B, 1, h, w] of a slice of `size` [H, W] need, in the
    /// device's memory if the networks run on a GPU, else in the host's.
    ///
    /// # Errors
    /// If a tile is smaller than a patch, or the tiles do not fit the device.
    pub fn bytes(&self, tiles: [usize; 4], size: [usize; 2]) -> Result<u64> {
        // The CPU runs one fold after another, and the count of each fold includes the weights of all folds.
        let folds = if self.is_on_cpu() { &self.folds[..1] } else { &self.folds };
        folds.iter().map(|fold| fold.backend().bytes(tiles, size)).sum()
    }
}

/// Loads one network of the results onto the CPU.
#[cfg(feature = "cpu")]
async fn on_cpu(results: &Results, network: &Network, tuning: Tuning, precision: crate::cpu::FactorType) -> Result<cpu::CpuFold> {
    let request = network.request();
    Ok(cpu::CpuFold {
        encoder: Backbone::tuned_async(&network.model, Choice::Cpu, tuning).await?,
        decoder: crate::cpu::decoder_layers(network.decoder_weights()?, precision),
        takes_last: request.layers.len() < network.decoder.layers.len(),
        request,
        channels: network.decoder.channels.clone(),
        classes: network.decoder.classes,
        parameters: results.folds.iter().map(|(_, network)| network.parameters()).sum(),
    })
}

impl fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segmenter").field("folds", &self.folds.len()).field("device", &self.device()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::cpu::CpuFold;
    use super::*;
    use crate::backbone::Backbone;
    use crate::cpu;
    use crate::error::Error;
    use crate::gpu::Scorer;
    use crate::gpu::faults::{each_object_fails, one_block, paced};
    use crate::vit::decoder::Decoder;
    use crate::vit::decoder::Shape;
    use crate::vit::features::Request;

    fn decoder(shape: &Shape, classify: f32) -> Decoder<Tensor> {
        let values = |n: usize| (0..n).map(|i| (i % 5) as f32 / 4.0).collect::<Vec<f32>>();
        let mut decoder =
            Decoder::linear_specs(shape).map(&mut |spec| Tensor::new(spec.shape.clone(), values(spec.shape.iter().product())));
        decoder.classify.weight.data_mut().iter_mut().for_each(|v| *v *= classify);
        decoder
    }

    /// Returns a segmenter with two folds of one small network, on a GPU or on the CPU.
    fn segmenter(context: Option<&crate::gpu::Context>, classify: f32) -> Result<Segmenter> {
        let (config, weights) = one_block();
        let shape = Shape { layers: vec![0], channels: vec![64, 4, 4, 4, 4], classes: 2 };
        let decoder = decoder(&shape, classify);
        let fold = || -> Result<Fold> {
            let Some(context) = context else {
                let encoder = Backbone::from_weights(&config, weights.clone());
                let decoder = cpu::decoder_layers(decoder.clone(), cpu::FactorType::F32);
                let (request, channels) = (Request { layers: vec![0], ..Request::default() }, shape.channels.clone());
                let fold = CpuFold { encoder, decoder, request, takes_last: false, channels, classes: 2, parameters: 0 };
                return Ok(Fold::Cpu(Box::new(fold)));
            };
            Ok(Fold::Gpu(Box::new(Scorer::new(context, &config, &weights, &shape, &decoder)?)))
        };
        Ok(Segmenter { folds: vec![fold()?, fold()?], classes: 2, warnings: Vec::new() })
    }

    fn scores(segmenter: &Segmenter, check: impl Fn() -> Result<()> + Sync) -> Result<Tensor> {
        let slice = Tensor::new([24, 40], (0..24 * 40).map(|i| (i * i % 17) as f32 / 8.0 - 1.0).collect());
        segmenter.slice(&slice, &Tiling::new([16, 32], 0.5, &[0]), 2, check)
    }

    #[test]
    fn scores_that_are_not_finite_are_refused() {
        let message = scores(&segmenter(None, 3e38).unwrap(), || Ok(())).unwrap_err().to_string();
        let expected = ["scores are not finite from the decoder on", "beyond f32's range"];
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        let Some(context) = paced() else { return };
        let message = scores(&segmenter(Some(&context), 3e38).unwrap(), || Ok(())).unwrap_err().to_string();
        assert!(message.contains("scores are not finite") && message.contains("beyond f32's range"), "{message}");
    }

    #[test]
    fn a_slice_succeeds_after_any_object_failed_once() {
        let Some(context) = paced() else { return };
        let ready = segmenter(Some(&context), 1.0).unwrap();
        let want = scores(&ready, || Ok(())).unwrap();
        let forget = || {
            for fold in &ready.folds {
                let Fold::Gpu(scorer) = fold else { panic!("on a GPU") };
                scorer.forget();
            }
        };
        let failed = each_object_fails(&context, forget, |()| scores(&ready, || Ok(())), |got| *got == want);
        assert!(failed > 50, "{failed} objects of two folds failed");
    }

    /// The trial fails with the device, and not because of values out of range.
    #[test]
    fn the_trial_of_a_device_fails_with_the_device() {
        let Some(context) = paced() else { return };
        let out_of_range = segmenter(Some(&context), 3e38).unwrap();
        block_on(out_of_range.try_out(32)).unwrap();
        context.device().destroy();
        let error = block_on(out_of_range.try_out(32)).unwrap_err();
        assert!(matches!(error, Error::Gpu { .. }), "{error}");
    }

    /// The device is lost before the first batch of tiles, or between two batches.
    #[test]
    fn a_device_lost_within_a_slice_is_an_error() {
        for lost_at in [0, 2] {
            let Some(context) = paced() else { return };
            let segmenter = segmenter(Some(&context), 1.0).unwrap();
            let batches = AtomicUsize::new(0);
            let outcome = scores(&segmenter, || {
                if batches.fetch_add(1, Ordering::Relaxed) == lost_at {
                    context.device().destroy();
                }
                Ok(())
            });
            let message = outcome.unwrap_err().to_string();
            assert!(batches.into_inner() > lost_at && message.starts_with("gpu: ") && message.contains("open it again"), "{message}");
            assert!(scores(&segmenter, || Ok(())).unwrap_err().to_string().contains("was lost"));
        }
    }
}
