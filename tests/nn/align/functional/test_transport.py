import math

import numpy as np
import pytest
import torch

from mmgraph.errors import ShapeError
from mmgraph.nn.align.functional import (
    gromov_wasserstein,
    gromov_wasserstein_cost,
    ipot,
    round_plan,
    sinkhorn,
)
from mmgraph.nn.align.functional import transport as module

SIZES = [(6, 4), (1, 1), (3, 7), (5, 5)]


def random_cost(*shape, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=dtype)


def padded(sizes, extra=2, seed=0):
    """Costs of pairs of all sizes, with nonsense on padding."""
    n = max(size[0] for size in sizes) + extra
    m = max(size[1] for size in sizes) + extra
    cost = random_cost(len(sizes), n, m, seed=seed)
    row_mask = torch.zeros(len(sizes), n, dtype=torch.bool)
    col_mask = torch.zeros(len(sizes), m, dtype=torch.bool)
    for b, size in enumerate(sizes):
        row_mask[b, :size[0]] = True
        col_mask[b, :size[1]] = True
    cost[~(row_mask.unsqueeze(2) & col_mask.unsqueeze(1))] = 77.
    return cost, dict(row_mask=row_mask, col_mask=col_mask)


def ipot_oracle(cost, beta, num_iters):
    """As published, node by node, with the masses of the real nodes."""
    k, n = cost.shape
    plan, sigma = np.ones((k, n)), np.full(n, 1 / n)
    for _ in range(num_iters):
        q = np.exp(-cost / beta) * plan
        delta = np.array([1 / (k * sum(q[i, j] * sigma[j] for j in range(n)))
                          for i in range(k)])
        sigma = np.array([1 / (n * sum(q[i, j] * delta[i] for i in range(k)))
                          for j in range(n)])
        plan = delta[:, None] * q * sigma
    return plan


def sinkhorn_oracle(cost, epsilon, num_iters, row_bin=None, col_bin=None):
    """Plain numbers; a bin of given weight is one more column or row, whose
    own mass is free.
    """
    n, m = cost.shape
    kernel = np.exp(-cost / epsilon)
    one = row_bin is not None
    p = np.ones(n) if one else np.full(n, 1 / n)
    q = np.ones(m) if one else np.full(m, 1 / m)
    u, v = np.ones(n), np.ones(m)
    for _ in range(num_iters):
        for i in range(n):
            u[i] = p[i] / (sum(kernel[i, j] * v[j] for j in range(m))
                           + (row_bin or 0))
        for j in range(m):
            v[j] = q[j] / (sum(kernel[i, j] * u[i] for i in range(n))
                           + (col_bin or 0))
    return u[:, None] * kernel * v


def gw_oracle(edge_s, edge_t, plan):
    """Every pair of pairs."""
    n, m, c = edge_s.shape[0], edge_t.shape[0], edge_s.shape[2]
    return sum(
        (edge_s[i, k, a] - edge_t[j, l, a])**2 * plan[i, j] * plan[k, l]
        for i in range(n) for k in range(n) for j in range(m)
        for l in range(m) for a in range(c))


def random_edges(b, n, c, seed=0, dtype=torch.double):
    edge = random_cost(b, n, n, c, seed=seed, dtype=dtype)
    return edge + edge.transpose(1, 2)


