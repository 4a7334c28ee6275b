//! Runs and times one operation on a device, with one tile or with several in turns.

use std::ops::Range;

use web_time::Instant;

use super::super::context::Context;
use super::super::executable::Executable;
use super::super::tune::pseudo_random;
use super::super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Cost, Elem, Graph, Limits, Role, TensorId, plan};
use crate::kernels::Recorder;
use crate::tensor::Tensor;

/// How many values are made up. They repeat to an input's length; because their number is a prime, no two rows are
/// alike.
const VALUES: usize = 65_537;

/// What errors begin with.
pub(super) const TRYING: &str = "trying tile geometries";

/// Records an operation on its inputs, and returns what it computes.
type Record<'a> = dyn Fn(&mut Recorder, &[TensorId]) -> Result<Vec<TensorId>> + Sync + 'a;

/// An operation, and the types and shapes of its inputs.
pub(super) struct Subject<'a> {
    pub kernel: &'static str,
    pub rows: usize,
    pub inputs: Vec<(Elem, Vec<usize>)>,
    pub record: &'a Record<'a>,
}

/// An operation on a device, with its inputs uploaded once for all tiles.
pub(super) struct Bench<'a> {
    context: &'a Context,
    subject: &'a Subject<'a>,
    inputs: GpuWeights,
}

/// One tile by itself.
pub(super) struct Once {
    pub seconds: f64,
    pub flops: u64,
    pub results: Vec<Tensor>,
    /// Whether two runs gave the same bits. If not, invocations did not wait for each other.
    pub is_steady: bool,
}

/// The same operation with several tiles as one executable: pipelines and bind groups are created once, and the tiles
/// share buffers.
pub(super) struct Series {
    executable: Executable,
    /// The dispatches of each tile.
    steps: Vec<Range<usize>>,
}

impl<'a> Bench<'a> {
    pub async fn new(context: &'a Context, subject: &'a Subject<'a>) -> Result<Self> {
        let values = |(i, (elem, shape)): (usize, &(Elem, Vec<usize>))| {
            let some = pseudo_random(i, VALUES);
            let values = some.iter().copied().cycle().take(shape.iter().product()).collect();
            (label(i), Tensor::new(shape.clone(), values), *elem)
        };
        let inputs: Vec<(String, Tensor, Elem)> = subject.inputs.iter().enumerate().map(values).collect();
        let inputs = inputs.iter().map(|(name, tensor, elem)| (name.as_str(), tensor, *elem)).collect();
        Ok(Self { context, subject, inputs: GpuWeights::upload_as_async(context, inputs).await? })
    }

    /// Two runs under `limits`, of which the second is timed: the first pays for what drivers put off until then.
    pub async fn once(&self, limits: &Limits) -> Result<Once> {
        let mut g = Recorder::new(*limits);
        let inputs = self.record_inputs(&mut g);
        let results = (self.subject.record)(&mut g, &inputs)?;
        results.iter().for_each(|&result| g.keep(result));
        let executable = self.executable(g.finish()).await?;
        let all = 0..executable.graph().steps().len();
        self.time(&executable, &all, 1).await?;
        let first = executable.read_all_async(&results).await?;
        let seconds = self.time(&executable, &all, 1).await?;
        let flops = executable.graph().steps().iter().fold(Cost::default(), |sum, step| sum + step.cost).flops;
        let results = executable.read_all_async(&results).await?;
        let is_same = |(a, b): (&Tensor, &Tensor)| a.data().iter().map(|v| v.to_bits()).eq(b.data().iter().map(|v| v.to_bits()));
        let is_steady = first.iter().zip(&results).all(is_same);
        Ok(Once { seconds, flops, results, is_steady })
    }

    /// The operation under each of these limits.
    pub async fn series(&self, limits: Vec<Limits>) -> Result<Series> {
        let mut g = Recorder::new(*self.context.limits());
        let inputs = self.record_inputs(&mut g);
        let mut steps = Vec::new();
        for limits in limits {
            g.set_limits(limits);
            let from = g.graph().steps().len();
            (self.subject.record)(&mut g, &inputs)?;
            steps.push(from..g.graph().steps().len());
        }
        Ok(Series { executable: self.executable(g.finish()).await?, steps })
    }

    /// Seconds of a run with the tile at `index` of a series, over `times` runs one after the other.
    pub async fn time_in(&self, series: &Series, index: usize, times: usize) -> Result<f64> {
        self.time(&series.executable, &series.steps[index], times).await
    }

    fn record_inputs(&self, g: &mut Recorder) -> Vec<TensorId> {
        let input = |(i, (elem, shape)): (usize, &(Elem, Vec<usize>))| g.tensor_of(*elem, label(i), shape.clone(), Role::Weight);
        self.subject.inputs.iter().enumerate().map(input).collect()
    }

    async fn executable(&self, graph: Graph) -> Result<Executable> {
        let planned = plan(&graph, &self.context.untuned())?;
        Executable::new_async(self.context, graph, planned, &self.inputs).await
    }

    async fn time(&self, executable: &Executable, steps: &Range<usize>, times: usize) -> Result<f64> {
        let context = self.context;
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("trial") };
        let started = context.checked(TRYING, || {
            let mut encoder = context.device().create_command_encoder(&descriptor);
            (0..times).for_each(|_| executable.encode_steps(&mut encoder, steps.clone()));
            let commands = encoder.finish();
            let started = Instant::now();
            context.submit([commands]);
            Ok(started)
        })?;
        context.done(TRYING).await?;
        Ok(started.elapsed().as_secs_f64() / times as f64)
    }
}

fn label(input: usize) -> String {
    format!("trial {input}")
}
