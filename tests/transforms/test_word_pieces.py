import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.loader import DataLoader
from transformers import AutoTokenizer

from mmgraph.data import Post, TextGraph, Vocabulary
from mmgraph.datasets import MNRE
from mmgraph.transforms import WordPieces

LABELS = Vocabulary(['root'])
H, H_, T, T_ = '[unused0]', '[unused1]', '[unused2]', '[unused3]'


def make(words, entities=(), relations=()):
    n = len(words)
    text = TextGraph.from_heads(words, [-1] * n, ['root'] * n, LABELS)
    return Post.build(text, entities=entities, relations=relations)


@pytest.fixture(scope='session')
def pieces(minilm):
    return WordPieces(str(minilm))


def tokens(pieces, post):
    ids = post['token'].input_id.tolist()
    return AutoTokenizer.from_pretrained(
        pieces.tokenizer).convert_ids_to_tokens(ids)


WORDS = 'RT Mira Vance joins Orbit Labs'.split()


@pytest.mark.parametrize('relation, expected', [
    ((0, 1, 3), [H, 'mira', 'vance', H_, 'joins', T, 'orbit', 'labs', T_]),
    ((1, 0, 3), [T, 'mira', 'vance', T_, 'joins', H, 'orbit', 'labs', H_]),
])
def test_roles_not_order(pieces, relation, expected):
    post = pieces(make(WORDS, [(1, 3), (4, 6)], [relation]))
    assert tokens(pieces, post) == ['[CLS]', 'rt', *expected, '[SEP]']
    part_of = post['token', 'part_of', 'word'].edge_index
    assert part_of.tolist() == [[1, 3, 4, 6, 8, 9], [0, 1, 2, 3, 4, 5]]
    entity, token = post['entity', 'marked_by', 'token'].edge_index
    assert entity.tolist() == list(relation[:2])
    assert [tokens(pieces, post)[i] for i in token] == [H, T]
    assert post.validate()


def test_nested(pieces):
    post = make('Lake Ola Band'.split(), [(0, 3), (0, 2)], [(0, 1, 0)])
    assert tokens(pieces, pieces(post)) == [
        '[CLS]', H, T, 'lake', 'ol', '##a', T_, 'band', H_, '[SEP]']


def test_without_relation(pieces, minilm):
    plain = ['[CLS]', *(word.lower() for word in WORDS), '[SEP]']
    for post in make(WORDS), make(WORDS, [(1, 3)]):
        post = pieces(post)
        assert tokens(pieces, post) == plain
        assert post['entity', 'marked_by', 'token'].edge_index.shape == (2, 0)
        assert post.validate()
    unmarked = WordPieces(str(minilm), mark_entities=False)
    post = unmarked(make(WORDS, [(1, 3), (4, 6)], [(0, 1, 3)]))
    assert tokens(unmarked, post) == plain
    assert post['entity', 'marked_by', 'token'].edge_index.shape == (2, 0)
    empty = pieces(make([]))
    assert tokens(pieces, empty) == ['[CLS]', '[SEP]']
    assert empty['token', 'part_of', 'word'].edge_index.shape == (2, 0)


def test_leaves_the_post_alone(pieces):
    post = make(WORDS)
    assert 'token' in pieces(post).node_types
    assert 'token' not in post.node_types


def test_batches(pieces):
    posts = [pieces(make(WORDS, [(1, 3), (4, 6)], [(0, 1, 3)])),
             pieces(make(['town'])), pieces(make([]))]
    batch = next(iter(DataLoader(posts, batch_size=3)))
    assert batch['token'].ptr.tolist() == [0, 12, 15, 17]
    assert batch['token', 'part_of', 'word'].edge_index[:, -1].tolist() == [
        13, 6]
    back = batch.to_data_list()
    for a, b in zip(back, posts, strict=True):
        assert torch.equal(a['token'].input_id, b['token'].input_id)
        assert torch.equal(a['entity', 'marked_by', 'token'].edge_index,
                           b['entity', 'marked_by', 'token'].edge_index)


def test_num_tokens(pieces):
    assert pieces.num_tokens(WORDS) == 6
    assert pieces.num_tokens([]) == 0
    assert pieces.num_tokens(['antidisestablishmentarianism']) > 3


def test_repr(pieces):
    again = eval(repr(pieces), {'WordPieces': WordPieces})
    assert repr(again) == repr(pieces)
    assert 'max_length=128' in repr(pieces)
    tokenizer = AutoTokenizer.from_pretrained(pieces.tokenizer)
    assert repr(WordPieces(tokenizer)) == repr(pieces)


def test_arguments(minilm):
    name = str(minilm)
    with pytest.raises(ValueError, match=r"vocabulary \(got '<e>' with"):
        WordPieces(name, markers=('[unused0]', '<e>', '[unused2]', 'a'))
    with pytest.raises(ValueError, match='must be four different pieces'):
        WordPieces(name, markers=('[unused0]', ) * 4)
    with pytest.raises(ValueError, match=r'at least 8: .* \(got 7\)'):
        WordPieces(name, max_length=7)
    WordPieces(name, max_length=8)
    WordPieces(name, max_length=3, markers=(), mark_entities=False)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.add_tokens(['<e>', '</e>', '<t>', '</t>'])
    added = WordPieces(tokenizer, markers=('<e>', '</e>', '<t>', '</t>'))
    post = added(make(['a'], [(0, 1), (0, 1)], [(0, 1, 0)]))
    assert post['token'].input_id.max() == len(tokenizer) - 1


