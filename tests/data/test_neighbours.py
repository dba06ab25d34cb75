import numpy as np
import pytest
import torch

from mmgraph.data import neighbours
from mmgraph.data.neighbours import (
    Keys,
    Pool,
    distinct_rows,
    nearest,
    row_hashes,
)
from mmgraph.errors import MissingExtraError, ShapeError


def lattice(number, dim, side, seed):
    """Points with many equal distances."""
    rng = np.random.default_rng(seed)
    return rng.integers(side, size=(number, dim)).astype(float) / 100


@pytest.mark.parametrize('number,dim,side', [
    (0, 2, 3), (1, 1, 1), (50, 1, 5), (200, 3, 4), (200, 3, 1000),
    (40, 0, 1)])
def test_distinct_rows(number, dim, side):
    table = lattice(number, dim, side, 0)
    out = distinct_rows(table)
    groups = {}
    for i, row in enumerate(table):
        groups.setdefault(tuple(row), []).append(i)
    found = [out.order[low:high].tolist()
             for low, high in zip(out.start[:-1], out.start[1:], strict=True)]
    assert sorted(found) == sorted(groups.values())
    assert out.size.tolist() == [len(members) for members in found]
    assert out.first.tolist() == [members[0] for members in found]
    for g, members in enumerate(found):
        assert (out.group[members] == g).all()


def test_hashes_that_meet(monkeypatch):
    monkeypatch.setattr(neighbours, '_hash', lambda table: np.zeros(len(table)))
    table = np.array([[1.], [2.], [2.], [1.], [1.]])
    out = distinct_rows(table)
    assert out.order.tolist() == [0, 1, 2, 3, 4]
    assert out.start.tolist() == [0, 1, 3, 5]
    assert out.group.tolist() == [0, 1, 1, 2, 2]


def test_tables_are_read_in_blocks(monkeypatch):
    table = lattice(100, 3, 2, 0)
    whole, hashes = distinct_rows(table), row_hashes(table)
    monkeypatch.setattr(neighbours, '_GATHER', 12)
    assert (row_hashes(table) == hashes).all()
    for one, other in zip(distinct_rows(table), whole):
        assert (one == other).all()


def oracle(q, p, k, own=None, barred=(), offset=None, reach=None,
           metric='cosine', whole=False):
    """Plain loops: similarities in double precision, rounded to single."""
    out = []
    for i in range(len(q)):
        found = []
        for j in range(len(p)):
            a, b = q[i].astype(float), p[j].astype(float)
            value = sum(x * y for x, y in zip(a, b))
            if metric == 'cosine':
                length = np.sqrt((a**2).sum() * (b**2).sum())
                value = value / length if length else 0.
            rank = value if offset is None else 2 * value - offset[j]
            if (own is None or own[i] != j) and (i, j) not in barred:
                found.append((-np.float32(rank), j, np.float32(value)))
        found.sort()
        cut = found[:k]
        if whole and cut:
            cut = [f for f in found if f[0] <= cut[-1][0]]
        out.append([(j, v) for _, j, v in cut
                    if reach is None or v >= reach[j]])
    return out


def make(kind, n, m, d, seed):
    rng = np.random.default_rng(seed)
    if kind == 'normal':
        return [rng.normal(size=(size, d)).astype('f') for size in (n, m)]
    if kind == 'lattice':  # ties without end, rows of zeros
        return [rng.integers(3, size=(size, d)).astype('f')
                for size in (n, m)]
    if kind == 'close':  # differences that half precision cannot see
        center = rng.normal(size=d)
        return [(center + 1e-3 * rng.normal(size=(size, d))).astype('f')
                for size in (n, m)]
    q, p = (rng.normal(size=(size, d)).astype('f') for size in (n, m))
    return q, np.concatenate([p, q * 2, q])  # parallel and equal rows


def lists(found, number):
    row, col, score = found
    assert (np.diff(row) >= 0).all() and score.dtype == np.float32
    return [[(int(c), float(s)) for c, s in zip(col[row == i],
                                                 score[row == i])]
            for i in range(number)]


