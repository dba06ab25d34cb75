import json

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data.view import GraphView
from mmgraph.datasets import PlantedPairs
from mmgraph.nn.align.edge_enhanced import EdgeEnhancedAligner, hop_edges
from mmgraph.nn.align.functional import (
    gromov_wasserstein,
    gromov_wasserstein_cost,
)
from mmgraph.nn.align.transport import TransportAligner
from mmgraph.nn.configurable import build_from_config
from tests.nn.align.cases import AlignerCase, collate
from tests.nn.align.test_transport import no_edges


class TestEdgeEnhancedAligner(AlignerCase):
    cls = EdgeEnhancedAligner
    channels = (8, 8)
    atol = 2e-5  # ten linearisations carry rounding on


class TestMapped(AlignerCase):
    cls = EdgeEnhancedAligner
    kwargs = dict(source_channels=8, target_channels=6, hidden_channels=5,
                  unmatched=1.)
    atol = 2e-5


class TestTypes(AlignerCase):
    cls = EdgeEnhancedAligner
    channels = (8, 8)
    kwargs = dict(edge_cost='type', num_edge_types=4)
    atol = 2e-5


class TestAttributes(AlignerCase):
    cls = EdgeEnhancedAligner
    channels = (8, 8)
    kwargs = dict(edge_cost='attr', label_weight=.5, marginals='semi_relaxed')
    atol = 2e-5


class TestEEGA(AlignerCase):
    cls = EdgeEnhancedAligner
    channels = (8, 8)
    kwargs = dict(EdgeEnhancedAligner.eega(num_iters=20)._config_args)
    atol = 2e-5


def hop_oracle(view, hops, labels, weight):
    """Path by path."""
    n = view.num_nodes
    near = [set() for _ in range(n)]
    values = {}
    for e, (i, j) in enumerate(view.edge_index.t().tolist()):
        if i != j:
            near[i].add(j)
            near[j].add(i)
            for key in {(i, j), (j, i)}:
                values.setdefault(key, []).append(labels[e])
    single = {key: torch.stack(value).mean(0)
              for key, value in values.items()}
    out = torch.zeros(n, n, 1 + labels.size(1))
    for start in range(n):
        seen, paths = {start}, [[start]]
        for h in range(1, hops + 1):
            paths = [path + [j] for path in paths for j in near[path[-1]]
                     if j not in seen]
            ends = {path[-1] for path in paths}
            seen |= ends
            fade = (hops + 2 - h) / (hops + 1)
            for end in ends:
                mine = [path for path in paths if path[-1] == end]
                mean = sum(single[path[k], path[k + 1]] for path in mine
                           for k in range(h)) / h / len(mine)
                out[start, end, 0] = fade
                out[start, end, 1:] = mean * fade * weight
    return out


@pytest.mark.parametrize('hops', [1, 2, 3, 5])
def test_hop_edges(hops):
    case = TestEdgeEnhancedAligner()
    views = [case.graph(n, 8, seed) for seed, n in enumerate((9, 1, 12, 4))]
    batch = collate(views)
    found = hop_edges(batch, hops, batch.edge_attr, .7)
    plain = hop_edges(batch, hops, None, .7)
    assert torch.equal(plain[..., 0], found[..., 0])
    for b, view in enumerate(views):
        n = view.num_nodes
        expected = hop_oracle(view, hops, view.edge_attr, .7)
        torch.testing.assert_close(found[b, :n, :n], expected)
        assert found[b, n:].count_nonzero() == 0
        assert found[b, :, n:].count_nonzero() == 0


@pytest.mark.parametrize('kwargs', [
    dict(), dict(alpha=0.), dict(alpha=1.), dict(unmatched=1.),
    dict(marginals='balanced'), dict(marginals='semi_relaxed'),
    dict(edge_cost='attr'), dict(plans='separate'),
    dict(edge_cost='feature')])
