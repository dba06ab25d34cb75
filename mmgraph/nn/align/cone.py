import math

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.sparse import adjacency, padded
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least, check_positive

__all__ = ['ConeAligner']

#: A scaling factor beyond this is taken into the exponent.
_LARGE = 1e100


class ConeAligner(DenseAligner):
    r"""Aligns nodes whose neighborhoods agree, by rotating one embedding of
    node proximities onto the other, from `"CONE-Align: Consistent Network
    Alignment with Proximity-Preserving Node Embedding"
    <https://arxiv.org/abs/2005.04725>`_ (CIKM 2020, Section 4).

    1. Each graph is embedded by itself (NetMF): the rows of
       :math:`\mathbf{Y} = \mathbf{U}_d \boldsymbol{\Sigma}_d^{1/2}`, scaled
       to length one, of the :math:`d` largest singular values of

       .. math::
           \log \max \left( \frac{\mathrm{vol}(G)}{w b} \sum_{r=1}^{w}
           (\mathbf{D}^{-1} \mathbf{A})^r \mathbf{D}^{-1}, 1 \right).

    2. Frank-Wolfe steps of size :math:`2 / (t + 2)`, with Sinkhorn's
       algorithm as the oracle, lower :math:`\lVert \mathbf{A} \mathbf{P} -
       \mathbf{P} \mathbf{B} \rVert_F^2` over doubly stochastic
       :math:`\mathbf{P}`, where :math:`\mathbf{B}` is scaled to the norm of
       :math:`\mathbf{A}`; :math:`\mathbf{R}` is the rotation closest to
       :math:`\mathbf{Y}_s^{\top} \mathbf{P} \mathbf{Y}_t` (Procrustes).
    3. The Wasserstein-Procrustes problem
       :math:`\min_{\mathbf{P}, \mathbf{R}} \lVert \mathbf{Y}_s \mathbf{R} -
       \mathbf{P} \mathbf{Y}_t \rVert_F^2` is solved in turns:
       :math:`\mathbf{P}` by Sinkhorn's algorithm, :math:`\mathbf{R}` by
       Procrustes.

    Two nodes score :math:`a_{ij} = \exp(-\lVert \mathbf{R}^{\top}
    \mathbf{y}_i - \mathbf{y}_j \rVert_2)`.

    .. note::
        We differ from the published code in that

        * step 3 reads all nodes in each step and solves for
          :math:`\mathbf{R}` exactly. There, each of 12 gradient steps reads
          10 random rows, all of them from the *first* ten nodes of a graph,
          and even 10 random rows of all nodes leave the start as it was.
          Nothing random is left, and the result is equivariant to the order
          of nodes;
        * graphs may differ in size: the smaller one is given isolated nodes
          whose embedding is zero;
        * Sinkhorn's algorithm takes factors into the exponent before they
          overflow, and starts from the last solution;
        * directions that :math:`\mathbf{P}` says nothing of are left out of
          :math:`\mathbf{R}` (where it is not unique), and isolated nodes have
          the embedding zero instead of not-a-number;
        * known matches are kept fixed in :math:`\mathbf{P}`;
        * 512 dimensions are the default, as in `the benchmark of EDBT 2023
          <https://github.com/constantinosskitsas/Framework_GraphAlignment>`_,
          not 128.

    Edges count as undirected and once, self loops not at all.

    Args:
        dim (int): Size :math:`d` of the embedding; that of a graph with fewer
            nodes is their number. (default: :obj:`512`)
        window (int): Longest walk :math:`w`. (default: :obj:`10`)
        negative (float): Negative samples :math:`b` of the walk model.
            (default: :obj:`1.0`)
        num_init_steps (int): Frank-Wolfe steps of the start.
            (default: :obj:`10`)
        init_reg (float): Entropic weight of the start.
            (default: :obj:`1.0`)
        num_steps (int): Turns of step 3. (default: :obj:`5`)
        reg (float): Entropic weight of step 3. (default: :obj:`0.05`)
        tol (float): Sinkhorn's algorithm stops where no row sum of
            :math:`\mathbf{P}` is off one by more. (default: :obj:`1e-2`)
        max_iters (int): At most so many iterations of Sinkhorn's algorithm.
            (default: :obj:`500`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)
        seed (int): Seed of the start vector of the iterative eigensolver,
            which graphs of more than :math:`4 d` nodes take.
            (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries`.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; features are not read
    * **target:** :math:`B` graphs of :math:`m_b` nodes
    * **output:** scores in :math:`[e^{-2}, 1]`

    Complexity: with :math:`n = \max(n_b, m_b)`, :math:`O(n^3)` for the
    embedding of small graphs and :math:`O(n^2 d)` for that of large ones;
    :math:`O(n |\mathcal{E}| + n^2 T)` a step of the start and :math:`O(n^2 (d
    + T))` one of step 3 with :math:`T` iterations of Sinkhorn's algorithm.
    Memory :math:`O(n^2)`.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 1], [1, 2, 3, 3]])
        >>> view = GraphView.single(path, 4)        # a triangle with a tail
        >>> aligner = ConeAligner()
        >>> aligner(view, view).match('argmax').match_index[1]
        tensor([0, 1, 2, 2])
    """
    takes_seeds = True

    def __init__(
        self,
        dim: int = 512,
        window: int = 10,
        negative: float = 1.0,
        num_init_steps: int = 10,
        init_reg: float = 1.0,
        num_steps: int = 5,
        reg: float = 0.05,
        tol: float = 1e-2,
        max_iters: int = 500,
        top_k: int | None = None,
        max_entries: int = 2**28,
        seed: int = 0,
    ) -> None:
        super().__init__(top_k, max_entries, seed)
        check_at_least(0, num_init_steps=num_init_steps, num_steps=num_steps)
        check_at_least(1, dim=dim, window=window, max_iters=max_iters)
        check_positive(negative=negative, init_reg=init_reg, reg=reg, tol=tol)
        self.dim = dim
        self.window = window
        self.negative = negative
        self.num_init_steps = num_init_steps
        self.init_reg = init_reg
        self.num_steps = num_steps
        self.reg = reg
        self.tol = tol
        self.max_iters = max_iters

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        a, b = adjacency(source), adjacency(target)
        y_s, y_t = (self.embed(x, generator) for x in (a, b))
        distance = (y_s.square().sum(1, keepdim=True) + y_t.square().sum(1))
        n, m = distance.shape
        seeds = seeds.cpu()
        plan = self.start(a, b, seeds)
        y_s, y_t = (F.pad(y, (0, 0, 0, size - len(y)))
                    for y, size in zip((y_s, y_t), plan.shape, strict=True))
        dual = None
        for step in range(self.num_steps + 1):
            inner = y_s @ _polar(y_s.t() @ plan @ y_t) @ y_t.t()
            if step < self.num_steps:
                plan, dual = soft_permutation(
                    fix_seeds(inner.div_(self.reg), seeds), n, m,
                    tol=self.tol, max_iters=self.max_iters, log_column=dual)
        distance -= inner[:n, :m].mul_(2)
        score = distance.clamp_(min=0).sqrt_().neg_().exp_()
        return score.to(source.batch.device)

    def embed(self, a: sp.csr_matrix, generator: torch.Generator) -> Tensor:
        r"""The NetMF embedding of a graph, rows of length one or, for isolated
        nodes, zero.

        Args:
            a (scipy.sparse.csr_matrix): Adjacency matrix.
            generator (torch.Generator): For the start of the eigensolver.
        """
        n, degree = a.shape[0], np.diff(a.indptr)
        root = np.where(degree > 0, np.maximum(degree, 1)**-0.5, 0)
        x = sp.diags(root) @ a @ sp.diags(root)
        total, diagonal = x.toarray(), np.arange(n)
        for _ in range(self.window - 1):    # x + x^2 + ... by Horner's rule
            total[diagonal, diagonal] += 1
            total = x @ total
        total *= root[:, None] * root
        total *= degree.sum() / (self.window * self.negative)
        np.log(np.maximum(total, 1, out=total), out=total)
        d = min(self.dim, n)
        # Singular values and vectors of a symmetric matrix.
        if n <= 4 * d:
            value, vector = scipy.linalg.eigh(total, overwrite_a=True)
        else:
            start = torch.randn(n, generator=generator, dtype=torch.double)
            value, vector = scipy.sparse.linalg.eigsh(
                total, d, which='LM', v0=start.numpy())
        top = np.argsort(-np.abs(value), kind='stable')[:d]
        value = np.abs(value[top])
        # Noise is not to be scaled to length one.
        value[value < 1e-10 * max(1, value[0])] = 0
        y = torch.from_numpy(vector[:, top] * np.sqrt(value))
        return F.normalize(y, dim=1, eps=1e-6)

    def start(
        self,
        a: sp.csr_matrix,
        b: sp.csr_matrix,
        seeds: Tensor,
    ) -> Tensor:
        r"""The plan of the convex relaxation (step 2).

        Args:
            a (scipy.sparse.csr_matrix): Adjacency matrix of the source.
            b (scipy.sparse.csr_matrix): Adjacency matrix of the target.
            seeds (torch.Tensor): Known matches :obj:`[2, S]`.

        Returns:
            torch.Tensor: As from :meth:`soft_permutation`.
        """
        n, m = a.shape[0], b.shape[0]
        plan, dual = flat_permutation(n, m, seeds), None
        a, b = padded(a, plan.size(0)), padded(b, plan.size(1))
        if b.nnz > 0:
            b = b * math.sqrt(a.nnz / b.nnz)
        for step in range(self.num_init_steps):
            cost = _residual(a, _residual(a, plan, b), b)
            best, dual = soft_permutation(
                fix_seeds(cost.div_(-self.init_reg), seeds), n, m,
                tol=self.tol, max_iters=self.max_iters, log_column=dual)
            plan.lerp_(best, 2 / (step + 3))
        return plan

    def extra_repr(self) -> str:
        return f'dim={self.dim}, window={self.window}, reg={self.reg}'


