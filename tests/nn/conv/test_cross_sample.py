import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch_geometric.nn import GCNConv
from torch_geometric.nn import RGCNConv as PyGRGCNConv

from mmgraph.errors import ShapeError
from mmgraph.nn.conv import CrossSampleConv, RGCNConv
from mmgraph.testing.cross_sample import (
    cross_sample_oracle,
    published_star_oracle,
)

PUBLISHED = dict(center='top1', readout='ref_regions', norm='none',
                 temperature=None)
SETTINGS = [
    dict(zip(('center', 'readout', 'norm', 'temperature'), values))
    for values in itertools.product(
        ['query', 'top1'], ['center', 'mean_nodes', 'ref_regions'],
        ['row', 'none'], [0.1, None])
]
every_setting = pytest.mark.parametrize(
    'kwargs', SETTINGS, ids=lambda kwargs: ' '.join(map(str, kwargs.values())))
some_settings = pytest.mark.parametrize(
    'kwargs', [{}, dict(readout='mean_nodes'), PUBLISHED],
    ids=['default', 'mean', 'published'])

T, S, F_IN, F_OUT = 6, 9, 4, 3
# Queries 1 and 5 (the last) have none, 4 has only zeros, 2 has one of two.
NEIGHBOURS = {0: [3, 8, 1], 2: [5, 0], 3: [7, 2], 4: [2, 6]}
WEIGHTS = {0: [.9, .8, .75], 2: [.6, 0.], 3: [.7, -.4], 4: [0., 0.]}
ROW = torch.tensor([i for i, js in NEIGHBOURS.items() for _ in js])
EDGES = torch.stack([ROW, torch.tensor(sum(NEIGHBOURS.values(), []))])
WEIGHT = torch.tensor(sum(WEIGHTS.values(), [])).double()


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def make(f_in=F_IN, f_out=F_OUT, dtype=torch.double, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = CrossSampleConv(f_in, f_out, **kwargs)
        if conv.bias is not None:
            torch.nn.init.normal_(conv.bias)
    return conv.to(dtype)


def graph(regions=()):
    return draw(T, *regions, F_IN), draw(S, *regions, F_IN, seed=1)


def expected(conv, x, edges, weight):
    """The oracle, one query after the other."""
    query, neighbour = (v.detach().numpy() for v in x)
    shape = query.shape[1:-1] or (1, )
    size, rows = len(query), edges[0].tolist()
    out = []
    for i in range(size):
        own = [e for e, row in enumerate(rows) if row == i]
        if not own:
            out.append(np.zeros((np.prod(shape), conv.out_channels)))
            continue
        out.append(cross_sample_oracle(
            query[i].reshape(-1, query.shape[-1]),
            neighbour[edges[1, own].numpy()].reshape(
                len(own), -1, query.shape[-1]),
            weight[own].numpy(), conv.lin.weight.t().detach().numpy(),
            conv.bias.detach().numpy(), conv.center, conv.readout, conv.norm,
            conv.temperature))
    return torch.from_numpy(np.array(out)).view(*query.shape[:-1], -1)


@every_setting
@pytest.mark.parametrize('regions', [(), (1, ), (7, ), (2, 3)])
def test_oracle(kwargs, regions):
    conv, x = make(**kwargs), graph(regions)
    torch.testing.assert_close(conv(x, EDGES, WEIGHT),
                               expected(conv, x, EDGES, WEIGHT), atol=1e-12,
                               rtol=0)


def test_settings_differ():
    """So that the oracle test above tells them apart."""
    x = graph((7, ))
    convs = [make(**kwargs) for kwargs in SETTINGS]
    for a, b in itertools.combinations(convs, 2):
        gap = (a(x, EDGES, WEIGHT) - b(x, EDGES, WEIGHT))[0].abs().max()
        same = a.center == b.center == 'top1' and a.readout == b.readout \
            == 'center' and a.temperature == b.temperature == 0.1
        assert (gap < 1e-12) == same  # Weights that sum to one.


@pytest.mark.parametrize('score', [
    [.75, .74, .72, .71, .7], [1., 1., .98, 0., 0.], [0.] * 5])
def test_published_code(score):
    """Five neighbours, 49 regions; three queries of a batch."""
    conv = make(6, 6, **PUBLISHED)
    neighbour = draw(11, 49, 6)
    col = torch.stack([torch.randperm(
        11, generator=torch.Generator().manual_seed(i))[:5] for i in range(3)])
    edges = torch.stack([torch.arange(3).repeat_interleave(5), col.view(-1)])
    weight = torch.tensor([score, [.9, .8, .7, .6, .5], score]).double()
    out = conv((torch.empty(3, 0), neighbour), edges, weight.view(-1))
    for i in range(3):
        exact = published_star_oracle(
            weight[i].numpy(), neighbour[col[i]].numpy(),
            conv.lin.weight.t().detach().numpy(), conv.bias.detach().numpy())
        torch.testing.assert_close(out[i], torch.from_numpy(exact),
                                   atol=1e-12, rtol=0)


def test_published_read_out_groups_consecutive_regions():
    """Counter-valued rows: row g is the mean of rows 5g .. 5g + 4."""
    conv = make(1, 1, act=None, bias=False, **PUBLISHED)
    torch.nn.init.ones_(conv.lin.weight)
    neighbour = torch.arange(5 * 49.).double().view(5, 49, 1)
    edges = torch.tensor([[0] * 5, range(5)])
    weight = torch.tensor([1., 0, 0, 0, 0]).double()
    out = conv((torch.empty(1, 0), neighbour), edges, weight)
    torch.testing.assert_close(
        out.view(-1), torch.arange(5 * 49.).double().view(49, 5).mean(1))


@pytest.mark.parametrize('center', ['query', 'top1'])
def test_dense_star_is_gcn_on_explicit_stars(center):
    """One PyG graph of all stars, each with its own copy of its images."""
    x, weight = graph(), WEIGHT + 0.1  # Every edge counts.
    kwargs = dict(center=center, norm='none', temperature=None)
    at_center = make(**kwargs)
    mean = make(readout='mean_nodes', **kwargs)
    gcn = GCNConv(F_IN, F_OUT, normalize=False, add_self_loops=False).double()
    gcn.load_state_dict(at_center.state_dict())
    node, edge, value, hub, ptr = [], [], [], {}, {}
    for i in NEIGHBOURS:
        own = (EDGES[0] == i).nonzero().view(-1).tolist()
        star = [(x[1][EDGES[1, e]], float(weight[e])) for e in own]
        if center == 'query':
            star.insert(0, (x[0][i], 1.))
        hub[i], ptr[i] = len(node), slice(len(node), len(node) + len(star))
        for j, (row, score) in enumerate(star):
            me = len(node)
            node.append(row)
            edge += [(me, me)] + [(me, hub[i]), (hub[i], me)] * (j > 0)
            value += [score if j == 0 else 1.] + [score, score] * (j > 0)
    out = gcn(torch.stack(node), torch.tensor(edge).t(),
              torch.tensor(value).double()).relu()
    for i in range(T):
        for conv in at_center, mean:
            found = conv(x, EDGES, weight)[i]
            if i not in hub:
                assert not found.any()
            elif conv is mean:
                torch.testing.assert_close(found, out[ptr[i]].mean(0))
            else:
                torch.testing.assert_close(found, out[hub[i]])


@every_setting
def test_query_without_edges_gets_zeros(kwargs):
    conv, x = make(**kwargs), graph((7, ))
    assert conv.bias.abs().min() > 0
    out = conv(x, EDGES, WEIGHT)
    for i in range(T):
        zero = i in (1, 5) or (i == 4 and conv.center == 'query')
        assert bool((out[i] == 0).all()) == zero
    none = conv(x, EDGES[:, :0], WEIGHT[:0])
    assert none.shape == out.shape and not none.any()
    none.sum().backward()
    for parameter in conv.parameters():
        assert not parameter.grad.any()


@every_setting
def test_zero_edge_is_no_edge(kwargs):
    """At the query's star; the published code keeps them."""
    conv, x = make(**kwargs), graph((7, ))
    kept = WEIGHT != 0
    full = conv(x, EDGES, WEIGHT)
    out = conv(x, EDGES[:, kept], WEIGHT[kept])
    for i in range(T):
        same = conv.center == 'query' or i not in (2, 4)
        if conv.center == 'top1' and i == 2 and conv.readout == 'center' \
                and conv.temperature is None:
            same = True  # The weight of a leaf that is not read out.
        assert torch.allclose(full[i], out[i], atol=1e-12) == same


@every_setting
def test_alone_is_in_a_batch(kwargs):
    conv, x = make(**kwargs), graph((7, ))
    out = conv(x, EDGES, WEIGHT)
    for i in range(T):
        own = EDGES[0] == i
        edges = torch.stack([torch.zeros_like(EDGES[1, own]), EDGES[1, own]])
        torch.testing.assert_close(conv((x[0][i:i + 1], x[1]), edges,
                                        WEIGHT[own])[0], out[i])


@every_setting
def test_permutation(kwargs):
    """Of queries, of neighbours, and of the queries' edges as blocks."""
    conv, x = make(**kwargs), graph((7, ))
    out = conv(x, EDGES, WEIGHT)
    query, neighbour = torch.tensor([5, 2, 0, 4, 1, 3]), torch.arange(S).flip(0)
    place, where = query.argsort(), neighbour.argsort()
    order = torch.cat([(EDGES[0] == i).nonzero().view(-1) for i in query])
    edges = torch.stack([place[EDGES[0]], where[EDGES[1]]])
    moved = x[0][query], x[1][neighbour]
    for take in torch.arange(order.numel()), order:
        torch.testing.assert_close(
            conv(moved, edges[:, take], WEIGHT[take]), out[query])
    if conv.center == 'query' and conv.readout != 'ref_regions':
        take = torch.arange(order.numel()).flip(0)  # Rank does not matter.
        torch.testing.assert_close(conv(x, EDGES[:, take], WEIGHT[take]), out)


def test_top1_is_the_first_edge():
    conv, x = make(center='top1', norm='none', temperature=None), graph()
    other = conv((x[0] + 1, x[1]), EDGES, WEIGHT)
    assert torch.equal(other, conv(x, EDGES, WEIGHT))  # No query is read.
    mean = make(center='top1', readout='mean_nodes')
    swap = torch.tensor([1, 0, *range(2, EDGES.size(1))])
    assert not torch.allclose(mean(x, EDGES, WEIGHT)[0],
                              mean(x, EDGES[:, swap], WEIGHT[swap])[0])


def test_weights_default_to_one_and_are_counted_twice():
    conv, x = make(temperature=None), graph()
    torch.testing.assert_close(conv(x, EDGES),
                               conv(x, EDGES, torch.ones(9).double()))
    twice = conv(x, EDGES[:, [0, 0]])  # Two edges to one neighbour.
    once = conv(x, EDGES[:, :1], torch.tensor([2.]).double())
    torch.testing.assert_close(twice, once)


def test_temperature():
    """High: all alike; low: the best alone; shifts of all do not matter."""
    x = graph()
    out = make(temperature=1e4)(x, EDGES, WEIGHT)[0]
    alike = make(temperature=None)(x, EDGES, torch.full((9, ), 1 / 3).double())
    torch.testing.assert_close(out, alike[0], atol=1e-4, rtol=0)
    best = make(temperature=None)(x, EDGES[:, :1])
    out = make(temperature=1e-3)(x, EDGES, WEIGHT)[0]
    torch.testing.assert_close(out, best[0], atol=1e-6, rtol=0)
    conv = make()
    assert torch.allclose(conv(x, EDGES, WEIGHT + 1)[0],
                          conv(x, EDGES, WEIGHT)[0])


def test_two_hops_on_a_gathered_graph():
    """What two layers give for some queries does not depend on whether the
    whole graph is there or only what is within two hops of them.
    """
    size, k = 30, 3
    generator = torch.Generator().manual_seed(3)
    x = draw(size, F_IN)
    table = torch.stack([torch.randperm(size, generator=generator)[:k]
                         for _ in range(size)])
    weight = torch.rand(size, k, generator=generator).double() + 0.1
    table[4] = -1  # A sample without neighbours.
    first, second = make(), make(F_OUT, 5)

    def run(nodes):
        """Both layers on the edges that leave ``nodes``."""
        rows = torch.tensor([(int(i), int(j), float(w)) for i in nodes
                             for j, w in zip(table[i], weight[i]) if j >= 0],
                            dtype=torch.double)
        near = torch.tensor(sorted({*nodes.tolist(),
                                    *rows[:, 1].long().tolist()}))
        place = torch.full((size, ), -1)
        place[near] = torch.arange(near.numel())
        edges = place[rows[:, :2].long().t()]
        return near, place, edges, rows[:, 2]

    everything = torch.arange(size)
    _, _, edges, value = run(everything)
    hidden = first(x, edges, value)
    full = second(hidden, edges, value)

    # Dense: D^-1 (I + softmax(A)) as one matrix a layer.
    adjacency = torch.zeros(size, size).double()
    for i in range(size):
        if i != 4:
            adjacency[i, table[i]] = (weight[i] / 0.1).softmax(0)
    step = (torch.eye(size).double() + adjacency) / 2
    linked = (everything != 4).double().unsqueeze(1)
    dense = x
    for conv in first, second:
        dense = (step @ dense @ conv.lin.weight.t() + conv.bias).relu()
        dense = dense * linked
    torch.testing.assert_close(full, dense)

    queries = torch.tensor([17, 4, 2])
    one_hop = run(queries)[0]
    near, place, edges, value = run(one_hop)
    assert near.numel() < size
    hidden = first(x[near], edges, value)
    torch.testing.assert_close(second(hidden, edges, value)[place[queries]],
                               full[queries])
    # The last layer may be run for the queries alone.
    keep = torch.isin(edges[0], place[queries])
    local = torch.stack([
        (edges[0, keep].unsqueeze(1) == place[queries]).long().argmax(1),
        edges[1, keep]])
    torch.testing.assert_close(
        second((hidden[place[queries]], hidden), local, value[keep]),
        full[queries])


@every_setting
def test_gradients(kwargs):
    conv = make(act='tanh', **kwargs)
    x = [v.requires_grad_() for v in graph((2, ))]
    weight = (WEIGHT + 0.1).requires_grad_()
    names, values = zip(*conv.named_parameters())

    def run(query, neighbour, weight, *values):
        return torch.func.functional_call(
            conv, dict(zip(names, values)), ((query, neighbour), EDGES, weight))

    assert gradcheck(run, (*x, weight, *values))


@some_settings
def test_sizes(kwargs):
    """No query, no neighbour, one of each, one kind of node."""
    conv = make(f_out=F_IN, **kwargs)
    none = torch.empty(2, 0, dtype=torch.long)
    x = graph((7, ))
    assert conv((x[0][:0], x[1]), none).shape == (0, 7, F_IN)
    assert conv((x[0], x[1][:0]), none).shape == (T, 7, F_IN)
    assert not conv((x[0], x[1][:0]), none).any()
    loop = torch.tensor([[0], [0]])
    assert torch.isfinite(conv(x[0][:1], loop)).all()
    edges = EDGES % T
    torch.testing.assert_close(conv(x[0], edges, WEIGHT),
                               conv((x[0], x[0]), edges, WEIGHT))


@some_settings
@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_dtype(kwargs, dtype):
    x, conv = graph((7, )), make(**kwargs)
    wide = conv(x, EDGES, WEIGHT)
    x = tuple(v.to(dtype) for v in x)
    out = copy.deepcopy(conv).to(dtype)(x, EDGES, WEIGHT.float())
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wide, atol=0.1, rtol=0.05)
    with torch.autocast('cpu', torch.bfloat16):
        out = conv.float()(tuple(v.float() for v in x), EDGES, WEIGHT.float())
    torch.testing.assert_close(out.double(), wide, atol=0.1, rtol=0.05)


