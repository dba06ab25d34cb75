import networkx as nx
import numpy as np
import pytest
import torch

from mmgraph import checks
from mmgraph.data.view import ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.nn.align.functional import (
    degree_histogram,
    landmark_embedding,
    structural,
    structural_similarity,
)
from mmgraph.testing import (
    degree_histogram_oracle,
    landmark_embedding_oracle,
    structural_score_oracle,
    structural_similarity_oracle,
)
from tests.nn.align.cases import random_edges

METHODS = ['bitset', 'sparse', 'torch']


def edges_of(graph):
    edges = torch.tensor(list(graph.edges), dtype=torch.long)
    return edges.view(-1, 2).t().contiguous()


def star(num_leaves):
    return torch.stack([torch.zeros(num_leaves, dtype=torch.long),
                        torch.arange(1, num_leaves + 1)])


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('max_hops', [0, 1, 2, 3, None])
@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('base', [2, 3, 10, None])
def test_histogram_oracle(method, max_hops, include_self, base):
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 5, 9, 17, 33, 64):
        edges = random_edges(n, n, generator)
        out = degree_histogram(
            edges, n, max_hops=max_hops, include_self=include_self,
            bucket_base=base, discount=0.3, method=method)
        expected = degree_histogram_oracle(
            edges.t().tolist(), n, max_hops=max_hops, discount=0.3,
            bucket_base=base, include_self=include_self)
        assert out.dtype == torch.double
        assert out.shape == expected.shape
        np.testing.assert_allclose(out, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('scale', ['linear', 'sqrt', 'log1p'])
def test_separate_hops_and_scales(method, include_self, scale):
    """Each hop by itself is what it adds to the sum."""
    edges = random_edges(25, 30, torch.Generator().manual_seed(0))
    kwargs = dict(bucket_base=2, discount=1.0)
    balls = [degree_histogram_oracle(edges.t().tolist(), 25, max_hops=h,
                                     **kwargs) for h in range(4)]
    change = {'linear': float, 'sqrt': np.sqrt, 'log1p': np.log1p}[scale]
    hops = [np.vectorize(change)(np.abs(after - before)) for before, after in
            zip([np.zeros_like(balls[0]), *balls], balls, strict=False)]
    hops = [hop * 0.3**h for h, hop in enumerate(hops)]
    if not include_self:
        hops = [hop / 0.3 for hop in hops[1:]]
    for separate in (True, False):
        out = degree_histogram(
            edges, 25, max_hops=3, discount=0.3, include_self=include_self,
            separate_hops=separate, count_scale=scale, method=method)
        expected = np.concatenate(hops, 1) if separate else sum(hops)
        assert out.is_contiguous() and out.shape == expected.shape
        np.testing.assert_allclose(out, expected, atol=1e-12, rtol=0)


def test_separate_hops_without_any():
    for include_self, total in ((True, 4), (False, 0)):
        out = degree_histogram(star(3), 4, max_hops=0, separate_hops=True,
                               include_self=include_self)
        assert out.shape == (4, 2) and out.sum() == total


def test_hops_are_bounded_in_memory(monkeypatch):
    """Rows go through all hops piece by piece: no matrix that is multiplied
    or comes out has more entries than a piece, or one row, may have.
    """
    edges = edges_of(nx.barabasi_albert_graph(400, 3, seed=0))
    expected = degree_histogram(edges, 400, max_hops=4, method='torch')
    monkeypatch.setattr(structural, '_MAX_ENTRIES', 2000)
    grow, held = structural._Sparse._grow, []

    def spy(self, start, ball, inside, label):
        held.append(ball.nnz)
        return grow(self, start, ball, inside, label)

    monkeypatch.setattr(structural._Sparse, '_grow', spy)
    out = degree_histogram(edges, 400, max_hops=4, method='sparse')
    assert torch.equal(out, expected)
    assert max(held[1:]) <= 2000 and len(held) > 100


@pytest.mark.parametrize('max_hops', [1, 2, 3, None])
def test_histogram_methods_agree(max_hops, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(0, 30, (20, ), generator=generator)
    ptr = ptr_from_sizes(sizes)
    edges = torch.cat([random_edges(int(n), int(n), generator) + p
                       for n, p in zip(sizes, ptr)], dim=1)
    outs = []
    for limit in (2**24, 16):  # all at once, and in many pieces
        monkeypatch.setattr(structural, '_MAX_ENTRIES', limit)
        for method in [*METHODS, 'auto']:
            outs.append(degree_histogram(
                edges, int(ptr[-1]), max_hops=max_hops, ptr=ptr,
                method=method))
    outs.append(degree_histogram(edges, int(ptr[-1]), max_hops=max_hops))
    for out in outs[1:]:
        assert torch.equal(out, outs[0])


def test_histogram_without_bit_count(monkeypatch):
    edges = random_edges(60, 90, torch.Generator().manual_seed(2))
    expected = degree_histogram(edges, 60, method='sparse')
    monkeypatch.delattr(np, 'bitwise_count', raising=False)
    assert torch.equal(degree_histogram(edges, 60, method='bitset'), expected)


def test_histogram_large():
    edges = edges_of(nx.barabasi_albert_graph(300, 3, seed=0))
    expected = degree_histogram_oracle(edges.t().tolist(), 300)
    for method in ('sparse', 'torch', 'auto'):
        out = degree_histogram(edges, 300, method=method)
        np.testing.assert_allclose(out, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    'base,degree,column',
    [(base, base**k + shift, k + (shift if shift < 0 else 0))
     for base, powers in ((2, (1, 5, 10)), (3, (1, 5, 8)), (10, (1, 3)),
                          (7, (2, 4)), (1000, (1, ))) for k in powers
     for shift in (-1, 0, 1) if base**k + shift > base**(k - 1)])
def test_bucket_edges(base, degree, column):
    """log(3**5) / log(3) and log(10**3) / log(10) round down."""
    out = degree_histogram(star(degree), degree + 1, max_hops=0,
                           bucket_base=base)
    assert out.shape == (degree + 1, column + 1)
    assert out[0].nonzero().view(-1).tolist() == [column]


def test_bucket_edge_59049():
    out = degree_histogram(star(3**10), 3**10 + 1, max_hops=1, bucket_base=3)
    assert out.shape[1] == 11 and out[0, 10] == 1
    assert out[0, 0] == pytest.approx(0.01 * 3**10)


@pytest.mark.parametrize('method', METHODS)
def test_edgeless(method):
    none = torch.empty(2, 0, dtype=torch.long)
    for n in (0, 1, 4):
        out = degree_histogram(none, n, method=method)
        assert out.shape == (n, 1) and out.count_nonzero() == 0
        out = degree_histogram(none, n, bucket_base=None, method=method)
        assert torch.equal(out, torch.ones(n, 1).double())
    loops = torch.tensor([[0, 1], [0, 1]])
    out = degree_histogram(loops, 2, method=method)
    assert out.shape == (2, 1) and out.count_nonzero() == 0


def test_isolated_node_changes_nothing():
    edges = random_edges(30, 40, torch.Generator().manual_seed(3))
    out = degree_histogram(edges, 30)
    more = degree_histogram(edges, 31)
    assert torch.equal(more[:30], out) and more[30].count_nonzero() == 0


def test_histogram_by_hand():
    """A triangle with a tail: 0-1, 1-2, 2-0, 2-3."""
    edges = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 3]])
    out = degree_histogram(edges, 4, discount=0.1)
    # Degrees 2, 2, 3, 1: columns 1, 1, 1, 0.
    assert out.tolist() == [[pytest.approx(0.01), pytest.approx(1.2)],
                            [pytest.approx(0.01), pytest.approx(1.2)],
                            [pytest.approx(0.1), pytest.approx(1.2)],
                            [pytest.approx(1.0), pytest.approx(0.12)]]


