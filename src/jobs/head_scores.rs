//! Scores of patch tokens by heads, computed where the tokens are.

use super::engine::Engine;
use super::memory::{self, ByteSize};
use super::observer::Observer;
use crate::backbone::{Pending, PendingScores, Projector};
use crate::error::Result;
use crate::fitted::{BodyHead, DenseHead, Directions};
use crate::tensor::Tensor;
use crate::vit::features::Request;

/// A head, and perhaps one of the body, on the device of their model.
pub(super) struct HeadScores {
    head: DenseHead,
    /// The head that tells the body from what is around it.
    body: Option<BodyHead>,
    /// What the heads need of the model.
    request: Request,
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
    pub fn new(head: DenseHead, body: Option<BodyHead>, engine: &Engine) -> Result<Self> {
        let heads: Vec<&DenseHead> = std::iter::once(&head).chain(body.as_ref().map(BodyHead::head)).collect();
        let request = Request::of_layers(heads.iter().map(|head| head.layers()));
        // Without directions the CPU computes the scores. It also says what is wrong with a head of other tokens.
        let on_gpu = match Directions::of(&heads, engine.model().config()) {
            Some(directions) => engine.backbone().projector(&directions.projection)?.zip(Some(directions)),
            None => None,
        };
        Ok(Self { head, body, request, on_gpu })
    }

    /// Returns the head.
    pub fn head(&self) -> &DenseHead {
        &self.head
    }

    /// Returns the head of the body.
    pub fn body(&self) -> Option<&BodyHead> {
        self.body.as_ref()
    }

    /// Returns the largest batch, up to `count` images [C, H, W], that needs at most `limit` bytes.
    ///
    /// # Errors
    /// If one image needs more, or does not fit the model.
    pub fn batch(&self, engine: &Engine, image: [usize; 3], count: usize, limit: Option<ByteSize>) -> Result<usize> {
        match &self.on_gpu {
            Some((projector, _)) => memory::projected_batch(projector, image, count, limit),
            None => memory::batch(engine.model(), engine.backbone(), image, count, &self.request, limit),
        }
    }

    /// Submits a batch of images.
    ///
    /// # Errors
    /// If the device fails; [`crate::Error::Cancelled`] if `observer` cancels.
    pub fn submit(&self, engine: &Engine, images: &Tensor, observer: &dyn Observer) -> Result<Batch> {
        Ok(match &self.on_gpu {
            Some((projector, _)) => Batch::Products(projector.submit(images)?),
            None => Batch::Tokens(engine.submit(images, None, &self.request, observer)?),
        })
    }

    /// Waits for the scores of a batch's patches.
    ///
    /// # Errors
    /// If the device fails, or the tokens are not as wide as the heads'.
    pub fn wait(&self, batch: Batch) -> Result<Scores> {
        let body = self.body.as_ref().map(BodyHead::head);
        let (classes, body) = match (batch, &self.on_gpu) {
            (Batch::Products(products), Some((_, directions))) => {
                let products = products.wait()?;
                let scores = |head, first| directions.scores(head, first, products.data());
                (scores(&self.head, 0), body.map(|body| scores(body, self.head.logits())))
            }
            (Batch::Products(_), None) => unreachable!("a GPU has directions"),
            (Batch::Tokens(tokens), _) => {
                let features = tokens.wait()?;
                let scores = |head: &DenseHead| head.scores(&features.joined(head.layers()));
                (scores(&self.head)?, body.map(scores).transpose()?)
            }
        };
        Ok(Scores { classes, body: self.body.as_ref().zip(body).map(|(body, scores)| body.margins(&scores)) })
    }
}
