import pytest
import torch

from mmgraph.data import SceneGraph
from tests.data.cases import check_graphs, make_scene

NONE = torch.empty(2, 0, dtype=torch.long)


def test_build_fills_in():
    scene = SceneGraph.build(torch.tensor([[0, 0], [1, 2]]), 3)
    assert scene.edge_type.tolist() == [0, 0]
    assert scene.slot_id.tolist() == [0, 1, 2]
    assert 'x' not in scene and 'box' not in scene
    assert scene.num_nodes == 3 and scene.validate()


def test_empty_like():
    like = make_scene(3)
    scene = SceneGraph.empty(like)
    assert scene.num_nodes == 0 and scene.validate()
    assert set(scene.keys()) == set(like.keys())
    for key in like.keys():  # noqa: SIM118
        if key != 'num_nodes':
            assert scene[key].dtype == like[key].dtype, key
            assert scene[key].shape[1:] == like[key].shape[1:] \
                or key == 'edge_index'
    assert set(SceneGraph.empty().keys()) == set(
        SceneGraph.build(NONE, 0).keys())


def test_batch():
    batch = check_graphs([make_scene(3), make_scene(0), make_scene(1)])
    assert batch.ptr.tolist() == [0, 3, 3, 4]
    assert batch.edge_index.tolist() == [[0, 0], [1, 2]]
    assert batch.slot_id.tolist() == [0, 1, 2, 0]
    assert batch.validate()


def test_batch_without_features():
    check_graphs([SceneGraph.build(torch.tensor([[1], [0]]), 2),
                  SceneGraph.empty(), SceneGraph.build(NONE, 4)])


@pytest.mark.parametrize('key, value, message', [
    ('edge_index', torch.tensor([[0, 3], [1, 2]]),
     r'source positions must be in \[0, 3\) \(got 3 at edge 1\)'),
    ('edge_score', torch.rand(5), r"'edge_score' .* \(got 2 and 5\)"),
    ('edge_score', torch.tensor([0.5, float('inf')]),
     r"'edge_score' must be finite \(got inf at row 1\)"),
    ('x', torch.randn(2, 3), r"'x' must have one row a node \(got 2 for 3\)"),
    ('label_id', torch.tensor([0, 0, -2]), r'\(got -2 at row 2\)'),
    ('box', torch.rand(3, 5), r'shape \[m, 4\] \(got \[3, 5\]\)'),
    ('box', torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 1, 1]]),
     r'\(got \[0.0, 0.0, 2.0, 1.0\] at object 1\)'),
    ('box', torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0.5, 0, 0.25, 1]]),
     r'x1 <= x2, .* at object 2\)'),
])
def test_validate(key, value, message):
    scene = make_scene(3)
    scene[key] = value
    with pytest.raises(ValueError, match=f'^SceneGraph: .*{message}'):
        scene.validate()
    assert not scene.validate(raise_on_error=False)


def test_repr():
    assert repr(make_scene(3)) == 'SceneGraph(3 objects, 2 relations)'
    assert repr(SceneGraph.empty()) == 'SceneGraph(0 objects, 0 relations)'
    assert repr(SceneGraph()) == 'SceneGraph()'
