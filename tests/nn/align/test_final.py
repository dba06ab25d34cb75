import numpy as np
import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.final import FinalAligner
from tests.nn.align.cases import AlignerCase, collate
from tests.nn.align.test_attribute import cosine
from tests.nn.align.test_isorank import double, prior


def edge_rows(view, kind, directed, num_types=4):
    """The attributes of each pair of nodes that an edge joins."""
    out = {}
    for e, (i, j) in enumerate(view.edge_index.t().tolist()):
        if i == j:
            continue
        if kind == 'none':
            row = np.ones(1)
        elif kind == 'type':
            row = np.eye(num_types)[int(view.edge_type[e])]
        else:
            row = view.edge_attr[e].double().numpy()
        none = np.zeros_like(row)
        for pair, value in (((i, j), (row, none)), ((j, i), (none, row))):
            value = np.concatenate(value) if directed else row
            out[pair] = out.get(pair, 0) + value
    if kind != 'attr':
        out = {pair: (row > 0).astype(float) for pair, row in out.items()}
    return out


def oracle(source, target, alpha=0.82, nodes=True, kind='none',
           directed=False, seeds=(), prior_kind='degree'):
    """The linear system, one entry a pair of pairs of nodes."""
    n, m = source.num_nodes, target.num_nodes
    agree = np.ones((n, m))
    if nodes:
        for i in range(n):
            for j in range(m):
                agree[i, j] = max(0, cosine(source.x[i].tolist(),
                                            target.x[j].tolist()))
    w, bound = np.zeros((n, m, n, m)), np.zeros((n, m, n, m))
    rows_t = edge_rows(target, kind, directed)
    for (i, u), one in edge_rows(source, kind, directed).items():
        for (j, v), other in rows_t.items():
            both = agree[i, j] * agree[u, v]
            w[i, j, u, v] = both * cosine(one, other)
            bound[i, j, u, v] = both * cosine(abs(one), abs(other))
    w, bound = w.reshape(n * m, n * m), bound.reshape(n * m, n * m)
    d = bound.sum(1)
    scale = np.where(d > 0, np.where(d > 0, d, 1) ** -0.5, 0)
    h = prior(source, target, prior_kind, seeds)
    s = np.linalg.solve(
        np.eye(n * m) - alpha * scale[:, None] * w * scale,
        (1 - alpha) * h.reshape(-1))
    return torch.from_numpy(s.reshape(n, m))


