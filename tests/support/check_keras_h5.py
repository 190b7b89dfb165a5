"""Opens a Keras weights file as Keras' own loader does: layer by layer, in order, by attributes.

usage: check_keras_h5.py FILE PARAMETER_COUNT VALUE
VALUE is element [2, 3] of the key projection of block 1. Needs h5py and numpy.
"""
import json
import sys

import h5py
import numpy as np


def main(path, count, value):
    with h5py.File(path, "r") as f:
        assert f.attrs["backend"].decode() == "tensorflow"
        assert f.attrs["keras_version"].decode().startswith("2.")
        config = json.loads(f.attrs["stemfabric_config"])
        total = 0
        for layer in f.attrs["layer_names"]:
            group = f[layer.decode()]
            for name in group.attrs["weight_names"]:
                array = group[name.decode()]
                assert array.dtype == np.dtype("<f4"), array.dtype
                assert array.chunks is None and array.compression is None
                total += array.size
        assert total == int(count), (total, count)
        assert f["positional_encoding/positional_encoding/embeddings:0"].shape == (
            config["max_sequence_length"], config["dim"])
        kernel = f["attention_1_wk/attention_1_wk/kernel:0"][...]
        assert abs(kernel[2, 3] - float(value)) < 1e-5, (kernel[2, 3], value)


main(*sys.argv[1:])
