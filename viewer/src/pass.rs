//! Computes slices of one size, a piece in each frame. The same device draws the window, and work that is submitted
//! before a frame delays the frame.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use eframe::wgpu;
use meddino::embedding::{self, ImageInput, PassSettings, Reading};
use meddino::{Result, Tensor};

use crate::engine::Engine;

/// A prepared pass, and the features that are being read back from the device.
#[derive(Debug)]
pub struct SlicePass {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pass: embedding::Pass,
    image: [usize; 4],
    /// The device's time for features in one frame.
    budget: Duration,
    reading: Option<Reading>,
}

/// The progress of a pass.
#[derive(Debug)]
pub enum Step {
    /// The share of the work that has been submitted to the device, 0 to 1.
    Working(f32),
    /// The patch tokens [P, C].
    Done(Tensor),
}

impl SlicePass {
    /// Prepares a pass for images [1, 1, H, W] that takes `budget` of the device's time in each frame. It compiles
    /// shaders, so do not call it on the thread that draws.
    ///
    /// # Errors
    /// If the image holds no patch, or the device lacks memory or refuses the work.
    pub fn new(engine: &Engine, image: [usize; 4], budget: Duration) -> Result<Self> {
        let [batch, channels, height, width] = image;
        let input = ImageInput { channels, height, width };
        // The window was drawing while the weights were loaded, so the speed measured then is too low.
        let settings = PassSettings { batch, measured: true, ..PassSettings::new(input) };
        let context = engine.gpu.context();
        let (device, queue) = (context.device().clone(), context.queue().clone());
        Ok(Self { device, queue, pass: embedding::Pass::new(&engine.gpu, &settings)?, image, budget, reading: None })
    }

    /// Returns the shape that images must have.
    pub fn image(&self) -> [usize; 4] {
        self.image
    }

    /// Starts with an image, and drops the work on the previous one.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn begin(&mut self, image: &Tensor) -> Result<()> {
        self.reading = None;
        self.pass.write(image.data())
    }

    /// Computes one frame's share, and never waits.
    ///
    /// # Errors
    /// If the features are not finite, or the device is lost.
    pub fn step(&mut self) -> Result<Step> {
        // Polling runs the device's callbacks. Errors go to the device's handlers.
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
