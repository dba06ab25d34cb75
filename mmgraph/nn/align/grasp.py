import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse as sp
import scipy.sparse.linalg
import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.sparse import adjacency
from mmgraph.utils import check_at_least

__all__ = ['GraspAligner', 'base_alignment']

#: Eigenvalues that differ by less belong to one eigenspace.
_SAME = 1e-8
#: Up to this size, all eigenpairs are found at once.
_DENSE = 1024


class GraspAligner(DenseAligner):
    r"""Aligns nodes through the eigenvectors of both Laplacians, matched to
    each other as functions are on two shapes, from `"GRASP: Graph Alignment
    through Spectral Signatures" <https://arxiv.org/abs/2106.05729>`_
    (APWeb-WAIM 2021, Section 4).

    With the eigenpairs :math:`(\lambda_l, \boldsymbol{\phi}_l)` of the
    normalized Laplacian of each graph, in rising order,

    1. heat-kernel diagonals at times :math:`t_1, \ldots, t_q` are functions
       that correspond, :math:`f_t(i) = \sum_{l=1}^{L} e^{-t \lambda_l}
       \phi_l(i)^2`;
    2. the first :math:`k` eigenvectors of the target are rotated,

       .. math::
           \min_{\mathbf{B}^{\top} \mathbf{B} = \mathbf{I}}
           \mathrm{off}(\mathbf{B}^{\top} \boldsymbol{\Lambda}_t \mathbf{B})
           + \mu \lVert \mathbf{F}_s^{\top} \boldsymbol{\Phi}_s -
           \mathbf{F}_t^{\top} \boldsymbol{\Phi}_t \mathbf{B} \rVert_F^2,

       where :math:`\mathrm{off}` sums the squares off the diagonal;
    3. the diagonal map :math:`\mathbf{C}` solves :math:`\mathbf{F}_s^{\top}
       \boldsymbol{\Phi}_s \mathbf{C} \approx \mathbf{F}_t^{\top}
       \boldsymbol{\Phi}_t \mathbf{B}` in the sense of least squares.

    Nodes are compared by the Euclidean distance :math:`d_{ij}` of rows of
    :math:`\boldsymbol{\Phi}_s \mathbf{C}` and :math:`\boldsymbol{\Phi}_t
    \mathbf{B}` and score :math:`a_{ij} = 1 - d_{ij} / \max d`, so that a
    linear assignment on scores is the one on distances of the paper.

    .. note::
        We differ from the published code in that

        * step 2 is solved by SciPy's L-BFGS on the Cayley transform of a
          skew-symmetric matrix (:meth:`base_alignment`), not by a
          trust-region package, and from two starts, that of the code (a
          choice of signs) and that of Procrustes, the better end of which
          counts;
        * the eigenvectors of an eigenvalue that occurs more than once, such
          as those of several components, are any basis there. Here they are
          those of the heat kernel at the middle time, seen as weights,
          within that space: the result does not depend on the order of
          nodes, unless they are interchangeable;
        * the smallest eigenvalues are found as the largest ones of
          :math:`\mathbf{I} - \mathbf{L}`, which converges faster, from a
          seeded start;
        * graphs may differ in size.

    Edges count as undirected and once, self loops not at all.

    Args:
        num_functions (int): Number :math:`q` of heat-kernel diagonals.
            (default: :obj:`20`)
        num_vectors (int): Number :math:`k` of eigenvectors that are matched;
            at most as many as the smaller graph has nodes.
            (default: :obj:`20`)
        num_eigenpairs (int): Number :math:`L` of eigenpairs of the heat
            kernel; at most as many as a graph has nodes.
            (default: :obj:`100`)
        min_time (float): Lowest time. (default: :obj:`0.1`)
        max_time (float): Highest time, the others at equal steps.
            (default: :obj:`50.0`)
        mu (float): Weight :math:`\mu` of the functions.
            (default: :obj:`0.132`)
        max_iters (int): At most so many steps of L-BFGS.
            (default: :obj:`1000`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)
        seed (int): Seed of the start vector of the iterative eigensolver,
            which graphs of more than 1,024 nodes take. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries`.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; features are not read
    * **target:** :math:`B` graphs of :math:`m_b` nodes
    * **output:** scores in :math:`[0, 1]`

    Complexity: :math:`O(|\mathcal{E}| L + n L^2)` for the eigenpairs of large
    graphs, :math:`O(n L q)`, :math:`O(k^3)` a step of L-BFGS and
    :math:`O(n_b m_b k)`.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 1], [1, 2, 3, 3]])
        >>> view = GraphView.single(path, 4)        # a triangle with a tail
        >>> aligner = GraspAligner()
        >>> aligner(view, view).match('argmax').match_index[1, :2]
        tensor([0, 1])
    """
    def __init__(
        self,
        num_functions: int = 20,
        num_vectors: int = 20,
        num_eigenpairs: int = 100,
        min_time: float = 0.1,
        max_time: float = 50.0,
        mu: float = 0.132,
        max_iters: int = 1000,
        top_k: int | None = None,
        max_entries: int = 2**28,
        seed: int = 0,
    ) -> None:
        super().__init__(top_k, max_entries, seed)
        check_at_least(1, num_functions=num_functions,
                       num_vectors=num_vectors, num_eigenpairs=num_eigenpairs,
                       max_iters=max_iters)
        if num_eigenpairs < num_vectors:
            raise ValueError(f"'num_eigenpairs' must be at least "
                             f"'num_vectors' (got {num_eigenpairs} and "
                             f"{num_vectors})")
        if not 0 <= min_time <= max_time:
            raise ValueError(f"'min_time' must be in [0, 'max_time'] (got "
                             f"{min_time} and {max_time})")
        if not mu >= 0:
            raise ValueError(f"'mu' must not be negative (got {mu})")
        self.num_functions = num_functions
        self.num_vectors = num_vectors
        self.num_eigenpairs = num_eigenpairs
        self.min_time = min_time
        self.max_time = max_time
        self.mu = mu
        self.max_iters = max_iters

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        k = min(self.num_vectors, source.num_nodes, target.num_nodes)
        (_, phi_s, f_s), (value, phi_t, f_t) = (
            self.spectrum(view, generator) for view in (source, target))
        phi_s, phi_t = phi_s[:, :k], phi_t[:, :k]
        left = f_s.T @ phi_s
        rotation = base_alignment(left, f_t.T @ phi_t, value[:k], mu=self.mu,
                                  max_iters=self.max_iters)
        phi_t = phi_t @ rotation
        norm = np.square(left).sum(0)
        scale = np.divide((left * (f_t.T @ phi_t)).sum(0), norm,
                          out=np.zeros(k), where=norm > 1e-20 * norm.max())
        # Differences, not products: equal rows are at distance zero.
        distance = torch.cdist(
            torch.from_numpy(phi_s * scale), torch.from_numpy(phi_t),
            compute_mode='donot_use_mm_for_euclid_dist')
        largest = distance.max().clamp(min=torch.finfo(distance.dtype).tiny)
        return distance.div_(-largest).add_(1).to(source.batch.device)

    def spectrum(
        self,
        view: GraphView,
        generator: torch.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Eigenvalues and eigenvectors of the normalized Laplacian, and the
        heat-kernel diagonals.

        Args:
            view (GraphView): One graph of :math:`n` nodes.
            generator (torch.Generator): For the start of the eigensolver.

        Returns:
            Arrays :obj:`[L]` in rising order, :obj:`[n, L]` and :obj:`[n, q]`.
        """
        a = adjacency(view)
        n, degree = a.shape[0], np.diff(a.indptr)
        number = min(self.num_eigenpairs, n)
        root = sp.diags(np.where(degree > 0, np.maximum(degree, 1)**-0.5, 0))
        # Isolated nodes have eigenvalue zero of the Laplacian.
        x = (root @ a @ root + sp.diags((degree == 0).astype(np.float64)))
        if n <= max(_DENSE, 2 * number):
            value, vector = scipy.linalg.eigh(x.toarray(), overwrite_a=True)
        else:
            start = torch.randn(n, generator=generator, dtype=torch.double)
            value, vector = scipy.sparse.linalg.eigsh(
                x, number, which='LA', v0=start.numpy())
        order = np.argsort(-value)
        value, vector = 1 - value[order], vector[:, order]
        middle = np.square(vector) @ np.exp(
            -value * (self.min_time + self.max_time) / 2)
        for cut in np.split(np.arange(value.size), np.flatnonzero(
                np.diff(value) > _SAME) + 1):
            if cut.size > 1:
                own = vector[:, cut]
                turn = np.linalg.eigh(own.T @ (middle[:, None] * own))[1]
                vector[:, cut] = own @ turn
        value, vector = value[:number], vector[:, :number]
        times = np.linspace(self.min_time, self.max_time, self.num_functions)
        heat = np.square(vector) @ np.exp(-value[:, None] * times)
        return value, vector, heat

    def extra_repr(self) -> str:
        return (f'num_functions={self.num_functions}, '
                f'num_vectors={self.num_vectors}, '
                f'num_eigenpairs={self.num_eigenpairs}')


def base_alignment(
    left: np.ndarray,
    right: np.ndarray,
    value: np.ndarray,
    *,
    mu: float,
    max_iters: int = 1000,
) -> np.ndarray:
    r"""The rotation :math:`\mathbf{B}` that (locally) minimizes
    :math:`\mathrm{off}(\mathbf{B}^{\top} \boldsymbol{\Lambda} \mathbf{B}) +
    \mu \lVert \mathbf{L} - \mathbf{R} \mathbf{B} \rVert_F^2`.

    From a start :math:`\mathbf{B}_0` it moves along :math:`\mathbf{B}_0
    (\mathbf{I} - \mathbf{S}) (\mathbf{I} + \mathbf{S})^{-1}` with
    skew-symmetric :math:`\mathbf{S}`, by SciPy's L-BFGS. One start is the
    diagonal matrix of signs that brings each column of :math:`\mathbf{R}`
    closer to that of :math:`\mathbf{L}`, the other the solution without the
    first term; the lower end is taken.

    Args:
        left (numpy.ndarray): The matrix :math:`\mathbf{L}`, :obj:`[q, k]`.
        right (numpy.ndarray): The matrix :math:`\mathbf{R}`, :obj:`[q, k]`.
        value (numpy.ndarray): The diagonal :math:`\boldsymbol{\Lambda}`,
            :obj:`[k]`.
        mu (float): The weight :math:`\mu`.
        max_iters (int): At most so many steps. (default: :obj:`1000`)

    Returns:
        numpy.ndarray: An orthogonal matrix :obj:`[k, k]`.
    """
    k = value.size
    upper, eye = np.triu_indices(k, 1), np.eye(k)

    def cayley(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        skew = np.zeros((k, k))
        skew[upper] = free
        skew -= skew.T
        inverse = np.linalg.inv(eye + skew)
        return 2 * inverse - eye, inverse

    def objective(
        free: np.ndarray,
        start: np.ndarray,
    ) -> tuple[float, np.ndarray]:
        turn, inverse = cayley(free)
        b = start @ turn
        moved = value[:, None] * b
        off = b.T @ moved
        np.fill_diagonal(off, 0)
        gap = right @ b - left
        loss = np.square(off).sum() + mu * np.square(gap).sum()
        slope = 4 * moved @ off + 2 * mu * right.T @ gap
        # The differential of (I + S)^-1 is -(I + S)^-1 dS (I + S)^-1.
        slope = -2 * inverse.T @ start.T @ slope @ inverse.T
        return float(loss), (slope - slope.T)[upper]

    signs = np.diag(np.where((left * right).sum(0) < 0, -1.0, 1.0))
    inner = right.T @ left
    # Signs decide in directions that the functions say nothing of.
    u, _, vh = np.linalg.svd(inner + 1e-6 * np.linalg.norm(inner) * signs)
    ends: list[tuple[float, np.ndarray]] = []
    for start in (signs, u @ vh):
        found = scipy.optimize.minimize(
            objective, np.zeros(upper[0].size), (start, ), jac=True,
            method='L-BFGS-B', options=dict(
                maxiter=max_iters, maxfun=2 * max_iters, ftol=1e-14,
                gtol=1e-8))
        ends.append((found.fun, start @ cayley(found.x)[0]))
    return ends[0][1] if ends[0][0] <= ends[1][0] else ends[1][1]
