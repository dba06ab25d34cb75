import gzip
import itertools

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmgraph.errors import InputError
from mmgraph.parse import read_edge_list, read_graphml, read_name_pairs
from mmgraph.parse.edge_list import EdgeList


def write(tmp_path, text, name='a.edges'):
    path = tmp_path / name
    path.write_text(text, encoding='utf-8')
    return path


def named(edges):
    """Edges by name, with weights."""
    weights = (itertools.repeat(1.0) if edges.edge_weight is None
               else edges.edge_weight.tolist())
    return [(edges.names[u], edges.names[v], w)
            for (u, v), w in zip(edges.edge_index.t().tolist(), weights)]


@pytest.mark.parametrize('text', [
    'a b\nb c\n', 'a,b\nb,c', 'a\tb\nb\tc\n', '  a   b \r\n\r\nb c\r\n',
    '# a comment\na b\n% another\n// and another\nb c\n',
    'source,target\na,b\nb,c\n', 'Source Target\na b\nb c\n',
    'a, b\nb, c\n', '"a","b"\nb,c\n', '\ufeffa b\nb c\n',
    'source,target,weight\na,b,1\nb,c,1.0\n', 'a b {}\nb c {}\n',
    "a b {'weight': 1.0}\nb c {'weight': 1, 'kind': 'x, y'}\n",
    "a,b,{'weight': 1.0}\nb,c,{'weight': 1}\n",
])
def test_formats(tmp_path, text):
    edges = read_edge_list(write(tmp_path, text))
    assert edges.names == ['a', 'b', 'c']
    assert edges.edge_index.tolist() == [[0, 1], [1, 2]]
    assert edges.edge_index.is_contiguous()
    assert edges.edge_weight is None


def test_names(tmp_path):
    edges = read_edge_list(write(
        tmp_path, 'Ada Lovelace,"Babbage, Charles"\nÆ,Ada Lovelace\n'))
    assert edges.names == ['Ada Lovelace', 'Babbage, Charles', 'Æ']
    edges = read_edge_list(write(tmp_path, 'Ada Lovelace\tB\t2\n'))
    assert named(edges) == [('Ada Lovelace', 'B', 2)]
    # Names are texts: 01 is not 1.
    assert read_edge_list(write(tmp_path, '01 1\n')).names == ['01', '1']


def test_weights(tmp_path):
    edges = read_edge_list(write(tmp_path, 'a b 2\nb c 0\nc d -1.5e0\nd a\n'))
    assert named(edges) == [('a', 'b', 2), ('c', 'd', -1.5), ('d', 'a', 1)]
    # An edge of weight zero is none; its nodes are there.
    edges = read_edge_list(write(tmp_path, "a b {'weight': 0.0}\nb c {}\n"))
    assert edges.names == ['a', 'b', 'c']
    assert edges.edge_index.tolist() == [[1], [2]]


def test_nodes_without_edges(tmp_path):
    edges = read_edge_list(write(tmp_path, 'a b\nc\n'))
    assert edges.names == ['a', 'b', 'c']
    assert edges.view().num_nodes == 3


def test_empty(tmp_path):
    for text in '', '# nothing\n':
        edges = read_edge_list(write(tmp_path, text))
        assert edges.names == [] and edges.edge_index.shape == (2, 0)
        assert edges.view().num_nodes == 0


def test_view():
    edges = EdgeList(['a', 'b', 'c'], torch.tensor([[0, 1, 2, 0], [1, 0, 2,
                                                                   1]]))
    view = edges.view()
    assert view.edge_index.tolist() == [[0, 1], [1, 0]]
    assert view.num_nodes == 3 and view.edge_attr is None


def test_gz(tmp_path):
    path = tmp_path / 'a.edges.gz'
    path.write_bytes(gzip.compress(b'a b\nb c\n'))
    seen = []
    assert read_edge_list(path, seen.append).names == ['a', 'b', 'c']
    assert sum(seen) == path.stat().st_size
    path.write_bytes(gzip.compress(bytes(range(33, 120)) * 50)[:-20])
    with pytest.raises(InputError, match=r'a.edges.gz: damaged .gz file'):
        read_edge_list(path)
    path.write_bytes(b'a b\n')
    with pytest.raises(InputError, match=r'a.edges.gz: damaged .gz file'):
        read_edge_list(path)


