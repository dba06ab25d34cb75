import itertools
import json
import sys

import numpy as np
import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align import Aligner, Alignment, StructuralAligner
from mmgraph.nn.align.base import ragged_pairs
from mmgraph.nn.align.quadratic import QuadraticAligner
from mmgraph.nn.align.refined import RefinedAligner
from mmgraph.nn.configurable import build_from_config
from tests.nn.align.cases import AlignerCase, relabel

ALL = StructuralAligner(top_k=None, mask_isolated=False)


class Features(Aligner):
    """Scores without ties: the cosine of features, of any size."""
    def forward(self, source, target, *, seeds=None, generator=None):
        self.check(source, target, seeds)
        i, j = index = ragged_pairs(source.ptr, target.ptr)
        width = min(source.x.size(1), target.x.size(1))
        score = torch.cosine_similarity(source.x[i, :width].double(),
                                        target.x[j, :width].double())
        return Alignment(index, (1 + score).to(source.x.dtype),
                         source.ptr, target.ptr)


class Listed(Aligner):
    """One and the same list of pairs."""
    reads_features = False

    def __init__(self, *pairs):
        super().__init__()
        self.pairs = pairs

    def forward(self, source, target, *, seeds=None, generator=None):
        index = torch.tensor(self.pairs, dtype=torch.long).view(-1, 2).t()
        return Alignment(index, torch.ones(index.size(1)), source.ptr,
                         target.ptr)


