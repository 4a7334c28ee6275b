//! Scores of patch tokens by heads, computed where the tokens are.

use super::engine::Engine;
use super::memory::{self, ByteSize};
use super::observer::Observer;
use crate::backbone::{Pending, PendingScores, Projector};
use crate::error::Result;
use crate::fitted::{DenseHead, Directions};
use crate::tensor::Tensor;
use crate::vit::features::{Projection, Request};

/// A head, and perhaps one of the body, on the device of their model.
pub(super) struct HeadScores {
    head: DenseHead,
    /// The head that tells the body from what is around it.
    body: Option<DenseHead>,
    /// The heads on the GPU; none on the CPU.
    on_gpu: Option<(Projector, Directions)>,
}

/// A batch on its way: its tokens, or the products of the heads' directions.
pub(super) enum Batch {
    Tokens(Pending),
    Products(PendingScores),
}

/// The scores of a batch's patches.
pub(super) struct Scores {
    /// The head's: [B P, K].
    pub classes: Vec<f32>,
    /// By how much each patch is of the body rather than around it: [B P].
    pub body: Option<Vec<f32>>,
}

impl HeadScores {
    /// Puts the heads on the device of `engine`.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub fn new(head: DenseHead, body: Option<DenseHead>, engine: &Engine) -> Result<Self> {
        let width = engine.model().config().embed_dim;
        let heads: Vec<&DenseHead> = std::iter::once(&head).chain(&body).collect();
        // Without directions the CPU computes the scores. It also says what is wrong with a head of another width.
        let directions = Directions::of(&heads).filter(|directions| directions.mean.cols() == width);
        let on_gpu = match directions {
            Some(directions) => {
                let projection = Projection { mean: directions.mean.clone(), directions: directions.directions.clone() };
                engine.backbone().projector(&projection)?.zip(Some(directions))
            }
            None => None,
        };
        Ok(Self { head, body, on_gpu })
    }

    /// Returns the head.
    pub fn head(&self) -> &DenseHead {
        &self.head
    }

    /// Returns the head of the body.
    pub fn body(&self) -> Option<&DenseHead> {
        self.body.as_ref()
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

    /// Waits for the scores of a batch's patches.
    ///
    /// # Errors
    /// If the device fails, or the tokens are not as wide as the heads'.
    pub fn wait(&self, batch: Batch) -> Result<Scores> {
        let (classes, body) = match (batch, &self.on_gpu) {
            (Batch::Products(products), Some((_, directions))) => {
                let products = products.wait()?;
                let scores = |(head, first): (&DenseHead, usize)| directions.scores(head, first, products.data());
                (scores((&self.head, 0)), self.body.as_ref().map(|body| scores((body, self.head.logits()))))
            }
            (Batch::Products(_), None) => unreachable!("a GPU has directions"),
            (Batch::Tokens(tokens), _) => {
                let tokens = tokens.wait()?.patches();
                let (rows, channels) = (tokens.rows(), tokens.cols());
                let tokens = tokens.reshaped([rows, channels]);
                (self.head.scores(&tokens)?, self.body.as_ref().map(|body| body.scores(&tokens)).transpose()?)
            }
        };
        Ok(Scores { classes, body: self.body.as_ref().zip(body).map(|(head, scores)| head.margins(&scores)) })
    }
}
