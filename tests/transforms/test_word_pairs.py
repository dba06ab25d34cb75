import math
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, TextGraph, Vocabulary
from mmgraph.datasets import MNRE
from mmgraph.errors import InputError
from mmgraph.transforms import WordPairs

LABELS = Vocabulary(['root', 'dep'])
PAIRS = ('word', 'pairs', 'word')


def make(words, heads=None):
    heads = [-1] * len(words) if heads is None else heads
    return Post.build(TextGraph.from_heads(
        words, heads, ['root' if h < 0 else 'dep' for h in heads], LABELS))


def table(post, name):
    n = len(post.words)
    found = torch.full((n, n), -1)
    i, j = post[PAIRS].edge_index
    found[i, j] = found[j, i] = post[PAIRS][name]
    return found.tolist()


# --- from the definitions, with plain loops ----------------------------------


def slow_distances(heads, far):
    n = len(heads)
    near = [{j for j in range(n) if heads[j] == i or heads[i] == j}
            for i in range(n)]
    rows = []
    for start in range(n):
        hops, edge = {start: 0}, [start]
        while edge:
            edge = [j for i in edge for j in sorted(near[i]) if j not in hops
                    and hops.setdefault(j, hops[i] + 1)]
        rows.append([min(hops[j], far) if j in hops else far + 1
                     for j in range(n)])
    return rows


def slow_pmi(texts, words, window, lower=str.lower, leave_one_out=True):
    count = Counter()
    texts, own = list(texts), [lower(word) for word in words]
    same = [text for text in texts if [lower(word) for word in text] == own]
    if leave_one_out and same:
        texts.remove(same[0])
    for text in texts:
        for p, a in enumerate(text):
            for q, b in enumerate(text):
                if 1 <= abs(p - q) <= window:
                    count[lower(a), lower(b)] += 1
    total, row = sum(count.values()), Counter()
    for (a, _), c in count.items():
        row[a] += c

    def bin_of(a, b):
        if not count[a, b]:
            return 0
        pmi = round(math.log2(count[a, b] * total / (row[a] * row[b])))
        return min(math.ceil(max(pmi, 0) / 2), 10)

    return [[bin_of(lower(a), lower(b)) for b in words] for a in words]


@st.composite
def trees(draw):
    n = draw(st.integers(0, 14))
    order = draw(st.permutations(range(n)))
    heads = [-1] * n
    for place in range(1, n):  # Half of the words hang on an earlier one.
        if draw(st.booleans()):
            heads[order[place]] = order[draw(st.integers(0, place - 1))]
    return heads


@settings(deadline=None)
@given(heads=trees(), far=st.integers(1, 6))
def test_distances(heads, far):
    pairs = WordPairs(max_distance=far).fit([])
    post = pairs(make(['a'] * len(heads), heads))
    assert table(post, 'distance_id') == slow_distances(heads, far)
    assert (post[PAIRS].distance_id < pairs.num_distances).all()


TEXT = st.lists(st.sampled_from(['a', 'A', 'b', 'c', 'd', 'e', 'F']),
                max_size=9)


@settings(deadline=None)
@given(texts=st.lists(TEXT, max_size=8), words=TEXT, window=st.integers(1, 9),
       lower_case=st.booleans(), leave_one_out=st.booleans())
def test_pmi(texts, words, window, lower_case, leave_one_out):
    pairs = WordPairs(window=window, lower_case=lower_case,
                      leave_one_out=leave_one_out).fit(texts)
    lower = str.lower if lower_case else str
    for post in [*words, 'new'], *texts:
        assert table(pairs(make(post)), 'pmi_id') == slow_pmi(
            texts, post, window, lower, leave_one_out)


def test_own_text_is_left_out():
    texts = [['a', 'b'], ['a', 'c'], ['d', 'e']]
    left, kept = (WordPairs(leave_one_out=flag).fit(texts)
                  for flag in (True, False))
    assert table(left(make(['a', 'b'])), 'pmi_id') == [[0, 0], [0, 0]]
    assert table(kept(make(['a', 'b'])), 'pmi_id') == [[0, 1], [1, 0]]
    # Another post with the same words is not left out, nor a second copy.
    for pairs, post in ((left, ['a', 'b', 'x']), (left.fit(texts * 2),
                                                  ['a', 'b'])):
        assert table(pairs(make(post)), 'pmi_id')[0][1] == 1


@pytest.mark.parametrize('n, expected', [
    (0, 1), (1, 1), (2, 2), (10, 2), (11, 3), (44, 3), (45, 4)])