def pool_of(x, rows=None):
    keys = Keys(x, 'x')
    rows = np.arange(len(x)) if rows is None else rows
    return Pool(keys, rows, distinct_rows(keys.table).group[rows])


def agree(found, expected):
    assert [[j for j, _ in f] for f in found] == [
        [j for j, _ in e] for e in expected]
    for f, e in zip(found, expected):
        assert np.allclose([v for _, v in f], [v for _, v in e], atol=1e-6)


@pytest.fixture(params=[torch.float32, torch.bfloat16],
                ids=['single', 'half'])
def coarse(request, monkeypatch):
    """Blocks are compared in either precision, whatever this CPU is."""
    monkeypatch.setattr(neighbours, '_coarse_dtype',
                        lambda number: request.param)


@pytest.mark.parametrize('kind', ['normal', 'lattice', 'close', 'equal'])
@pytest.mark.parametrize('seed', range(5))
def test_nearest(kind, seed, coarse, monkeypatch):
    rng = np.random.default_rng(seed)
    n, m, d, k = rng.integers(1, 40), rng.integers(1, 60), 7, 1 + 2 * seed
    q, p = make(kind, n, m, d, seed)
    own = rng.integers(-1, len(p), n)
    pool = pool_of(p)
    keys, rows = Keys(q, 'q'), np.arange(n)
    expected = oracle(q, p, k, own)
    results = []
    for step, block in ((4096, 4096), (16, 3), (32, 1)):
        monkeypatch.setattr(neighbours, '_STEP', step)
        found = nearest(keys, rows, pool, k, own=own, block_size=block)
        agree(lists(found, n), expected)
        results.append(found)
    for other in results[1:]:  # bit by bit
        for a, b in zip(results[0], other):
            assert np.array_equal(a, b)
    agree(lists(nearest(keys, rows, pool, k, whole_ties=True), n),
          oracle(q, p, k, whole=True))


@pytest.mark.parametrize('precision', ['high', 'medium'])
def test_coarser_products(precision, monkeypatch):
    """Where PyTorch may multiply with fewer bits, nothing is lost."""
    monkeypatch.setattr(neighbours, '_coarse_dtype',
                        lambda number: torch.float32)
    q, p = make('close', 30, 200, 64, 0)
    torch.set_float32_matmul_precision(precision)
    try:
        found = nearest(Keys(q, 'q'), np.arange(30), pool_of(p), 5)
    finally:
        torch.set_float32_matmul_precision('highest')
    agree(lists(found, 30), oracle(q, p, 5))


@pytest.mark.parametrize('kind', ['normal', 'equal'])
def test_statistics_of_the_pool(kind, coarse):
    q, p = make(kind, 30, 50, 6, 1)
    pool = pool_of(p)
    group = pool.group_of()
    rng = np.random.default_rng(0)
    pool.offset = torch.from_numpy(rng.random(len(pool)))
    expected = oracle(q, p, 4, offset=pool.offset.numpy()[group])
    agree(lists(nearest(Keys(q, 'q'), np.arange(30), pool, 4), 30), expected)
    pool.offset = None
    pool.reach = torch.from_numpy(rng.random(len(pool)).astype('f'))
    expected = oracle(q, p, 4, reach=pool.reach.numpy()[group])
    agree(lists(nearest(Keys(q, 'q'), np.arange(30), pool, 4), 30), expected)
    assert any(len(e) < 4 for e in expected)


def test_barred_groups_widen_the_search(coarse):
    q, p = make('equal', 12, 40, 5, 3)
    pool = pool_of(p)
    group = pool.group_of()
    keys = Keys(q, 'q')
    # All but three groups, the best ones first.
    row, col, _ = nearest(keys, np.arange(12), pool, len(p))
    pairs = np.unique(np.stack([row, group[col]]), axis=1)
    rng = np.random.default_rng(0)
    pairs = pairs[:, rng.random(pairs.shape[1]) < .9]
    barred = {(i, j) for i, g in pairs.T.tolist()
              for j in np.flatnonzero(group == g).tolist()}
    agree(lists(nearest(keys, np.arange(12), pool, 3,
                        barred=(pairs[0], pairs[1])), 12),
          oracle(q, p, 3, barred=barred))


