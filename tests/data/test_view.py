import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import GraphView, Post, batch_view, ptr_from_sizes
from tests.data.cases import make_scene, make_text, saved


def make_posts():
    return [
        Post.build(make_text('a b c'), make_scene(2), [(0, 1), (1, 2)],
                   [(0, 1, 0)]),
        Post.build(make_text(''), make_scene(0), has_image=False),
        Post.build(make_text('d e'), make_scene(3)),
    ]


def test_single():
    view = GraphView.single(torch.tensor([[0, 1], [1, 2]]), 3)
    assert view.num_nodes == 3 and view.num_graphs == 1
    assert view.sizes.tolist() == [3] and view.x is None
    assert GraphView.single(torch.empty(2, 0).long(), 0).num_nodes == 0


@pytest.mark.parametrize('kind, sizes, edges', [
    ('word', [3, 0, 2], [[0, 1, 3], [1, 2, 4]]),
    ('object', [2, 0, 3], [[0, 2, 2], [1, 3, 4]]),
    ('entity', [2, 0, 0], [[0], [1]]),
])
def test_posts(kind, sizes, edges):
    posts = make_posts()
    view = batch_view(Batch.from_data_list(posts), kind)
    assert view.sizes.tolist() == sizes
    assert view.num_graphs == 3 and view.num_nodes == sum(sizes)
    assert view.edge_index.tolist() == edges
    for post, size in zip(posts, sizes):
        alone = batch_view(post, kind)
        assert alone.num_graphs == 1 and alone.num_nodes == size
        assert alone.ptr.tolist() == [0, size]


def test_features():
    batch = Batch.from_data_list(make_posts())
    view = batch_view(batch, 'object')
    assert view.x is batch['object'].x
    assert batch_view(batch, 'word').x is None
    x = torch.randn(5, 7)
    assert batch_view(batch, 'object', x=x).x is x
    assert batch_view(batch, 'word').edge_type.tolist() == [1, 1, 1]


def test_plain_graphs():
    for graphs, n in (([make_text('a b'), make_text('')], 2),
                      ([make_scene(3), make_scene(1)], 4)):
        view = batch_view(Batch.from_data_list(graphs))
        assert view.num_graphs == 2 and view.num_nodes == n
        alone = batch_view(graphs[0])
        assert alone.ptr.tolist() == [0, graphs[0].num_nodes]


def test_unknown_nodes():
    post = make_posts()[0]
    with pytest.raises(ValueError, match=r"'node_type' must name .* \(got "
                       r"None\); choose from 'entity', 'object', 'word'"):
        batch_view(post)
    with pytest.raises(ValueError, match="Did you mean 'word'"):
        batch_view(post, 'words')


def test_save():
    view = batch_view(make_posts()[0], 'object')
    again = saved(view)
    assert isinstance(again, GraphView)
    for old, new in zip(view, again):
        assert old is new is None or torch.equal(old, new)


def ragged_view(sizes, seed=0, features=True):
    """A batch whose edges come in any order."""
    generator = torch.Generator().manual_seed(seed)
    ptr = ptr_from_sizes(torch.tensor(sizes))
    edges = [torch.randint(n, (2, 2 * n), generator=generator) + p
             for n, p in zip(sizes, ptr.tolist()) if n]
    edge_index = torch.cat([torch.empty(2, 0, dtype=torch.long), *edges],
                           dim=1)
    order = torch.randperm(edge_index.size(1), generator=generator)
    edge_index = edge_index[:, order]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    if not features:
        return GraphView(None, edge_index, None, None, batch, ptr)
    return GraphView(torch.randn(sum(sizes), 3, generator=generator),
                     edge_index, torch.arange(edge_index.size(1)),
                     torch.randn(edge_index.size(1), 2, generator=generator),
                     batch, ptr)


@pytest.mark.parametrize('sizes', [[4, 0, 1, 6], [0, 0], [3], [0], [1, 2]])
@pytest.mark.parametrize('features', [True, False])
def test_unbatch(sizes, features):
    view = ragged_view(sizes, features=features)
    parts = view.unbatch()
    assert [part.num_nodes for part in parts] == sizes
    for b, part in enumerate(parts):
        start = int(view.ptr[b])
        assert part.num_graphs == 1
        assert part.ptr.tolist() == [0, sizes[b]]
        assert part.batch.tolist() == [0] * sizes[b]
        # Edge by edge, in the order of the batch.
        mine = [e for e, u in enumerate(view.edge_index[0].tolist())
                if view.batch[u] == b]
        assert part.edge_index.tolist() == [
            [int(view.edge_index[row, e]) - start for e in mine]
            for row in (0, 1)]
        if not features:
            assert part.x is part.edge_type is part.edge_attr is None
            continue
        assert torch.equal(part.x, view.x[start:start + sizes[b]])
        assert part.edge_type.tolist() == mine
        assert torch.equal(part.edge_attr, view.edge_attr[mine])


def test_unbatch_of_no_graphs():
    view = ragged_view([2])._replace(
        x=torch.empty(0, 3), edge_index=torch.empty(2, 0, dtype=torch.long),
        batch=torch.empty(0, dtype=torch.long), ptr=torch.tensor([0]))
    assert view.unbatch() == []


def test_unbatch_undoes_batching():
    posts = make_posts()
    for kind in 'word', 'object':
        parts = batch_view(Batch.from_data_list(posts), kind).unbatch()
        for part, post in zip(parts, posts, strict=True):
            alone = batch_view(post, kind)
            for old, new in zip(alone, part, strict=True):
                assert old is new is None or torch.equal(old, new)


def test_ptr_from_sizes():
    assert ptr_from_sizes(torch.tensor([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert ptr_from_sizes(torch.empty(0).long()).tolist() == [0]
