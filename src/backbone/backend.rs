//! What the CPU and a GPU have in common as backends.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::tuning::Tuning;
use crate::error::Result;
use crate::gpu::{Boxed, Pending, Profile, Projector, WasmNotSendSync};
use crate::tensor::TensorView;
use crate::vit::features::{Check, Features, Projection, Request};

/// A boxed future that stays on its thread.
pub(super) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
/// What a pass waits for before each of its steps. Its error ends the pass.
pub(super) type Pause<'a> = &'a dyn Fn() -> Local<'a, Result<()>>;

/// A device that computes features. The methods of the same names on [`Backbone`](super::Backbone) document the results.
pub(super) trait Backend: WasmNotSendSync {
    fn device(&self) -> String;
    /// Returns [`Backbone::method`](super::Backbone::method) without the parts for the precision and the tier.
    fn method(&self) -> String;
    fn tuning(&self) -> Tuning;
    fn warnings(&self) -> &[String];
    fn threads(&self) -> Option<usize>;
    fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>>;
    /// Submits a batch; if `clocked`, the device's clock times the pass.
    fn submit<'a>(&'a self, batch: Batch<'a>, clocked: bool) -> Boxed<'a, Result<Pending>>;
    /// Computes a batch in steps, and waits for `pause` before each.
    fn features_pausing<'a>(&'a self, batch: Batch<'a>, pause: Pause<'a>) -> Local<'a, Result<Features>>;
    /// Takes features back whose memory a later batch may use.
    fn reuse(&self, features: Features);
    fn pass_times<'a>(&'a self, batch: Batch<'a>, runs: usize) -> Boxed<'a, Result<Option<Vec<Duration>>>>;
    fn peak_flops(&self) -> Boxed<'_, Result<Option<f64>>>;
    fn profile<'a>(&'a self, batch: Batch<'a>) -> Boxed<'a, Result<Profile>>;
    fn projector<'a>(&'a self, projection: &'a Projection) -> Boxed<'a, Result<Option<Projector>>>;
}

/// A batch of images, the mask of their patches, and the request for outputs.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub images: TensorView<'a>,
    pub mask: Option<&'a [bool]>,
    pub request: &'a Request,
    /// Runs before the batch and, on the CPU, before each block of the model.
    pub check: Check<'a>,
}
