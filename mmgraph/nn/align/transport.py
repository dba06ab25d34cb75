from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.base import Aligner, Alignment, features_of
from mmgraph.nn.align.functional.transport import (
    MARGINALS,
    Marginals,
    Solver,
    ipot,
    round_plan,
    sinkhorn,
)
from mmgraph.nn.ragged import pad_rows
from mmgraph.typing import OptTensor
from mmgraph.utils import check_choice, check_positive

__all__ = ['Transport', 'TransportAligner']

NodeCost: TypeAlias = Literal['cosine', 'euclidean']
Grad: TypeAlias = Literal['envelope', 'unroll']

#: A cost counts for no more than this many temperatures above the best of its
#: target node: no feature forbids a match, and nothing underflows.
_LARGEST = 30.
#: Temperatures are at least this share of a pair's mean cost.
_COLDEST = 1e-3
_TINY = 1e-12
#: Standard deviation of a normal variable over its median absolute one.
_NORMAL = 1.4826


class Transport(NamedTuple):
    r"""What transport makes of a batch of pairs, padded.

    Args:
        plan (torch.Tensor): :obj:`[B, N_s, N_t]`, zero on padding.
        wd (torch.Tensor): What the plan costs on nodes, :obj:`[B]`, as a mean
            over its mass; zero for pairs with an empty side.
        gwd (torch.Tensor): What it costs on edges, :obj:`[B]`, likewise.
        loss (torch.Tensor): The mean of :math:`\alpha\,\mathrm{wd} +
            (1 - \alpha)\,\mathrm{gwd}` over the pairs that have nodes on both
            sides, a scalar.
    """
    plan: Tensor
    wd: Tensor
    gwd: Tensor
    loss: Tensor


