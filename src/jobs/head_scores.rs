//! Scores of patch tokens by a head, computed where the tokens are.

use super::engine::Engine;
use super::memory::{self, ByteSize};
use super::observer::Observer;
use crate::backbone::{Pending, PendingScores, Projector};
use crate::error::Result;
use crate::fitted::{DenseHead, Directions};
use crate::tensor::Tensor;
use crate::vit::features::{Projection, Request};

/// A head on the device of its model.
pub(super) struct HeadScores {
    head: DenseHead,
    /// The head on the GPU; none on the CPU.
    on_gpu: Option<(Projector, Directions)>,
}

/// A batch on its way: its tokens, or the products of the head's directions.
pub(super) enum Batch {
    Tokens(Pending),
    Products(PendingScores),
}

impl HeadScores {
    /// Puts `head` on the device of `engine`.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub fn new(head: DenseHead, engine: &Engine) -> Result<Self> {
        let width = engine.model().config().embed_dim;
        // Without directions the CPU computes the scores. It also says what is wrong with a head of another width.
        let directions = Directions::of(&[&head]).filter(|directions| directions.mean.cols() == width);
        let on_gpu = match directions {
            Some(directions) => {
                let projection = Projection { mean: directions.mean.clone(), directions: directions.directions.clone() };
                engine.backbone().projector(&projection)?.zip(Some(directions))
            }
            None => None,
        };
        Ok(Self { head, on_gpu })
    }

    /// Returns the head.
    pub fn head(&self) -> &DenseHead {
        &self.head
    }

    /// Returns the largest batch, up to `count` images [C, H, W], that needs at most `limit` bytes.
    ///
    /// # Errors
    /// If one image needs more, or does not fit the model.
    pub fn batch(&self, engine: &Engine, image: [usize; 3], count: usize, limit: Option<ByteSize>) -> Result<usize> {
        match &self.on_gpu {
            Some((projector, _)) => memory::projected_batch(projector, image, count, limit),
            None => memory::batch(engine.model(), engine.backbone(), image, count, &Request::default(), limit),
        }
    }

    /// Submits a batch of images.
    ///
    /// # Errors
    /// If the device fails; [`crate::Error::Cancelled`] if `observer` cancels.
    pub fn submit(&self, engine: &Engine, images: &Tensor, observer: &dyn Observer) -> Result<Batch> {
        Ok(match &self.on_gpu {
            Some((projector, _)) => Batch::Products(projector.submit(images)?),
            None => Batch::Tokens(engine.submit(images, None, &Request::default(), observer)?),
        })
    }

    /// Waits for the scores of a batch's patches, [B P, K].
    ///
    /// # Errors
    /// If the device fails, or the tokens are not as wide as the head's.
    pub fn wait(&self, batch: Batch) -> Result<Vec<f32>> {
        match (batch, &self.on_gpu) {
            (Batch::Products(products), Some((_, directions))) => Ok(directions.scores(&self.head, 0, products.wait()?.data())),
            (Batch::Products(_), None) => unreachable!("a GPU has directions"),
            (Batch::Tokens(tokens), _) => {
                let tokens = tokens.wait()?.patches();
                let (rows, channels) = (tokens.rows(), tokens.cols());
                self.head.scores(&tokens.reshaped([rows, channels]))
            }
        }
    }
}
