//! The one device: opened by the window, with what the model makes use of, and lent to it.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use eframe::egui_wgpu::{RenderState, SurfaceConfig, WgpuConfiguration, WgpuSetupCreateNew};
use eframe::wgpu;
use meddino::gpu::Context;

/// How the window opens its device: with the features that the model makes use of and the adapter's own limits.
pub fn configuration() -> WgpuConfiguration {
    let wanted = |adapter: &wgpu::Adapter| wgpu::DeviceDescriptor {
        label: Some("meddino-viewer"),
        required_features: Context::features(adapter),
        required_limits: Context::host_limits(adapter),
        ..Default::default()
    };
    let setup = WgpuSetupCreateNew { device_descriptor: Arc::new(wanted), ..WgpuSetupCreateNew::without_display_handle() };
    // A frame that is late because of features should not be followed by more that were queued behind it.
    WgpuConfiguration { wgpu_setup: setup.into(), ..WgpuConfiguration::default() }.with_surface_config(SurfaceConfig::LOW_LATENCY)
}

/// Has what the device objects to sent to `told`, where it would otherwise end the program.
pub fn watch(state: &RenderState, told: &Sender<String>) {
    // `Sender` is `Send` and the handlers must be `Sync`.
    let told = Arc::new(Mutex::new(told.clone()));
    let tell = move |problem: String| {
        // If nobody listens any more the window is closing.
        let _ = told.lock().unwrap_or_else(PoisonError::into_inner).send(problem);
    };
    let lost = tell.clone();
    state.device.set_device_lost_callback(move |reason, message| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            lost(format!("the GPU was lost ({message}); open the viewer anew, with a smaller --size if it was overloaded"));
        }
    });
    state.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        tell(format!("the GPU refuses what the viewer asks for: {error}; a smaller --size takes less memory"));
    }));
}
