"""Batches with the neighbours of their posts."""
from pathlib import Path

import pytest
import torch

from mmgraph.datasets import MNRE, SyntheticPosts
from mmgraph.errors import InputError
from mmgraph.train import Neighbours, PostDataModule

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'


def make(num_workers=0, **kwargs):
    dataset = SyntheticPosts(num_posts=30, cross=0.5, seed=3)
    return PostDataModule(dataset, batch_size=8, num_workers=num_workers,
                          neighbours=Neighbours(k=3, **kwargs))


@pytest.mark.parametrize('num_workers', [0, 2])
def test_each_batch_has_the_neighbours_of_its_posts(num_workers):
    data = make(num_workers, num_hops=2)
    for loader in data.train_dataloader(), data.val_dataloader():
        seen = 0
        for batch in loader:
            near = batch.neighbours
            assert near['text'].post_id == batch.post_id
            expected = data.graph.gather(batch.post_id, 2)
            assert torch.equal(near['image'].n_id, expected['image'].n_id)
            seen += batch.num_graphs
        assert seen == 30


def test_neighbours_move_with_the_batch():
    batch = next(iter(make().train_dataloader()))
    moved = batch.to('meta')
    assert moved.neighbours['image'].x.is_meta
    assert moved.neighbours['text', 'matches', 'image'].edge_index.is_meta


def test_pools():
    train = make().graph
    everything = make(pool='all').graph
    matches = ('text', 'matches', 'image')
    reached = train[matches].edge_index[1]
    assert bool(train['image'].train_mask[reached].all())
    reached = everything[matches].edge_index[1]
    assert not bool(everything['image'].train_mask[reached].all())
    degree = torch.bincount(train[matches].edge_index[0],
                            minlength=train['text'].num_nodes)
    assert int(degree.max()) == 3  # The pool narrows first, then k.
    assert bool((degree == 3).all())


def test_the_control_keeps_numbers_and_weights():
    graph, control = make().graph, make(shuffle=True).graph
    for edge_type in graph.edge_types:
        a, b = graph[edge_type], control[edge_type]
        assert torch.equal(a.edge_index[0], b.edge_index[0])
        assert torch.equal(a.edge_weight, b.edge_weight)
        assert not torch.equal(a.edge_index[1], b.edge_index[1])
    again = make(shuffle=True).graph
    other = make(shuffle=True, seed=1).graph
    index = [g['text', 'matches', 'image'].edge_index
             for g in (control, again, other)]
    assert torch.equal(index[0], index[1])
    assert not torch.equal(index[0], index[2])


def test_without_them_batches_are_as_before():
    data = PostDataModule(SyntheticPosts(num_posts=10), batch_size=5)
    assert 'neighbours' not in next(iter(data.train_dataloader()))
    assert data.graph is None


@pytest.mark.parametrize('kwargs, message', [
    (dict(k=0), "'k' must be at least 1"),
    (dict(num_hops=0), "'num_hops' must be at least 1"),
    (dict(pool='test'), "'pool' must be one of"),
])
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Neighbours(**kwargs)


def test_a_corpus_without_a_graph_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))
    data = PostDataModule(MNRE(ROOT, graph='none'), neighbours=Neighbours())
    with pytest.raises(InputError, match='MNRE'):
        data.setup('fit')
