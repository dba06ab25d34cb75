"""Banks of region features."""
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mmgraph.datasets import FeatureBank, FeatureFile, StandInFeatures
from mmgraph.errors import InputError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'x.safetensors'
    save_file({name: torch.full((3, 4), float(i))
               for i, name in enumerate(('a', 'b', 'c'))}, path)
    return path


def test_stand_ins_depend_on_seed_and_name_alone():
    state = torch.get_rng_state()
    bank = StandInFeatures(num_regions=5, channels=6, seed=3)
    x = bank(['a', 'b', 'a'])
    assert isinstance(bank, FeatureBank)
    assert x.shape == (3, 5, 6) and x.dtype == torch.float
    assert torch.equal(x[0], x[2]) and not torch.equal(x[0], x[1])
    again = eval(repr(bank))
    assert torch.equal(again(['b', 'c'])[0], x[1])
    other = StandInFeatures(num_regions=5, channels=6, seed=4)
    assert not torch.isclose(other(['a'])[0], x[0]).any()
    # The name '1a' of seed 0 is not the name 'a' of seed 01.
    assert not torch.equal(StandInFeatures(2, 2, 1)(['1']),
                           StandInFeatures(2, 2, 11)(['']))
    assert bank([]).shape == (0, 5, 6)
    assert 'whatever' in bank
    assert torch.equal(torch.get_rng_state(), state)


def test_stand_ins_never_change():
    # A recorded run says which bank it used; these numbers are that bank.
    x = StandInFeatures(num_regions=1, channels=3)(['17_06_1'])
    assert x.flatten().tolist() == pytest.approx(
        [0.5713324, -1.5648412, 1.0421094])


def test_stand_ins_are_standard_normal():
    x = StandInFeatures(channels=128)([f'{i}' for i in range(40)])
    assert abs(float(x.mean())) < .01
    assert abs(float(x.std()) - 1) < .01
    rows = x.flatten(1)
    corr = torch.corrcoef(rows) - torch.eye(40)
    assert corr.abs().max() < .1


@pytest.mark.parametrize('kwargs', [
    dict(num_regions=0), dict(channels=0), dict(seed=-1)])
def test_stand_in_arguments(kwargs):
    name, = kwargs
    with pytest.raises(ValueError, match=f"'{name}' must "):
        StandInFeatures(**kwargs)


def test_file(path):
    bank = FeatureFile(path)
    assert (bank.num_regions, bank.channels) == (3, 4)
    assert bank(['c', 'a'])[:, 0, 0].tolist() == [2., 0.]
    assert bank([]).shape == (0, 3, 4)
    assert 'a' in bank and 'd' not in bank
    with pytest.raises(InputError, match='no features of image d') as caught:
        bank(['a', 'd'])
    assert str(caught.value).startswith(f'{path}: ')


def test_file_goes_to_other_processes(path):
    bank = FeatureFile(path)
    assert bank(['b']).shape == (1, 3, 4)
    again = pickle.loads(pickle.dumps(bank))
    assert torch.equal(again(['b']), bank(['b']))


def test_half_precision(tmp_path):
    path = tmp_path / 'x.safetensors'
    save_file({'a': torch.tensor([[.5, 2.]], dtype=torch.half)}, path)
    x = FeatureFile(path)(['a'])
    assert x.dtype == torch.float and x.tolist() == [[[.5, 2.]]]


def test_other_content_is_another_key(path):
    before = repr(FeatureFile(path))
    assert before == repr(FeatureFile(path))
    save_file({'a': torch.zeros(3, 4)}, path)
    assert repr(FeatureFile(path)) != before


@pytest.mark.parametrize('tensors, names, message', [
    ({'a': torch.zeros(3)}, [], r'must be \[regions, channels\] \(got \[3\]'),
    ({'a': torch.zeros(3, 4), 'b': torch.zeros(2, 4)}, ['b'],
     r'all images must have \[3, 4\] features \(got \[2, 4\] for image b\)'),
    ({}, [], 'holds no features'),
])
def test_unusable_files(tmp_path, tensors, names, message):
    path = tmp_path / 'x.safetensors'
    save_file(tensors, path)
    with pytest.raises(InputError, match=message) as caught:
        FeatureFile(path)(names)
    assert str(caught.value).startswith(f'{path}: ')


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match=r'none\.safetensors: '):
        FeatureFile(tmp_path / 'none.safetensors')
    path = tmp_path / 'x.safetensors'
    path.write_text('{')
    with pytest.raises(InputError, match='not a safetensors file'):
        FeatureFile(path)