def flat_permutation(n: int, m: int, seeds: Tensor) -> Tensor:
    r"""What :meth:`soft_permutation` makes of the seeds alone."""
    free = max(n, m) - seeds.size(1)
    plan = torch.full((n + (n < m), m + (m < n)), 1 / max(free, 1),
                      dtype=torch.double)
    return _set_seeds(plan, seeds, 0, 1)


def fix_seeds(log_kernel: Tensor, seeds: Tensor) -> Tensor:
    r"""Forbids, in place, seeds any match but their own."""
    return _set_seeds(log_kernel, seeds, -math.inf, 0)


def _set_seeds(x: Tensor, seeds: Tensor, other: float, own: float) -> Tensor:
    if seeds.size(1) > 0:
        x[seeds[0]] = other
        x[:, seeds[1]] = other
        x[seeds[0], seeds[1]] = own
    return x


def soft_permutation(
    log_kernel: Tensor,
    n: int,
    m: int,
    *,
    tol: float,
    max_iters: int,
    log_column: OptTensor = None,
) -> tuple[Tensor, Tensor]:
    r"""The doubly stochastic matrix :math:`\exp(\mathbf{L} + \mathbf{u}
    \mathbf{1}^{\top} + \mathbf{1} \mathbf{v}^{\top})` of two graphs, the
    smaller of which is given isolated nodes (Sinkhorn's algorithm).

    Those nodes are all alike, so that one row or column stands for all of
    them. One iteration is two products of a matrix and a vector, the least
    that memory allows; factors that grow too large or too small for them are
    taken into the exponent.

    Args:
        log_kernel (torch.Tensor): The matrix :math:`\mathbf{L}`, :obj:`[n,
            m]`, with one row more if :math:`n < m` or one column more if
            :math:`m < n`; :math:`-\infty` where there is to be no mass. Not
            changed.
        n (int): Number of source nodes.
        m (int): Number of target nodes.
        tol (float): Stops where no row sum is off by a larger share; column
            sums are exact.
        max_iters (int): At most so many iterations.
        log_column (torch.Tensor, optional): What :math:`\mathbf{v}` starts
            from, such as that of a similar problem. (default: :obj:`None`)

    Returns:
        The matrix, of the shape of :obj:`log_kernel`, and :math:`\mathbf{v}`.
    """
    row_mass, column_mass = (log_kernel.new_ones(size)
                             for size in log_kernel.shape)
    if n < m:
        row_mass[-1] = m - n
    elif m < n:
        column_mass[-1] = n - m
    if log_column is None:
        log_column = torch.zeros_like(column_mass)
    while True:
        log_row = row_mass.log().unsqueeze(1) - (
            log_kernel + log_column).logsumexp(1, keepdim=True)
        plan = (log_kernel + log_column).add_(log_row).exp_()
        row, column = torch.ones_like(row_mass), column_mass / plan.sum(0)
        in_range = _in_range(column)
        if not in_range:    # There is a column that no row wants.
            log_column = (column_mass.log()
                          - (log_kernel + log_row).logsumexp(0))
            max_iters -= 1
            if max_iters > 0:
                continue
            plan = (log_kernel + log_row).add_(log_column).exp_()
            break
        while max_iters > 0 and in_range:
            mass = plan @ column
            off = (row * mass).div_(row_mass).sub_(1).abs_().max()
            if float(off) <= tol:
                break
            max_iters -= 1
            next_row = row_mass / mass
            next_column = column_mass / (next_row @ plan)
            in_range = _in_range(next_row) and _in_range(next_column)
            if in_range:
                row, column = next_row, next_column
        log_column = log_column + column.log()
        if in_range:
            plan.mul_(row.unsqueeze(1)).mul_(column)
            break
    if n != m:
        plan.div_(row_mass.unsqueeze(1)).div_(column_mass)
    return plan, log_column


def _in_range(factor: Tensor) -> bool:
    return (1 / _LARGE < float(factor.min())
            and float(factor.max()) < _LARGE)


def _polar(matrix: Tensor) -> Tensor:
    r"""The closest matrix whose singular values are one, or zero where those
    of :obj:`matrix` are.
    """
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u * (s > 1e-10 * s.max()).to(u.dtype)) @ vh


def _residual(a: sp.csr_matrix, x: Tensor, b: sp.csr_matrix) -> Tensor:
    r"""The matrix :math:`\mathbf{A} \mathbf{X} - \mathbf{X} \mathbf{B}`, for
    a symmetric :math:`\mathbf{B}`.
    """
    out = torch.from_numpy(a @ x.numpy())
    return out.sub_(torch.from_numpy(b @ x.t().contiguous().numpy()).t())
