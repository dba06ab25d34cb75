import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

from mmgraph.data import GraphPair, GraphView
from mmgraph.errors import ShapeError
from mmgraph.metrics import (
    alignment_report,
    edge_correctness,
    hits_at_k,
    induced_conserved_structure,
    match_accuracy,
    match_scores,
    matched_neighborhood_consistency,
    mean_reciprocal_rank,
    one_to_one_accuracy,
    symmetric_substructure_score,
)
from mmgraph.nn.align import Alignment
from tests.nn.align.cases import collate


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


# Ranks.


def candidate_scores(listed, node, num_candidates):
    """The score of each candidate of a node, the unlisted ones included."""
    scores = [listed.get((node, c)) for c in range(num_candidates)]
    known = [s for s in scores if s is not None]
    rest = 0.0 if min(known, default=0) >= 0 else min(known) - 1
    return [rest if s is None else s for s in scores]


def orders(scores):
    """All orders of the candidates from best to worst."""
    return [order for order in itertools.permutations(range(len(scores)))
            if all(scores[a] >= scores[b] for a, b in
                   itertools.pairwise(order))]


def rank_oracle(listed, gold, num_candidates):
    """The places of the gold partner of each node in all orders."""
    places = []
    for node, partner in gold:
        scores = candidate_scores(listed, node, num_candidates)
        places.append([order.index(partner) + 1 for order in orders(scores)])
    return places


@given(st.integers(0, 10**6))
def test_ranks_oracle(seed):
    """Every order of equals, one by one."""
    rng = random.Random(seed)
    n, m = rng.randint(1, 5), rng.randint(1, 5)
    values = rng.choice([[.1, .2, .9], [0., .5], [-1., 0., 1.], [-2., -.5]])
    listed = {(i, j): rng.choice(values) for i in range(n) for j in range(m)
              if rng.random() < .6}
    nodes = rng.sample(range(n), rng.randint(1, min(n, m)))
    gold = list(zip(nodes, rng.sample(range(m), len(nodes))))
    found = make([(*key, value) for key, value in listed.items()], n, m)
    index = torch.tensor(gold).t()
    other = {(j, i): value for (i, j), value in listed.items()}
    both = [rank_oracle(listed, gold, m),
            rank_oracle(other, [(t, s) for s, t in gold], n)]
    for side, sides in (('source', both[:1]), ('target', both[1:]),
                        ('both', both)):
        for k in range(1, 7):
            hits = [sum(sum(p <= k for p in places) / len(places)
                        for places in one) / len(gold) for one in sides]
            assert hits_at_k(found, index, k, side) == pytest.approx(
                sum(hits) / len(hits))
        mrr = [sum(len(places) / sum(places) for places in one) / len(gold)
               for one in sides]
        assert mean_reciprocal_rank(found, index, side) == pytest.approx(
            sum(mrr) / len(mrr))


def test_ranks_by_hand():
    # 0: [.9, .5, .5, -]; 1: [.2, -, -, -]; 2: nothing listed.
    found = make([(0, 0, .9), (0, 1, .5), (0, 2, .5), (1, 0, .2)], 3, 4)
    gold = torch.tensor([[0, 1, 2], [1, 2, 3]])
    # Places: 2.5 of {2, 3}; 3 of {2, 3, 4}; 2.5 of {1, 2, 3, 4}.
    assert hits_at_k(found, gold, 1) == pytest.approx((0 + 0 + 1 / 4) / 3)
    assert hits_at_k(found, gold, 2) == pytest.approx((1/2 + 1/3 + 1/2) / 3)
    assert hits_at_k(found, gold, 4) == 1
    assert mean_reciprocal_rank(found, gold) == pytest.approx(
        (1 / 2.5 + 1 / 3 + 1 / 2.5) / 3)
    # A rounding error does not break a tie.
    near = make([(0, 0, .5), (0, 1, .5 + 1e-8)], 1, 2)
    assert hits_at_k(near, gold[:, :0], 1) == 0.0
    assert hits_at_k(near, torch.tensor([[0], [0]]), 1) == .5


