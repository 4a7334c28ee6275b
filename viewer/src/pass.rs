//! One forward pass, a few dispatches a frame: the device is the window's, and what is submitted before a frame delays it.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as Task, Poll, Waker};
use std::time::{Duration, Instant};

use eframe::wgpu;
use meddino::gpu::{Executable, Readback};
use meddino::graph::plan;
use meddino::vit::config::Grid;
use meddino::vit::features::Request;
use meddino::vit::forward::{Forward, Input, record};
use meddino::vit::rope;
use meddino::{Error, Result, Tensor};

use crate::engine::Engine;

/// What a device of unknown speed is given first, in FLOPs: some milliseconds of a slow GPU.
const FIRST_WORK: u64 = 200_000_000;

/// A prepared pass over images of one size, and how far it is with the present one.
#[derive(Debug)]
pub struct Pass {
    executable: Executable,
    forward: Forward,
    grid: Grid,
    /// [1, 1, H, W]
    image: [usize; 4],
    /// Dispatches that were submitted.
    done: usize,
    /// What was submitted last, until it is known to be over.
    chunk: Option<Chunk>,
    /// Work a second, as it was measured last.
    rate: Option<f64>,
    readback: Option<Readback>,
}

/// Dispatches on their way.
#[derive(Debug)]
struct Chunk {
    work: u64,
    submitted: Instant,
    over: Arc<OnceLock<Instant>>,
}

/// How far a pass is.
#[derive(Debug)]
pub enum Step {
    /// From 0 to 1.
    Working(f32),
    /// The patch tokens [P, C].
    Done(Tensor),
}

impl Pass {
    /// Prepares for images [1, 1, H, W]: compiles shaders, takes memory. Slow: not for a thread that draws.
    ///
    /// # Errors
    /// If the image holds no patch, or the device lacks memory or refuses the work.
    pub fn new(engine: &Engine, image: [usize; 4]) -> Result<Self> {
        let context = engine.gpu.context();
        let grid = engine.config.grid(image[2], image[3])?;
        let input = Input { batch: image[0], channels: image[1], height: image[2], width: image[3], masked: false };
        let (graph, forward) = record(&engine.config, *context.limits(), input, &Request::default())?;
        let planned = plan(&graph, context.limits())?;
        let executable = Executable::new(context, graph, planned, engine.gpu.weights())?;
        executable.write(forward.table, 0, rope::table(&engine.config, grid).data())?;
        Ok(Self { executable, forward, grid, image, done: 0, chunk: None, rate: None, readback: None })
    }

    /// The shape that images must have.
    pub fn image(&self) -> [usize; 4] {
        self.image
    }

    /// Begins with an image; what was begun before is forgotten.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn begin(&mut self, image: &Tensor) -> Result<()> {
        (self.done, self.readback) = (0, None);
        self.executable.write(self.forward.image, 0, image.data())
    }

    /// Goes on for about `budget` of the device's time, and never waits: once a frame.
    ///
    /// # Errors
    /// If the features are not finite, or the device is lost.
    pub fn step(&mut self, budget: Duration) -> Result<Step> {
        // Callbacks come in here; nothing is waited for. What goes wrong is told to the device's handlers.
        let _ = self.executable.context().device().poll(wgpu::PollType::Poll);
        if let Some(chunk) = &self.chunk {
            let Some(over) = chunk.over.get() else { return Ok(Step::Working(self.share())) };
            let took = over.duration_since(chunk.submitted).max(Duration::from_micros(50));
            self.rate = Some(chunk.work as f64 / took.as_secs_f64());
            self.chunk = None;
        }
        let steps = self.executable.graph().steps().len();
        if self.done < steps {
            let next = self.next(budget);
            self.submit(next);
        } else if let Some(readback) = &mut self.readback {
            if let Poll::Ready(values) = Pin::new(readback).poll(&mut Task::from_waker(Waker::noop())) {
                self.readback = None;
                return self.patches(&values?).map(Step::Done);
            }
        } else {
            self.readback = Some(self.executable.read(self.forward.x_norm)?);
        }
        Ok(Step::Working(self.share()))
    }

    /// The dispatches that fit into `budget`; one at least.
    fn next(&self, budget: Duration) -> Range<usize> {
        let most = self.rate.map_or(FIRST_WORK, |rate| (rate * budget.as_secs_f64()) as u64);
        let (mut end, mut work) = (self.done, 0);
        for step in &self.executable.graph().steps()[self.done..] {
            work += step.cost.work();
            if end > self.done && work > most {
                break;
            }
            end += 1;
        }
        self.done..end
    }

    fn submit(&mut self, steps: Range<usize>) {
        let context = self.executable.context();
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("features") });
        self.executable.encode_steps(&mut encoder, steps.clone());
        context.queue().submit([encoder.finish()]);
        let over = Arc::new(OnceLock::new());
        let told = Arc::clone(&over);
        context.queue().on_submitted_work_done(move || {
            let _ = told.set(Instant::now());
        });
        let work = self.executable.graph().steps()[steps.clone()].iter().map(|step| step.cost.work()).sum();
        self.chunk = Some(Chunk { work, submitted: Instant::now(), over });
        self.done = steps.end;
    }

    fn share(&self) -> f32 {
        self.done as f32 / self.executable.graph().steps().len() as f32
    }

    /// The last tokens of all [1, T, C]: those of the patches.
    fn patches(&self, x_norm: &[f32]) -> Result<Tensor> {
        let info = self.executable.graph().info(self.forward.x_norm);
        let (patches, width) = (self.grid.patches(), info.shape[2]);
        let first = (info.shape[1] - patches) * width;
        let tokens = x_norm[first..][..patches * width].to_vec();
        if tokens.iter().any(|v| !v.is_finite()) {
            return Err(Error::option("the slice", "its features are not finite: the scan or the weights hold values beyond f32's range"));
        }
        Ok(Tensor::new([patches, width], tokens))
    }
}