@pytest.mark.parametrize('text, line, message', [
    ('a b\na b c d\n', 2, r'1 weight at most \(got 4 columns\)'),
    ('a b\n\n# x\na b c\n', 4, r"must be a finite number \(got 'c'\)"),
    ('a b nan\n', 1, r"\(got 'nan'\)"),
    ('a b inf\n', 1, r"\(got 'inf'\)"),
    ("a b {'weight': 'x'}\n", 1, 'must be a finite number'),
    ("a b {'weight\n", 1, r'got 3 columns|finite number'),
    ('a b {1}\n', 1, 'must be a finite number'),
    ('a,b\n,c\n', 2, 'an empty column'),
    ('a,b\na,b,\n', 2, 'an empty column'),
])
def test_errors(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_edge_list(path)
    assert str(caught.value).startswith(f'{path}:{line}: ')
    assert '\n' not in str(caught.value)


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match='cannot read the file .No such'):
        read_edge_list(tmp_path / 'none')
    with pytest.raises(InputError, match='cannot read the file'):
        read_edge_list(tmp_path)
    path = tmp_path / 'a.edges'
    path.write_bytes(b'a b\n\xff\xfe\n')
    with pytest.raises(InputError, match='not UTF-8 text'):
        read_edge_list(path)


@given(edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_networkx_reads_the_same(tmp_path_factory, edges):
    folder = tmp_path_factory.mktemp('nx')
    graph = nx.Graph(edges)
    nx.write_edgelist(graph, folder / 'a.edges')
    nx.write_graphml(graph, folder / 'a.graphml')
    for found in (read_edge_list(folder / 'a.edges'),
                  read_graphml(folder / 'a.graphml')):
        assert {frozenset(e[:2]) for e in named(found)} == {
            frozenset(map(str, e)) for e in graph.edges}
        assert set(found.names) == set(map(str, graph.nodes))


def test_name_pairs(tmp_path):
    source, target = {'a': 0, 'b': 1}, {'x': 0, 'y': 1, 'z': 2}
    path = write(tmp_path, 'source,target,score\na,z,0.9\nb,x,0.1\n')
    found = read_name_pairs(path, source, target)
    assert found.tolist() == [[0, 1], [2, 0]] and found.is_contiguous()
    assert read_name_pairs(write(tmp_path, ''), source, target).shape == (2, 0)
    for text, line, message in (
        ('a q\n', 1, "no target node is named 'q'"),
        ('a x\nq y\n', 2, "no source node is named 'q'"),
        ('a x\n\na y\n', 3, "source node 'a' occurs in line 1 too"),
        ('a x\nb x\n', 2, "target node 'x' occurs in line 1 too"),
        ('a\n', 1, 'must have 2 names'),
    ):
        path = write(tmp_path, text)
        with pytest.raises(InputError, match=message) as caught:
            read_name_pairs(path, source, target)
        assert str(caught.value).startswith(f'{path}:{line}: ')


GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="d0" for="edge" attr.name="weight" attr.type="double">
    <default>2.0</default>
  </key>
  <key id="d1" for="node" attr.name="weight" attr.type="double"/>
  <graph edgedefault="undirected">
    <node id="a"><data key="d1">7</data></node>
    <node id="b &amp; c"/>
    <edge source="a" target="d"><data key="d0">0</data></edge>
    <edge source="a" target="b &amp; c"><data key="d0">0.5</data></edge>
    <edge source="d" target="d"/>
    <node id="d"/>
  </graph>
</graphml>
"""


def test_graphml(tmp_path):
    path = write(tmp_path, GRAPHML, 'a.graphml')
    edges = read_graphml(path)
    assert edges.names == ['a', 'b & c', 'd']
    assert named(edges) == [('a', 'b & c', .5), ('d', 'd', 2.0)]
    packed = tmp_path / 'a.graphml.gz'
    packed.write_bytes(gzip.compress(GRAPHML.encode()))
    assert named(read_graphml(packed)) == named(edges)
    plain = read_graphml(write(
        tmp_path, '<graphml><graph><node id="1"/></graph></graphml>'))
    assert plain.names == ['1'] and plain.edge_weight is None


@pytest.mark.parametrize('old, new, message', [
    ('</graphml>', '', r':1[67]: not GraphML \(no element found'),
    ('<node id="d"/>', '', "an edge names 'd', which is no node"),
    ('<node id="d"/>', '<node id="a"/>', "node 'a' occurs twice"),
    ('<node id="d"/>', '<node/>', 'a node has no id'),
    ('0.5', 'half', "finite number .got 'half'"),
    ('<graph ', '<gruff ', 'not GraphML'),
])
def test_graphml_errors(tmp_path, old, new, message):
    path = write(tmp_path, GRAPHML.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_graphml(path)
    assert str(caught.value).startswith(str(path))


def test_not_graphml(tmp_path):
    with pytest.raises(InputError, match=r':1: not GraphML'):
        read_graphml(write(tmp_path, 'a b\n'))
    with pytest.raises(InputError, match="it has no 'graph'"):
        read_graphml(write(tmp_path, '<html/>'))
