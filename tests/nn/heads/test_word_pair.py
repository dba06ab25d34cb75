import json
import random

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from mmgraph.data import Post
from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import build_from_config
from mmgraph.nn.heads import WordPairHead
from mmgraph.parse.word_pairs import pair_index, table_of
from mmgraph.testing.word_pairs import (
    word_pair_quintuples_oracle,
    word_pair_spans_oracle,
)
from tests.data.cases import make_text

T, R, F = 3, 2, 5
C = 1 + T + R
SIGNATURES = [[0, 0, 1, 3, 1], [1, 2, 2, 1, 4]]
PTR = torch.tensor([0, 4, 4, 5, 11])
X = torch.randn(11, F, generator=torch.Generator().manual_seed(0))
both_directions = pytest.mark.parametrize('directed', [False, True])
both_rules = pytest.mark.parametrize('rule', ['triangle', 'diagonal'])


def make_posts():
    return [
        Post.build(make_text('a b c d'), entities=[(0, 2, 0), (3, 4, 1)],
                   relations=[(0, 1, 0)], post_id='first'),
        Post.build(make_text(''), post_id='none'),
        Post.build(make_text('e'), entities=[(0, 1, 2)], post_id='one'),
        Post.build(make_text('f g h i j k'), post_id='last',
                   entities=[(0, 1, 1), (2, 5, 0), (5, 6, 2)],
                   relations=[(1, 0, 0), (2, 1, 1)]),
    ]


def make_features(directed=False, seed=1):
    """A table with a row a pair, and one whose rows are added by two."""
    generator = torch.Generator().manual_seed(seed)
    pairs = pair_index(PTR, directed)
    tables = [torch.randn(k, d, generator=generator)
              for k, d in ((4, 3), (6, 2))]
    index = torch.randint(0, 4, (pairs.size(1),), generator=generator)
    tag = torch.randint(0, 6, (11,), generator=generator)
    return pairs, [(tables[0], index), (tables[1], tag[pairs])]


@both_directions
def test_is_a_linear_layer_of_all_that_is_joined(directed):
    head = WordPairHead(F, T, R, [3, 2], directed).eval()
    pairs, features = make_features(directed)
    (first, index), (second, rows) = features
    joined = torch.cat([X[pairs[0]], X[pairs[1]], first[index],
                        second[rows[0]] + second[rows[1]]], dim=1)
    assert joined.shape[1] == head.classifier.in_features
    parts = [X.clone().requires_grad_(),
             *(table.clone().requires_grad_() for table, _ in features)]
    logits = head(parts[0], pairs, [(parts[1], index), (parts[2], rows)])
    assert logits.shape == (pairs.size(1), C)
    torch.testing.assert_close(logits, head.classifier(joined))

    # And so are the gradients.
    weight = torch.randn(logits.shape)
    (logits * weight).sum().backward()
    grads = [part.grad for part in parts] + [
        p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    again = [part.detach().clone().requires_grad_() for part in parts]
    joined = torch.cat([
        again[0][pairs[0]], again[0][pairs[1]], again[1][index],
        again[2][rows[0]] + again[2][rows[1]]], dim=1)
    (head.classifier(joined) * weight).sum().backward()
    expected = [part.grad for part in again] + [
        p.grad for p in head.parameters()]
    for grad, wanted in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, wanted)


def test_without_channels():
    head = WordPairHead(F, T, R).eval()
    pairs = head.pair_index(PTR)
    torch.testing.assert_close(
        head(X, pairs),
        head.classifier(torch.cat([X[pairs[0]], X[pairs[1]]], dim=1)))


