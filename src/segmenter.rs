//! The facade of a fine-tuned network: a results folder and a backend in, scores out.

use std::fmt;

#[cfg(feature = "cpu")]
use crate::backbone::Backbone;
use crate::backbone::{Choice, Device, Tuning};
#[cfg(feature = "cpu")]
use crate::cpu::{self, Layer};
use crate::error::{Error, Result};
use crate::gpu::Scorer;
use crate::nnunet::{Network, Results, Tiling};
use crate::tensor::Tensor;
#[cfg(feature = "cpu")]
use crate::vit::decoder::Decoder;
use crate::vit::features::overflow;
#[cfg(feature = "cpu")]
use crate::vit::features::{Range, Request};

/// The networks of a results folder, ready to run on a GPU or the CPU, each whole.
pub struct Segmenter {
    folds: Vec<Fold>,
    #[cfg(feature = "cpu")]
    request: Request,
    /// Whether the last block's output goes into the decoder.
    #[cfg(feature = "cpu")]
    takes_last: bool,
    /// Its decoder's channels, and its classes.
    #[cfg(feature = "cpu")]
    channels: Vec<usize>,
    classes: usize,
    #[cfg(feature = "cpu")]
    parameters: usize,
}

enum Fold {
    #[cfg(feature = "cpu")]
    Cpu {
        encoder: Box<Backbone>,
        decoder: Decoder<Tensor, Layer>,
    },
    Gpu(Box<Scorer>),
}

impl Segmenter {
    /// Loads the weights of every fold onto a backend that computes as `tuning` says.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had or cannot compute so.
    pub fn new(results: &Results, choice: &Choice, tuning: Tuning) -> Result<Self> {
        let device = choice.clone().device(tuning)?;
        let fold = |network: &Network| {
            let (model, decoder) = (&network.model, network.decoder_weights()?);
            Ok(match &device {
                Device::Gpu(context) => {
                    Fold::Gpu(Box::new(Scorer::new(context, model.config(), &model.weights()?, &network.decoder, &decoder)?))
                }
                #[cfg(feature = "cpu")]
                Device::Cpu(precision) => {
                    let encoder = Box::new(Backbone::tuned(model, Choice::Cpu, tuning)?);
                    Fold::Cpu { encoder, decoder: cpu::decoder_layers(decoder, *precision) }
                }
            })
        };
        let (_, first) = &results.folds[0];
        #[cfg(feature = "cpu")]
        let request = first.request();
        Ok(Self {
            folds: results.folds.iter().map(|(_, network)| fold(network)).collect::<Result<_>>()?,
            #[cfg(feature = "cpu")]
            takes_last: request.layers.len() < first.decoder.layers.len(),
            #[cfg(feature = "cpu")]
            request,
            #[cfg(feature = "cpu")]
            channels: first.decoder.channels.clone(),
            classes: first.decoder.classes,
            #[cfg(feature = "cpu")]
            parameters: results.folds.iter().map(|(_, network)| network.parameters()).sum(),
        })
    }

    /// Scores a pixel, K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What the networks run on, for people.
    pub fn device(&self) -> String {
        match &self.folds[0] {
            #[cfg(feature = "cpu")]
            Fold::Cpu { encoder, .. } => encoder.device(),
            Fold::Gpu(scorer) => scorer.context().name(),
        }
    }

    /// The scores [K, H, W] of a slice [H, W] as [`crate::nnunet::Prepared`] gives it, the folds' mean: at most `batch` tiles at a time, before each of which
    /// `check` may stop it.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the device fails, or `check` says so.
    pub fn slice<E: From<Error>>(
        &self,
        slice: &Tensor,
        tiling: &Tiling,
        batch: usize,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let mut scores = Tensor::empty();
        for fold in &self.folds {
            let sums = match fold {
                Fold::Gpu(scorer) => on_gpu(scorer, slice, tiling, batch, &mut check)?,
                #[cfg(feature = "cpu")]
                Fold::Cpu { encoder, decoder } => tiling.sums(slice, self.classes, batch, |tiles| {
                    check()?;
                    Ok::<_, E>(self.on_cpu(encoder, decoder, tiles)?)
                })?,
            };
            if scores.data().is_empty() {
                scores = sums;
            } else {
                scores.data_mut().iter_mut().zip(sums.data()).for_each(|(sum, v)| *sum += v);
            }
        }
        tiling.mean(&mut scores, self.folds.len());
        if scores.is_finite() { Ok(scores) } else { Err(self.overflow().into()) }
    }

