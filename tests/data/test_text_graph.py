import pytest
import torch

from mmgraph.data import TextGraph
from tests.data.cases import LABELS, check_graphs, make_text


def test_from_heads():
    graph = TextGraph.from_heads(
        ['Ann', 'met', 'Bob', 'twice'], [1, -1, 1, 1],
        ['dep', 'root', 'obj', 'new'], LABELS, pos_id=torch.arange(4))
    assert graph.edge_index.tolist() == [[1, 1, 1], [0, 2, 3]]
    assert graph.edge_type.tolist() == [1, 2, 0]  # 'new' is unknown
    assert graph.head.tolist() == [1, -1, 1, 1]
    assert graph.pos_id.tolist() == [0, 1, 2, 3]
    assert graph.num_nodes == 4 and graph.validate()


def test_several_roots():
    graph = make_text('a b c d', [-1, 0, -1, 2])
    assert graph.edge_index.tolist() == [[0, 2], [1, 3]]
    assert graph.validate()


@pytest.mark.parametrize('words', ['', 'one'])
def test_tiny(words):
    graph = make_text(words)
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_index.dtype == graph.edge_type.dtype == torch.long
    assert graph.validate()


def test_batch():
    batch = check_graphs([make_text('a b c'), make_text(''), make_text('d'),
                          make_text('e f', [1, -1])])
    assert batch.words == [['a', 'b', 'c'], [], ['d'], ['e', 'f']]
    assert batch.edge_index.tolist() == [[0, 1, 5], [1, 2, 4]]
    assert batch.ptr.tolist() == [0, 3, 3, 4, 6]
    assert batch.head.tolist() == [-1, 0, 1, -1, 1, -1]
    assert batch.validate()
    batch.head[5] = 0
    with pytest.raises(ValueError, match=r'disagree at word 5 \(got 0 and -1'):
        batch.validate()


@pytest.mark.parametrize('heads, labels, message', [
    ([-1], ['dep'] * 2, r"'words', 'heads' .* \(got 2, 1, 2\)"),
    ([-1, 0], ['dep'], r"'words', 'heads' .* \(got 2, 2, 1\)"),
    ([-1, 2], ['dep'] * 2, r"in \[-1, 2\) \(got 2 at word 1, 'b'\)"),
    ([-2, 0], ['dep'] * 2, r"in \[-1, 2\) \(got -2 at word 0, 'a'\)"),
    ([-1, 1], ['dep'] * 2, r"cannot govern itself \(word 1, 'b'\)"),
])
def test_from_heads_errors(heads, labels, message):
    with pytest.raises(ValueError, match=message):
        TextGraph.from_heads(['a', 'b'], heads, labels, LABELS)


@pytest.mark.parametrize('key, value, message', [
    ('words', ['a'], r"'words' must hold one string a node "
                     r'\(got 1 for 3 nodes\)'),
    ('edge_index', torch.zeros(3, 2).long(), r'int64 .* shape \[2, E\]'),
    ('edge_index', torch.zeros(2, 2), r'int64 .* shape \[2, E\]'),
    ('edge_index', None, r'int64 .* shape \[2, E\]'),
    ('edge_index', torch.tensor([[0, 3], [1, 2]]),
     r'source positions must be in \[0, 3\) \(got 3 at edge 1\)'),
    ('edge_index', torch.tensor([[0, 1], [1, -1]]),
     r'target positions must be in \[0, 3\) \(got -1 at edge 1\)'),
    ('edge_type', torch.zeros(1).long(), r'equally long \(got 2 and 1\)'),
    ('edge_type', torch.tensor([0, -4]), r'not be negative \(got -4 at edge'),
    ('x', torch.randn(2, 4), r"'x' must have one row a node \(got 2 for 3\)"),
    ('x', torch.tensor([[0.], [1.], [float('nan')]]),
     r"'x' must be finite \(got nan at row 2\)"),
    ('pos_id', torch.tensor([0, -1, 2]), r"'pos_id' .* \(got -1 at row 1\)"),
    ('head', torch.tensor([-1, 0, 0]),
     r'disagree at word 2 \(got 0 and 1\)'),
    ('head', torch.tensor([-1, 0]), r"'head' must have one row a node"),
    ('edge_index', torch.tensor([[0, 2], [1, 1]]), 'one governor at most'),
])
def test_validate(key, value, message):
    graph = make_text('a b c')
    graph[key] = value
    with pytest.raises(ValueError, match=f'^TextGraph: .*{message}'):
        graph.validate()
    assert not graph.validate(raise_on_error=False)


def test_repr():
    assert repr(make_text('a b')) == 'TextGraph(2 words, 1 dependencies: a b)'
    text = repr(make_text(' '.join('x' * 40)))
    assert text == f'TextGraph(40 words, 39 dependencies: {"x " * 29}x…)'

    class Sentence(TextGraph):
        pass

    graph = Sentence.from_heads(['a'], [-1], ['dep'], LABELS)
    assert repr(graph) == 'Sentence(1 words, 0 dependencies: a)'
    assert repr(TextGraph()) == 'TextGraph()'