def test_dropout_is_that_of_its_inputs_in_the_mean():
    torch.manual_seed(0)
    head = WordPairHead(F, T, R, [3, 2], dropout=0.4)
    pairs, features = make_features()
    with torch.no_grad():
        many = torch.stack([head(X, pairs, features) for _ in range(4000)])
        exact = head.eval()(X, pairs, features)
    assert many.std(0).min() > 0.1
    error = (many.mean(0) - exact) / many.std(0) * 4000**0.5
    assert error.abs().max() < 5
    # The two places of a word are dropped apart.
    head = WordPairHead(1, T, R, dropout=0.5)
    logits = head(torch.ones(200, 1), torch.arange(200).repeat(2, 1))
    assert logits.detach().unique(dim=0).size(0) == 4
    # And so are the rows of a table.
    head = WordPairHead(1, T, R, [1], dropout=0.5)
    rows = torch.arange(200)
    logits = head(torch.zeros(1, 1), torch.zeros_like(rows).repeat(2, 1),
                  [(torch.ones(200, 1), rows)])
    assert logits.detach().unique(dim=0).size(0) == 2


def test_a_post_alone_and_in_a_batch():
    head = WordPairHead(F, T, R, [3, 2]).eval()
    pairs, features = make_features()
    whole = head(X, pairs, features)
    found = head.decode(whole, pairs, PTR)
    for b, (begin, end) in enumerate(zip(PTR, PTR[1:])):
        ptr = torch.tensor([0, int(end - begin)])
        here = (pairs[0] >= begin) & (pairs[0] < end)
        alone = head(X[begin:end], head.pair_index(ptr),
                     [(table, index[..., here]) for table, index in features])
        torch.testing.assert_close(alone, whole[here])
        (spans, relations), = head.decode(alone, head.pair_index(ptr), ptr)
        assert spans == found[b].spans
        assert [row[:3] for row in relations] == [
            row[:3] for row in found[b].relations]


@both_directions
def test_labels_are_the_posts_tables(directed):
    head = WordPairHead(F, T, R, directed=directed)
    posts = make_posts()
    labels = head.labels(Batch.from_data_list(posts), torch.arange(11),
                         head.pair_index(PTR))
    expected = []
    for post in posts:
        table = table_of(post, T, R, directed)
        keep = torch.ones_like(table) if directed else \
            torch.ones_like(table).triu()
        expected += table[keep.bool()].tolist()
    assert labels.tolist() == expected
    # A single post is a batch too.
    ptr = torch.tensor([0, 6])
    alone = head.labels(posts[3], torch.arange(6), head.pair_index(ptr))
    assert alone.tolist() == expected[-alone.numel():]


@both_directions
def test_labels_of_the_words_that_have_a_state(directed):
    head = WordPairHead(F, T, R, directed=directed)
    # Cut: 'd', with the only mention of its relation; 'e'; 'h', inside a
    # mention; and 'k'.
    word = torch.tensor([0, 1, 2, 5, 6, 8, 9])
    pairs = head.pair_index(torch.tensor([0, 3, 3, 3, 7]))
    labels = head.labels(Batch.from_data_list(make_posts()), word, pairs)
    cut = [
        Post.build(make_text('a b c'), entities=[(0, 2, 0)]),
        Post.build(make_text('')), Post.build(make_text('')),
        Post.build(make_text('f g i j'), entities=[(0, 1, 1), (2, 4, 0)],
                   relations=[(1, 0, 0)])]
    assert torch.equal(labels, head.labels(
        Batch.from_data_list(cut), torch.arange(7), pairs))
    assert (labels > T).sum() == 2


def test_unknown_gold():
    head = WordPairHead(F, T, R)
    posts = make_posts()
    pairs = head.pair_index(PTR)
    batch = Batch.from_data_list(posts)
    batch['entity'].type_id[-1] = T
    with pytest.raises(ValueError, match=r"^post 'last': 'type_id' must be in "
                       r'\[0, 3\) \(got 3\); was the model built'):
        head.labels(batch, torch.arange(11), pairs)
    batch = Batch.from_data_list(posts)
    batch['entity', 'relation', 'entity'].relation_id[1] = R
    with pytest.raises(ValueError, match=r"^post 'last': 'relation_id' must "
                       r'be in \[0, 2\) \(got 2\); was the model built'):
        head.labels(batch, torch.arange(11), pairs)
    posts[0]['entity'].type_id[0] = -1
    with pytest.raises(ValueError, match=r"^post 'first': .*\(got -1\)"):
        head.labels(posts[0], torch.arange(4), pair_index(PTR[:2]))
    with pytest.raises(ShapeError, match=r'the pairs of the 10 words '
                       r'\(got 11\)'):
        head.labels(Batch.from_data_list(make_posts()), torch.arange(10),
                    pairs)