class TestFinalAligner(AlignerCase):
    cls = FinalAligner
    channels = (6, 6)
    atol = 1e-8

    @pytest.mark.parametrize('nodes', [True, False])
    @pytest.mark.parametrize('kind', ['none', 'type', 'attr'])
    @pytest.mark.parametrize('directed', [True, False])
    @pytest.mark.parametrize('positive', [True, False])
    def test_oracle(self, nodes, kind, directed, positive):
        """FINAL, FINAL-N, FINAL-E and FINAL-NE."""
        aligner = FinalAligner(node_attributes=nodes, edge_attributes=kind,
                               directed=directed, num_iters=1000, tol=1e-13)
        for source, target in self.pairs([(7, 4), (3, 5)]):
            if positive:
                source, target = (view._replace(
                    x=view.x.abs(), edge_attr=view.edge_attr.abs())
                    for view in (source, target))
            out = aligner(double(source), target)
            torch.testing.assert_close(
                out.dense()[0],
                oracle(source, target, 0.82, nodes, kind, directed),
                atol=1e-12, rtol=0)

    @pytest.mark.parametrize('prior_kind', ['degree', 'attribute', 'uniform'])
    @pytest.mark.parametrize('seeds', [(), ((0, 1), (2, 0))])
    @pytest.mark.parametrize('alpha', [0., 0.5, 0.9])
    def test_prior(self, prior_kind, seeds, alpha):
        aligner = FinalAligner(alpha, edge_attributes='type',
                               prior=prior_kind, num_iters=1000, tol=1e-13)
        source, target = self.pairs([(9, 6)])[0]
        out = aligner(double(source), target,
                      seeds=torch.tensor(seeds).view(-1, 2).t().long())
        torch.testing.assert_close(
            out.dense()[0], oracle(source, target, alpha, kind='type',
                                   seeds=seeds, prior_kind=prior_kind),
            atol=1e-11, rtol=0)

    def test_nodes_without_features(self):
        source, target = self.pairs([(7, 4)])[0]
        source.x[:3] = 0
        out = FinalAligner(num_iters=1000, tol=1e-13)(double(source), target)
        torch.testing.assert_close(out.dense()[0], oracle(source, target),
                                   atol=1e-12, rtol=0)

    def test_no_features_at_all(self):
        source, target = self.batch(self.sizes)
        plain = FinalAligner(node_attributes=False)(source, target)
        source, target = source._replace(x=None), target._replace(x=None)
        out = FinalAligner()(source, target)
        assert torch.equal(out.match_score, plain.match_score)
        with pytest.raises(ValueError, match=r"'target.x' .*got None"):
            FinalAligner()(self.batch(self.sizes)[0], target)

    def test_edge_types_decide(self):
        """From one known node, both ways round a ring look the same but for
        the labels.
        """
        ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
        labels = torch.tensor([0, 1, 2, 2, 1, 3])
        source = GraphView.single(ring, 6, edge_type=labels)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        target = GraphView.single(order[ring].flip(0), 6, edge_type=labels)
        seeds = torch.tensor([[0], [3]])
        kwargs = dict(prior='uniform', num_iters=500)
        out = FinalAligner(edge_attributes='type', **kwargs)(
            source, target, seeds=seeds)
        assert torch.equal(out.match('lap').match_index[1], order)
        blind = FinalAligner(**kwargs)(source, target, seeds=seeds).dense()[0]
        torch.testing.assert_close(blind[1, order[1]], blind[1, order[5]])

    def test_direction_decides(self):
        path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        view = GraphView.single(path, 4)
        turned = GraphView.single(path.flip(0), 4)
        out = FinalAligner(directed=True)
        assert out(view, view).match('argmax').match_index[1].tolist() == [
            0, 1, 2, 3]
        assert out(view, turned).match('argmax').match_index[1].tolist() == [
            3, 2, 1, 0]

    def test_other_edge_types(self):
        """Types that only the larger vocabulary of one side has."""
        source, target = self.pairs([(7, 4)])[0]
        source = source._replace(edge_type=source.edge_type.clamp(max=1))
        out = FinalAligner(edge_attributes='type', num_iters=1000, tol=1e-13)
        torch.testing.assert_close(
            out(double(source), target).dense()[0],
            oracle(source, target, kind='type'), atol=1e-12, rtol=0)

    @pytest.mark.parametrize('kind,name', [('type', 'edge_type'),
                                           ('attr', 'edge_attr')])
    def test_missing_edge_attributes(self, kind, name):
        source, target = self.pairs([(7, 4)])[0]
        with pytest.raises(ValueError, match=f"must hold '{name}'"):
            FinalAligner(edge_attributes=kind)(
                source, target._replace(**{name: None}))

    def test_wrong_edge_attr(self):
        source, target = self.pairs([(7, 4)])[0]
        aligner = FinalAligner(edge_attributes='attr')
        with pytest.raises(ValueError, match=r'\(got 3 and 2\)'):
            aligner(source, target._replace(
                edge_attr=target.edge_attr[:, :2]))
        with pytest.raises(ValueError, match="'edge_attr' must be finite"):
            aligner(source, target._replace(
                edge_attr=target.edge_attr * float('nan')))


class TestEdges(AlignerCase):
    cls = FinalAligner
    kwargs = dict(node_attributes=False, edge_attributes='type',
                  directed=True)
    atol = 1e-8

    def test_batch_of_types(self):
        """The number of types is a matter of the pair, not of the batch."""
        few, many = self.pairs([(7, 4), (9, 5)])
        few = [view._replace(edge_type=view.edge_type.clamp(max=0))
               for view in few]
        aligner = self.make()
        out = aligner(collate([few[0], many[0]]), collate([few[1], many[1]]))
        alone = aligner(*few).dense()[0]
        assert torch.equal(out.dense()[0, :7, :4], alone)


class TestEdgeFeatures(AlignerCase):
    cls = FinalAligner
    kwargs = dict(node_attributes=False, edge_attributes='attr')
    atol = 1e-8


@pytest.mark.parametrize('kwargs,message', [
    (dict(alpha=-0.1), r"'alpha' must be in \[0, 1\) \(got -0.1\)"),
    (dict(edge_attributes='types'), "Did you mean 'type'"),
    (dict(prior='degrees'), "Did you mean 'degree'"),
    (dict(num_iters=0), "'num_iters' must be at least 1"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FinalAligner(**kwargs)
