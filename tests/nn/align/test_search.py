import sys

import numpy as np
import pytest

from mmgraph.errors import MissingExtraError
from mmgraph.nn.align.search import ann_neighbors, tree_neighbors


def lattice(number, dim, side, seed):
    """Points with many equal distances."""
    rng = np.random.default_rng(seed)
    return rng.integers(side, size=(number, dim)).astype(float) / 100


def collect(found, number):
    rows = [{} for _ in range(number)]
    for part in found:
        for i, j, d in zip(part.queries[part.row], part.col, part.distance,
                           strict=True):
            assert j not in rows[i]
            rows[i][j] = d
    return rows


@pytest.mark.parametrize('k', [1, 4, 30, 1000])
@pytest.mark.parametrize('max_entries', [2**22, 20])
@pytest.mark.parametrize('costs', [False, True])
def test_tree_oracle(k, max_entries, costs):
    """Point by point: nearest first until k members are reached, then all
    that are as near as the last one.
    """
    queries, points = lattice(40, 3, 5, 1), lattice(60, 3, 5, 2)
    rng = np.random.default_rng(3)
    size = rng.integers(1, 4, size=60)
    exact = np.sqrt(((queries[:, None] - points[None])**2).sum(-1))
    extra = rng.integers(3, size=(40, 60)) / 50 if costs else np.zeros(1)
    distance = exact + extra
    rows = collect(tree_neighbors(
        queries, points, size, k, max_entries=max_entries,
        measure=(lambda i, j: distance[i, j]) if costs else None), 40)
    for i, row in enumerate(rows):
        order = np.argsort(distance[i], kind='stable')
        reached = size[order].cumsum() >= k
        last = order[reached.argmax()] if reached.any() else order[-1]
        expected = np.flatnonzero(
            distance[i] <= distance[i, last] * (1 + 2e-6))
        assert sorted(row) == expected.tolist()
        for j, value in row.items():
            assert value == pytest.approx(distance[i, j], abs=1e-12)


def test_tree_equal_points():
    """Nothing to split by."""
    points = np.ones((30, 2))
    rows = collect(tree_neighbors(np.zeros((2, 2)), points,
                                  np.ones(30, int), 3), 2)
    assert all(len(row) == 30 for row in rows)


def test_ann():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((4000, 8))
    queries = points + 0.02 * rng.standard_normal(points.shape)
    runs = [collect(ann_neighbors(queries, points, 5, 7, max_entries=limit),
                    4000) for limit in (2**22, 2**22, 999)]
    assert runs[0] == runs[1] == runs[2]
    truth = collect(tree_neighbors(queries, points, np.ones(4000, int), 5),
                    4000)
    common = sum(len(set(a) & set(b)) for a, b in zip(runs[0], truth,
                                                      strict=True))
    assert common / 20000 > 0.98
    for i in (0, 17):
        for j, value in runs[0][i].items():
            assert value == pytest.approx(
                np.linalg.norm(queries[i] - points[j]), rel=1e-4)


@pytest.mark.parametrize('number', [1, 3, 50])
def test_ann_asks_for_more_than_there_is(number, capfd):
    points = np.arange(number, dtype=float)[:, None]
    rows = collect(ann_neighbors(points[:1], points, 60, 0), 1)
    assert sorted(rows[0]) == list(range(number))
    assert capfd.readouterr().err == ''  # no warnings of faiss


def test_ann_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(MissingExtraError, match='ann'):
        next(ann_neighbors(np.zeros((1, 1)), np.zeros((1, 1)), 1, 0))
