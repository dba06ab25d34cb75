import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align import DenseAligner
from mmgraph.nn.align import dense as align_dense
from mmgraph.nn.align.dense import best_of
from tests.nn.align.cases import AlignerCase, collate


class ToyAligner(DenseAligner):
    """Likes nodes of the same degree, more so where both are seeds; the
    generator shifts all scores of a pair."""
    takes_seeds = True

    def score(self, source, target, seeds, generator):
        degrees = [torch.bincount(view.edge_index.view(-1),
                                  minlength=view.num_nodes).double()
                   for view in (source, target)]
        scores = 1 / (1 + (degrees[0].view(-1, 1) - degrees[1]).abs())
        scores[seeds[0], seeds[1]] += 1
        return scores + torch.rand((), generator=generator)


class FixedAligner(DenseAligner):
    """Gives what it was given."""
    def __init__(self, scores, **kwargs):
        super().__init__(**kwargs)
        self.scores = scores

    def score(self, source, target, seeds, generator):
        return self.scores


class TestDense(AlignerCase):
    cls = ToyAligner

    @pytest.mark.parametrize('top_k', [1, 2, 3, 100])
    def test_topk(self, top_k):
        """As if all scores were kept and the rest dropped afterwards."""
        views = self.batch(self.sizes)
        full = ToyAligner()(*views)
        out = ToyAligner(top_k=top_k)(*views)
        expected = full.topk(top_k, 'first')
        assert torch.equal(out.match_index, expected.match_index)
        assert torch.equal(out.match_score, expected.match_score)
        assert full.num_matches == sum(n * m for n, m in self.sizes)

    def test_seed(self):
        views = self.batch(self.sizes)
        one, again, other = (ToyAligner(seed=seed)(*views).match_score
                             for seed in (1, 1, 2))
        assert torch.equal(one, again) and not torch.equal(one, other)

    def test_all_pairs_draw_the_same(self):
        view = self.graph(6, 8, 0)
        out = ToyAligner()(collate([view, view]), collate([view, view]))
        first, second = out.dense()
        assert torch.equal(first, second)

    def test_seeds_are_local_positions(self):
        source, target = self.batch(self.sizes)
        seeds = torch.stack([source.ptr[[2, 4]] + 3, target.ptr[[2, 4]] + 1])
        before = ToyAligner()(source, target).dense()
        after = ToyAligner()(source, target, seeds=seeds).dense()
        change = (after - before).round(decimals=5)
        assert change.nonzero().tolist() == [[2, 3, 1], [4, 3, 1]]

    def test_max_entries(self):
        source, target = self.graph(6, 8, 0), self.graph(5, 6, 1)
        assert ToyAligner(max_entries=30)(source, target).num_matches == 30
        with pytest.raises(ValueError, match=r"'ToyAligner' holds a score for "
                           r"each of the 6 x 5 .*'max_entries' \(29\)"):
            ToyAligner(max_entries=29)(source, target)

    def test_no_gradient(self):
        views = self.batch(self.sizes)
        views[0].x.requires_grad_()
        assert not ToyAligner()(*views).match_score.requires_grad

    def test_arguments(self):
        for name in 'top_k', 'max_entries':
            with pytest.raises(ValueError, match=rf"'{name}' must be at least "
                               r'1 \(got 0\)'):
                ToyAligner(**{name: 0})
        assert repr(ToyAligner(top_k=3)) == 'ToyAligner(top_k=3)'
        again = ToyAligner.from_config(ToyAligner(top_k=3).get_config())
        assert again.top_k == 3

    def test_wrong_shape(self):
        source, target = self.graph(3, 8, 0), self.graph(2, 6, 1)
        aligner = FixedAligner(torch.ones(2, 3))
        with pytest.raises(ShapeError, match=r"'FixedAligner.score' must "
                           r'return shape \[3, 2\] \(got \[2, 3\]\)'):
            aligner(source, target)


def test_abstract():
    with pytest.raises(TypeError, match='abstract class DenseAligner'):
        DenseAligner()


@pytest.mark.parametrize('piece', [1, 60, 2**24])
@pytest.mark.parametrize('k', [1, 2, 5, 19])
def test_best_of(monkeypatch, piece, k):
    """In pieces or at once, with ties and nearly ties at the cut."""
    monkeypatch.setattr(align_dense, '_PIECE', piece)
    generator = torch.Generator().manual_seed(k)
    for sign in 1, -1:
        scores = sign * torch.randint(1, 5, (17, 20), generator=generator)
        scores = scores.double() + 1e-8 * torch.rand(17, 20,
                                                     generator=generator)
        nodes = torch.empty(2, 0, dtype=torch.long)
        source, target = (GraphView.single(nodes, n) for n in (17, 20))
        full = FixedAligner(scores)(source._replace(
            x=torch.zeros(17, 1).double()), target)
        index, value = best_of(scores, k)
        expected = full.topk(k, 'first')
        assert torch.equal(index, expected.match_index)
        assert torch.equal(value, expected.match_score)
