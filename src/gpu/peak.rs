//! What a device can: the speed of one large matrix product by the kernels that the model uses there.

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

/// Sides of square products, tried in turn until one takes long enough to be timed beside the cost of a submission.
const SIDES: [usize; 3] = [512, 2048, 4096];
const LONG_ENOUGH: Duration = Duration::from_millis(40);
/// The least of so many runs counts.
const RUNS: usize = 3;

impl Context {
    /// FLOP/s of a large product by this context's kernels and precision.
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
            let mut least = Duration::MAX;
            // The first run pays for what drivers put off until then.
            for run in 0..=RUNS {
                let start = Instant::now();
                executable.run()?;
                self.done("measuring the device's speed").await?;
                least = if run == 0 { least } else { least.min(start.elapsed()) };
            }
            best = best.max(2.0 * (side as f64).powi(3) / least.as_secs_f64());
            if least >= LONG_ENOUGH {
                break;
            }
        }
        Ok(best)
    }
}
