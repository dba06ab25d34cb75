import json

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.errors import InputError
from mmgraph.nn.encoders import (
    CharEmbedding,
    CharWordEncoder,
    WordEmbedding,
    load_word_vectors,
    words_of,
)
from tests.data.cases import make_text

WORDS = Vocabulary(['<unk>', 'ann', 'met', 'Bob', 'a0'], unknown='<unk>')
TEXTS = ['Ann met Bob again', '', 'met', 'zoologically é ann met ann ann']


def make_posts():
    return [Post.build(make_text(text)) for text in TEXTS]


def lstm_step(lstm, x, hidden, cell, suffix):
    """One step of a standard LSTM cell, gates in PyTorch's order."""
    gates = (getattr(lstm, f'weight_ih_{suffix}') @ x
             + getattr(lstm, f'bias_ih_{suffix}')
             + getattr(lstm, f'weight_hh_{suffix}') @ hidden
             + getattr(lstm, f'bias_hh_{suffix}'))
    i, f, g, o = gates.chunk(4)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def bilstm(lstm, rows):
    """The states of each direction, row by row."""
    rows = list(rows)
    for layer in range(lstm.num_layers):
        both = []
        for suffix in f'l{layer}', f'l{layer}_reverse':
            order = range(len(rows))
            if suffix.endswith('reverse'):
                order = reversed(order)
            hidden = cell = torch.zeros(lstm.hidden_size, dtype=torch.double)
            states = [None] * len(rows)
            for t in order:
                hidden, cell = lstm_step(lstm, rows[t], hidden, cell, suffix)
                states[t] = hidden
            both.append(states)
        rows = [torch.cat(pair) for pair in zip(*both)]
    return rows


def char_oracle(char, word):
    """One word, character by character."""
    ids = [char.chars.to_id(c) for c in word[:char.max_chars]] or [0]
    rows = [char.embedding.weight[i] for i in ids]
    if isinstance(char.reader, torch.nn.LSTM):
        states = bilstm(char.reader, rows)
        half = char.out_channels // 2
        return torch.cat([states[-1][:half], states[0][half:]])
    weight, bias = char.reader.weight, char.reader.bias
    out = []
    for t in range(len(rows)):
        value = bias.clone()
        for k in range(3):
            if 0 <= t + k - 1 < len(rows):
                value += weight[:, :, k] @ rows[t + k - 1]
        out.append(value)
    return torch.stack(out).amax(0)


def make_char(kind, **kwargs):
    return CharEmbedding(dim=3, out_channels=6, kind=kind, **kwargs).double()


@pytest.mark.parametrize('kind', ['lstm', 'cnn'])
class TestCharEmbedding:
    def test_oracle(self, kind):
        char = make_char(kind, max_chars=5)
        words = ['Ann', 'a', 'zoologically', 'é!', 'Ann', '', 'zoolo']
        out = char(words)
        assert out.shape == (7, 6)
        torch.testing.assert_close(
            out, torch.stack([char_oracle(char, w) for w in words]))
        assert torch.equal(out[0], out[4]) and torch.equal(out[2], out[6])

    def test_alone(self, kind):
        char = make_char(kind)
        words = ['Ann', 'zoologically', 'x']
        torch.testing.assert_close(
            char(words), torch.cat([char([word]) for word in words]))

    def test_empty(self, kind):
        assert make_char(kind)([]).shape == (0, 6)

    def test_gradients(self, kind):
        char = make_char(kind)
        char(['abc', 'd']).square().sum().backward()
        for name, parameter in char.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
        assert char.embedding.weight.grad[0].count_nonzero() == 0


def test_char_errors():
    with pytest.raises(ValueError, match=r"'kind' must .* \(got 'gru'\)"):
        CharEmbedding(kind='gru')
    with pytest.raises(ValueError, match=r'even for two .* \(got 5\)'):
        CharEmbedding(out_channels=5)
    CharEmbedding(out_channels=5, kind='cnn')


def make(kind=None, num_layers=1, **kwargs):
    char = None if kind is None else make_char(kind)
    return CharWordEncoder(WORDS, 4, char, 5, num_layers,
                           **kwargs).double().eval()


@pytest.mark.parametrize('kind, num_layers', [(None, 1), ('lstm', 1),
                                              ('cnn', 2)])
def test_oracle(kind, num_layers):
    encoder = make(kind, num_layers)
    expected = []
    for text in TEXTS:
        rows = []
        for word in text.split():
            known = word if word in WORDS else word.lower()
            row = encoder.word.embedding.weight[WORDS.to_id(known)]
            if kind is not None:
                row = torch.cat([row, char_oracle(encoder.char, word)])
            rows.append(row)
        expected += bilstm(encoder.lstm, rows)
    out = encoder(Batch.from_data_list(make_posts()))
    assert out.shape == (11, encoder.out_channels) == (11, 10)
    torch.testing.assert_close(out, torch.stack(expected))


