r"""Slow oracles: published formulas written down literally, in plain Python
and NumPy, with nothing in common with the code they check.
"""
import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    'degree_histogram_oracle', 'landmark_embedding_oracle',
    'structural_score_oracle', 'structural_similarity_oracle', 'topk_oracle'
]

Array = npt.NDArray[np.float64]


def degree_histogram_oracle(
    edges: Iterable[tuple[int, int]],
    num_nodes: int,
    max_hops: int | None = 2,
    discount: float = 0.01,
    bucket_base: int | None = 2,
    include_self: bool = True,
) -> Array:
    r"""Degree histograms of REGAL by breadth-first search from each node."""
    neighbors: list[set[int]] = [set() for _ in range(num_nodes)]
    for u, v in edges:
        if u != v:
            neighbors[u].add(v)
            neighbors[v].add(u)
    degree = [len(nodes) for nodes in neighbors]
    largest = max(degree, default=0)

    def bucket(k: int) -> int | None:
        if bucket_base is None:
            return k
        if k == 0:
            return None
        column = 0
        while bucket_base**(column + 1) <= k:
            column += 1
        return column

    last = bucket(largest)
    features = np.zeros((num_nodes, 1 if last is None else last + 1))
    for u in range(num_nodes):
        distance, queue = {u: 0}, deque([u])
        while queue:
            v = queue.popleft()
            for w in neighbors[v] - distance.keys():
                distance[w] = distance[v] + 1
                queue.append(w)
        for v, hop in distance.items():
            column = bucket(degree[v])
            if column is None or (max_hops is not None and hop > max_hops):
                continue
            if include_self:
                features[u, column] += discount**hop
            elif hop > 0:
                features[u, column] += discount**(hop - 1)
    return features


def structural_similarity_oracle(
    a: Sequence[float],
    b: Sequence[float],
    gamma_struct: float = 1.0,
    gamma_attr: float = 1.0,
    attributes: tuple[Sequence[int], Sequence[int]] | None = None,
    squared: bool = False,
) -> float:
    r"""The kernel of REGAL between two nodes."""
    total = sum((x - y)**2 for x, y in zip(a, b, strict=True))
    distance = gamma_struct * (total if squared else math.sqrt(total))
    if attributes is not None:
        distance += gamma_attr * sum(
            x != y for x, y in zip(*attributes, strict=True))
    return math.exp(-distance)


def structural_score_oracle(similarity: float) -> float:
    r"""The score of two nodes when every node is a landmark."""
    return math.exp(-math.sqrt(max(2 - 2 * similarity, 0.0)))


def landmark_embedding_oracle(
    features: Array,
    landmarks: Sequence[int],
    gamma_struct: float = 1.0,
    gamma_attr: float = 1.0,
    attributes: npt.NDArray[np.int64] | None = None,
    squared: bool = False,
) -> Array:
    r"""The landmark embedding of REGAL by the SVD of a pseudo-inverse."""
    kernel = np.array([[
        structural_similarity_oracle(
            features[u], features[v], gamma_struct, gamma_attr,
            None if attributes is None else (attributes[u], attributes[v]),
            squared) for v in landmarks
    ] for u in range(len(features))])
    inverse = np.linalg.pinv(kernel[list(landmarks)], rcond=1e-10)
    left, value, _ = np.linalg.svd(inverse)
    embedding = kernel @ left @ np.diag(np.sqrt(value))
    norm: Array = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.asarray(embedding / norm)


def topk_oracle(
    scores: Sequence[float],
    k: int,
    ties: str,
    tolerance: float = 1e-6,
) -> list[float]:
    r"""The scores of one source node after keeping its :obj:`k` best."""
    if len(scores) <= k:
        return list(scores)
    cut = sorted(scores, reverse=True)[k - 1]
    slack = tolerance * abs(cut)
    above = [j for j, s in enumerate(scores) if s > cut + slack]
    tied = [j for j, s in enumerate(scores) if abs(s - cut) <= slack]
    free = k - len(above)
    out = [0.0] * len(scores)
    for j in above:
        out[j] = scores[j]
    if ties == 'first':
        for j in tied[:free]:
            out[j] = scores[j]
    else:
        for j in tied:
            out[j] = scores[j] * free / len(tied)
    return out
