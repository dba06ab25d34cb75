import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.nn.align.cone import fix_seeds, flat_permutation, soft_permutation
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.sparse import adjacency, padded, sandwich
from mmgraph.utils import check_at_least, check_positive

__all__ = ['FugalAligner']


class FugalAligner(DenseAligner):
    r"""Quadratic assignment with structural node features, from `"FUGAL:
    Feature-fortified Unrestricted Graph Alignment"
    <https://openreview.net/forum?id=SdLOs1FR4h>`_ (NeurIPS 2024, Section 3).

    Stage :math:`\lambda = 0, 1, \ldots, 14` takes ten Frank-Wolfe steps on

    .. math::
        \min_{\mathbf{P}} \; -\mathrm{tr}(\mathbf{A} \mathbf{P}
        \mathbf{B}^{\top} \mathbf{P}^{\top}) + \mu \langle \mathbf{D},
        \mathbf{P} \rangle + \lambda \langle \mathbf{P}, \mathbf{1} -
        \mathbf{P} \rangle

    over doubly stochastic matrices, from where the last stage ended. The
    oracle of a step is Sinkhorn's algorithm with entropic weight one, the
    :math:`t`-th step has size :math:`2 / (t + 2)`, and the growing
    :math:`\lambda` drives :math:`\mathbf{P}` to a permutation, the entries of
    which are the scores. :math:`\mathbf{D}` is the Euclidean distance of
    :meth:`node_features`.

    .. note::
        We differ from the published code in that

        * each of its 150 oracle calls takes 500 iterations, because the
          stopping rule it names is never looked at. Here the row sums decide,
          a call starts from the solution of the last one, and a stage ends
          once a step has nothing left to move. Permutations come out the
          same up to a few nodes, in a small fraction of the time;
        * products with adjacency matrices are sparse;
        * graphs may differ in size: there, isolated nodes are added to the
          smaller one. Here one row or column stands for all of them, so that
          no rounding error sets them apart;
        * factors of Sinkhorn's algorithm are taken into the exponent before
          they overflow, which there ends the call;
        * known matches are kept fixed in :math:`\mathbf{P}`.

    .. note::
        Nodes that are interchangeable in exact arithmetic (leaves of one hub)
        are set apart by rounding errors in the later stages, which reward
        decisions; which of them gets which partner depends on their order.
        Otherwise the result is equivariant to the order of nodes.

    Edges count as undirected and once, self loops not at all.

    Args:
        mu (float): Weight :math:`\mu` of features. (default: :obj:`1.0`)
        num_stages (int): Stages. (default: :obj:`15`)
        num_steps (int): Steps of a stage, at most. (default: :obj:`10`)
        reg (float): Entropic weight. (default: :obj:`1.0`)
        step_tol (float): A stage ends after a step whose oracle would move no
            more than this share of mass. (default: :obj:`1e-3`)
        tol (float): Sinkhorn's algorithm stops where no row sum is off one
            by more. (default: :obj:`1e-2`)
        max_iters (int): At most so many iterations of Sinkhorn's algorithm.
            (default: :obj:`500`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries`.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; features are not read
    * **target:** :math:`B` graphs of :math:`m_b` nodes
    * **output:** scores in :math:`[0, 1]`; the scores of a node of the
      smaller graph sum to one (within :obj:`tol`), those of the larger graph
      to one at most

    Complexity: :math:`O(n |\mathcal{E}| + n^2 T)` for each of at most
    :obj:`num_stages * num_steps` steps with :math:`T` iterations of
    Sinkhorn's algorithm and :math:`n = \max(n_b, m_b)`, by SciPy's sparse
    products; memory :math:`O(n^2)`.

    Example:
        >>> path = torch.tensor([[0, 1, 2, 1], [1, 2, 3, 3]])
        >>> view = GraphView.single(path, 4)        # a triangle with a tail
        >>> aligner = FugalAligner()
        >>> aligner(view, view).match('argmax').match_index[1, :2]
        tensor([0, 1])
    """
    takes_seeds = True

    def __init__(
        self,
        mu: float = 1.0,
        num_stages: int = 15,
        num_steps: int = 10,
        reg: float = 1.0,
        step_tol: float = 1e-3,
        tol: float = 1e-2,
        max_iters: int = 500,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__(top_k, max_entries)
        for name, value in (('mu', mu), ('step_tol', step_tol)):
            if not value >= 0:
                raise ValueError(f"'{name}' must not be negative "
                                 f"(got {value})")
        check_at_least(1, num_stages=num_stages, num_steps=num_steps,
                       max_iters=max_iters)
        check_positive(reg=reg, tol=tol)
        self.mu = mu
        self.num_stages = num_stages
        self.num_steps = num_steps
        self.reg = reg
        self.step_tol = step_tol
        self.tol = tol
        self.max_iters = max_iters

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        n, m = source.num_nodes, target.num_nodes
        seeds = seeds.cpu()
        plan, dual = flat_permutation(n, m, seeds), None
        # One more node, isolated, stands for all that the smaller graph lacks.
        x_s = F.pad(self.node_features(source), (0, 0, 0, plan.size(0) - n))
        x_t = F.pad(self.node_features(target), (0, 0, 0, plan.size(1) - m))
        a = padded(adjacency(source), plan.size(0))
        b = padded(adjacency(target), plan.size(1))
        # Differences, not products: equal features are at distance zero.
        distance = torch.cdist(
            x_s, x_t, compute_mode='donot_use_mm_for_euclid_dist')
        for stage in range(self.num_stages):
            for step in range(self.num_steps):
                gain = sandwich(a, plan, b).add_(plan, alpha=stage).mul_(2)
                gain.sub_(distance, alpha=self.mu)
                best, dual = soft_permutation(
                    fix_seeds(gain.div_(self.reg), seeds), n, m,
                    tol=self.tol, max_iters=self.max_iters, log_column=dual)
                best -= plan
                plan.add_(best, alpha=2 / (step + 3))
                moved = best.abs_().sum() / max(n, m)
                if float(moved) <= 2 * self.step_tol:
                    break
        return plan[:n, :m].to(source.batch.device)

    def node_features(self, view: GraphView) -> Tensor:
        r"""What a node looks like: its degree, its clustering coefficient,
        and the means of both over its neighbors; zeros where there is none.

        Args:
            view (GraphView): One graph of :math:`n` nodes.

        Returns:
            torch.Tensor: Features :obj:`[n, 4]`.
        """
        a = adjacency(view)
        degree = np.diff(a.indptr).astype(np.float64)
        paths = degree * (degree - 1)
        closed = np.asarray((a @ a).multiply(a).sum(axis=1)).reshape(-1)
        own = np.stack([degree, closed / np.maximum(paths, 1)], axis=1)
        mean = (a @ own) / np.maximum(degree, 1)[:, None]
        return torch.from_numpy(np.concatenate([own, mean], axis=1))

    def extra_repr(self) -> str:
        return f'mu={self.mu}, num_stages={self.num_stages}, reg={self.reg}'
