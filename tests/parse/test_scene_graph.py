import json
from pathlib import Path

import pytest
import torch

from mmgraph.errors import InputError
from mmgraph.parse import read_detections, read_slot_relations

SGG = Path(__file__).parent.parent / 'resources' / 'sgg'


def test_slot_relations(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"1.jpg": {"rel": [[7, 3], [0, 7], [3, 7]]},'
                    ' "2.jpg": {"rel": []}}')
    graphs = read_slot_relations(path)
    assert list(graphs) == ['1.jpg', '2.jpg']
    graph = graphs['1.jpg']
    assert graph.slot_id.tolist() == [0, 3, 7]
    assert graph.edge_index.tolist() == [[2, 0, 1], [1, 2, 2]]
    assert graph.edge_type.tolist() == [0, 0, 0]
    assert graphs['2.jpg'].num_nodes == 0
    assert graphs['2.jpg'].edge_index.shape == (2, 0)
    assert all(graph.validate() for graph in graphs.values())


@pytest.mark.parametrize('text, message', [
    ('[]', r'must hold an object, image name → relations \(got list\)'),
    ('{"a.jpg": []}', r"image 'a\.jpg' must have a list 'rel'"),
    ('{"a.jpg": {"rel": [[1]]}}', r'pairs of object slots \(got \[1\]\)'),
    ('{"a.jpg": {"rel": [[1, -1]]}}', r'\(got \[1, -1\]\)'),
    ('{"a.jpg": {"rel": [[1, true]]}}', r'\(got \[1, True\]\)'),
    ('{\n\n"a', r'a\.json:3: not JSON'),
])
def test_slot_relations_broken(tmp_path, text, message):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_slot_relations(path)
    assert str(caught.value).startswith(str(path))


def test_slot_relations_missing(tmp_path):
    with pytest.raises(InputError, match='cannot read the file'):
        read_slot_relations(tmp_path / 'a.json')
    (tmp_path / 'a.json').write_bytes(b'"\xff"')
    with pytest.raises(InputError, match='not UTF-8 text'):
        read_slot_relations(tmp_path / 'a.json')


@pytest.mark.real_data
@pytest.mark.parametrize('split, images, empty, edges', [
    ('train', 3996, 794, 43324), ('val', 499, 95, 5660),
    ('test', 675, 142, 6891)])
def test_real_slot_relations(data_root, split, images, empty, edges):
    graphs = read_slot_relations(
        data_root / 'mega' / f'graph_of_image_{split}.json').values()
    assert len(graphs) == images
    assert sum(graph.num_nodes == 0 for graph in graphs) == empty
    assert sum(graph.num_edges for graph in graphs) == edges
    assert max(int(g.slot_id.max()) for g in graphs if g.num_nodes) == 9


def read(**kwargs):
    return read_detections(SGG / 'custom_prediction.json',
                           SGG / 'custom_data_info.json', **kwargs)


def test_detections():
    found = read(image_sizes={'one.jpg': (450, 300), 'two.jpg': (5, 5)},
                 features={'one.jpg': torch.eye(3), 'two.jpg': torch.empty(
                     0, 3)})
    assert list(found.graphs) == ['one.jpg', 'two.jpg']
    assert found.objects.to_label(2) == 'dog'
    assert found.predicates.to_label(2) == 'holding'
    graph = found.graphs['one.jpg']
    assert graph.label_id.tolist() == [1, 2, 3]
    assert graph.slot_id.tolist() == [0, 1, 2]
    torch.testing.assert_close(graph.score, torch.tensor([0.9, 0.8, 0.3]))
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 0, 0]]
    assert graph.edge_type.tolist() == [2, 1, 1]
    # 450 x 300 pixels were 900 x 600 for the network.
    torch.testing.assert_close(graph.box[:2], torch.tensor(
        [[0, 0, 1 / 3, 1], [2 / 3, 0.5, 1, 1]]))
    assert torch.equal(graph.x, torch.eye(3))
    assert graph.validate()
    empty = found.graphs['two.jpg']
    assert empty.num_nodes == 0 and empty.validate()
    assert set(empty.keys()) == set(graph.keys())  # they can be batched


