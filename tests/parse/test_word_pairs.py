import random
from itertools import accumulate, pairwise

import pytest
import torch

from mmgraph.data import Post
from mmgraph.errors import InputError
from mmgraph.parse.word_pairs import (
    head_comes_first,
    pair_index,
    pairs_of_annotation,
    read_pairs,
    read_table,
    table_of,
    upper_triangle,
    word_pair_vocabulary,
)
from mmgraph.testing.word_pairs import (
    word_pair_quintuples_oracle,
    word_pair_spans_oracle,
    word_pair_table_oracle,
)
from tests.data.cases import make_text

TYPES, RELATIONS = ['per', 'org', 'loc'], ['member_of', 'located', 'peer']
T, R = len(TYPES), len(RELATIONS)
RULES = ['triangle', 'diagonal']
both_directions = pytest.mark.parametrize('directed', [False, True])
both_rules = pytest.mark.parametrize('rule', RULES)


def ptr_of(sizes):
    return torch.tensor([0, *accumulate(sizes)])


def disjoint(rng, n, gap=1, longest=3):
    """Random mentions, each `gap` words or more behind the last, and random
    relations, at most one between two mentions."""
    spans, start = [], rng.randrange(2)
    while start < n:
        end = min(n, start + rng.randint(1, longest))
        spans.append((start, end, rng.randrange(T)))
        start = end + gap + rng.randrange(3)
    couples = [(a, b) for a in range(len(spans)) for b in range(len(spans))
               if a < b]
    chosen = rng.sample(couples, min(len(couples), rng.randint(0, 4)))
    return spans, [((a, b) if rng.random() < .5 else (b, a)) +
                   (rng.randrange(R),) for a, b in chosen]


def any_annotation(rng, n):
    """Mentions that may overlap, touch or occur twice."""
    spans = []
    for _ in range(rng.randint(0, 5) if n else 0):
        start = rng.randrange(n)
        spans.append((start, rng.randint(start + 1, min(n, start + 4)),
                      rng.randrange(T)))
    if not spans:
        return [], []
    return spans, [(rng.randrange(len(spans)), rng.randrange(len(spans)),
                    rng.randrange(R)) for _ in range(rng.randint(0, 6))]


def random_table(rng, n):
    """Labels that favour runs, so that mentions of several words occur."""
    kind = rng.randint(1, T)
    pool = [kind] * rng.choice([2, 8, 30]) + list(range(1 + T + R)) + [0] * 2
    return [[rng.choice(pool) for _ in range(n)] for _ in range(n)]


def pack(posts):
    """Annotations of posts as tensors over a batch."""
    ptr = ptr_of(n for n, _, _ in posts)
    mentions, relations = [], []
    for (_, spans, triples), first in zip(posts, ptr.tolist()):
        shift = len(mentions)
        mentions += [(s + first, e + first, t) for s, e, t in spans]
        relations += [(h + shift, t + shift, r) for h, t, r in triples]
    return ptr, *(torch.tensor(rows, dtype=torch.long).view(-1, 3).t()
                  for rows in (mentions, relations))


def cells_of(tables, directed):
    """The used cells of tables, in order."""
    return [row[j] for table in tables for i, row in enumerate(table)
            for j in range(0 if directed else i, len(table))]


def unpack(found, ptr):
    """What was read, as mentions and quintuples of each post."""
    spans = [tuple(span) for span in found.spans.t().tolist()]
    out = []
    for begin, end in pairwise(ptr.tolist()):
        def local(span, begin=begin):
            return span[0] - begin, span[1] - begin, span[2]
        inside = [span for span in spans if begin <= span[0] < end]
        out.append(([local(span) for span in inside],
                    [(local(spans[h]), local(spans[t]), r)
                     for h, t, r in found.relations.t().tolist()
                     if spans[h] in inside]))
    return out


def labels_of(posts, directed=False):
    ptr, mentions, relations = pack(posts)
    pairs = pair_index(ptr, directed)
    return ptr, pairs, pairs_of_annotation(pairs, mentions, relations, T, R,
                                           directed)