@pytest.mark.parametrize('kwargs,message', [
    (dict(max_hops=-1), r"'max_hops' must not be negative \(got -1\)"),
    (dict(bucket_base=1), r"'bucket_base' must be a whole .* \(got 1\)"),
    (dict(bucket_base=2.5), r"'bucket_base' must be .* \(got 2.5\)"),
    (dict(bucket_base=True), r"'bucket_base' must be .* \(got True\)"),
    (dict(discount=-0.1), r"'discount' must be .* \(got -0.1\)"),
    (dict(discount=float('nan')), r"'discount' must be .* \(got nan\)"),
    (dict(count_scale='squrt'), r"Did you mean 'sqrt'\?"),
    (dict(method='sprase'), r"Did you mean 'sparse'\?"),
])
def test_histogram_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        degree_histogram(star(2), 3, **kwargs)


def test_histogram_input_errors():
    with pytest.raises(ShapeError, match=r'must have shape \[2, E\]'):
        degree_histogram(star(3).t(), 4)
    with pytest.raises(ValueError, match=r'positions in \[0, 2\) \(got 2\)'):
        degree_histogram(star(2), 2)
    with pytest.raises(ValueError, match=r'\(got -1\)'):
        degree_histogram(star(2) - 1, 3)
    with pytest.raises(ValueError, match="must not join two graphs of 'ptr'"):
        degree_histogram(star(2), 3, ptr=torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match=r"'bitset' .* \(got 66\)"):
        degree_histogram(star(65), 66, method='bitset')
    with checks(False):
        assert degree_histogram(star(2), 3).shape == (3, 2)


