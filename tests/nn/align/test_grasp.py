import math

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.grasp import GraspAligner, base_alignment
from tests.nn.align.cases import AlignerCase, random_edges, relabel
from tests.nn.align.test_fugal import all_different


def graph(num_nodes, num_edges, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = random_edges(num_nodes, num_edges, generator)
    return GraphView.single(edges, num_nodes)


def laplacian(view):
    n = view.num_nodes
    a = np.zeros((n, n))
    for i, j in view.edge_index.t().tolist():
        if i != j:
            a[i, j] = a[j, i] = 1
    d, out = a.sum(1), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if d[i] > 0 and d[j] > 0:
                out[i, j] = ((i == j) * d[i] - a[i, j]) / math.sqrt(
                    d[i] * d[j])
    return out


def objective(b, left, right, value, mu):
    """Entry by entry."""
    k, total = len(value), 0.0
    for i in range(k):
        for j in range(k):
            if i != j:
                total += sum(b[l, i] * value[l] * b[l, j]
                             for l in range(k))**2
    for t in range(len(left)):
        for i in range(k):
            total += mu * (left[t, i] - sum(
                right[t, l] * b[l, i] for l in range(k)))**2
    return total


def problem(k, seed, q=6):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, q, k))
    return left, right, np.sort(rng.random(k)) * 2


class TestBaseAlignment:
    @pytest.mark.parametrize('seed', range(5))
    def test_two_vectors(self, seed):
        """All rotations and reflections of the plane, by brute force: no
        other minimum within reach of the two starts is lower.
        """
        left, right, value = problem(2, seed)
        b = base_alignment(left, right, value, mu=0.132)
        np.testing.assert_allclose(b.T @ b, np.eye(2), atol=1e-12)
        best = math.inf
        for angle in np.linspace(0, 2 * math.pi, 360):
            c, s = math.cos(angle), math.sin(angle)
            turn = np.array([[c, -s], [s, c]])
            if np.linalg.det(b) < 0:
                turn = turn @ np.diag([1, -1])
            best = min(best, objective(turn, left, right, value, 0.132))
        assert objective(b, left, right, value, 0.132) <= best + 1e-9

    @pytest.mark.parametrize('k', [3, 4])
    @pytest.mark.parametrize('seed', range(3))
    def test_other_optimizer(self, k, seed):
        """SLSQP on the matrix with constraints, from the same two starts."""
        left, right, value = problem(k, seed)
        b = base_alignment(left, right, value, mu=0.132)
        np.testing.assert_allclose(b.T @ b, np.eye(k), atol=1e-10)
        mine = objective(b, left, right, value, 0.132)
        u, _, vh = np.linalg.svd(right.T @ left)
        signs = np.diag(np.sign((left * right).sum(0)))

        def loss(x):
            x = x.reshape(k, k)
            off = x.T @ (value[:, None] * x)
            return ((off**2).sum() - (np.diag(off)**2).sum()
                    + 0.132 * ((left - right @ x)**2).sum())

        assert math.isclose(loss(b.ravel()), mine)
        for start in (signs, u @ vh):
            found = scipy.optimize.minimize(
                loss, start.ravel(), method='SLSQP', constraints=dict(
                    type='eq', fun=lambda x: (
                        x.reshape(k, k).T @ x.reshape(k, k) - np.eye(k)
                    )[np.triu_indices(k)]))
            left_u, _, right_u = np.linalg.svd(found.x.reshape(k, k))
            other = left_u @ right_u
            if np.linalg.det(other) * np.linalg.det(start) > 0:
                assert mine <= loss(other.ravel()) * 1.0001
        # It is a stationary point: no small turn lowers the objective.
        rng = np.random.default_rng(0)
        for _ in range(20):
            skew = 1e-3 * rng.normal(size=(k, k))
            turn = scipy.linalg.expm(skew - skew.T)
            assert loss((b @ turn).ravel()) >= mine

    def test_only_functions(self):
        """Without the first term it is Procrustes."""
        left, right, _ = problem(4, 0)
        b = base_alignment(left, right, np.zeros(4), mu=1.0)
        u, _, vh = np.linalg.svd(right.T @ left)
        np.testing.assert_allclose(b, u @ vh, atol=1e-4)

    def test_one_vector(self):
        left, right, value = problem(1, 0)
        b = base_alignment(left, right, value, mu=0.132)
        assert b.tolist() == [[np.sign((left * right).sum())]]


