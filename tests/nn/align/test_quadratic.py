import itertools
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from mmgraph.data.view import GraphView
from mmgraph.nn.align import StructuralAligner
from mmgraph.nn.align.functional.quadratic import (
    QuadraticProblem,
    balance,
    block_search,
    convex_relaxation,
    frank_wolfe,
    soft_assignment,
)
from mmgraph.nn.align.quadratic import QuadraticAligner
from tests.nn.align.cases import AlignerCase, random_edges, relabel


def problem(n, m, seed=0, linear=True, penalty=0.25):
    """A random problem, sparse and as plain matrices."""
    rng = np.random.default_rng(seed)
    dense = []
    for size in n, m:
        upper = np.triu(rng.random((size, size)) < 0.4, 1).astype(float)
        dense.append(upper + upper.T)
    extra = rng.random((n, m)) if linear else 0.0
    return QuadraticProblem(sp.csr_matrix(dense[0]), sp.csr_matrix(dense[1]),
                            extra, penalty), *dense


def objective(a, b, plan, linear, penalty):
    """Sum by sum, from the formula."""
    n, m = plan.shape
    value = 0.0
    for i, j in itertools.product(range(n), range(m)):
        value += linear[i, j] * plan[i, j]
        for k, l in itertools.product(range(n), range(m)):
            value += (a[i, k] - penalty) * plan[i, j] * b[j, l] * plan[k, l]
    return value


def as_plan(match, m):
    plan = np.zeros((len(match), m))
    plan[np.arange(len(match)), match] = 1
    return plan


