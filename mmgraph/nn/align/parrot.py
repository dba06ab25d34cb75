import math

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.sparse import adjacency, map_rows_, sandwich, walk
from mmgraph.utils import check_at_least, check_not_negative, check_positive

__all__ = ['ParrotAligner']

#: Entries of a matrix that are worked on at once.
_PIECE = 2**20


class ParrotAligner(DenseAligner):
    r"""Optimal transport between nodes that stand alike to known matches,
    from `"PARROT: Position-Aware Regularized Optimal Transport for Network
    Alignment" <https://doi.org/10.1145/3543507.3583357>`_ (WWW 2023), as
    coded by its authors.

    #. **Position.** A random walk that restarts at each of the known nodes
       gives every node a row of :math:`\mathbf{R}`: :math:`\mathbf{R}
       \leftarrow (1 - \beta) \mathbf{W} \mathbf{R} + \beta \mathbf{I}_{:,L}`
       with :math:`\mathbf{W} = \mathbf{D}^{-1} \mathbf{A}`.
    #. **Cost of nodes.** :math:`\mathbf{C}' = \exp(-\cos(\mathbf{X}_s,
       \mathbf{X}_t)) + \alpha \exp(-\cos(\mathbf{R}_s, \mathbf{R}_t))`, zero
       for known matches; without features, :math:`\mathbf{R}` takes the place
       of :math:`\mathbf{X}`.
    #. **Cost of neighbourhoods.** A walk on the product graph, the fixed
       point of :math:`\mathbf{C} = (1 + \gamma \beta) \mathbf{C}' +
       (1 - \beta) \gamma \mathbf{W}_s \mathbf{C} \mathbf{W}_t^{\top}` with
       known matches held at zero, times :math:`1 - \gamma`.
    #. **Transport.** Proximal steps of

       .. math::
           \min_{\mathbf{T}} \langle \mathbf{C}, \mathbf{T} \rangle +
           \lambda_e\, n m\, \mathrm{GW}(\mathbf{T}) + \lambda_n\, \Omega_n +
           \lambda_a\, \Omega_a

       with uniform masses: every step adds :math:`\lambda_e n m
       (\mathbf{c} - \mathbf{C}_s \mathbf{T} \mathbf{C}_t^{\top}) - \lambda_n
       \log(\mathbf{W}_s \mathbf{T} \mathbf{W}_t^{\top}) - \lambda_a \log
       \mathbf{H}` to the cost, keeps the cost of the step before if the new
       one is higher for the present plan, solves the transport with entropy
       :math:`\lambda_p + \lambda_n + \lambda_a` around the present plan by
       log-domain scaling, and takes 95 % of the solution.
       :math:`\mathbf{C}_s`, :math:`\mathbf{C}_t` hold
       :math:`\exp(-\cos)` of the ends of edges, and :math:`\mathbf{H} = 1/m`
       plus one for known matches.

    A pair without known matches has no positions. With features, their cost
    is what is left of step 2; without, the pair is refused.

    .. note::
        We differ from the authors' code in that an isolated node, which walks
        to every node there too, has no edge costs; there it has one to every
        node, in one direction. Ports differ from it more: one takes
        :math:`\mathbf{W}^{\top}` for :math:`\mathbf{W}`, :math:`1 + \beta` for
        :math:`1 + \gamma \beta` and the full square loss for the half, and
        lets go of the known matches after step 3; another knows no seeds.

    .. note::
        The defaults are the authors' constants for Foursquare-Twitter, a
        pair without attributes. For attributed ACM-DBLP they take
        :obj:`alpha=0.1`, :obj:`beta=0.15`, :obj:`gamma=0.2`,
        :obj:`lambda_p=0.1`, :obj:`lambda_n=0.01`, :obj:`lambda_a=0.01`,
        :obj:`lambda_e=5e-5`; for Cora :obj:`alpha=0.5`, :obj:`beta=0.3`,
        :obj:`gamma=0.2`, :obj:`lambda_p=2e-3`, :obj:`lambda_n=0.01`,
        :obj:`lambda_a=2e-3`, :obj:`lambda_e=1e-6`.

    Args:
        alpha (float): Weight of the position. (default: :obj:`0.5`)
        beta (float): Probability of a restart, in :math:`(0, 1]`.
            (default: :obj:`0.15`)
        gamma (float): Discount of a step on the product graph, in
            :math:`[0, 1)`. (default: :obj:`0.8`)
        lambda_p (float): Weight of the proximal term. (default: :obj:`1e-3`)
        lambda_n (float): Weight of the consistency of neighbourhoods.
            (default: :obj:`5e-3`)
        lambda_a (float): Weight of the known matches. (default: :obj:`5e-4`)
        lambda_e (float): Weight of the consistency of edges.
            (default: :obj:`3e-6`)
        num_iters (int): Proximal steps. (default: :obj:`10`)
        num_inner (int): Scalings of rows and columns in each.
            (default: :obj:`5`)
        use_attributes (bool): Whether the features :obj:`x` of nodes take
            part where both graphs have them. (default: :obj:`True`)
        double_precision (bool): Whether to work in double precision; single
            precision takes half the memory. (default: :obj:`True`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries` or has neither known
            matches nor features.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; :obj:`x` of shape
      :obj:`[N, F]` or :obj:`None`
    * **target:** :math:`B` graphs of :math:`m_b` nodes; likewise
    * **output:** the plan times :math:`n_b`: scores in :math:`[0, 1]` that sum
      to one over the targets of a source node

    Complexity: :math:`O(m_b |\mathcal{E}_s| + n_b |\mathcal{E}_t| + n_b m_b)`
    a step, by SciPy's sparse products; memory :math:`O(n_b m_b)`.

    Example:
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])     # 0 - 1 - 2 - 3
        >>> view = GraphView.single(path, 4)
        >>> seeds = torch.tensor([[0], [3]])
        >>> out = ParrotAligner()(view, view, seeds=seeds)
        >>> out.match('lap').match_index[1]
        tensor([3, 2, 1, 0])
    """
    takes_seeds = True

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.15,
        gamma: float = 0.8,
        lambda_p: float = 1e-3,
        lambda_n: float = 5e-3,
        lambda_a: float = 5e-4,
        lambda_e: float = 3e-6,
        num_iters: int = 10,
        num_inner: int = 5,
        use_attributes: bool = True,
        double_precision: bool = True,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__(top_k, max_entries)
        if not 0 < beta <= 1:
            raise ValueError(f"'beta' must be in (0, 1] (got {beta})")
        if not 0 <= gamma < 1:
            raise ValueError(f"'gamma' must be in [0, 1) (got {gamma})")
        check_positive(lambda_p=lambda_p)
        check_not_negative(alpha=alpha, lambda_n=lambda_n, lambda_a=lambda_a,
                           lambda_e=lambda_e)
        check_at_least(1, num_iters=num_iters, num_inner=num_inner)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.lambda_p = lambda_p
        self.lambda_n = lambda_n
        self.lambda_a = lambda_a
        self.lambda_e = lambda_e
        self.num_iters = num_iters
        self.num_inner = num_inner
        self.use_attributes = use_attributes
        self.double_precision = double_precision
        self.reads_features = use_attributes

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        dtype = torch.double if self.double_precision else torch.float
        known = seeds.cpu()
        left, right = _Walk(source, dtype), _Walk(target, dtype)
        position_s = _unit(self._position(left, known[0], dtype))
        position_t = _unit(self._position(right, known[1], dtype))
        x_s, x_t = position_s, position_t
        if self.use_attributes and None not in (source.x, target.x):
            x_s = _unit(_features(source, dtype))
            x_t = _unit(_features(target, dtype))
            if x_s.size(1) != x_t.size(1):
                raise ShapeError(
                    f"'source.x' and 'target.x' must hold as many features "
                    f'(got {x_s.size(1)} and {x_t.size(1)})')
        elif known.size(1) == 0:
            raise ValueError(
                f"'{type(self).__name__}' needs 'seeds' in each pair whose "
                f"nodes have no features 'x' (got none); 'QuadraticAligner' "
                f"and 'StructuralAligner' do not")
        cost = _cost(x_s, x_t)
        if known.size(1) > 0:  # Else the same for all pairs, and no matter.
            cost += self.alpha * _cost(position_s, position_t)
        cost = self._product_walk(cost, left, right, known)
        plan = self._transport(cost, left, right,
                               _edge_cost(source, x_s, dtype),
                               _edge_cost(target, x_t, dtype), known)
        return plan.mul_(source.num_nodes).to(source.batch.device)

    def _position(
        self,
        step: '_Walk',
        known: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        r"""Random walks with restart, :obj:`[n, S]`."""
        restart = torch.zeros(step.num_nodes, known.numel(), dtype=dtype)
        restart[known, torch.arange(known.numel())] = self.beta
        out = torch.zeros_like(restart)
        for _ in range(_WALKS if known.numel() > 0 else 0):
            last, out = out, step(out).mul_(1 - self.beta).add_(restart)
            if last.sub_(out).abs_().max() <= _WALK_TOL:
                break
        return out

    def _product_walk(
        self,
        node_cost: Tensor,
        left: '_Walk',
        right: '_Walk',
        known: Tensor,
    ) -> Tensor:
        row, col = known
        node_cost[row, col] = 0
        node_cost *= 1 + self.gamma * self.beta
        out = torch.zeros_like(node_cost)
        for _ in range(_PRODUCT_WALKS):
            last, out = out, product(left, out, right)
            out.mul_((1 - self.beta) * self.gamma).add_(node_cost)
            out[row, col] = 0
            if last.sub_(out).abs_().max() <= _PRODUCT_WALK_TOL:
                break
        return out.mul_(1 - self.gamma)

    def _transport(
        self,
        node_cost: Tensor,
        left: '_Walk',
        right: '_Walk',
        edges_s: sp.csr_matrix,
        edges_t: sp.csr_matrix,
        known: Tensor,
    ) -> Tensor:
        n, m = node_cost.shape
        row, col = known
        entropy = self.lambda_p + self.lambda_n + self.lambda_a
        edge_weight = self.lambda_e * n * m
        tiny = torch.finfo(node_cost.dtype).tiny
        # What does not depend on the plan. Of log H, up to a constant, only
        # known matches are left, and of the loss of edges the constant part.
        node_cost[row, col] -= self.lambda_a * math.log(m + 1)
        node_cost += (edge_weight / 2) * (
            _mean_square(edges_s).unsqueeze(1) + _mean_square(edges_t))
        plan = torch.full_like(node_cost, 1 / (n * m))
        potential = plan.new_zeros(n)
        cost = None
        for _ in range(self.num_iters):
            new = product(left, plan, right).clamp_(min=tiny).log_()
            new.mul_(-self.lambda_n).add_(node_cost)
            new.sub_(sandwich(edges_s, plan, edges_t), alpha=edge_weight)
            if cost is None or _dot(plan, new) <= _dot(plan, cost):
                cost = new
            del new
            # Minus the cost of the proximal step, in units of the entropy.
            logit = plan.clamp(min=tiny).log_().mul_(self.lambda_p)
            logit.sub_(cost).div_(entropy)
            for _ in range(self.num_inner):
                other = -_log_mean(logit, potential)
                potential = -_log_mean(logit.t(), other)
            logit.add_(potential.unsqueeze(1)).add_(other)
            logit.clamp_(min=math.log(tiny * n * m))
            plan.mul_(0.05).add_(logit.exp_(), alpha=0.95 / (n * m))
            del logit
        return plan

    def extra_repr(self) -> str:
        return (f'alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, '
                f'num_iters={self.num_iters}')


#: Limits of the walks, as published.
_WALKS, _WALK_TOL = 100, 1e-5
_PRODUCT_WALKS, _PRODUCT_WALK_TOL = 50, 1e-2


class _Walk:
    r"""A step of a random walk, :math:`\mathbf{W} \mathbf{X}`; an isolated
    node goes to any node.
    """
    def __init__(self, view: GraphView, dtype: torch.dtype) -> None:
        self.num_nodes = view.num_nodes
        self.matrix = walk(view, dtype)
        alone = np.flatnonzero(np.diff(self.matrix.indptr) == 0)
        self.alone = torch.from_numpy(alone)

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.from_numpy(self.matrix @ x.numpy())
        if self.alone.numel() > 0:
            out[self.alone] = x.mean(0)
        return out


def product(left: _Walk, x: Tensor, right: _Walk) -> Tensor:
    r"""A step on the product graph, :math:`\mathbf{W}_s \mathbf{X}
    \mathbf{W}_t^{\top}`.
    """
    return map_rows_(left(x), right)


def _features(view: GraphView, dtype: torch.dtype) -> Tensor:
    assert view.x is not None
    x = view.x.detach().reshape(view.num_nodes, -1).cpu().to(dtype)
    if not bool(torch.isfinite(x).all()):
        raise ValueError("'x' must be finite; rows of zeros stand for nodes "
                         'without features')
    return x


def _unit(x: Tensor) -> Tensor:
    r"""Rows of length one; rows of zeros become constant, as published."""
    norm = x.norm(dim=1, keepdim=True)
    out = x / norm.masked_fill(norm == 0, 1)
    return out.masked_fill_(norm == 0, 1 / math.sqrt(max(x.size(1), 1)))


def _cost(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.t()).neg_().exp_()


def _edge_cost(
    view: GraphView,
    x: Tensor,
    dtype: torch.dtype,
) -> sp.csr_matrix:
    r"""The cost between the ends of each edge."""
    out = adjacency(view).tocoo()
    row, col = torch.from_numpy(out.row), torch.from_numpy(out.col)
    size = max(1, _PIECE // max(x.size(1), 1))
    cosine = [(x[i] * x[j]).sum(1)
              for i, j in zip(row.long().split(size), col.long().split(size))]
    value = torch.cat(cosine).neg_().exp_() if cosine else x.new_empty(0)
    return sp.csr_matrix((value.to(dtype).numpy(), (out.row, out.col)),
                         shape=out.shape)


def _mean_square(matrix: sp.csr_matrix) -> Tensor:
    r"""The mean square of each row."""
    total = np.asarray(matrix.multiply(matrix).sum(1)).reshape(-1)
    return torch.from_numpy(total / matrix.shape[1])


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))


def _log_mean(logit: Tensor, potential: Tensor) -> Tensor:
    r"""The logarithm of the mean over rows of :math:`\exp(l_{ij} + f_i)`."""
    n = logit.size(0)
    # Numbers below the normal range are slow, and nothing next to a one.
    low = math.log(torch.finfo(logit.dtype).tiny) + 1
    parts = []
    for part in logit.split(max(1, _PIECE // n), dim=1):
        value = part + potential.unsqueeze(1)
        top = value.amax(0)
        value.sub_(top).clamp_(min=low).exp_()
        parts.append(value.mean(0).log_().add_(top))
    return torch.cat(parts)