def test_subset():
    _, p = make('equal', 10, 20, 4, 0)
    pool = pool_of(p)
    pool.offset = torch.rand(len(pool), dtype=torch.float64)
    before = pool.group_of()
    keep = np.random.default_rng(0).random(len(p)) < .5
    part = pool.subset(keep)
    fresh = pool_of(p, np.flatnonzero(keep))
    assert torch.equal(part.order, fresh.order)
    assert torch.equal(part.start, fresh.start)
    after = part.group_of()
    assert (after[~keep] == -1).all()
    assert torch.equal(part.offset[after[keep]],
                       pool.offset[before[keep]])


def test_dot_product(coarse):
    q, p = make('normal', 20, 30, 6, 0)
    p *= np.linspace(.1, 30, 30, dtype='f')[:, None]
    keys = Keys(p, 'p', 'dot')
    pool = Pool(keys, np.arange(30), np.arange(30))
    found = lists(nearest(Keys(q, 'q', 'dot'), np.arange(20), pool, 5), 20)
    expected = oracle(q, p, 5, metric='dot')
    assert [[j for j, _ in f] for f in found] == [
        [j for j, _ in e] for e in expected]


@pytest.mark.parametrize('dtype', ['float64', 'float16', 'int64'])
def test_other_numbers(dtype):
    q, p = (x.astype(dtype) for x in make('lattice', 15, 25, 5, 0))
    agree(lists(nearest(Keys(q, 'q'), np.arange(15), pool_of(p), 4), 15),
          oracle(q, p, 4))
    both = [torch.from_numpy(x) for x in (q, p)]
    if dtype == 'float16':
        both = [x.bfloat16() for x in both]
    agree(lists(nearest(Keys(both[0], 'q'), np.arange(15), pool_of(both[1]),
                        4), 15), oracle(q, p, 4))


@pytest.mark.parametrize('scale', [1e-70, 1e-40, 1e40, 1e70])
def test_lengths_that_single_precision_cannot_hold(scale, coarse):
    q, p = (x.astype(np.float64) for x in make('normal', 9, 30, 5, 0))
    expected = oracle(q, p, 4)
    small = np.concatenate([p[:15] * scale, p[15:]])
    agree(lists(nearest(Keys(q * scale, 'q'), np.arange(9), pool_of(small),
                        4), 9), expected)
    with pytest.raises(ValueError, match="'p' must have rows of lengths"):
        Keys(small, 'p', 'dot')


def test_a_pair_is_compared_in_one_way():
    rng = np.random.default_rng(0)
    for d in (1, 2, 7, 64, 513):
        keys = Keys(rng.normal(size=(50, d)).astype('f'), 'x')
        i, j = rng.integers(50, size=(2, 200))
        every = keys.similarity(i, keys, j)
        assert (every == keys.similarity(j, keys, i)).all()
        for n in range(0, 200, 37):
            assert keys.similarity(i[[n]], keys, j[[n]]) == every[n]


def test_memory_map_is_never_read_whole(tmp_path, monkeypatch):
    q, p = make('normal', 60, 80, 6, 0)
    np.save(tmp_path / 'p.npy', p)
    mapped = np.load(tmp_path / 'p.npy', mmap_mode='r')
    monkeypatch.setattr(neighbours, '_STEP', 16)
    monkeypatch.setattr(neighbours, '_GATHER', 60)
    monkeypatch.setattr(neighbours, '_KEEP', 0)
    most, unit, exact = [0], Keys.unit, Keys.exact

    def watch(method):
        def call(self, rows):
            out = method(self, rows)
            most[0] = max(most[0], len(out))
            return out
        return call

    monkeypatch.setattr(Keys, 'unit', watch(unit))
    monkeypatch.setattr(Keys, 'exact', watch(exact))
    found = nearest(Keys(q, 'q'), np.arange(60), pool_of(mapped), 5,
                    block_size=8)
    agree(lists(found, 60), oracle(q, p, 5))
    assert most[0] <= 16