def network(num_nodes, num_edges, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return GraphView.single(edges, num_nodes)


def edge_set(view):
    return {frozenset(e) for e in view.edge_index.t().tolist()
            if e[0] != e[1]}


def kept_edges(source, target, match):
    return sum(frozenset(match[i] for i in edge) in edge_set(target)
               for edge in edge_set(source))


class TestProblem:
    @pytest.mark.parametrize('n, m', [(5, 5), (4, 6), (1, 3)])
    def test_against_sums(self, n, m):
        p, a, b = problem(n, m)
        rng = np.random.default_rng(1)
        plan, other = rng.random((2, n, m))
        value = (p.linear * plan).sum() + (p.half(plan) * plan).sum()
        assert value == pytest.approx(objective(a, b, plan, p.linear,
                                                p.penalty))
        # The gradient, by central differences of a quadratic: exact.
        change = (objective(a, b, plan + other, p.linear, p.penalty)
                  - objective(a, b, plan - other, p.linear, p.penalty)) / 2
        gradient = p.linear + 2 * p.half(plan)
        assert (gradient * other).sum() == pytest.approx(change)

    @pytest.mark.parametrize('n, m', [(5, 5), (4, 6)])
    def test_maps(self, n, m):
        p, a, b = problem(n, m)
        match = np.random.default_rng(0).permutation(m)[:n]
        plan = as_plan(match, m)
        np.testing.assert_allclose(p.half_of_map(match), p.half(plan))
        assert p.value(match) == pytest.approx(
            objective(a, b, plan, p.linear, p.penalty))

    def test_bound(self):
        p, _, _ = problem(5, 5, penalty=0.0)
        best = max(p.value(np.array(match))
                   for match in itertools.permutations(range(5)))
        assert best <= p.bound()
        whole = QuadraticProblem(p.a, p.a)
        assert whole.value(np.arange(5)) == whole.bound()

    def test_block(self):
        # A block changes by as much as the whole does.
        p, _, _ = problem(7, 9)
        rng = np.random.default_rng(0)
        match = rng.permutation(9)[:7]
        rows = np.array([1, 3, 4])
        cols = np.append(match[rows], np.setdiff1d(np.arange(9), match))
        block = p.block(match, rows, cols)
        for new in itertools.permutations(range(5), 3):
            other = match.copy()
            other[rows] = cols[list(new)]
            assert (block.value(np.array(new)) - block.value(np.arange(3))
                    == pytest.approx(p.value(other) - p.value(match)))

    def test_partial(self):
        p, _, _ = problem(6, 8)
        match = np.array([3, -1, 0, 7, -1, 1])
        rows, cols = np.array([1, 4]), np.array([2, 4, 5, 6])
        block = p.block(match, rows, cols)
        full = match.copy()
        full[rows] = cols[[2, 0]]
        assert (p.partial_value(match) + block.value(np.array([2, 0]))
                == pytest.approx(p.value(full)))


class TestSteps:
    def test_balance(self):
        scores = np.random.default_rng(0).random((4, 4)) + 0.1
        plan = balance(scores, 200)
        np.testing.assert_allclose(plan.sum(1), 1)
        np.testing.assert_allclose(plan.sum(0), 1)
        # Scaling rows and columns changes no cross ratio.
        ratio = scores[0, 0] * scores[1, 1] / scores[0, 1] / scores[1, 0]
        assert plan[0, 0] * plan[1, 1] / plan[0, 1] / plan[1, 0] \
            == pytest.approx(ratio)

    def test_balance_wide(self):
        scores = np.random.default_rng(0).random((4, 6)) ** 4
        plan = balance(scores, 500)
        np.testing.assert_allclose(plan.sum(1), 1)
        assert plan.sum(0).max() < 1 + 1e-6

    def test_frank_wolfe_against_scipy(self):
        p, a, b = problem(12, 12, linear=False, penalty=0.0)
        plan, match = frank_wolfe(p, np.full((12, 12), 1 / 12), tol=0)
        theirs = quadratic_assignment(a, b, options=dict(
            maximize=True, tol=1e-9, maxiter=30))
        assert p.value(match) == theirs.fun
        np.testing.assert_allclose(plan.sum(1), 1)
        np.testing.assert_allclose(plan.sum(0), 1)

    def test_frank_wolfe_step(self):
        # One step is the best one on the way, found here by trying.
        p, a, b = problem(5, 7)
        start = np.full((5, 7), 1 / 7)
        plan, _ = frank_wolfe(p, start, num_iters=1)
        gradient = p.linear + 2 * p.half(start)
        end = as_plan(linear_sum_assignment(gradient, maximize=True)[1], 7)
        best = max(objective(a, b, start + t * (end - start), p.linear,
                              p.penalty) for t in np.linspace(0, 1, 201))
        assert objective(a, b, plan, p.linear, p.penalty) >= best - 1e-9

    def test_convex_relaxation(self):
        p, a, b = problem(8, 8, linear=False)

        def gap(plan):
            return ((a @ plan - plan @ b) ** 2).sum()

        plan = convex_relaxation(p, 200)
        np.testing.assert_allclose(plan.sum(1), 1)
        np.testing.assert_allclose(plan.sum(0), 1)
        # Convex: nothing on the way to any map is clearly better.
        rng = np.random.default_rng(0)
        for _ in range(50):
            other = as_plan(rng.permutation(8), 8)
            assert gap(0.9 * plan + 0.1 * other) > gap(plan) - 0.05

    def test_soft_assignment_step(self):
        p, a, b = problem(4, 4, penalty=0.0)
        start = balance(np.random.default_rng(0).random((4, 4)))
        prior = np.random.default_rng(1).random((4, 4))
        g = a @ start @ b + p.linear / 2
        for i, j in itertools.product(range(4), range(4)):
            g[i, j] /= max(a[i].sum(), b[j].sum(), 1) ** 0.5
        expected = balance(np.exp(2 * g / g.std() + prior), 10)
        out = soft_assignment(p, start, beta=2.0, prior=prior, num_iters=1)
        np.testing.assert_allclose(out, expected, rtol=1e-4)

    @pytest.mark.parametrize('n, m', [(5, 5), (4, 6)])
    def test_block_search(self, n, m):
        # With a block of all nodes and many rounds: the exact optimum.
        found = 0
        for seed in range(5):
            p, _, _ = problem(n, m, seed)
            best = max(p.value(np.array(match))
                       for match in itertools.permutations(range(m), n))
            match, value, maps = block_search(
                p, np.arange(n), np.random.default_rng(0), block_size=4,
                num_rounds=40)
            assert value == pytest.approx(p.value(match))
            assert value >= p.value(np.arange(n))
            for row in maps:
                assert p.value(row) == pytest.approx(value)
                assert len(set(row.tolist())) == n
            found += value == pytest.approx(best)
        assert found >= 4


class TestQuadraticAligner(AlignerCase):
    cls = QuadraticAligner
    # The block search draws nodes at random; see test_equivariance.
    exact = False

    def test_permuted_copy(self):
        source = network(80, 160, 0)
        target = relabel(source, torch.randperm(80))
        match = QuadraticAligner()(source, target).match().match_index[1]
        assert kept_edges(source, target, match.tolist()) \
            == len(edge_set(source))

    @pytest.mark.parametrize('start', [
        'histogram', 'flat', 'convex',
        StructuralAligner(top_k=None, mask_isolated=False)])
    def test_starts(self, start):
        source = network(60, 180, 1)
        order = torch.randperm(60)
        target = relabel(source, order)
        target = target._replace(edge_index=target.edge_index[:, 9:])
        out = QuadraticAligner(start)(source, target)
        place = torch.empty_like(order)
        place[order] = torch.arange(60)
        right = out.match().match_index[1] == place
        degree = torch.bincount(source.edge_index.view(-1), minlength=60)
        assert right[degree > 2].float().mean() > 0.95

    def test_equivariance(self):
        # No ties: the best map is one, and all 64 nodes are in a block.
        source, other = network(40, 140, 2), network(40, 140, 2)
        target = other._replace(edge_index=other.edge_index[:, 10:])
        aligner = QuadraticAligner()
        p, q = torch.randperm(40), torch.randperm(40)
        out = aligner(source, target).dense()[0]
        again = aligner(relabel(source, p), relabel(target, q)).dense()[0]
        torch.testing.assert_close(again, out[p][:, q], atol=1e-5, rtol=0)
        assert out.argmax(1).tolist() == list(range(40))

    @pytest.mark.parametrize('sizes', [(40, 30), (30, 40)])
    def test_unequal_sizes(self, sizes):
        large = network(40, 150, 3)
        inside = (large.edge_index < 30).all(0)
        small = GraphView.single(large.edge_index[:, inside], 30)
        pair = (large, small) if sizes[0] == 40 else (small, large)
        out = QuadraticAligner()(*pair)
        match = out.match().match_index
        assert match.size(1) == 30
        assert (match[0] == match[1]).float().mean() > 0.9

    def test_padding(self):
        # A path fits a path and a triangle with a tail alike, naively.
        path = GraphView.single(torch.tensor([[0, 1], [1, 2]]), 3)
        both = GraphView.single(
            torch.tensor([[0, 1, 2, 3, 4], [1, 2, 0, 4, 5]]), 6)
        for seed in range(5):
            aligner = QuadraticAligner(padding='adopted', seed=seed)
            match = aligner(path, both).match()
            assert sorted(match.match_index[1].tolist()) == [3, 4, 5]

    def test_known_matches(self):
        # A cycle looks the same from everywhere; two anchors fix it.
        ring = torch.arange(12)
        view = GraphView.single(torch.stack([ring, (ring + 1) % 12]), 12)
        seeds = torch.tensor([[0, 1], [4, 5]])
        out = QuadraticAligner()(view, view, seeds=seeds)
        assert out.match().match_index[1].tolist() \
            == ((ring + 4) % 12).tolist()
        dense = out.dense()[0]
        assert dense[0].count_nonzero() == dense[:, 4].count_nonzero() == 1
        assert dense[0, 4] == dense[1, 5] == 1

    def test_all_known(self):
        view = network(5, 8, 0)
        seeds = torch.stack([torch.arange(5), torch.tensor([4, 2, 0, 1, 3])])
        out = QuadraticAligner()(view, view, seeds=seeds)
        assert torch.equal(out.match().match_index, seeds)

    def test_attributes(self):
        # No edges: nothing but features decides.
        none = torch.empty(2, 0, dtype=torch.long)
        x, order = torch.randn(9, 4), torch.randperm(9)
        source = GraphView.single(none, 9, x=x)
        target = GraphView.single(none, 9, x=x[order])
        aligner = QuadraticAligner(attr_weight=1.0)
        assert aligner.reads_features
        match = aligner(source, target).match().match_index[1]
        assert torch.equal(order[match], torch.arange(9))

    def test_scores(self):
        # A star: rays are alike, so no map is preferred by much.
        star = GraphView.single(
            torch.stack([torch.zeros(4, dtype=torch.long),
                         torch.arange(1, 5)]), 5)
        dense = QuadraticAligner(num_sweeps=4000)(star, star).dense()[0]
        assert dense[0, 0] > 0.99
        assert (dense[1:, 1:] - 0.25).abs().max() < 0.12
        assert dense[0, 1:].max() < 0.01

    def test_without_search(self):
        source = network(40, 140, 2)
        target = relabel(source, torch.arange(39, -1, -1))
        out = QuadraticAligner(num_sweeps=0)(source, target)
        assert out.match().match_index[1].tolist() == list(range(39, -1, -1))

    def test_top_k(self):
        source, target = network(20, 40, 0), network(25, 40, 1)
        out = QuadraticAligner(top_k=3)(source, target)
        assert out.num_matches == 60

    def test_too_large(self):
        view = network(20, 40, 0)
        with pytest.raises(ValueError, match="'max_entries'"):
            QuadraticAligner(max_entries=399)(view, view)

    def test_config(self):
        aligner = QuadraticAligner(StructuralAligner(top_k=None),
                                   num_sweeps=2)
        config = json.loads(json.dumps(aligner.get_config()))
        again = QuadraticAligner.from_config(config)
        assert isinstance(again.start, StructuralAligner)
        assert again.num_sweeps == 2

    @pytest.mark.parametrize('kwargs, text', [
        (dict(start='embedding'), "'start' must be an aligner or name"),
        (dict(padding='full'), "'padding' must name a rule"),
        (dict(num_iters=0), r"'num_iters' must be at least 1 \(got 0\)"),
        (dict(num_soft=-1), "'num_soft' must be at least 0"),
        (dict(block_size=1), "'block_size' must be at least 2"),
        (dict(tol=-1.), "'tol' must not be negative"),
        (dict(num_sweeps=-1), "'num_sweeps' must not be negative"),
        (dict(attr_weight=-1.), "'attr_weight' must not be negative"),
        (dict(num_starts=5), r"'num_starts' must be in \[1, 4\]"),
        (dict(top_k=0), "'top_k' must be at least 1"),
    ])
    def test_wrong_arguments(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            QuadraticAligner(**kwargs)


class TestFromAnAligner(AlignerCase):
    cls = QuadraticAligner
    kwargs = dict(start=StructuralAligner(top_k=3), num_starts=1,
                  num_sweeps=1.0)
    exact = False


@pytest.mark.real_data
@pytest.mark.parametrize('keep', [90, 80])
def test_high_school(data_root, keep):
    """A contact network without 10 or 20 % of its edges: every pupil found
    (scipy's FAQ: 0.35 at 90 %)."""
    data = np.load(data_root / 'alignment' / 'highschool.npz')
    views = [GraphView.single(torch.from_numpy(
        data[f'edge_index_{k}'].astype(np.int64)), 327) for k in (100, keep)]
    order = torch.randperm(327, generator=torch.Generator().manual_seed(0))
    out = QuadraticAligner()(views[0], relabel(views[1], order))
    assert torch.equal(order[out.match().match_index[1]], torch.arange(327))


def test_random_edges_with_loops():
    """Self loops, repeated and reversed edges change nothing."""
    generator = torch.Generator().manual_seed(0)
    edges = random_edges(30, 60, generator)
    simple = sorted({tuple(sorted(e)) for e in edges.t().tolist()
                     if e[0] != e[1]})
    plain = GraphView.single(torch.tensor(simple).t(), 30)
    messy = GraphView.single(edges, 30)
    aligner = QuadraticAligner()
    assert torch.equal(aligner(plain, plain).match_score,
                       aligner(messy, messy).match_score)
