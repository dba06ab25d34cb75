import itertools

import numpy as np
import pytest
import torch

from mmgraph import checks
from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align import Aligner, Alignment
from mmgraph.nn.align import base as align_base
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


# Decisions.


def listed(alignment, b):
    """Scores of the listed pairs of one graph pair, by local positions."""
    on = alignment.batch == b
    index = alignment.match_index[:, on]
    index = index - torch.stack([alignment.source_ptr[b],
                                 alignment.target_ptr[b]]).view(2, 1)
    return dict(zip(map(tuple, index.t().tolist()),
                    alignment.match_score[on].tolist()))


def best_sum(scores, n, m):
    """The highest sum of a one-to-one matching, one by one; an unlisted pair
    is no match."""
    best = 0.0
    for targets in itertools.product([None, *range(m)], repeat=n):
        used = [t for t in targets if t is not None]
        pairs = [(i, t) for i, t in enumerate(targets) if t is not None]
        if len(set(used)) < len(used) or any(p not in scores for p in pairs):
            continue
        best = max(best, sum(scores[p] for p in pairs))
    return best


def greedy_oracle(scores):
    """The best pair that is left, by score, then by position."""
    chosen = []
    left = sorted(scores, key=lambda pair: (-scores[pair], pair))
    while left:
        pair = left[0]
        chosen.append(pair)
        left = [p for p in left if p[0] != pair[0] and p[1] != pair[1]]
    return sorted(chosen)


def argmax_oracle(scores):
    rows = sorted({i for i, _ in scores})
    return [min((p for p in scores if p[0] == i),
                key=lambda p: (-scores[p], p)) for i in rows]


def random_alignment(seed, share, low=0.0, levels=None):
    """Some pairs of a ragged batch, in any order."""
    generator = torch.Generator().manual_seed(seed)
    source, target = view(3, 0, 4, 2, 5, 1), view(4, 2, 3, 0, 3, 1)
    scores = torch.rand(6, 5, 4, generator=generator)
    if levels is not None:
        scores = (scores * levels).floor() / levels
    full = Alignment.from_dense(scores.double() + low, source, target)
    keep = torch.rand(full.num_matches, generator=generator) < share
    order = torch.randperm(int(keep.sum()), generator=generator)
    return Alignment(full.match_index[:, keep][:, order],
                     full.match_score[keep][order], full.source_ptr,
                     full.target_ptr)


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('share', [.3, .7, 1.0])
@pytest.mark.parametrize('levels', [None, 3])
def test_match_oracle(monkeypatch, sparse, share, levels):
    """Against all matchings, one by one, alone and in a batch."""
    monkeypatch.setattr(align_base, '_SPARSE_SHARE', 2.0 if sparse else 0.0)
    for seed in range(6):
        alignment = random_alignment(seed, share, levels=levels)
        for method in 'argmax', 'greedy', 'lap':
            out = alignment.match(method)
            assert torch.equal(out.source_ptr, alignment.source_ptr)
            row = out.match_index[0]
            assert (row[1:] > row[:-1]).all(), 'one a source node, in order'
            if method != 'argmax':
                assert out.match_index[1].unique().numel() == out.num_matches
            for b in range(6):
                scores, found = listed(alignment, b), listed(out, b)
                assert found.items() <= scores.items()
                if method == 'lap':
                    n, m = ((p[b + 1] - p[b]).item() for p in (
                        alignment.source_ptr, alignment.target_ptr))
                    assert sum(found.values()) == pytest.approx(
                        best_sum(scores, n, m))
                else:
                    expected = {'greedy': greedy_oracle,
                                'argmax': argmax_oracle}[method](scores)
                    assert sorted(found) == expected


def test_match_of_negative_scores(monkeypatch):
    """Greedy takes what is left, however bad; both stay one-to-one."""
    for sparse in False, True:
        monkeypatch.setattr(align_base, '_SPARSE_SHARE', 2. if sparse else 0.)
        for seed in range(6):
            alignment = random_alignment(seed, .6, low=-.5)
            out = alignment.match('lap')
            assert out.match_index[1].unique().numel() == out.num_matches
            greedy = alignment.match('greedy')
            for b in range(6):
                assert sorted(listed(greedy, b)) == greedy_oracle(
                    listed(alignment, b))


