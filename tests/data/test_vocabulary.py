import copy
import io
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError

LABELS = Vocabulary(['unk', 'nsubj', 'obj'], scheme='UD', unknown='unk')


def test_ids_are_positions():
    assert len(LABELS) == 3 and list(LABELS) == ['unk', 'nsubj', 'obj']
    assert LABELS.labels == ('unk', 'nsubj', 'obj')
    assert [LABELS.to_label(i) for i in range(3)] == list(LABELS)
    assert LABELS.to_ids(['obj', 'new', 'nsubj']) == [2, 0, 1]
    assert 'obj' in LABELS and 'new' not in LABELS and 3 not in LABELS


def test_unknown_label_without_a_stand_in():
    with pytest.raises(KeyError, match=r"'objj' is not a label of this UD .*"
                       r"choose from 'nsubj', 'obj'\. Did you mean 'obj'\?"):
        Vocabulary(['nsubj', 'obj'], scheme='UD').to_id('objj')
    with pytest.raises(KeyError, match='of this nameless vocabulary'):
        Vocabulary([]).to_id('a')


@pytest.mark.parametrize('index', [-1, 3])
def test_id_out_of_range(index):
    with pytest.raises(IndexError, match=rf'in \[0, 3\) \(got {index}\)'):
        LABELS.to_label(index)


def test_constructor_errors():
    with pytest.raises(ValueError, match=r"distinct \(got 'a' twice\)"):
        Vocabulary(['a', 'b', 'a'])
    with pytest.raises(ValueError, match=r"'unknown' must .* \(got 'c'\)"):
        Vocabulary(['a', 'b'], unknown='c')


def test_frozen():
    with pytest.raises(AttributeError, match='frozen'):
        LABELS.scheme = 'CLEAR'
    with pytest.raises(AttributeError, match='frozen'):
        LABELS._labels = ()


def test_from_counts():
    vocabulary = Vocabulary.from_counts(
        'b c a c <unk> b c d'.split(), min_count=2, reserved=['<pad>'])
    assert list(vocabulary) == ['<pad>', '<unk>', 'c', 'b']
    assert vocabulary.to_id('a') == 1
    ties = Vocabulary.from_counts(['b', 'a'], scheme='x')
    assert list(ties) == ['<unk>', 'a', 'b'] and ties.scheme == 'x'


def test_equality():
    same = Vocabulary(list(LABELS), 'UD', 'unk')
    assert same == LABELS and hash(same) == hash(LABELS)
    for other in (Vocabulary(list(LABELS), 'CLEAR', 'unk'),
                  Vocabulary(list(LABELS), 'UD'), list(LABELS)):
        assert other != LABELS


def test_copies():
    assert copy.deepcopy(LABELS) == LABELS
    assert pickle.loads(pickle.dumps(LABELS)) == LABELS
    assert Vocabulary.from_dict(LABELS.to_dict()) == LABELS
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        torch.save(LABELS, buffer)
        buffer.seek(0)
        assert torch.load(buffer, weights_only=True) == LABELS


@given(labels=st.lists(st.text(), unique=True, min_size=1), data=st.data())
def test_json_round_trip(tmp_path_factory, labels, data):
    unknown = data.draw(st.sampled_from([None, *labels]))
    vocabulary = Vocabulary(labels, data.draw(st.text()), unknown)
    path = tmp_path_factory.mktemp('vocabulary') / 'labels.json'
    try:
        vocabulary.save(path)
    except UnicodeEncodeError:
        return  # Half of a surrogate pair is no text.
    assert Vocabulary.load(path) == vocabulary


@pytest.mark.parametrize('content', [
    None, b'{', b'[]', b'3', b'{}', b'{"labels": ["a", "a"]}',
    b'{"labels": 3}', b'{"labels": [[]]}', b'\xff'
])
def test_load_errors(tmp_path, content):
    path = tmp_path / 'labels.json'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match='not a vocabulary file') as error:
        Vocabulary.load(path)
    assert error.value.path == str(path)
    assert len(str(error.value).splitlines()) == 1


def test_repr():
    assert repr(LABELS) == "Vocabulary(3: unk, nsubj, obj, scheme='UD')"
    assert repr(Vocabulary('abcde')) == 'Vocabulary(5: a, b, c, d, …)'
