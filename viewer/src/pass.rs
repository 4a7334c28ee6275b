//! A pass over the slices of one size, a piece of it in each frame: the window is drawn by the same device, which what
//! is submitted before a frame delays.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use eframe::wgpu;
use meddino::embedding::{self, ImageInput, PassSettings, Reading};
use meddino::{Result, Tensor};

use crate::engine::Engine;

/// A prepared pass, and the features that are on their way from the device.
#[derive(Debug)]
pub struct SlicePass {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pass: embedding::Pass,
    image: [usize; 4],
    /// The device's time in one frame.
    budget: Duration,
    reading: Option<Reading>,
}

/// How far a pass is.
#[derive(Debug)]
pub enum Step {
    /// The share that the device was given, 0 to 1.
    Working(f32),
    /// The patch tokens [P, C].
    Done(Tensor),
}

impl SlicePass {
    /// Prepares for images [1, 1, H, W], with so much of the device's time in a frame. Shaders are compiled, so that
    /// this is not for the thread that draws.
    ///
    /// # Errors
    /// If the image holds no patch, or the device lacks memory or refuses the work.
    pub fn new(engine: &Engine, image: [usize; 4], budget: Duration) -> Result<Self> {
        let [batch, channels, height, width] = image;
        let input = ImageInput { channels, height, width };
        // The window was being drawn while the weights were loaded, so that the speed measured then is too low.
        let settings = PassSettings { batch, measured: true, ..PassSettings::new(input) };
        let context = engine.gpu.context();
        let (device, queue) = (context.device().clone(), context.queue().clone());
        Ok(Self { device, queue, pass: embedding::Pass::new(&engine.gpu, &settings)?, image, budget, reading: None })
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
        self.reading = None;
        self.pass.write(image.data())
    }

    /// Goes on for one frame's share of the device's time, and never waits.
    ///
    /// # Errors
    /// If the features are not finite, or the device is lost.
    pub fn step(&mut self) -> Result<Step> {
        // The device calls back in here. It tells its handlers what goes wrong.
        let _ = self.device.poll(wgpu::PollType::Poll);
        if let Some(reading) = &mut self.reading {
            if let Poll::Ready(features) = Pin::new(reading).poll(&mut Task::from_waker(Waker::noop())) {
                self.reading = None;
                let patches = features?.patches();
                let (rows, channels) = (patches.rows(), patches.cols());
                return Ok(Step::Done(patches.reshaped([rows, channels])));
            }
        } else if !self.pass.is_busy() {
            self.submit();
        }
        Ok(Step::Working(self.pass.progress().share()))
    }

    fn submit(&mut self) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("features") });
        if self.pass.encode_some(&mut encoder, self.budget).is_finished() {
            self.reading = Some(self.pass.read(&mut encoder));
        }
        self.queue.submit([encoder.finish()]);
    }
}