def test_terms(kwargs):
    """The terms are those of the plan, and the loss mixes them."""
    case = TestEdgeEnhancedAligner()
    source, target = case.batch(case.sizes)
    aligner = EdgeEnhancedAligner(**kwargs)
    out = aligner.transport(source, target)
    torch.testing.assert_close(out.loss, (
        aligner.alpha * out.wd + (1 - aligner.alpha) * out.gwd).mean())
    if aligner.plans == 'separate':
        return
    mass = out.plan.sum((1, 2)).view(-1, 1, 1)
    assert (mass > 0).all()
    cost = aligner.node_cost(source, target)
    torch.testing.assert_close(out.wd, (out.plan / mass * cost).sum((1, 2)))
    torch.testing.assert_close(out.gwd, gromov_wasserstein_cost(
        *aligner.edges(source, target), out.plan / mass))


@pytest.mark.parametrize('marginals', ['balanced', 'partial'])
def test_feasible(marginals):
    case = TestEdgeEnhancedAligner()
    source, target = case.batch(case.sizes)
    plan = EdgeEnhancedAligner(marginals=marginals)(source, target).dense()
    for one, (n, m) in zip(plan, case.sizes):
        rows, cols = one.sum(1)[:n], one.sum(0)[:m]
        if marginals == 'balanced':
            assert (rows - 1 / n).abs().max() < 1e-6
            assert (cols - 1 / m).abs().max() < 1e-6
        else:
            assert rows.max() < 1 + 1e-5 and cols.max() < 1 + 1e-5
            assert float(one.sum()) == pytest.approx(min(n, m), rel=1e-5)


def test_nodes_only():
    """With alpha = epsilon = 1 it is the transport of nodes."""
    case = TestEdgeEnhancedAligner()
    source, target = case.batch(case.sizes)
    found = EdgeEnhancedAligner(alpha=1., epsilon=1., num_iters=300)(
        source, target)
    expected = TransportAligner(num_iters=300)(source, target)
    torch.testing.assert_close(found.match_score, expected.match_score,
                               atol=1e-4, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=0)


