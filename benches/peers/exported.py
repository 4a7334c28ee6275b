"""The model as an ONNX file, and the names of the weights in it.

prepare.py exports it at home without the weights, because the export takes longer than most measurements, and because
the weights are seeded. A case that was not prepared is exported when it is asked for.
"""

import contextlib
import json
import os

import numpy as np
from safetensors.numpy import load_file, save_file

import model


def stem(case):
    """The path of the case's files in the packed folder, without their extension."""
    return os.path.join(case["carried"] or "", "exported", f"{case['precision']}_{case['size']}_{case['batch']}_{case['depth']}")


def export(case, precision, path):
    """Writes the case's model with its weights (in a file beside it) to `path`."""
    import torch
    import torch_model

    image = torch.from_numpy(model.read_input(case)["image"])
    with contextlib.redirect_stdout(None):
        torch.onnx.export(torch_model.Model(case, precision), (image,), path, input_names=["image"], output_names=["x"], dynamo=True, verbose=False)


def recipe(path, weights, dtype):
    """The ONNX file's constants: the weights, as name -> (weight, whether it is transposed), and the others."""
    import onnx

    known = {w.astype(dtype).T.tobytes() + bytes(str(w.T.shape), "ascii"): (name, True) for name, w in weights.items() if w.ndim == 2}
    known |= {w.astype(dtype).tobytes() + bytes(str(w.shape), "ascii"): (name, False) for name, w in weights.items()}
    found, others = {}, {}
    for constant in onnx.load(path).graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        source = known.get(array.tobytes() + bytes(str(array.shape), "ascii"))
        if source:
            found[constant.name] = source
        else:
            others[constant.name] = np.array(array, order="C")
    return found, others


def pack(case):
    """Exports the case's model and packs it without its weights -> the path of the ONNX file with weights."""
    at = stem(case)
    os.makedirs(os.path.dirname(at), exist_ok=True)
    path = os.path.join(case["folder"], os.path.basename(f"{at}.onnx"))
    export(case, case["precision"], path)
    found, others = recipe(path, model.weights(case), np.float16 if case["precision"] == "f16" else np.float32)
    with open(f"{at}.json", "w") as f:
        json.dump(found, f)
    save_file(others, f"{at}.safetensors")
    with open(path, "rb") as graph, open(f"{at}.onnx", "wb") as out:
        out.write(graph.read())
    return path


def parameters(case):
    """name in a packed model -> array: its weights, made from the seeded weights, and its other constants."""
    named, at = model.weights(case), stem(case)
    dtype = np.float16 if case["precision"] == "f16" else np.float32
    with open(f"{at}.json") as f:
        names = json.load(f)
    weights = {name: (named[source].T if turned else named[source]).astype(dtype) for name, (source, turned) in names.items()}
    return weights | load_file(f"{at}.safetensors")


def restore(case, path):
    """Writes the case's packed ONNX file to `path`, and its weights to the places beside it that the file names."""
    import onnx

    graph = onnx.load(f"{stem(case)}.onnx", load_external_data=False)
    arrays = parameters(case)
    for constant in graph.graph.initializer:
        place = {entry.key: entry.value for entry in constant.external_data}
        if not place:
            continue
        data = np.ascontiguousarray(arrays[constant.name]).tobytes()
        if len(data) != int(place["length"]):
            raise ValueError(f"{constant.name}: {len(data)} bytes, but the packed file names {place['length']}")
        beside = os.path.join(os.path.dirname(path), place["location"])
        with open(beside, "r+b" if os.path.exists(beside) else "w+b") as out:
            out.seek(int(place["offset"]))
            out.write(data)
    onnx.save(graph, path)


def onnx_path(case, precision):
    """The path of the case's ONNX file with its weights, restored or exported at the first call."""
    path = os.path.join(case["folder"], f"{precision}.onnx")
    if not os.path.exists(path):
        if precision == case["precision"] and os.path.exists(f"{stem(case)}.onnx"):
            restore(case, path)
        else:
            export(case, precision, path)
    return path
