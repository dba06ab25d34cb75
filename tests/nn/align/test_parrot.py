import math

import numpy as np
import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.parrot import ParrotAligner
from tests.nn.align.cases import AlignerCase, collate, relabel
from tests.nn.align.test_isorank import adjacency, arenas, double

SETTINGS = dict(alpha=0.5, beta=0.15, gamma=0.8, lambda_p=1e-3, lambda_n=5e-3,
                lambda_a=5e-4, lambda_e=3e-6)
DENSE = dict(alpha=0.3, beta=0.4, gamma=0.5, lambda_p=0.02, lambda_n=0.03,
             lambda_a=0.04, lambda_e=0.05)


def unit(rows):
    size = np.sqrt((rows**2).sum(1, keepdims=True))
    constant = 1 / math.sqrt(rows.shape[1])
    return np.where(size > 0, rows / np.where(size > 0, size, 1), constant)


def oracle(source, target, seeds, attributes=False, **kwargs):
    """The steps of the paper with dense matrices, pairs one by one."""
    p = {**SETTINGS, **kwargs}
    alpha, beta, gamma = p['alpha'], p['beta'], p['gamma']
    n, m, known = source.num_nodes, target.num_nodes, list(seeds)
    a = [adjacency(view) for view in (source, target)]
    w = [np.where(x.sum(1, keepdims=True) > 0, x, 1) for x in a]
    w_s, w_t = (x / x.sum(1, keepdims=True) for x in w)

    def held(cost):
        for i, j in known:
            cost[i, j] = 0
        return cost

    # Position.
    r = []
    for size, step, side in (n, w_s, 0), (m, w_t, 1):
        start, x = np.zeros((size, len(known))), np.zeros((size, len(known)))
        for k, pair in enumerate(known):
            start[pair[side], k] = 1
        for _ in range(100 if known else 0):
            last, x = x, (1 - beta) * step @ x + beta * start
            if abs(x - last).max() <= 1e-5:
                break
        r.append(x)
    # Cost of nodes.
    rank = np.zeros((n, m))
    if known:
        rank = held(np.exp(-unit(r[0]) @ unit(r[1]).T))
    x = r
    if attributes:
        x = [view.x.double().numpy() for view in (source, target)]
    x_s, x_t = unit(x[0]), unit(x[1])
    node = held(np.exp(-x_s @ x_t.T)) + alpha * rank
    # Cost of neighbourhoods.
    cost = np.zeros((n, m))
    for _ in range(50):
        last = cost
        cost = held((1 + gamma * beta) * node
                    + (1 - beta) * gamma * w_s @ cost @ w_t.T)
        if abs(cost - last).max() <= 1e-2:
            break
    cost = held((1 - gamma) * cost)
    # Transport.
    c_s, c_t = np.exp(-x_s @ x_s.T) * a[0], np.exp(-x_t @ x_t.T) * a[1]
    h = np.full((n, m), 1 / m)
    for i, j in known:
        h[i, j] += 1
    entropy = p['lambda_p'] + p['lambda_n'] + p['lambda_a']
    plan, old, f = np.full((n, m), 1 / (n * m)), None, np.zeros(n)
    for _ in range(p.get('num_iters', 10)):
        loss = np.zeros((n, m))  # (x - y)^2 / 2 over pairs of nodes
        for i in range(n):
            for j in range(m):
                loss[i, j] = (c_s[i]**2).sum() / n / 2 + (
                    c_t[j]**2).sum() / m / 2 - c_s[i] @ plan @ c_t[j]
        new = (cost - p['lambda_n'] * np.log(w_s @ plan @ w_t.T)
               - p['lambda_a'] * np.log(h) + p['lambda_e'] * n * m * loss)
        if old is None or (plan * new).sum() <= (plan * old).sum():
            old = new
        q = (old - p['lambda_p'] * np.log(plan)) / entropy
        for _ in range(p.get('num_inner', 5)):
            g = -np.log(np.exp(f[:, None] - q).mean(0))
            f = -np.log(np.exp(g - q).mean(1))
        plan = 0.05 * plan + 0.95 * np.exp(f[:, None] + g - q) / (n * m)
    return torch.from_numpy(plan * n)


