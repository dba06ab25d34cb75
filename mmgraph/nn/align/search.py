r"""Nearest neighbours among many points, in memory that is linear in their
number: exact by a k-d tree, approximate by an inverted file.
"""
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from mmgraph.data.neighbours import inverted_file

__all__ = ['Found', 'ann_neighbors', 'tree_neighbors']

#: Lists that a query looks into. They give 99 % of the ten smallest distances
#: at 10,000 and 30,000 nodes.
_PROBES = 16


class Found(NamedTuple):
    r"""Neighbours of some queries.

    Args:
        queries (numpy.ndarray): Which queries, :obj:`[Q]`.
        row (numpy.ndarray): The place in :obj:`queries` of each neighbour,
            :obj:`[M]`.
        col (numpy.ndarray): Its place among the points, :obj:`[M]`.
        distance (numpy.ndarray): Its distance, :obj:`[M]`.
    """
    queries: Any
    row: Any
    col: Any
    distance: Any


def tree_neighbors(
    queries: Any,
    points: Any,
    size: Any,
    k: int,
    *,
    measure: Callable[[Any, Any], Any] | None = None,
    tolerance: float = 1e-6,
    max_entries: int = 2**22,
) -> Iterator[Found]:
    r"""The points up to and at the distance at which :obj:`k` members are
    reached: whole tie sets, exactly.

    Args:
        queries (numpy.ndarray): Queries :obj:`[Q, D]`.
        points (numpy.ndarray): Points :obj:`[P, D]`, at least one.
        size (numpy.ndarray): The members that each point stands for,
            :obj:`[P]`.
        k (int): How many members a query asks for.
        measure (callable, optional): The distances of pairs of a query and a
            point, given as two lists of positions, where they are not
            Euclidean. None may be below the Euclidean one.
            (default: :obj:`None`)
        tolerance (float): Share of a distance that still counts as a tie.
            (default: :obj:`1e-6`)
        max_entries (int): Neighbours held at once. (default: :obj:`4194304`)

    Complexity: :math:`O(P \log P)` to build; a query costs
    :math:`O(k \log P)` in few dimensions and up to :math:`O(P D)` in many.
    """
    tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
    workers = torch.get_num_threads()
    pending = np.arange(len(queries))
    # A few more than asked for: most tie sets are then seen to end.
    width = k + 4
    while pending.size > 0:
        width = min(width, len(points))
        step = max(1, max_entries // width)
        left = []
        for low in range(0, pending.size, step):
            rows = pending[low:low + step]
            near, index = tree.query(queries[rows], width, workers=workers)
            near, index = near.reshape(-1, width), index.reshape(-1, width)
            reached = near[:, -1]
            if measure is not None:
                near = measure(np.repeat(rows, width), index.reshape(-1))
                near = near.reshape(-1, width)
                order = np.argsort(near, axis=1)
                near = np.take_along_axis(near, order, 1)
                index = np.take_along_axis(index, order, 1)
            enough = np.cumsum(size[index], axis=1) >= k
            cut = np.where(enough[:, -1], enough.argmax(1), width - 1)
            bound = near[np.arange(len(rows)), cut] * (1 + 2 * tolerance)
            whole = (reached > bound) | (width == len(points))
            row, place = ((near <= bound[:, None])
                          & whole[:, None]).nonzero()
            yield Found(rows, row, index[row, place], near[row, place])
            left.append(rows[~whole])
        pending = np.concatenate(left)
        width *= 4


def ann_neighbors(
    queries: Any,
    points: Any,
    k: int,
    seed: int,
    *,
    max_entries: int = 2**22,
) -> Iterator[Found]:
    r"""About the :obj:`k` nearest points by the inverted file of `faiss
    <https://github.com/facebookresearch/faiss>`_ (extra :obj:`ann`): points
    are clustered, and only those in the clusters near a query are compared.
    Distances are single precision. The same seed gives the same result.

    Args:
        queries (numpy.ndarray): Queries :obj:`[Q, D]`.
        points (numpy.ndarray): Points :obj:`[P, D]`, at least one.
        k (int): How many points a query asks for; it may get fewer.
        seed (int): Seed of the clustering.
        max_entries (int): Neighbours held at once. (default: :obj:`4194304`)

    Raises:
        MissingExtraError: If faiss is not installed.

    Complexity: :math:`O((P + Q) \sqrt{P} D)`.
    """
    points = np.ascontiguousarray(points, np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    number, dim = points.shape
    index = inverted_file(dim, number, seed)
    # Enough lists to hold several times as many points as are asked for.
    index.nprobe = min(index.nlist, max(
        _PROBES, math.ceil(4 * k * index.nlist / number)))
    index.train(points)
    index.add(points)
    k = min(k, number)
    step = max(1, max_entries // k)
    for low in range(0, len(queries), step):
        near, found = index.search(queries[low:low + step], k)
        row, place = (found >= 0).nonzero()
        rows = np.arange(low, low + len(found))
        yield Found(rows, row, found[row, place],
                    np.sqrt(near[row, place], dtype=np.float64))