def test_loss_is_a_mean_over_pairs():
    head = WordPairHead(F, T, R)
    pairs = head.pair_index(PTR)
    logits = head(X, pairs)
    labels = head.labels(Batch.from_data_list(make_posts()), torch.arange(11),
                         pairs)
    expected = -logits.log_softmax(-1)[torch.arange(len(labels)), labels]
    torch.testing.assert_close(head.loss(logits, labels), expected.mean())


@pytest.mark.parametrize('ptr', [[0], [0, 0, 0]])
@both_directions
def test_no_words(ptr, directed):
    head, ptr = WordPairHead(F, T, R, [3], directed), torch.tensor(ptr)
    pairs = head.pair_index(ptr)
    logits = head(X[:0], pairs, [(torch.randn(2, 3), pairs[0])])
    assert logits.shape == (0, C)
    labels = head.labels(Batch.from_data_list([Post.build(make_text(''))]),
                         pairs[0], pairs)
    loss = head.loss(logits, labels)
    assert loss == 0
    loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None and not parameter.grad.any()
    empty = [([], [])] * (len(ptr) - 1)
    assert head.decode(logits, pairs, ptr) == empty
    assert head.decode_labels(labels, pairs, ptr) == empty


@both_rules
@both_directions
def test_gold_labels_are_decoded_back(rule, directed):
    head = WordPairHead(F, T, R, directed=directed, span_rule=rule,
                        signatures=SIGNATURES)
    posts = make_posts()
    if rule == 'diagonal':  # It joins mentions that touch.
        posts[3] = Post.build(make_text('f g h i j k'), post_id='last',
                              entities=[(0, 1, 1), (2, 4, 0), (5, 6, 2)],
                              relations=[(1, 0, 0), (2, 1, 1)])
    batch = Batch.from_data_list(posts)
    pairs = head.pair_index(PTR)
    labels = head.labels(batch, torch.arange(11), pairs)
    found = head.decode_labels(labels, pairs, PTR)
    for post, (spans, relations) in zip(posts, found, strict=True):
        assert spans == post.entities
        # Head and tail too: by the types (per before org), and, for types
        # that this relation was not seen with, by its order over all types.
        assert sorted(row[:3] for row in relations) == sorted(post.relations)
        assert all(row[3] == 1 for row in relations)
    # So are confident logits.
    logits = 30. * nn.functional.one_hot(labels, C)
    sure = head.decode(logits, pairs, PTR)
    for got, wanted in zip(sure, found, strict=True):
        assert got.spans == wanted.spans
        assert [row[:3] for row in got.relations] == [
            row[:3] for row in wanted.relations]
        assert all(row[3] == pytest.approx(1) for row in got.relations)


@both_rules
@both_directions
def test_any_logits_are_decoded_as_by_the_oracle(rule, directed):
    head = WordPairHead(F, T, R, directed=directed, span_rule=rule,
                        signatures=SIGNATURES)
    pairs = head.pair_index(PTR)
    generator = torch.Generator().manual_seed(0)
    total = 0
    for _ in range(300):
        logits = torch.randn(pairs.size(1), C, generator=generator)
        logits[pairs[0] == pairs[1], 0] += 0.5
        found = head.decode(logits, pairs, PTR)
        table = torch.full((11, 11), -1)
        table[pairs[0], pairs[1]] = logits.argmax(-1)
        p = torch.zeros(11, 11, C)
        p[pairs[0], pairs[1]] = logits.softmax(-1)
        for begin, end, (spans, relations) in zip(PTR, PTR[1:], found):
            part = table[begin:end, begin:end].tolist()
            assert spans == word_pair_spans_oracle(part, T, rule)
            expected = []
            for a, b, r in word_pair_quintuples_oracle(part, spans, T,
                                                       directed):
                if not directed and not head.head_first[r, a[2], b[2]]:
                    a, b = b, a
                expected.append((spans.index(a), spans.index(b), r))
            assert [row[:3] for row in relations] == expected
            for h, t, r, score in relations:
                a, b = spans[h], spans[t]
                if not directed and a > b:
                    a, b = b, a
                block = p[begin + a[0]:begin + a[1], begin + b[0]:begin + b[1],
                          1 + T + r]
                assert score == pytest.approx(float(block.mean()), rel=1e-5)
                total += 1
    assert total > 100