class TestIPOT:
    @pytest.mark.parametrize('beta', [0.1, 0.5])
    @pytest.mark.parametrize('num_iters', [1, 2, 20])
    def test_oracle(self, beta, num_iters):
        cost, masks = padded(SIZES)
        plan = ipot(cost, beta=beta, num_iters=num_iters, **masks)
        for b, (n, m) in enumerate(SIZES):
            expected = ipot_oracle(cost[b, :n, :m].numpy(), beta, num_iters)
            torch.testing.assert_close(plan[b, :n, :m],
                                       torch.from_numpy(expected))
            assert plan[b, n:].count_nonzero() == 0
            assert plan[b, :, m:].count_nonzero() == 0

    def test_exact(self):
        ot = pytest.importorskip('ot')
        cost = random_cost(4, 9, 6, seed=1)
        plan = ipot(cost, beta=0.5, num_iters=500)
        for one, found in zip(cost, plan):
            value = float((one * found).sum())
            best = ot.emd2(np.full(9, 1 / 9), np.full(6, 1 / 6), one.numpy())
            assert value == pytest.approx(best, abs=1e-4)

    def test_columns_are_exact_and_rows_nearly(self):
        cost = random_cost(3, 8, 5)
        plan = ipot(cost, num_iters=20)
        torch.testing.assert_close(plan.sum(1),
                                   torch.full((3, 5), 0.2).double())
        error = (plan.sum(2) - 1 / 8).abs().max()
        assert 1e-6 < error < 0.01
        more = ipot(cost, num_iters=20, num_inner=200)
        assert (more.sum(2) - 1 / 8).abs().max() < 1e-6
        even = round_plan(plan)
        torch.testing.assert_close(even.sum(2),
                                   torch.full((3, 8), 1 / 8).double())
        torch.testing.assert_close(even.sum(1), plan.sum(1))
        assert (even - plan).abs().sum() < 4 * 8 * 3 * error

    def test_masses(self):
        cost = random_cost(1, 3, 2)
        p, q = torch.tensor([[.5, .3, .2]]), torch.tensor([[.9, .1]])
        plan = ipot(cost, num_iters=2000, row_mass=p, col_mass=q)
        torch.testing.assert_close(plan.sum(2), p.double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(plan.sum(1), q.double())

    @pytest.mark.parametrize('dtype', [torch.float, torch.double])
    def test_large_costs(self, dtype):
        cost = random_cost(2, 5, 4, dtype=dtype).mul_(1000)
        cost.requires_grad_()
        plan = ipot(cost, beta=0.1)
        assert torch.isfinite(plan).all()
        (plan * cost).sum().backward()
        assert torch.isfinite(cost.grad).all()

    def test_gradcheck(self):
        cost = random_cost(2, 4, 3).requires_grad_()
        mask = torch.tensor([[True] * 4, [True, True, True, False]])
        assert torch.autograd.gradcheck(
            lambda x: ipot(x, num_iters=6, row_mask=mask), cost)

    def test_envelope(self):
        """The plan is the gradient of the optimal value."""
        cost = random_cost(1, 4, 3)

        def value(x):
            return (ipot(x, beta=.2, num_iters=500)
                    * x).sum()

        plan = ipot(cost, beta=.2, num_iters=500)
        step = 1e-4
        for i in range(4):
            for j in range(3):
                move = torch.zeros_like(cost)
                move[0, i, j] = step
                slope = (value(cost + move) - value(cost - move)) / 2 / step
                assert float(slope) == pytest.approx(float(plan[0, i, j]),
                                                     abs=1e-5)


class TestSinkhorn:
    @pytest.mark.parametrize('log_domain', [False, True])
    @pytest.mark.parametrize('num_iters', [1, 3, 40])
    def test_balanced_oracle(self, num_iters, log_domain, monkeypatch):
        if log_domain:
            monkeypatch.setattr(module, '_LINEAR_RANGE', 0.)
        monkeypatch.setattr(module, '_round', lambda plan, masses: plan)
        cost, masks = padded(SIZES)
        plan = sinkhorn(cost, epsilon=.2, num_iters=num_iters, tol=0, **masks)
        for b, (n, m) in enumerate(SIZES):
            kernel = cost[b, :n, :m].numpy()
            # Scaling does not see a shift of columns, except in the first row
            # step, which starts from flat columns of the shifted kernel.
            expected = sinkhorn_oracle(kernel - kernel.min(0), .2, num_iters)
            torch.testing.assert_close(plan[b, :n, :m],
                                       torch.from_numpy(expected))

    @pytest.mark.parametrize('log_domain', [False, True])
    @pytest.mark.parametrize('unmatched', [None, .3])
    def test_partial_oracle(self, unmatched, log_domain, monkeypatch):
        if log_domain:
            monkeypatch.setattr(module, '_LINEAR_RANGE', 0.)
        sizes = [(6, 4), (3, 7), (2, 1), (1, 3)]
        cost, masks = padded(sizes)
        plan = sinkhorn(cost, epsilon=.2, num_iters=500, tol=0,
                        marginals='partial', unmatched=unmatched, **masks)
        paid = 0 if unmatched is None else math.exp(-unmatched / .2)
        for b, (n, m) in enumerate(sizes):
            bins = (1, paid) if n > m else (paid, 1)
            expected = sinkhorn_oracle(cost[b, :n, :m].numpy(), .2, 500,
                                       *bins)
            torch.testing.assert_close(
                plan[b, :n, :m], torch.from_numpy(expected), atol=1e-7,
                rtol=0)

    def test_partial_equal_sizes_are_balanced(self):
        cost = random_cost(2, 4, 4)
        torch.testing.assert_close(
            sinkhorn(cost, epsilon=.1, marginals='partial', num_iters=1000),
            4 * sinkhorn(cost, epsilon=.1, num_iters=1000), atol=1e-4, rtol=0)

    def test_semi_relaxed(self):
        cost, masks = padded(SIZES)
        plan = sinkhorn(cost, epsilon=.2, marginals='semi_relaxed', **masks)
        for b, (n, m) in enumerate(SIZES):
            expected = (-cost[b, :n, :m] / .2).softmax(0) / m
            torch.testing.assert_close(plan[b, :n, :m], expected)

    @pytest.mark.parametrize('marginals', ['balanced', 'partial'])
    @pytest.mark.parametrize('epsilon', [0.001, 0.05, 1.])
    @pytest.mark.parametrize('num_iters', [1, 30])
    def test_feasible(self, marginals, epsilon, num_iters):
        cost, masks = padded(SIZES)
        plan = sinkhorn(cost, epsilon=epsilon, num_iters=num_iters,
                        marginals=marginals, **masks)
        assert (plan >= 0).all()
        for b, (n, m) in enumerate(SIZES):
            one = plan[b]
            assert one[n:].count_nonzero() == one[:, m:].count_nonzero() == 0
            rows, cols = one.sum(1)[:n], one.sum(0)[:m]
            if marginals == 'balanced':
                assert (rows - 1 / n).abs().max() < 1e-6
                assert (cols - 1 / m).abs().max() < 1e-6
            else:
                assert rows.max() < 1 + 1e-6 and cols.max() < 1 + 1e-6
                assert float(one.sum()) == pytest.approx(min(n, m))

    def test_lower_costs_than_any_other_plan(self):
        """A small entropy: the optimum, by linear assignment."""
        from scipy.optimize import linear_sum_assignment
        cost = random_cost(3, 9, 5)
        plan = sinkhorn(cost, epsilon=.002, num_iters=3000,
                        marginals='partial')
        for one, found in zip(cost, plan):
            best = one.numpy()[linear_sum_assignment(one.numpy())].sum()
            assert float((one * found).sum()) == pytest.approx(best, abs=1e-2)

    @pytest.mark.parametrize('marginals', ['balanced', 'partial'])
    def test_batch_and_padding(self, marginals):
        cost, masks = padded(SIZES)
        cost[2] *= 40  # the log domain, for the whole batch
        cost = cost.float()
        plan = sinkhorn(cost, epsilon=.1, marginals=marginals, **masks)
        for b, (n, m) in enumerate(SIZES):
            alone = sinkhorn(cost[b:b + 1, :n, :m], epsilon=.1,
                             marginals=marginals)
            torch.testing.assert_close(plan[b, :n, :m], alone[0], atol=2e-6,
                                       rtol=0)

    @pytest.mark.parametrize('marginals', ['balanced', 'partial'])
    @pytest.mark.parametrize('unmatched', [None, 1.])
    def test_large_costs_and_ties(self, marginals, unmatched):
        if marginals == 'balanced' and unmatched is not None:
            pytest.skip('for partial marginals only')
        # All columns want the same row.
        cost = torch.ones(2, 6, 4)
        cost[:, 2] = 0
        cost[1] = 1
        for scale in (1, 1000):
            x = (cost * scale).requires_grad_()
            plan = sinkhorn(x, epsilon=.01, marginals=marginals,
                            unmatched=unmatched)
            (plan * x).sum().backward()
            assert torch.isfinite(plan).all()
            assert torch.isfinite(x.grad).all()
            torch.testing.assert_close(
                plan[1], plan[1, :1, :1].expand(6, 4), atol=1e-5, rtol=0)

    @pytest.mark.parametrize('log_domain', [False, True])
    @pytest.mark.parametrize('kwargs', [
        dict(), dict(marginals='semi_relaxed'), dict(marginals='partial'),
        dict(marginals='partial', unmatched=.4)])
    def test_gradcheck(self, kwargs, log_domain, monkeypatch):
        if log_domain:
            monkeypatch.setattr(module, '_LINEAR_RANGE', 0.)
        cost = random_cost(2, 4, 3).requires_grad_()
        mask = torch.tensor([[True] * 4, [True, True, True, False]])
        assert torch.autograd.gradcheck(
            lambda x: sinkhorn(x, epsilon=.3, num_iters=7, tol=0,
                               row_mask=mask, **kwargs), cost)

    def test_envelope(self):
        """The plan is the gradient of the optimal value, entropy included."""
        cost = random_cost(1, 4, 3)

        def solve(x):
            return sinkhorn(x, epsilon=.2, num_iters=200, tol=0)

        def value(x):
            plan = solve(x)
            return (plan * x).sum() + .2 * (plan * (plan.log() - 1)).sum()

        plan, step = solve(cost), 1e-4
        for i in range(4):
            for j in range(3):
                move = torch.zeros_like(cost)
                move[0, i, j] = step
                slope = (value(cost + move) - value(cost - move)) / 2 / step
                assert float(slope) == pytest.approx(float(plan[0, i, j]),
                                                     abs=1e-6)

    def test_autocast(self):
        cost = random_cost(2, 4, 3, dtype=torch.float)
        plan = sinkhorn(cost, epsilon=.1)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert torch.equal(sinkhorn(cost, epsilon=.1), plan)


class TestGromovWasserstein:
    def test_cost_oracle(self):
        edge_s, edge_t = random_edges(2, 5, 3), random_edges(2, 4, 3, seed=1)
        plan = random_cost(2, 5, 4, seed=2)  # of no particular marginals
        value = gromov_wasserstein_cost(edge_s, edge_t, plan)
        for b in range(2):
            expected = gw_oracle(edge_s[b].numpy(), edge_t[b].numpy(),
                                 plan[b].numpy())
            assert float(value[b]) == pytest.approx(expected)

    def test_one_channel(self):
        edge_s, edge_t = random_edges(2, 5, 1), random_edges(2, 4, 1, seed=1)
        many = gromov_wasserstein(edge_s, edge_t)
        assert torch.equal(many, gromov_wasserstein(edge_s[..., 0],
                                                    edge_t[..., 0]))

    @pytest.mark.parametrize('solver', ['ipot', 'sinkhorn'])
    def test_feasible(self, solver):
        edge_s, edge_t = random_edges(3, 8, 2), random_edges(3, 5, 2, seed=1)
        plan = gromov_wasserstein(edge_s, edge_t, solver=solver)
        assert (plan.sum(2) - 1 / 8).abs().max() < 1e-6
        assert (plan.sum(1) - 1 / 5).abs().max() < 1e-6

    def test_published(self):
        """Five outer steps of twenty, as EEGA's code does."""
        s, t = (x[..., 0] for x in (random_edges(1, 5, 1),
                                    random_edges(1, 8, 1, seed=1)))
        plan = np.full((5, 8), 1 / 40)
        a, b = s[0].numpy(), t[0].numpy()
        for _ in range(5):
            const = ((a**2).mean(1)[:, None] + (b**2).mean(1)[None])
            plan = ipot_oracle(const - 2 * a @ plan @ b.T, .5, 300)
        found = gromov_wasserstein(s, t, solver='ipot', epsilon=.5,
                                   num_outer=5, num_iters=300, grad_scale=1)
        torch.testing.assert_close(found[0], torch.from_numpy(plan),
                                   atol=1e-4, rtol=0)

    def test_as_good_as_pot(self):
        """Local optima differ; the mean over cases must not."""
        ot = pytest.importorskip('ot')
        ours, theirs = [], []
        for seed in range(6):
            s = random_edges(1, 8, 1, seed=seed)[..., 0]
            t = random_edges(1, 8, 1, seed=seed + 50)[..., 0]
            plan = gromov_wasserstein(s, t, solver='proximal', epsilon=.05,
                                      num_outer=100)
            ours.append(float(gromov_wasserstein_cost(s, t, plan)))
            theirs.append(ot.gromov.gromov_wasserstein2(
                s[0].numpy(), t[0].numpy(), symmetric=True))
        assert np.mean(ours) < 1.1 * np.mean(theirs)

    def test_finds_a_permutation(self):
        generator = torch.Generator().manual_seed(0)
        edge = random_edges(1, 7, 1)
        order = torch.randperm(7, generator=generator)
        plan = gromov_wasserstein(edge, edge[:, order][:, :, order],
                                  epsilon=.005, num_outer=50)
        assert torch.equal(plan[0].argmax(0), order)

    @pytest.mark.parametrize('marginals', ['balanced', 'semi_relaxed',
                                           'partial'])
    def test_batch_and_padding(self, marginals):
        edge_s = random_edges(2, 8, 2, dtype=torch.float)
        edge_t = random_edges(2, 6, 2, seed=1, dtype=torch.float)
        cost = random_cost(2, 8, 6, dtype=torch.float)
        row = torch.arange(8) < torch.tensor([[8], [5]])
        col = torch.arange(6) < torch.tensor([[3], [6]])
        edge_s = edge_s * (row.unsqueeze(2) & row.unsqueeze(1)).unsqueeze(3)
        edge_t = edge_t * (col.unsqueeze(2) & col.unsqueeze(1)).unsqueeze(3)
        plan = gromov_wasserstein(edge_s, edge_t, cost=cost, row_mask=row,
                                  col_mask=col, marginals=marginals)
        for b, (n, m) in enumerate([(8, 3), (5, 6)]):
            alone = gromov_wasserstein(
                edge_s[b:b + 1, :n, :n], edge_t[b:b + 1, :m, :m],
                cost=cost[b:b + 1, :n, :m], marginals=marginals)
            torch.testing.assert_close(plan[b, :n, :m], alone[0], atol=2e-5,
                                       rtol=0)
            assert float(plan[b].sum()) == pytest.approx(
                float(alone[0].sum()), abs=1e-5)

    def test_gradcheck(self):
        edge_s = random_edges(1, 4, 2).requires_grad_()
        edge_t = random_edges(1, 3, 2, seed=1).requires_grad_()
        cost = random_cost(1, 4, 3).requires_grad_()

        def value(x, y, z):
            plan = gromov_wasserstein(x, y, cost=z, num_outer=3, num_iters=4,
                                      epsilon=.5, marginals='partial')
            return plan, gromov_wasserstein_cost(x, y, plan)

        assert torch.autograd.gradcheck(value, (edge_s, edge_t, cost))

    def test_large_costs(self):
        edge_s = random_edges(2, 6, 1, dtype=torch.float) * 1000
        edge_t = random_edges(2, 5, 1, dtype=torch.float, seed=1) * 1000
        for solver in 'sinkhorn', 'ipot':
            plan = gromov_wasserstein(edge_s, edge_t, solver=solver)
            assert torch.isfinite(plan).all()
            assert (plan.sum(2) - 1 / 6).abs().max() < 1e-4


@pytest.mark.parametrize('shape', [(0, 3, 4), (2, 0, 4), (2, 3, 0),
                                   (2, 0, 0)])
def test_empty(shape):
    cost = torch.rand(shape)
    edge_s = torch.rand(shape[0], shape[1], shape[1])
    edge_t = torch.rand(shape[0], shape[2], shape[2])
    for plan in (ipot(cost), sinkhorn(cost, epsilon=.1), round_plan(cost),
                 gromov_wasserstein(edge_s, edge_t, cost=cost)):
        assert plan.shape == shape


@pytest.mark.parametrize('marginals', ['balanced', 'semi_relaxed', 'partial'])
def test_empty_side_in_a_batch(marginals):
    cost = torch.rand(3, 4, 3, requires_grad=True)
    row = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    col = torch.tensor([[True] * 3, [True] * 3, [False] * 3])
    plan = sinkhorn(cost, epsilon=.1, row_mask=row, col_mask=col,
                    marginals=marginals)
    assert plan[0].sum() > 0.9 and plan[1:].count_nonzero() == 0
    (plan * cost).sum().backward()
    assert torch.isfinite(cost.grad).all()


def test_refusals():
    cost = torch.rand(2, 3, 4)
    with pytest.raises(ShapeError, match=r'\[B, n, m\]'):
        ipot(cost[0])
    with pytest.raises(ShapeError, match="'row_mask'"):
        ipot(cost, row_mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match="'col_mass'"):
        ipot(cost, col_mass=torch.ones(2, 3))
    for kwargs, text in (
        (dict(epsilon=0.), "'epsilon' must be positive"),
        (dict(epsilon=1., num_iters=0), "'num_iters' must be positive"),
        (dict(epsilon=1., marginals='partal'), "Did you mean 'partial'"),
        (dict(epsilon=1., unmatched=1.), "'unmatched' is for 'partial'"),
    ):
        with pytest.raises(ValueError, match=text):
            sinkhorn(cost, **kwargs)
    edge_s, edge_t = torch.rand(2, 3, 3), torch.rand(2, 4, 4)
    for kwargs, text in (
        (dict(alpha=2.), "'alpha' must be in"),
        (dict(solver='emd'), "'solver' must name"),
        (dict(solver='ipot', marginals='partial'), "must be 'balanced'"),
        (dict(cost=cost[:1]), "'cost' must have shape"),
    ):
        with pytest.raises(ValueError, match=text):
            gromov_wasserstein(edge_s, edge_t, **kwargs)
    with pytest.raises(ShapeError, match=r'\[B, n, n, C\]'):
        gromov_wasserstein(cost, edge_t)
    with pytest.raises(ShapeError, match='as many pairs and channels'):
        gromov_wasserstein(edge_s[:1], edge_t)
