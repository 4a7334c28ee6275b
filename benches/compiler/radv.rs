//! AMD's Vulkan driver (RADV), opened for a card that need not exist: it compiles, and runs nothing.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};

use ash::{khr, vk};

/// The driver with a device of one card.
pub struct Radv {
    /// The card's name, as the driver gives it.
    pub name: String,
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    // Dropped last: the device needs them.
    instance: ash::Instance,
    _entry: ash::Entry,
}

/// What the driver says of a compiled shader.
pub struct Compiled {
    /// Invocations of a subgroup.
    pub subgroup_size: u32,
    /// The driver's own figures by its own names, such as `VGPRs`.
    pub statistics: BTreeMap<String, u64>,
    /// The instructions, one a line, in blocks that begin with a label.
    pub assembly: String,
}

#[expect(unsafe_code, reason = "Vulkan's functions are unsafe; every handle is created here, used while it lives, and destroyed once")]
impl Radv {
    /// Opens the first device that the Vulkan loader lists.
    pub fn open() -> Result<Self, String> {
        // SAFETY: the loader is the system's or the one that `run.sh` unpacked.
        let entry = unsafe { ash::Entry::load() }.map_err(|e| e.to_string())?;
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        // SAFETY: the structures live through the call.
        let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None) }
            .map_err(|e| format!("no Vulkan: {e}"))?;
        // SAFETY: the instance lives.
        let gpu = unsafe { instance.enumerate_physical_devices() }.map_err(|e| e.to_string())?.into_iter().next().ok_or("no device")?;
        // SAFETY: the instance lives, and the device is its own.
        let (properties, extensions) = unsafe {
            let extensions = instance.enumerate_device_extension_properties(gpu).map_err(|e| e.to_string())?;
            (instance.get_physical_device_properties(gpu), extensions)
        };
        let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
        let mut wanted = vec![khr::pipeline_executable_properties::NAME];
        let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        if has(khr::cooperative_matrix::NAME) {
            wanted.push(khr::cooperative_matrix::NAME);
            matrices = matrices.cooperative_matrix(true);
        }
        let names: Vec<*const c_char> = wanted.iter().map(|name| name.as_ptr()).collect();
        let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut of_11 =
            vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true).uniform_and_storage_buffer16_bit_access(true);
        let mut of_12 = vk::PhysicalDeviceVulkan12Features::default()
            .shader_float16(true)
            .vulkan_memory_model(true)
            .vulkan_memory_model_device_scope(true);
        let mut of_13 = vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(true).compute_full_subgroups(true);
        let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .push_next(&mut executables)
            .push_next(&mut of_11)
            .push_next(&mut of_12)
            .push_next(&mut of_13)
            .push_next(&mut matrices);
        // SAFETY: the structures live through the call.
        let device = unsafe { instance.create_device(gpu, &info, None) }.map_err(|e| format!("the device cannot be opened: {e}"))?;
        let name = properties.device_name_as_c_str().unwrap_or_default().to_string_lossy().into_owned();
        let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Self { name, device, executables, instance, _entry: entry })
    }

    /// Compiles a shader whose entry point is `main` and whose bindings, numbered from 0, are of these types.
    pub fn compile(&self, spirv: &[u32], bindings: &[vk::DescriptorType]) -> Result<Compiled, String> {
        let failed = |e: vk::Result| e.to_string();
        let binding = |(number, &kind): (u32, &vk::DescriptorType)| {
            let binding = vk::DescriptorSetLayoutBinding::default().binding(number).descriptor_type(kind).descriptor_count(1);
            binding.stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = (0..).zip(bindings).map(binding).collect();
        let device = &self.device;
        // SAFETY: the device lives, and the structures live through the calls. Each object is destroyed once, after its
        // last use; where a call fails, the process ends soon.
        unsafe {
            let set = device
                .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings), None)
                .map_err(failed)?;
            let sets = [set];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None).map_err(failed)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None).map_err(failed)?;
            // wgpu sets this flag on every device with subgroups.
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let captured = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().flags(captured).stage(stage).layout(layout);
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None).map_err(|(_, e)| failed(e))?;
            let compiled = self.described(pipelines[0]).map_err(failed);
            device.destroy_pipeline(pipelines[0], None);
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set, None);
            compiled
        }
    }

    fn described(&self, pipeline: vk::Pipeline) -> Result<Compiled, vk::Result> {
        // SAFETY: the pipeline lives, and was created to be described.
        let (properties, statistics) = unsafe {
            let which = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let properties = self.executables.get_pipeline_executable_properties(&which)?;
            let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            (properties, self.executables.get_pipeline_executable_statistics(&which)?)
        };
        let figure = |s: &vk::PipelineExecutableStatisticKHR<'_>| {
            let name = s.name_as_c_str().ok()?.to_string_lossy().into_owned();
            // SAFETY: the format says which member of the union the driver wrote.
            let value = unsafe {
                match s.format {
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => s.value.u64,
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => s.value.i64.try_into().ok()?,
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => s.value.f64 as u64,
                    _ => return None,
                }
            };
            Some((name, value))
        };
        Ok(Compiled {
            subgroup_size: properties.first().map_or(0, |p| p.subgroup_size),
            statistics: statistics.iter().filter_map(figure).collect(),
            assembly: self.assembly(pipeline)?,
        })
    }

    fn assembly(&self, pipeline: vk::Pipeline) -> Result<String, vk::Result> {
        let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: Vulkan's way to read arrays and texts: the first call writes how many there are, the second how long
        // each is, and the third fills the memory that was taken for them.
        unsafe {
            get(self.device.handle(), &raw const which, &raw mut count, std::ptr::null_mut()).result()?;
            let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(self.device.handle(), &raw const which, &raw mut count, found.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = found.iter().map(|one| vec![0; one.data_size]).collect();
            for (one, text) in found.iter_mut().zip(&mut texts) {
                one.p_data = text.as_mut_ptr().cast();
            }
            get(self.device.handle(), &raw const which, &raw mut count, found.as_mut_ptr()).result()?;
            let is_assembly = |one: &vk::PipelineExecutableInternalRepresentationKHR<'_>| one.name_as_c_str() == Ok(c"Assembly");
            let text = found.iter().position(is_assembly).map(|at| texts.swap_remove(at)).unwrap_or_default();
            Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
        }
    }
}

#[expect(unsafe_code, reason = "Vulkan's objects are destroyed by hand")]
impl Drop for Radv {
    fn drop(&mut self) {
        // SAFETY: nothing that was created from them lives.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