@pytest.mark.parametrize('levels', [None, 4])
def test_sparse_route_is_as_good_as_the_dense_one(monkeypatch, levels):
    """On a list long enough for either, with the module's own switch."""
    generator = torch.Generator().manual_seed(0)
    n, m, k = 60, 80, 6
    row = torch.arange(n).repeat_interleave(k)
    col = torch.cat([torch.randperm(m, generator=generator)[:k]
                     for _ in range(n)])
    score = torch.rand(n * k, generator=generator).double()
    if levels is not None:
        score = (score * levels).floor() / levels
    alignment = Alignment(torch.stack([row, col]), score,
                          torch.tensor([0, n]), torch.tensor([0, m]))
    assert alignment.num_matches < align_base._SPARSE_SHARE * n * m
    sparse = alignment.match('lap')
    monkeypatch.setattr(align_base, '_SPARSE_SHARE', 0.0)
    dense = alignment.match('lap')
    assert float(sparse.match_score.sum()) == pytest.approx(
        float(dense.match_score.sum()))
    if levels is None:
        assert torch.equal(sparse.match_index, dense.match_index)


def test_match_ties():
    """Equals are decided by position."""
    ptr = torch.tensor([0, 3])
    index = torch.cartesian_prod(torch.arange(3), torch.arange(3)).t()
    order = torch.randperm(9)
    alignment = Alignment(index[:, order], torch.ones(9), ptr, ptr)
    assert alignment.match('argmax').match_index.tolist() == [
        [0, 1, 2], [0, 0, 0]]
    assert alignment.match('greedy').match_index.tolist() == [
        [0, 1, 2], [0, 1, 2]]
    assert alignment.match('lap').num_matches == 3


def test_match_alone_is_match_in_a_batch():
    alignment = random_alignment(1, .8)
    for method in 'argmax', 'greedy', 'lap':
        together = alignment.match(method)
        for b in range(alignment.num_graphs):
            on = alignment.batch == b
            starts = torch.stack([alignment.source_ptr[b],
                                  alignment.target_ptr[b]])
            alone = Alignment(
                alignment.match_index[:, on] - starts.view(2, 1),
                alignment.match_score[on],
                alignment.source_ptr[b:b + 2] - starts[0],
                alignment.target_ptr[b:b + 2] - starts[1]).match(method)
            assert listed(alone, 0) == listed(together, b)


def test_match_is_its_own_match():
    alignment = random_alignment(3, .9)
    for method in 'argmax', 'greedy', 'lap':
        out = alignment.match(method)
        for again in method, 'argmax':
            assert torch.equal(out.match(again).match_index, out.match_index)


def test_match_min_score():
    """Applied after the choice: it takes matches away and changes none."""
    for seed in range(4):
        alignment = random_alignment(seed, .9)
        for method in 'argmax', 'greedy', 'lap':
            every, some = (listed(alignment.match(method, limit), 4)
                           for limit in (None, .6))
            assert some == {p: s for p, s in every.items() if s >= .6}
    exactly = Alignment(torch.tensor([[0], [0]]), torch.tensor([.5]),
                        torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert exactly.match('lap', .5).num_matches == 1
    assert exactly.match('lap', .51).num_matches == 0


def test_match_large_and_sparse():
    """Rounds and sparse assignment keep up with a permuted copy."""
    n, k = 20000, 4
    rng = np.random.default_rng(0)
    place = torch.from_numpy(rng.permutation(n))
    row = torch.arange(n).repeat_interleave(k)
    shift = torch.arange(k).repeat(n)
    col = place[(row + shift) % n]
    score = torch.where(shift == 0, 1.0, .5) + .1 * torch.from_numpy(
        rng.random(n * k)).float()
    ptr = torch.tensor([0, n])
    alignment = Alignment(torch.stack([row, col]), score, ptr, ptr)
    for method in 'argmax', 'greedy', 'lap':
        assert torch.equal(alignment.match(method).match_index[1], place)


def test_match_gradients_and_errors(ragged):
    scores = torch.rand(4, 3, 3, requires_grad=True)
    for method in 'argmax', 'greedy', 'lap':
        scores.grad = None
        out = Alignment.from_dense(scores, view(2, 0, 3, 1),
                                   view(3, 2, 1, 0)).match(method)
        out.match_score.sum().backward()
        assert int(scores.grad.sum()) == out.num_matches
    with pytest.raises(ValueError, match="'method' must name a decoder .got "
                       "'lab'.; choose .*Did you mean 'lap'"):
        ragged[0].match('lab')
    for value in float('nan'), float('inf'):
        bad = Alignment(torch.tensor([[0], [0]]), torch.tensor([value]),
                        torch.tensor([0, 1]), torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="'match_score' must be finite"):
            bad.match('argmax')


def test_match_of_nothing():
    empty = Alignment(NO_EDGES, torch.empty(0), torch.tensor([0, 2]),
                      torch.tensor([0, 3]))
    none = Alignment(NO_EDGES, torch.empty(0), torch.tensor([0]),
                     torch.tensor([0]))
    for method in 'argmax', 'greedy', 'lap':
        for alignment in empty, none:
            assert alignment.match(method, .5).num_matches == 0
