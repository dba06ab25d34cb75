import json
import math
import pickle

import pytest
import torch
from torch_geometric.nn import TransformerConv

import mmgraph
from mmgraph.errors import ShapeError
from mmgraph.nn.conv import AttributeConv
from mmgraph.testing import attribute_conv_oracle

D, H, R, SIZES = 8, 2, 4, [5, 0, 1, 3]
PTR = [0, 5, 5, 6, 9]
# Two labels of one pair, an edge twice, an edge both ways, a loop; node 3 of
# the first graph and the only one of the third have no edge.
EDGES = torch.tensor([[0, 0, 1, 2, 4, 4, 0, 2, 6, 7],
                      [1, 1, 2, 1, 0, 0, 4, 2, 7, 8]])
TYPES = torch.tensor([3, 1, 0, 0, 2, 2, 1, 3, 0, 1])
settings = pytest.mark.parametrize('kwargs', [
    dict(), dict(inverse_types=True), dict(share_edge_proj=True)],
    ids=['default', 'inverse', 'shared'])


def draw(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def make(**kwargs):
    conv = AttributeConv(D, R, **{**dict(edge_dim=3, num_heads=H), **kwargs})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return conv.double().eval()


def weights(conv):
    return {name: value.numpy() for name, value in conv.state_dict().items()}


def expected(conv, x, edges, types):
    out = []
    for first, last in zip(PTR, PTR[1:]):
        own = (edges[0] >= first) & (edges[0] < last)
        out.append(torch.from_numpy(attribute_conv_oracle(
            weights(conv), x[first:last].numpy(),
            (edges[:, own] - first).t().tolist(),
            None if types is None else types[own].tolist(), R, H,
            conv.inverse_types)))
    return torch.cat(out)


@settings
@pytest.mark.parametrize('types', [TYPES, None], ids=['typed', 'untyped'])
def test_is_the_formula(kwargs, types):
    conv, x = make(**kwargs), draw(9, D)
    torch.testing.assert_close(conv(x, EDGES, types),
                               expected(conv, x, EDGES, types))


def test_labels_count():
    conv, x = make(), draw(9, D)
    out = conv(x, EDGES, TYPES)
    for types in None, TYPES.roll(1):
        gap = (conv(x, EDGES, types) - out).abs().amax(1)
        assert gap[[0, 1, 2, 4, 6, 7, 8]].min() > 1e-3
        assert gap[[3, 5]].max() == 0  # no edges


@settings
def test_alone(kwargs):
    conv, x = make(**kwargs), draw(9, D)
    out = conv(x, EDGES, TYPES)
    for first, last in zip(PTR, PTR[1:]):
        own = (EDGES[0] >= first) & (EDGES[0] < last)
        torch.testing.assert_close(
            conv(x[first:last], EDGES[:, own] - first, TYPES[own]),
            out[first:last])


@settings
def test_order(kwargs):
    conv, x = make(**kwargs), draw(9, D)
    out = conv(x, EDGES, TYPES)
    generator = torch.Generator().manual_seed(3)
    nodes = torch.randperm(9, generator=generator)
    edges = torch.randperm(10, generator=generator)
    place = torch.argsort(nodes)
    again = conv(x[nodes], place[EDGES[:, edges]], TYPES[edges])
    torch.testing.assert_close(again, out[nodes])


def test_set_of_labelled_edges():
    conv, x = make(), draw(9, D)
    out = conv(x, EDGES, TYPES)
    # Both directions, and all of it twice; without the loop.
    both = torch.cat([EDGES, EDGES.flip(0)], 1).repeat(1, 2)
    torch.testing.assert_close(conv(x, both, TYPES.repeat(4)), out)
    torch.testing.assert_close(conv(x, EDGES.flip(0), TYPES), out)
    kept = EDGES[0] != EDGES[1]
    torch.testing.assert_close(conv(x, EDGES[:, kept], TYPES[kept]), out)
    # One of two labels of a pair less is another graph.
    assert (conv(x, EDGES[:, 1:], TYPES[1:]) - out)[:2].abs().min() > 1e-6
    told = make(inverse_types=True)
    assert (told(x, EDGES.flip(0), TYPES) - told(x, EDGES, TYPES)
            )[[0, 1, 4, 6, 7, 8]].abs().amax(1).min() > 1e-3


def test_against_pyg():
    """PyG's TransformerConv: one map of the label, a root weight."""
    conv, x = make(share_edge_proj=True), draw(9, D)
    peer = TransformerConv(D, D // H, heads=H, edge_dim=3,
                           root_weight=False).double()
    state = {name.replace('edge_key', 'edge'): value
             for name, value in conv.state_dict().items()}
    missing = peer.load_state_dict(state, strict=False).missing_keys
    assert missing == ['lin_skip.weight', 'lin_skip.bias']  # not used
    conv.lin_edge_key.bias.data.zero_()
    kept = torch.tensor([0, 1, 2, 4, 6, 8, 9])  # each labelled edge once
    edges, types = EDGES[:, kept], TYPES[kept]
    node = torch.arange(9)
    edge_index = torch.cat([edges, edges.flip(0), node.repeat(2, 1)], 1)
    label = torch.cat([types, types, torch.full((9, ), R)])
    heard = peer(x, edge_index, conv.embedding.weight[label])
    u = conv.norm_1(x + heard)
    torch.testing.assert_close(conv(x, edges, types),
                               conv.norm_2(u + conv.lin_out(u)))


@settings
def test_gradcheck(kwargs):
    conv = make(**kwargs)
    names = [name for name, _ in conv.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(
            conv, dict(zip(names, values)), (x, EDGES[:, :7], TYPES[:7]))

    x = draw(5, D).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *conv.parameters()))


