"""Slow attention, from the formulas: no padding, no batch."""
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
ERF = np.vectorize(math.erf, otypes=[float])


def randomised(module: Any, seed: int = 0) -> Any:
    """BERT's small weights would make attention all but uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def linear(module: Any, x: Array) -> Array:
    return x @ module.weight.detach().numpy().T + module.bias.detach().numpy()


def norm(module: Any, x: Array) -> Array:
    mean = x.mean(1, keepdims=True)
    var = ((x - mean)**2).mean(1, keepdims=True)
    return ((x - mean) / np.sqrt(var + module.eps)
            * module.weight.detach().numpy() + module.bias.detach().numpy())


def slow_attention(module: Any, x: Array, memory: Array) -> Array:
    """One post, one query, one head at a time; no padding."""
    q, k = linear(module.lin_query, x), linear(module.lin_key, memory)
    v = memory
    if module.lin_value is not None:
        v = linear(module.lin_value, memory)
    if not len(memory):
        return np.zeros_like(x)
    size = x.shape[1] // module.num_heads
    out = np.zeros_like(x)
    for i in range(len(x)):
        for head in range(module.num_heads):
            part = slice(head * size, (head + 1) * size)
            score = np.array([q[i, part] @ key[part] / math.sqrt(size)
                              for key in k])
            weight = np.exp(score - score.max())
            weight /= weight.sum()
            for w, value in zip(weight, v, strict=True):
                out[i, part] += w * value[part]
    return out if module.lin_out is None else linear(module.lin_out, out)


def slow_layer(layer: Any, x: Array, memory: Array) -> Array:
    x = norm(layer.norm_1, x + slow_attention(layer.attention, x, memory))
    hidden = linear(layer.lin_1, x)
    if layer.activation == 'gelu':
        hidden = hidden * 0.5 * (1 + ERF(hidden / math.sqrt(2)))
    else:
        hidden = np.maximum(hidden, 0)
    return norm(layer.norm_2, x + linear(layer.lin_2, hidden))
