import math

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.cone import (
    ConeAligner,
    fix_seeds,
    flat_permutation,
    soft_permutation,
)
from mmgraph.nn.align.sparse import adjacency
from tests.nn.align.cases import AlignerCase, random_edges, relabel

NONE = torch.empty(2, 0, dtype=torch.long)


def graph(num_nodes, num_edges, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = random_edges(num_nodes, num_edges, generator)
    return GraphView.single(edges, num_nodes)


def dense(view):
    a = np.zeros((view.num_nodes, view.num_nodes))
    for i, j in view.edge_index.t().tolist():
        if i != j:
            a[i, j] = a[j, i] = 1
    return a


def netmf_oracle(a, window, negative):
    """The matrix by explicit powers, the similarity of rows by explicit sums.
    """
    n, degree = len(a), a.sum(1)
    walk = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            walk[i, j] = a[i, j] / degree[i] if degree[i] else 0
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if degree[j] > 0:
                mean = sum(np.linalg.matrix_power(walk, r)[i, j]
                           for r in range(1, window + 1))
                out[i, j] = math.log(max(1, degree.sum() / (window * negative)
                                         * mean / degree[j]))
    return out


def sinkhorn_oracle(cost, reg, size):
    """In the log domain, with isolated nodes up to the larger size."""
    n, m = cost.shape
    full = np.zeros((size, size))
    full[:n, :m] = -cost / reg
    for _ in range(20000):
        for axis in 1, 0:
            full -= full.max(axis, keepdims=True)
            full -= np.log(np.exp(full).sum(axis, keepdims=True))
        if abs(np.exp(full).sum(1) - 1).max() < 1e-9:
            break
    return np.exp(full)


def cone_oracle(source, target, **kwargs):
    """One pair, with added isolated nodes, from dense matrices."""
    size = max(source.num_nodes, target.num_nodes)
    a, b = np.zeros((2, size, size))
    embeddings = []
    for out, view in ((a, source), (b, target)):
        n = view.num_nodes
        out[:n, :n] = dense(view)
        m = netmf_oracle(out[:n, :n], kwargs['window'], kwargs['negative'])
        u, s, _ = np.linalg.svd(m)
        y = np.zeros((size, n))
        y[:n] = u * np.sqrt(s)
        for i in range(n):
            y[i] *= 1 / np.linalg.norm(y[i]) if m[i].any() else 0
        embeddings.append(y)
    x, y = embeddings
    if b.any():
        b *= np.linalg.norm(a) / np.linalg.norm(b)
    p = np.full((size, size), 1 / size)
    for t in range(kwargs['num_init_steps']):
        gradient = a @ a @ p + p @ b @ b - 2 * a @ p @ b
        best = sinkhorn_oracle(gradient, kwargs['init_reg'], size)
        p += 2 / (t + 3) * (best - p)

    def rotation(p):
        u, s, vh = np.linalg.svd(x.T @ p @ y, full_matrices=False)
        return (u * (s > 1e-10 * s.max())) @ vh

    for _ in range(kwargs['num_steps']):
        p = sinkhorn_oracle(-x @ rotation(p) @ y.T, kwargs['reg'], size)
    inner = x @ rotation(p) @ y.T
    out = np.zeros((source.num_nodes, target.num_nodes))
    for i in range(source.num_nodes):
        for j in range(target.num_nodes):
            square = x[i] @ x[i] + y[j] @ y[j] - 2 * inner[i, j]
            out[i, j] = math.exp(-math.sqrt(max(square, 0)))
    return torch.from_numpy(out)


class TestConeAligner(AlignerCase):
    cls = ConeAligner

    @pytest.mark.parametrize('sizes', [(9, 9), (12, 7), (6, 11)])
    @pytest.mark.parametrize('kwargs', [
        dict(), dict(window=3, negative=2.0, num_steps=1),
        dict(init_reg=0.3, reg=0.2, num_init_steps=4)
    ])
    def test_oracle(self, sizes, kwargs):
        kwargs = dict(window=10, negative=1.0, num_init_steps=10, init_reg=1.0,
                      num_steps=3, reg=0.1) | kwargs
        source, target = (graph(n, 2 * n, n + i) for i, n in enumerate(sizes))
        aligner = ConeAligner(tol=1e-10, max_iters=20000, **kwargs)
        source = source._replace(x=torch.zeros(sizes[0], 1).double())
        torch.testing.assert_close(aligner(source, target).dense()[0],
                                   cone_oracle(source, target, **kwargs),
                                   atol=1e-5, rtol=0)

    @pytest.mark.parametrize('dim', [3, 20])
    def test_embedding(self, dim):
        """Both eigensolvers, and the best approximation of rank d."""
        view = graph(20, 45, 0)
        a = adjacency(view)
        generator = torch.Generator().manual_seed(0)
        y = ConeAligner(dim, window=4, negative=0.5).embed(a, generator)
        u, s, _ = np.linalg.svd(netmf_oracle(dense(view), 4, 0.5))
        expected = u[:, :dim] * np.sqrt(s[:dim])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose((y @ y.T).numpy(), expected @ expected.T,
                                   atol=1e-7)

    def test_seeds_decide(self):
        """Two equal components, told apart by one known match."""
        edges = torch.tensor([[0, 1, 2, 2, 3, 1], [1, 2, 0, 3, 4, 5]])
        view = GraphView.single(torch.cat([edges, edges + 6], dim=1), 12)
        for one, other in ((0, 0), (0, 6)):
            seeds = torch.tensor([[one], [other]])
            out = ConeAligner()(view, view, seeds=seeds).match('argmax')
            expected = torch.arange(12)
            if other == 6:
                expected = expected.roll(6)
            assert torch.equal(out.match_index[1], expected)

    def test_recovers_a_permutation(self):
        g = nx.barabasi_albert_graph(120, 3, seed=0)
        source = GraphView.single(torch.tensor(list(g.edges)).t(), 120)
        order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
        target = relabel(source, order)
        keep = torch.rand(target.edge_index.size(1), generator=torch.Generator(
            ).manual_seed(1)) > 0.03
        target = target._replace(edge_index=target.edge_index[:, keep])
        for dim in (512, 25):   # with either eigensolver
            out = ConeAligner(dim)(source, target).match('lap')
            hit = order[out.match_index[1]] == out.match_index[0]
            assert hit.sum() > 100

    def test_turns_help(self):
        """Step 3 lowers the Wasserstein-Procrustes objective."""
        source, target = graph(30, 70, 0), graph(30, 70, 0)
        drop = torch.arange(target.edge_index.size(1)) % 9 > 0
        target = target._replace(edge_index=target.edge_index[:, drop])
        start, end = (ConeAligner(num_steps=k)(source, target).match('lap')
                      for k in (0, 5))
        assert end.match_score.sum() > start.match_score.sum()


class TestSoftPermutation:
    @pytest.mark.parametrize('n,m', [(5, 5), (3, 7), (8, 2), (1, 1)])
    @pytest.mark.parametrize('scale', [1.0, 15.0])
    def test_oracle(self, n, m, scale):
        generator = torch.Generator().manual_seed(n)
        cost = torch.zeros(n + (n < m), m + (m < n), dtype=torch.double)
        cost[:n, :m] = scale * torch.rand(n, m, generator=generator)
        plan, dual = soft_permutation(-cost, n, m, tol=1e-12, max_iters=20000)
        size = max(n, m)
        expected = sinkhorn_oracle(cost[:n, :m].numpy(), 1.0, size)
        np.testing.assert_allclose(plan[:n, :m], expected[:n, :m], atol=1e-7)
        again, _ = soft_permutation(-cost, n, m, tol=1e-9, max_iters=1,
                                    log_column=dual)
        torch.testing.assert_close(again, plan, atol=1e-7, rtol=0)

    @pytest.mark.parametrize('scale', [1e3, 1e5])
    def test_beyond_the_range_of_exponentials(self, scale):
        """Nearly a linear assignment, found without overflow."""
        generator = torch.Generator().manual_seed(0)
        gain = torch.rand(9, 9, generator=generator).double()
        gain[:, 0] -= 4     # no row wants this column
        plan, _ = soft_permutation(scale * gain, 9, 9, tol=1e-3,
                                   max_iters=10000)
        torch.testing.assert_close(plan.sum(0), torch.ones(9).double())
        row, col = sp.csgraph.min_weight_full_bipartite_matching(
            sp.csr_matrix(gain.numpy() + 9), maximize=True)
        assert (plan[row, col] > 0.9).all() or scale == 1e5
        assert torch.isfinite(plan).all()
        for limit in (0, 1, 2, 3):  # stopped wherever it may be
            plan, dual = soft_permutation(scale * gain, 9, 9, tol=1e-3,
                                          max_iters=limit)
            assert torch.isfinite(plan).all() and torch.isfinite(dual).all()
            torch.testing.assert_close(plan.sum(0), torch.ones(9).double())

    def test_seeds(self):
        seeds = torch.tensor([[1, 3], [0, 2]])
        flat = flat_permutation(4, 6, seeds)
        assert flat.shape == (5, 6)
        assert flat[1].tolist() == [1, 0, 0, 0, 0, 0]
        assert flat[0].tolist() == [0, 0.25, 0, 0.25, 0.25, 0.25]
        kernel = torch.randn(5, 6, dtype=torch.double)
        plan, _ = soft_permutation(fix_seeds(kernel, seeds), 4, 6, tol=1e-9,
                                   max_iters=1000)
        assert torch.equal(plan[1], flat[1]) and torch.equal(plan[3], flat[3])
        torch.testing.assert_close(plan[:4].sum(1), torch.ones(4).double())
        torch.testing.assert_close(plan[:4].sum(0) + 2 * plan[4],
                                   torch.ones(6).double())
        everything = torch.arange(3).repeat(2, 1)
        assert torch.equal(flat_permutation(3, 3, everything),
                           torch.eye(3).double())


@pytest.mark.parametrize('kwargs,message', [
    (dict(dim=0), r"'dim' must be at least 1 \(got 0\)"),
    (dict(num_steps=-1), r"'num_steps' must be at least 0 \(got -1\)"),
    (dict(reg=0), r"'reg' must be positive \(got 0\)"),
    (dict(tol=math.nan), r"'tol' must be positive \(got nan\)"),
    (dict(top_k=0), r"'top_k' must be at least 1 \(got 0\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ConeAligner(**kwargs)


@pytest.mark.real_data
def test_high_school(data_root):
    """A tenth of the contacts is missing; published code gets 0.90."""
    with np.load(data_root / 'alignment' / 'highschool.npz') as file:
        edges = [torch.from_numpy(file[f'edge_index_{share}']).long()
                 for share in (100, 90)]
    source, target = (GraphView.single(e, 327) for e in edges)
    order = torch.randperm(327, generator=torch.Generator().manual_seed(0))
    out = ConeAligner()(source, relabel(target, order)).match('lap')
    hit = order[out.match_index[1]] == out.match_index[0]
    assert hit.double().mean() > 0.95
