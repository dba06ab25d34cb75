import json
import pickle

import numpy as np
import pytest
import torch

import mmgraph
from mmgraph.errors import ShapeError
from mmgraph.nn.conv import PairChannelConv
from mmgraph.testing import pair_channel_oracle

D, H, K, SIZES = 8, 2, 5, [4, 0, 1, 6]
PTR = torch.tensor([0, 4, 4, 5, 11])
BATCH = torch.repeat_interleave(torch.arange(4), PTR.diff())
# Post by post, the upper triangle row by row.
PAIRS = torch.cat([torch.triu_indices(n, n) + first
                   for n, first in zip(SIZES, PTR.tolist())], 1)


def draw(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def draw_ids(count, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(K, (count, ), generator=generator)


IDS = {False: draw_ids(PAIRS.size(1)), True: draw_ids(11)}
both = pytest.mark.parametrize('additive', [False, True],
                               ids=['pairs', 'additive'])


def make(additive=False, **kwargs):
    conv = PairChannelConv(D, K, additive=additive, **{
        **dict(edge_dim=3, num_heads=H), **kwargs})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return conv.double().eval()


def run(conv, x, ids=None, ptr=PTR, pairs=PAIRS):
    ids = IDS[conv.additive] if ids is None else ids
    batch = torch.repeat_interleave(torch.arange(len(ptr) - 1), ptr.diff())
    return conv(x, ids, batch, ptr, None if conv.additive else pairs)


def own(b, additive):
    """The ids and pairs of one post."""
    first, last = PTR[b], PTR[b + 1]
    if additive:
        return IDS[True][first:last], None
    mine = (PAIRS[0] >= first) & (PAIRS[0] < last)
    return IDS[False][mine], PAIRS[:, mine] - first


@both
def test_is_the_formula(additive):
    conv, x = make(additive), draw(11, D)
    out = run(conv, x).detach().numpy()
    weights = {name: value.numpy()
               for name, value in conv.state_dict().items()}
    for b, n in enumerate(SIZES):
        ids, pairs = own(b, additive)
        full = ids.numpy()
        if not additive:
            full = np.zeros((n, n), dtype=int)
            for i, j, value in zip(*pairs.tolist(), ids.tolist()):
                full[i, j] = full[j, i] = value
        rows = slice(PTR[b], PTR[b + 1])
        np.testing.assert_allclose(
            out[rows], pair_channel_oracle(weights, x[rows].numpy(), full, H),
            atol=1e-12)


def test_scores_depend_on_ids_alone():
    """Some heads and pairs are above zero and some below, before the ReLU."""
    conv = make()
    score = conv.lin_edge(conv.embedding.weight).view(K, H, -1) @ conv.score
    assert (score > 0).any() and (score < 0).any()
    x = draw(11, D)
    assert (run(conv, x, IDS[False].roll(1)) - run(conv, x))[
        [0, 1, 2, 3, 5, 6]].abs().max() > 1e-3
    # One id for all: everybody hears the mean.
    out = run(conv, x, torch.zeros_like(IDS[False]))
    value = conv.lin_value(x)
    for first, last in zip(PTR[:-1], PTR[1:]):
        torch.testing.assert_close(
            out[first:last], (x[first:last] + value[first:last].mean(0)
                              ).relu())


@both
def test_alone(additive):
    conv, x = make(additive), draw(11, D)
    out = run(conv, x)
    for b, n in enumerate(SIZES):
        ids, pairs = own(b, additive)
        rows = slice(PTR[b], PTR[b + 1])
        alone = conv(x[rows], ids, torch.zeros(n, dtype=torch.long),
                     torch.tensor([0, n]), pairs)
        torch.testing.assert_close(alone, out[rows])


@both
def test_order(additive):
    """The words of the last post in another order."""
    conv, x = make(additive), draw(11, D)
    out = run(conv, x)
    order = torch.arange(11)
    order[5:] = 5 + torch.tensor([3, 0, 5, 2, 4, 1])
    if additive:
        ids = IDS[True][order]
    else:
        full = torch.zeros(11, 11, dtype=torch.long)
        full[PAIRS[0], PAIRS[1]] = full[PAIRS[1], PAIRS[0]] = IDS[False]
        ids = full[order[PAIRS[0]], order[PAIRS[1]]]
        # Pairs may come in any order, and either way round.
        pairs = torch.randperm(PAIRS.size(1))
        torch.testing.assert_close(
            run(conv, x, IDS[False][pairs], pairs=PAIRS[:, pairs].flip(0)),
            out)
    torch.testing.assert_close(run(conv, x[order], ids), out[order])


@both
def test_gradcheck(additive):
    conv = make(additive)
    names = [name for name, _ in conv.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(
            conv, dict(zip(names, values)),
            (x, IDS[additive], BATCH, PTR, PAIRS))

    x = draw(11, D).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *conv.parameters()))
    call(x, *conv.parameters()).sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad.any(), name


@both
def test_empty(additive):
    conv = make(additive).train()
    none = torch.empty(0, dtype=torch.long)
    for ptr in ([0], [0, 0, 0]):
        x = draw(0, D).requires_grad_()
        out = conv(x, none, none, torch.tensor(ptr),
                   torch.empty(2, 0, dtype=torch.long))
        assert out.shape == (0, D)
        out.sum().backward()
        assert all(p.grad is not None for p in [conv.lin_value.weight])


@both
def test_one_word(additive):
    conv, x = make(additive), draw(1, D)
    out = conv(x, torch.tensor([3]), torch.tensor([0]), torch.tensor([0, 1]),
               torch.tensor([[0], [0]]))
    torch.testing.assert_close(out, (x + conv.lin_value(x)).relu())


@both
def test_dropout_only_in_training(additive):
    conv, x = make(additive, dropout=0.5).train(), draw(11, D)
    assert not torch.equal(run(conv, x), run(conv, x))
    state = torch.get_rng_state()
    one = run(conv, x)
    torch.set_rng_state(state)
    assert torch.equal(run(conv, x), one)
    conv.eval()
    state = torch.get_rng_state()
    assert torch.equal(run(conv, x), run(conv, x))
    assert torch.equal(torch.get_rng_state(), state)


@both
def test_large_scores(additive):
    conv = make(additive).float()
    conv.embedding.weight.data.mul_(1e4)
    x = draw(11, D).float().requires_grad_()
    out = run(conv, x)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


@both
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.half, torch.float])
def test_dtypes(additive, dtype):
    conv = make(additive).to(dtype)
    out = run(conv, draw(11, D).to(dtype))
    out.sum().backward()
    assert out.dtype == dtype and out.isfinite().all()
    conv = make(additive).float()
    with torch.autocast('cpu', torch.bfloat16):
        out = run(conv, draw(11, D).float())
    out.sum().backward()
    assert out.isfinite().all()