@pytest.mark.parametrize('kind', [None, 'lstm', 'cnn'])
def test_alone_is_in_a_batch(kind):
    encoder, posts = make(kind), make_posts()
    for order in posts, posts[::-1], posts[1:2] * 2 + posts:
        torch.testing.assert_close(
            encoder(Batch.from_data_list(order)),
            torch.cat([encoder(post) for post in order]))


def test_no_words():
    empty = make_posts()[1]
    for batch in empty, Batch.from_data_list([empty, empty]):
        assert make('lstm')(batch).shape == (0, 10)


def test_words_of():
    posts = make_posts()
    assert words_of(posts[0]) == TEXTS[0].split()
    assert words_of(Batch.from_data_list(posts)) == ' '.join(TEXTS).split()


def test_dropout():
    encoder, post = make('cnn', dropout=0.9), make_posts()[0]
    assert torch.equal(encoder(post), encoder(post))
    encoder.train()
    assert not torch.equal(encoder(post), encoder(post))


def write(tmp_path, text):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_config_leaves_the_file_out(tmp_path):
    path = write(tmp_path, 'ann 1 2 3 4\n')
    encoder = CharWordEncoder(WORDS, 4, hidden_channels=2, vectors=path)
    assert encoder.word.embedding.weight[1].tolist() == [1, 2, 3, 4]
    config = json.loads(json.dumps(encoder.get_config()))
    assert path not in json.dumps(config)
    again = CharWordEncoder.from_config(config)
    again.load_state_dict(encoder.state_dict())
    post = make_posts()[0]
    assert torch.equal(again.eval()(post), encoder.eval()(post))
    word = WordEmbedding(WORDS, 4, vectors=path)
    assert 'vectors' not in word.get_config()['args']


@pytest.mark.parametrize('header', ['', '5 2\n'])
def test_vectors(tmp_path, header):
    path = write(tmp_path, header + 'Ann 9 9\nann 1 2\nbob 3 4\na1 8 8\n'
                 '. . 5 6\nbob 7 7\nb0 5 -.5e1\n')
    words = Vocabulary(['<unk>', 'ANN', 'Bob', 'B7', 'c', 'Ann'],
                       unknown='<unk>')
    vectors, mask = load_word_vectors(path, words, 2)
    # As it is; in lower case; in lower case with digits zeroed.
    assert vectors.tolist() == [[0, 0], [1, 2], [3, 4], [5, -5], [0, 0],
                                [9, 9]]
    assert mask.tolist() == [False, True, True, True, False, True]
    embedding = WordEmbedding(words, 2, vectors=path)
    assert torch.equal(embedding.embedding.weight[mask], vectors[mask])
    assert embedding.embedding.weight[~mask].count_nonzero() == 4


def test_vectors_of_size_one(tmp_path):
    vectors, _ = load_word_vectors(write(tmp_path, 'ann 5\nmet 6\n'), WORDS, 1)
    assert vectors[1:3].tolist() == [[5], [6]]


@pytest.mark.parametrize('text, line, message', [
    ('ann 1 2\nmet 1\n', 2, r'must have 2 values \(got 1\)'),
    ('ann 1 2 3\nmet 1 2 3\n', 1, r'must have 2 values \(got 3\)'),
    ('2 3\nann 1 2 3\n', 1, r'must have 2 values \(got 1\)'),
    ('9 2\nann 1 2\n\n', 3, r'must have 2 values \(got 0\)'),
    ('x 1 2\nann 1 b\n', 2, r"not a number \(.*'b'\)"),
    ('x 1 2\nann 1 nan\n', 2, r'must be finite'),
    (b'x 1 2\nann\xff 1 2\n', None, r'not a UTF-8 text file'),
])
def test_bad_vectors(tmp_path, text, line, message):
    path = write(tmp_path, text)
    place = path if line is None else f'{path}:{line}'
    with pytest.raises(InputError, match=f'^{place}: .*{message}') as error:
        load_word_vectors(path, WORDS, 2)
    assert error.value.path == path and error.value.line == line


def test_no_vectors(tmp_path):
    with pytest.raises(InputError, match=r'gone: cannot read word vectors \('):
        load_word_vectors(tmp_path / 'gone', WORDS, 2)


def test_look_up():
    embedding = WordEmbedding(WORDS, 3)
    weight = embedding.embedding.weight
    out = embedding(['Bob', 'bob', 'ANN', 'ann', 'A0', 'new'])
    assert torch.equal(out, weight[[3, 0, 1, 1, 4, 0]])
    assert embedding([]).shape == (0, 3)


def test_unknown_rate():
    torch.manual_seed(0)
    embedding = WordEmbedding(WORDS, 3, unknown_rate=0.25)
    out = embedding(['ann'] * 4000)
    share = (out == embedding.embedding.weight[0]).all(1).double().mean()
    assert abs(share - 0.25) < 0.03
    embedding.eval()
    assert (embedding(['ann'] * 99) == embedding.embedding.weight[1]).all()


def test_no_unknown_label():
    with pytest.raises(ValueError, match="'words' must have an unknown label"):
        WordEmbedding(Vocabulary(['a']), 3)
