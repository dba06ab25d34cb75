import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmgraph.data.view import GraphView, ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.nn.align.base import (
    TIE_TOLERANCE,
    Aligner,
    Alignment,
    check_topk,
    expand,
    nonzero,
    select_topk,
)
from mmgraph.nn.align.functional.structural import (
    check_histogram,
    histogram_and_degree,
    landmark_embedding,
    pieces,
    score_from_columns,
)
from mmgraph.typing import OptTensor, Ties

__all__ = ['StructuralAligner']

#: Pairs of embedding rows that are subtracted at once.
_GATHER_ROWS = 8192
#: Scores of small pairs that are worked on at once: few enough to stay in the
#: cache, and as many as PyTorch still leaves to one thread.
_PIECE = 32000


class StructuralAligner(Aligner):
    r"""Aligns nodes that play the same role in their graphs, without anchors,
    labels or training, from `"REGAL: Representation Learning-based Graph
    Alignment" <https://arxiv.org/abs/1802.06257>`_ (CIKM 2018), as used on a
    dependency tree and a scene graph by `"Multimodal Relation Extraction with
    Efficient Graph Alignment" <https://doi.org/10.1145/3474085.3476968>`_
    (ACM MM 2021, Eq. 12-13).

    A node is described by the degrees found at 0, 1, ..., :math:`K` hops
    (:meth:`~mmgraph.nn.align.functional.degree_histogram`); two nodes are
    compared through their similarity to :math:`p = \min(n, \lfloor f \log_2 n
    \rfloor)` landmarks drawn from both graphs
    (:meth:`~mmgraph.nn.align.functional.landmark_embedding`), :math:`n = n_s +
    n_t`, and score

    .. math::
        a_{ij} = \exp(-\lVert \mathbf{y}_i - \mathbf{y}_j \rVert_2).

    Where :math:`p = n`, which for the default settings means :math:`n \leq
    58`, landmarks drop out of the result and the closed form
    (:meth:`~mmgraph.nn.align.functional.structural_similarity`) is taken for
    all such pairs of a batch at once.

    .. note::
        We differ from the published code of both systems in that

        * ties are seen and have a rule. For 73 % of the words of MNRE the
          best object is one of several with the very same features;
        * objects without any predicate do not compete (:obj:`mask_isolated`),
          and a scene graph without edges matches nothing;
        * both graphs may have any size, and landmarks have a seed.

        :obj:`include_self=False` and :obj:`squared=True` give the forms
        printed in the papers instead of those coded.

    .. note::
        The landmark draw depends on the seed (or the generator) and on the
        sizes of the pair alone, so a pair gives the same result in any batch.
        Where landmarks are used, renumbering nodes draws other landmarks and
        changes scores a little; the closed form is exactly equivariant.

    Args:
        max_hops (int, optional): Furthest hop :math:`K`; :obj:`None` goes on
            until nothing new is reached. (default: :obj:`2`)
        discount (float): Weight of one hop more. (default: :obj:`0.01`)
        bucket_base (int, optional): Base of the degree buckets; :obj:`None`
            gives each degree its own. (default: :obj:`2`)
        landmark_factor (float): Landmarks :math:`f` a doubling of nodes.
            (default: :obj:`10`)
        gamma_struct (float): Weight of the structural distance.
            (default: :obj:`1.0`)
        gamma_attr (float): Weight of an attribute that differs.
            (default: :obj:`1.0`)
        top_k (int, optional): How many targets a source node keeps;
            :obj:`None` keeps all. (default: :obj:`1`)
        ties (str): How ties at the cut are settled, :obj:`'split'` or
            :obj:`'first'`; see :meth:`Alignment.topk`.
            (default: :obj:`'split'`)
        include_self (bool): Whether a node's own degree counts.
            (default: :obj:`True`)
        squared (bool): Whether the structural distance is squared.
            (default: :obj:`False`)
        use_attributes (bool): Whether :obj:`x` of both views holds
            categorical ids to be compared; :obj:`x` is ignored otherwise.
            (default: :obj:`False`)
        mask_isolated (bool): Whether target nodes without an edge are left
            out. (default: :obj:`True`)
        seed (int): Seed of the landmark draw. (default: :obj:`0`)
        max_entries (int): How many scores are held at once. Larger problems
            are taken in pieces. (default: :obj:`4194304`)
        max_matches (int): How many matches a result may hold, for large
            graphs whose tie sets are large. (default: :obj:`67108864`)

    Raises:
        ValueError: If an argument is out of range.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes; :obj:`x` of shape
      :obj:`[N, F]` with whole numbers if :obj:`use_attributes`
    * **target:** :math:`B` graphs of :math:`m_b` nodes
    * **output:** scores in :math:`[e^{-2}, 1]`, times the share of a tie set,
      in the data type of floating-point :obj:`x` of the source, else single
      precision

    Complexity: of a small pair :math:`O(n_b m_b D)`; of a large one
    :math:`O(n_b m_b p)` for the search, in pieces, besides features and
    embedding.

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])       # 0 - 1 - 2
        >>> star = torch.tensor([[1, 1], [0, 2]])       # the same
        >>> aligner = StructuralAligner(ties='first')
        >>> out = aligner(GraphView.single(path, 3), GraphView.single(star, 3))
        >>> out.match_index
        tensor([[0, 1, 2],
                [0, 1, 0]])
        >>> out.match_score
        tensor([1., 1., 1.])
    """
    def __init__(
        self,
        max_hops: int | None = 2,
        discount: float = 0.01,
        bucket_base: int | None = 2,
        landmark_factor: float = 10.0,
        gamma_struct: float = 1.0,
        gamma_attr: float = 1.0,
        top_k: int | None = 1,
        ties: Ties = 'split',
        include_self: bool = True,
        squared: bool = False,
        use_attributes: bool = False,
        mask_isolated: bool = True,
        seed: int = 0,
        max_entries: int = 2**22,
        max_matches: int = 2**26,
    ) -> None:
        super().__init__()
        check_histogram(max_hops, discount, bucket_base)
        check_topk(1 if top_k is None else top_k, ties, 'top_k')
        for name, value in (('landmark_factor', landmark_factor),
                            ('max_entries', max_entries),
                            ('max_matches', max_matches)):
            if value <= 0:
                raise ValueError(f"'{name}' must be positive (got {value})")
        for name, value in (('gamma_struct', gamma_struct),
                            ('gamma_attr', gamma_attr)):
            if value < 0:
                raise ValueError(f"'{name}' must not be negative "
                                 f"(got {value})")
        self.max_hops = max_hops
        self.discount = discount
        self.bucket_base = bucket_base
        self.landmark_factor = landmark_factor
        self.gamma_struct = gamma_struct
        self.gamma_attr = gamma_attr
        self.top_k = top_k
        self.ties: Ties = ties
        self.include_self = include_self
        self.squared = squared
        self.use_attributes = use_attributes
        self.mask_isolated = mask_isolated
        self.seed = seed
        self.reads_features = use_attributes
        self.max_entries = max_entries
        self.max_matches = max_matches

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
        shift = source.num_nodes
        dtype = torch.float
        if source.x is not None and source.x.is_floating_point():
            dtype = source.x.dtype
        features, degree = histogram_and_degree(
            torch.cat([source.edge_index, target.edge_index + shift], dim=1),
            shift + target.num_nodes,
            max_hops=self.max_hops,
            discount=self.discount,
            bucket_base=self.bucket_base,
            include_self=self.include_self,
            ptr=torch.cat([source.ptr, target.ptr[1:] + shift]),
        )
        attributes = self._attributes(source, target)
        if self.mask_isolated:
            kept = degree[shift:].nonzero().view(-1)
        else:
            kept = torch.arange(target.num_nodes, device=degree.device)
        num_kept = torch.bincount(target.batch[kept],
                                  minlength=target.num_graphs)
        kept_ptr = ptr_from_sizes(num_kept)
        large = self._is_large(source.sizes + target.sizes)
        parts = [self._closed_form(
            features, attributes, source.batch, kept + shift,
            num_kept.masked_fill(large, 0), kept_ptr, dtype)]
        large &= (num_kept > 0) & (source.sizes > 0)
        fresh = self.pair_generator(generator)
        for graph in large.nonzero().view(-1).tolist():
            low, high = kept_ptr[graph:graph + 2].tolist()
            parts.append(self._landmark_route(
                features, attributes, shift,
                source.ptr[graph:graph + 2].tolist(),
                (target.ptr[graph:graph + 2] + shift).tolist(),
                kept[low:high] + shift, fresh()))
        index, score = parts[0]
        if len(parts) > 1:
            index = torch.cat([part[0] for part in parts], dim=1)
            score = torch.cat([part[1].to(dtype) for part in parts])
            order = torch.argsort(index[0], stable=True)
            index, score = index[:, order], score[order]
        return Alignment(index, score.to(dtype), source.ptr, target.ptr)

    def num_landmarks(self, num_nodes: int) -> int:
        r"""The number of landmarks :math:`p` for a pair of :math:`n` nodes."""
        if num_nodes < 2:
            return num_nodes
        number = math.floor(self.landmark_factor * math.log2(num_nodes))
        return min(num_nodes, max(number, 1))

    def _is_large(self, num_nodes: Tensor) -> Tensor:
        r"""Which pairs have fewer landmarks than nodes."""
        largest = int(num_nodes.max()) if num_nodes.numel() > 0 else 0
        # f log n - n is concave: what holds at both ends holds in between.
        if all(self.num_landmarks(n) == n for n in (2, max(largest, 2))):
            return torch.zeros_like(num_nodes, dtype=torch.bool)
        sizes, inverse = torch.unique(num_nodes, return_inverse=True)
        large = [self.num_landmarks(n) < n for n in sizes.tolist()]
        return torch.tensor(large, device=num_nodes.device)[inverse]

    def _attributes(self, source: GraphView, target: GraphView) -> OptTensor:
        if not self.use_attributes:
            return None
        values = []
        for name, view in (('source', source), ('target', target)):
            if view.x is None or view.x.is_floating_point():
                raise ValueError(
                    f"'{name}.x' must hold whole numbers, the ids of "
                    f"categorical attributes (got "
                    f"{None if view.x is None else view.x.dtype}); "
                    f"set 'use_attributes=False' to ignore it")
            values.append(view.x.view(view.num_nodes, -1))
        if values[0].size(1) != values[1].size(1):
            raise ShapeError(
                f"'source.x' and 'target.x' must hold the same number of "
                f"attributes (got {values[0].size(1)} and "
                f"{values[1].size(1)})")
        return torch.cat(values)

    def _closed_form(
        self,
        features: Tensor,
        attributes: OptTensor,
        graph: Tensor,
        kept: Tensor,
        num_kept: Tensor,
        kept_ptr: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        r"""All pairs in which every node is a landmark."""
        shift = graph.numel()
        count = num_kept.index_select(0, graph)
        first = kept_ptr.index_select(0, graph)
        # Columns, not rows: every operation below then runs along memory.
        columns = (features[:shift].t(),
                   features.t().index_select(1, kept))
        ids = None
        if attributes is not None:
            ids = attributes[:shift].t(), attributes[kept].t()
        parts = []
        limit = min(self.max_entries, _PIECE)
        for rows in pieces(count.cumsum(0).cpu().numpy(), limit):
            row, col = expand(count[rows], first[rows], torch.int)
            score = score_from_columns(
                _pick(columns, rows, row, col),
                attributes=None if ids is None else _pick(ids, rows, row, col),
                gamma_struct=self.gamma_struct, gamma_attr=self.gamma_attr,
                squared=self.squared)
            index, score, _ = self._reduce(row, col, score, rows,
                                           count[rows])
            index[1] = kept.index_select(0, index[1]).sub_(shift)
            parts.append((index, score.to(dtype)))
        if not parts:
            return kept.new_empty(2, 0), features.new_empty(0, dtype=dtype)
        return (torch.cat([part[0] for part in parts], dim=1),
                torch.cat([part[1] for part in parts]))

    def _landmark_route(
        self,
        features: Tensor,
        attributes: OptTensor,
        shift: int,
        source: Sequence[int],
        target: Sequence[int],
        kept: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        r"""One pair that is larger than its number of landmarks."""
        union = torch.cat([torch.arange(*source), torch.arange(*target)])
        landmarks = torch.randperm(union.numel(), generator=generator)
        landmarks = landmarks[:self.num_landmarks(union.numel())]
        union, landmarks = union.to(kept.device), landmarks.to(kept.device)
        y = landmark_embedding(
            features[union], landmarks, gamma_struct=self.gamma_struct,
            attributes=None if attributes is None else attributes[union],
            gamma_attr=self.gamma_attr, squared=self.squared)
        num_source = source[1] - source[0]
        y_s = y[:num_source]
        y_t = y[kept - (target[0] - num_source)]
        if self.top_k is None:
            self._check_size(num_source * kept.numel())
        size = max(1, self.max_entries // kept.numel())
        parts, total = [], 0
        for start in range(0, num_source, size):
            rows = slice(start, min(start + size, num_source))
            cosine = y_s[rows] @ y_t.t()
            if self.top_k is None or self.top_k >= kept.numel():
                near = torch.ones_like(cosine, dtype=torch.bool)
            else:
                cut = (cosine.amax(1) if self.top_k == 1 else
                       cosine.topk(self.top_k).values[:, -1])
                reach = (2 - 2 * cut).clamp_(min=0).sqrt_() + 2 * TIE_TOLERANCE
                near = cosine >= (1 - reach.square() / 2).unsqueeze(1)
            place = nonzero(near.view(-1))
            row = place.div(kept.numel(), rounding_mode='floor')
            col = place - row * kept.numel()
            score = 2 - 2 * cosine.view(-1).index_select(0, place)
            score = score.clamp_(min=0).sqrt_().neg_().exp_()
            parts.append(self._reduce(row, col, score, rows))
            total += parts[-1][1].numel()
            self._check_size(total)
        index = torch.cat([part[0] for part in parts], dim=1)
        share = torch.cat([part[2] for part in parts])
        # Differences of rows, unlike cosines, put twins at distance zero.
        distance = [torch.linalg.vector_norm(y_s[i] - y_t[j], dim=1)
                    for i, j in index.split(_GATHER_ROWS, dim=1)]
        score = torch.cat(distance).neg_().exp_().mul_(share)
        index = torch.stack([index[0] + source[0], kept[index[1]] - shift])
        return index, score

    def _reduce(
        self,
        row: Tensor,
        col: Tensor,
        score: Tensor,
        rows: slice,
        lengths: OptTensor = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The kept pairs of some rows, their scores, and their shares."""
        share = None
        if self.top_k is not None:
            keep, share = select_topk(row, col, score, self.top_k, self.ties,
                                      rows.stop - rows.start, lengths)
            row, col, score = (x.index_select(0, keep)
                               for x in (row, col, score))
        if share is None:
            share = torch.ones_like(score)
        index = torch.stack([row.add_(rows.start), col]).long()
        return index, score * share, share

    def _check_size(self, num_matches: int) -> None:
        if num_matches > self.max_matches:
            raise ValueError(
                f"'max_matches' must cover the result (got "
                f"{self.max_matches} for at least {num_matches} matches). Set "
                f"'top_k' and ties='first', which keep 'top_k' matches a node")

    def extra_repr(self) -> str:
        return (f'max_hops={self.max_hops}, discount={self.discount}, '
                f'bucket_base={self.bucket_base}, top_k={self.top_k}, '
                f'ties={self.ties!r}')


def _pick(
    columns: tuple[Tensor, Tensor],
    rows: slice,
    row: Tensor,
    col: Tensor,
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""Both ends of pairs, one column after the other."""
    source, target = columns
    for x, y in zip(source[:, rows], target, strict=True):
        yield x.index_select(0, row), y.index_select(0, col)