    fn overflow(&self) -> Error {
        match &self.folds[0] {
            #[cfg(feature = "cpu")]
            // The encoder's features are finite, or they had been refused.
            Fold::Cpu { .. } => overflow("scores", Range::F32, Some("the decoder")),
            Fold::Gpu(scorer) => overflow("scores", scorer.context().limits().elem.into(), None),
        }
    }

    /// The scores [B, K, h, w] of tiles [B, 1, h, w].
    #[cfg(feature = "cpu")]
    fn on_cpu(&self, encoder: &Backbone, decoder: &Decoder<Tensor, Layer>, tiles: &Tensor) -> Result<Tensor> {
        let features = encoder.features(tiles, None, &self.request)?;
        let mut layers: Vec<&Tensor> = features.layers.iter().map(|(_, x)| x).collect();
        // The last block's output through the final norm is there in any case, and not among the layers that were asked for.
        if self.takes_last {
            layers.push(&features.x_norm);
        }
        Ok(cpu::in_pool(|| cpu::decode(decoder, &layers, features.grid)))
    }

    /// What a user should know and may not expect of the backend.
    pub fn warnings(&self) -> &[String] {
        match &self.folds[0] {
            #[cfg(feature = "cpu")]
            Fold::Cpu { encoder, .. } => encoder.warnings(),
            Fold::Gpu(scorer) => scorer.context().warnings(),
        }
    }

    /// Whether the networks run on the CPU.
    pub fn is_on_cpu(&self) -> bool {
        !matches!(self.folds[0], Fold::Gpu(_))
    }

    /// About how many bytes a batch of tiles [B, 1, h, w] of a slice of `size` [H, W] needs, the weights included: of the device's memory if the networks run on a GPU, else of the host's.
    ///
    /// # Errors
    /// If the tiles hold no patch, or do not fit the device.
    pub fn bytes(&self, tiles: [usize; 4], size: [usize; 2]) -> Result<u64> {
        let planned = |fold: &Fold| match fold {
            Fold::Gpu(scorer) => scorer.bytes(&tiles, size).map(|bytes| bytes.total() + bytes.outputs),
            #[cfg(feature = "cpu")]
            Fold::Cpu { encoder, .. } => self.bytes_on_cpu(encoder, tiles),
        };
        match &self.folds[0] {
            Fold::Gpu(_) => self.folds.iter().map(planned).sum(),
            // The CPU runs one fold after another; the weights of all are counted once.
            #[cfg(feature = "cpu")]
            first @ Fold::Cpu { .. } => planned(first),
        }
    }

    #[cfg(feature = "cpu")]
    fn bytes_on_cpu(&self, encoder: &Backbone, tiles: [usize; 4]) -> Result<u64> {
        let ([batch, _, height, width], config) = (tiles, encoder.config());
        let (c, tokens) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
        // As `cli/memory.rs` has it for features: what serves every block, and the layers that are kept.
        let encoder = tokens * (9 * c + config.ffn_dim + (1 + self.request.layers.len()) * c);
        let scores = 2 * self.classes * height * width;
        Ok(((self.parameters + batch * (encoder + scores + height * width)) * 4 + cpu::decode_bytes(&self.channels)) as u64)
    }
}

