import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.utils import checks_enabled

__all__ = ['AttributeAligner']


class AttributeAligner(DenseAligner):
    r"""Aligns nodes by the cosine of their features and ignores edges:

    .. math::
        a_{ij} = \frac{\mathbf{x}_i^{\top} \mathbf{x}_j}
        {\lVert \mathbf{x}_i \rVert_2 \lVert \mathbf{x}_j \rVert_2}.

    A node whose features are all zero is one that nothing is known of: it
    scores zero everywhere. Categorical attributes are given as one-hot rows.
    What a structural method adds to this baseline is what its table should
    show.

    Args:
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass,
            features are missing, not finite, or of different sizes.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes with :obj:`x` of shape
      :obj:`[N, F]`
    * **target:** :math:`B` graphs of :math:`m_b` nodes with :obj:`x` of shape
      :obj:`[M, F]`
    * **output:** scores in :math:`[-1, 1]`

    Complexity: :math:`O(n_b m_b F)`

    Example:
        >>> none = torch.empty(2, 0, dtype=torch.long)
        >>> source = GraphView.single(none, 2, x=torch.tensor([[3., 0.],
        ...                                                    [1., 1.]]))
        >>> target = GraphView.single(none, 2, x=torch.tensor([[0., 2.],
        ...                                                    [5., 0.]]))
        >>> AttributeAligner()(source, target).dense()
        tensor([[[0.0000, 1.0000],
                 [0.7071, 0.7071]]])
    """
    reads_features = True

    def __init__(
        self,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__(top_k, max_entries)

    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        dtype = torch.float
        if source.x is not None and source.x.dtype == torch.double:
            dtype = source.x.dtype
        return feature_cosine(source, target, dtype)


def feature_cosine(
    source: GraphView,
    target: GraphView,
    dtype: torch.dtype,
) -> Tensor:
    r"""The cosine of the features of every pair of nodes, zero where either
    has none.

    Raises:
        ValueError: If features are missing or not finite.
        ShapeError: If they are of different sizes.
    """
    rows = []
    for name, view in (('source', source), ('target', target)):
        if view.x is None:
            raise ValueError(f"'{name}.x' must hold node features (got None)")
        x = view.x.reshape(view.num_nodes, -1).to(dtype)
        if checks_enabled() and not bool(torch.isfinite(x).all()):
            raise ValueError(f"'{name}.x' must be finite; rows of zeros stand "
                             f'for nodes without features')
        # The largest entry first, so that no square over- or underflows.
        x = x / _nonzero(x.abs().amax(1, keepdim=True)) if x.size(1) else x
        rows.append(x / _nonzero(x.norm(dim=1, keepdim=True)))
    if rows[0].size(1) != rows[1].size(1):
        raise ShapeError(
            f"'source.x' and 'target.x' must hold as many features (got "
            f'{rows[0].size(1)} and {rows[1].size(1)})')
    return (rows[0] @ rows[1].t()).clamp_(-1, 1)


def _nonzero(x: Tensor) -> Tensor:
    return x.masked_fill(x == 0, 1)