@pytest.mark.parametrize('max_length, expected', [
    (11, [H, 'mira', 'vance', H_, 'joins', T, 'orbit', 'labs', T_]),
    (10, [H, 'mira', 'vance', H_, T, 'orbit', 'labs', T_]),
    (9, [H, 'mira', 'vance', H_, T, 'orbit', T_]),
    (8, [H, 'mira', H_, T, 'orbit', T_]),
])
def test_truncation(minilm, max_length, expected):
    pieces = WordPieces(str(minilm), max_length=max_length)
    words = [*WORDS, 'in', 'town', 'today']
    post = pieces(make(words, [(1, 3), (4, 6)], [(0, 1, 3)]))
    assert tokens(pieces, post) == ['[CLS]', *expected, '[SEP]']
    plain = pieces(make(words))
    assert tokens(pieces, plain)[1:3] == ['rt', 'mira']
    assert plain['token'].num_nodes == min(max_length, 11)


SPAN = st.tuples(st.integers(0, 8), st.integers(0, 8))
WORD = st.sampled_from(['Tarn', 'antidisestablishment', '!', '[SEP]', '🙂',
                        '\ufe0f', 'Quill', 'zoologically', 'é'])


@settings(deadline=None)
@given(words=st.lists(WORD, min_size=1, max_size=9), head=SPAN, tail=SPAN,
       max_length=st.integers(8, 40))
def test_marker_invariants(minilm, words, head, tail, max_length):
    n = len(words)
    spans = [(min(a % n, b % n), max(a % n, b % n) + 1)
             for a, b in (head, tail)]
    pieces = _cached(str(minilm), max_length)
    post = pieces(make(words, spans, [(0, 1, 0)]))
    ids = post['token'].input_id.tolist()
    whole = _cached(str(minilm), 512)(make(words, spans, [(0, 1, 0)]))
    assert len(ids) == min(max_length, len(ids))
    if whole['token'].num_nodes <= max_length:
        assert ids == whole['token'].input_id.tolist()
    assert ids[0] == 101 and ids[-1] == 102
    assert ids.count(101) == ids.count(102) == 1
    place = [ids.index(marker) for marker in (1, 2, 3, 4)]
    assert all(ids.count(marker) == 1 for marker in (1, 2, 3, 4))
    token, word = post['token', 'part_of', 'word'].edge_index.tolist()
    assert token == sorted(token) and word == sorted(word)
    assert sorted(token + place + [0, len(ids) - 1]) == list(range(len(ids)))
    for (start, end), opening, closing in zip(
            spans, place[::2], place[1::2], strict=True):
        for t, w in zip(token, word, strict=True):
            assert (start <= w < end) == (opening < t < closing)
        assert start in word  # the opening piece is never lost
    # What is left of a word is its beginning.
    full = whole['token', 'part_of', 'word'].edge_index
    for w in set(word):
        left = [ids[t] for t, v in zip(token, word, strict=True) if v == w]
        all_ids = whole['token'].input_id[full[0][full[1] == w]].tolist()
        assert left == all_ids[:len(left)]
        if not any(start <= w < end for start, end in spans):
            assert left == all_ids
    # Changing the roles changes the markers and nothing else.
    if spans[0] != spans[1]:
        other = pieces(make(words, spans, [(1, 0, 0)]))['token'].input_id
        swap = {1: 3, 2: 4, 3: 1, 4: 2}
        assert other.tolist() == [swap.get(i, i) for i in ids]


_PIECES = {}


def _cached(name, max_length):
    key = name, max_length
    if key not in _PIECES:
        _PIECES[key] = WordPieces(name, max_length=max_length)
    return _PIECES[key]


@pytest.mark.real_data
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_real_pieces_equal_the_tokenizers(data_root, minilm, version):
    dataset = MNRE(data_root / 'mnre', 'test', version, 'none')
    tokenizer = AutoTokenizer.from_pretrained(str(minilm))
    pieces = WordPieces(str(minilm))
    words = [post.words for post in map(dataset.post,
                                        range(dataset.num_posts))]
    expected = tokenizer(words, is_split_into_words=True,
                         add_special_tokens=False)
    for i, row in enumerate(words):
        found = [piece for word in row for piece in pieces._words(word)]
        # A word that yields no piece has one here.
        empty = set(range(len(row))) - set(expected.word_ids(i))
        assert len(found) == len(expected['input_ids'][i]) + len(empty)
        if not empty:
            assert found == expected['input_ids'][i]
    for post in dataset:
        ids = pieces(post)['token'].input_id.tolist()
        assert all(ids.count(marker) == 1 for marker in (1, 2, 3, 4))
        assert len(ids) < 128