/// The weighted sums [K, H, W] of a slice, which stay on the device until all tiles are in.
fn on_gpu<E: From<Error>>(
    scorer: &Scorer,
    slice: &Tensor,
    tiling: &Tiling,
    batch: usize,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<Tensor, E> {
    let (size, [rows, columns]) = ([slice.shape()[0], slice.shape()[1]], tiling.tile());
    let passes = tiling.passes(size);
    // Batches of one size, for the sums belong to one prepared pass.
    let batch = (1..=batch.min(passes.len())).rev().find(|batch| passes.len().is_multiple_of(*batch)).unwrap_or(1);
    let sums = scorer.slice(size, &[batch, 1, rows, columns], tiling.weights())?;
    for passes in passes.chunks(batch) {
        check()?;
        let places: Vec<_> = passes.iter().map(|pass| (pass.corner, pass.mirrored)).collect();
        sums.add(&tiling.cut(slice, passes), &places)?;
    }
    Ok(sums.finish()?)
}

impl fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segmenter").field("folds", &self.folds.len()).field("device", &self.device()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::faults::{each_object_fails, one_block, paced};
    use crate::vit::decoder::Shape;

    fn decoder(shape: &Shape, classify: f32) -> Decoder<Tensor> {
        let values = |n: usize| (0..n).map(|i| (i % 5) as f32 / 4.0).collect::<Vec<f32>>();
        let mut decoder =
            Decoder::linear_specs(shape).map(&mut |spec| Tensor::new(spec.shape.clone(), values(spec.shape.iter().product())));
        decoder.classify.weight.data_mut().iter_mut().for_each(|v| *v *= classify);
        decoder
    }

    /// Two folds of one small network on a device, or on the CPU.
    fn segmenter(context: Option<&crate::gpu::Context>, classify: f32) -> Result<Segmenter> {
        let (config, weights) = one_block();
        let shape = Shape { layers: vec![0], channels: vec![64, 4, 4, 4, 4], classes: 2 };
        let decoder = decoder(&shape, classify);
        let fold = || -> Result<Fold> {
            let Some(context) = context else {
                let encoder = Box::new(Backbone::from_weights(config.clone(), weights.clone()));
                return Ok(Fold::Cpu { encoder, decoder: cpu::decoder_layers(decoder.clone(), cpu::Precision::F32) });
            };
            Ok(Fold::Gpu(Box::new(Scorer::new(context, &config, &weights, &shape, &decoder)?)))
        };
        let request = Request { layers: vec![0], ..Request::default() };
        Ok(Segmenter { folds: vec![fold()?, fold()?], request, takes_last: false, channels: shape.channels, classes: 2, parameters: 0 })
    }

    fn scores(segmenter: &Segmenter, check: impl FnMut() -> Result<()>) -> Result<Tensor> {
        let slice = Tensor::new([24, 40], (0..24 * 40).map(|i| (i * i % 17) as f32 / 8.0 - 1.0).collect());
        segmenter.slice(&slice, &Tiling::new([16, 32], 0.5, &[0]), 2, check)
    }

    #[test]
    fn scores_that_are_not_finite_are_refused() {
        let told = scores(&segmenter(None, 3e38).unwrap(), || Ok(())).unwrap_err().to_string();
        assert!(told.contains("scores are not finite from the decoder on") && told.contains("beyond f32's range"), "{told}");
        let Some(context) = paced() else { return };
        let told = scores(&segmenter(Some(&context), 3e38).unwrap(), || Ok(())).unwrap_err().to_string();
        assert!(told.contains("scores are not finite") && told.contains("beyond f32's range"), "{told}");
    }

    #[test]
    fn a_slice_survives_any_object_that_fails() {
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

    /// Before the first batch of tiles, and between two.
    #[test]
    fn a_device_that_goes_within_a_slice_is_an_error() {
        for lost_at in [0, 2] {
            let Some(context) = paced() else { return };
            let segmenter = segmenter(Some(&context), 1.0).unwrap();
            let mut batches = 0;
            let told = scores(&segmenter, || {
                if batches == lost_at {
                    context.device().destroy();
                }
                batches += 1;
                Ok(())
            });
            let told = told.unwrap_err().to_string();
            assert!(batches > lost_at && told.starts_with("gpu: ") && told.contains("open it anew"), "{told}");
            assert!(scores(&segmenter, || Ok(())).unwrap_err().to_string().contains("was lost"));
        }
    }
}
