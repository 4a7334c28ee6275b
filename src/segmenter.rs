//! The facade of a fine-tuned network: a results folder and a backend in, scores out.

use std::fmt;

use crate::backbone::{self, Backbone, Choice, Tuning};
use crate::cpu::{self, Bf16, Layer, Precision};
use crate::error::{Error, Result};
use crate::nnunet::{Network, Results, Tiling};
use crate::tensor::Tensor;
use crate::vit::decoder::Decoder;
use crate::vit::features::Request;

/// The networks of a results folder, ready to run.
///
/// The encoder runs on the backend that was chosen; the decoder on the CPU.
pub struct Segmenter {
    folds: Vec<Fold>,
    request: Request,
    /// Whether the last block's output goes into the decoder.
    takes_last: bool,
    /// Its decoder's channels, and its classes.
    channels: Vec<usize>,
    classes: usize,
    parameters: usize,
}

struct Fold {
    encoder: Backbone,
    decoder: Decoder<Tensor, Layer>,
}

impl Segmenter {
    /// Loads the weights of every fold onto a backend that computes as `tuning` says.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the backend cannot be had or cannot compute so.
    pub fn new(results: &Results, choice: &Choice, tuning: Tuning) -> Result<Self> {
        let fold = |network: &Network| {
            let encoder = Backbone::tuned(&network.model, choice.clone(), tuning)?;
            let bf16 = Bf16::here().filter(|_| tuning.precision == backbone::Precision::Bf16);
            let decoder = cpu::decoder_layers(network.decoder_weights()?, bf16.map_or(Precision::F32, Precision::Bf16));
            Ok(Fold { encoder, decoder })
        };
        let (_, first) = &results.folds[0];
        let request = first.request();
        Ok(Self {
            folds: results.folds.iter().map(|(_, network)| fold(network)).collect::<Result<_>>()?,
            takes_last: request.layers.len() < first.decoder.layers.len(),
            request,
            channels: first.decoder.channels.clone(),
            classes: first.decoder.classes,
            parameters: results.folds.iter().map(|(_, network)| network.parameters()).sum(),
        })
    }

    /// Scores a pixel, K.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What the encoder runs on, for people.
    pub fn device(&self) -> String {
        self.folds[0].encoder.device()
    }

    /// The scores [B, K, H, W] of tiles [B, 1, H, W], normalised: the folds' mean.
    ///
    /// # Errors
    /// If the tiles do not fit the model, or the device fails.
    pub fn scores(&self, tiles: &Tensor) -> Result<Tensor> {
        let (first, others) = self.folds.split_first().expect("at least one fold");
        let mut sum = self.of_fold(first, tiles)?;
        for fold in others {
            let scores = self.of_fold(fold, tiles)?;
            sum.data_mut().iter_mut().zip(scores.data()).for_each(|(sum, v)| *sum += v);
        }
        let count = self.folds.len() as f32;
        sum.data_mut().iter_mut().for_each(|v| *v /= count);
        Ok(sum)
    }

    /// The scores [K, H, W] of a slice [H, W] as [`crate::nnunet::Prepared`] gives it, at most `batch` tiles at a time.
    ///
    /// # Errors
    /// As [`Segmenter::scores`].
    pub fn slice(&self, slice: &Tensor, tiling: &Tiling, batch: usize) -> Result<Tensor> {
        tiling.run(slice, self.classes, batch, |tiles| self.scores(tiles))
    }

    fn of_fold(&self, fold: &Fold, tiles: &Tensor) -> Result<Tensor> {
        let features = fold.encoder.features(tiles, None, &self.request)?;
        let mut layers: Vec<&Tensor> = features.layers.iter().map(|(_, x)| x).collect();
        // The last block's output through the final norm is there in any case, and not among the layers that were asked for.
        if self.takes_last {
            layers.push(&features.x_norm);
        }
        let scores = cpu::decode(&fold.decoder, &layers, features.grid);
        if scores.data().iter().any(|v| !v.is_finite()) {
            return Err(Error::option("image", "the scores are not finite: the image or the weights hold values beyond f32's range"));
        }
        Ok(scores)
    }

    /// What a user should know and may not expect of the backend.
    pub fn warnings(&self) -> &[String] {
        self.folds[0].encoder.warnings()
    }

    /// Whether the encoder, too, runs on the CPU.
    pub fn is_on_cpu(&self) -> bool {
        self.folds[0].encoder.threads().is_some()
    }

    /// About how many bytes a batch of tiles [B, 1, H, W] needs, the weights included: of the device's memory if the encoder runs on a GPU, else of the host's.
    ///
    /// # Errors
    /// If the tiles hold no patch, or do not fit the device.
    pub fn bytes(&self, tiles: [usize; 4]) -> Result<u64> {
        let planned = self.folds.iter().map(|fold| fold.encoder.planned_bytes(&tiles, &self.request)).collect::<Result<Vec<_>>>()?;
        if let Some(bytes) = planned.into_iter().sum::<Option<u64>>() {
            return Ok(bytes);
        }
        let [batch, _, height, width] = tiles;
        let config = self.folds[0].encoder.config();
        let (c, tokens) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
        // As `cli/memory.rs` has it for features: what serves every block, and the layers that are kept.
        let encoder = tokens * (9 * c + config.ffn_dim + (1 + self.request.layers.len()) * c);
        let scores = 2 * self.classes * height * width;
        Ok(((self.parameters + batch * (encoder + scores + height * width)) * 4 + cpu::decode_bytes(&self.channels)) as u64)
    }
}

impl fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segmenter").field("folds", &self.folds.len()).field("device", &self.device()).finish_non_exhaustive()
    }
}