def some_seeds(n, m):
    count = min(n, m, 3)
    return list(zip(range(0, n, max(1, n // count)), range(m)))[:count]


class TestAttributes(AlignerCase):
    """Without seeds there are features alone."""
    cls = ParrotAligner
    channels = (6, 6)
    kwargs = DENSE

    @pytest.mark.parametrize('attributes', [True, False])
    @pytest.mark.parametrize('kwargs', [SETTINGS, DENSE, {
        **DENSE, 'num_iters': 3, 'num_inner': 2, 'lambda_n': 0}])
    def test_oracle(self, attributes, kwargs):
        for source, target in self.pairs([(7, 4), (12, 5), (3, 9), (1, 2)]):
            seeds = some_seeds(source.num_nodes, target.num_nodes)
            out = ParrotAligner(use_attributes=attributes, **kwargs)(
                double(source), target, seeds=torch.tensor(seeds).t())
            torch.testing.assert_close(
                out.dense()[0],
                oracle(source, target, seeds, attributes, **kwargs),
                atol=1e-9, rtol=0)

    @pytest.mark.parametrize('kwargs', [SETTINGS, DENSE])
    def test_oracle_without_seeds(self, kwargs):
        for source, target in self.pairs([(7, 4), (3, 9)]):
            source.x[1] = 0
            out = ParrotAligner(**kwargs)(double(source), target)
            torch.testing.assert_close(
                out.dense()[0], oracle(source, target, (), True, **kwargs),
                atol=1e-9, rtol=0)

    def test_isolated_nodes(self):
        edges = torch.tensor([[0, 1, 2, 4], [1, 2, 3, 0]])
        source = GraphView.single(edges, 7, x=torch.ones(7, 2).double())
        target = GraphView.single(edges.flip(1), 6, x=torch.ones(6, 2))
        seeds = [(0, 0), (5, 2)]
        out = ParrotAligner(use_attributes=False, **DENSE)(
            source, target, seeds=torch.tensor(seeds).t())
        torch.testing.assert_close(
            out.dense()[0], oracle(source, target, seeds, **DENSE),
            atol=1e-9, rtol=0)

    def test_rows_sum_to_one(self):
        source, target = self.batch(self.sizes)
        out = ParrotAligner()(double(source), target).dense()
        for b, (n, _) in enumerate(self.sizes):
            torch.testing.assert_close(out[b, :n].sum(1),
                                       torch.ones(n).double())
        assert (out >= 0).all()

    def test_single_precision(self):
        source, target = self.graph(30, 6, 0), self.graph(40, 6, 1)
        one, two = (ParrotAligner(double_precision=d)(double(source), target)
                    for d in (False, True))
        assert not torch.equal(one.match_score, two.match_score)
        torch.testing.assert_close(one.match_score, two.match_score,
                                   rtol=0, atol=1e-3)

    def test_seeds_and_order(self):
        """Known matches move with the nodes they name."""
        source, target = self.graph(20, 6, 0), self.graph(12, 6, 1)
        seeds = torch.tensor([[3, 7, 11], [2, 9, 0]])
        p, q = torch.randperm(20), torch.randperm(12)
        place_p, place_q = p.argsort(), q.argsort()
        for attributes in (True, False):
            aligner = ParrotAligner(use_attributes=attributes, **DENSE)
            out = aligner(source, target, seeds=seeds).dense()[0]
            again = aligner(
                relabel(source, p), relabel(target, q),
                seeds=torch.stack([place_p[seeds[0]], place_q[seeds[1]]]))
            torch.testing.assert_close(again.dense()[0], out[p][:, q],
                                       atol=1e-5, rtol=0)

    def test_plain_batch(self):
        """Without features: each pair has seeds of its own."""
        pairs = [[view._replace(x=None) for view in pair]
                 for pair in self.pairs([(7, 4), (12, 5), (3, 9)])]
        seeds = [torch.tensor(some_seeds(*(v.num_nodes for v in pair))).t()
                 for pair in pairs]
        source, target = (collate(views) for views in zip(*pairs))
        known = torch.cat([s + torch.stack([source.ptr[b], target.ptr[b]])
                           .unsqueeze(1) for b, s in enumerate(seeds)], dim=1)
        known = known[:, torch.randperm(known.size(1))]
        out = ParrotAligner(**DENSE)(source, target, seeds=known).dense()
        for b, pair in enumerate(pairs):
            alone = ParrotAligner(**DENSE)(*pair, seeds=seeds[b]).dense()[0]
            n, m = alone.shape
            torch.testing.assert_close(out[b, :n, :m], alone, atol=1e-6,
                                       rtol=0)

    def test_neither_seeds_nor_features(self):
        source, target = self.pairs([(7, 4)])[0]
        with pytest.raises(ValueError, match=r"needs 'seeds' .*'Quadratic"):
            ParrotAligner(use_attributes=False)(source, target)
        with pytest.raises(ValueError, match=r"needs 'seeds'"):
            ParrotAligner()(source._replace(x=None), target)
        assert ParrotAligner(use_attributes=False)(
            source, target, seeds=torch.tensor([[0], [1]])).num_matches == 28

    def test_wrong_features(self):
        source, target = self.pairs([(7, 4)])[0]
        with pytest.raises(ShapeError, match=r'\(got 6 and 2\)'):
            ParrotAligner()(source, target._replace(x=target.x[:, :2]))
        with pytest.raises(ValueError, match="'x' must be finite"):
            ParrotAligner()(source._replace(x=source.x / 0), target)


@pytest.mark.parametrize('kwargs,message', [
    (dict(beta=0), r"'beta' must be in \(0, 1\] \(got 0\)"),
    (dict(gamma=1), r"'gamma' must be in \[0, 1\) \(got 1\)"),
    (dict(lambda_p=0), r"'lambda_p' must be positive \(got 0\)"),
    (dict(lambda_e=-1), r"'lambda_e' must not be negative \(got -1\)"),
    (dict(num_inner=0), r"'num_inner' must be at least 1 \(got 0\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ParrotAligner(**kwargs)


@pytest.mark.real_data
@pytest.mark.parametrize('drop,low,high', [(0, 0.96, 0.99),
                                           (0.05, 0.94, 0.98)])
def test_arenas(data_root, drop, low, high):
    """One node in five is known, the others count."""
    source, target, truth = arenas(data_root, drop)
    order = torch.randperm(len(truth),
                           generator=torch.Generator().manual_seed(0))
    known, rest = order[:len(truth) // 5], order[len(truth) // 5:]
    out = ParrotAligner(top_k=1)(source, target,
                                 seeds=torch.stack([known, truth[known]]))
    hits = (out.match_index[1] == truth)[rest].double().mean()
    assert low < float(hits) < high