def test_empty():
    conv = make().train()
    none = torch.empty(2, 0, dtype=torch.long)
    for types in (None, none[0]):
        out = conv(draw(0, D), none, types)
        assert out.shape == (0, D)
        out.sum().backward()
    x = draw(3, D)
    conv.eval()
    out = conv(x, none, none[0])  # Each node hears itself alone.
    heard = conv.lin_value(x) + conv.lin_edge_value(conv.embedding.weight[-1])
    u = conv.norm_1(x + heard)
    torch.testing.assert_close(out, conv.norm_2(u + conv.lin_out(u)))


def test_every_parameter_learns():
    conv = make(inverse_types=True)
    (conv(draw(9, D), EDGES, TYPES) * draw(9, D)).sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # A softmax does not see what all keys have in common.
        constant = name in {'lin_key.bias', 'lin_edge_key.bias'}
        assert (parameter.grad.abs().max() < 1e-9) == constant, name


def test_dropout_only_in_training():
    conv, x = make(dropout=0.5).train(), draw(9, D)
    assert not torch.equal(conv(x, EDGES, TYPES), conv(x, EDGES, TYPES))
    state = torch.get_rng_state()
    one = conv(x, EDGES, TYPES)
    torch.set_rng_state(state)
    assert torch.equal(conv(x, EDGES, TYPES), one)
    conv.eval()
    state = torch.get_rng_state()
    assert torch.equal(conv(x, EDGES, TYPES), conv(x, EDGES, TYPES))
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_of_weights():
    """On average nothing changes but what passes the layer norms."""
    conv, x = make(dropout=0.3).train(), draw(9, D)
    messages = conv._messages(x, EDGES, TYPES)
    with torch.no_grad():
        mean = sum(conv._attend(x, *messages) for _ in range(4000)) / 4000
        exact = conv.eval()._attend(x, *messages)
    assert (mean - exact).abs().max() < 0.05 * exact.abs().max()


def test_large_logits():
    conv = make().float()
    x = draw(9, D).float().mul(1e4).requires_grad_()
    out = conv(x, EDGES, TYPES)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float, torch.half])
