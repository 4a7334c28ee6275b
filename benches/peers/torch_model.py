"""PyTorch's model: the reference of the comparison, and the source of the ONNX files."""

import torch

import model
import reference as R

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
rope_table = R.rope_table


def table(size, dtype=torch.float32):
    """RoPE's sin and cos of the patches [P, D], computed in f32."""
    side = size // model.PATCH
    return tuple(t.to(dtype) for t in rope_table(R.rope_periods(model.HEAD, torch.float32), side, side, torch.float32))


class Model(torch.nn.Module):
    """image [B, 3, H, W] in f32 -> every token after the final norm [B, T, C] in f32. The computation, and RoPE's table
    made beforehand, are in `dtype`."""

    def __init__(self, case, dtype="f32", device="cpu"):
        super().__init__()
        self.cfg, self.dtype = model.config(case["depth"]), DTYPES[dtype]
        named = model.weights(case)
        self.names = list(named)
        for i, name in enumerate(self.names):
            self.register_buffer(f"w{i}", torch.from_numpy(named[name]).to(device, self.dtype))
        self.table = tuple(t.to(device) for t in table(case["size"], self.dtype))
        self.eval()

    def forward(self, image):
        weights = {name: getattr(self, f"w{i}") for i, name in enumerate(self.names)}
        R.rope_table = lambda *_: self.table
        out = R.forward(weights, image.to(self.dtype), self.cfg, rope_dtype=self.dtype)
        return torch.cat([out["x_norm_clstoken"][:, None], out["x_storage_tokens"], out["x_norm_patchtokens"]], 1).float()


def exact():
    """Switches TF32 off, so that f32 products are computed in f32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def reference(case):
    """The features in f32, computed on CUDA if available, else on the CPU."""
    exact()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image = torch.from_numpy(model.read_input(case)["image"]).to(device)
    with torch.inference_mode():
        return Model(case, device=device)(image).cpu().numpy()
