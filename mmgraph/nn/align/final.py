from typing import Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.attribute import feature_cosine
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.isorank import Prior, check_diffusion, prior_scores
from mmgraph.nn.align.sparse import sandwich
from mmgraph.utils import suggest

__all__ = ['FinalAligner']

EdgeAttributes: TypeAlias = Literal['attr', 'none', 'type']


class FinalAligner(DenseAligner):
    r"""IsoRank that asks whether the attributes of nodes and edges agree too,
    from `"FINAL: Fast Attributed Network Alignment"
    <https://doi.org/10.1145/2939672.2939766>`_ (KDD 2016), as coded by its
    authors: with :math:`\mathbf{s} = \mathrm{vec}(\mathbf{S})`,

    .. math::
        \mathbf{s} \leftarrow \alpha \mathbf{D}^{-\frac{1}{2}} \mathbf{N}
        \left( \mathbf{E} \odot (\mathbf{A}_s \otimes \mathbf{A}_t) \right)
        \mathbf{N} \mathbf{D}^{-\frac{1}{2}} \mathbf{s} + (1 - \alpha)
        \mathbf{h},

    where the diagonal matrix :math:`\mathbf{N}` holds the similarity of each
    pair of nodes, :math:`\mathbf{E}` that of each pair of edges, and
    :math:`\mathbf{D}` the row sums of the matrix between. With both this is
    FINAL-NE, with nodes alone FINAL-N, with edges alone FINAL-E, and with
    none of them IsoRank with symmetric normalisation.

    As in the authors' code similarities are cosines, so that one-hot rows
    stand for categories. Edges count as undirected and once (see
    :obj:`directed`), self loops not at all. The prior :math:`\mathbf{h}` is
    that of :class:`~mmgraph.nn.align.isorank.IsoRankAligner`; known matches
    enter there.

    .. note::
        We differ from the authors' code in that

        * node features may have any sign (negative cosines count as zero),
          and so may :obj:`edge_attr` (:math:`\mathbf{D}` then holds a bound
          of the row sums of absolute values). For non-negative attributes
          nothing changes, and else the iteration would diverge;
        * :obj:`tol` is relative. For a prior of sum one an absolute
          :math:`10^{-4}` ends the iteration of a large pair at its first
          step.

    Args:
        alpha (float): Weight of the diffusion, in :math:`[0, 1)`. The authors
            take 0.4, 0.5 or 0.82. (default: :obj:`0.82`)
        node_attributes (bool): Whether the features :obj:`x` of nodes have to
            agree; where neither graph has any, nothing is asked.
            (default: :obj:`True`)
        edge_attributes (str): What of the edges has to agree: :obj:`'type'`
            for :obj:`edge_type`, :obj:`'attr'` for :obj:`edge_attr`,
            :obj:`'none'`. (default: :obj:`'none'`)
        directed (bool): Whether only edges of the same direction agree.
            (default: :obj:`False`)
        prior (str): What :math:`\mathbf{h}` is made of: :obj:`'degree'`,
            :obj:`'attribute'` or :obj:`'uniform'`.
            (default: :obj:`'degree'`)
        num_iters (int): At most so many steps. (default: :obj:`50`)
        tol (float): Stops where a step changes the scores by no more than
            this share of their sum. (default: :obj:`1e-4`)
        double_precision (bool): Whether to work in double precision; single
            precision takes half the memory. (default: :obj:`True`)
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries` or attributes are missing.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; :obj:`x` of shape
      :obj:`[N, F]` or :obj:`None`; :obj:`edge_type` of shape :obj:`[E]` or
      :obj:`edge_attr` of shape :obj:`[E, D]` where asked for
    * **target:** :math:`B` graphs of :math:`m_b` nodes; likewise
    * **output:** scores of about :math:`1 / (n_b m_b)`, non-negative if
      :obj:`edge_attr` is

    Complexity: :math:`O(L (m_b |\mathcal{E}_s| + n_b |\mathcal{E}_t|))` a step
    for :math:`L` edge types or features, by SciPy's sparse products; memory
    :math:`O(n_b m_b)`.

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])           # 0 - 1 - 2
        >>> x = torch.tensor([[1., 0.], [0., 1.], [0., 1.]])
        >>> source = GraphView.single(path, 3, x=x)
        >>> target = GraphView.single(path, 3, x=x.flip(0))
        >>> FinalAligner()(source, target).match('lap').match_index[1]
        tensor([2, 1, 0])
    """
    takes_seeds = True

    def __init__(
        self,
        alpha: float = 0.82,
        node_attributes: bool = True,
        edge_attributes: EdgeAttributes = 'none',
        directed: bool = False,
        prior: Prior = 'degree',
        num_iters: int = 50,
        tol: float = 1e-4,
        double_precision: bool = True,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__(top_k, max_entries)
        check_diffusion(alpha, prior, num_iters, tol)
        choices = ('attr', 'none', 'type')
        if edge_attributes not in choices:
            raise ValueError(f"'edge_attributes' must say what of the edges "
                             f'agrees (got {edge_attributes!r}); '
                             f'{suggest(edge_attributes, choices)}')
        self.alpha = alpha
        self.node_attributes = node_attributes
        self.edge_attributes: EdgeAttributes = edge_attributes
        self.directed = directed
        self.prior: Prior = prior
        self.num_iters = num_iters
        self.tol = tol
        self.double_precision = double_precision
        self.reads_features = node_attributes or prior == 'attribute'

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        dtype = torch.double if self.double_precision else torch.float
        h = prior_scores(source, target, seeds, self.prior, dtype)
        features = (edge_features(source, self.edge_attributes),
                    edge_features(target, self.edge_attributes))
        size = max(feature.shape[1] for feature in features)
        if self.edge_attributes == 'attr' and any(
                feature.shape[1] < size for feature in features):
            raise ShapeError(
                f"'source.edge_attr' and 'target.edge_attr' must hold as many "
                f'features (got {features[0].shape[1]} and '
                f'{features[1].shape[1]})')
        channels = [
            edge_channels(view, feature, size, self.directed,
                          self.edge_attributes != 'attr', dtype)
            for view, feature in zip((source, target), features)]
        pairs = [(a, b) for a, b in zip(*channels) if a.nnz and b.nnz]

        def propagate(scores: Tensor) -> Tensor:
            out = torch.zeros_like(scores)
            for left, right in pairs:
                out += sandwich(left, scores, right)
            return out

        # q = N D^(-1/2), and D = N d with d as below: q = (N / d)^(1/2).
        if self.node_attributes and not (source.x is target.x is None):
            q = feature_cosine(source, target, dtype).clamp_(min=0).cpu()
        else:
            q = torch.ones_like(h)
        d = torch.zeros_like(q)
        for left, right in pairs:
            d += sandwich(abs(left), q, abs(right))
        q.div_(d).sqrt_().masked_fill_(d <= 0, 0)
        del d
        s = h.clone()
        h *= 1 - self.alpha
        for _ in range(self.num_iters):
            last, s = s, propagate(q * s)
            s.mul_(q).mul_(self.alpha).add_(h)
            if last.sub_(s).abs_().sum() <= self.tol * s.abs().sum():
                break
        return s.to(source.batch.device)

    def extra_repr(self) -> str:
        return (f'alpha={self.alpha}, node_attributes={self.node_attributes}, '
                f'edge_attributes={self.edge_attributes!r}')


def edge_features(view: GraphView, kind: EdgeAttributes) -> sp.csr_matrix:
    r"""The attributes of each edge as a sparse matrix :obj:`[E, L]`; those of
    edge types are one-hot.
    """
    num_edges = view.edge_index.size(1)
    if kind == 'attr':
        if view.edge_attr is None:
            raise ValueError("both views must hold 'edge_attr' (got None); "
                             "set 'edge_attributes' to what they hold")
        value = view.edge_attr.detach()
        if value.dim() != 2:
            value = value.view(num_edges, 1)
        if not bool(torch.isfinite(value).all()):
            raise ValueError("'edge_attr' must be finite")
        return sp.csr_matrix(value.cpu().double().numpy())
    column = np.zeros(num_edges, dtype=np.int64)
    if kind == 'type':
        if view.edge_type is None:
            raise ValueError("both views must hold 'edge_type' (got None); "
                             "set 'edge_attributes' to what they hold")
        column = view.edge_type.cpu().numpy()
    size = int(column.max()) + 1 if num_edges > 0 else 1
    return sp.csr_matrix(
        (np.ones(num_edges), column, np.arange(num_edges + 1)),
        shape=(num_edges, size))


def edge_channels(
    view: GraphView,
    feature: sp.csr_matrix,
    size: int,
    directed: bool,
    once: bool,
    dtype: torch.dtype,
) -> list[sp.csr_matrix]:
    r"""A matrix :obj:`[n, n]` for each attribute, such that the attributes of
    a pair of nodes have unit length: the published :math:`\mathbf{E}_l`. If
    edges are directed, each attribute has two matrices, one a direction.
    Edges that join the same nodes add up, or count :obj:`once`.
    """
    n = view.num_nodes
    row, col = view.edge_index.cpu().numpy()
    feature = feature.tocoo()
    kept = row[feature.row] != col[feature.row]
    place, channel = feature.row[kept], feature.col[kept].astype(np.int64)
    forth, back = row[place] * n + col[place], col[place] * n + row[place]
    pair, which = np.unique(np.concatenate([forth, back]),
                            return_inverse=True)
    both = np.concatenate([channel, channel + size * directed])
    size *= 1 + directed
    joined = sp.csr_matrix(
        (np.tile(feature.data[kept], 2), (which, both)),
        shape=(pair.size, size))
    if once:
        joined.data[:] = 1
    norm = np.sqrt(np.asarray(joined.multiply(joined).sum(1)).reshape(-1))
    joined.data /= np.repeat(np.where(norm > 0, norm, 1),
                             np.diff(joined.indptr))
    joined = joined.astype(str(dtype).removeprefix('torch.')).tocsc()
    joined.eliminate_zeros()
    out = []
    for low, high in zip(joined.indptr[:-1], joined.indptr[1:]):
        place = pair[joined.indices[low:high]]
        out.append(sp.csr_matrix((joined.data[low:high],
                                  (place // n, place % n)), shape=(n, n)))
    return out
