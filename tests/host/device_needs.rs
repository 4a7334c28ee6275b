//! What the host's device must have.

use meddino::embedding::{self, Context};

use crate::{Host, adapter};

#[test]
fn a_device_with_too_low_limits_is_refused_by_name() {
    let Some((_alone, adapter)) = adapter() else { return };
    let required_limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::defaults() };
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let error = Context::from_host(device, queue).map(|_| ()).unwrap_err();
    assert!(matches!(error, meddino::Error::Gpu { kind: meddino::error::GpuFailure::Unsupported, .. }), "{error:?}");
    let refused = error.to_string();
    let expected = "max_storage_buffers_per_shader_stage is 4 and should be at least 6";
    assert!(refused.contains(expected) && refused.contains(&adapter.get_info().name), "{refused}");
    // f16 is optional: the context opens without it, and only a request for f16 fails.
    let plain = wgpu::DeviceDescriptor::default();
    let (device, queue) = pollster::block_on(adapter.request_device(&plain)).expect("a device");
    let context = Context::from_host(device, queue).expect("enough");
    let refused = context.tuned(meddino::graph::Elem::F16, None).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("have no f16"), "{refused}");
}

#[test]
fn the_descriptor_requests_every_wanted_feature() {
    let Some(host) = Host::new() else { return };
    let wanted = embedding::WANTED.iter().fold(wgpu::Features::empty(), |features, wanted| features | wanted.feature);
    assert_eq!(host.device.features(), host.adapter.features() & wanted);
    assert_eq!(host.device.limits().max_storage_buffer_binding_size, host.adapter.limits().max_storage_buffer_binding_size);
}