class TransportAligner(Aligner):
    r"""Optimal transport between node features, pair by pair

    .. math::
        \min_{\mathbf{T}} \langle \mathbf{C}, \mathbf{T} \rangle, \quad
        C_{ij} = 1 - \cos(\mathbf{x}^s_i, \mathbf{x}^t_j)

    by :func:`~mmgraph.nn.align.functional.sinkhorn` or
    :func:`~mmgraph.nn.align.functional.ipot` (`"Graph Optimal Transport for
    Cross-Domain Alignment" <https://arxiv.org/abs/2006.14744>`_, Section 3.1),
    with masses on real nodes only.

    A word has an object or it has none, and two words do not share one: so
    the default is a :obj:`'partial'` plan, in which each node of the smaller
    side is matched, each node of the larger side at most once, and a score is
    the probability of a match. What a row of such a plan lacks to one is the
    probability that the node has no partner.

    **Temperature.** Sinkhorn compares costs to a temperature :math:`\tau`.
    By default it is that of Gaussian noise on the features, estimated pair by
    pair (and detached) from the best cost :math:`c_j = \min_i C_{ij}` of each
    target node: if noise fills :math:`d` dimensions, :math:`c_j` has mean
    :math:`d \tau / 2` and variance :math:`d \tau^2 / 2`, hence

    .. math::
        \tau = \max\left(\frac{\mathrm{var}(c)}{\mathrm{mean}(c)},
        \frac{2\,\mathrm{mean}(c)}{F}\right)

    with :math:`F` features, which bound :math:`d`. (With :obj:`unmatched`,
    median and median absolute deviation take the place of mean and variance.)
    Costs are cut off at :math:`30\,\tau` above the best one.

    Args:
        source_channels (int, optional): Size of each source feature, for the
            learned map. (default: :obj:`None`)
        target_channels (int, optional): Size of each target feature.
            (default: :obj:`None`)
        hidden_channels (int, optional): Maps both sides to this size by a
            linear map each; without it features are compared as they are and
            must be of one size. (default: :obj:`None`)
        cost (str): :obj:`'cosine'` distance, or squared :obj:`'euclidean'`
            distance. (default: :obj:`'cosine'`)
        solver (str): :obj:`'sinkhorn'`, or :obj:`'ipot'`, which tends to a
            plan without blur and is balanced only. (default:
            :obj:`'sinkhorn'`)
        marginals (str): :obj:`'partial'`; :obj:`'semi_relaxed'`: target nodes
            keep their mass, source nodes take what comes; or
            :obj:`'balanced'`: every node has the same mass and must be
            matched. (default: :obj:`'partial'`)
        unmatched (float, optional): Lets nodes of both sides stay unmatched
            at the cost of a match this many standard deviations of
            :math:`c` worse than its mean, for :obj:`'partial'` only; without
            it the smaller side is matched wholly. (default: :obj:`None`)
        temperature (float, optional): A fixed :math:`\tau`, in units of the
            cost. (default: :obj:`None`)
        beta (float): Step size of IPOT. (default: :obj:`0.5`)
        num_iters (int): Scalings. (default: :obj:`50`)
        cut (float): Cuts costs below: :math:`C \leftarrow \max(C - \theta,
            0)` with :math:`\theta` this share of the way from the least to
            the largest cost of the pair (detached). (default: :obj:`0.0`)
        grad (str): :obj:`'envelope'`: the plan is a constant in the loss,
            whose gradient is then that of the optimal value (exact for an
            exact plan), and scores have the gradient of the last scaling of
            columns; or :obj:`'unroll'`: through all iterations.
            (default: :obj:`'envelope'`)

    Raises:
        ValueError: If an argument is out of range.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs, :obj:`x` of shape
      :math:`(\sum_b n_b, C_s)`
    * **target:** :math:`B` graphs, :obj:`x` of shape
      :math:`(\sum_b m_b, C_t)`
    * **output:** all :math:`\sum_b n_b m_b` pairs; scores in :math:`[0, 1]`;
      :obj:`loss` is :math:`\langle \mathbf{C}, \mathbf{T} \rangle /
      \sum_{ij} T_{ij}`, averaged over pairs

    Complexity: :math:`O(B N_s N_t)` an iteration, for the largest sizes.

    Example:
        >>> words = GraphView.single(torch.empty(2, 0, dtype=torch.long), 3,
        ...                          x=torch.eye(3))
        >>> objects = GraphView.single(torch.empty(2, 0, dtype=torch.long), 2,
        ...                            x=torch.eye(3)[1:] + .01)
        >>> TransportAligner()(words, objects).match('argmax').match_index
        tensor([[0, 1, 2],
                [0, 0, 1]])
    """
    def __init__(
        self,
        source_channels: int | None = None,
        target_channels: int | None = None,
        hidden_channels: int | None = None,
        cost: NodeCost = 'cosine',
        solver: Solver = 'sinkhorn',
        marginals: Marginals = 'partial',
        unmatched: float | None = None,
        temperature: float | None = None,
        beta: float = 0.5,
        num_iters: int = 50,
        cut: float = 0.0,
        grad: Grad = 'envelope',
    ) -> None:
        super().__init__()
        for name, choice, choices in (
            ('cost', cost, ('cosine', 'euclidean')),
            ('solver', solver, ('ipot', 'sinkhorn')),
            ('marginals', marginals, MARGINALS),
            ('grad', grad, ('envelope', 'unroll')),
        ):
            check_choice(name, choice, choices)
        check_positive(hidden_channels=hidden_channels,
                       temperature=temperature, beta=beta,
                       num_iters=num_iters)
        if not 0 <= cut < 1:
            raise ValueError(f"'cut' must be in [0, 1) (got {cut})")
        if solver == 'ipot' and marginals != 'balanced':
            raise ValueError(f"'marginals' must be 'balanced' for 'ipot' "
                             f'(got {marginals!r})')
        if unmatched is not None and marginals != 'partial':
            raise ValueError(f"'unmatched' is for 'partial' marginals only "
                             f'(got {marginals!r})')
        self.cost = cost
        self.solver = solver
        self.marginals = marginals
        self.unmatched = unmatched
        self.temperature = temperature
        self.beta = beta
        self.num_iters = num_iters
        self.cut = cut
        self.grad = grad
        self.hidden_channels = hidden_channels
        self.lin_source: nn.Linear | None = None
        self.lin_target: nn.Linear | None = None
        if hidden_channels is not None:
            if source_channels is None or target_channels is None:
                raise ValueError("'hidden_channels' needs 'source_channels' "
                                 "and 'target_channels'")
            self.lin_source = nn.Linear(source_channels, hidden_channels,
                                        bias=False)
            self.lin_target = nn.Linear(target_channels, hidden_channels,
                                        bias=False)

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        for lin in (self.lin_source, self.lin_target):
            if lin is not None:
                lin.reset_parameters()

    def forward(
        self,
        source: GraphView,
        target: GraphView,
        *,
        seeds: OptTensor = None,
        generator: torch.Generator | None = None,
    ) -> Alignment:
        self.check(source, target, seeds)
        out = self.transport(source, target)
        dtype = torch.float
        if source.x is not None and source.x.is_floating_point():
            dtype = source.x.dtype
        return Alignment.from_dense(out.plan.to(dtype), source, target,
                                    loss=out.loss)

    def transport(self, source: GraphView, target: GraphView) -> Transport:
        r"""The plans with their costs, pair by pair."""
        masks = node_mask(source), node_mask(target)
        cost = self.node_cost(source, target)
        plan, logit = self.node_plan(cost, *masks, self.num_features(source))
        wd = mean_cost(plan, cost)
        loss = mean_over_pairs(wd, *masks)
        if self.grad == 'envelope':
            plan = last_scaling(plan, logit)
        return Transport(plan, wd, torch.zeros_like(wd), loss)

    def node_features(
        self,
        source: GraphView,
        target: GraphView,
    ) -> tuple[Tensor, Tensor]:
        r"""The features that are compared, padded, in float32 at least."""
        out = []
        x_s, x_t = features_of(source, target)
        for name, x, view, lin in (('source', x_s, source, self.lin_source),
                                   ('target', x_t, target, self.lin_target)):
            if lin is not None:
                if x.size(-1) != lin.in_features:
                    need = view.num_nodes, lin.in_features
                    raise ShapeError(f"'{name}.x' must have shape "
                                     f'{list(need)} (got {list(x.shape)})',
                                     need, x.shape)
                x = lin(x)
            x = x if x.dtype == torch.double else x.float()
            out.append(pad_rows(x, view.batch, view.ptr)[0])
        if out[0].size(2) != out[1].size(2):
            raise ShapeError(
                f"'source.x' and 'target.x' must have as many channels (got "
                f'{out[0].size(2)} and {out[1].size(2)}); '
                f"'hidden_channels' maps them to one size")
        return out[0], out[1]

    def num_features(self, source: GraphView) -> int:
        r"""Size of the features that are compared."""
        if self.hidden_channels is not None:
            return self.hidden_channels
        return 1 if source.x is None else source.x.size(-1)

    def node_cost(self, source: GraphView, target: GraphView) -> Tensor:
        r"""The costs :math:`\mathbf{C}`, :obj:`[B, N_s, N_t]`, zero on
        padding.
        """
        x, y = self.node_features(source, target)
        cell = node_mask(source).unsqueeze(2) & node_mask(target).unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            return cut_off(distance(x, y, self.cost), cell, self.cut)

    def node_plan(
        self,
        cost: Tensor,
        row_mask: Tensor,
        col_mask: Tensor,
        num_features: int,
    ) -> tuple[Tensor, Tensor]:
        r"""The plan of node costs alone, and the logits it comes from."""
        masks: dict[str, Any] = dict(row_mask=row_mask, col_mask=col_mask)
        if self.solver == 'ipot':
            plan = ipot(self.constant(cost), beta=self.beta,
                        num_iters=self.num_iters, **masks)
            return round_plan(plan, **masks), cost / -self.beta
        scaled, unmatched = self.scaled_cost(cost, row_mask, col_mask,
                                             num_features)
        plan = sinkhorn(self.constant(scaled), epsilon=1,
                        num_iters=self.num_iters, marginals=self.marginals,
                        unmatched=unmatched, **masks)
        return plan, -scaled

    def constant(self, value: Tensor) -> Tensor:
        r"""What the solver sees: no gradient unless it is unrolled."""
        return value if self.grad == 'unroll' else value.detach()

    def scaled_cost(
        self,
        cost: Tensor,
        row_mask: Tensor,
        col_mask: Tensor,
        num_features: int,
    ) -> tuple[Tensor, float | None]:
        r"""Costs in units of the temperature, cut off above, and the cost of
        staying unmatched, which is then where they are measured from.
        """
        if cost.numel() == 0:
            return cost, None
        cell = row_mask.unsqueeze(2) & col_mask.unsqueeze(1)
        with torch.no_grad():
            real = col_mask.unsqueeze(1) & cell.any(1, keepdim=True)
            count = real.sum(2, keepdim=True).clamp(min=1)
            best = torch.where(cell, cost, torch.inf).amin(1, keepdim=True)
            best = torch.where(real, best, 0.)
            if self.unmatched is None:
                mean = best.sum(2, keepdim=True) / count
                var = ((best - mean).square() * real).sum(2, keepdim=True)
                var = var / (count - 1).clamp(min=1)
            else:
                # Some have no match to measure: what is usual counts.
                mean = median(best, real, count)
                var = median((best - mean).abs(), real, count)
                var = (_NORMAL * var).square()
            tau = torch.maximum(var / mean.clamp(min=_TINY),
                                mean * (2 / num_features))
            all_mean = (cost * cell).sum((1, 2), keepdim=True)
            all_mean = all_mean / cell.sum((1, 2), keepdim=True).clamp(min=1)
            tau = torch.maximum(tau, _COLDEST * all_mean).clamp(min=_TINY)
            if self.temperature is not None:
                tau = torch.full_like(tau, self.temperature)
            limit = best + _LARGEST * tau
        cost = torch.minimum(cost, limit)
        if self.unmatched is None:
            return (cost - best) / tau, None
        worse = mean + self.unmatched * (mean * tau).sqrt()
        return (cost - worse) / tau, 0.

    def extra_repr(self) -> str:
        return f'solver={self.solver!r}, marginals={self.marginals!r}'