@pytest.mark.parametrize('value,error,message', [
    (np.ones(3), ShapeError, r"'x' must have shape \[N, D\] \(got \[3\]\)"),
    (np.ones((2, 2), complex), ValueError, "'x' must hold real numbers"),
    (np.array([[1.], [np.nan]]), ValueError,
     r"'x' must be finite \(got nan at row 1\)"),
    (np.array([[1., -np.inf]]), ValueError,
     r"'x' must be finite \(got -inf at row 0\)"),
    (torch.tensor([[1e300]], dtype=torch.float64), ValueError,
     r"'x' must be finite \(got 1e\+300 at row 0\)"),
])
def test_keys_that_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        Keys(value, 'x')


@pytest.mark.parametrize('n,m,d', [(0, 5, 3), (4, 0, 3), (0, 0, 3),
                                   (3, 1, 2), (3, 4, 0)])
@pytest.mark.parametrize('index', ['exact', 'faiss'])
def test_next_to_nothing(n, m, d, index):
    if index == 'faiss':
        pytest.importorskip('faiss')
        if d == 0:
            pytest.skip('faiss has no vectors without channels')
    q, p = np.ones((n, d), 'f'), np.ones((m, d), 'f')
    found = nearest(Keys(q, 'q'), np.arange(n), pool_of(p), 5, index=index)
    assert lists(found, n) == [[(j, 1. if d else 0.) for j in range(m)][:5]
                               for _ in range(n)]


@pytest.mark.parametrize('kind', ['normal', 'equal'])
@pytest.mark.parametrize('corrected', [False, True])
def test_flat_index_equals_exact(kind, corrected):
    pytest.importorskip('faiss')
    q, p = make(kind, 60, 300, 16, 0)
    pool = pool_of(p)
    if corrected:
        pool.offset = torch.rand(len(pool), dtype=torch.float64) / 3
    own = np.random.default_rng(0).integers(-1, 300, 60)
    exact, flat = (nearest(Keys(q, 'q'), np.arange(60), pool, 5, own=own,
                           index=index) for index in ('exact', 'faiss:Flat'))
    for a, b in zip(exact, flat):
        assert np.array_equal(a, b)


def clustered(number, dim, clusters, seed):
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(clusters, dim))
    which = rng.integers(clusters, size=number)
    return [(center[which] + .8 * rng.normal(size=(number, dim))).astype('f')
            for _ in range(2)]


@pytest.mark.parametrize('index', ['faiss', 'faiss:HNSW32'])
def test_recall_of_an_index(index):
    pytest.importorskip('faiss')
    q, p = clustered(4000, 32, 80, 0)
    pool, keys, rows = pool_of(p), Keys(q, 'q'), np.arange(500)
    exact = lists(nearest(keys, rows, pool, 5), 500)
    found = nearest(keys, rows, pool, 5, index=index)
    some = lists(found, 500)
    assert all(len(s) == 5 for s in some)
    hit = sum(len(set(a) & set(b)) for a, b in zip(exact, some))
    assert hit > .95 * 2500
    if index == 'faiss':  # the same seed, the same lists
        again = nearest(keys, rows, pool_of(p), 5, index=index)
        assert all(np.array_equal(a, b) for a, b in zip(found, again))
        hits = []
        for probes in (1, 8, 10**6):
            some = lists(nearest(keys, rows, pool, 5, index=index,
                                 num_probes=probes), 500)
            hits.append(sum(len(set(a) & set(b))
                            for a, b in zip(exact, some)))
        assert hits[0] < hits[1] < hits[2] == 2500


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'faiss', None)
    with pytest.raises(MissingExtraError, match=r'mmgraph\[ann\]'):
        nearest(Keys(np.eye(3), 'q'), np.arange(3), pool_of(np.eye(3)), 1,
                index='faiss')
