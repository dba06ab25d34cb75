r"""Nearest neighbours among many points, in memory that is linear in their
number: exact by a k-d tree, approximate by an inverted file.
"""
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from mmgraph.utils import optional_import

__all__ = ['Distinct', 'Found', 'ann_neighbors', 'distinct_rows',
           'tree_neighbors']

#: Lists of the inverted file over the square root of the number of points,
#: lists that a query looks into, and points a list is trained on. Together
#: they give 99 % of the ten smallest distances at 10,000 and 30,000 nodes.
_LISTS, _PROBES, _TRAIN = 4.0, 16, 32


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


class Distinct(NamedTuple):
    r"""Rows of a table in groups of equal ones.

    Args:
        order (numpy.ndarray): Positions by group, ascending inside one,
            :obj:`[n]`.
        start (numpy.ndarray): Where groups start in :obj:`order`,
            :obj:`[G + 1]`.
        group (numpy.ndarray): The group of each row, :obj:`[n]`.
    """
    order: Any
    start: Any
    group: Any

    @property
    def first(self) -> Any:
        r"""The first member of each group, :obj:`[G]`."""
        return self.order[self.start[:-1]]

    @property
    def size(self) -> Any:
        r"""The number of members of each group, :obj:`[G]`."""
        return np.diff(self.start)


def distinct_rows(table: Any) -> Distinct:
    r"""Groups the equal rows of a table :obj:`[n, D]` in double precision.

    Rows are sorted by a hash of 64 bits, twenty times faster than by value.
    Groups only ever hold equal rows; should two hashes meet, equal rows may
    end up in two groups.
    """
    table = np.ascontiguousarray(table, np.float64)
    order = np.argsort(_hash(table), kind='stable')
    new = np.ones(len(table), bool)
    for low in range(1, len(table), 2**18):
        rows = order[low - 1:low + 2**18]
        new[low:low + 2**18] = (table[rows[1:]] != table[rows[:-1]]).any(1)
    start = np.flatnonzero(new)
    group = np.empty_like(order)
    group[order] = np.cumsum(new) - 1
    return Distinct(order, np.append(start, len(table)), group)


def _hash(table: Any) -> Any:
    key = np.zeros(len(table), np.uint64)
    for column in table.T:
        # splitmix64: sums of plain multiples would meet on a lattice.
        key += np.ascontiguousarray(column).view(np.uint64)
        key += np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(30)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(27)
        key *= np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


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
    faiss = optional_import('faiss', 'ann')
    points = np.ascontiguousarray(points, np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    number, dim = points.shape
    num_lists = max(1, min(int(_LISTS * math.sqrt(number)), number // 4))
    quantizer = faiss.IndexFlatL2(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, num_lists)
    index.cp.seed = seed % 2**31
    index.cp.min_points_per_centroid = 1  # or it warns
    index.cp.max_points_per_centroid = _TRAIN
    # Enough lists to hold several times as many points as are asked for.
    index.nprobe = min(num_lists, max(
        _PROBES, math.ceil(4 * k * num_lists / number)))
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