@both_directions
@pytest.mark.parametrize('sizes', [[], [0], [1], [0, 3, 0, 0, 1, 4, 0]])
def test_pairs_are_listed_row_by_row(sizes, directed):
    expected, first = [], 0
    for n in sizes:
        expected += [(first + i, first + j) for i in range(n)
                     for j in range(n) if directed or i <= j]
        first += n
    ptr = ptr_of(sizes)
    pairs = pair_index(ptr, directed)
    assert pairs.shape == (2, len(expected)) and pairs.dtype == torch.long
    assert [tuple(pair) for pair in pairs.t().tolist()] == expected
    upper = pair_index(ptr)[:, upper_triangle(pairs, ptr)]
    assert torch.equal(upper, pairs.sort(dim=0).values)


def test_vocabulary():
    names = word_pair_vocabulary(TYPES, RELATIONS)
    assert len(names) == 1 + T + R
    assert names.labels[1 + 2] == 'entity:loc'
    assert names.labels[1 + T + 2] == 'relation:peer'
    # A type and a relation of one name, and one called like no label.
    assert len(word_pair_vocabulary(['none', 'x'], ['x', 'none'])) == 5


@both_directions
@pytest.mark.parametrize('make', [disjoint, any_annotation])
def test_labels_are_those_of_the_oracle(make, directed):
    rng = random.Random(0)
    for _ in range(60):
        posts = []
        for _ in range(rng.randint(0, 6)):
            n = rng.choice([0, 1, 2, 5, 9])
            posts.append((n, *make(rng, n)))
        _, _, labels = labels_of(posts, directed)
        tables = [word_pair_table_oracle(n, spans, triples, T, directed)
                  for n, spans, triples in posts]
        assert labels.tolist() == cells_of(tables, directed)


@both_rules
@both_directions
def test_any_table_is_read_as_by_the_oracle(rule, directed):
    rng = random.Random(1)
    mentions = related = 0
    for _ in range(500):
        tables = [random_table(rng, rng.choice([0, 1, 2, 3, 6, 13]))
                  for _ in range(rng.randint(0, 5))]
        ptr = ptr_of(map(len, tables))
        found = read_pairs(
            torch.tensor(cells_of(tables, directed), dtype=torch.long),
            pair_index(ptr, directed), ptr, T, R, rule, directed)
        for table, (spans, quintuples) in zip(tables, unpack(found, ptr),
                                              strict=True):
            expected = word_pair_spans_oracle(table, T, rule)
            assert spans == expected
            assert quintuples == word_pair_quintuples_oracle(
                table, expected, T, directed)
            mentions += sum(end - start > 2 for start, end, _ in spans)
            related += len(quintuples)
    assert mentions > 50 and related > 300  # not only trivial ones


@both_rules
def test_directed_table_is_read_back_whole(rule):
    rng = random.Random(2)
    for _ in range(60):
        posts = [(n, *disjoint(rng, n)) for n in (0, 1, 7, 12)]
        ptr, pairs, labels = labels_of(posts, directed=True)
        found = read_pairs(labels, pairs, ptr, T, R, rule, directed=True)
        assert (found.score == 1).all()
        for (_, spans, triples), (got, quintuples) in zip(
                posts, unpack(found, ptr), strict=True):
            assert got == spans
            assert sorted(quintuples) == sorted(
                (spans[h], spans[t], r) for h, t, r in triples)


@both_rules
def test_undirected_table_is_read_back_but_for_direction(rule):
    rng = random.Random(3)
    for _ in range(60):
        posts = [(n, *disjoint(rng, n)) for n in (0, 1, 7, 12)]
        ptr, pairs, labels = labels_of(posts)
        found = read_pairs(labels, pairs, ptr, T, R, rule)
        for (_, spans, triples), (got, quintuples) in zip(
                posts, unpack(found, ptr), strict=True):
            assert got == spans
            assert quintuples == sorted(
                (spans[min(h, t)], spans[max(h, t)], r) for h, t, r in triples)