def network(num_nodes, num_edges, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return GraphView.single(edges, num_nodes)


def oracle(source, target, scores, num_iters, token, seeds=()):
    """RefiNA, sum by sum."""
    n, m = scores.shape
    edges = [{frozenset(e) for e in v.edge_index.t().tolist()
              if e[0] != e[1]} for v in (source, target)]
    scores = scores.tolist()

    def fix():
        for i, j in seeds:
            scores[i] = [0.0] * m
            for row in scores:
                row[j] = 0.0
        for i, j in seeds:
            scores[i][j] = 1.0

    fix()
    for _ in range(num_iters):
        old = [list(row) for row in scores]
        for i, j in itertools.product(range(n), range(m)):
            near = sum(old[u][v]
                       for u in range(n) if frozenset((i, u)) in edges[0]
                       for v in range(m) if frozenset((j, v)) in edges[1])
            scores[i][j] = old[i][j] * near + token
        fix()
        for row in scores:
            total = sum(row)
            row[:] = [x / total if total > 0 else x for x in row]
        for j in range(m):
            total = sum(row[j] for row in scores)
            for row in scores:
                row[j] /= total if total > 0 else 1
    return torch.tensor(scores)


class TestRefinedAligner(AlignerCase):
    cls = RefinedAligner
    kwargs = dict(aligner=Features(), num_iters=5)

    @pytest.mark.parametrize('sizes', [(6, 6), (5, 8), (8, 4)])
    @pytest.mark.parametrize('token', [None, 0.01])
    def test_oracle(self, sizes, token):
        source = network(sizes[0], 9, 0)
        target = network(sizes[1], 9, 1)
        out = RefinedAligner(ALL, num_iters=4, token=token)(source, target)
        expected = oracle(source, target, ALL(source, target).dense()[0],
                          4, 0.1 if token is None else token)
        torch.testing.assert_close(out.dense()[0], expected, atol=1e-5,
                                   rtol=1e-5)

    def test_oracle_with_known_matches(self):
        source, target = network(6, 9, 0), network(7, 9, 1)
        seeds = torch.tensor([[2, 4], [0, 5]])
        out = RefinedAligner(ALL, num_iters=3)(source, target, seeds=seeds)
        expected = oracle(source, target, ALL(source, target).dense()[0],
                          3, 0.1, seeds.t().tolist())
        torch.testing.assert_close(out.dense()[0], expected, atol=1e-5,
                                   rtol=1e-5)
        assert out.dense()[0][2].count_nonzero() == 1

    def test_better(self):
        source = network(200, 500, 0)
        order = torch.randperm(200)
        target = relabel(source, order)
        target = target._replace(edge_index=target.edge_index[:, 15:])
        right = []
        for aligner in ALL, RefinedAligner(ALL):
            match = aligner(source, target).match('lap').match_index[1]
            right.append((order[match] == torch.arange(200)).float().mean())
        assert right[0] < 0.85 and right[1] > 0.93

    def test_quadratic(self):
        source, target = network(20, 40, 0), network(20, 40, 1)
        out = RefinedAligner(ALL, 'quadratic', num_iters=9)(source, target)
        same = QuadraticAligner(ALL, num_iters=9)(source, target)
        assert torch.equal(out.match_score, same.match_score)

    @pytest.mark.parametrize('max_entries', [1, 10**6])
    def test_top_k(self, max_entries):
        source, target = network(20, 40, 0), network(25, 40, 1)
        out = RefinedAligner(ALL, top_k=3, num_iters=3,
                             max_entries=max_entries)(source, target)
        assert torch.bincount(out.match_index[0]).max() == 3

    def test_config(self):
        aligner = RefinedAligner(StructuralAligner(top_k=5), num_iters=7)
        config = json.loads(json.dumps(aligner.get_config()))
        again = build_from_config(config)
        assert again.aligner.top_k == 5 and again.num_iters == 7
        assert not again.reads_features

    @pytest.mark.parametrize('kwargs, text', [
        (dict(method='faq'), "'method' must name a refinement"),
        (dict(num_iters=0), r"'num_iters' must be at least 1 \(got 0\)"),
        (dict(num_candidates=0), "'num_candidates' must be at least 1"),
        (dict(num_tokens=-1), "'num_tokens' must be at least 0"),
        (dict(top_k=0), "'top_k' must be at least 1"),
        (dict(token=0.), "'token' must be positive"),
        (dict(max_work=-1.), "'max_work' must be positive"),
    ])
    def test_wrong_arguments(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            RefinedAligner(ALL, **kwargs)


class TestSparse(AlignerCase):
    cls = RefinedAligner
    # Fewer candidates would be chosen by position where counts are equal.
    kwargs = dict(aligner=Features(), num_iters=5, max_entries=1,
                  num_candidates=20, num_tokens=20)

    @pytest.mark.parametrize('sizes', [(12, 12), (9, 14), (15, 8)])
    def test_equals_dense(self, sizes):
        # All pairs are candidates: nothing is added or left out.
        source, target = network(sizes[0], 20, 0), network(sizes[1], 20, 1)
        out = [RefinedAligner(ALL, num_iters=6, num_candidates=20,
                              max_entries=size)(source, target).dense()
               for size in (1, 10**6)]
        torch.testing.assert_close(out[0], out[1], atol=1e-6, rtol=1e-5)

    def test_known_matches_equal_dense(self):
        source, target = network(12, 20, 0), network(13, 20, 1)
        seeds = torch.tensor([[0, 11], [3, 4]])
        out = [RefinedAligner(ALL, num_iters=6, num_candidates=20,
                              max_entries=size)(source, target, seeds=seeds)
               for size in (1, 10**6)]
        torch.testing.assert_close(out[0].dense(), out[1].dense(), atol=1e-6,
                                   rtol=1e-5)

    def test_in_pieces(self, monkeypatch):
        source, target = network(60, 150, 0), network(60, 150, 1)
        aligner = RefinedAligner(ALL, num_iters=4, max_entries=1)
        whole = aligner(source, target)
        monkeypatch.setattr(sys.modules[RefinedAligner.__module__], '_PIECE',
                            50)
        parts = aligner(source, target)
        assert torch.equal(whole.match_index, parts.match_index)
        torch.testing.assert_close(whole.match_score, parts.match_score)

    def test_new_candidates(self):
        # A start that knows two nodes of forty finds nearly all others.
        source = network(40, 140, 2)
        pairs = [(i, i) for i in torch.arange(4).tolist()]
        out = RefinedAligner(Listed(*pairs), max_entries=1)(source, source)
        match = out.match('lap').match_index
        assert (match[0] == match[1]).sum() >= 38
        out = RefinedAligner(Listed(*pairs), max_entries=1,
                             num_tokens=0)(source, source)
        assert out.num_matches == 4

    def test_max_work(self):
        # Next to no work allowed: no new candidates; scores as ever.
        source = network(40, 140, 2)
        edge = source.edge_index[:, 0].tolist()
        few = Listed(*sorted((i, i) for i in edge))
        for max_work, expected in ((1e-3, 2), (100., 3)):
            out = RefinedAligner(few, max_entries=1, max_work=max_work)(
                source, source)
            assert (out.num_matches > 2) == (expected > 2)

    def test_nothing_listed(self):
        source = network(10, 20, 0)
        out = RefinedAligner(Listed(), max_entries=1)(source, source)
        assert out.num_matches == 0
        seeds = torch.tensor([[0, 1, 2], [0, 1, 2]])
        out = RefinedAligner(Listed(), max_entries=1)(source, source,
                                                      seeds=seeds)
        match = out.match('lap').match_index
        assert match.size(1) > 3 and (match[0] == match[1]).sum() > 3

    def test_better(self):
        source = network(200, 500, 0)
        order = torch.randperm(200)
        target = relabel(source, order)
        target = target._replace(edge_index=target.edge_index[:, 15:])
        start = StructuralAligner(top_k=10, ties='first')
        right = []
        for aligner in start, RefinedAligner(start, max_entries=1):
            match = aligner(source, target).match('argmax').match_index
            right.append(int((order[match[1]] == match[0]).sum()))
        assert right[0] < 170 and right[1] > 180

    def test_memory(self):
        # A hub on both sides, a candidate of every node.
        n = 1000
        star = torch.stack([torch.zeros(n - 1, dtype=torch.long),
                            torch.arange(1, n)])
        view = GraphView.single(star, n)
        pairs = [(i, 0) for i in range(n)] + [(i, i) for i in range(1, n)]
        out = RefinedAligner(Listed(*pairs), num_iters=2, max_entries=1)(
            view, view)
        assert out.num_matches <= 10 * n


class TestQuadratic(AlignerCase):
    cls = RefinedAligner
    kwargs = dict(aligner=Features(), method='quadratic')
    # The block search draws nodes at random.
    exact = False


@pytest.mark.real_data
def test_arenas(data_root):
    """RefiNA on the network of e-mails, 5 % of the edges dropped: from 0.6 to
    0.96 (argmax) with ten candidates a node, and no dense matrix."""
    data = np.load(data_root / 'alignment' / 'arenas_base.npz')
    edges = torch.from_numpy(data['edge_index'].astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(edges.size(1), generator=generator) > 0.05
    order = torch.randperm(1133, generator=generator)
    source = GraphView.single(edges, 1133)
    target = relabel(GraphView.single(edges[:, kept], 1133), order)
    start = StructuralAligner(top_k=10, ties='first')
    right = []
    for aligner in start, RefinedAligner(start, num_iters=15, max_entries=1):
        match = aligner(source, target).match('argmax').match_index
        right.append(float((order[match[1]] == match[0]).sum()) / 1133)
    assert right[0] < 0.75 and right[1] > 0.9