@pytest.mark.parametrize('squared', [False, True])
@pytest.mark.parametrize('with_attributes', [False, True])
def test_landmark_embedding_oracle(squared, with_attributes):
    edges = edges_of(nx.gnp_random_graph(90, 0.05, seed=1))
    features = degree_histogram(edges, 90)
    generator = torch.Generator().manual_seed(4)
    attributes = torch.randint(3, (90, 2), generator=generator)
    attributes = attributes if with_attributes else None
    landmarks = torch.randperm(90, generator=generator)[:20]
    out = landmark_embedding(
        features, landmarks, gamma_struct=0.7, attributes=attributes,
        gamma_attr=0.4, squared=squared)
    expected = landmark_embedding_oracle(
        features.numpy(), landmarks.tolist(), gamma_struct=0.7, gamma_attr=0.4,
        attributes=None if attributes is None else attributes.numpy(),
        squared=squared)
    assert out.shape == (90, 20) and out.dtype == torch.double
    np.testing.assert_allclose(out @ out.t(), expected @ expected.T,
                               atol=1e-8, rtol=0)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(90).double())


def test_landmark_embedding_rank():
    """Landmarks that coincide leave zero columns at the end, and no NaN."""
    features = torch.tensor([[0.0], [0.0], [1.0], [0.0]])
    out = landmark_embedding(features, torch.tensor([0, 1, 2, 3]))
    assert out.shape == (4, 4)
    assert out[:, :2].abs().sum(0).min() > 0
    assert out[:, 2:].count_nonzero() == 0
    assert torch.equal(out[0], out[1])


def test_landmark_embedding_pieces(monkeypatch):
    features = degree_histogram(
        edges_of(nx.gnp_random_graph(50, 0.1, seed=2)), 50)
    landmarks = torch.arange(0, 50, 5)
    out = landmark_embedding(features, landmarks)
    monkeypatch.setattr(structural, '_CHUNK_ROWS', 7)
    again = landmark_embedding(features, landmarks)
    torch.testing.assert_close(again @ again.t(), out @ out.t())


def test_landmark_embedding_dtype():
    """Only storage is single: the kernel is double."""
    features = degree_histogram(
        edges_of(nx.gnp_random_graph(50, 0.1, seed=2)), 50)
    out = landmark_embedding(features, torch.arange(40))
    single = landmark_embedding(features, torch.arange(40),
                                dtype=torch.float)
    assert torch.equal(single, out.float())


def test_landmark_embedding_errors():
    with pytest.raises(ShapeError, match=r"'features' must have shape"):
        landmark_embedding(torch.zeros(3), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"'attributes' must .* \[3, F\]"):
        landmark_embedding(torch.zeros(3, 1), torch.tensor([0]),
                           attributes=torch.zeros(2, 1))


def test_all_landmarks_give_the_kernel():
    """p = n: the Gram matrix is the kernel and the closed form holds."""
    for seed in range(5):
        edges = edges_of(nx.gnp_random_graph(40, 0.06, seed=seed))
        features = degree_histogram(edges, 40)
        y = landmark_embedding(features, torch.randperm(40))
        kernel = torch.tensor([[
            structural_similarity_oracle(a, b) for b in features.tolist()
        ] for a in features.tolist()], dtype=torch.double)
        torch.testing.assert_close(y @ y.t(), kernel, atol=1e-8, rtol=0)
        distance = (y[:, None] - y[None]).norm(dim=2)
        score = structural_similarity(features, features)
        torch.testing.assert_close((-distance).exp(), score, atol=1e-8, rtol=0)


@pytest.mark.parametrize('squared', [False, True])
@pytest.mark.parametrize('with_attributes', [False, True])
def test_structural_similarity_oracle(squared, with_attributes):
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(3, (2, 4, 3), generator=generator).double()
    y = torch.randint(3, (2, 5, 3), generator=generator).double()
    a = torch.randint(2, (2, 4, 2), generator=generator)
    b = torch.randint(2, (2, 5, 2), generator=generator)
    kwargs = dict(gamma_struct=0.5, gamma_attr=0.3, squared=squared)
    ids = dict(source_attributes=a, target_attributes=b)
    out = structural_similarity(x, y, **kwargs,
                                **(ids if with_attributes else {}))
    assert out.shape == (2, 4, 5)
    for i, j, k in np.ndindex(2, 4, 5):
        kernel = structural_similarity_oracle(
            x[i, j].tolist(), y[i, k].tolist(),
            attributes=(a[i, j].tolist(), b[i, k].tolist())
            if with_attributes else None, **kwargs)
        assert out[i, j, k].item() == pytest.approx(
            structural_score_oracle(kernel), abs=1e-9)
