import copy
import pickle

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mmgraph.errors import InputError
from mmgraph.parse import WordTokenizer, fit_pieces, insert_markers

TEXT = ['Mira Vance joins Orbit Labs in Tarn today',
        'the lovely choir of Tarn sings'] * 20


def byte_level():
    """A byte-level tokenizer like that of RoBERTa, trained on our text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=400, special_tokens=['<s>', '</s>'],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer,
                                   bos_token='<s>', eos_token='</s>')


def metaspace():
    """A tokenizer like those of SentencePiece, trained on our text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TEXT, trainers.UnigramTrainer(
        vocab_size=60, special_tokens=['<unk>', '</s>'], unk_token='<unk>'))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer,
                                   unk_token='<unk>', eos_token='</s>')


@pytest.mark.parametrize('make', [byte_level, metaspace])
def test_blank_before_words(make):
    tokenizer = make()
    words = WordTokenizer(tokenizer)
    text = TEXT[0].split()
    inside = tokenizer(' ' + TEXT[0] if make is byte_level else TEXT[0],
                       add_special_tokens=False)['input_ids']
    assert [i for word in text for i in words(word)] == inside
    assert words.last_id == tokenizer.eos_token_id


def test_no_unknown_piece():
    words = WordTokenizer(byte_level())
    assert words.unknown_id is None
    assert words('\U0001f642')  # bytes are always known
    assert words('</s>')[0] != words.last_id


def test_equals_whole_text(minilm):
    tokenizer = AutoTokenizer.from_pretrained(str(minilm))
    words = WordTokenizer(str(minilm))
    text = "Ünlikely antidisestablishments , don't ! 漢字 : )".split()
    found = tokenizer(text, is_split_into_words=True)
    ids = [i for word in text for i in words(word)]
    assert [words.first_id, *ids, words.last_id] == found['input_ids']


def test_special_words(minilm):
    words = WordTokenizer(str(minilm))
    special = set(words.tokenizer.all_special_ids)
    for word in '[SEP]', '[CLS]', '[MASK]', '[PAD]':
        assert special.isdisjoint(words(word))
    assert words('\ufe0f') == words('\u200b') == (words.unknown_id, )
    assert words('') == (words.unknown_id, )


def test_word_is_no_marker(minilm):
    tokenizer = AutoTokenizer.from_pretrained(str(minilm))
    tokenizer.add_tokens(['[E1]'])
    words = WordTokenizer(tokenizer)
    marker, = words.marker_ids(['[E1]'])
    assert words('[E1]') == (words.unknown_id, )
    assert marker == len(tokenizer) - 1


def test_caller_keeps_its_tokenizer(minilm):
    tokenizer = AutoTokenizer.from_pretrained(str(minilm))
    backend = tokenizer.backend_tokenizer
    backend.enable_padding(length=12)
    backend.enable_truncation(3)
    words = WordTokenizer(tokenizer)
    assert len(words('antidisestablishmentarianism')) > 3
    assert len(words('a')) == 1
    assert backend.padding['length'] == 12
    assert not backend.encode_special_tokens


@pytest.mark.parametrize('clone', [
    copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies(minilm, clone):
    words = WordTokenizer(str(minilm))
    assert clone(words)('unlikely') == words('unlikely')


class PythonTokenizer:
    """The part of the interface that tokenizers without a backend have."""
    unk_token_id, cls_token_id, sep_token_id = 0, 1, 2
    all_special_ids = (0, 1, 2)
    name_or_path = 'letters'

    def tokenize(self, text):
        return list(text.replace(' ', ''))

    def convert_tokens_to_ids(self, tokens):
        if isinstance(tokens, str):
            return ord(tokens) if len(tokens) == 1 else 0
        return [ord(token) for token in tokens]


def test_without_backend():
    words = WordTokenizer(PythonTokenizer())
    assert words('ab') == (97, 98)
    assert words.name == 'letters'
    with pytest.raises(ValueError, match=r"\(got '\[E\]' with 'letters'\)"):
        words.marker_ids(['a', '[E]'])


def test_not_a_tokenizer(tmp_path):
    with pytest.raises(InputError, match='no tokenizer can be loaded') as e:
        WordTokenizer(str(tmp_path))
    assert str(e.value).startswith(f'{tmp_path}: ')
    assert '\n' not in str(e.value)


def test_insert_markers():
    found = insert_markers([[10], [11, 12], [13]], [(2, 3), (0, 2)],
                           [(1, 2), (3, 4)], 8, 9)
    assert found.input_id == [8, 3, 10, 11, 12, 4, 1, 13, 2, 9]
    assert found.token == [2, 3, 4, 7]
    assert found.word == [0, 1, 1, 2]
    assert found.opening == [6, 1]
    assert insert_markers([]).input_id == []


@pytest.mark.parametrize('mentions, expected', [
    ([(0, 2), (0, 1)], [1, 3, 10, 4, 11, 2]),  # same start
    ([(0, 1), (0, 2)], [3, 1, 10, 2, 11, 4]),
    ([(0, 2), (1, 2)], [1, 10, 3, 11, 4, 2]),  # same end
    ([(1, 2), (0, 2)], [3, 10, 1, 11, 2, 4]),
    ([(0, 2), (0, 2)], [1, 3, 10, 11, 4, 2]),  # the same words
    ([(1, 2), (0, 1)], [3, 10, 4, 1, 11, 2]),  # side by side
])
def test_nested_markers(mentions, expected):
    found = insert_markers([[10], [11]], mentions, [(1, 2), (3, 4)])
    assert found.input_id == expected


def test_fit_pieces():
    pieces = [[0], [10, 11], [20], [30, 31, 32], [40], [50]]
    mentions = [(1, 2), (3, 4)]
    assert fit_pieces(pieces, 9, mentions) == pieces
    assert fit_pieces(pieces, 8, mentions)[5] == []
    assert fit_pieces(pieces, 7, mentions) == [
        [0], [10, 11], [20], [30, 31, 32], [], []]
    # The word between the mentions is near to both.
    assert fit_pieces(pieces, 6, mentions) == [
        [], [10, 11], [20], [30, 31, 32], [], []]
    # Whole words go: one piece too many costs the word.
    assert fit_pieces([[1, 2], [3]], 2, [(1, 2)]) == [[], [3]]
    assert fit_pieces(pieces, 5, mentions) == [
        [], [10, 11], [], [30, 31, 32], [], []]
    assert fit_pieces(pieces, 4, mentions) == [
        [], [10, 11], [], [30, 31], [], []]
    assert fit_pieces(pieces, 2, mentions) == [[], [10], [], [30], [], []]
    with pytest.raises(ValueError, match=r'2 pieces are needed .* room for 1'):
        fit_pieces(pieces, 1, mentions)


def test_fit_pieces_without_mentions():
    assert fit_pieces([[1], [2, 3], [4]], 2) == [[1], [], []]
    assert fit_pieces([[1, 2, 3], [4]], 2) == [[1, 2], []]
    assert fit_pieces([[1, 2, 3]], 0) == [[]]
