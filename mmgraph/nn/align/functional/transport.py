r"""Optimal transport between the nodes of many small graphs at once: padded
batches, masses on real nodes only, log domain.
"""
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mmgraph.errors import ShapeError
from mmgraph.typing import OptTensor
from mmgraph.utils import check_positive, suggest

__all__ = [
    'GWSolver', 'Marginals', 'Solver', 'gromov_wasserstein',
    'gromov_wasserstein_cost', 'ipot', 'round_plan', 'sinkhorn'
]

Marginals: TypeAlias = Literal['balanced', 'semi_relaxed', 'partial']
Solver: TypeAlias = Literal['ipot', 'sinkhorn']
GWSolver: TypeAlias = Literal['ipot', 'proximal', 'sinkhorn']

MARGINALS = ('balanced', 'semi_relaxed', 'partial')

#: Logits that spread less than this are scaled as plain numbers: no product
#: of an entry and its two scales leaves the range of float32.
_LINEAR_RANGE = 60.
#: The same for all proximal steps together, in double: an entry that fell to
#: zero on the way could not come back.
_PROXIMAL_RANGE = 300.
#: Stands for minus infinity; the difference of two of them is a number.
_NEVER = -1e30


class _Masses(NamedTuple):
    """What the rows and columns of a plan sum to."""
    row: Tensor  # [B, n, 1], zero on padding
    col: Tensor  # [B, 1, m]
    cell: Tensor  # [B, n, m], bool: a pair of real nodes
    row_bin: OptTensor  # [B, 1, 1], log weight of staying unmatched
    col_bin: OptTensor
    free_rows: bool


def ipot(
    cost: Tensor,
    *,
    beta: float = 0.5,
    num_iters: int = 50,
    num_inner: int = 1,
    row_mask: OptTensor = None,
    col_mask: OptTensor = None,
    row_mass: OptTensor = None,
    col_mass: OptTensor = None,
) -> Tensor:
    r"""Inexact proximal point method for optimal transport, from `"A Fast
    Proximal Point Method for Computing Exact Wasserstein Distance"
    <https://arxiv.org/abs/1802.04307>`_ (Algorithm 1), as used for graphs by
    `"Graph Optimal Transport for Cross-Domain Alignment"
    <https://arxiv.org/abs/2006.14744>`_

    .. math::
        \mathbf{T}^{(k+1)} = \arg\min_{\mathbf{T} \in \Pi(\mathbf{p},
        \mathbf{q})} \langle \mathbf{C}, \mathbf{T} \rangle + \beta\,
        \mathrm{KL}(\mathbf{T} \,\|\, \mathbf{T}^{(k)}), \quad
        \mathbf{T}^{(0)} = \mathbf{1}

    where each step scales rows first and columns last, once: columns are
    exact, rows only in the limit, which is an exact plan. :math:`\beta` is a
    step size, not a blur.

    .. note::
        Published code gives mass to padding and works with
        :math:`\exp(-\mathbf{C} / \beta)`, which is zero for costs of some
        size. Here masses follow real nodes and all is done in the log domain.

    Args:
        cost (torch.Tensor): Finite costs :obj:`[B, n, m]`.
        beta (float): The step size, in units of the cost.
            (default: :obj:`0.5`)
        num_iters (int): Proximal steps. (default: :obj:`50`)
        num_inner (int): Scalings a step; with more of them rows are nearly
            exact, too. (default: :obj:`1`)
        row_mask (torch.Tensor, optional): Which rows are real :obj:`[B, n]`,
            bool; all by default. (default: :obj:`None`)
        col_mask (torch.Tensor, optional): Which columns are real
            :obj:`[B, m]`, bool. (default: :obj:`None`)
        row_mass (torch.Tensor, optional): :math:`\mathbf{p}`, :obj:`[B, n]`;
            uniform over real rows by default. (default: :obj:`None`)
        col_mass (torch.Tensor, optional): :math:`\mathbf{q}`, :obj:`[B, m]`.
            (default: :obj:`None`)

    Returns:
        torch.Tensor: Plans :obj:`[B, n, m]`, zero on padding and where a side
        of a pair is empty.

    Raises:
        ShapeError: If shapes do not fit.
        ValueError: If :obj:`beta` or a number of steps is not positive.

    Complexity: :math:`O(B n m)` a step.

    Example:
        >>> ipot(torch.tensor([[[0., 1.], [1., 0.]]]), num_iters=200)
        tensor([[[0.5000, 0.0000],
                 [0.0000, 0.5000]]])
    """
    check_positive(beta=beta, num_iters=num_iters, num_inner=num_inner)
    masses = _masses(cost, row_mask, col_mask, row_mass, col_mass)
    if cost.numel() == 0:
        return cost
    dtype, cost = cost.dtype, _widen(cost)
    with torch.autocast(cost.device.type, enabled=False):
        logit = torch.where(masses.cell, -cost / beta, _NEVER)
        # A shift of a pair is undone by its scales.
        shift = logit.detach().amax((1, 2), keepdim=True)
        logit = torch.where(masses.cell, logit - shift, _NEVER)
        lowest = torch.where(masses.cell, logit.detach(), 0.).amin()
        if bool(lowest * num_iters > -_PROXIMAL_RANGE):
            return _ipot_linear(logit.double().exp(), masses, num_iters,
                                num_inner).to(dtype)
        log_p, log_q = masses.row.log(), masses.col.log()
        log_plan = torch.zeros_like(logit)
        g = torch.zeros_like(log_q)
        for _ in range(num_iters):
            q = torch.where(masses.cell, log_plan + logit, _NEVER)
            for _ in range(num_inner):
                f = _finite(log_p - _lse(q + g, 2))
                g = _finite(log_q - _lse(q + f, 1))
            log_plan = q + f + g
        plan = torch.where(masses.cell, log_plan, _NEVER).exp()
    return plan.to(dtype)


