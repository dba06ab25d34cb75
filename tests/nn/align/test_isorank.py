import numpy as np
import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.isorank import IsoRankAligner
from tests.nn.align.cases import AlignerCase, relabel
from tests.nn.align.test_attribute import cosine
from tests.nn.align.test_degree import degrees


def adjacency(view):
    out = np.zeros((view.num_nodes, view.num_nodes))
    for i, j in view.edge_index.t().tolist():
        if i != j:
            out[i, j] = out[j, i] = 1
    return out


def prior(source, target, kind='degree', seeds=()):
    """Node by node. Seeds are pairs (i, j)."""
    n, m = source.num_nodes, target.num_nodes
    d_s, d_t = degrees(source), degrees(target)
    out = np.zeros((n, m))
    for i in range(n):
        for j in range(m):
            if kind == 'uniform':
                out[i, j] = 1
            elif kind == 'attribute':
                out[i, j] = max(0, cosine(source.x[i].tolist(),
                                          target.x[j].tolist()))
            else:
                high = max(d_s[i], d_t[j])
                out[i, j] = min(d_s[i], d_t[j]) / high if high else 1
            if any((i == k) or (j == l) for k, l in seeds):
                out[i, j] = 0
    rest = out.sum()
    for i, j in seeds:
        out[i, j] = rest / len(seeds) if rest > 0 else 1
    return out / max(out.sum(), 1e-300)


def oracle(source, target, alpha=0.9, kind='degree', seeds=()):
    """The linear system of the fixed point, by Kronecker product."""
    walks = []
    for view in source, target:
        a = adjacency(view)
        walks.append(a / np.maximum(a.sum(1, keepdims=True), 1))
    product = np.kron(walks[0].T, walks[1].T)
    h = prior(source, target, kind, seeds)
    s = np.linalg.solve(np.eye(h.size) - alpha * product,
                        (1 - alpha) * h.reshape(-1))
    return torch.from_numpy(s.reshape(h.shape))


def double(view):
    return view._replace(x=view.x.double())


SEEDS = [(), ((0, 1), (2, 0))]


class TestIsoRankAligner(AlignerCase):
    cls = IsoRankAligner
    channels = (6, 6)
    atol = 1e-8

    @pytest.mark.parametrize('seeds', SEEDS)
    @pytest.mark.parametrize('kind', ['degree', 'attribute', 'uniform'])
    @pytest.mark.parametrize('alpha', [0., 0.6, 0.9])
    def test_oracle(self, alpha, kind, seeds):
        aligner = IsoRankAligner(alpha, kind, num_iters=1000, tol=0)
        for source, target in self.pairs([(7, 4), (3, 9), (12, 5)]):
            out = aligner(double(source), target,
                          seeds=torch.tensor(seeds).view(-1, 2).t().long())
            assert out.match_score.dtype == torch.double
            torch.testing.assert_close(
                out.dense()[0], oracle(source, target, alpha, kind, seeds),
                atol=1e-12, rtol=0)

    def test_all_known(self):
        """No other pair is left to have a prior."""
        source, target = self.graph(4, 6, 0), self.graph(4, 6, 1)
        seeds = torch.tensor([[0, 1, 2, 3], [2, 1, 0, 3]])
        out = IsoRankAligner(num_iters=1000, tol=0)(double(source), target,
                                                    seeds=seeds)
        torch.testing.assert_close(
            out.dense()[0], oracle(source, target, seeds=seeds.t().tolist()),
            atol=1e-12, rtol=0)

    def test_sum(self):
        """The walk on the product graph keeps the mass of the prior."""
        ring = torch.stack([torch.arange(9), (torch.arange(9) + 1) % 9])
        view = GraphView.single(torch.cat([ring, ring[:, :3] * 2 % 9], 1), 9)
        out = IsoRankAligner()(view, view)
        assert abs(float(out.match_score.sum()) - 1) < 1e-6

    def test_tolerance(self):
        source, target = self.graph(30, 6, 0), self.graph(25, 6, 1)
        exact = IsoRankAligner(num_iters=1000, tol=0)(double(source), target)
        for tol in (1e-2, 1e-4, 1e-8):
            out = IsoRankAligner(num_iters=1000, tol=tol)(double(source),
                                                          target)
            error = (out.match_score - exact.match_score).abs().sum()
            assert 0 < error <= 10 * tol  # the steps left: a / (1 - a)
        few = IsoRankAligner(num_iters=1, tol=0)(source, target)
        assert not torch.allclose(few.match_score, exact.match_score.float(),
                                  atol=1e-5)

    def test_single_precision(self):
        source, target = self.graph(30, 6, 0), self.graph(150, 6, 1)
        one, two = (IsoRankAligner(double_precision=d)(double(source), target)
                    for d in (False, True))
        assert not torch.equal(one.match_score, two.match_score)
        torch.testing.assert_close(one.match_score, two.match_score,
                                   rtol=1e-4, atol=0)

    def test_seeds_help(self):
        generator = torch.Generator().manual_seed(0)
        source = self.graph(60, 6, 3)
        order = torch.randperm(60, generator=generator)
        truth = torch.empty_like(order)
        truth[order] = torch.arange(60)
        target = relabel(source, order)
        seeds = torch.stack([torch.arange(20), truth[:20]])
        hits = []
        for known in (None, seeds):
            found = IsoRankAligner()(source, target, seeds=known).match('lap')
            row, col = found.match_index
            hits.append(int((truth[row] == col)[20:].sum()))
        assert hits[1] > hits[0]

    def test_too_large(self):
        with pytest.raises(ValueError, match=r"'max_entries' \(20\)"):
            IsoRankAligner(max_entries=20)(*self.pairs([(7, 4)])[0])

    def test_missing_features(self):
        source, target = self.pairs([(7, 4)])[0]
        with pytest.raises(ValueError, match="'source.x' must hold"):
            IsoRankAligner(prior='attribute')(source._replace(x=None), target)


@pytest.mark.parametrize('kwargs,message', [
    (dict(alpha=1.0), r"'alpha' must be in \[0, 1\) \(got 1.0\)"),
    (dict(prior='degre'), "Did you mean 'degree'"),
    (dict(num_iters=0), r"'num_iters' must be at least 1 \(got 0\)"),
    (dict(tol=-1), r"'tol' must not be negative \(got -1\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        IsoRankAligner(**kwargs)


def arenas(root, drop):
    """A permuted copy that lacks a share of the edges, none a last one."""
    rng = np.random.default_rng(0)
    data = np.load(root / 'alignment' / 'arenas_base.npz')
    edges, n = data['edge_index'], int(data['num_nodes'].reshape(-1)[0])
    degree = np.bincount(edges.reshape(-1), minlength=n)
    keep, left = np.ones(edges.shape[1], dtype=bool), drop * edges.shape[1]
    for e in rng.permutation(edges.shape[1]):
        if left >= 1 and (degree[edges[:, e]] > 1).all():
            degree[edges[:, e]] -= 1
            keep[e] = False
            left -= 1
    truth = rng.permutation(n)
    source = GraphView.single(torch.from_numpy(edges).long(), n)
    target = GraphView.single(torch.from_numpy(truth[edges[:, keep]]), n)
    return source, target, torch.from_numpy(truth)


@pytest.mark.real_data
def test_arenas(data_root):
    source, target, truth = arenas(data_root, 0.05)
    out = IsoRankAligner()(source, target)
    hits = {method: float((out.match(method).match_index[1] == truth)
                          .double().mean()) for method in ('lap', 'argmax')}
    assert 0.77 < hits['lap'] < 0.87
    assert hits['argmax'] < 0.01
