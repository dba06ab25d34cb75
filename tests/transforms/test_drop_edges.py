import pytest
import torch

from mmgraph.data import GraphPair
from mmgraph.transforms import DropEdges
from tests.transforms.pairs import EMPTY, edge_set, make_pair


def check_attributes(pair, side):
    ends = pair[f'edge_index_{side}']
    assert torch.equal(pair[f'edge_attr_{side}'], ends.t().float())
    assert torch.equal(pair[f'edge_type_{side}'], ends.sum(dim=0))


@pytest.mark.parametrize('both', [True, False])
@pytest.mark.parametrize('p', [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize('side', ['source', 'target', 'both'])
def test_never_isolates(p, side, both):
    for seed in range(10):
        pair = make_pair(seed=seed, both=both)
        out = DropEdges(p, side, seed=seed)(pair)
        for s, name in ('s', 'source'), ('t', 'target'):
            key = f'edge_index_{s}'
            if side not in (name, 'both'):
                assert torch.equal(out[key], pair[key])
                continue
            old, new = edge_set(pair[key]), edge_set(out[key])
            assert new <= old and (p < 0.3 or len(new) < len(old))
            assert p > 0 or new == old
            nodes = {v for edge in old for v in edge}
            assert {v for edge in new for v in edge} == nodes
            # All columns of an edge go together.
            kept = [tuple(sorted(e)) in new for e in pair[key].t().tolist()]
            assert torch.equal(out[key], pair[key][:, torch.tensor(kept)])
            check_attributes(out, s)
            if p == 1:  # What is left has no edge to spare.
                degree = torch.bincount(torch.tensor(sorted(new)).view(-1))
                assert all(min(degree[u], degree[v]) == 1 for u, v in new)
        assert torch.equal(out.match_index, pair.match_index)
        assert out.validate()


def ring(n):
    edges = torch.arange(n)
    return torch.stack([edges, (edges + 1) % n])


def test_share():
    """Each edge alike, whatever its place in the file."""
    n = 4000
    edges = ring(n)
    pair = GraphPair(edge_index_s=edges, edge_index_t=edges, num_nodes_s=n,
                     num_nodes_t=n, match_index=torch.arange(n).repeat(2, 1))
    for p in 0.1, 0.25:
        out = DropEdges(p, allow_isolated=True)(pair)
        share = 1 - out.edge_index_t.size(1) / n
        assert abs(share - p) < 4 * (p * (1 - p) / n)**0.5
        assert DropEdges(p, allow_isolated=True, seed=5)(
            pair).edge_index_t.size(1) != out.edge_index_t.size(1)
        kept = edge_set(out.edge_index_t)
        halves = [sum(e in kept for e in sorted(edge_set(edges))[part])
                  for part in (slice(0, n // 2), slice(n // 2, n))]
        assert abs(halves[0] - halves[1]) < 5 * (n * p)**0.5
    # On a ring, both edges of a node are drawn with probability p squared and
    # one of them stays.
    out = DropEdges(0.25)(pair)
    assert 0.17 < 1 - out.edge_index_t.size(1) / n < 0.22


def test_as_one_by_one():
    """Equal to looking at every edge in turn."""
    for seed in range(20):
        pair = make_pair(n=12, m=14, seed=seed)
        free = edge_set(DropEdges(.7, allow_isolated=True, seed=seed)(
            pair).edge_index_t)
        kept = edge_set(DropEdges(.7, seed=seed)(pair).edge_index_t)
        old = edge_set(pair.edge_index_t)
        # Some edges are spared; none that was not drawn goes, and each that
        # is spared is the last one of a node.
        assert free <= kept <= old
        for u, v in kept - free:
            degree = [sum(w in edge for edge in kept) for w in (u, v)]
            assert min(degree) == 1


def test_self_loops():
    edges = torch.tensor([[0, 0, 1], [0, 1, 1]])
    pair = GraphPair(edge_index_s=edges, edge_index_t=edges, num_nodes_s=2,
                     num_nodes_t=2)
    out = DropEdges(1.0)(pair)
    assert out.edge_index_t.tolist() == [[0], [1]]
    assert DropEdges(1.0, allow_isolated=True)(pair).edge_index_t.numel() == 0


def test_seed():
    pair = make_pair(n=50, m=200)
    pair.edge_index_t = pair.edge_index_s
    pair.edge_attr_t, pair.edge_type_t = pair.edge_attr_s, pair.edge_type_s
    state = torch.random.get_rng_state()
    both = DropEdges(.5, 'both', seed=1)(pair)
    assert torch.equal(state, torch.random.get_rng_state())
    # Two sides are noised on their own, and each as if alone.
    assert edge_set(both.edge_index_s) != edge_set(both.edge_index_t)
    alone = DropEdges(.5, 'source', seed=1)(DropEdges(.5, seed=1)(pair))
    for key in 'edge_index_s', 'edge_index_t':
        assert torch.equal(both[key], alone[key])


@pytest.mark.parametrize('pair', EMPTY)
def test_empty(pair):
    assert DropEdges(.5, 'both')(pair).validate()


def test_errors_and_repr():
    with pytest.raises(ValueError, match=r"'p' must be in \[0, 1\] \(got 2"):
        DropEdges(2)
    with pytest.raises(ValueError, match="Did you mean 'target'"):
        DropEdges(.1, 'targets')
    transform = DropEdges(.1, 'both', True, 3)
    assert repr(transform) == ("DropEdges(p=0.1, side='both', "
                               'allow_isolated=True, seed=3)')
    assert vars(eval(repr(transform))) == vars(transform)
