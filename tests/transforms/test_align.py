from types import SimpleNamespace

import torch

from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary
from mmgraph.nn.align import StructuralAligner
from mmgraph.transforms import Align

TEXT = TextGraph.from_heads(['a', 'b', 'c'], [-1, 0, 1], ['x'] * 3,
                            Vocabulary(['x']))


def everything(source, target):
    index = torch.cartesian_prod(torch.arange(source.num_nodes),
                                 torch.arange(target.num_nodes)).t()
    return SimpleNamespace(match_index=index,
                           match_score=torch.ones(index.size(1)).double())


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, source, target):
        return SimpleNamespace(match_index=torch.tensor([[0], [0]]),
                               match_score=self.weight[:1])


def test_align():
    scene = SceneGraph.build(torch.tensor([[0], [1]]), 2)
    post = Post.build(TEXT, scene)
    found = Align(everything)(post)
    store = found['word', 'aligns', 'object']
    assert store.edge_index.shape == (2, 6)
    assert store.edge_weight.dtype == torch.float
    assert found.validate()
    assert ('word', 'aligns', 'object') not in post.edge_types


def test_nothing_to_align():
    found = Align(everything)(Post.build(TEXT))
    assert found['word', 'aligns', 'object'].edge_index.shape == (2, 0)
    assert found['word', 'aligns', 'object'].edge_weight.shape == (0, )
    assert found.validate()


def test_no_gradient():
    scene = SceneGraph.build(torch.tensor([[0], [1]]), 2)
    found = Align(Learned())(Post.build(TEXT, scene))
    assert not found['word', 'aligns', 'object'].edge_weight.requires_grad


def test_repr_tells_aligners_apart():
    aligner = Learned()
    before = repr(Align(aligner))
    assert before == repr(Align(Learned()))
    assert before.startswith('Align(Learned(), digest=')
    aligner.eval()
    assert repr(Align(aligner)) == before
    with torch.no_grad():
        aligner.weight += 1
    assert repr(Align(aligner)) != before
    aligner = Learned()
    aligner.gamma = 0.5  # A setting that its own text does not show.
    assert repr(Align(aligner)) != before
    assert 'digest' not in repr(Align(everything))


def test_real_aligner():
    scene = SceneGraph.build(torch.tensor([[0], [1]]), 2)
    found = Align(StructuralAligner())(Post.build(TEXT, scene))
    assert found['word', 'aligns', 'object'].num_edges >= 3
    assert found.validate()
    one, other = (repr(Align(StructuralAligner(gamma_struct=gamma)))
                  for gamma in (1.0, 2.0))
    assert one != other
