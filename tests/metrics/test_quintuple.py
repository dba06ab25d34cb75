import random
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import distributed
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.metrics import QuintupleMetric, SpanMetric
from tests.data.cases import make_text

TYPES, RELATIONS = ['per', 'org', 'loc'], ['member_of', 'located', 'peer']
SYMMETRIC = ['peer']
KINDS = ['', 'directed_', 'relation_', 'entity_']


class Found(NamedTuple):
    start: int
    end: int
    type_id: int


def found(entities, quintuples):
    """What a joint model decodes."""
    return SimpleNamespace(
        entities=[Found(*entity) for entity in entities],
        relations=[SimpleNamespace(head=Found(*head), tail=Found(*tail),
                                   relation_id=relation_id, score=.5)
                   for head, tail, relation_id in quintuples])


def make_posts():
    return [
        Post.build(make_text('a b c d e'),
                   entities=[(3, 5, 1), (0, 1, 0), (2, 3, 0)],
                   relations=[(1, 0, 0), (2, 0, 0), (1, 2, 2)], post_id='a'),
        Post.build(make_text('')),
        Post.build(make_text('f g h'), entities=[(0, 1, 1), (2, 3, 2)],
                   relations=[(0, 1, 1)]),
        Post.build(make_text('i j')),
    ]


A, B, C = (0, 1, 0), (2, 3, 0), (3, 5, 1)
D, E = (0, 1, 1), (2, 3, 2)
#: Right; the other way round; a symmetric one the other way round | nothing |
#: a wrong type | one too many.
DECODED = [
    found([A, B, C], [(A, C, 0), (C, B, 0), (B, A, 2)]),
    found([], []),
    found([(0, 1, 0), E], [((0, 1, 0), E, 1)]),
    found([(0, 1, 0), (1, 2, 0)], [((0, 1, 0), (1, 2, 0), 2)]),
]


def make():
    return QuintupleMetric(TYPES, RELATIONS, SYMMETRIC)


def test_scores_by_hand():
    metric = make()
    metric.update(DECODED, Batch.from_data_list(make_posts()))
    assert metric.counts.tolist() == [
        [2, 2, 2], [0, 1, 1], [1, 2, 1],
        [1, 2, 2], [0, 1, 1], [1, 2, 1],
        [2, 2, 2], [1, 1, 1], [1, 2, 1],
        [2, 5, 2], [1, 1, 2], [1, 1, 1]]
    rights = dict(zip(KINDS, [(3, 5, 4), (2, 5, 4), (4, 5, 4), (4, 7, 5)]))
    assert metric.compute() == pytest.approx({
        f'{kind}{name}': value
        for kind, (right, predicted, gold) in rights.items()
        for name, value in dict(
            precision=right / predicted, recall=right / gold,
            f1=2 * right / (predicted + gold)).items()})
    rows = metric.per_class()
    assert list(rows) == RELATIONS
    assert rows['peer'] == pytest.approx(
        dict(precision=.5, recall=1, f1=2 / 3, support=1))
    assert rows['located'] == dict(precision=0, recall=0, f1=0, support=1)
    metric.reset()
    assert not metric.counts.any()


def test_without_symmetric_relations_all_have_a_direction():
    metric = QuintupleMetric(Vocabulary(TYPES), Vocabulary(RELATIONS))
    metric.update(DECODED, Batch.from_data_list(make_posts()))
    assert metric.compute()['directed_recall'] == 1 / 4
    assert metric.compute()['recall'] == 3 / 4


def test_batches_do_not_matter():
    posts = make_posts()
    whole, parts = make(), make()
    whole.update(DECODED, Batch.from_data_list(posts))
    parts.update(DECODED[:1], posts[0])  # a single post is a batch too
    parts.update(DECODED[1:], Batch.from_data_list(posts[1:]))
    assert torch.equal(whole.counts, parts.counts)


def test_items_belong_to_their_post():
    metric = make()
    metric.update([DECODED[-1], *DECODED[:-1]],
                  Batch.from_data_list(make_posts()))
    assert not metric.counts[:9, 0].any()
    assert metric.counts[:, 1].sum() == 3 * 5 + 7


def test_what_is_there_twice_counts_once():
    posts = Batch.from_data_list(make_posts())
    once, twice = make(), make()
    once.update(DECODED, posts)
    twice.update([SimpleNamespace(entities=[*item.entities, *item.entities],
                                  relations=[*item.relations, *item.relations])
                  for item in DECODED], posts)
    assert torch.equal(once.counts, twice.counts)
    # Both directions of one relation: two directed items, one undirected.
    metric = make()
    both = [([A, C], [(A, C, 0), (C, A, 0), (A, B, 2), (B, A, 2)])]
    metric.update_items(both, both)
    assert metric.counts[:, 2].tolist() == [1, 0, 1, 2, 0, 1, 1, 0, 1,
                                            1, 1, 0]


