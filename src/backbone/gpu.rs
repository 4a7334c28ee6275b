//! A GPU as a backend.

use std::future::ready;
use std::time::Duration;

use super::backend::{Backend, Batch, Local, Pause};
use super::tuning::{Precision, Tuning};
use crate::error::Result;
use crate::gpu::{Boxed, Gpu, Pending, Profile, Projector};
use crate::graph::{Elem, Limits};
use crate::vit::features::{Features, Projection, Request};

impl Backend for Gpu {
    fn device(&self) -> String {
        self.context().name()
    }

    fn method(&self) -> String {
        let (info, limits) = (self.context().info(), self.context().limits());
        // `max_work` differs between runs, because each run measures it. It decides which rows share a dispatch, which
        // does not change the bits of any row.
        let limits = Limits { max_work: None, ..*limits };
        let driver = format!("{} {}", info.driver, info.driver_info);
        let device = format!("{} ({:?}, {:x}:{:x})", info.name, info.backend, info.vendor, info.device);
        format!("device {device}; driver {driver}; limits {limits:?}")
    }

    fn tuning(&self) -> Tuning {
        let limits = self.context().limits();
        let precision = match limits.elem {
            Elem::F32 => Precision::F32,
            Elem::F16 => Precision::F16,
        };
        Tuning { precision, tier: Some(limits.tier) }
    }

    fn warnings(&self) -> &[String] {
        self.context().warnings()
    }

    fn threads(&self) -> Option<usize> {
        None
    }

    fn planned_bytes(&self, image_shape: &[usize], pending: u64, request: &Request) -> Result<Option<u64>> {
        let bytes = self.bytes(image_shape, false, request)?;
        Ok(Some(bytes.total() + pending * bytes.outputs))
    }

    fn submit<'a>(&'a self, Batch { images, mask, request, check }: Batch<'a>, clocked: bool) -> Boxed<'a, Result<Pending>> {
        if let Err(error) = check() {
            return Box::pin(ready(Err(error)));
        }
        if clocked {
            Box::pin(self.submit_clocked_async(images, mask, request))
        } else {
            Box::pin(self.submit_async(images, mask, request))
        }
    }

    /// In one step, because a GPU computes in the background.
    fn features_pausing<'a>(&'a self, Batch { images, mask, request, .. }: Batch<'a>, pause: Pause<'a>) -> Local<'a, Result<Features>> {
        Box::pin(async move {
            pause().await?;
            self.submit_async(images, mask, request).await?.await
        })
    }

    fn reuse(&self, features: Features) {
        Self::reuse(self, features);
    }

    fn pass_times<'a>(&'a self, batch: Batch<'a>, runs: usize) -> Boxed<'a, Result<Option<Vec<Duration>>>> {
        Box::pin(async move { self.pass_times_async(batch.images, batch.request, runs).await.map(Some) })
    }

    fn peak_flops(&self) -> Boxed<'_, Result<Option<f64>>> {
        Box::pin(async { self.context().peak_flops_async().await.map(Some) })
    }

    fn profile<'a>(&'a self, Batch { images, mask, request, .. }: Batch<'a>) -> Boxed<'a, Result<Profile>> {
        Box::pin(self.profile_async(images, mask, request))
    }

    fn projector<'a>(&'a self, projection: &'a Projection) -> Boxed<'a, Result<Option<Projector>>> {
        Box::pin(async { Projector::new_async(self, projection).await.map(Some) })
    }
}
