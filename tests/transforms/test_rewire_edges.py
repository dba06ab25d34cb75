from collections import Counter

import pytest
import torch

from mmgraph.data import GraphPair
from mmgraph.transforms import DropEdges, RewireEdges
from mmgraph.transforms.rewire_edges import _non_edges
from tests.transforms.pairs import EMPTY, edge_set, make_pair


@pytest.mark.parametrize('both', [True, False])
@pytest.mark.parametrize('p', [0.0, 0.2, 1.0])
def test_keeps_the_number_of_edges(p, both):
    for seed in range(10):
        pair = make_pair(seed=seed, both=both)
        out = RewireEdges(p, seed=seed, allow_isolated=True)(pair)
        assert torch.equal(out.edge_index_s, pair.edge_index_s)
        old, new = edge_set(pair.edge_index_t), edge_set(out.edge_index_t)
        assert len(new) == len(old)
        assert all(u != v for u, v in new)
        if p == 1:
            assert not new & old  # None comes back.
        # What is stored in both directions, or twice, stays so.
        columns = [Counter(map(tuple, edges.t().tolist()))
                   for edges in (pair.edge_index_t, out.edge_index_t)]
        assert sorted(columns[0].values()) == sorted(columns[1].values())
        if both:
            assert all(edge[::-1] in columns[1] for edge in columns[1])
        # Edges that stay keep their attributes; one that moves takes them
        # along.
        assert torch.equal(out.edge_attr_t, pair.edge_attr_t)
        stays = (out.edge_index_t == pair.edge_index_t).all(dim=0)
        assert stays.all() == (p == 0)
        groups = {}
        for attribute, edge in zip(pair.edge_index_t.t().tolist(),
                                   out.edge_index_t.t().tolist()):
            groups.setdefault(tuple(sorted(attribute)), set()).add(
                tuple(sorted(edge)))
        assert all(len(group) == 1 for group in groups.values())
        assert torch.equal(out.match_index, pair.match_index)
        assert out.validate()


def test_share():
    pair = make_pair(n=200, m=2000)
    out = RewireEdges(.25)(pair)
    stay = len(edge_set(out.edge_index_t) & edge_set(pair.edge_index_t))
    assert abs(1 - stay / 2000 - .25) < .04


def test_never_isolates():
    for seed in range(10):
        pair = make_pair(seed=seed, m=35)
        out = RewireEdges(.9, seed=seed)(pair)
        old, new = edge_set(pair.edge_index_t), edge_set(out.edge_index_t)
        assert {v for e in old & new for v in e} == {v for e in old for v in e}


def test_new_edges_are_uniform():
    """Each of the free pairs as often as any other."""
    ends = torch.tensor([[0, 0, 2], [1, 3, 4]])
    free = [(u, v) for v in range(5) for u in range(v)
            if (u, v) not in {(0, 1), (0, 3), (2, 4)}]
    generator = torch.Generator().manual_seed(0)
    for count in 1, 2, 7:
        seen = Counter()
        for _ in range(1400):
            found = _non_edges(ends, 5, count, generator).t().tolist()
            assert len({tuple(edge) for edge in found}) == count
            seen.update(tuple(edge) for edge in found)
        assert sorted(seen) == sorted(free)
        mean = 200 * count
        assert all(abs(value - mean) < 6 * mean**.5 for value in seen.values())


def test_numbers_of_pairs_are_exact_for_large_graphs():
    n = 3_000_000
    ends = torch.tensor([[0, n - 2], [n - 1, n - 1]])
    generator = torch.Generator().manual_seed(0)
    u, v = _non_edges(ends, n, 10000, generator)
    assert (u >= 0).all() and (u < v).all() and (v < n).all()
    assert abs(float(v.double().mean()) / n - 2 / 3) < .01
    assert abs(float((u / v).mean()) - 1 / 2) < .02


def test_another_noise_than_drop():
    pair = make_pair(n=60, m=300)
    moved = edge_set(RewireEdges(.3, seed=1)(pair).edge_index_t)
    kept = edge_set(DropEdges(.3, seed=1)(pair).edge_index_t)
    assert moved & edge_set(pair.edge_index_t) != kept


def test_self_loops_stay():
    edges = torch.tensor([[0, 0, 3], [0, 1, 3]])
    pair = GraphPair(edge_index_s=edges, edge_index_t=edges, num_nodes_s=4,
                     num_nodes_t=4)
    out = RewireEdges(1.0, allow_isolated=True)(pair).edge_index_t
    assert out[:, [0, 2]].tolist() == [[0, 3], [0, 3]]
    assert out[0, 1] != out[1, 1] and edge_set(out[:, 1:2]) != {(0, 1)}


def test_no_room():
    complete = torch.tensor([[0, 0, 1], [1, 2, 2]])
    pair = GraphPair(edge_index_s=complete, edge_index_t=complete,
                     num_nodes_s=3, num_nodes_t=3)
    with pytest.raises(ValueError, match="'p' asks for 3 new edges; .*only 0"):
        RewireEdges(1.0, allow_isolated=True)(pair)


@pytest.mark.parametrize('pair', EMPTY)
def test_empty(pair):
    assert RewireEdges(.5, 'both')(pair).validate()


def test_seed_errors_and_repr():
    pair = make_pair()
    state = torch.random.get_rng_state()
    one, again, other = (RewireEdges(.5, seed=seed)(pair)
                         for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.edge_index_t, again.edge_index_t)
    assert not torch.equal(one.edge_index_t, other.edge_index_t)
    with pytest.raises(ValueError, match=r'\(got -0.1\)'):
        RewireEdges(-.1)
    transform = RewireEdges(.1, 'source', True, 3)
    assert vars(eval(repr(transform))) == vars(transform)