def test_touching_mentions():
    rng = random.Random(4)
    joined = 0
    for _ in range(60):
        posts = [(n, *disjoint(rng, n, gap=0)) for n in (5, 9)]
        ptr, pairs, labels = labels_of(posts)
        triangle, diagonal = (
            [spans for spans, _ in unpack(read_pairs(
                labels, pairs, ptr, T, R, rule), ptr)] for rule in RULES)
        assert triangle == [spans for _, spans, _ in posts]
        joined += diagonal != triangle
    assert joined


WORDS = 'Porto greets Ana Ruiz of Delta FC'.split()
#: Ana Ruiz (per), Delta FC (org), Porto (loc).
MENTIONS = [(2, 4, 0), (5, 7, 1), (0, 1, 2)]
TRIPLES = [(0, 1, 0), (1, 2, 1)]  # member_of, located
SIGNATURES = [[0, 0, 1, 5, 1], [1, 1, 2, 4, 3]]


def read(table, **options):
    spans, triples = read_table(table, WORDS, TYPES, RELATIONS, **options)
    return {(spans[h], spans[t], r) for h, t, r in triples}


@both_rules
@both_directions
def test_worked_example(rule, directed):
    post = Post.build(make_text(' '.join(WORDS)), entities=MENTIONS,
                      relations=TRIPLES)
    table = table_of(post, T, R, directed)
    if not directed:
        assert table.tolist() == [
            [3, 0, 0, 0, 0, 5, 5],
            [-1, 0, 0, 0, 0, 0, 0],
            [-1, -1, 1, 1, 0, 4, 4],
            [-1, -1, -1, 1, 0, 4, 4],
            [-1, -1, -1, -1, 0, 0, 0],
            [-1, -1, -1, -1, -1, 2, 2],
            [-1, -1, -1, -1, -1, -1, 2],
        ]
    gold = {(MENTIONS[h], MENTIONS[t], r) for h, t, r in TRIPLES}
    options = dict(span_rule=rule, directed=directed)
    if not directed:
        options['signatures'] = SIGNATURES
        first = {(*sorted(pair), r) for *pair, r in gold}
        assert read(table, span_rule=rule) == first != gold
    assert read(table, **options) == gold
    table[2, 6], table[3, 5] = 6, 0  # one vote for peer, one for none
    assert read(table, **options) == gold
    table[2, 5], table[3, 6] = 6, 0  # two for peer, none for member_of
    assert read(table, **options) == {
        (MENTIONS[1], MENTIONS[2], 1), (MENTIONS[0], MENTIONS[1], 2)}


def test_ties_go_to_the_smallest_relation():
    words = ['a', 'b', 'c', 'd']
    table = [[1, 1, 0, 5], [-1, 1, 0, 4], [-1, -1, 0, 0], [-1, -1, -1, 2]]
    assert read_table(table, words, TYPES, RELATIONS)[1] == [(0, 1, 0)]
    table[0][3], table[1][3] = 4, 5
    assert read_table(table, words, TYPES, RELATIONS)[1] == [(0, 1, 0)]


def test_directions_compete():
    words = ['a', 'b', 'c']
    table = [[1, 1, 4], [0, 1, 0], [5, 5, 2]]  # a → c, and twice c → a
    assert read_table(table, words, TYPES, RELATIONS, directed=True)[1] == [
        (1, 0, 1)]
    table[2][1] = 4  # one vote each: the smallest id, then the text's order
    assert read_table(table, words, TYPES, RELATIONS, directed=True)[1] == [
        (0, 1, 0)]
    table[0][2] = 5
    assert read_table(table, words, TYPES, RELATIONS, directed=True)[1] == [
        (1, 0, 0)]
    table[2][1] = 0
    assert read_table(table, words, TYPES, RELATIONS, directed=True)[1] == [
        (0, 1, 1)]