def sinkhorn(
    cost: Tensor,
    *,
    epsilon: float,
    num_iters: int = 100,
    tol: float = 1e-5,
    row_mask: OptTensor = None,
    col_mask: OptTensor = None,
    row_mass: OptTensor = None,
    col_mass: OptTensor = None,
    marginals: Marginals = 'balanced',
    unmatched: OptTensor | float = None,
) -> Tensor:
    r"""Entropic optimal transport, from `"Sinkhorn Distances"
    <https://arxiv.org/abs/1306.0895>`_

    .. math::
        \min_{\mathbf{T} \geq 0} \langle \mathbf{C}, \mathbf{T} \rangle +
        \varepsilon \sum_{ij} T_{ij} (\log T_{ij} - 1)

    under one of three kinds of marginals:

    * :obj:`'balanced'`: rows sum to :math:`\mathbf{p}`, columns to
      :math:`\mathbf{q}`, by default :math:`1/n` and :math:`1/m`;
    * :obj:`'semi_relaxed'`: columns sum to :math:`\mathbf{q}`, rows are free:
      a softmax over each column;
    * :obj:`'partial'`: rows sum to at most :math:`\mathbf{p}` and columns to
      at most :math:`\mathbf{q}`, by default one each, so that an entry is the
      probability of a match. What is missing goes to a bin, part of the
      entropy: staying unmatched costs nothing on the larger side and
      :obj:`unmatched` on the smaller one (the target's, if sizes are equal).

    Rows are scaled first, columns last; then one rounding step
    (`"Near-linear time approximation algorithms for optimal transport"
    <https://arxiv.org/abs/1705.09634>`_, Algorithm 2) makes the plan feasible
    whatever the number of iterations. A pair stops when its rows are right to
    :obj:`tol`, whatever the rest of the batch does.

    Args:
        cost (torch.Tensor): Finite costs :obj:`[B, n, m]`.
        epsilon (float): Weight :math:`\varepsilon` of the entropy.
        num_iters (int): The most scalings of rows and columns.
            (default: :obj:`100`)
        tol (float): The largest error of a row, as a share of the mass of one
            row on average; zero never stops early. (default: :obj:`1e-5`)
        row_mask (torch.Tensor, optional): Which rows are real :obj:`[B, n]`,
            bool; all by default. (default: :obj:`None`)
        col_mask (torch.Tensor, optional): Which columns are real
            :obj:`[B, m]`, bool. (default: :obj:`None`)
        row_mass (torch.Tensor, optional): :math:`\mathbf{p}`, :obj:`[B, n]`.
            (default: :obj:`None`)
        col_mass (torch.Tensor, optional): :math:`\mathbf{q}`, :obj:`[B, m]`.
            (default: :obj:`None`)
        marginals (str): The kind of marginals. (default: :obj:`'balanced'`)
        unmatched (float or torch.Tensor, optional): What a node of the
            smaller side pays for staying unmatched, for all pairs or
            :obj:`[B]`; :obj:`None`: it may not. For :obj:`'partial'` only.
            (default: :obj:`None`)

    Returns:
        torch.Tensor: Plans :obj:`[B, n, m]`, zero on padding and where a side
        of a pair is empty.

    Raises:
        ShapeError: If shapes do not fit.
        ValueError: If an argument is out of range.

    Complexity: :math:`O(B n m)` an iteration. Costs that spread by less than
    :math:`60\varepsilon` inside each column are scaled as plain numbers, four
    times as fast as in the log domain.

    Example:
        >>> cost = torch.tensor([[[0.0], [0.1], [1.0]]])
        >>> sinkhorn(cost, epsilon=0.1)[0].t()
        tensor([[0.3333, 0.3333, 0.3333]])
        >>> plan = sinkhorn(cost, epsilon=0.1, marginals='partial')
        >>> plan[0].t().round(decimals=2)
        tensor([[0.6200, 0.3800, 0.0000]])
    """
    check_positive(epsilon=epsilon, num_iters=num_iters)
    masses = _masses(cost, row_mask, col_mask, row_mass, col_mass, marginals,
                     unmatched, epsilon)
    if cost.numel() == 0:
        return cost
    dtype, cost = cost.dtype, _widen(cost)
    with torch.autocast(cost.device.type, enabled=False):
        plan, _ = _scale(-cost / epsilon, masses, num_iters, tol)
        return _round(plan, masses).to(dtype)


