from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.nn.align.attribute import feature_cosine
from mmgraph.nn.align.degree import degree_ratio, node_degree
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.sparse import sandwich, walk
from mmgraph.utils import check_at_least, check_not_negative, suggest

__all__ = ['IsoRankAligner']

Prior: TypeAlias = Literal['attribute', 'degree', 'uniform']

_PRIORS = ('attribute', 'degree', 'uniform')


class IsoRankAligner(DenseAligner):
    r"""Two nodes are similar if their neighbours are, from `"Global Alignment
    of Multiple Protein Interaction Networks with Application to Functional
    Orthology Detection" <https://doi.org/10.1073/pnas.0806627105>`_ (PNAS
    2008; first in RECOMB 2007): the PageRank of the product graph,

    .. math::
        \mathbf{S} \leftarrow \alpha \mathbf{W}_s^{\top} \mathbf{S}
        \mathbf{W}_t + (1 - \alpha) \mathbf{H}, \qquad
        \mathbf{W} = \mathbf{D}^{-1} \mathbf{A},

    *i.e.* :math:`s_{ij} = \alpha \sum_{u \in \mathcal{N}(i)} \sum_{v \in
    \mathcal{N}(j)} s_{uv} / (d_u d_v) + (1 - \alpha) h_{ij}`. The prior
    :math:`\mathbf{H}` sums to one. Edges count as undirected and once, self
    loops not at all.

    Without known matches the prior is the ratio of degrees
    (:class:`~mmgraph.nn.align.degree.DegreeAligner`), the cosine of features
    with negative values set to zero, or uniform. Known matches take the rows
    and columns of their nodes for themselves, and their pairs have as much
    weight as all others together.

    .. note::
        Decide by :obj:`match('lap')`. The largest scores of nearly all nodes
        are in the columns of a few hubs, so that :obj:`'argmax'` finds almost
        nothing, and with a uniform prior the result is nearly of rank one.

    .. note::
        We differ from the code that comes with the EDBT 2023 comparison
        (:class:`~mmgraph.nn.align.degree.DegreeAligner`) in that the degree
        prior is dense. There it is cut to the :math:`\log_2 n` targets of
        nearest degree, which, with many nodes of the same degree, leaves out
        most right ones.

    Args:
        alpha (float): Weight of the diffusion, in :math:`[0, 1)`; the rest is
            the weight of the prior. (default: :obj:`0.9`)
        prior (str): What :math:`\mathbf{H}` is made of: :obj:`'degree'`,
            :obj:`'attribute'` or :obj:`'uniform'`.
            (default: :obj:`'degree'`)
        num_iters (int): At most so many steps. (default: :obj:`100`)
        tol (float): Stops where a step changes the scores by no more than
            this share of their sum. (default: :obj:`1e-6`)
        double_precision (bool): Whether to work in double precision; single
            precision takes half the memory. (default: :obj:`True`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries` or features are asked for
            and missing.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; :obj:`x` of shape
      :obj:`[N, F]` for :obj:`prior='attribute'`
    * **target:** :math:`B` graphs of :math:`m_b` nodes; likewise
    * **output:** scores in :math:`[0, 1]` whose sum over a pair is at most
      one, and one if no node is isolated

    Complexity: :math:`O(m_b |\mathcal{E}_s| + n_b |\mathcal{E}_t|)` a step,
    by SciPy's sparse products; memory :math:`O(n_b m_b)`.

    Example:
        >>> path = torch.tensor([[0, 1, 1], [1, 2, 3]])     # a star of 3 rays
        >>> view = GraphView.single(path, 4)
        >>> IsoRankAligner()(view, view).match('argmax').match_index[1]
        tensor([0, 1, 0, 0])
    """
    takes_seeds = True

    def __init__(
        self,
        alpha: float = 0.9,
        prior: Prior = 'degree',
        num_iters: int = 100,
        tol: float = 1e-6,
        double_precision: bool = True,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__(top_k, max_entries)
        check_diffusion(alpha, prior, num_iters, tol)
        self.alpha = alpha
        self.prior: Prior = prior
        self.num_iters = num_iters
        self.tol = tol
        self.double_precision = double_precision
        self.reads_features = prior == 'attribute'

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        dtype = torch.double if self.double_precision else torch.float
        h = prior_scores(source, target, seeds, self.prior, dtype)
        left, right = (walk(view, dtype).T.tocsr()
                       for view in (source, target))
        s = h.clone()
        h *= 1 - self.alpha
        for _ in range(self.num_iters):
            last, s = s, sandwich(left, s, right)
            s.mul_(self.alpha).add_(h)
            if last.sub_(s).abs_().sum() <= self.tol * s.sum():
                break
        return s.to(source.batch.device)

    def extra_repr(self) -> str:
        return f'alpha={self.alpha}, prior={self.prior!r}'


def check_diffusion(
    alpha: float,
    prior: str,
    num_iters: int,
    tol: float,
) -> None:
    r"""Refuses bad arguments of a diffusion of scores."""
    if not 0 <= alpha < 1:
        raise ValueError(f"'alpha' must be in [0, 1) (got {alpha})")
    if prior not in _PRIORS:
        raise ValueError(f"'prior' must name a prior (got {prior!r}); "
                         f'{suggest(prior, _PRIORS)}')
    check_at_least(1, num_iters=num_iters)
    check_not_negative(tol=tol)


def prior_scores(
    source: GraphView,
    target: GraphView,
    seeds: Tensor,
    prior: Prior,
    dtype: torch.dtype,
) -> Tensor:
    r"""The prior of a pair, on the CPU: non-negative, of sum one (zero if no
    pair has any).
    """
    if prior == 'attribute':
        h = feature_cosine(source, target, dtype).clamp_(min=0).cpu()
    elif prior == 'degree':
        h = degree_ratio(node_degree(source).cpu().unsqueeze(1),
                         node_degree(target).cpu()).to(dtype)
    else:
        h = torch.ones(source.num_nodes, target.num_nodes, dtype=dtype)
    if seeds.size(1) > 0:
        row, col = seeds.cpu()
        h[row] = 0
        h[:, col] = 0
        rest = h.sum()
        h[row, col] = rest / row.numel() if rest > 0 else 1
    return h.div_(h.sum().clamp_(min=torch.finfo(dtype).tiny))