@both_directions
def test_score_is_the_mean_probability(directed):
    rng = random.Random(5)
    generator = torch.Generator().manual_seed(0)
    scored = 0
    for _ in range(40):
        n = 9
        table = random_table(rng, n)
        ptr = torch.tensor([0, n])
        pairs = pair_index(ptr, directed)
        labels = torch.tensor(cells_of([table], directed))
        logits = torch.randn(labels.numel(), 1 + T + R, generator=generator)
        logits[torch.arange(labels.numel()), labels] += 5
        found = read_pairs(labels, pairs, ptr, T, R, 'diagonal', directed,
                           logits=logits)
        share = read_pairs(labels, pairs, ptr, T, R, 'diagonal', directed)
        p = torch.zeros(n, n, 1 + T + R)
        p[pairs[0], pairs[1]] = logits.softmax(-1)
        spans = found.spans.t().tolist()
        for (h, t, r), score, part in zip(
                found.relations.t().tolist(), found.score.tolist(),
                share.score.tolist(), strict=True):
            cells = [(i, j) for i in range(*spans[h][:2])
                     for j in range(*spans[t][:2])]
            label = 1 + T + r
            assert score == pytest.approx(
                sum(float(p[i, j, label]) for i, j in cells) / len(cells),
                rel=1e-5)
            assert part == pytest.approx(
                sum(table[i][j] == label for i, j in cells) / len(cells))
            scored += 1
    assert scored > 20


@both_rules
@both_directions
def test_a_post_is_read_alone_as_in_a_batch(rule, directed):
    rng = random.Random(6)
    tables = [random_table(rng, n) for n in (4, 0, 9, 1, 6)]
    ptr = ptr_of(map(len, tables))
    labels = torch.tensor(cells_of(tables, directed))
    whole = unpack(read_pairs(labels, pair_index(ptr, directed), ptr, T, R,
                              rule, directed), ptr)
    for table, expected in zip(tables, whole, strict=True):
        alone = torch.tensor([0, len(table)])
        labels = torch.tensor(cells_of([table], directed), dtype=torch.long)
        assert unpack(read_pairs(labels, pair_index(alone, directed), alone,
                                 T, R, rule, directed), alone) == [expected]


@both_directions
def test_no_mention_and_no_word(directed):
    for posts in ([], [(0, [], [])], [(3, [], []), (0, [], [])]):
        ptr, pairs, labels = labels_of(posts, directed)
        assert not labels.any()
        for rule in RULES:
            found = read_pairs(labels, pairs, ptr, T, R, rule, directed)
            assert found.spans.shape == found.relations.shape == (3, 0)
            assert found.score.shape == (0,)
    assert read_table([], [], TYPES, RELATIONS) == ([], [])
    assert read_table([[2]], ['a'], TYPES, RELATIONS) == ([(0, 1, 1)], [])


def oriented(signatures):
    return head_comes_first(signatures, T, R)


def test_types_tell_the_head():
    table = oriented([[0, 0, 1, 1, 5], [0, 1, 0, 2, 1]])
    assert table[0, 0, 1] and not table[0, 1, 0]
    assert table[1].all()  # nothing is known of this relation


def test_order_tells_the_head_of_equal_types():
    table = oriented([[0, 2, 2, 1, 5], [1, 2, 2, 5, 1]])
    assert not table[0, 2, 2] and table[1, 2, 2]
    # Types that were never seen take the relation's order over all types.
    assert not table[0, 0, 0] and not table[0, 1, 2] and table[1, 0, 0]


def test_order_tells_the_head_if_types_do_not():
    # As often per → org as org → per: 4 + 1 heads first, 2 + 3 tails first.
    table = oriented([[0, 0, 1, 4, 2], [0, 1, 0, 1, 5], [0, 2, 2, 9, 0]])
    assert not table[0, 0, 1] and not table[0, 1, 0]
    # A tie of that too: the relation's order over all types, heads first.
    table = oriented([[0, 0, 1, 4, 2], [0, 1, 0, 2, 4], [0, 2, 2, 0, 9]])
    assert not table[0, 0, 1] and not table[0, 1, 0]
    assert oriented([]).all()