def test_one_span_with_two_types():
    metric = make()
    org = (0, 1, 1)
    gold = [([A, org, C], [(A, C, 0), (org, C, 0)])]
    metric.update_items(gold, [([A, C], [(A, C, 0)])])
    scores = metric.compute()
    assert (scores['recall'], scores['relation_recall']) == (.5, 1)


def test_nothing():
    metric = make()
    assert set(metric.compute().values()) == {0.}
    assert len(metric.compute()) == 12
    metric.update([found([], [])], make_posts()[3])
    assert set(metric.compute().values()) == {0.}
    metric.update_items([], [])
    assert not metric.counts.any()


def sets_of(posts, symmetric):
    """The four sets of items, from the definitions."""
    out = [set() for _ in KINDS]
    for i, (entities, quintuples) in enumerate(posts):
        for head, tail, r in quintuples:
            out[0].add((i, frozenset([head, tail]), r))
            out[1].add((i, frozenset([head, tail]) if r in symmetric
                        else (head, tail), r))
            out[2].add((i, frozenset([head[:2], tail[:2]]), r))
        out[3] |= {(i, *entity) for entity in entities}
    return out


def random_posts(rng, posts):
    def mention():
        start = rng.randrange(2)
        return start, start + rng.randint(1, 2), rng.randrange(3)
    return [([mention() for _ in range(rng.randrange(4))],
             [(mention(), mention(), rng.randrange(3))
              for _ in range(rng.randrange(6))]) for _ in range(posts)]


def test_scores_are_those_of_the_sets():
    rng = random.Random(0)
    for _ in range(40):
        n = rng.randrange(5)
        gold, predicted = random_posts(rng, n), random_posts(rng, n)
        metric = make()
        metric.update_items(gold, predicted)
        scores = metric.compute()
        for kind, truth, guess in zip(KINDS, sets_of(gold, {2}),
                                      sets_of(predicted, {2})):
            right = len(truth & guess)
            assert scores[f'{kind}precision'] == pytest.approx(
                right / max(len(guess), 1))
            assert scores[f'{kind}recall'] == pytest.approx(
                right / max(len(truth), 1))
            assert scores[f'{kind}f1'] == pytest.approx(
                2 * right / max(len(truth) + len(guess), 1))


def test_mentions_are_scored_as_by_the_span_metric():
    batch = Batch.from_data_list(make_posts())
    joint, spans = make(), SpanMetric(TYPES)
    joint.update(DECODED, batch)
    spans.update([item.entities for item in DECODED], batch)
    scores = spans.compute()
    for name in ('precision', 'recall', 'f1'):
        assert joint.compute()[f'entity_{name}'] == scores[name]


def test_wrong_input():
    batch = Batch.from_data_list(make_posts())
    with pytest.raises(ValueError, match=r"'symmetric' must name relations "
                       r"\(got 'pear'\).*Did you mean 'peer'"):
        QuintupleMetric(TYPES, RELATIONS, ['pear'])
    metric = make()
    with pytest.raises(ValueError, match=r'one item of predictions a post '
                       r'\(got 3 for 4 posts\)'):
        metric.update(DECODED[1:], batch)
    for bad, message in (
            (found([(0, 1, 3)], []), r"'type_id' must be in \[0, 3\) "
             r'\(got 3\)'),
            (found([], [(A, (1, 2, -1), 0)]), r"'type_id' .*\(got -1\)"),
            (found([], [(A, C, 3)]), r"'relation_id' must be in \[0, 3\) "
             r'\(got 3\)')):
        with pytest.raises(ValueError, match=message):
            metric.update([*DECODED[:3], bad], batch)
    assert not metric.counts.any()  # a refused update counts nothing


def test_counts_of_processes_are_summed(monkeypatch):
    rng = random.Random(1)
    gold, predicted = random_posts(rng, 31), random_posts(rng, 31)
    whole, mine, other = make(), make(), make()
    whole.update_items(gold, predicted)
    mine.update_items(gold[::2], predicted[::2])
    other.update_items(gold[1::2], predicted[1::2])
    scores, rows = whole.compute(), whole.per_class()
    before = mine.counts.clone()
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'get_backend', lambda: 'gloo')
    monkeypatch.setattr(distributed, 'all_reduce',
                        lambda counts: counts.add_(other.counts))
    assert torch.equal(mine.total(), whole.counts)
    assert mine.compute() == scores and mine.per_class() == rows
    assert torch.equal(mine.counts, before)  # asking twice counts once
