import copy
import json
import pickle

import pytest
from torch import nn

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError
from mmgraph.nn import Configurable, build_from_config
from mmgraph.nn.align import SemanticAligner
from mmgraph.nn.encoders import CharEmbedding, CharWordEncoder
from mmgraph.nn.heads import MarkerPairHead

WORDS = Vocabulary(['<unk>', 'a'], unknown='<unk>')


class Part(Configurable, nn.Module):
    def __init__(self, size, parts=(), table=None, rate=0.5, **kwargs):
        super().__init__()
        self.size, self.table, self.kwargs = size, table, kwargs
        self.parts = nn.ModuleList(parts)


def round_trip(module):
    return type(module).from_config(json.loads(json.dumps(
        module.get_config())))


def test_arguments_as_given():
    part = Part(3, rate=0.1, more='x')
    name = f'{Part.__module__}.Part'
    assert part.get_config() == {
        'class': name, 'args': {'size': 3, 'rate': 0.1, 'more': 'x'}}


def test_nested():
    encoder = CharWordEncoder(WORDS, 4, CharEmbedding(dim=2, kind='cnn'),
                              hidden_channels=3)
    again = round_trip(encoder)
    assert again.get_config() == encoder.get_config()
    assert str(again) == str(encoder)
    assert again.word.words == WORDS
    again.load_state_dict(encoder.state_dict())


def test_lists_and_tables():
    value = [MarkerPairHead(2, 3), MarkerPairHead(4, 5, dropout=0.0)]
    config = Part(1, value, table={'a': [1, None], 'b': (True, WORDS)})
    config = json.loads(json.dumps(config.get_config()))
    args = {key: build_from_config(item)
            for key, item in config['args'].items()}
    assert [head.num_relations for head in args['parts']] == [3, 5]
    assert args['table'] == {'a': [1, None], 'b': [True, WORDS]}


@pytest.mark.parametrize('activation', [
    nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.3), nn.GELU('tanh'),
    nn.ELU(0.2), nn.Hardtanh(-2.0, 3.0), nn.Softplus(2.0)
])
def test_activations(activation):
    head = MarkerPairHead(2, 3, hidden_channels=4, activation=activation)
    again = round_trip(head).activation
    assert type(again) is type(activation)
    assert repr(again) == repr(activation)


def test_copies_keep_the_arguments():
    head = MarkerPairHead(2, 3, dropout=0.1)
    for other in copy.deepcopy(head), pickle.loads(pickle.dumps(head)):
        assert other.get_config() == head.get_config()


@pytest.mark.parametrize('value, what', [
    (nn.Linear(1, 1), r'nn.Module that does not inherit .*Configurable'),
    (nn.PReLU(), 'nn.Module'), (object(), 'object'), ({'class': 'x'}, 'dict'),
])
def test_what_cannot_be_written(value, what):
    with pytest.raises(TypeError, match=rf"'Part.table' cannot .* a {what}"):
        Part(1, table=value).get_config()
    with pytest.raises(TypeError, match=r"'Part.table' cannot"):
        Part(1, table=[value]).get_config()


@pytest.mark.parametrize('path', ['', 'Part', 'mmgraph.nope.X',
                                  'mmgraph.nn.Nope'])
def test_class_not_found(path):
    with pytest.raises(InputError, match=f"cannot import '{path}'"):
        build_from_config({'class': path, 'args': {}})


@pytest.mark.parametrize('path', ['os.system', 'builtins.dict',
                                  'mmgraph.utils.suggest'])
def test_a_file_may_not_call_anything(path):
    with pytest.raises(InputError, match=f"'{path}' is no part of a model"):
        build_from_config({'class': path, 'args': {}})


@pytest.mark.parametrize('args', [dict(in_channels=2), dict(
    in_channels=2, num_relations=3, gone=1)])
def test_arguments_of_another_version(args):
    with pytest.raises(InputError, match='saved by another version of mmgr'):
        build_from_config({'class': 'mmgraph.nn.heads.MarkerPairHead',
                           'args': args})


def test_another_kind():
    config = MarkerPairHead(2, 3).get_config()
    with pytest.raises(InputError, match="describes a 'MarkerPairHead', not "
                                         "a 'SemanticAligner'"):
        SemanticAligner.from_config(config)


def test_wrong_call_is_python_s_own_error():
    with pytest.raises(TypeError, match='unexpected keyword argument'):
        MarkerPairHead(2, 3, wrong=1)
    with pytest.raises(TypeError, match="missing .* 'num_relations'"):
        MarkerPairHead(2)
