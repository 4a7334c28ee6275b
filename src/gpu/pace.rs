//! Limits the work of a dispatch, so that none lasts long. The device's speed is measured at first use, because an
//! adapter's name does not tell it.

use std::time::Duration;

use web_time::Instant;

use super::context::Context;
use super::executable::Executable;
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Cost, Limits, Role, TensorId, plan};
use crate::kernels::{Epilogue, Recorder};
use crate::vit::config::Config;

/// How long a dispatch should last: a third of the 200 ms after which a desktop seems to freeze. The margin is for
/// kernels slower than the measured ones, and for a device that is busy. Drivers reset a GPU after 2 s or more.
const DISPATCH: Duration = Duration::from_millis(66);

/// Rows of a probe. They are tried in turn until one takes [`LONG_ENOUGH`].
const PROBES: [usize; 3] = [64, 256, 1024];

/// A probe that takes so long makes the cost of its submission negligible.
const LONG_ENOUGH: Duration = Duration::from_millis(5);

impl Context {
    /// The same device with [`Limits::max_work`] set by its measured speed in matrix products and attention of the
    /// model's sizes. A device whose limit is set stays as it is. The measurement takes tens of milliseconds
    /// besides compiling kernels that the model needs anyway.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub(super) async fn paced(mut self, config: &Config) -> Result<Self> {
        if self.limits.max_work.is_none() {
            let (c, heads, d) = (config.embed_dim, config.num_heads, config.head_dim());
            let product = self.rate(|g, rows| {
                let [x, weight] = [rows, c].map(|rows| input(g, &[rows, c]));
                g.matmul("probe", x, weight, Epilogue::None)
            });
            let product = product.await?;
            let attention = self.rate(|g, tokens| {
                let qkv = [(); 3].map(|()| input(g, &[1, heads, tokens, d]));
                let qkv = g.heads("probe", qkv);
                g.attention("probe", qkv)
            });
            let attention = attention.await?;
            self.limits.max_work = Some((product.min(attention) * DISPATCH.as_secs_f64()) as u64);
        }
        self.speed = self.limits.max_work.map(|work| work as f64 / DISPATCH.as_secs_f64());
        Ok(self)
    }

    /// [`Cost::work`] per second of the operation that `record` records over a number of rows.
    async fn rate(&self, record: impl Fn(&mut Recorder, usize) -> Result<TensorId>) -> Result<f64> {
        let mut rate = f64::INFINITY;
        for rows in PROBES {
            let mut g = Recorder::new(Limits { max_work: None, ..self.limits });
            let result = record(&mut g, rows)?;
            g.keep(result);
            let graph = g.finish();
            let work = graph.steps().iter().fold(Cost::default(), |sum, step| sum + step.cost).work();
            let planned = plan(&graph, &self.limits)?;
            let executable = Executable::new_async(self, graph, planned, &GpuWeights::default()).await?;
            // Drivers put some work off until the first run.
            executable.run()?;
            self.done("measuring the device's speed").await?;
            let start = Instant::now();
            executable.run()?;
            self.done("measuring the device's speed").await?;
            let took = start.elapsed();
            rate = work as f64 / took.as_secs_f64().max(1e-6);
            if took >= LONG_ENOUGH {
                break;
            }
        }
        Ok(rate)
    }
}

fn input(g: &mut Recorder, shape: &[usize]) -> TensorId {
    g.tensor_of(g.elem(), "probe", shape, Role::Input)
}
