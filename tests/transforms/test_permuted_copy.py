import copy

import pytest
import torch
from torch_geometric.data import Batch, Data

from mmgraph.transforms import PermutedCopy
from tests.transforms.pairs import EMPTY, make_pair


def test_is_the_same_graph():
    pair = make_pair(num_target=25)
    before = copy.deepcopy(pair)
    out = PermutedCopy(seed=3)(pair)
    # The argument is not touched.
    assert all(torch.equal(pair[key], before[key]) for key in (
        'edge_index_t', 'x_t', 'edge_attr_t', 'edge_type_t', 'match_index'))
    assert torch.equal(out.edge_index_s, pair.edge_index_s)
    assert torch.equal(out.x_s, pair.x_s)
    # edge_attr holds the old ends of each edge: it tells the permutation.
    place = {}
    for old, new in zip(out.edge_attr_t.long().view(-1).tolist(),
                        out.edge_index_t.t().reshape(-1).tolist()):
        assert place.setdefault(old, new) == new
    assert sorted(place.values()) == sorted(set(place.values()))
    assert any(old != new for old, new in place.items())
    for old, new in place.items():
        assert torch.equal(out.x_t[new], pair.x_t[old])
    assert torch.equal(out.edge_type_t, out.edge_attr_t.sum(1).long())
    gold = dict(out.match_index.t().tolist())
    for i, j in pair.match_index.t().tolist():
        assert gold[i] == place.get(j, gold[i])
    assert out.match_index[0].tolist() == sorted(gold)
    assert out.validate()


def test_order_of_edges_tells_nothing():
    pair = make_pair()
    out = PermutedCopy()(pair)
    assert not torch.equal(out.edge_attr_t, pair.edge_attr_t)


def test_seed():
    pair = make_pair()
    state = torch.random.get_rng_state()
    one, again, other = (PermutedCopy(seed)(pair) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.edge_index_t, again.edge_index_t)
    assert not torch.equal(one.match_index, other.match_index)


@pytest.mark.parametrize('pair', EMPTY)
def test_empty(pair):
    assert PermutedCopy()(pair).validate()


def test_without_gold_or_features():
    pair = make_pair()
    for key in 'match_index', 'x_s', 'x_t', 'edge_attr_t', 'edge_type_t':
        del pair[key]
    assert PermutedCopy()(pair).validate()


def test_errors():
    with pytest.raises(ValueError, match="one 'GraphPair' .*'Data'"):
        PermutedCopy()(Data())
    batch = Batch.from_data_list([make_pair(), make_pair()])
    with pytest.raises(ValueError, match='before they are batched'):
        PermutedCopy()(batch)


def test_repr():
    assert repr(PermutedCopy(4)) == 'PermutedCopy(seed=4)'