def test_listed_zeros_are_as_unlisted_ones():
    generator = torch.Generator().manual_seed(0)
    table = torch.randint(0, 4, (6, 7), generator=generator) / 4
    full = make([(i, j, float(table[i, j])) for i in range(6)
                 for j in range(7)], 6, 7)
    sparse = make([(i, j, float(table[i, j])) for i in range(6)
                   for j in range(7) if table[i, j] > 0], 6, 7)
    gold = torch.stack([torch.arange(6), torch.randperm(7)[:6]])
    for side in 'source', 'target', 'both':
        for k in 1, 2, 5:
            assert hits_at_k(full, gold, k, side) == pytest.approx(
                hits_at_k(sparse, gold, k, side))
        assert mean_reciprocal_rank(full, gold, side) == pytest.approx(
            mean_reciprocal_rank(sparse, gold, side))
    # A positive partner: as if by match_accuracy.
    full = make([(i, j, float(table[i, j]) + 1) for i in range(6)
                 for j in range(7)], 6, 7)
    for side in 'source', 'target':
        assert hits_at_k(full, gold, 1, side) == pytest.approx(
            match_accuracy(full, gold, side)[0])


def test_seeds_are_no_test_nodes():
    found = make([(0, 0, 1.), (1, 1, 1.), (2, 0, 1.), (2, 2, .5)])
    gold = torch.tensor([[0, 1, 2], [0, 1, 2]])
    seeds = gold[:, :1]
    assert hits_at_k(found, gold, 1) == pytest.approx(2 / 3)
    assert hits_at_k(found, gold, 1, seeds=seeds) == .5  # 0 competes still.
    assert mean_reciprocal_rank(found, gold, seeds=seeds) == .75
    assert one_to_one_accuracy(found, gold, 'argmax', seeds=seeds) == .5
    assert one_to_one_accuracy(found, gold, 'lap', seeds=seeds) == 1
    assert hits_at_k(found, gold, 1, seeds=gold) == 0.0
    # A seed that is wrong removes its nodes all the same.
    wrong = torch.tensor([[2], [1]])
    assert hits_at_k(found, gold, 1, 'source', seeds=wrong) == 1
    assert hits_at_k(found, gold, 1, 'target', seeds=wrong) == .75


def test_batch_of_pairs():
    """Candidates are those of a node's own pair."""
    ptr_s, ptr_t = torch.tensor([0, 1, 3]), torch.tensor([0, 4, 6])
    found = Alignment(torch.tensor([[1], [4]]), torch.tensor([.5]), ptr_s,
                      ptr_t)
    gold = torch.tensor([[0, 1, 2], [2, 4, 5]])
    assert hits_at_k(found, gold, 1) == pytest.approx((1/4 + 1 + 1/2) / 3)
    assert hits_at_k(found, gold, 1, 'target') == pytest.approx(
        (1 + 1 + 1 / 2) / 3)
    with pytest.raises(ValueError, match='nodes of the same pair'):
        hits_at_k(found, torch.tensor([[0], [4]]), 1)


def test_rank_errors():
    found = make([(0, 0, 1.)])
    with pytest.raises(ValueError, match=r"'k' must be at least 1 \(got 0\)"):
        hits_at_k(found, GOLD, 0)
    with pytest.raises(ValueError, match="Did you mean 'source'"):
        mean_reciprocal_rank(found, GOLD, 'sources')
    with pytest.raises(ValueError, match='row 0 must name a node once'):
        hits_at_k(found, torch.tensor([[0, 0], [0, 1]]), 1)
    with pytest.raises(ValueError, match=r'row 1 must be in \[0, 3\)'):
        hits_at_k(found, torch.tensor([[0], [3]]), 1)
    with pytest.raises(ShapeError, match=r'\[2, M\]'):
        hits_at_k(found, torch.tensor([0]), 1)


# Decided matches.


