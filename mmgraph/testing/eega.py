r"""Slow oracles of the layers of EEGA, written from the formulas: one post, one
node, one head and one number at a time.
"""
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ['attribute_conv_oracle', 'pair_channel_oracle']

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]


def _linear(weights: Weights, name: str, x: Array) -> Array:
    out = [sum(w * v for w, v in zip(row, x, strict=True))
           for row in weights[f'{name}.weight']]
    return np.array(out) + weights.get(f'{name}.bias', 0.)


def _norm(weights: Weights, name: str, x: Array) -> Array:
    gap = x - sum(x) / len(x)
    scaled = gap / math.sqrt(sum(gap * gap) / len(x) + 1e-5)
    return scaled * weights[f'{name}.weight'] + weights[f'{name}.bias']


def _softmax(logits: Sequence[float]) -> list[float]:
    part = [math.exp(logit - max(logits)) for logit in logits]
    return [value / sum(part) for value in part]


def attribute_conv_oracle(
    weights: Weights,
    x: Array,
    edges: Sequence[tuple[int, int]],
    labels: Sequence[int] | None,
    num_edge_types: int,
    num_heads: int,
    inverse_types: bool = False,
) -> Array:
    r"""The nodes of one graph after
    :class:`~mmgraph.nn.conv.AttributeConv`, without dropout.

    Args:
        weights: The layer's parameters by name.
        x: The nodes, :obj:`[n, d]`.
        edges: Source and target of each edge.
        labels: Their labels; :obj:`None` without any.
        num_edge_types: Number of labels.
        num_heads: Number of heads.
        inverse_types: Whether an edge has another label backwards.
    """
    n, d = x.shape
    table = weights['embedding.weight']
    heard: list[set[tuple[int, int | None]]] = [
        {(i, len(table) - 1)} for i in range(n)]
    for e, (i, j) in enumerate(edges):
        if i != j:
            label = None if labels is None else labels[e]
            heard[j].add((i, label))
            if label is not None and inverse_types:
                label += num_edge_types
            heard[i].add((j, label))
    shared = 'lin_edge_value.weight' not in weights
    size = d // num_heads
    out = []
    for i in range(n):
        query = _linear(weights, 'lin_query', x[i])
        keys, values = [], []
        for j, label in heard[i]:
            z = np.zeros(table.shape[1]) if label is None else table[label]
            keys.append(_linear(weights, 'lin_key', x[j])
                        + _linear(weights, 'lin_edge_key', z))
            values.append(
                _linear(weights, 'lin_value', x[j]) + _linear(
                    weights, 'lin_edge_key' if shared else 'lin_edge_value',
                    z))
        total = np.zeros(d)
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            alpha = _softmax([float(query[part] @ key[part])
                              / math.sqrt(size) for key in keys])
            for a, value in zip(alpha, values, strict=True):
                total[part] += a * value[part]
        u = _norm(weights, 'norm_1', x[i] + total)
        out.append(_norm(weights, 'norm_2',
                         u + _linear(weights, 'lin_out', u)))
    return np.array(out).reshape(n, d)


def pair_channel_oracle(
    weights: Weights,
    x: Array,
    ids: Array,
    num_heads: int,
) -> Array:
    r"""The words of one post after
    :class:`~mmgraph.nn.conv.PairChannelConv`, without dropout.

    Args:
        weights: The layer's parameters by name.
        x: The words, :obj:`[n, d]`.
        ids: The id of each pair :obj:`[n, n]`, or of each word :obj:`[n]` for
            a channel with :obj:`additive`.
        num_heads: Number of heads.
    """
    n, d = x.shape
    size = d // num_heads
    table = weights['embedding.weight']
    out = np.zeros((n, d))
    for i in range(n):
        edges = []
        for j in range(n):
            r = (table[ids[i, j]] if ids.ndim == 2
                 else table[ids[i]] + table[ids[j]])
            edges.append(_linear(weights, 'lin_edge', r))
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            alpha = _softmax([max(0., float(weights['score'] @ edge[part]))
                              for edge in edges])
            for a, row in zip(alpha, x, strict=True):
                out[i, part] += a * _linear(weights, 'lin_value', row)[part]
        out[i] = np.maximum(x[i] + out[i], 0.)
    return out
