import networkx as nx
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mmgraph.data.view import GraphView
from mmgraph.nn.align.fugal import FugalAligner
from tests.nn.align.cases import AlignerCase, random_edges, relabel


def graph(num_nodes, num_edges, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = random_edges(num_nodes, num_edges, generator)
    return GraphView.single(edges, num_nodes)


def all_different(edge_index, num_nodes):
    """Whether no two nodes look alike, by color refinement."""
    near = [set() for _ in range(num_nodes)]
    for i, j in edge_index.t().tolist():
        if i != j:
            near[i].add(j)
            near[j].add(i)
    color = [0] * num_nodes
    for _ in range(num_nodes):
        look = [(color[i], sorted(color[j] for j in near[i]))
                for i in range(num_nodes)]
        names = sorted(map(repr, look))
        color = [names.index(repr(x)) for x in look]
    return len(set(color)) == num_nodes


def rigid(num_nodes, seed):
    """A graph without symmetries."""
    while True:
        view = graph(num_nodes, 3 * num_nodes // 2, seed)
        if all_different(view.edge_index, num_nodes):
            return view
        seed += 1000


def features_oracle(view):
    """Neighbor by neighbor, and networkx for clustering coefficients."""
    g = nx.Graph()
    g.add_nodes_from(range(view.num_nodes))
    g.add_edges_from((i, j) for i, j in view.edge_index.t().tolist() if i != j)
    clustering = nx.clustering(g)
    out = []
    for i in range(view.num_nodes):
        near = list(g[i])
        out.append([
            len(near), clustering[i],
            sum(g.degree(j) for j in near) / len(near) if near else 0,
            sum(clustering[j] for j in near) / len(near) if near else 0])
    return np.array(out, dtype=float), nx.to_numpy_array(g, range(len(g)))


def objective(p, a, b, distance, mu, stage):
    return (-np.trace(a @ p @ b.T @ p.T) + mu * (distance * p).sum()
            + stage * (p * (1 - p)).sum())


def gradient(p, a, b, distance, mu, stage):
    return (-a.T @ p @ b - a @ p @ b.T + mu * distance + stage * (1 - 2 * p))


def sinkhorn(cost, num_iters=20000):
    log = -cost
    for _ in range(num_iters):
        for axis in 1, 0:
            log = log - log.max(axis, keepdims=True)
            log -= np.log(np.exp(log).sum(axis, keepdims=True))
        if abs(np.exp(log).sum(1) - 1).max() < 1e-10:
            break
    return np.exp(log)


def fugal_oracle(source, target, mu=1.0, num_stages=15, num_steps=10,
                 reg=1.0, num_iters=20000):
    """Dense matrices with isolated nodes up to the larger size, all steps."""
    size = max(source.num_nodes, target.num_nodes)
    matrices, features = np.zeros((2, size, size)), np.zeros((2, size, 4))
    for k, view in enumerate((source, target)):
        n = view.num_nodes
        features[k, :n], matrices[k, :n, :n] = features_oracle(view)
    distance = np.array([[np.linalg.norm(x - y) for y in features[1]]
                         for x in features[0]])
    p = np.full((size, size), 1 / size)
    for stage in range(num_stages):
        for t in range(1, num_steps + 1):
            g = gradient(p, *matrices, distance, mu, stage)
            p += 2 / (2 + t) * (sinkhorn(g / reg, num_iters) - p)
    return p[:source.num_nodes, :target.num_nodes]


def test_gradient_of_oracle():
    """The oracle's own formula, by differences of the objective."""
    rng = np.random.default_rng(0)
    a, b, distance, p, step = rng.random((5, 6, 6))
    arguments = a, b, distance, 0.7, 2
    slope = (objective(p + 1e-6 * step, *arguments)
             - objective(p - 1e-6 * step, *arguments)) / 2e-6
    np.testing.assert_allclose(
        slope, (gradient(p, *arguments) * step).sum(), rtol=1e-6)


class TestFugalAligner(AlignerCase):
    cls = FugalAligner
    # Twins are set apart by rounding errors: here, no graph has any.
    sizes = [(7, 8), (8, 8), (12, 9), (9, 10), (20, 10)]

    def graph(self, num_nodes, channels, seed):
        if num_nodes < 7:
            return super().graph(num_nodes, channels, seed)
        view, other = rigid(num_nodes, seed), super().graph(
            num_nodes, channels, seed)
        number = view.edge_index.size(1)
        return other._replace(
            edge_index=view.edge_index,
            edge_type=torch.zeros(number, dtype=torch.long),
            edge_attr=torch.zeros(number, self.edge_dim))

    @pytest.mark.parametrize('n,m', [(8, 8), (10, 7), (7, 10)])
    @pytest.mark.parametrize('kwargs', [
        dict(num_stages=1), dict(mu=0.3, num_stages=3, num_steps=4),
        dict(reg=2.0, num_stages=2)
    ])
    def test_oracle(self, n, m, kwargs):
        source, target = rigid(n, 0), rigid(m, 1)
        source = source._replace(x=torch.zeros(n, 1).double())
        aligner = FugalAligner(tol=1e-11, max_iters=20000, step_tol=0,
                               **kwargs)
        np.testing.assert_allclose(
            aligner(source, target).dense()[0],
            fugal_oracle(source, target, **kwargs), atol=1e-5)

    def test_shortcuts_change_little(self):
        """Stopping early leaves the objective of the permutation as it is."""
        lost = []
        for seed in range(4):
            source, target = rigid(16, seed), rigid(16, seed)
            keep = torch.arange(target.edge_index.size(1)) % 8 > 0
            target = relabel(target._replace(
                edge_index=target.edge_index[:, keep]), torch.randperm(
                16, generator=torch.Generator().manual_seed(seed)))
            a, b = (features_oracle(v)[1] for v in (source, target))
            values = []
            for score in (fugal_oracle(source, target, num_iters=50),
                          FugalAligner()(source, target).dense()[0].numpy()):
                p = linear_sum_assignment(score, maximize=True)[1]
                values.append((a * b[p][:, p]).sum() / 2)
            lost.append(values[0] - values[1])
        assert np.mean(lost) <= 0.5     # edges

    def test_features(self):
        view = graph(20, 40, 0)
        np.testing.assert_allclose(FugalAligner().node_features(view),
                                   features_oracle(view)[0])
        lone = graph(3, 0, 0)
        assert FugalAligner().node_features(lone).count_nonzero() == 0

    def test_scores(self):
        source, target = rigid(12, 0), rigid(9, 1)
        out = FugalAligner()(source, target).dense()[0]
        assert (out >= 0).all()
        torch.testing.assert_close(out.sum(0), torch.ones(9))
        assert (out.sum(1) < 1.011).all()
        # Later stages decide.
        early = FugalAligner(num_stages=1)(source, target).dense()[0]
        assert out.amax(0).min() > early.amax(0).min()

    def test_seeds_decide(self):
        """Two equal components, told apart by one known match."""
        edges = torch.tensor([[0, 1, 2, 2, 3, 1], [1, 2, 0, 3, 4, 5]])
        view = GraphView.single(torch.cat([edges, edges + 6], dim=1), 12)
        for one, other in ((0, 0), (0, 6)):
            seeds = torch.tensor([[one], [other]])
            out = FugalAligner()(view, view, seeds=seeds).match('lap')
            expected = torch.arange(12)
            if other == 6:
                expected = expected.roll(6)
            assert torch.equal(out.match_index[1], expected)

    def test_recovers_a_permutation(self):
        g = nx.barabasi_albert_graph(120, 3, seed=0)
        source = GraphView.single(torch.tensor(list(g.edges)).t(), 120)
        order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
        target = relabel(source, order)
        keep = torch.rand(target.edge_index.size(1), generator=torch.Generator(
            ).manual_seed(1)) > 0.03
        target = target._replace(edge_index=target.edge_index[:, keep])
        out = FugalAligner()(source, target).match('lap')
        hit = order[out.match_index[1]] == out.match_index[0]
        assert hit.sum() > 110


@pytest.mark.parametrize('kwargs,message', [
    (dict(mu=-1), r"'mu' must not be negative \(got -1\)"),
    (dict(num_stages=0), r"'num_stages' must be at least 1 \(got 0\)"),
    (dict(reg=0), r"'reg' must be positive \(got 0\)"),
    (dict(top_k=0), r"'top_k' must be at least 1 \(got 0\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FugalAligner(**kwargs)


@pytest.mark.real_data
def test_high_school(data_root):
    with np.load(data_root / 'alignment' / 'highschool.npz') as file:
        edges = [torch.from_numpy(file[f'edge_index_{share}']).long()
                 for share in (100, 90)]
    source, target = (GraphView.single(e, 327) for e in edges)
    order = torch.randperm(327, generator=torch.Generator().manual_seed(0))
    out = FugalAligner()(source, relabel(target, order)).match('lap')
    hit = order[out.match_index[1]] == out.match_index[0]
    assert hit.double().mean() > 0.99
