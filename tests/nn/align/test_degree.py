import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.degree import DegreeAligner
from tests.nn.align.cases import AlignerCase, all_pairs, collate, random_edges


def degrees(view):
    """The number of distinct neighbours, node by node."""
    neighbours = [set() for _ in range(view.num_nodes)]
    for i, j in view.edge_index.t().tolist():
        if i != j:
            neighbours[i].add(j)
            neighbours[j].add(i)
    return [len(nodes) for nodes in neighbours]


def oracle(source, target):
    out = {}
    d_s, d_t = degrees(source), degrees(target)
    for i, j in all_pairs(source, target):
        high = max(d_s[i], d_t[j])
        out[i, j] = 1 - abs(d_s[i] - d_t[j]) / high if high else 1.0
    return out


class TestDegreeAligner(AlignerCase):
    cls = DegreeAligner

    def test_oracle(self):
        source, target = self.batch(self.sizes)
        out = DegreeAligner()(source, target)
        expected = oracle(source, target)
        assert [tuple(pair) for pair in out.match_index.t().tolist()] == list(
            expected)
        torch.testing.assert_close(out.match_score,
                                   torch.tensor(list(expected.values())))

    @pytest.mark.parametrize('top_k', [1, 2, 3, 7, 15, 50])
    def test_top_k(self, top_k):
        """The search by sorting finds what the full matrix has."""
        sizes = [*self.sizes, (0, 4), (60, 50), (5, 0), (30, 90)]
        source, target = self.batch(sizes)
        out = DegreeAligner(top_k=top_k)(source, target)
        self.check(out, source, target)
        expected = DegreeAligner()(source, target).topk(top_k)
        assert torch.equal(out.match_index, expected.match_index)
        assert torch.equal(out.match_score, expected.match_score)

    def test_ties_above_and_below(self):
        """Degrees 1 and 4 are equally far from 2: positions decide."""
        star = torch.tensor([[0, 0], [1, 2]])
        edges = torch.tensor([[1, 2, 2, 2, 2], [0, 3, 4, 5, 6]])
        out = DegreeAligner(top_k=3)(GraphView.single(star, 3),
                                     GraphView.single(edges, 7))
        best = out.match_index[1][out.match_index[0] == 0]
        assert best.tolist() == [0, 1, 2]

    def test_large(self):
        generator = torch.Generator().manual_seed(0)
        view = GraphView.single(random_edges(20000, 60000, generator), 20000)
        out = DegreeAligner(top_k=5)(view, view)
        assert out.num_matches == 100000
        with pytest.raises(ValueError, match=r"'max_entries' must cover the "
                                             r"400000000 .*'top_k'"):
            DegreeAligner()(view, view)
        with pytest.raises(ValueError, match="'max_entries' must cover"):
            DegreeAligner(top_k=5, max_entries=99999)(view, view)

    def test_isolated(self):
        none = torch.empty(2, 0, dtype=torch.long)
        loop = torch.tensor([[0], [0]])
        pair = torch.tensor([[0], [1]])
        out = DegreeAligner()(
            collate([GraphView.single(none, 1), GraphView.single(loop, 1)]),
            collate([GraphView.single(pair, 3), GraphView.single(none, 1)]))
        assert out.match_score.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize('name', ['top_k', 'max_entries'])
def test_errors(name):
    with pytest.raises(ValueError, match=rf"'{name}' must be at least 1"):
        DegreeAligner(**{name: 0})
