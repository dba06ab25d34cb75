import pytest
import torch

from mmgraph.data import GraphPair
from mmgraph.transforms import FlipAttributes
from tests.transforms.pairs import EMPTY, make_pair

NONE = torch.empty(2, 0, dtype=torch.long)


def pair_of(x_s, x_t):
    return GraphPair(edge_index_s=NONE, edge_index_t=NONE, x_s=x_s, x_t=x_t)


def test_categorical():
    generator = torch.Generator().manual_seed(0)
    # Column 1 has the values 5 and 9 in the target, and 7 in the source only.
    x = torch.stack([torch.randint(4, (4000, ), generator=generator),
                     torch.tensor([5, 9]).repeat(2000),
                     torch.full((4000, ), 3)], dim=1)
    pair = pair_of(torch.tensor([[0, 7, 3]]), x)
    out = FlipAttributes(.25)(pair)
    assert torch.equal(out.x_s, pair.x_s) and torch.equal(pair.x_t, x)
    changed = (out.x_t != x).float().mean(0)
    assert (changed[:2] - .25).abs().max() < .03
    assert changed[2] == 0  # A column of one value.
    assert out.x_t[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert out.x_t[:, 1].unique().tolist() == [5, 7, 9]
    # Each other value as often as any other.
    all_changed = FlipAttributes(1.0)(pair).x_t
    assert (all_changed[:, :2] != x[:, :2]).all()
    count = torch.bincount(all_changed[x[:, 0] == 2, 0])
    assert count[2] == 0
    assert (count[[0, 1, 3]] - count.sum() / 3).abs().max() < 80


def test_binary():
    x = (torch.arange(3000).view(1000, 3) % 3 == 0).float()
    pair = pair_of(x, x)
    out = FlipAttributes(.1, 'both')(pair)
    for flipped in out.x_s, out.x_t:
        assert flipped.dtype == torch.float
        assert flipped.unique().tolist() == [0, 1]
        assert abs(float((flipped != x).float().mean()) - .1) < .03
    assert not torch.equal(out.x_s, out.x_t)  # Each on its own.
    assert torch.equal(FlipAttributes(1.0)(pair).x_t, 1 - x)
    assert torch.equal(FlipAttributes(0.0)(pair).x_t, x)


def test_side_and_seed():
    pair = make_pair()
    state = torch.random.get_rng_state()
    source = FlipAttributes(.5, 'source', 2)(pair)
    target = FlipAttributes(.5, 'target', 2)(pair)
    both = FlipAttributes(.5, 'both', 2)(pair)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(source.x_t, pair.x_t)
    assert torch.equal(source.x_s, both.x_s)
    assert torch.equal(target.x_t, both.x_t)
    assert not torch.equal(FlipAttributes(.5, seed=3)(pair).x_t, target.x_t)
    assert torch.equal(both.match_index, pair.match_index)


def test_one_dimension():
    pair = pair_of(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert FlipAttributes(1.0)(pair).x_t.tolist() == [1, 0]


@pytest.mark.parametrize('pair', EMPTY)
def test_empty(pair):
    assert FlipAttributes(.5, 'both')(pair).validate()


def test_errors_and_repr():
    with pytest.raises(ValueError, match="'x_t' must hold .* None"):
        FlipAttributes(.5)(GraphPair(edge_index_s=NONE, edge_index_t=NONE,
                                     num_nodes_s=1, num_nodes_t=1))
    with pytest.raises(ValueError, match="'x_s' must be binary or categor"):
        FlipAttributes(.5, 'source')(pair_of(torch.tensor([[.5]]),
                                             torch.tensor([[1.]])))
    with pytest.raises(ValueError, match="'p' must be in"):
        FlipAttributes(float('nan'))
    transform = FlipAttributes(.1, 'both', 3)
    assert vars(eval(repr(transform))) == vars(transform)