def test_detections_choices():
    graph = read(topk_objects=2).graphs['one.jpg']
    assert 'box' not in graph and 'x' not in graph
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]
    assert read(topk_relations=1).graphs['one.jpg'].num_edges == 1
    assert read(min_rel_score=0.6).graphs['one.jpg'].num_edges == 1
    assert read(min_score=0.85).graphs['one.jpg'].num_nodes == 1
    sizes = {'one.jpg': (900, 600), 'two.jpg': (1, 1)}
    box = read(image_sizes=sizes, resize=None).graphs['one.jpg'].box
    assert box[1].tolist() == pytest.approx([2 / 3, 0.5, 1, 1])
    # A long picture: its longer side is the limit.
    sizes = {'one.jpg': (4000, 400), 'two.jpg': (1, 1)}
    box = read(image_sizes=sizes).graphs['one.jpg'].box
    assert box[2].tolist() == pytest.approx([0.01, 0.2, 0.03, 0.4])


def edited(tmp_path, **entry):
    content = json.loads((SGG / 'custom_prediction.json').read_text())
    content['0'].update(entry)
    content['0'] = {k: v for k, v in content['0'].items() if v is not None}
    path = tmp_path / 'custom_prediction.json'
    path.write_text(json.dumps(content))
    return path


def test_detections_unsorted_and_all_scores(tmp_path):
    path = edited(tmp_path, bbox_scores=[0.1, 0.9, 0.5], rel_labels=None)
    graph = read_detections(path, SGG / 'custom_data_info.json',
                            topk_objects=2).graphs['one.jpg']
    assert graph.slot_id.tolist() == [1, 2]
    graph = read_detections(path, SGG / 'custom_data_info.json').graphs[
        'one.jpg']
    # Slots 1, 2, 0; the third pair's best predicate is not the background.
    assert graph.edge_index.tolist() == [[2, 0, 1], [0, 2, 2]]
    assert graph.edge_type.tolist() == [2, 1, 1]
    torch.testing.assert_close(graph.edge_score,
                               torch.tensor([0.7, 0.5, 0.2]))


@pytest.mark.parametrize('entry, message', [
    (dict(bbox=None), "key 'bbox' is missing"),
    (dict(bbox=[[1, 2]] * 3), r"'bbox' must have shape \['\*', 4\]"),
    (dict(bbox_scores=[1, 2]), r"'bbox_scores' must have shape \[3\] "
                               r'\(got \[2\]\)'),
    (dict(bbox_labels=[1, 2, 4]), r"'bbox_labels' must be in \[0, 4\) "
                                  r'\(got 4 at row 2\)'),
    (dict(rel_pairs=[[0, 1], [0, 3], [1, 0]]), r"'rel_pairs' must be in "
                                               r'\[0, 3\) \(got 3 at row 1'),
    (dict(rel_scores=['a', 1, 1]), "'rel_scores' must hold numbers"),
    (dict(rel_scores=[float('nan'), 1, 1]), "'rel_scores' must be finite"),
])
def test_detections_broken(tmp_path, entry, message):
    with pytest.raises(InputError, match=message) as caught:
        read_detections(edited(tmp_path, **entry),
                        SGG / 'custom_data_info.json')
    assert "image 'one.jpg' (number 0)" in str(caught.value)


def test_detections_broken_files(tmp_path):
    path = tmp_path / 'a.json'
    info = SGG / 'custom_data_info.json'
    path.write_text('[]')
    with pytest.raises(InputError, match='must hold an object'):
        read_detections(path, info)
    path.write_text('{"2": {}}')
    with pytest.raises(InputError, match="number '2' is not in"):
        read_detections(path, info)
    path.write_text('{"0": []}')
    with pytest.raises(InputError, match='must be an object'):
        read_detections(path, info)
    with pytest.raises(InputError, match="list of names 'idx_to_files'"):
        read_detections(SGG / 'custom_prediction.json', path)
    path.write_text('{"idx_to_files": ["a/1.jpg", "b/1.jpg"],'
                    '"ind_to_classes": [], "ind_to_predicates": []}')
    with pytest.raises(InputError, match=r"two images are called '1\.jpg'"):
        read_detections(SGG / 'custom_prediction.json', path)
    path.write_text(path.read_text().replace('b/1', 'b/2'))
    with pytest.raises(InputError, match='class or predicate names'):
        read_detections(SGG / 'custom_prediction.json', path)


@pytest.mark.parametrize('kwargs, message', [
    (dict(image_sizes={}), "'image_sizes' has no entry"),
    (dict(image_sizes={'one.jpg': (0, 5)}), "'image_sizes' must be positive"),
    (dict(features={'one.jpg': torch.eye(2)}), 'one row a box'),
])
def test_detections_arguments(kwargs, message):
    with pytest.raises(InputError, match=message):
        read(**kwargs)
