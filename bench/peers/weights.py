"""Initial weights: drawn as the notebook draws them, or read from a file that `slalom train --final` wrote."""

import json
import struct
from typing import NamedTuple

import numpy as np

from text import SYMBOLS


class Weights(NamedTuple):
    """N nodes; the gates i, f, g, o side by side. JAX takes it for a tree of arrays as it stands."""

    input: np.ndarray  # [27, 4N]
    recurrent: np.ndarray  # [N, 4N]
    bias: np.ndarray  # [4N]
    classifier: np.ndarray  # [N, 27]
    classifier_bias: np.ndarray  # [27]


def drawn(nodes, seed=0):
    """Normal around -0.1 with deviation 0.1, redrawn beyond two deviations; biases are zero."""
    random = np.random.default_rng(seed)

    def kernel(*shape):
        z = random.standard_normal(shape)
        while (far := np.abs(z) > 2).any():
            z[far] = random.standard_normal(far.sum())
        return (0.1 * z - 0.1).astype(np.float32)

    return Weights(
        kernel(SYMBOLS, 4 * nodes),
        kernel(nodes, 4 * nodes),
        np.zeros(4 * nodes, np.float32),
        kernel(nodes, SYMBOLS),
        np.zeros(SYMBOLS, np.float32),
    )


def stored(path):
    """The weights in a safetensors file with PyTorch's names, which keeps a row per output."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack_from("<Q", content)
    head, body = json.loads(content[8 : 8 + length]), content[8 + length :]

    def tensor(name):
        begin, end = head[name]["data_offsets"]
        return np.frombuffer(body[begin:end], "<f4").reshape(head[name]["shape"])

    return Weights(
        np.ascontiguousarray(tensor("lstm.weight_ih_l0").T),
        np.ascontiguousarray(tensor("lstm.weight_hh_l0").T),
        tensor("lstm.bias_ih_l0"),
        np.ascontiguousarray(tensor("classifier.weight").T),
        tensor("classifier.bias"),
    )