def test_edges_only():
    """Without features, a tree without symmetries finds its copy."""
    edges = torch.tensor([[0, 0, 2, 0, 4, 5], [1, 2, 3, 4, 5, 6]])
    view = GraphView.single(edges, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    other = GraphView.single(place[edges], 7)
    out = EdgeEnhancedAligner(source_hops=3, target_hops=3, alpha=0.,
                              epsilon=.1, num_outer=200)(view, other)
    row, col = out.match('lap').match_index
    assert torch.equal(order[col], row)
    assert torch.isfinite(out.loss)


@pytest.mark.parametrize('kwargs, least', [
    (dict(), 0.85), (dict(edge_cost='type', num_edge_types=8), 0.88),
    (dict(unmatched=2.), 0.83)])
def test_planted(kwargs, least):
    """Far above cosines, 0.70 on these pairs."""
    data = PlantedPairs(num_pairs=100, seed=7)
    batch = Batch.from_data_list(list(data))
    out = EdgeEnhancedAligner(**kwargs)(batch.source, batch.target)
    word, thing = batch.match_index
    best = out.dense().argmax(1) + batch.source.ptr[:-1, None]
    gold = torch.empty(1000, dtype=torch.long)
    gold[thing] = word
    assert float((best.view(-1) == gold).float().mean()) > least


def test_eega_by_hand():
    """Both terms from the formulas, with their own plans."""
    case = TestEEGA()
    source, target = case.pairs([(7, 4)])[0]
    out = EdgeEnhancedAligner.eega().transport(source, target)
    nodes = TransportAligner(solver='ipot', marginals='balanced', cut=.1)
    torch.testing.assert_close(out.wd, nodes.transport(source, target).wd)

    def structure(view):
        x = view.x / view.x.norm(dim=1, keepdim=True)
        far = (1 - x @ x.t()).clamp(min=0)
        theta = far.min() + .1 * (far.max() - far.min())
        joined = torch.zeros(len(x), len(x), dtype=torch.bool)
        joined[view.edge_index[0], view.edge_index[1]] = True
        edge = torch.where(joined | joined.t(), (far - theta).relu(), 1.)
        return edge.fill_diagonal_(0)[None]

    edges = structure(source), structure(target)
    plan = gromov_wasserstein(*edges, solver='ipot', epsilon=.1, num_outer=5,
                              num_iters=50, grad_scale=1.)
    torch.testing.assert_close(out.gwd, gromov_wasserstein_cost(*edges, plan),
                               atol=1e-5, rtol=0)
    assert (out.plan.sum(2) - 1 / 7).abs().max() < 1e-4
    assert (out.plan.sum(1) - 1 / 4).abs().max() < 1e-4


@pytest.mark.parametrize('alpha', [0., .4, 1.])
@pytest.mark.parametrize('make', [EdgeEnhancedAligner,
                                  EdgeEnhancedAligner.eega])
def test_loss_is_differentiable(make, alpha):
    case = TestEdgeEnhancedAligner()
    source, target = case.batch(case.sizes)
    x = source.x.clone().requires_grad_()
    loss = make(alpha=alpha, edge_cost='feature')(
        source._replace(x=x), target).loss
    loss.backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


def test_unrolled_gradient():
    case = TestEdgeEnhancedAligner()
    source, target = case.pairs([(4, 3)])[0]
    aligner = EdgeEnhancedAligner(
        grad='unroll', temperature=.5, num_outer=2, num_iters=2,
        edge_cost='attr')

    def both(x, y, a):
        out = aligner(source._replace(x=x, edge_attr=a),
                      target._replace(x=y))
        return out.loss, out.match_score

    assert torch.autograd.gradcheck(both, (
        source.x.double().requires_grad_(),
        target.x.double().requires_grad_(),
        source.edge_attr.double().requires_grad_()))


def test_zero_rows():
    x = torch.zeros(4, 3, requires_grad=True)
    for aligner in EdgeEnhancedAligner(), EdgeEnhancedAligner.eega():
        out = aligner(no_edges(x), no_edges(torch.ones(3, 3)))
        out.loss.backward()
        assert torch.isfinite(out.match_score).all()
        assert torch.isfinite(x.grad).all()


def test_config():
    aligner = EdgeEnhancedAligner.eega(alpha=.3)
    config = json.loads(json.dumps(aligner.get_config()))
    again = build_from_config(config)
    assert again.get_config() == aligner.get_config()
    assert again.alpha == .3 and again.solver == 'ipot'


def test_refusals():
    for kwargs, text in (
        (dict(alpha=1.1), r"'alpha' must be in \[0, 1\]"),
        (dict(alpha=0., unmatched=1.), "'alpha' must be positive"),
        (dict(edge_cost='label'), "'edge_cost' must be one of"),
        (dict(non_edge='one'), "'non_edge' must be one of"),
        (dict(plans='fuse'), "Did you mean 'fused'"),
        (dict(source_hops=0), "'source_hops' must be positive"),
        (dict(epsilon=0.), "'epsilon' must be positive"),
        (dict(edge_cost='type'), "'num_edge_types' must be given"),
        (dict(num_edge_types=3), "'num_edge_types' must be given"),
        (dict(solver='ipot', marginals='balanced'), "must be 'separate'"),
    ):
        with pytest.raises(ValueError, match=text):
            EdgeEnhancedAligner(**kwargs)
    view = GraphView.single(torch.tensor([[0], [1]]), 3,
                            x=torch.randn(3, 4))
    for kwargs, text in (
        (dict(edge_cost='attr'), r"'source\.edge_attr' must be given"),
        (dict(edge_cost='type', num_edge_types=2),
         r"'source\.edge_type' must be given"),
    ):
        with pytest.raises(ValueError, match=text):
            EdgeEnhancedAligner(**kwargs)(view, view)