def gromov_wasserstein(
    edge_s: Tensor,
    edge_t: Tensor,
    *,
    cost: OptTensor = None,
    alpha: float = 0.5,
    solver: GWSolver = 'sinkhorn',
    epsilon: float = 0.1,
    num_outer: int = 10,
    num_iters: int = 10,
    grad_scale: float = 2.0,
    row_mask: OptTensor = None,
    col_mask: OptTensor = None,
    row_mass: OptTensor = None,
    col_mass: OptTensor = None,
    marginals: Marginals = 'balanced',
    unmatched: OptTensor | float = None,
) -> Tensor:
    r"""Fused Gromov-Wasserstein plans with the squared loss on edges of
    several channels, from `"Optimal Transport for structured data with
    application on graphs" <https://arxiv.org/abs/1805.09114>`_ (Eq. 5)

    .. math::
        \min_{\mathbf{T}} \alpha \langle \mathbf{M}, \mathbf{T} \rangle
        + (1 - \alpha) \sum_{ii'jj'c} (E^s_{ii'c} - E^t_{jj'c})^2
        T_{ij} T_{i'j'}

    Each of the :obj:`num_outer` steps transports along the linear cost
    :math:`\alpha \mathbf{M} + (1 - \alpha) \gamma \mathbf{L}(\mathbf{T})`
    with :math:`\gamma` = :obj:`grad_scale` and

    .. math::
        \mathbf{L}(\mathbf{T}) = \sum_c (\mathbf{E}^s_c)^{2} \mathbf{T}
        \mathbf{1}\mathbf{1}^{\top} + \mathbf{1}\mathbf{1}^{\top} \mathbf{T}
        {(\mathbf{E}^t_c)^{2}}^{\top} - 2 \mathbf{E}^s_c \mathbf{T}
        {\mathbf{E}^t_c}^{\top}

    (squares by entry; half the gradient for symmetric edges). It starts from
    the plan of :math:`\mathbf{M}` alone, without :obj:`cost` from
    :math:`\mathbf{p}\mathbf{q}^{\top}`. The objective is not convex: this is a
    local optimum.

    .. note::
        POT's :obj:`alpha` is the weight of the edges, ours that of the nodes,
        as in EEGA. The terms of the cost are those of the plan's own
        marginals: they need not be met for the objective to be the one that
        is stated.

    Args:
        edge_s (torch.Tensor): Source edges :obj:`[B, n, n]` or
            :obj:`[B, n, n, C]`.
        edge_t (torch.Tensor): Target edges :obj:`[B, m, m]` or
            :obj:`[B, m, m, C]`.
        cost (torch.Tensor, optional): Node costs :math:`\mathbf{M}`,
            :obj:`[B, n, m]`. (default: :obj:`None`)
        alpha (float): Weight of the node costs; without them edges count
            fully. (default: :obj:`0.5`)
        solver (str): :obj:`'sinkhorn'` adds the entropy of the plan, times
            :obj:`epsilon`, to the objective; :obj:`'proximal'` adds
            :obj:`epsilon` times the divergence from the step before (`"Scalable
            Gromov-Wasserstein Learning for Graph Partitioning and Matching"
            <https://arxiv.org/abs/1905.07645>`_, Eq. 4), so that it tends to
            a plan without blur; :obj:`'ipot'` solves each linear problem by
            :func:`ipot` from a flat plan, with step size :obj:`epsilon`, as
            EEGA does. (default: :obj:`'sinkhorn'`)
        epsilon (float): Weight of what is added, or step size. A small one
            without a :obj:`cost` to start from may oscillate.
            (default: :obj:`0.1`)
        num_outer (int): Linearisations. (default: :obj:`10`)
        num_iters (int): Scalings (proximal steps) each.
            (default: :obj:`10`)
        grad_scale (float): :math:`\gamma`; EEGA uses one.
            (default: :obj:`2.0`)
        row_mask, col_mask, row_mass, col_mass, marginals, unmatched: As in
            :func:`sinkhorn`; :obj:`'ipot'` is balanced only.

    Returns:
        torch.Tensor: Feasible plans :obj:`[B, n, m]`.

    Raises:
        ShapeError: If shapes do not fit.
        ValueError: If an argument is out of range.

    Complexity: :math:`O(B C n m (n + m))` a step.

    Example:
        >>> path = torch.tensor([[[0., 1, 0, 0], [1, 0, 1, 0],
        ...                       [0, 1, 0, 1], [0, 0, 1, 0]]])
        >>> gromov_wasserstein(path, path, epsilon=.01)[0].sum(1)
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    check_positive(epsilon=epsilon, num_outer=num_outer, num_iters=num_iters)
    if not 0 <= alpha <= 1:
        raise ValueError(f"'alpha' must be in [0, 1] (got {alpha})")
    solvers = ['ipot', 'proximal', 'sinkhorn']
    if solver not in solvers:
        raise ValueError(f"'solver' must name a solver (got {solver!r}); "
                         f'{suggest(solver, solvers)}')
    if solver == 'ipot' and marginals != 'balanced':
        raise ValueError(f"'marginals' must be 'balanced' for 'ipot' (got "
                         f'{marginals!r})')
    edge_s, edge_t = _channels(edge_s, edge_t)
    shape = edge_s.size(0), edge_s.size(1), edge_t.size(1)
    if cost is not None and cost.shape != shape:
        raise ShapeError(f"'cost' must have shape {list(shape)} "
                         f'(got {list(cost.shape)})', shape, cost.shape)
    like = edge_s.new_zeros(()).expand(shape) if cost is None else cost
    masses = _masses(like, row_mask, col_mask, row_mass, col_mass, marginals,
                     unmatched, epsilon)
    if like.numel() == 0:
        return like
    dtype = like.dtype
    with torch.autocast(like.device.type, enabled=False):
        edges = _Edges(_widen(edge_s), _widen(edge_t))
        linear: Tensor | None = None
        weight = grad_scale
        if cost is not None:
            linear = _widen(cost) * alpha
            weight = (1 - alpha) * grad_scale
        scales: OptTensor = None
        if linear is None or solver == 'ipot':
            total = masses.row.sum(1, keepdim=True).clamp(
                min=torch.finfo(masses.row.dtype).tiny)
            plan = masses.row * masses.col / total
        else:
            plan, scales = _scale(linear / -epsilon, masses, num_iters)
        for _ in range(num_outer):
            grad = edges.gradient(plan) * weight
            if linear is not None:
                grad = grad + linear
            if solver == 'ipot':
                plan = ipot(grad, beta=epsilon, num_iters=num_iters,
                            row_mask=row_mask, col_mask=col_mask,
                            row_mass=row_mass, col_mass=col_mass)
                continue
            logit = grad / -epsilon
            if solver == 'proximal':
                # Scales start anew: the last ones are part of the plan.
                logit, scales = logit + plan.clamp(min=1e-30).log(), None
            plan, scales = _scale(logit, masses, num_iters, start=scales)
        return _round(plan, masses).to(dtype)


def gromov_wasserstein_cost(
    edge_s: Tensor,
    edge_t: Tensor,
    plan: Tensor,
) -> Tensor:
    r"""What a plan costs on edges, :math:`\sum_{ii'jj'c} (E^s_{ii'c} -
    E^t_{jj'c})^2 T_{ij} T_{i'j'}`, with the plan's own marginals.

    Args:
        edge_s (torch.Tensor): Source edges :obj:`[B, n, n]` or
            :obj:`[B, n, n, C]`.
        edge_t (torch.Tensor): Target edges :obj:`[B, m, m]` or
            :obj:`[B, m, m, C]`.
        plan (torch.Tensor): Plans :obj:`[B, n, m]`.

    Returns:
        torch.Tensor: Costs :obj:`[B]`, not negative but for rounding.

    Example:
        >>> edge = torch.tensor([[[0., 1.], [1., 0.]]])
        >>> gromov_wasserstein_cost(edge, edge, torch.eye(2)[None] / 2)
        tensor([0.])
    """
    edges = _Edges(*_channels(edge_s, edge_t))
    return (edges.gradient(plan) * plan).sum(dim=(1, 2))


def round_plan(
    plan: Tensor,
    *,
    row_mask: OptTensor = None,
    col_mask: OptTensor = None,
    row_mass: OptTensor = None,
    col_mass: OptTensor = None,
) -> Tensor:
    r"""A plan near the given one that meets its marginals, by `"Near-linear
    time approximation algorithms for optimal transport"
    <https://arxiv.org/abs/1705.09634>`_ (Algorithm 2): rows, then columns
    that are too heavy are scaled down, and what is missing is added as a
    matrix of rank one.

    Args:
        plan (torch.Tensor): Entries :obj:`[B, n, m]`, not negative.
        row_mask, col_mask, row_mass, col_mass: As in :func:`ipot`.

    Returns:
        torch.Tensor: Plans :obj:`[B, n, m]`.

    Example:
        >>> round_plan(torch.tensor([[[0.5, 0.1], [0.1, 0.3]]]))[0].sum(1)
        tensor([0.5000, 0.5000])
    """
    masses = _masses(plan, row_mask, col_mask, row_mass, col_mass)
    if plan.numel() == 0:
        return plan
    return _round(_widen(plan), masses).to(plan.dtype)


class _Edges:
    """Both sides of the squared loss, laid out for two products a step."""

    def __init__(self, edge_s: Tensor, edge_t: Tensor) -> None:
        b, n, _, c = edge_s.shape
        m = edge_t.size(1)
        self.shape = b, n, m, c
        self.square_s = edge_s.square().sum(3)
        self.square_t = edge_t.square().sum(3)
        # [n, (i', c)] and [j', (c, j)]: a plan is multiplied from both sides.
        self.left = edge_s.reshape(b, n, n * c) * -2
        self.right = edge_t.permute(0, 2, 3, 1).reshape(b, m, c * m)

    def gradient(self, plan: Tensor) -> Tensor:
        b, n, m, c = self.shape
        row, col = plan.sum(2, keepdim=True), plan.sum(1).unsqueeze(2)
        const_s = self.square_s @ row
        const_t = (self.square_t @ col).transpose(1, 2)
        inner = (plan @ self.right).view(b, n * c, m)
        return torch.baddbmm(const_s + const_t, self.left, inner)


def _channels(edge_s: Tensor, edge_t: Tensor) -> tuple[Tensor, Tensor]:
    out = []
    for name, edge in (('edge_s', edge_s), ('edge_t', edge_t)):
        if edge.dim() == 3:
            edge = edge.unsqueeze(3)
        if edge.dim() != 4 or edge.size(1) != edge.size(2):
            raise ShapeError(
                f"'{name}' must have shape [B, n, n] or [B, n, n, C] "
                f'(got {list(edge.shape)})', ('B', 'n', 'n'), edge.shape)
        out.append(edge)
    if out[0].size(0) != out[1].size(0) or out[0].size(3) != out[1].size(3):
        raise ShapeError(
            f"'edge_s' and 'edge_t' must have as many pairs and channels (got "
            f'{list(edge_s.shape)} and {list(edge_t.shape)})')
    return out[0], out[1]


def _masses(
    cost: Tensor,
    row_mask: OptTensor,
    col_mask: OptTensor,
    row_mass: OptTensor,
    col_mass: OptTensor,
    marginals: str = 'balanced',
    unmatched: OptTensor | float = None,
    epsilon: float = 1.,
) -> _Masses:
    if cost.dim() != 3:
        raise ShapeError(f"'cost' must have shape [B, n, m] "
                         f'(got {list(cost.shape)})', ('B', 'n', 'm'),
                         cost.shape)
    if marginals not in MARGINALS:
        raise ValueError(f"'marginals' must name a kind (got {marginals!r}); "
                         f'{suggest(marginals, MARGINALS)}')
    if unmatched is not None and marginals != 'partial':
        raise ValueError(f"'unmatched' is for 'partial' marginals only "
                         f'(got {marginals!r})')
    b, n, m = cost.shape
    dtype = torch.double if cost.dtype == torch.double else torch.float
    real = []
    for name, mask, size in (('row_mask', row_mask, n),
                             ('col_mask', col_mask, m)):
        if mask is None:
            mask = cost.new_ones(b, size, dtype=torch.bool)
        if mask.shape != (b, size):
            raise ShapeError(f"'{name}' must have shape {[b, size]} "
                             f'(got {list(mask.shape)})', (b, size),
                             mask.shape)
        real.append(mask)
    row, col = (mask.to(dtype) for mask in real)
    if marginals != 'partial':
        row = row / row.sum(1, keepdim=True).clamp(min=1)
        col = col / col.sum(1, keepdim=True).clamp(min=1)
    for name, mass in (('row_mass', row_mass), ('col_mass', col_mass)):
        here = row if name == 'row_mass' else col
        if mass is not None and mass.shape != here.shape:
            raise ShapeError(f"'{name}' must have shape {list(here.shape)} "
                             f'(got {list(mass.shape)})', here.shape,
                             mass.shape)
    if row_mass is not None:
        row = row_mass.to(dtype) * real[0]
    if col_mass is not None:
        col = col_mass.to(dtype) * real[1]
    # A pair with an empty side carries nothing.
    both = ((row.sum(1) > 0) & (col.sum(1) > 0)).to(dtype).unsqueeze(1)
    row, col = row * both, col * both
    cell = (row > 0).unsqueeze(2) & (col > 0).unsqueeze(1)
    row_bin = col_bin = None
    if marginals == 'partial':
        wide = (row.sum(1) >= col.sum(1)).view(-1, 1, 1)
        same = (row.sum(1) == col.sum(1)).view(-1, 1, 1)
        free = torch.zeros_like(wide, dtype=dtype)
        if unmatched is None:
            closed = torch.full_like(free, _NEVER)
            row_bin = torch.where(wide & ~same, free, closed)
            col_bin = torch.where(wide, closed, free)
        else:
            paid = torch.as_tensor(unmatched, dtype=dtype, device=cost.device)
            paid = (paid / -epsilon).reshape(-1, 1, 1).expand_as(free)
            row_bin = torch.where(wide, free, paid)
            col_bin = torch.where(wide, paid, free)
    return _Masses(row.unsqueeze(2), col.unsqueeze(1), cell, row_bin, col_bin,
                   marginals == 'semi_relaxed')


def _scale(
    logit: Tensor,
    masses: _Masses,
    num_iters: int,
    tol: float = 0.,
    start: OptTensor = None,
) -> tuple[Tensor, OptTensor]:
    r"""Scales :math:`\exp(\mathrm{logit})` to its masses: rows first, columns
    last. Gives the plan and the logarithm of the row scales, where the next
    call may start.
    """
    logit = torch.where(masses.cell, logit, _NEVER)
    # A shift of a column is undone by its scale.
    shift = logit.amax(1, keepdim=True)
    logit = torch.where(masses.cell, logit - shift, _NEVER)
    if masses.free_rows:
        kernel = logit.exp()
        total = kernel.sum(1, keepdim=True).clamp(min=1e-30)
        return kernel * (masses.col / total), None
    lowest = torch.where(masses.cell, logit.detach(), 0.).amin()
    if bool(lowest > -_LINEAR_RANGE) and (
            start is None or bool(start.abs().amax() < _LINEAR_RANGE)):
        return _scale_linear(logit, shift, masses, num_iters, tol, start)
    return _scale_log(logit, shift, masses, num_iters, tol, start)


def _ipot_linear(
    kernel: Tensor,
    masses: _Masses,
    num_iters: int,
    num_inner: int,
) -> Tensor:
    r"""Proximal steps on plain numbers, twice as fast as on their logarithms.
    A plan spreads as far as the kernels of all steps together: double has the
    room.
    """
    p, q = masses.row.double(), masses.col.transpose(1, 2).double()
    tiny = torch.finfo(p.dtype).tiny
    plan, v = masses.cell.double(), torch.ones_like(q)
    for _ in range(num_iters):
        step = kernel * plan
        back = step.transpose(1, 2)
        for _ in range(num_inner):
            u = p / (step @ v + tiny)
            v = q / (back @ u + tiny)
        plan = step * u * v.transpose(1, 2)
    return plan


def _scale_linear(
    logit: Tensor,
    shift: Tensor,
    masses: _Masses,
    num_iters: int,
    tol: float,
    start: OptTensor,
) -> tuple[Tensor, Tensor]:
    p, q = masses.row, masses.col
    tiny = torch.finfo(p.dtype).tiny
    kernel = logit.exp()
    back = kernel.transpose(1, 2)
    q = q.transpose(1, 2)
    row_bin: Tensor | float = tiny
    col_bin: Tensor | float = tiny
    if masses.row_bin is not None and masses.col_bin is not None:
        row_bin = masses.row_bin.exp() + tiny
        col_bin = (masses.col_bin - shift).clamp(max=_LINEAR_RANGE).exp()
        col_bin = col_bin.transpose(1, 2) + tiny
    if start is None:
        v = torch.ones_like(q)
    else:
        v = q / (back @ start.exp() + col_bin)
    active: OptTensor = None
    u = p
    for step in range(num_iters):
        if active is None:
            u = p / (kernel @ v + row_bin)
            v = q / (back @ u + col_bin)
        else:
            u = torch.where(active, p / (kernel @ v + row_bin), u)
            v = torch.where(active, q / (back @ u + col_bin), v)
        if tol > 0 and step % 5 == 4:
            error = (u * (kernel @ v + row_bin) - p).detach().abs().amax(
                (1, 2), keepdim=True)
            active = error > tol * _mean_mass(masses)
            if not bool(active.any()):
                break
    plan = kernel * u * v.transpose(1, 2)
    return plan, torch.where(p > 0, u, 1).log()


def _scale_log(
    logit: Tensor,
    shift: Tensor,
    masses: _Masses,
    num_iters: int,
    tol: float,
    start: OptTensor,
) -> tuple[Tensor, Tensor]:
    log_p, log_q = masses.row.log(), masses.col.log()
    row_bin, col_bin = masses.row_bin, masses.col_bin
    if col_bin is not None:
        col_bin = col_bin - shift

    def rows(g: Tensor) -> Tensor:
        total = _lse(logit + g, 2)
        if row_bin is not None:
            total = torch.logaddexp(total, row_bin.expand_as(total))
        return _finite(log_p - total)

    def cols(f: Tensor) -> Tensor:
        total = _lse(logit + f, 1)
        if col_bin is not None:
            total = torch.logaddexp(total, col_bin.expand_as(total))
        return _finite(log_q - total)

    g = torch.zeros_like(log_q) if start is None else cols(start)
    f = torch.zeros_like(log_p)
    active: OptTensor = None
    for step in range(num_iters):
        if active is None:
            f = rows(g)
            g = cols(f)
        else:
            f = torch.where(active, rows(g), f)
            g = torch.where(active, cols(f), g)
        if tol > 0 and step % 5 == 4:
            change = (f - rows(g)).detach().exp() - 1
            error = (change * masses.row).abs().amax((1, 2), keepdim=True)
            active = error > tol * _mean_mass(masses)
            if not bool(active.any()):
                break
    plan = torch.where(masses.cell, logit + f + g, _NEVER).exp()
    return plan, f


def _mean_mass(masses: _Masses) -> Tensor:
    count = (masses.row > 0).sum(1, keepdim=True).clamp(min=1)
    return masses.row.sum(1, keepdim=True) / count


def _round(plan: Tensor, masses: _Masses) -> Tensor:
    r"""The nearest feasible plan, nearly: too heavy rows, then columns are
    scaled down, and what is missing is added as a matrix of rank one.
    """
    if masses.free_rows:
        return plan
    tiny = torch.finfo(plan.dtype).tiny
    p, q = masses.row, masses.col
    plan = plan * (p / plan.sum(2, keepdim=True).clamp(min=tiny)).clamp(max=1)
    plan = plan * (q / plan.sum(1, keepdim=True).clamp(min=tiny)).clamp(max=1)
    row = (p - plan.sum(2, keepdim=True)).clamp(min=0)
    col = (q - plan.sum(1, keepdim=True)).clamp(min=0)
    if masses.row_bin is not None and masses.col_bin is not None:
        # A side with an open bin may keep what it misses.
        closed = (masses.row_bin == _NEVER) | (masses.col_bin == _NEVER)
        row = row * closed
    total = torch.maximum(row.sum(1, keepdim=True), col.sum(2, keepdim=True))
    return plan + row * (col / total.clamp(min=tiny))


def _lse(x: Tensor, dim: int) -> Tensor:
    """Stays finite, and so does its gradient, where nothing is real."""
    return x.logsumexp(dim, keepdim=True)


def _finite(x: Tensor) -> Tensor:
    """Scales of padded rows and columns are one."""
    return torch.where(x.abs() < -_NEVER / 2, x, 0.)


def _widen(x: Tensor) -> Tensor:
    return x if x.dtype == torch.double else x.float()