def test_dtypes(dtype):
    conv = make().to(dtype)
    x = draw(9, D).to(dtype)
    out = conv(x, EDGES, TYPES)
    out.sum().backward()
    assert out.dtype == dtype
    exact = conv.double()(x.double(), EDGES, TYPES)
    atol = {torch.bfloat16: 1., torch.half: 0.1, torch.float: 1e-4}[dtype]
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=atol)


def test_autocast():
    conv, x = make().float(), draw(9, D).float()
    with torch.autocast('cpu', torch.bfloat16):
        out = conv(x, EDGES, TYPES)
    out.sum().backward()
    assert out.isfinite().all()


def test_many_nodes():
    """No product of two numbers of nodes is held: this would be 80 GB."""
    conv, n = make().float(), 100_000
    node = torch.arange(n - 1)
    with torch.no_grad():
        out = conv(torch.ones(n, D), torch.stack([node, node + 1]),
                   node % R)
    assert out.shape == (n, D) and out.isfinite().all()


def test_start():
    conv = AttributeConv(96, 50)
    assert conv.num_heads == 12 and conv.embedding.weight.shape == (51, 100)
    assert 0.018 < conv.embedding.weight.std() < 0.022
    bound = math.sqrt(6 / (96 + 96))
    assert 0.95 * bound < conv.lin_query.weight.abs().max() <= bound
    for name, parameter in conv.named_parameters():
        assert not name.endswith('bias') or not parameter.any()
    before = conv.lin_out.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.lin_out.weight)
    assert AttributeConv(96, 50, inverse_types=True).embedding.num_embeddings \
        == 101


def test_config_and_pickle():
    conv = make(inverse_types=True, share_edge_proj=True, dropout=0.1)
    config = json.loads(json.dumps(conv.get_config()))
    again = AttributeConv.from_config(config).double().eval()
    again.load_state_dict(conv.state_dict())
    x = draw(9, D)
    for other in again, pickle.loads(pickle.dumps(conv)):
        assert torch.equal(other(x, EDGES, TYPES), conv(x, EDGES, TYPES))
        assert other.dropout.p == 0.1
    assert repr(conv) == 'AttributeConv(8, num_edge_types=4, num_heads=2)'


def test_errors():
    with pytest.raises(ValueError, match=r"'channels' must be divisible by "
                       r"'num_heads' \(got 8 and 3\)"):
        AttributeConv(8, 4, num_heads=3)
    with pytest.raises(ValueError, match=r"'num_edge_types' must be positive "
                       r'\(got 0\)'):
        AttributeConv(8, 0)
    conv, x = make(), draw(9, D)
    types = TYPES.clone()
    types[5] = 4
    with pytest.raises(ValueError, match=r"^'edge_type' must be in \[0, 4\) "
                       r'\(got 4 at 5\)\. Was the graph built with another '
                       r'vocabulary\?$'):
        conv(x, EDGES, types)
    types[5] = -1
    with pytest.raises(ValueError, match=r'got -1 at 5'):
        conv(x, EDGES, types)
    with pytest.raises(ValueError, match=r"^'edge_index' must be in \[0, 8\) "
                       r'\(got 8 at 9\)\.$'):
        conv(x[:8], EDGES, TYPES)
    with pytest.raises(ShapeError, match=r"'x' must have shape \[N, 8\] "
                       r'\(got \[9, 7\]\)'):
        conv(x[:, :7], EDGES, TYPES)
    with pytest.raises(ShapeError, match=r"'edge_index' must have shape "
                       r'\[2, E\] \(got \[10\]\)'):
        conv(x, EDGES[0], TYPES)
    with pytest.raises(ShapeError, match=r'one label an edge, shape \[10\] '
                       r'\(got \[9\]\)'):
        conv(x, EDGES, TYPES[1:])
    with mmgraph.checks(False):
        conv(x, EDGES, TYPES)
