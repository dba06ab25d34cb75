import random
import warnings
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.metrics import SpanMetric, span_scores
from mmgraph.parse.bio import bio_vocabulary, spans_of_tags, tags_of_spans
from tests.data.cases import make_text

TYPES = ['PER', 'LOC', 'ORG']


class Found(NamedTuple):
    start: int
    end: int
    type_id: int


def make_posts():
    return [
        Post.build(make_text('a b c d'), entities=[(2, 4, 1), (0, 2, 0)]),
        Post.build(make_text('')),
        Post.build(make_text('e f g'), entities=[(1, 2, 0)]),
        Post.build(make_text('h i'), entities=[(0, 2, 2)]),
    ]


#: Right; nothing; another type; another end, and one too many.
DECODED = [[Found(0, 2, 0), Found(2, 4, 1)], [], [Found(1, 2, 1)],
           [Found(0, 1, 2), Found(1, 2, 0)]]


def test_scores_by_hand():
    metric = SpanMetric(TYPES)
    metric.update(DECODED, Batch.from_data_list(make_posts()))
    assert metric.counts.tolist() == [[1, 2, 2], [1, 2, 1], [0, 1, 1]]
    assert metric.compute() == pytest.approx(dict(
        precision=2 / 5, recall=2 / 4, f1=4 / 9,
        macro_f1=(2 / 4 + 2 / 3 + 0) / 3))
    assert metric.per_class()['LOC'] == pytest.approx(
        dict(precision=0.5, recall=1, f1=2 / 3, support=1))
    assert metric.per_class()['ORG'] == dict(precision=0, recall=0, f1=0,
                                             support=1)
    metric.reset()
    assert not metric.counts.any()


def test_batches_do_not_matter():
    posts = make_posts()
    whole, parts = SpanMetric(Vocabulary(TYPES)), SpanMetric(TYPES)
    whole.update(DECODED, Batch.from_data_list(posts))
    parts.update(DECODED[:1], posts[0])  # a single post is a batch too
    parts.update(DECODED[1:], Batch.from_data_list(posts[1:]))
    assert torch.equal(whole.counts, parts.counts)


def test_found_twice_counts_once():
    posts = Batch.from_data_list(make_posts())
    metric, again = SpanMetric(TYPES), SpanMetric(TYPES)
    metric.update(DECODED, posts)
    again.update([[*found, *found] for found in DECODED], posts)
    assert torch.equal(metric.counts, again.counts)


def test_mentions_belong_to_their_post():
    metric = SpanMetric(TYPES)
    shifted = [DECODED[-1], *DECODED[:-1]]
    metric.update(shifted, Batch.from_data_list(make_posts()))
    assert metric.counts.sum(0).tolist() == [0, 5, 4]


def test_words_that_were_not_seen_are_missed():
    metric = SpanMetric(TYPES)
    post = Post.build(make_text(' '.join('w' * 300)),
                      entities=[(0, 1, 0), (298, 300, 0)])
    metric.update([[Found(0, 1, 0)]], Batch.from_data_list([post]))
    assert metric.compute()['recall'] == 0.5
    assert metric.compute()['precision'] == 1


def test_nothing():
    metric = SpanMetric(TYPES)
    assert set(metric.compute().values()) == {0.}
    post = Post.build(make_text('a b'))
    metric.update([[]], Batch.from_data_list([post]))
    assert set(metric.compute().values()) == {0.}
    metric.update([[Found(0, 1, 1)]], Batch.from_data_list([post]))
    assert set(metric.compute().values()) == {0.}
    assert span_scores([], [], TYPES) == SpanMetric(TYPES).compute()


def test_two_readings():
    gold = [['B-PER', 'I-PER', 'O', 'B-LOC']]
    predicted = [['B-PER', 'I-PER', 'I-ORG', 'I-LOC']]
    lenient = span_scores(gold, predicted, TYPES)
    assert (lenient['precision'], lenient['recall']) == (2 / 3, 1)
    strict = span_scores(gold, predicted, TYPES, mode='strict')
    assert (strict['precision'], strict['recall']) == (1, 0.5)


def test_names_and_ids():
    tags = bio_vocabulary(TYPES)
    gold, predicted = [[1, 2, 0, 3], []], [[1, 2, 3, 4], []]
    names = [[[tags.labels[i] for i in row] for row in side]
             for side in (gold, predicted)]
    assert span_scores(gold, predicted, TYPES) == span_scores(*names, TYPES)
    special = [['B-PER', 'I-PER', 'X', '[SEP]'], []]
    assert span_scores(names[0], special, TYPES) == span_scores(
        gold, [[1, 2, 0, 0], []], TYPES)


def test_wrong_input():
    metric = SpanMetric(TYPES)
    posts = Batch.from_data_list(make_posts())
    with pytest.raises(ValueError, match=r'one list of predicted mentions a '
                       r'post \(got 3 for 4 posts\)'):
        metric.update(DECODED[1:], posts)
    with pytest.raises(ValueError, match=r"'type_id' must be in \[0, 2\) "
                       r'\(got 2\)'):
        SpanMetric(TYPES[:2]).update(DECODED, posts)
    with pytest.raises(ValueError, match='sentences of equal length'):
        span_scores([[0, 0]], [[0]], TYPES)
    with pytest.raises(ValueError, match='sentences of equal length'):
        span_scores([[0, 0]], [[0, 0], []], TYPES)
    with pytest.raises(ValueError, match=r"'predicted_tags' must be in "
                       r'\[0, 7\) \(got 7\)'):
        span_scores([[0]], [[7]], TYPES)
    with pytest.raises(ValueError, match=r"'predicted_tags' must be tags of "
                       r"the types \(got 'B-PRE'\).*Did you mean 'B-PER'"):
        span_scores([['O']], [['B-PRE']], TYPES)
    with pytest.raises(ValueError, match=r"'gold_tags' must be tags of the "
                       r"types \(got 'X'\)"):
        span_scores([['X']], [['O']], TYPES)
    with pytest.raises(ValueError, match="'mode' must be one of"):
        SpanMetric(TYPES, mode='exact')


