import networkx as nx
import pytest
import torch
from torch_geometric.loader import DataLoader

from mmgraph.datasets import PlantedPairs


def graph(pair, side):
    out = nx.Graph()
    out.add_nodes_from(range(int(pair[f'num_nodes_{side}'])))
    out.add_edges_from(pair[f'edge_index_{side}'].t().tolist())
    return out


def test_as_stated():
    data = PlantedPairs(num_pairs=300, seed=3)
    near_joined, far_joined, noise, spread = [], [], [], []
    for pair in data:
        assert pair.validate()
        tree = graph(pair, 's')
        assert nx.is_tree(tree) and len(tree) == 30
        parent, child = pair.edge_index_s
        assert torch.equal(child, torch.arange(1, 30))
        assert (child - parent).min() >= 1 and (child - parent).max() <= 6
        word, thing = pair.match_index
        assert word.unique().numel() == thing.unique().numel() == 10
        noise.append(pair.x_t[thing] - pair.x_s[word])
        scene = graph(pair, 't')
        far = dict(nx.all_pairs_shortest_path_length(tree))
        place = dict(zip(thing.tolist(), word.tolist()))
        for a in range(10):
            for b in range(a):
                near = far[place[a]][place[b]] <= 3
                (near_joined if near else far_joined).append(
                    scene.has_edge(a, b))
        gap = torch.cdist(pair.x_s, pair.x_s)
        spread.append(gap[(gap > .1) & (gap < 4)])
    assert sum(near_joined) / len(near_joined) == pytest.approx(.85, abs=.02)
    assert sum(far_joined) / len(far_joined) == pytest.approx(.05, abs=.01)
    assert float(torch.cat(noise).std()) == pytest.approx(.5, abs=.01)
    # Two words of a type: the root of 2 * 64 * 0.1^2.
    assert float(torch.cat(spread).square().mean()) == pytest.approx(
        1.28, abs=.03)


def test_reference_accuracy():
    """Cosines find 0.70 of the objects."""
    found = []
    for pair in PlantedPairs(num_pairs=300, seed=4):
        word, thing = pair.match_index
        x, y = (t / t.norm(dim=1, keepdim=True) for t in (pair.x_s, pair.x_t))
        found.append(((x @ y.t()).argmax(0)[thing] == word).float().mean())
    assert float(torch.stack(found).mean()) == pytest.approx(.70, abs=.03)


def test_labels_are_on_the_path():
    data = PlantedPairs(num_pairs=100, seed=1, add=0., label_noise=0.)
    for pair in data:
        tree = graph(pair, 's')
        label = {frozenset(edge): kind for edge, kind in zip(
            pair.edge_index_s.t().tolist(), pair.edge_type_s.tolist())}
        word = dict(zip(pair.match_index[1].tolist(),
                        pair.match_index[0].tolist()))
        for (a, b), kind in zip(pair.edge_index_t.t().tolist(),
                                pair.edge_type_t.tolist()):
            path = nx.shortest_path(tree, word[a], word[b])
            assert len(path) <= 4
            assert kind in {label[frozenset(e)]
                            for e in zip(path, path[1:])}


def test_unmatched():
    data = PlantedPairs(num_pairs=200, num_objects=12, unmatched=.25, seed=2)
    assert data.num_matched == 9
    joined = {True: [], False: []}
    for pair in data:
        assert pair.num_nodes_t == 12 and pair.match_index.size(1) == 9
        scene = graph(pair, 't')
        known = set(pair.match_index[1].tolist())
        for a in range(12):
            for b in range(a):
                joined[{a, b} <= known].append(scene.has_edge(a, b))
    # Their degrees give them away no more than those of the others.
    with_word, without = (sum(v) / len(v) for v in joined.values())
    assert without == pytest.approx(with_word, abs=.03)


def test_seeds_and_batches():
    one, two = PlantedPairs(4, seed=1), PlantedPairs(4, seed=1)
    other = PlantedPairs(4, seed=2)
    assert torch.equal(one[2].x_t, two[2].x_t)
    assert not torch.equal(one[2].x_t, other[2].x_t)
    batch = next(iter(DataLoader(one, batch_size=4)))
    assert batch.source.num_graphs == 4 and batch.source.num_nodes == 120
    assert batch.match_index.size(1) == 40
    assert (batch.source.batch[batch.match_index[0]]
            == batch.target.batch[batch.match_index[1]]).all()
    assert repr(one) == ('PlantedPairs(4 pairs, 30 words, 10 objects, '
                         '10 matched)')


def test_transform_and_sizes():
    def mark(pair):
        pair.marked = True
        return pair

    assert PlantedPairs(2, transform=mark)[0].marked
    tiny = PlantedPairs(2, num_words=1, num_objects=1)
    assert tiny[0].edge_index_s.shape == (2, 0)
    assert tiny[0].edge_index_t.shape == (2, 0)
    assert tiny[0].edge_attr_t.shape == (0, 16)


def test_state_untouched():
    state = torch.random.get_rng_state()
    PlantedPairs(2)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize('kwargs, text', [
    (dict(num_pairs=0), "'num_pairs' must be at least 1"),
    (dict(drop=1.5), r"'drop' must be in \[0, 1\]"),
    (dict(noise=-1.), "'noise' must not be negative"),
    (dict(num_words=5), 'a word of its own'),
])
def test_refusals(kwargs, text):
    with pytest.raises(ValueError, match=text):
        PlantedPairs(**{'num_pairs': 1, **kwargs})