def test_bins(n, expected):
    # PMI = log2(c_ab total / (row_a col_b)) = log2(1 (2 + 2 n) / (1 1)),
    # rounded: 1, 2, 3, 4, 5, 6, 7.
    pairs = WordPairs(leave_one_out=False).fit(
        [['a', 'b']] + [['c', 'd']] * n)
    assert table(pairs(make(['a', 'b'])), 'pmi_id') == [
        [0, expected], [expected, 0]]


def test_last_bin():
    texts = [['a', 'b'], [str(i) for i in range(200_000)]]
    pairs = WordPairs(leave_one_out=False).fit(texts)
    assert table(pairs(make(['a', 'b'])), 'pmi_id')[0][1] == 10


def test_order_types_and_shapes():
    post = WordPairs().fit([])(make(['x', 'y', 'z'], [1, -1, 1]))
    assert post[PAIRS].edge_index.tolist() == [[0, 0, 0, 1, 1, 2],
                                               [0, 1, 2, 1, 2, 2]]
    assert post[PAIRS].distance_id.tolist() == [0, 1, 2, 0, 1, 0]
    assert post[PAIRS].pmi_id.tolist() == [0] * 6
    for name in 'distance_id', 'pmi_id':
        assert post[PAIRS][name].dtype == torch.long
    assert post.validate()
    assert (WordPairs.num_pmi, WordPairs(4).num_distances) == (11, 6)


def test_batches():
    pairs = WordPairs().fit([['x', 'y', 'z']])
    posts = [pairs(make(['x', 'y', 'z'], [1, -1, 1])), pairs(make([])),
             pairs(make(['z', 'y']))]
    batch = next(iter(DataLoader(posts, batch_size=3)))
    assert batch[PAIRS].edge_index[:, -3:].tolist() == [[3, 3, 4], [3, 4, 4]]
    for a, b in zip(batch.to_data_list(), posts, strict=True):
        for name in 'edge_index', 'distance_id', 'pmi_id':
            assert torch.equal(a[PAIRS][name], b[PAIRS][name])


def test_leaves_the_post_alone():
    post = make(['a', 'b'])
    assert PAIRS in WordPairs().fit([])(post).edge_types
    assert PAIRS not in post.edge_types


def test_texts_are_counted_anew():
    pairs = WordPairs(leave_one_out=False)
    assert pairs.fit([['a', 'b'], ['c', 'd']]) is pairs
    assert table(pairs(make(['a', 'b'])), 'pmi_id')[0][1] == 1
    pairs.fit(text for text in [['c', 'd']])
    assert table(pairs(make(['a', 'b'])), 'pmi_id')[0][1] == 0


def test_before_fit():
    with pytest.raises(InputError, match=r"'WordPairs' has counted no texts "
                       r"yet: call 'fit\(dataset.texts\(\)\)'"):
        WordPairs()(make(['a']))


@pytest.mark.parametrize('kwargs, message', [
    (dict(max_distance=0), r"'max_distance' must be at least 1 \(got 0\)"),
    (dict(window=-1), r"'window' must be at least 1 \(got -1\)")])
def test_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WordPairs(**kwargs)


def test_repr_tells_what_was_counted():
    pairs = WordPairs(max_distance=3, window=2, lower_case=False)
    assert repr(pairs) == ('WordPairs(max_distance=3, window=2, '
                           'lower_case=False, leave_one_out=True)')
    assert repr(eval(repr(pairs), {'WordPairs': WordPairs})) == repr(pairs)
    shown = [repr(pairs.fit(texts)) for texts in (
        [], [['a', 'b'], ['c', 'd']], [['a', 'c'], ['b', 'd']],
        [['a', 'b'], ['c', 'd']])]
    assert len(set(shown)) == 3 and shown[1] == shown[3]
    assert all('digest=' in text for text in shown)
    again = pickle.loads(pickle.dumps(pairs))
    assert repr(again) == repr(pairs)


@pytest.mark.real_data
def test_real_texts(data_root):
    dataset = MNRE(data_root / 'mnre', 'val', 'v2')
    posts = [dataset.post(i) for i in range(0, dataset.num_posts, 7)]
    texts = [post.words for post in posts]
    pairs = WordPairs().fit(texts)
    for post in posts[::20]:
        found = pairs(post)
        assert table(found, 'distance_id') == slow_distances(
            post['word'].head.tolist(), 10)
        assert table(found, 'pmi_id') == slow_pmi(texts, post.words, 7)
    bare = MNRE(data_root / 'mnre', 'val', 'v2', graph='none').post(0)
    n = len(bare.words)
    assert table(pairs(bare), 'distance_id') == [
        [0 if i == j else 11 for j in range(n)] for i in range(n)]
