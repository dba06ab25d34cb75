"""Object features beside scene graphs."""
import json

import pytest
import torch
from safetensors.torch import save_file

from mmgraph.datasets import MNRE
from mmgraph.errors import InputError

LINE = ("{'token': ['Ann', 'met', 'Bob'], 'h': {'name': 'Ann', 'pos': [0, 1]},"
        " 't': {'name': 'Bob', 'pos': [2, 3]}, 'img_id': '%s', 'relation': "
        "'/per/per/peer'}\n")
TREE = ('# sent_id = %s\n1\tAnn\t_\tPROPN\tNNP\t_\t2\tnsubj\t_\t_\n'
        '2\tmet\t_\tVERB\tVBD\t_\t0\troot\t_\t_\n'
        '3\tBob\t_\tPROPN\tNNP\t_\t2\tdobj\t_\t_\n\n')


@pytest.fixture
def folder(tmp_path):
    for split in 'train', 'val', 'test':
        names = [f'{split}{i}.jpg' for i in range(2)]
        (tmp_path / f'v2_{split}.txt').write_text(
            ''.join(LINE % name for name in names))
        (tmp_path / f'v2_{split}.conllu').write_text(
            ''.join(TREE % name for name in names))
        (tmp_path / f'graph_of_image_{split}.json').write_text(
            json.dumps({names[0]: {'rel': [[0, 3]]}, names[1]: {'rel': []}}))
        save_file({name: torch.arange(20.).view(4, 5) for name in names},
                  tmp_path / f'object_features_{split}.safetensors')
    return tmp_path


def test_slots_take_their_rows(folder):
    posts = MNRE(folder, graph='dependency+scene', scene_dir=folder)
    assert posts[0]['object'].x.tolist() == [
        [0., 1., 2., 3., 4.], [15., 16., 17., 18., 19.]]
    assert posts[1]['object'].x.shape == (0, 5)


def test_a_slot_without_a_row_is_named(folder):
    save_file({f'train{i}.jpg': torch.zeros(2, 5) for i in range(2)},
              folder / 'object_features_train.safetensors')
    with pytest.raises(InputError, match='train0.jpg has 2 feature rows'):
        MNRE(folder, graph='dependency+scene', scene_dir=folder)


def test_not_a_safetensors_file(folder):
    (folder / 'object_features_train.safetensors').write_text('{')
    with pytest.raises(InputError, match='object_features_train.safetensors'):
        MNRE(folder, graph='dependency+scene', scene_dir=folder)