# Shared with the aligner that looks at edges ################################


def node_mask(view: GraphView) -> Tensor:
    r"""Which slots of a padded batch are real, :obj:`[B, N]`."""
    sizes = view.ptr[1:] - view.ptr[:-1]
    width = int(sizes.max()) if sizes.numel() > 0 else 0
    return torch.arange(width, device=sizes.device) < sizes.unsqueeze(1)


def distance(x: Tensor, y: Tensor, kind: NodeCost) -> Tensor:
    r"""Costs of all pairs of rows. Cosines are in :math:`[-1, 1]` and a zero
    row is at distance one of everything.
    """
    if kind == 'cosine':
        x = x / x.norm(dim=2, keepdim=True).clamp(min=1e-8)
        y = y / y.norm(dim=2, keepdim=True).clamp(min=1e-8)
        return 1 - (x @ y.transpose(1, 2)).clamp(-1, 1)
    square = (x.square().sum(2).unsqueeze(2) + y.square().sum(2).unsqueeze(1)
              - 2 * x @ y.transpose(1, 2))
    return square.clamp(min=0)


def cut_off(cost: Tensor, cell: Tensor, share: float) -> Tensor:
    r"""Costs less a share of their range, not below zero; zero on padding."""
    if share > 0 and cost.numel() > 0:
        with torch.no_grad():
            low = torch.where(cell, cost, torch.inf).amin((1, 2), keepdim=True)
            high = torch.where(cell, cost, -torch.inf).amax((1, 2),
                                                            keepdim=True)
            theta = low + share * (high - low)
        cost = (cost - theta).relu()
    return torch.where(cell, cost, 0.)


