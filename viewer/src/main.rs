//! `meddino-viewer` shows a CT scan in a window, and the features that MedDINOv3 computes for it.
//!
//! The window and the model share one wgpu device through [`meddino::embedding`]: [`device`] opens it with the features
//! and limits that the model uses, and lends it. Each frame computes a piece of the features ([`pass`]), so that the
//! window stays responsive meanwhile.

mod app;
mod args;
mod body;
mod brush;
mod cache;
mod controls;
mod device;
mod dialog;
mod engine;
mod frames;
mod gate;
mod head;
mod labelling;
mod labels;
mod maps;
mod marks;
mod overlay;
mod pass;
mod reader;
mod saver;
mod schedule;
mod slice;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let frames = match args.log_frames.as_deref().map(frames::Frames::create).transpose() {
        Ok(frames) => frames.unwrap_or_default(),
        Err(problem) => return failed(&problem),
    };
    let body = match args.foreground.clone().map(body::Body::open).transpose() {
        Ok(body) => body.map(Arc::new),
        Err(problem) => return failed(&problem),
    };
    let options = eframe::NativeOptions {
        viewport: eframe::egui::ViewportBuilder::default()
            .with_title("meddino")
            .with_app_id("meddino-viewer")
            .with_inner_size([1100.0, 800.0])
            .with_min_inner_size([640.0, 480.0])
            .with_drag_and_drop(true),
        wgpu_options: device::configuration(args.device.clone()),
        renderer: eframe::Renderer::Wgpu,
        ..Default::default()
    };
    match eframe::run_native("meddino-viewer", options, Box::new(|context| Ok(Box::new(app::App::new(context, args, body, frames)?)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&format_args!(
            "no window: {problem}; it needs a display, and a Vulkan, Metal or DX12 driver with compute shaders (Mesa's software Vulkan will do)"
        )),
    }
}

/// Reports an error that ends the viewer before a window exists to show it.
fn failed(problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::FAILURE
}
