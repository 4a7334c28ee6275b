//! The single wgpu device. The window opens it with the features and limits that the model uses, and lends it to the
//! model.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use eframe::egui_wgpu::{RenderState, SurfaceConfig, WgpuConfiguration, WgpuSetupCreateNew};
use eframe::wgpu;
use meddino::embedding;

/// Returns the configuration with which the window opens its device: the features and limits that the model uses. An
/// adapter whose limits are too low for the model still shows scans. When the user loads a model, an error names what
/// the adapter lacks.
pub fn configuration() -> WgpuConfiguration {
    let wanted = |adapter: &wgpu::Adapter| {
        let too_little = |_| wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        wgpu::DeviceDescriptor { label: Some("meddino-viewer"), ..embedding::descriptor(adapter).unwrap_or_else(too_little) }
    };
    let setup = WgpuSetupCreateNew { device_descriptor: Arc::new(wanted), ..WgpuSetupCreateNew::without_display_handle() };
    // Computing features may delay a frame, so no more frames should be queued behind it.
    WgpuConfiguration { wgpu_setup: setup.into(), ..WgpuConfiguration::default() }.with_surface_config(SurfaceConfig::LOW_LATENCY)
}

/// Sends the device's errors to `objections`. Otherwise they would end the program.
pub fn watch(state: &RenderState, objections: &Sender<String>) {
    // `Sender` is only `Send`, and the handlers must be `Sync`.
    let objections = Arc::new(Mutex::new(objections.clone()));
    let tell = move |problem: String| {
        // If the receiver is gone, the window is closing.
        let _ = objections.lock().unwrap_or_else(PoisonError::into_inner).send(problem);
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
