import pytest
import torch
from safetensors.torch import save_file
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from mmgraph.data import Post, TextGraph
from mmgraph.datasets import FeatureFile, StandInFeatures
from mmgraph.errors import InputError
from mmgraph.parse import CLEAR
from mmgraph.transforms import RegionFeatures


def post(name, image=True):
    text = TextGraph.from_heads(['a', 'b'], [1, -1], ['dep', 'root'], CLEAR)
    return Post.build(text, post_id=name,
                      image_path=f'{name}.jpg' if image else None)


@pytest.fixture
def bank():
    return StandInFeatures(num_regions=3, channels=4)


def test_rows(bank):
    before = post('a')
    after = RegionFeatures(bank)(before)
    assert torch.equal(after['region'].x, bank(['a'])[0])
    assert after['region'].num_nodes == 3
    assert after.validate()
    assert 'region' not in before.node_types  # a copy was edited


def test_no_rows_without_image(bank):
    posts = [RegionFeatures(bank)(post(name, image))
             for name, image in (('a', False), ('b', True), ('c', False))]
    assert posts[0]['region'].x.shape == (0, 4)
    batch = next(iter(DataLoader(posts, batch_size=3)))
    assert batch['region'].ptr.tolist() == [0, 0, 3, 3]
    assert torch.equal(batch['region'].x, bank(['b'])[0])
    assert batch[2]['region'].num_nodes == 0
    assert all(item.validate() for item in posts)


def test_missing_image(tmp_path):
    path = tmp_path / 'x.safetensors'
    save_file({'a': torch.ones(3, 4)}, path)
    bank = FeatureFile(path)
    with pytest.raises(InputError, match='no features of image b'):
        RegionFeatures(bank)(post('b'))
    transform = RegionFeatures(bank, allow_missing=True)
    assert transform(post('b'))['region'].x.shape == (0, 4)
    assert transform(post('a'))['region'].x.shape == (3, 4)


def test_repr(bank):
    transform = RegionFeatures(bank, allow_missing=True)
    assert repr(eval(repr(transform))) == repr(transform)
    assert transform in Compose([transform]).transforms