def test_match_scores():
    found = make([(0, 0, 1.), (1, 2, 1.), (3, 3, 1.)], 5, 5)
    gold = torch.tensor([[0, 1, 2], [0, 1, 2]])
    scores = match_scores(found, gold)
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.recall == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx(1 / 3)
    # Nothing is known of (3, 3); (1, 2) is wrong for both of its nodes.
    assert match_scores(found, gold, partial_gold=True) == (
        .5, pytest.approx(1 / 3), pytest.approx(.4))
    seeds = gold[:, :1]
    assert match_scores(found, gold, seeds) == (0, 0, 0)
    assert match_scores(found, gold[:, :0]) == (0, 0, 0)
    none = make([], 5, 5)
    none = Alignment(torch.empty(2, 0, dtype=torch.long), torch.empty(0),
                     none.source_ptr, none.target_ptr)
    assert match_scores(none, gold) == (0, 0, 0)


# Structure.


def graph(n, edges):
    index = torch.tensor(sorted(edges), dtype=torch.long).view(-1, 2).t()
    return GraphView.single(index, n)


def oracle(f, source, target, n):
    """EC, ICS, S3 and MNC with sets, from the formulas."""
    e_s = {frozenset(e) for e in source if len(set(e)) == 2}
    e_t = {frozenset(e) for e in target if len(set(e)) == 2}
    kept = [e for e in e_s if all(v in f for v in e)
            and frozenset(f[v] for v in e) in e_t]
    images = {frozenset(f[v] for v in e) for e in kept}
    induced = {e for e in e_t if all(v in f.values() for v in e)}

    def ratio(a, b):
        return a / b if b else 0.0

    def neighbours(edges, v):
        return {w for e in edges if v in e for w in e if w != v}

    terms = []
    for i, j in f.items():
        mapped = {f[v] for v in neighbours(e_s, i) if v in f}
        real = neighbours(e_t, j)
        union = mapped | real
        terms.append(len(mapped & real) / len(union) if union else 1.0)
    return (ratio(len(kept), len(e_s)), ratio(len(images), len(induced)),
            ratio(len(images), len(e_s) + len(induced) - len(images)),
            ratio(sum(terms), len(terms)))


def structure(matching, source, target):
    return tuple(metric(matching, source, target) for metric in (
        edge_correctness, induced_conserved_structure,
        symmetric_substructure_score, matched_neighborhood_consistency))


@given(st.integers(0, 10**6))
def test_structure_oracle(seed):
    rng = random.Random(seed)
    n, m = rng.randint(1, 8), rng.randint(1, 8)
    # Directions, duplicates and loops, which do not count.
    source = [(rng.randrange(n), rng.randrange(n)) for _ in range(2 * n)]
    target = [(rng.randrange(m), rng.randrange(m)) for _ in range(2 * m)]
    if rng.random() < .5:  # Any mapping; else one-to-one.
        f = {i: rng.randrange(m) for i in range(n) if rng.random() < .8}
    else:
        size = rng.randint(0, min(n, m))
        f = dict(zip(rng.sample(range(n), size), rng.sample(range(m), size)))
    matching = Alignment(
        torch.tensor([list(f), list(f.values())], dtype=torch.long),
        torch.ones(len(f)), torch.tensor([0, n]), torch.tensor([0, m]))
    found = structure(matching, graph(n, source), graph(m, target))
    assert found == pytest.approx(oracle(f, source, target, n))
    assert all(0 <= value <= 1 for value in found)


def test_structure_by_hand():
    # A path of four nodes on a triangle with a tail; 3 is not matched.
    path = graph(4, [(0, 1), (1, 2), (2, 3)])
    other = graph(5, [(0, 1), (0, 2), (1, 2), (2, 3)])
    found = Alignment(torch.tensor([[0, 1, 2], [0, 1, 3]]), torch.ones(3),
                      path.ptr, other.ptr)
    # {0, 1} is kept of 3; among 0, 1, 3 the target has that one only.
    assert structure(found, path, other) == pytest.approx(
        (1 / 3, 1, 1 / 3, (1 / 2 + 1 / 3 + 0) / 3))


def test_isolated_pair_is_consistent():
    lone = graph(2, [])
    found = Alignment(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), lone.ptr,
                      lone.ptr)
    assert structure(found, lone, lone) == (0, 0, 0, 1)
    none = Alignment(torch.empty(2, 0, dtype=torch.long), torch.empty(0),
                     lone.ptr, lone.ptr)
    assert structure(none, lone, lone) == (0, 0, 0, 0)
    nothing = graph(0, [])
    none = Alignment(torch.empty(2, 0, dtype=torch.long), torch.empty(0),
                     nothing.ptr, nothing.ptr)
    assert structure(none, nothing, nothing) == (0, 0, 0, 0)


