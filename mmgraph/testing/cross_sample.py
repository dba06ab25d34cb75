r"""Slow oracles of the relation-enhanced graph convolution: the star of one
query as a dense matrix, and the arithmetic of the published code, one query,
one region and one number at a time.
"""
import math

import numpy as np
import numpy.typing as npt

__all__ = [
    'cross_sample_oracle', 'published_image_oracle', 'published_star_oracle',
    'published_text_oracle'
]

Array = npt.NDArray[np.float64]


def _relu(x: float) -> float:
    return max(x, 0.0)


def _times(x: Array, weight: Array) -> Array:
    r"""A row times a matrix."""
    return np.array([sum(float(x[i]) * float(weight[i, o])
                         for i in range(weight.shape[0]))
                     for o in range(weight.shape[1])])


def cross_sample_oracle(
    query: Array,
    neighbours: Array,
    scores: Array,
    weight: Array,
    bias: Array,
    center: str = 'query',
    readout: str = 'center',
    norm: str = 'row',
    temperature: float | None = 0.1,
) -> Array:
    r"""The result of one query, :obj:`[R, F_out]`, from the adjacency matrix
    :math:`\mathbf{A}` of its star: :math:`\mathrm{ReLU}(\mathbf{D}^{-1}
    \mathbf{A} \mathbf{X} \mathbf{W} + \mathbf{b})`.

    Args:
        query: :obj:`[R, F_in]`.
        neighbours: :obj:`[k, R, F_in]`, best first.
        scores: Their edge weights, :obj:`[k]`.
        weight: :obj:`[F_in, F_out]`.
        bias: :obj:`[F_out]`.
        center: :obj:`'query'` or :obj:`'top1'`.
        readout: :obj:`'center'`, :obj:`'mean_nodes'` or
            :obj:`'ref_regions'`.
        norm: :obj:`'row'` or :obj:`'none'`.
        temperature: Of the softmax over the scores, if any.
    """
    regions, width = query.shape[0], weight.shape[1]
    edges = [(float(s), x) for s, x in zip(scores, neighbours, strict=True)
             if s != 0 or center == 'top1']
    if not edges:
        return np.zeros((regions, width))
    if temperature is not None:
        top = max(s for s, _ in edges)
        mass = [math.exp((s - top) / temperature) for s, _ in edges]
        edges = [(m / sum(mass), x)
                 for m, (_, x) in zip(mass, edges, strict=True)]
    if center == 'query':
        edges.insert(0, (1.0, query))
    c = len(edges)
    adjacency = np.eye(c)
    for j in range(c):
        adjacency[0, j] = adjacency[j, 0] = edges[j][0]
    out = np.zeros((c, regions, width))
    for v in range(c):
        degree = sum(abs(adjacency[v, u]) for u in range(c))
        if norm == 'none' or degree == 0:
            degree = 1.0
        for r in range(regions):
            mixed = np.zeros(weight.shape[0])
            for u in range(c):
                mixed += adjacency[v, u] / degree * edges[u][1][r]
            out[v, r] = [_relu(z) for z in _times(mixed, weight) + bias]
    if readout == 'center':
        return out[0]
    if readout == 'mean_nodes':
        return np.array([sum(out[v, r] for v in range(c)) / c
                         for r in range(regions)])
    rows = [out[v, r] for v in range(c) for r in range(regions)]
    return np.array([sum(rows[c * g:c * g + c]) / c for g in range(regions)])


def published_star_oracle(
    scores: Array,
    neighbours: Array,
    weight: Array,
    bias: Array,
) -> Array:
    r"""What the published code makes of one query's five neighbours,
    :obj:`[49, D]`; its reshapes are reshapes here.

    Args:
        scores: The first five, :obj:`[5]`.
        neighbours: :obj:`[5, 49, D]`.
        weight: :obj:`[D, D]`.
        bias: :obj:`[D]`.
    """
    k, regions, width = neighbours.shape
    adjacency = np.eye(k)
    adjacency[0, :] = scores
    adjacency[:, 0] = scores
    flat = neighbours.reshape(k * regions, width)
    flat = np.array([_times(row, weight) for row in flat])
    wide = flat.reshape(k, regions * width)
    mixed = np.zeros_like(wide)
    for v in range(k):
        for u in range(k):
            mixed[v] += adjacency[v, u] * wide[u]
    nodes = mixed.reshape(k, regions, width)
    for v in range(k):
        for r in range(regions):
            nodes[v, r] = [_relu(z) for z in nodes[v, r] + bias]
    groups = nodes.reshape(-1, k, width)
    return np.array([sum(group) / k for group in groups])


def _gated(x: Array, context: Array, weight: Array) -> Array:
    gate = _times(x, weight) + _times(context, weight)
    return np.array([h + p / (1 + math.exp(-g))
                     for h, p, g in zip(x, context, gate, strict=True)])


def published_text_oracle(
    text: Array,
    context: Array,
    weight: Array,
    gate: Array,
) -> Array:
    r"""The published inter-modal fusion: position :math:`t` of the text takes
    half a region.

    Args:
        text: States :obj:`[L, d]`, :math:`L \le 2R`.
        context: :obj:`[R, D]`, of :func:`published_star_oracle`.
        weight: :obj:`[D / 2, d]`.
        gate: :obj:`[d, d]`.
    """
    half = context.shape[1] // 2
    out = []
    for t, row in enumerate(text):
        region, second = divmod(t, 2)
        part = context[region, half * second:half * (second + 1)]
        out.append(_gated(row, _times(part, weight), gate))
    return np.array(out)


def published_image_oracle(
    image: Array,
    context: Array,
    gate: Array,
) -> Array:
    r"""The published intra-modal fusion, region by region.

    Args:
        image: :obj:`[R, D]`.
        context: :obj:`[R, D]`, of :func:`published_star_oracle`.
        gate: :obj:`[D, D]`.
    """
    return np.array([_gated(row, part, gate)
                     for row, part in zip(image, context, strict=True)])