def test_rows_of_one_signature_add_up():
    whole = oriented([[0, 2, 2, 3, 4]])
    assert torch.equal(oriented([[0, 2, 2, 3, 0], [0, 2, 2, 0, 4]]), whole)


@pytest.mark.parametrize('row', [
    [R, 0, 0, 1, 1], [0, T, 0, 1, 1], [0, 0, T, 1, 1], [-1, 0, 0, 1, 1],
    [0, 0, 0, -1, 1], [0, 0, 0, 1],
])
def test_bad_signatures(row):
    with pytest.raises(ValueError, match=r"'signatures' must be rows"):
        oriented([row])


GOOD = [[1, 0, 4], [-1, 0, 0], [-1, -1, 2]]


@pytest.mark.parametrize('change, words, message', [
    (None, 'a b', r'each of the 2 words \(got 3 x 3\)'),
    (None, 'a b c d', r'each of the 4 words \(got 3 x 3\)'),
    (None, '', r'each of the 0 words \(got 3 x 3\)'),
    ((0, 2, 7), 'a b c', r'pair \(0, 2\) .* in \[1, 3\] \(a type\) or in '
     r'\[4, 6\] \(a relation\) \(got 7\)'),
    ((1, 1, -2), 'a b c', r'pair \(1, 1\) .*\(got -2\)'),
    ((2, 0, 5), 'a b c', r'pair \(2, 0\) .*directed=True \(got 5\)'),
])
def test_bad_table(change, words, message):
    table = torch.tensor(GOOD)
    if change is not None:
        table[change[0], change[1]] = change[2]
    with pytest.raises(InputError, match=message) as caught:
        read_table(table, words.split(), TYPES, RELATIONS, post_id='p7')
    assert str(caught.value).startswith("post 'p7': ")
    assert '\n' not in str(caught.value)


def test_more_bad_tables():
    for table, message in (
            ([[0, 1], [0]], 'must be a square of ids'),
            ([0, 1], r'\(got 2\)'),
            ([[0., 1.], [0., 0.]], 'must hold integers'),
            ([['a', 'b'], ['c', 'd']], 'must be a square of ids')):
        with pytest.raises(InputError, match=f"^post 'p7': .*{message}"):
            read_table(table, ['a', 'b'], TYPES, RELATIONS, post_id='p7')


def test_mirrored_table_is_undirected():
    table = torch.tensor([[1, 0, 4], [0, 0, 0], [4, 0, 2]])
    expected = ([(0, 1, 0), (2, 3, 1)], [(0, 1, 0)])
    assert read_table(table, 'a b c'.split(), TYPES, RELATIONS) == expected
    table[0, 1] = -1  # ignored
    assert read_table(table, 'a b c'.split(), TYPES, RELATIONS) == expected


def test_annotation_outside_the_scheme():
    text = make_text('a b c')
    with pytest.raises(InputError,
                       match=r"^post 'p7': 'type_id' must be in \[0, 3\) "
                       r'\(got 3\)$'):
        table_of(Post.build(text, entities=[(0, 1, 3)], post_id='p7'), T, R)
    post = Post.build(text, entities=[(0, 1, 0), (1, 2, 0)],
                      relations=[(0, 1, 3)], post_id='p7')
    with pytest.raises(InputError,
                       match=r"^post 'p7': 'relation_id' must be in \[0, 3\) "
                       r'\(got 3\)$'):
        table_of(post, T, R)
    with pytest.raises(ValueError, match=r"post 'p7': mention 0 must be a "
                       r'span inside the 3 words \(got \[2, 4\)\)'):
        Post.build(text, entities=[(2, 4, 0)], post_id='p7')


def test_unknown_rule():
    ptr = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="'span_rule' must be one of"):
        read_pairs(torch.tensor([0]), pair_index(ptr), ptr, T, R, 'square')
