import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from mmgraph.data import GraphPair
from tests.data.cases import check_graphs, plain

NONE = torch.empty(2, 0, dtype=torch.long)


def make(n, m, features=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def edges(size):
        return torch.randint(size, (2, 2 * size), generator=generator) \
            if size else NONE

    kwargs = dict(edge_index_s=edges(n), edge_index_t=edges(m),
                  match_index=torch.arange(min(n, m)).expand(2, -1))
    if features:
        kwargs |= dict(
            x_s=torch.randn(n, 4, generator=generator),
            x_t=torch.randn(m, 3, generator=generator),
            edge_attr_s=torch.rand(2 * n, 2, generator=generator),
            edge_attr_t=torch.rand(2 * m, 2, generator=generator),
            edge_type_s=torch.arange(2 * n), edge_type_t=torch.arange(2 * m))
    else:
        kwargs |= dict(num_nodes_s=n, num_nodes_t=m)
    return GraphPair(**kwargs)


def views(pair):
    return [plain(dict(view._asdict())) for view in (pair.source, pair.target)]


@pytest.mark.parametrize('features', [True, False])
def test_batch(features):
    pairs = [make(3, 2, features), make(0, 4, features), make(5, 0, features),
             make(2, 6, features, seed=1)]
    batch = check_graphs(pairs)
    assert batch.validate()
    assert batch.source.ptr.tolist() == [0, 3, 3, 8, 10]
    assert batch.target.ptr.tolist() == [0, 2, 6, 6, 12]
    assert batch.source.batch.tolist() == [0] * 3 + [2] * 5 + [3] * 2
    assert batch.match_index.tolist() == [[0, 1, 8, 9], [0, 1, 6, 7]]
    assert torch.equal(batch.edge_index_t[:, -12:],
                       pairs[3].edge_index_t + 6)
    assert (batch.source.x is None) == (not features)
    for i, pair in enumerate(pairs):
        assert views(batch[i]) == views(pair)
        assert torch.equal(batch[i].match_index, pair.match_index)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1,
                max_size=4), st.booleans())
def test_build_batch_unbatch(sizes, features):
    pairs = [make(n, m, features, seed=i) for i, (n, m) in enumerate(sizes)]
    batch = Batch.from_data_list(pairs)
    assert batch.validate()
    assert batch.source.sizes.tolist() == [n for n, _ in sizes]
    assert batch.target.sizes.tolist() == [m for _, m in sizes]
    assert [views(p) for p in batch.to_data_list()] == list(map(views, pairs))


def test_views():
    pair = make(3, 2)
    source, target = pair.source, pair.target
    assert source.x is pair.x_s and target.x is pair.x_t
    assert source.edge_attr is pair.edge_attr_s
    assert target.edge_type is pair.edge_type_t
    assert source.num_graphs == 1 and source.ptr.tolist() == [0, 3]
    assert pair.num_nodes == 5


def test_size_not_known():
    with pytest.raises(ValueError, match=r"needs 'num_nodes_t' \(got neither"):
        GraphPair(edge_index_s=NONE, edge_index_t=NONE, num_nodes_s=1)


@pytest.mark.parametrize('key, value, message', [
    ('edge_index_s', torch.tensor([[0, 3], [1, 1]]),
     r"'edge_index_s' row 0 must be in \[0, 3\) \(got 3 at column 1\)"),
    ('edge_index_t', torch.tensor([[0], [-1]]),
     r"'edge_index_t' row 1 must be in \[0, 2\) \(got -1 at column 0\)"),
    ('match_index', torch.tensor([[2, 2], [1, 2]]),
     r"'match_index' row 1 must be in \[0, 2\) \(got 2 at column 1\)"),
    ('x_t', torch.ones(3, 3),
     r"'x_t' must have one row a node \(got 3 for 2 nodes\)"),
    ('edge_attr_s', torch.tensor([[0.0], [float('-inf')]]),
     r"'edge_attr_s' must be finite \(got -inf at row 1\)"),
])
def test_validate(key, value, message):
    pair = make(3, 2)
    assert pair.validate()
    pair[key] = value
    with pytest.raises(ValueError, match=f'^GraphPair: .*{message}'):
        pair.validate()
    assert not pair.validate(raise_on_error=False)


def test_without_gold():
    pair = GraphPair(edge_index_s=NONE, edge_index_t=NONE, num_nodes_s=1,
                     num_nodes_t=0)
    assert pair.validate()
    check_graphs([pair, pair])
    assert repr(pair) == 'GraphPair(1 nodes, 0 edges | 0 nodes, 0 edges)'


def test_repr():
    assert repr(make(3, 2)) == ('GraphPair(3 nodes, 6 edges | 2 nodes, '
                                '4 edges, 2 gold matches)')
    assert repr(GraphPair()) == 'GraphPair()'
