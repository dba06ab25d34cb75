import json

import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.functional import ipot, round_plan, sinkhorn
from mmgraph.nn.align.transport import TransportAligner
from mmgraph.nn.configurable import build_from_config
from tests.nn.align.cases import AlignerCase, collate


def no_edges(x):
    return GraphView.single(torch.empty(2, 0, dtype=torch.long), len(x), x=x)


def pair_of(n, m, channels=16, noise=.3, seed=0):
    """The first target nodes are noisy copies of the first source nodes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, generator=generator)
    y = torch.randn(m, channels, generator=generator)
    k = min(n, m)
    y[:k] = x[:k] + noise * torch.randn(k, channels, generator=generator)
    return no_edges(x), no_edges(y)


class TestTransportAligner(AlignerCase):
    cls = TransportAligner
    channels = (8, 8)


class TestMapped(AlignerCase):
    cls = TransportAligner
    kwargs = dict(source_channels=8, target_channels=6, hidden_channels=5)


class TestMappedUnrolled(AlignerCase):
    cls = TransportAligner
    kwargs = dict(source_channels=8, target_channels=6, hidden_channels=5,
                  grad='unroll', unmatched=1.)


class TestIPOT(AlignerCase):
    cls = TransportAligner
    channels = (8, 8)
    kwargs = dict(solver='ipot', marginals='balanced', cut=.1)


class TestEuclidean(AlignerCase):
    cls = TransportAligner
    channels = (8, 8)
    kwargs = dict(cost='euclidean', marginals='semi_relaxed')


def test_oracle():
    """One pair, node by node."""
    source, target = pair_of(6, 4)
    cost = [[1 - float(torch.cosine_similarity(x, y, dim=0))
             for y in target.x] for x in source.x]
    best = [min(row[j] for row in cost) for j in range(4)]
    mean = sum(best) / 4
    var = sum((b - mean)**2 for b in best) / 3
    tau = max(var / mean, 2 * mean / 16)
    scaled = torch.tensor([[min(row[j], best[j] + 30 * tau) / tau
                            for j in range(4)] for row in cost])
    expected = sinkhorn(scaled[None], epsilon=1, num_iters=50,
                        marginals='partial')[0]
    out = TransportAligner()(source, target)
    torch.testing.assert_close(out.dense()[0], expected, atol=1e-5, rtol=0)
    value = (expected * torch.tensor(cost)).sum() / expected.sum()
    torch.testing.assert_close(out.loss, value)


def test_unmatched():
    """Objects like no word keep to themselves, and so do words."""
    source, target = pair_of(12, 6, channels=64)
    far = target.x.clone()
    far[4:] = torch.randn(2, 64, generator=torch.Generator().manual_seed(5))
    plan = TransportAligner(unmatched=2.)(
        source, target._replace(x=far)).dense()[0]
    assert plan[range(4), range(4)].min() > 0.7
    assert plan[:, 4:].max() < 0.05 and plan[4:].max() < 0.05
    whole = TransportAligner()(source, target._replace(x=far)).dense()[0]
    torch.testing.assert_close(whole.sum(0), torch.ones(6))


def test_more_targets_than_sources():
    source, target = pair_of(3, 9)
    plan = TransportAligner()(source, target).dense()[0]
    torch.testing.assert_close(plan.sum(1), torch.ones(3))
    assert plan.sum(0).max() < 1 + 1e-6
    assert plan.argmax(1).tolist() == [0, 1, 2]


def test_ipot():
    source, target = pair_of(6, 4)
    aligner = TransportAligner(solver='ipot', marginals='balanced', cut=.1)
    cost = 1 - torch.cosine_similarity(source.x.unsqueeze(1),
                                       target.x.unsqueeze(0), dim=2)
    theta = cost.min() + .1 * (cost.max() - cost.min())
    cost = (cost - theta).clamp(min=0)[None]
    plan = round_plan(ipot(cost, beta=.5, num_iters=50))
    out = aligner.transport(source, target)
    torch.testing.assert_close(out.plan, plan, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.wd, (plan * cost).sum((1, 2)))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(unmatched=1.), dict(marginals='semi_relaxed'),
    dict(marginals='balanced', cost='euclidean'),
    dict(marginals='balanced', solver='ipot')])
def test_zero_rows_and_copies(kwargs):
    """No NaN, forward or backward."""
    x = torch.randn(5, 4)
    x[2:4] = 0
    x.requires_grad_()
    for y in (x.detach(), torch.zeros(3, 4), torch.full((3, 4), 1e4)):
        out = TransportAligner(**kwargs)(no_edges(x), no_edges(y))
        assert torch.isfinite(out.match_score).all()
        (out.loss + out.match_score.square().sum()).backward()
        assert torch.isfinite(x.grad).all()


def test_loss_is_a_mean_over_pairs_with_two_sides():
    pairs = [pair_of(5, 3), pair_of(4, 6, seed=1)]
    empty = pair_of(5, 3)[0], no_edges(torch.empty(0, 16))
    aligner = TransportAligner()
    losses = [aligner(*pair).loss for pair in pairs]
    together = aligner(*map(collate, zip(*pairs, empty, strict=True)))
    torch.testing.assert_close(together.loss, sum(losses) / 2)
    assert aligner(*empty).loss == 0


def test_envelope_gradient():
    """With an exact plan the gradient of the loss is that of its value."""
    source, target = pair_of(5, 4)
    source = source._replace(x=source.x.double())
    target = target._replace(x=target.x.double())
    aligner = TransportAligner(solver='ipot', marginals='balanced',
                               num_iters=2000, beta=.1)

    def value(x):
        return aligner(source._replace(x=x), target).loss

    x = source.x.clone().requires_grad_()
    value(x).backward()
    step = 1e-5
    for place in ((0, 0), (2, 5), (4, 15)):
        move = torch.zeros_like(source.x)
        move[place] = step
        slope = (value(source.x + move) - value(source.x - move)) / 2 / step
        assert float(x.grad[place]) == pytest.approx(float(slope), abs=1e-6)


def test_unrolled_gradient():
    source, target = pair_of(4, 3, channels=4)
    aligner = TransportAligner(grad='unroll', temperature=.5, num_iters=4)

    def both(x, y):
        out = aligner(source._replace(x=x), target._replace(x=y))
        return out.loss, out.match_score

    assert torch.autograd.gradcheck(both, (
        source.x.double().requires_grad_(),
        target.x.double().requires_grad_()))


def test_last_scaling_gradient():
    """Scores have the gradient of a softmax over columns."""
    source, target = pair_of(5, 3, channels=4)
    x = source.x.clone().requires_grad_()
    kwargs = dict(marginals='semi_relaxed', temperature=.5)
    weight = torch.arange(15.).view(5, 3)
    grads = []
    for grad in 'envelope', 'unroll':
        x.grad = None
        aligner = TransportAligner(grad=grad, **kwargs)
        out = aligner(source._replace(x=x), target).dense()[0]
        (out * weight).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


def test_learns():
    """Maps from pairs alone, without matches, by the loss."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    x = torch.randn(6, 8, generator=generator)
    source, target = no_edges(x), no_edges(x @ turn)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        aligner = TransportAligner(8, 8, 8, temperature=.1)
    optimizer = torch.optim.Adam(aligner.parameters(), lr=.02)
    first = aligner(source, target).loss
    for _ in range(60):
        optimizer.zero_grad()
        loss = aligner(source, target).loss
        loss.backward()
        optimizer.step()
    assert loss < first / 3