def test_start():
    conv = PairChannelConv(96, 12)
    assert conv.num_heads == 12 and conv.score.shape == (8, )
    assert conv.embedding.weight.shape == (12, 100)
    assert 0.017 < conv.embedding.weight.std() < 0.023
    before = conv.score.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.score)
    assert {name for name, _ in conv.named_parameters()} == {
        'score', 'embedding.weight', 'lin_edge.weight', 'lin_value.weight'}


@both
def test_config_and_pickle(additive):
    conv = make(additive, dropout=0.1)
    config = json.loads(json.dumps(conv.get_config()))
    again = PairChannelConv.from_config(config).double().eval()
    again.load_state_dict(conv.state_dict())
    x = draw(11, D)
    for other in again, pickle.loads(pickle.dumps(conv)):
        assert torch.equal(run(other, x), run(conv, x))
        assert other.dropout.p == 0.1
    assert repr(conv) == ('PairChannelConv(8, num_ids=5, num_heads=2, '
                          f'additive={additive})')


def test_errors():
    with pytest.raises(ValueError, match=r"'channels' must be divisible by "
                       r"'num_heads' \(got 8 and 3\)"):
        PairChannelConv(8, 4, num_heads=3)
    with pytest.raises(ValueError, match=r"'num_ids' must be positive"):
        PairChannelConv(8, 0)
    conv, x = make(), draw(11, D)
    ids = IDS[False].clone()
    ids[7] = 5
    with pytest.raises(ValueError, match=r"^'ids' must be in \[0, 5\) "
                       r'\(got 5 at 7\)\.$'):
        run(conv, x, ids)
    with pytest.raises(ValueError, match=r"'pair_index' must be given where "
                       r'ids are of pairs \(got None\)'):
        conv(x, IDS[False], BATCH, PTR)
    with pytest.raises(ShapeError, match=r'one id a pair, shape \[32\] '
                       r'\(got \[11\]\)'):
        run(conv, x, IDS[True])
    with pytest.raises(ShapeError, match=r"'pair_index' must list the 32 "
                       r'pairs i <= j of all posts \(got 31\)'):
        run(conv, x, IDS[False][1:], pairs=PAIRS[:, 1:])
    with pytest.raises(ShapeError, match=r"'x' must have shape \[N, 8\]"):
        run(conv, x[:, :7])
    with pytest.raises(ShapeError, match=r'one id a word, shape \[11\] '
                       r'\(got \[32\]\)'):
        run(make(True), x, IDS[False])
    with mmgraph.checks(False):
        run(conv, x)
