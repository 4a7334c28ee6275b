//! Measures a device's speed in one large matrix product, with the kernels that the model uses on that device.

use std::time::Duration;

use web_time::Instant;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::executable::Executable;
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Role, plan};
use crate::kernels::{Epilogue, Recorder};

/// The sides of the square products, tried in turn until a product takes long enough that the cost of a submission is
/// negligible.
const SIDES: [usize; 3] = [512, 2048, 4096];
/// The time from which on a product is long enough.
const LONG_ENOUGH: Duration = Duration::from_millis(40);
/// The number of timed runs, of which the fastest counts.
const RUNS: usize = 3;

impl Context {
    /// Measures the FLOP/s of a large product with this context's kernels and precision.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn peak_flops(&self) -> Result<f64> {
        block_on(self.peak_flops_async())
    }

    /// [`Context::peak_flops`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub async fn peak_flops_async(&self) -> Result<f64> {
        let mut best: f64 = 0.0;
        for side in SIDES {
            let mut g = Recorder::new(*self.limits());
            let elem = g.elem();
            let [x, weight] = [(); 2].map(|()| g.tensor_of(elem, "factor", [side, side], Role::Input));
            let y = g.matmul("product", x, weight, Epilogue::None)?;
            g.keep(y);
            let graph = g.finish();
            let planned = plan(&graph, self.limits())?;
            let executable = Executable::new_async(self, graph, planned, &GpuWeights::default()).await?;
            let mut fastest = Duration::MAX;
            // The first run includes work that drivers delay until the first use, so it does not count.
            for run in 0..=RUNS {
                let start = Instant::now();
                executable.run()?;
                self.done("measuring the device's speed").await?;
                fastest = if run == 0 { fastest } else { fastest.min(start.elapsed()) };
            }
            best = best.max(2.0 * (side as f64).powi(3) / fastest.as_secs_f64());
            if fastest >= LONG_ENOUGH {
                break;
            }
        }
        Ok(best)
    }
}