@some_settings
def test_config_and_copies(kwargs):
    conv, x = make(**kwargs), graph((7, ))
    again = CrossSampleConv.from_config(
        json.loads(json.dumps(conv.get_config()))).double()
    assert again.get_config() == conv.get_config()
    assert repr(again) == repr(conv)
    assert not torch.equal(again.lin.weight, conv.lin.weight)
    again.load_state_dict(conv.state_dict())
    for other in again, pickle.loads(pickle.dumps(conv)), copy.deepcopy(conv):
        assert torch.equal(other(x, EDGES, WEIGHT), conv(x, EDGES, WEIGHT))
    again.reset_parameters()
    assert not torch.equal(again.lin.weight, conv.lin.weight)
    assert not again.bias.any()


def test_repr():
    assert repr(CrossSampleConv(2, 3)) == (
        "CrossSampleConv(2, 3, center='query', readout='center', norm='row', "
        'temperature=0.1)')


def test_activation_and_bias():
    x = graph()
    plain = make(act=None, bias=False)
    assert plain.bias is None
    out = plain(x, EDGES, WEIGHT)
    assert (out < 0).any()
    same = make(bias=False)
    torch.testing.assert_close(same(x, EDGES, WEIGHT), out.relu())


def test_generated_code_runs():
    assert CrossSampleConv.propagate.__module__.startswith(
        'mmgraph.nn.conv.cross_sample')


