import numpy as np
import torch
from torch import Tensor

from mmgraph.data.view import GraphView, ptr_from_sizes
from mmgraph.nn.align.base import (
    Aligner,
    Alignment,
    expand,
    lexsort,
    ragged_pairs,
    select_topk,
)
from mmgraph.nn.align.sparse import adjacency
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least

__all__ = ['DegreeAligner']


class DegreeAligner(Aligner):
    r"""Aligns nodes of similar degree: the floor that every table of results
    needs.

    .. math::
        a_{ij} = \frac{\min(d_i, d_j)}{\max(d_i, d_j)} =
        1 - \frac{|d_i - d_j|}{\max(d_i, d_j)},

    one for two isolated nodes. It is the prior that `"Comprehensive
    Evaluation of Algorithms for Unrestricted Graph Alignment"
    <https://github.com/constantinosskitsas/Framework_GraphAlignment>`_ (EDBT
    2023) gives to :class:`~mmgraph.nn.align.IsoRankAligner`. Edges count as
    undirected and once, self loops not at all.

    Args:
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many matches a result may hold.
            (default: :obj:`268435456`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass,
            the result is larger than :obj:`max_entries`.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes
    * **target:** :math:`B` graphs of :math:`m_b` nodes
    * **output:** scores in :math:`[0, 1]`, in the data type of floating-point
      :obj:`x` of the source, else single precision

    Complexity: :math:`O(n \log n + |\mathcal{E}| + n k)` with :obj:`top_k`
    :math:`= k`: targets are sorted by degree, and the best of a source node
    are next to its own degree, the same for all nodes of this degree.
    :math:`O(n_b m_b)` without.

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])       # 0 - 1 - 2
        >>> aligner = DegreeAligner(top_k=1)
        >>> out = aligner(GraphView.single(path, 3), GraphView.single(path, 3))
        >>> out.match_index
        tensor([[0, 1, 2],
                [0, 1, 0]])
    """
    reads_features = False

    def __init__(
        self,
        top_k: int | None = None,
        max_entries: int = 2**28,
    ) -> None:
        super().__init__()
        check_at_least(1, top_k=top_k, max_entries=max_entries)
        self.top_k = top_k
        self.max_entries = max_entries

    @torch.no_grad()
    def forward(
        self,
        source: GraphView,
        target: GraphView,
        *,
        seeds: OptTensor = None,
        generator: torch.Generator | None = None,
    ) -> Alignment:
        self.check(source, target, seeds)
        kept = target.sizes
        if self.top_k is not None:
            kept = kept.clamp(max=self.top_k)
        total = int((source.sizes * kept).sum())
        if total > self.max_entries:
            raise ValueError(
                f"'max_entries' must cover the {total} matches of the result "
                f"(got {self.max_entries}); set 'top_k' to keep the best")
        degree_s, degree_t = node_degree(source), node_degree(target)
        if torch.equal(kept, target.sizes):
            index = ragged_pairs(source.ptr, target.ptr)
        else:
            index = self._nearest(source, target, degree_s, degree_t, kept)
        score = degree_ratio(degree_s[index[0]], degree_t[index[1]])
        dtype = torch.float
        if source.x is not None and source.x.is_floating_point():
            dtype = source.x.dtype
        return Alignment(index, score.to(dtype), source.ptr, target.ptr)

    def _nearest(
        self,
        source: GraphView,
        target: GraphView,
        degree_s: Tensor,
        degree_t: Tensor,
        kept: Tensor,
    ) -> Tensor:
        r"""The best targets of each degree that occurs, then of each node."""
        assert self.top_k is not None
        stride = int(torch.cat([degree_s, degree_t]).max()) + 2
        level, which = torch.unique(source.batch * stride + degree_s,
                                    return_inverse=True)
        graph = level.div(stride, rounding_mode='floor')
        degree = level - graph * stride
        rows, cols = [], []
        # Upwards from the degree itself, and downwards from the next lower
        # one: the first k of either side hold the best k, ties included. All
        # nodes with an edge are equally far from an isolated one.
        isolated = (degree == 0).long()
        for key, low, high in (
            (degree_t, degree, torch.where(degree == 0, 1, stride)),
            (stride - 1 - degree_t, stride - degree, stride),
            ((degree_t == 0).long(), 0, isolated),
        ):
            key = target.batch * stride + key
            order = torch.argsort(key, stable=True)
            key = key[order]
            first = torch.searchsorted(key, graph * stride + low)
            last = torch.searchsorted(key, graph * stride + high)
            row, place = expand((last - first).clamp(max=self.top_k), first)
            rows.append(row)
            cols.append(order[place])
        row, col = torch.cat(rows), torch.cat(cols)
        keep, _ = select_topk(row, col, degree_ratio(degree[row],
                                                     degree_t[col]),
                              self.top_k, 'first', level.numel())
        row, col = row[keep], col[keep]
        best = col[lexsort(col, row)]
        start = ptr_from_sizes(kept[graph])[:-1]
        row, place = expand(kept[source.batch], start[which])
        return torch.stack([row, best[place]])

    def extra_repr(self) -> str:
        return '' if self.top_k is None else f'top_k={self.top_k}'


def node_degree(view: GraphView) -> Tensor:
    r"""The number of neighbours of each node, :obj:`[N]`."""
    degree = np.diff(adjacency(view).indptr).astype(np.int64)
    return torch.from_numpy(degree).to(view.batch.device)


def degree_ratio(one: Tensor, other: Tensor) -> Tensor:
    r"""The lower over the higher of two degrees, one for two zeros."""
    high = torch.maximum(one, other)
    ratio = torch.minimum(one, other).double() / high.clamp(min=1)
    return ratio.masked_fill_(high == 0, 1)
