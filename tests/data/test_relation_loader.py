import pytest
import torch

from mmgraph.data import RelationGraph, RelationLoader
from tests.data.cases import plain
from tests.data.test_relation_graph import corpus


def make(seed=0, **kwargs):
    text, image, options = corpus(seed, **kwargs)
    return RelationGraph.from_features(text, image, **options)


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('hops', [1, 2])
def test_batches(hops, num_workers):
    graph = make()
    number = graph['text'].num_nodes
    loader = RelationLoader(graph, batch_size=4, num_hops=hops,
                            num_workers=num_workers)
    assert len(loader) == -(-number // 4)
    rows = torch.arange(number).split(4)
    for batch, mine in zip(loader, rows, strict=True):
        assert type(batch) is RelationGraph and batch.validate()
        assert plain(batch) == plain(graph.gather(mine, hops))


def test_queries():
    graph = make(1)
    text = graph['text']

    def loaded(queries):
        return [i for batch in RelationLoader(graph, queries, batch_size=3)
                for i in batch['text'].n_id.tolist()]

    train = text.train_mask.nonzero().view(-1).tolist()
    assert train and loaded('train') == loaded(text.train_mask) == train
    assert loaded(None) == list(range(text.num_nodes))
    assert loaded(torch.tensor([4, 0, 2, 1])) == [4, 0, 2, 1]
    assert loaded([text.post_id[i] for i in (3, 1)]) == [3, 1]
    assert loaded([]) == []


def test_shuffle_is_reproducible_and_its_own():
    graph = make(2)
    state = torch.random.get_rng_state()

    def epochs(**kwargs):
        loader = RelationLoader(graph, shuffle=True, batch_size=2, **kwargs)
        return [[i for batch in loader for i in batch['text'].n_id.tolist()]
                for _ in range(2)]

    first = epochs()
    assert first == epochs() != epochs(seed=1)
    assert first[0] != first[1] and sorted(first[0]) == sorted(first[1])
    own = torch.Generator().manual_seed(5)
    assert epochs(generator=own) == epochs(seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_leaks():
    graph = make(3).inductive('train')
    for batch in RelationLoader(graph, 'train', batch_size=2, num_hops=9):
        assert batch['image'].train_mask.all()


@pytest.mark.parametrize('kwargs,message', [
    (dict(batch_size=0), "'batch_size' must be at least 1"),
    (dict(num_hops=0), "'num_hops' must be at least 1"),
    (dict(queries='dev'), "'queries' must be one of its choices"),
    (dict(queries=torch.tensor([999])), r'rows in \[0, '),
    (dict(queries=torch.ones(2, dtype=torch.bool)), "'queries' must have"),
])
def test_arguments_that_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RelationLoader(make(), **kwargs)
