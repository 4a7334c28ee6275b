"""ONNX Runtime: its own CPU kernels, or WebGPU from the package onnxruntime-webgpu, which takes the same import name."""

import common
import exported
import model


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        gpu = case["backend"] == "gpu"
        if not gpu and case["precision"] != "f32":
            raise common.Unavailable(f"it has no {case['precision']} on a CPU")
        if gpu and not common.carried(case, "onnxruntime_webgpu"):
            raise common.Unavailable("onnxruntime-webgpu was not carried along: benches/peers/pack.sh FOLDER onnxruntime-webgpu")
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case["threads"]
        provider = "WebGpuExecutionProvider" if gpu else "CPUExecutionProvider"
        how = {"validationMode": "disabled"} if gpu else {}
        path = exported.onnx_path(case, case["precision"])
        self.session = onnxruntime.InferenceSession(path, options, providers=[(provider, how)], enable_fallback=False)
        if provider not in self.session.get_providers():
            raise common.Unavailable(f"{provider} did not start; there are {onnxruntime.get_available_providers()}")
        self.x = model.read_input(case)["image"]

    def features(self):
        return self.session.run(None, {"image": self.x})[0]
