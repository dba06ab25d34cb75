import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmgraph.metrics import match_accuracy
from mmgraph.nn.align import Alignment


def make(pairs, num_source=3, num_target=3):
    """An alignment of one pair of graphs from (source, target, score)."""
    pairs = sorted(pairs)
    index = torch.tensor([[s for s, _, _ in pairs], [t for _, t, _ in pairs]],
                         dtype=torch.long)
    return Alignment(index, torch.tensor([w for _, _, w in pairs]),
                     torch.tensor([0, num_source]),
                     torch.tensor([0, num_target]))


GOLD = torch.tensor([[0, 1], [0, 1]])


def test_best_partner():
    found = make([(0, 0, .9), (1, 0, .4), (1, 1, .3), (2, 1, .7)])
    assert match_accuracy(found, GOLD) == (0.5, 2)  # 0 ← 0 right, 1 ← 2 wrong
    assert match_accuracy(found, GOLD, side='source') == (0.5, 2)  # 1 → 0


def test_ties_share_the_credit():
    found = make([(0, 0, .5), (1, 0, .5), (2, 0, .5), (1, 1, .2)])
    share, count = match_accuracy(found, GOLD)
    assert (share, count) == (pytest.approx((1 / 3 + 1) / 2), 2)
    # Tied, but the right one is not among them.
    found = make([(1, 0, .5), (2, 0, .5), (0, 0, .4)])
    assert match_accuracy(found, GOLD[:, :1]) == (0.0, 1)


def test_rounding_does_not_break_a_tie():
    found = make([(0, 0, .5), (1, 0, .5 + 1e-8)])
    assert match_accuracy(found, GOLD[:, :1]) == (0.5, 1)


def test_a_node_without_match_is_wrong():
    found = make([(0, 0, 1.)])
    assert match_accuracy(found, GOLD) == (0.5, 2)
    empty = Alignment(torch.empty(2, 0, dtype=torch.long), torch.empty(0),
                      torch.tensor([0, 3]), torch.tensor([0, 3]))
    assert match_accuracy(empty, GOLD) == (0.0, 2)


def test_nodes_without_gold_do_not_count():
    found = make([(0, 0, 1.), (0, 1, 1.), (0, 2, 1.)])
    assert match_accuracy(found, GOLD[:, :1]) == (1.0, 1)
    assert match_accuracy(found, GOLD[:, :0]) == (0.0, 0)


def test_batch_is_the_mean_over_nodes():
    # Two pairs of graphs: the second one's nodes come after the first's.
    ptr = torch.tensor([0, 1, 3])
    found = Alignment(torch.tensor([[0, 1, 2], [0, 2, 1]]),
                      torch.tensor([1., 1., 1.]), ptr, ptr)
    gold = torch.tensor([[0, 1, 2], [0, 1, 2]])
    assert match_accuracy(found, gold) == (pytest.approx(1 / 3), 3)


def test_scores_with_gradients():
    score = torch.tensor([.2, .8], requires_grad=True)
    found = Alignment(torch.tensor([[0, 1], [0, 1]]), score,
                      torch.tensor([0, 2]), torch.tensor([0, 2]))
    assert match_accuracy(found, GOLD) == (1.0, 2)


def test_negative_scores():
    found = make([(0, 0, -.1), (1, 0, -.5), (1, 1, -2.)])
    assert match_accuracy(found, GOLD) == (1.0, 2)


@given(st.lists(st.integers(0, 3), min_size=16, max_size=16),
       st.permutations(range(4)))
def test_range_and_order(scores, gold):
    # Dense and with many ties: as a loop over the objects finds it.
    table = torch.tensor(scores).view(4, 4) / 4
    found = make([(s, t, float(table[s, t])) for s in range(4)
                  for t in range(4)], 4, 4)
    expected = 0.0
    for target, source in enumerate(gold):
        best = table[:, target].max()
        tied = (table[:, target] == best).nonzero().view(-1).tolist()
        expected += (source in tied) / len(tied) / 4
    index = torch.tensor([list(gold), list(range(4))])
    share, count = match_accuracy(found, index)
    assert (share, count) == (pytest.approx(expected), 4)
    assert match_accuracy(found, index.flip(1)) == (pytest.approx(share), 4)