def test_rgcn_conv_is_that_of_pyg():
    assert RGCNConv is PyGRGCNConv


@pytest.mark.parametrize('kwargs, message', [
    (dict(in_channels=0), "'in_channels' must be positive"),
    (dict(out_channels=-1), "'out_channels' must be positive"),
    (dict(temperature=0.), "'temperature' must be positive"),
    (dict(center='top2'), "'center' must be one of .* mean 'top1'"),
    (dict(readout='mean_node'), "'readout' must be .* mean 'mean_nodes'"),
    (dict(norm='sym'), "'norm' must be one of"),
])
def test_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CrossSampleConv(**{**dict(in_channels=4, out_channels=3), **kwargs})


def test_shapes_are_checked():
    conv, (query, neighbour) = make(), graph()
    with pytest.raises(ShapeError, match="queries must have 'in_channels'"):
        conv((query[:, :3], neighbour), EDGES)
    with pytest.raises(ShapeError, match='neighbours must have'):
        conv((query, neighbour[:, :3]), EDGES)
    with pytest.raises(ShapeError, match='as many axes'):
        conv((query, neighbour.unsqueeze(1)), EDGES)
    with pytest.raises(ShapeError, match=r'shape \[9\] \(got \[8\]\)'):
        conv((query, neighbour), EDGES, WEIGHT[1:])