def test_structure_of_a_batch():
    """Numbers of edges add up over the pairs of a batch."""
    one, other = graph(3, [(0, 1), (1, 2)]), graph(2, [(0, 1)])
    source, target = collate([one, other]), collate([one, other])
    found = Alignment(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]]),
                      torch.ones(4), source.ptr, target.ptr)
    assert edge_correctness(found, source, target) == pytest.approx(2 / 3)


def test_structure_errors():
    view = graph(2, [(0, 1)])
    twice = Alignment(torch.tensor([[0, 0], [0, 1]]), torch.ones(2), view.ptr,
                      view.ptr)
    with pytest.raises(ValueError, match="decide by 'Alignment.match'"):
        edge_correctness(twice, view, view)
    with pytest.raises(ShapeError, match=r"'target' must have the 2 .* 3\)"):
        edge_correctness(twice.topk(1), view, graph(3, []))


# The report.


def random_pair(n, seed):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.triu_indices(n, n, 1)
    chosen = torch.rand(low.numel(), generator=generator) < .3
    edges = torch.stack([low[chosen], high[chosen]])
    place = torch.randperm(n, generator=generator)
    return GraphPair(edge_index_s=edges, edge_index_t=place[edges],
                     num_nodes_s=n, num_nodes_t=n,
                     match_index=torch.stack([torch.arange(n), place]))


def scored(pair, seed):
    generator = torch.Generator().manual_seed(seed)
    source, target = pair.source, pair.target
    width = int(target.sizes.max())
    scores = torch.rand(source.num_graphs, width, width, generator=generator)
    return Alignment.from_dense(scores, source, target)


def test_report():
    pair = random_pair(9, 0)
    alignment = scored(pair, 1)
    seeds = pair.match_index[:, :2]
    report = alignment_report(alignment, pair, seeds=seeds, side='both',
                              methods=['argmax', 'greedy', 'lap'], ks=[1, 3])
    assert report['num_test'] == 7
    gold = pair.match_index
    for k in 1, 3:
        assert report[f'hits@{k}'] == hits_at_k(alignment, gold, k, 'both',
                                                seeds)
    assert report['mrr'] == mean_reciprocal_rank(alignment, gold, 'both',
                                                 seeds)
    for method in 'argmax', 'greedy', 'lap':
        matching = alignment.match(method)
        scores = match_scores(matching, gold, seeds)
        assert report[f'{method}_accuracy'] == scores.recall
        assert report[f'{method}_accuracy'] == one_to_one_accuracy(
            alignment, gold, method, seeds)
        assert report[f'{method}_precision'] == scores.precision
        assert report[f'{method}_f1'] == scores.f1
        assert tuple(report[f'{method}_{name}'] for name in (
            'ec', 'ics', 's3', 'mnc')) == structure(
                matching, pair.source, pair.target)
    assert len(report) == 4 + 3 * 7
    assert all(math.isfinite(value) for value in report.values())


def test_report_of_the_truth():
    pair = random_pair(8, 0)
    truth = Alignment(pair.match_index, torch.ones(8), pair.source.ptr,
                      pair.target.ptr)
    report = alignment_report(truth, pair)
    assert report.pop('num_test') == 8
    assert set(report.values()) == {1.0}


def test_report_of_a_batch_and_without_gold():
    pairs = [random_pair(n, n) for n in (4, 6, 5)]
    batch = Batch.from_data_list(pairs)
    report = alignment_report(scored(batch, 0), batch)
    assert report['num_test'] == 15
    del batch.match_index
    report = alignment_report(scored(batch, 0), batch, methods=['lap'])
    assert sorted(report) == ['lap_ec', 'lap_ics', 'lap_mnc', 'lap_s3']
    with pytest.raises(ValueError, match=r"'ks' must be at least 1 \(got 0"):
        alignment_report(scored(pairs[0], 0), pairs[0], ks=[0])