def median(value: Tensor, real: Tensor, count: Tensor) -> Tensor:
    r"""The lower median over the last axis of what is real."""
    order = torch.where(real, value, torch.inf).sort(dim=2).values
    middle = order.gather(2, (count - 1).div(2, rounding_mode='floor'))
    return torch.where(torch.isfinite(middle), middle, 0.)


def mean_cost(plan: Tensor, cost: Tensor) -> Tensor:
    r"""What a unit of mass pays, :obj:`[B]`; zero where there is none."""
    mass = plan.sum((1, 2))
    return (plan * cost).sum((1, 2)) / mass.clamp(min=_TINY)


def mean_over_pairs(value: Tensor, row: Tensor, col: Tensor) -> Tensor:
    r"""The mean over pairs with nodes on both sides, a scalar."""
    real = row.any(1) & col.any(1)
    return (value * real).sum() / real.sum().clamp(min=1)


def last_scaling(plan: Tensor, logit: Tensor) -> Tensor:
    r"""The same plan with the gradient that its last scaling of columns has in
    the logits, if they have one.
    """
    if not logit.requires_grad:
        return plan
    change = logit - logit.detach()
    column = plan.sum(1, keepdim=True).clamp(min=_TINY)
    return plan * (1 + change - (plan * change).sum(1, keepdim=True) / column)
