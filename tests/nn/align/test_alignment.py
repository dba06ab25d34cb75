import pytest
import torch

from mmgraph import checks
from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align import Aligner, Alignment
from mmgraph.testing import topk_oracle
from tests.nn.align.cases import collate

NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def view(*sizes):
    return collate([GraphView.single(NO_EDGES, n) for n in sizes])


@pytest.fixture
def ragged():
    source, target = view(2, 0, 3, 1), view(3, 2, 1, 0)
    scores = torch.arange(4 * 3 * 3.0).view(4, 3, 3)
    return Alignment.from_dense(scores, source, target), scores


def test_from_dense(ragged):
    alignment, scores = ragged
    assert alignment.num_graphs == 4
    assert alignment.num_source == 6 and alignment.num_target == 6
    assert alignment.match_index.tolist() == [[0, 0, 0, 1, 1, 1, 2, 3, 4],
                                              [0, 1, 2, 0, 1, 2, 5, 5, 5]]
    assert alignment.batch.tolist() == [0] * 6 + [2] * 3
    expected = torch.zeros_like(scores)
    expected[0, :2] = scores[0, :2]
    expected[2, :, :1] = scores[2, :, :1]
    assert torch.equal(alignment.dense(), expected)


def test_dense_sizes(ragged):
    alignment, _ = ragged
    dense = alignment.dense()
    wide = alignment.dense(num_source=5, num_target=4)
    assert wide.shape == (4, 5, 4)
    assert torch.equal(wide[:, :3, :3], dense)
    assert wide[:, 3:].count_nonzero() == 0
    with pytest.raises(ShapeError, match=r"'num_target' .* 3, .* \(got 2\)"):
        alignment.dense(num_target=2)
    with checks(False):
        assert alignment.dense(3, 3).shape == (4, 3, 3)


def test_repr(ragged):
    assert repr(ragged[0]) == ('Alignment(num_graphs=4, num_source=6, '
                               'num_target=6, num_matches=9)')


def test_no_matches():
    empty = Alignment(NO_EDGES, torch.empty(0), torch.tensor([0, 2]),
                      torch.tensor([0, 3]))
    assert torch.equal(empty.dense(), torch.zeros(1, 2, 3))
    for ties in ('first', 'split'):
        for k in (1, 2):
            assert empty.topk(k, ties).num_matches == 0


@pytest.mark.parametrize('k', [1, 2, 3, 5])
@pytest.mark.parametrize('ties', ['first', 'split'])
@pytest.mark.parametrize('sign', [1, -1])
def test_topk_oracle(k, ties, sign):
    generator = torch.Generator().manual_seed(k)
    source, target = view(4, 0, 6, 2, 3), view(5, 3, 7, 1, 0)
    for _ in range(5):
        scores = torch.randint(1, 4, (5, 6, 7), generator=generator) * sign
        scores = scores.double()
        scores += 1e-8 * torch.rand(scores.shape, generator=generator)
        full = Alignment.from_dense(scores, source, target)
        out = full.topk(k, ties).dense()
        for b, (n, m) in enumerate(zip(source.sizes, target.sizes)):
            for i in range(n):
                expected = topk_oracle(scores[b, i, :m].tolist(), k, ties)
                assert out[b, i, :m].tolist() == pytest.approx(expected)


def test_topk_any_order(ragged):
    alignment, _ = ragged
    order = torch.randperm(alignment.num_matches)
    shuffled = Alignment(
        alignment.match_index[:, order], alignment.match_score[order],
        alignment.source_ptr, alignment.target_ptr)
    for k in (1, 2):
        for ties in ('first', 'split'):
            a, b = alignment.topk(k, ties), shuffled.topk(k, ties)
            assert torch.equal(a.match_index, b.match_index)
            assert torch.equal(a.match_score, b.match_score)


def test_topk_rules():
    alignment = Alignment(
        torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]]),
        torch.tensor([0.5, 0.9, 0.5, 0.5]), torch.tensor([0, 1]),
        torch.tensor([0, 4]))
    assert alignment.topk(2).dense().tolist() == [[pytest.approx(
        [0.5, 0.9, 0, 0])]]
    assert alignment.topk(2, 'split').dense().tolist() == [[pytest.approx(
        [0.5 / 3, 0.9, 0.5 / 3, 0.5 / 3])]]
    assert alignment.topk(3, 'split').dense().tolist() == [[pytest.approx(
        [1 / 3, 0.9, 1 / 3, 1 / 3])]]
    assert alignment.topk(9, 'split').dense().tolist() == [[pytest.approx(
        [0.5, 0.9, 0.5, 0.5])]]


def test_differentiable():
    source, target = view(3, 2), view(2, 4)
    scores = torch.rand(2, 3, 4, dtype=torch.double, requires_grad=True)

    def through(scores):
        out = Alignment.from_dense(scores, source, target)
        return out.dense(), out.topk(1).dense(), out.topk(2, 'split').dense()

    assert torch.autograd.gradcheck(through, scores)


def test_to_and_loss(ragged):
    alignment, scores = ragged
    source, target = view(2, 0, 3, 1), view(3, 2, 1, 0)
    loss = torch.tensor(1.5)
    alignment = Alignment.from_dense(scores, source, target, loss)
    assert alignment.to('cpu').loss == 1.5
    assert alignment.topk(1).loss is loss
    assert alignment.to('meta').match_score.device.type == 'meta'


def test_errors(ragged):
    alignment, scores = ragged
    ptr = torch.tensor([0, 1])
    with pytest.raises(ShapeError, match=r"'match_index' must have shape"):
        Alignment(torch.zeros(3, 1), torch.zeros(1), ptr, ptr)
    with pytest.raises(ShapeError, match="'match_score' must hold one"):
        Alignment(NO_EDGES, torch.zeros(1), ptr, ptr)
    with pytest.raises(ShapeError, match="'source_ptr' and 'target_ptr'"):
        Alignment(NO_EDGES, torch.zeros(0), ptr, ptr[:1])
    with pytest.raises(ValueError, match=r"'k' must be at least 1 \(got 0\)"):
        alignment.topk(0)
    with pytest.raises(ValueError, match="choose from 'first', 'split'"):
        alignment.topk(1, 'last')
    with pytest.raises(ShapeError, match='the same number of graphs'):
        Alignment.from_dense(scores, view(1), view(1, 1))
    with pytest.raises(ShapeError, match=r"'scores' must have shape"):
        Alignment.from_dense(scores[0], view(1), view(1))
    with pytest.raises(ShapeError, match='must cover graphs of 4 source'):
        Alignment.from_dense(scores[:1], view(4), view(1))


def test_abstract():
    with pytest.raises(TypeError, match='abstract class Aligner'):
        Aligner()
