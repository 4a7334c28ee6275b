"""OpenVINO on the CPU."""

import openvino

import common
import exported
import model


class Peer(common.Engine):
    version = openvino.__version__

    def __init__(self, case):
        super().__init__(case)
        config = {
            "INFERENCE_NUM_THREADS": case["threads"],
            "INFERENCE_PRECISION_HINT": case["precision"],
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(exported.onnx_path(case, "f32"), "CPU", config)
        self.request = compiled.create_infer_request()
        self.x = model.read_input(case)["image"]

    def features(self):
        return self.request.infer({"image": self.x})[0]