def test_decoding_has_no_gradient():
    head = WordPairHead(F, T, R)
    pairs = head.pair_index(PTR)
    for _, relations in head.decode(head(X, pairs), pairs, PTR):
        assert all(isinstance(row[3], float) for row in relations)


def test_learns_a_table():
    torch.manual_seed(0)
    head = WordPairHead(16, T, R, [8], dropout=0.)
    posts = make_posts()
    batch = Batch.from_data_list(posts)
    pairs = head.pair_index(PTR)
    labels = head.labels(batch, torch.arange(11), pairs)
    x = nn.Parameter(torch.randn(11, 16))
    table = nn.Parameter(torch.randn(8, 8))
    index = (pairs[1] - pairs[0]).clamp(max=7)
    optimizer = torch.optim.Adam([x, table, *head.parameters()], lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        loss = head.loss(head(x, pairs, [(table, index)]), labels)
        loss.backward()
        optimizer.step()
    found = head.decode(head(x, pairs, [(table, index)]), pairs, PTR)
    assert [item.spans for item in found] == [post.entities for post in posts]
    assert [len(item.relations) for item in found] == [1, 0, 0, 2]


def test_wrong_arguments():
    for change, message in (
            (dict(num_types=0), "'num_types' must be at least 1"),
            (dict(num_relations=0), "'num_relations' must be at least 1"),
            (dict(in_channels=0), "'in_channels' must be at least 1"),
            (dict(pair_channels=[3, 0]), "'pair_channels' must be at least 1"),
            (dict(span_rule='square'), "'span_rule' must be one of"),
            (dict(signatures=[[R, 0, 0, 1, 1]]), "'signatures' must be")):
        with pytest.raises(ValueError, match=message):
            WordPairHead(**{**dict(in_channels=F, num_types=T,
                                   num_relations=R), **change})


def test_wrong_shapes():
    head = WordPairHead(F, T, R, [3, 2])
    pairs, features = make_features()
    with pytest.raises(ShapeError, match=r"'features' must hold 2 channels "
                       r'\(got 1\)'):
        head(X, pairs, features[:1])
    with pytest.raises(ShapeError, match=r"'features\[0\]\[0\]' must have 3 "
                       r'columns \(got 2\)'):
        head(X, pairs, features[::-1])
    with pytest.raises(ShapeError, match=r"'x' must have 5 columns \(got 4\)"):
        head(X[:, :4], pairs, features)
    short = [(features[0][0], features[0][1][1:]), features[1]]
    with pytest.raises(ShapeError, match=r"'features\[0\]\[1\]' must have one "
                       r'column for each of the 33 pairs \(got 32\)|'
                       r'pairs \(got'):
        head(X, pairs, short)


def test_config_round_trip():
    head = WordPairHead(F, T, R, (3,), directed=False, span_rule='diagonal',
                        signatures=SIGNATURES, dropout=0.1)
    config = json.loads(json.dumps(head.get_config()))
    again = build_from_config(config)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.head_first, head.head_first)
    assert again.span_rule == 'diagonal' and again.dropout.p == 0.1
    pairs = head.pair_index(PTR)
    features = [(torch.randn(2, 3), pairs[0] % 2)]
    assert torch.equal(again.eval()(X, pairs, features),
                       head.eval()(X, pairs, features))


def test_reproducible_and_silent():
    state, python = torch.get_rng_state(), random.getstate()
    head = WordPairHead(F, T, R, signatures=SIGNATURES).eval()
    torch.set_rng_state(state)
    pairs = head.pair_index(PTR)
    head.decode(head(X, pairs), pairs, PTR)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    before = head.classifier.weight.clone()
    torch.manual_seed(1)
    head.reset_parameters()
    assert not torch.equal(head.classifier.weight, before)
