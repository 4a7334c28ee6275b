"""IREE on Vulkan: a module that prepare.py compiled. The module is small because it gets the seeded weights at run
time."""

import os

import numpy as np

import common
import exported
import model


def to_host(rt, device, array):
    """Uploads through a buffer that the host can map. The package's own way passes numpy's memory to the driver, which
    Vulkan refuses unless it starts at a page."""
    source = array._buffer_view.get_buffer()
    staging = device.allocator.allocate_buffer(
        memory_type=int(rt.MemoryType.HOST_LOCAL | rt.MemoryType.DEVICE_VISIBLE),
        allowed_usage=int(rt.BufferUsage.TRANSFER_TARGET | rt.BufferUsage.MAPPING_SCOPED),
        allocation_size=source.byte_length(),
    )
    done = device.create_semaphore(0)
    before, after = (rt.HalFence.create_at(done, at) for at in (0, 1))
    device.queue_copy(source, staging, wait_semaphores=before, signal_semaphores=after)
    after.wait()
    return staging.map().asarray(array.shape, array.dtype).copy()


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        module = f"{exported.stem(case)}.vmfb"
        if not os.path.exists(module):
            raise common.Unavailable(f"no {module}: benches/peers/prepare.py compiles it")
        common.carried(case, "iree_base_runtime")
        import iree.runtime as rt
        import iree.runtime.version

        self.version = iree.runtime.version.VERSION
        self.rt, config = rt, rt.Config("vulkan")
        self.on = config.device
        # a file, as a driver may refuse host memory that is not aligned to its pages
        archive = os.path.join(case["folder"], "parameters.irpa")
        rt.save_archive_file({name: np.ascontiguousarray(array) for name, array in exported.parameters(case).items()}, archive)
        index = rt.ParameterIndex()
        index.load(archive)
        given = rt.create_io_parameters_module(config.vm_instance, index.create_provider("model"))
        code = rt.VmModule.mmap(config.vm_instance, module)
        hal = rt.create_hal_module(config.vm_instance, config.device)
        self.run = rt.load_vm_modules(given, hal, code, config=config)[-1]["main_graph"]
        self.image = model.read_input(case)["image"]

    def features(self):
        return to_host(self.rt, self.on, self.run(self.image))

    def device(self, runs):
        image = self.rt.asdevicearray(self.on, self.image)
        return self.timed(lambda: self.run(image), runs)
