//! A kernel as wgpu hands it to a Vulkan driver.

use ash::vk::DescriptorType;
use meddino::graph::Kernel;
use naga::AddressSpace;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Returns the module that wgpu makes of the text that real GPUs get, without run-time checks, and the types of its
/// bindings in order.
pub fn module(kernel: &Kernel) -> Result<(Vec<u32>, Vec<DescriptorType>), String> {
    let text = kernel.unrolled_source();
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).map_err(|e| e.emit_to_string(&text))?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies { index: unchecked, buffer: unchecked, image_load: unchecked, binding_array: unchecked },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let entry = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".to_owned() };
    let words = spv::write_vec(&module, &info, &options, Some(&entry)).map_err(|e| e.to_string())?;
    let mut bindings: Vec<(u32, DescriptorType)> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| {
            let kind = match (variable.space, &module.types[variable.ty].inner) {
                (AddressSpace::Uniform, _) => DescriptorType::UNIFORM_BUFFER,
                (AddressSpace::Handle, naga::TypeInner::Image { class: naga::ImageClass::Storage { .. }, .. }) => {
                    DescriptorType::STORAGE_IMAGE
                }
                (AddressSpace::Handle, _) => DescriptorType::SAMPLED_IMAGE,
                _ => DescriptorType::STORAGE_BUFFER,
            };
            Some((variable.binding?.binding, kind))
        })
        .collect();
    bindings.sort_by_key(|(number, _)| *number);
    assert!(bindings.iter().zip(0..).all(|((number, _), at)| *number == at), "bindings are numbered from 0: {bindings:?}");
    Ok((words, bindings.into_iter().map(|(_, kind)| kind).collect()))
}
