"""Reads Keras weights files as Keras' own loader does, layer by layer, in order, by attributes, and
compares every weight with the .safetensors file of the same model.

usage: check_keras_h5.py MODEL.h5 MODEL.safetensors [MODEL.h5 MODEL.safetensors ...]
Needs h5py and numpy. The layers are those of trainer/export/keras_h5.h, written down once more.
"""
import json
import sys

import h5py
import numpy as np

STEMS = ["vocals", "drums", "bass", "harmonic", "perc", "sub"]


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    config = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", (name, entry["dtype"])
        begin, stop = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[end + begin:end + stop], "<f4").reshape(entry["shape"])
    return config, tensors


def layers_of(depth):
    """[(layer, [(weight, name in the .safetensors file), ...]), ...]"""
    def dense(layer, name):
        return layer, [("kernel", name + ".kernel"), ("bias", name + ".bias")]

    def norm(layer, name):
        return layer, [("gamma", name + ".gamma"), ("beta", name + ".beta")]

    layers = [dense("input_projection", "input"), ("positional_encoding", [("embeddings", "pos")])]
    for i in range(depth):
        block = f"blocks.{i}."
        layers += [dense(f"attention_{i}_w{part}", f"{block}attn.{part}") for part in "qkvo"]
        layers += [norm(f"norm1_{i}", block + "ln1"), dense(f"ff1_{i}", block + "ff1"),
                   dense(f"ff2_{i}", block + "ff2"), norm(f"norm2_{i}", block + "ln2")]
    for stem in STEMS:
        layers += [dense(f"{stem}_head_dense1", f"heads.{stem}.hidden"),
                   dense(f"{stem}_head_output", f"heads.{stem}.out")]
    return layers


def fold_statistics(tensors):
    """Puts (x - mean) * scale into the first layer. Returns how far apart its bias may be: the sum
    is taken in another order, so it may be rounded to the neighbour."""
    kernel = (tensors["input.kernel"].astype("f8") * tensors["input.scale"][:, None]).astype("f4")
    shift = tensors["input.mean"].astype("f8") @ kernel.astype("f8")
    tensors["input.kernel"] = kernel
    tensors["input.bias"] = (tensors["input.bias"] - shift).astype("f4")
    return np.spacing(np.abs(tensors["input.bias"]))


def names_in(attribute):
    return [name.decode() for name in attribute]


def check_weight(array, want, name, allowed):
    assert array.dtype == np.dtype("<f4"), (name, array.dtype)
    assert array.chunks is None and array.compression is None, name
    assert array.shape == want.shape, (name, array.shape, want.shape)
    difference = np.abs(array[...] - want)
    assert np.all(difference <= allowed), (name, difference.max())
    return array.size


def check(h5, safetensors):
    config, tensors = read_safetensors(safetensors)
    folded = "input.mean" in tensors
    bias_allowed = fold_statistics(tensors) if folded else 0
    layers = layers_of(config["depth"])
    total = 0
    with h5py.File(h5, "r") as file:
        assert file.attrs["backend"].decode() == "tensorflow"
        assert file.attrs["keras_version"].decode() == "2.15.0"
        stored = json.loads(file.attrs["stemfabric_config"])
        for key in ["dim", "heads", "depth", "dim_ff", "max_sequence_length", "norm_epsilon"]:
            assert stored[key] == config[key], (key, stored[key], config[key])
        assert names_in(file.attrs["layer_names"]) == [layer for layer, _ in layers]
        others = {"stemfabric_input_statistics"} if folded else set()
        assert set(file) == {layer for layer, _ in layers} | others, sorted(file)
        for layer, weights in layers:
            names = [f"{layer}/{weight}:0" for weight, _ in weights]
            assert names_in(file[layer].attrs["weight_names"]) == names, layer
            for name, (_, parameter) in zip(names, weights):
                allowed = bias_allowed if parameter == "input.bias" else 0
                total += check_weight(file[layer][name], tensors.pop(parameter), name, allowed)
        for name in ["mean", "scale"] if folded else []:
            check_weight(file["stemfabric_input_statistics"][name], tensors.pop("input." + name), name, 0)
    assert not tensors, f"not in the Keras file: {sorted(tensors)}"
    return total


paths = sys.argv[1:]
assert paths and len(paths) % 2 == 0, __doc__
weights = sum(check(*pair) for pair in zip(paths[::2], paths[1::2]))
print(f"h5py {h5py.__version__}: {weights} weights of {len(paths) // 2} models are the trainer's")
