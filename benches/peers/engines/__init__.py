"""The engines, one per file. Each has `Peer(case, **options)`, a common.Engine that raises common.Unavailable if it
cannot run.
"""

OURS = "meddino"

CPU = {
    OURS: ("meddino", {}),
    "PyTorch": ("pytorch", {}),
    "torch.compile": ("pytorch", {"compiled": True}),
    "ONNX Runtime": ("ort", {}),
    "OpenVINO": ("openvino_cpu", {}),
    "candle": ("candle", {}),
}


def gpu(precision):
    """The engines on a GPU. meddino's half precision is f16; PyTorch is measured in bf16 and in f16."""
    torch = {"f32": ["f32"], "f16": ["bf16", "f16"]}[precision]
    return {
        OURS: ("meddino", {}),
        **{f"PyTorch {dtype}": ("pytorch", {"dtype": dtype}) for dtype in torch},
        f"torch.compile {torch[0]}": ("pytorch", {"dtype": torch[0], "compiled": True}),
        "onnxruntime-webgpu": ("ort", {}),
        "IREE": ("iree_vulkan", {}),
        "tinygrad": ("tinygrad_webgpu", {}),
        "burn": ("burn", {}),
    }


def table(backend, precision):
    return CPU if backend == "cpu" else gpu(precision)
