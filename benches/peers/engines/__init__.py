"""The engines, one per file. Each has `Peer(case, **options)`, a common.Engine that raises common.Unavailable if it
cannot run.
"""

import dataclasses

OURS = "meddino"


@dataclasses.dataclass
class Engine:
    """A file of this folder with its options. Engines that are `slow` to start are started first."""

    module: str
    options: dict = dataclasses.field(default_factory=dict)
    slow: bool = False


CPU = {
    OURS: Engine("meddino"),
    "PyTorch": Engine("pytorch"),
    "torch.compile": Engine("pytorch", {"compiled": True}),
    "ONNX Runtime": Engine("ort"),
    "OpenVINO": Engine("openvino_cpu"),
    "candle": Engine("candle"),
}


def gpu(precision):
    """The engines on a GPU. meddino's half precision is f16; PyTorch is measured in bf16 and in f16."""
    dtypes = {"f32": ["f32"], "f16": ["bf16", "f16"]}[precision]
    return {
        OURS: Engine("meddino"),
        **{f"PyTorch {dtype}": Engine("pytorch", {"dtype": dtype}) for dtype in dtypes},
        **{f"torch.compile {dtype}": Engine("pytorch", {"dtype": dtype, "compiled": True}, slow=True) for dtype in dtypes},
        "onnxruntime-webgpu": Engine("ort"),
        "IREE": Engine("iree_vulkan"),
        "tinygrad": Engine("tinygrad_webgpu"),
        "burn": Engine("burn", slow=True),
    }


def table(backend, precision):
    return CPU if backend == "cpu" else gpu(precision)