def test_config():
    aligner = TransportAligner(8, 6, 5, unmatched=1.5, temperature=.2)
    config = json.loads(json.dumps(aligner.get_config()))
    again = build_from_config(config)
    assert again.get_config() == aligner.get_config()
    assert again.unmatched == 1.5


def test_autocast():
    source, target = pair_of(6, 4)
    aligner = TransportAligner()
    expected = aligner(source, target).match_score
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = aligner(source, target).match_score
    assert torch.equal(found, expected)


def test_refusals():
    for kwargs, text in (
        (dict(cost='cosin'), "Did you mean 'cosine'"),
        (dict(solver='emd'), "'solver' must be one of"),
        (dict(marginals='full'), "'marginals' must be one of"),
        (dict(grad='none'), "'grad' must be one of"),
        (dict(temperature=0.), "'temperature' must be positive"),
        (dict(num_iters=0), "'num_iters' must be positive"),
        (dict(cut=1.), r"'cut' must be in \[0, 1\)"),
        (dict(solver='ipot'), "'marginals' must be 'balanced' for 'ipot'"),
        (dict(marginals='balanced', unmatched=1.), "'unmatched' is for"),
        (dict(hidden_channels=4), "'hidden_channels' needs"),
    ):
        with pytest.raises(ValueError, match=text):
            TransportAligner(**kwargs)
    source, target = pair_of(4, 3)
    with pytest.raises(ValueError, match=r"'target\.x' must be given"):
        TransportAligner()(source, target._replace(x=None))
    with pytest.raises(ShapeError, match='as many channels'):
        TransportAligner()(source, target._replace(x=target.x[:, 1:]))
    with pytest.raises(ShapeError, match=r"'source\.x' must have shape"):
        TransportAligner(3, 16, 4)(source, target)