def test_a_refused_update_counts_nothing():
    metric = SpanMetric(TYPES[:2])
    with pytest.raises(ValueError, match='type_id'):
        metric.update(DECODED, Batch.from_data_list(make_posts()))
    assert not metric.counts.any()


TAGS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(st.lists(TAGS, max_size=6), st.sampled_from(['lenient', 'strict']))
def test_properties(rows, mode):
    gold = [[g for g, _ in row] for row in rows]
    predicted = [[p for _, p in row] for row in rows]
    scores = span_scores(gold, predicted, TYPES, mode)
    assert all(0 <= value <= 1 for value in scores.values())
    swapped = span_scores(predicted, gold, TYPES, mode)
    assert (swapped['precision'], swapped['recall']) == (
        scores['recall'], scores['precision'])
    assert swapped['f1'] == scores['f1']
    same = span_scores(gold, gold, TYPES, mode)
    some = any(spans_of_tags(tags, mode) for tags in gold)
    assert set(same.values()) == {float(some)}
    # The entities of a batch and its tags say the same.
    spans = [spans_of_tags(tags, mode) for tags in gold]
    posts = [Post.build(make_text('w ' * len(row)), entities=s)
             for row, s in zip(rows, spans)]
    by_tags, by_entities = SpanMetric(TYPES, mode), SpanMetric(TYPES, mode)
    by_tags.update_tags(gold, predicted)
    for post, tags in zip(posts, predicted):
        by_entities.update([[Found(*span)
                             for span in spans_of_tags(tags, mode)]], post)
    assert torch.equal(by_tags.counts, by_entities.counts)


def random_corpus(seed, sentences, noise):
    """Gold tags with violations, and a copy with mistakes."""
    rng = random.Random(seed)
    tags = bio_vocabulary(TYPES).labels
    gold, predicted = [], []
    for _ in range(sentences):
        n = rng.randint(1, 15)
        row = ([rng.choice(tags) for _ in range(n)] if rng.random() < 0.7
               else [tags[i] for i in tags_of_spans([(0, n, 1)], n)])
        gold.append(row)
        predicted.append([rng.choice(tags) if rng.random() < noise else tag
                          for tag in row])
    return gold, predicted


@pytest.mark.parametrize('mode', ['lenient', 'strict'])
@pytest.mark.parametrize('noise', [0.05, 0.4, 1.])
def test_equal_to_seqeval(mode, noise):
    seqeval = pytest.importorskip('seqeval.metrics', reason='needs seqeval')
    from seqeval.scheme import IOB2
    kwargs = dict(mode='strict', scheme=IOB2) if mode == 'strict' else {}
    for seed, size in enumerate([2000, 40, 3, 1, 1, 1, 1, 1]):
        gold, predicted = random_corpus(seed, size, noise)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # ratios without denominator
            report = seqeval.classification_report(
                gold, predicted, output_dict=True, zero_division=0, **kwargs)
        metric = SpanMetric(TYPES, mode)
        metric.update_tags(gold, predicted)
        per_class, scores = metric.per_class(), metric.compute()
        assert scores == span_scores(gold, predicted, TYPES, mode)
        micro, macro = report.pop('micro avg'), report.pop('macro avg')
        report.pop('weighted avg')
        for key in ('precision', 'recall', 'f1'):
            name = 'f1-score' if key == 'f1' else key
            assert scores[key] == pytest.approx(micro[name])
            for label, row in report.items():
                assert per_class[label][key] == pytest.approx(row[name])
        assert scores['macro_f1'] == pytest.approx(macro['f1-score'])
        for label in TYPES:
            assert per_class[label]['support'] == report.get(
                label, {'support': 0})['support']


def test_counts_of_processes_are_summed(monkeypatch):
    """The exchange itself is tested with those of relations."""
    gold, predicted = random_corpus(0, 51, 0.3)
    whole, mine, other = (SpanMetric(TYPES) for _ in range(3))
    whole.update_tags(gold, predicted)
    mine.update_tags(gold[::2], predicted[::2])
    other.update_tags(gold[1::2], predicted[1::2])
    alone = span_scores(gold[::2], predicted[::2], TYPES)
    scores, rows = whole.compute(), whole.per_class()
    before = mine.counts.clone()
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'get_backend', lambda: 'gloo')
    monkeypatch.setattr(distributed, 'all_reduce',
                        lambda counts: counts.add_(other.counts))
    assert torch.equal(mine.total(), whole.counts)
    assert mine.compute() == scores and mine.per_class() == rows
    assert torch.equal(mine.counts, before)  # asking twice counts once
    # A function of tags is about these tags alone.
    assert span_scores(gold[::2], predicted[::2], TYPES) == alone
