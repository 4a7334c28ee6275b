//! The single wgpu device. The window opens it with the features and limits that the model uses, and lends it to the
//! model.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use eframe::egui_wgpu::{RenderState, SurfaceConfig, WgpuConfiguration, WgpuSetupCreateNew};
use eframe::wgpu;
use meddino::embedding::{self, Context, Devices, Selection};

/// Returns the configuration with which the window opens its device: the selected adapter ([`chosen`]), with the features
/// and limits that the model uses.
pub fn configuration(selection: Selection) -> WgpuConfiguration {
    let setup = WgpuSetupCreateNew {
        native_adapter_selector: Some(Arc::new(move |adapters, surface| chosen(adapters, surface, &selection))),
        device_descriptor: Arc::new(descriptor),
        ..WgpuSetupCreateNew::without_display_handle()
    };
    // Computing features may delay a frame, so no more frames should be queued behind it.
    WgpuConfiguration { wgpu_setup: setup.into(), ..WgpuConfiguration::default() }.with_surface_config(SurfaceConfig::LOW_LATENCY)
}

/// Returns what the model uses of an adapter. An adapter whose limits are too low for the model still shows scans. When
/// the user loads a model, an error names what the adapter lacks.
fn descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    let too_little = |_| wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    wgpu::DeviceDescriptor { label: Some("meddino-viewer"), ..embedding::descriptor(adapter).unwrap_or_else(too_little) }
}

/// Returns the first adapter that the selection may mean, that can draw into the window, and that works.
fn chosen(adapters: &[wgpu::Adapter], surface: Option<&wgpu::Surface<'_>>, selection: &Selection) -> Result<wgpu::Adapter, String> {
    let devices = Devices::of(adapters);
    let mut candidates = devices.candidates(selection).map_err(|error| error.to_string())?;
    if *selection == Selection::Auto {
        // They cannot run the model, but they can show a scan.
        candidates.extend(devices.list.iter().filter(|device| device.abilities.is_none()));
    }
    let draws = |adapter: &wgpu::Adapter| surface.is_none_or(|surface| adapter.is_surface_supported(surface));
    let named = candidates.iter().map(|device| (device.to_string(), &adapters[device.index]));
    let candidates = named.filter(|(_, adapter)| draws(adapter));
    first_working(candidates.collect(), |adapter| tried(adapter)).cloned()
}

/// Returns the first candidate that works. A candidate that fails is named in a warning. The last is returned untried,
/// so that the window shows its error.
fn first_working<T>(candidates: Vec<(String, T)>, works: impl Fn(&T) -> Result<(), String>) -> Result<T, String> {
    let last = candidates.len().saturating_sub(1);
    for (index, (name, candidate)) in candidates.into_iter().enumerate() {
        match if index == last { Ok(()) } else { works(&candidate) } {
            Ok(()) => return Ok(candidate),
            Err(problem) => eprintln!("warning: {name} is not used, and the next GPU is tried: {problem}"),
        }
    }
    Err("no such GPU can draw into the window; choose another with --device, update its driver, or install Mesa's software Vulkan"
        .to_owned())
}

/// Opens an adapter, and compares the model's plainest kernels on it with sums in f64.
fn tried(adapter: &wgpu::Adapter) -> Result<(), String> {
    let opened = pollster::block_on(adapter.request_device(&descriptor(adapter)));
    let (device, queue) = opened.map_err(|error| format!("it cannot be opened: {error}"))?;
    let tested = Context::from_host(device, queue).and_then(|context| context.self_test());
    tested.map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_adapter_that_works_is_taken_and_the_last_is_not_tried() {
        let of = |works: &[bool]| {
            let tries = std::cell::Cell::new(0);
            let candidates = works.iter().enumerate().map(|(index, &works)| (format!("card {index}"), (index, works))).collect();
            let taken = first_working(candidates, |&(_, works)| {
                tries.set(tries.get() + 1);
                if works { Ok(()) } else { Err("made up".to_owned()) }
            });
            (taken.map(|(index, _)| index), tries.get())
        };
        assert_eq!(of(&[true, false]), (Ok(0), 1));
        assert_eq!(of(&[false, true, true]), (Ok(1), 2));
        assert_eq!(of(&[false, false, false]), (Ok(2), 2));
        assert_eq!(of(&[false]), (Ok(0), 0));
        assert!(of(&[]).0.is_err());
    }
}