class TestGraspAligner(AlignerCase):
    cls = GraspAligner

    def graph(self, num_nodes, channels, seed):
        """Connected and, if it can be, without symmetry: nodes that are
        interchangeable have no scores of their own.
        """
        view = super().graph(num_nodes, channels, seed)
        if num_nodes < 2:
            return view
        i = torch.arange(num_nodes - 1)
        edges = torch.cat([view.edge_index, torch.stack([i, i + 1])], dim=1)
        if num_nodes > 6:
            if not all_different(edges, num_nodes):
                return self.graph(num_nodes, channels, seed + 1000)
        number = edges.size(1)
        return view._replace(
            edge_index=edges, edge_type=torch.zeros(number, dtype=torch.long),
            edge_attr=torch.zeros(number, self.edge_dim))

    sizes = [(7, 8), (1, 1), (12, 9), (2, 9), (20, 10)]

    @pytest.mark.parametrize('n,m', [(12, 12), (9, 14), (14, 9)])
    def test_oracle(self, n, m):
        """Everything but the rotation, by loops."""
        kwargs = dict(num_functions=7, num_vectors=5, num_eigenpairs=8,
                      min_time=0.3, max_time=9.0)
        source, target = self.graph(n, 1, 0), self.graph(m, 1, 1)
        source = source._replace(x=source.x.double())
        out = GraspAligner(**kwargs)(source, target).dense()[0]
        times = [0.3 + 8.7 * s / 6 for s in range(7)]
        phis, heats, values = [], [], []
        for view in (source, target):
            value, phi = np.linalg.eigh(laplacian(view))
            heats.append(np.array([[sum(
                math.exp(-t * value[l]) * phi[i, l]**2 for l in range(8))
                for t in times] for i in range(view.num_nodes)]))
            phis.append(phi[:, :5])
            values.append(value[:5])
        left, right = (f.T @ phi for f, phi in zip(heats, phis))
        b = base_alignment(left, right, values[1], mu=0.132)
        rotated = phis[1] @ b
        c = [np.linalg.lstsq(left[:, [i]], right @ b[:, i])[0][0]
             for i in range(5)]
        distance = np.array([[math.sqrt(sum(
            (c[l] * phis[0][i, l] - rotated[j, l])**2 for l in range(5)))
            for j in range(m)] for i in range(n)])
        np.testing.assert_allclose(out, 1 - distance / distance.max(),
                                   atol=1e-5)

    @pytest.mark.parametrize('large', [False, True])
    def test_spectrum(self, large, monkeypatch):
        if large:
            monkeypatch.setattr('mmgraph.nn.align.grasp._DENSE', 0)
        view = graph(40, 100, 0)
        generator = torch.Generator().manual_seed(0)
        value, vector, heat = GraspAligner(num_eigenpairs=20).spectrum(
            view, generator)
        exact = laplacian(view)
        np.testing.assert_allclose(value, np.linalg.eigvalsh(exact)[:20],
                                   atol=1e-9)
        np.testing.assert_allclose(exact @ vector, vector * value, atol=1e-8)
        np.testing.assert_allclose(vector.T @ vector, np.eye(20), atol=1e-8)
        assert heat.shape == (40, 20)

    def test_repeated_eigenvalue(self):
        """Three components: eigenvectors do not depend on the order, up to
        signs.
        """
        edges = [torch.tensor([[0, 1, 2, 2], [1, 2, 0, 3]]),
                 torch.tensor([[4, 5, 6], [5, 6, 7]]),
                 torch.tensor([[8, 9, 10, 11, 8], [9, 10, 11, 8, 12]])]
        view = GraphView.single(torch.cat(edges, dim=1), 14)
        order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
        aligner, generator = GraspAligner(), torch.Generator()
        value, vector, _ = aligner.spectrum(view, generator)
        again = aligner.spectrum(relabel(view, order), generator)[1]
        assert (value[:4] < 1e-12).all()
        np.testing.assert_allclose(np.abs(again[:, :4]),
                                   np.abs(vector[order][:, :4]), atol=1e-6)

    def test_recovers_a_permutation(self):
        g = nx.barabasi_albert_graph(120, 3, seed=0)
        source = GraphView.single(torch.tensor(list(g.edges)).t(), 120)
        order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
        out = GraspAligner()(source, relabel(source, order)).match('lap')
        hit = order[out.match_index[1]] == out.match_index[0]
        assert hit.sum() == 120

    def test_signs(self):
        """The signs that a solver chooses do not count."""
        source, target = self.graph(14, 1, 0), self.graph(12, 1, 1)
        aligner = GraspAligner(num_vectors=6)
        expected = aligner(source, target).dense()

        def flipped(view, generator):
            value, vector, heat = GraspAligner.spectrum(aligner, view,
                                                        generator)
            sign = np.where(np.arange(value.size) % 3 == view.num_nodes % 3,
                            -1, 1)
            return value, vector * sign, heat

        aligner.spectrum = flipped
        torch.testing.assert_close(aligner(source, target).dense(), expected,
                                   atol=1e-5, rtol=0)


@pytest.mark.parametrize('kwargs,message', [
    (dict(num_vectors=0), r"'num_vectors' must be at least 1 \(got 0\)"),
    (dict(num_vectors=9, num_eigenpairs=8), r"at least 'num_vectors'"),
    (dict(min_time=3, max_time=2), r"'min_time' must be in"),
    (dict(mu=-1), r"'mu' must not be negative \(got -1\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GraspAligner(**kwargs)


@pytest.mark.real_data
def test_arenas(data_root):
    """On an exact copy only leaves of one hub are exchanged."""
    with np.load(data_root / 'alignment' / 'arenas_base.npz') as file:
        edges = torch.from_numpy(file['edge_index']).long()
    source = GraphView.single(edges, 1133)
    order = torch.randperm(1133, generator=torch.Generator().manual_seed(0))
    out = GraspAligner()(source, relabel(source, order)).match('lap')
    hit = order[out.match_index[1]] == out.match_index[0]
    assert hit.double().mean() > 0.96
