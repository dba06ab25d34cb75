import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from mmgraph.data.neighbours import Distinct, distinct_rows
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
    CountScale,
    check_histogram,
    histogram_and_degree,
    landmark_embedding,
    pieces,
    score_from_columns,
)
from mmgraph.nn.align.search import Found, ann_neighbors, tree_neighbors
from mmgraph.typing import OptTensor, Ties
from mmgraph.utils import check_not_negative, check_positive, suggest

__all__ = ['Search', 'StructuralAligner']

Search: TypeAlias = Literal['auto', 'exact', 'ann']

#: Pairs of rows that are subtracted at once, so that they stay in the cache.
_GATHER_ROWS = 1024
#: Scores of small pairs that are worked on at once: few enough to stay in the
#: cache, and as many as PyTorch still leaves to one thread.
_PIECE = 32000
#: Pairs of nodes above which a pair of graphs is searched and not compared
#: node by node, and above which :obj:`search='auto'` is approximate where
#: exact search is quadratic.
_SEARCH_PAIRS, _ANN_PAIRS = 2**16, 2**31


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

    **Large graphs.** With :obj:`landmark_factor=None` the closed form holds at
    any size. It falls with the distance of :math:`\mathbf{d}_i` and
    :math:`\mathbf{d}_j` (and with the attributes that differ), so the best
    targets are the nearest ones among the few columns of :math:`\mathbf{d}`,
    and a k-d tree finds them exactly: no landmarks, no factorisation, nothing
    random, in nearly linear time. Landmarks approximate this result; they cost
    more and score less (Arenas: 90.8 % against 92.7 %). They are the default
    because they are the published method. With them, pairs of more than
    :math:`2^{31}` node pairs need an approximate index
    (:obj:`search='ann'`), which is also faster than the tree where
    :math:`\mathbf{d}` has many columns. No :math:`n_s \times n_t` matrix is
    ever held.

    .. note::
        **Noise.** The published features fade as edges go missing. With
        :obj:`StructuralAligner(landmark_factor=None, max_hops=3,
        discount=1.0, separate_hops=True, count_scale='sqrt')` the best target
        is right for 87 instead of 59 % of the nodes of Arenas with 5 % of the
        edges removed, for 66 instead of 33 % with 10 %, for the price of the
        third hop. Where hubs are large, as in power-law graphs of a million
        nodes, take :obj:`max_hops=2` and :obj:`search='ann'`. Distances are
        larger then; a smaller :obj:`gamma_struct` changes no ranking but
        keeps far scores apart.

    .. note::
        A search compares distances, not scores: with :obj:`ties='split'` two
        targets are tied if their distances, which tell far nodes apart better
        than scores do, differ by no more than :math:`10^{-6}` of the one at
        the cut. An approximate search sees ties only among what it finds.

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
        landmark_factor (float, optional): Landmarks :math:`f` a doubling of
            nodes; :obj:`None` does without, at any size.
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
        separate_hops (bool): Whether hops are compared one by one instead of
            as their sum. (default: :obj:`False`)
        count_scale (str): How the number of nodes in a bucket enters,
            :obj:`'linear'`, :obj:`'sqrt'` or :obj:`'log1p'`.
            (default: :obj:`'linear'`)
        squared (bool): Whether the structural distance is squared.
            (default: :obj:`False`)
        use_attributes (bool): Whether :obj:`x` of both views holds
            categorical ids to be compared; :obj:`x` is ignored otherwise.
            (default: :obj:`False`)
        mask_isolated (bool): Whether target nodes without an edge are left
            out. (default: :obj:`True`)
        seed (int): Seed of the landmark draw. (default: :obj:`0`)
        search (str): How the best targets are found in pairs of more than
            65,536 node pairs: :obj:`'exact'`; :obj:`'ann'`, by an index that
            misses some (extra :obj:`ann`); or :obj:`'auto'`, which is exact
            without landmarks, and with them up to :math:`2^{31}` node pairs.
            (default: :obj:`'auto'`)
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

    Complexity: of a small pair :math:`O(n_b m_b D)`; of a large one, besides
    features and embedding, :math:`O(n_b m_b p)` with landmarks, in pieces;
    about :math:`O(n_b \log m_b)` by the tree, which turns to
    :math:`O(n_b m_b D)` as :math:`D` grows; and :math:`O((n_b + m_b)
    \sqrt{m_b} D)` by the approximate index (:math:`p` in the place of
    :math:`D` with landmarks). Memory is linear in nodes and edges.

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
        landmark_factor: float | None = 10.0,
        gamma_struct: float = 1.0,
        gamma_attr: float = 1.0,
        top_k: int | None = 1,
        ties: Ties = 'split',
        include_self: bool = True,
        separate_hops: bool = False,
        count_scale: CountScale = 'linear',
        squared: bool = False,
        use_attributes: bool = False,
        mask_isolated: bool = True,
        seed: int = 0,
        search: Search = 'auto',
        max_entries: int = 2**22,
        max_matches: int = 2**26,
    ) -> None:
        super().__init__()
        check_histogram(max_hops, discount, bucket_base, count_scale)
        check_topk(1 if top_k is None else top_k, ties, 'top_k')
        if search not in get_args(Search):
            raise ValueError(f"'search' must name a way to search (got "
                             f'{search!r}); '
                             f'{suggest(search, get_args(Search))}')
        check_positive(landmark_factor=landmark_factor,
                       max_entries=max_entries, max_matches=max_matches)
        check_not_negative(gamma_struct=gamma_struct, gamma_attr=gamma_attr)
        self.max_hops = max_hops
        self.discount = discount
        self.bucket_base = bucket_base
        self.landmark_factor = landmark_factor
        self.gamma_struct = gamma_struct
        self.gamma_attr = gamma_attr
        self.top_k = top_k
        self.ties: Ties = ties
        self.include_self = include_self
        self.separate_hops = separate_hops
        self.count_scale: CountScale = count_scale
        self.squared = squared
        self.use_attributes = use_attributes
        self.mask_isolated = mask_isolated
        self.seed = seed
        self.search: Search = search
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
            separate_hops=self.separate_hops,
            count_scale=self.count_scale,
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
        if self.top_k is not None:
            large |= source.sizes * num_kept > _SEARCH_PAIRS
        parts = [self._closed_form(
            features, attributes, source.batch, kept + shift,
            num_kept.masked_fill(large, 0), kept_ptr, dtype)]
        large &= (num_kept > 0) & (source.sizes > 0)
        fresh = self.pair_generator(generator)
        for graph in large.nonzero().view(-1).tolist():
            low, high = kept_ptr[graph:graph + 2].tolist()
            parts.append(self._large_pair(
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
        if num_nodes < 2 or self.landmark_factor is None:
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

    def _large_pair(
        self,
        features: Tensor,
        attributes: OptTensor,
        shift: int,
        source: Sequence[int],
        target: Sequence[int],
        kept: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        r"""One pair that is larger than its number of landmarks, or whose
        nodes are too many to be compared one by one.
        """
        union = torch.cat([torch.arange(*source), torch.arange(*target)])
        num_landmarks = self.num_landmarks(union.numel())
        landmarks = None
        if num_landmarks < union.numel():
            landmarks = torch.randperm(union.numel(), generator=generator)
            landmarks = landmarks[:num_landmarks]
        seed = int(torch.randint(2**31, (), generator=generator))
        num_pairs = (source[1] - source[0]) * kept.numel()
        limit = {'exact': math.inf, 'ann': _SEARCH_PAIRS, 'auto':
                 math.inf if landmarks is None else _ANN_PAIRS}[self.search]
        ann = self.top_k is not None and num_pairs > limit
        union = union.to(kept.device)
        if landmarks is not None:
            landmarks = landmarks.to(kept.device)
            if not ann:
                return self._all_rows(features[union], None if attributes is
                                      None else attributes[union], landmarks,
                                      shift, source, target, kept)
            landmarks = union[landmarks]
        return self._search(features, attributes, landmarks, shift, source,
                            kept, seed if ann else None)

    def _all_rows(
        self,
        features: Tensor,
        attributes: OptTensor,
        landmarks: Tensor,
        shift: int,
        source: Sequence[int],
        target: Sequence[int],
        kept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        r"""Landmarks, and every row of one graph against every one of the
        other.
        """
        y = landmark_embedding(
            features, landmarks, gamma_struct=self.gamma_struct,
            attributes=attributes, gamma_attr=self.gamma_attr,
            squared=self.squared)
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
        distance = [torch.linalg.vector_norm(
            y_s.index_select(0, i).sub_(y_t.index_select(0, j)), dim=1)
            for i, j in index.split(_GATHER_ROWS, dim=1)]
        score = torch.cat(distance).neg_().exp_().mul_(share)
        index = torch.stack([index[0] + source[0], kept[index[1]] - shift])
        return index, score

    def _search(
        self,
        features: Tensor,
        attributes: OptTensor,
        landmarks: OptTensor,
        shift: int,
        source: Sequence[int],
        kept: Tensor,
        seed: int | None,
    ) -> tuple[Tensor, Tensor]:
        r"""The best targets by a search index; exact if there is no seed.
        Nodes that look the same are searched for once and found once.
        """
        assert self.top_k is not None

        def rows_of(nodes: Tensor) -> Any:
            rows = features[nodes].cpu().numpy()
            if attributes is None:
                return rows
            ids = attributes[nodes].cpu().numpy()
            return np.concatenate([rows, ids], axis=1)

        dim = features.size(1)
        queries = rows_of(torch.arange(*source, device=kept.device))
        s = distinct_rows(queries)
        queries = queries[s.first]
        points = rows_of(kept)
        t = distinct_rows(points)
        points = points[t.first]
        if landmarks is None:
            found = self._by_features(queries, points, dim, t.size, seed)
        else:
            rows = torch.from_numpy(
                np.concatenate([queries, points, rows_of(landmarks)]))
            end = len(queries) + len(points)
            y = landmark_embedding(
                rows[:, :dim], torch.arange(end, len(rows)),
                attributes=rows[:, dim:], gamma_struct=self.gamma_struct,
                gamma_attr=self.gamma_attr, squared=self.squared,
                dtype=torch.float).numpy()
            assert seed is not None
            found = ann_neighbors(y[:len(queries)], y[len(queries):end],
                                  self.top_k, seed,
                                  max_entries=self.max_entries)
        index, distance, share = self._members(found, s, t)
        if landmarks is None:
            if self.squared:
                distance.square_()
            distance = distance.neg_().expm1_().mul_(-2).sqrt_()
        score = distance.neg_().exp_().mul_(share)
        index = index.to(kept.device)
        index = torch.stack([index[0] + source[0], kept[index[1]] - shift])
        return index, score.to(kept.device)

    def _by_features(
        self,
        queries: Any,
        points: Any,
        dim: int,
        size: Any,
        seed: int | None,
    ) -> Iterator[Found]:
        r"""Neighbours by the exponent of the kernel (by its root if squared),
        for which no landmarks are needed.
        """
        assert self.top_k is not None
        struct, attr = self.gamma_struct, self.gamma_attr
        if self.squared:
            struct, attr = math.sqrt(struct), math.sqrt(attr)
        ids = queries[:, dim:], points[:, dim:]
        a, b = queries[:, :dim] * struct, points[:, :dim] * struct
        places = a, b
        if ids[0].shape[1] > 0:
            # No two ids are put further apart than their difference costs,
            # so that the Euclidean distance is a lower bound.
            span = np.ptp(np.concatenate(ids), axis=0).clip(min=1)
            places = (np.concatenate([a, ids[0] * (attr / span)], axis=1),
                      np.concatenate([b, ids[1] * (attr / span)], axis=1))

        def measure(row: Any, col: Any) -> Any:
            out = np.empty(len(row))
            for low in range(0, len(row), _GATHER_ROWS):
                i, j = row[low:low + _GATHER_ROWS], col[low:low + _GATHER_ROWS]
                total = np.square(a[i] - b[j]).sum(1)
                differ = (ids[0][i] != ids[1][j]).sum(1)
                if self.squared:
                    total = np.sqrt(total + self.gamma_attr * differ)
                else:
                    total = np.sqrt(total) + attr * differ
                out[low:low + _GATHER_ROWS] = total
            return out

        if seed is None:
            yield from tree_neighbors(
                *places, size, self.top_k, tolerance=TIE_TOLERANCE,
                measure=measure if ids[0].shape[1] > 0 else None,
                max_entries=self.max_entries)
            return
        for part in ann_neighbors(*places, self.top_k, seed,
                                  max_entries=self.max_entries):
            yield part._replace(distance=measure(part.queries[part.row],
                                                 part.col))

    def _members(
        self,
        found: Iterator[Found],
        s: Distinct,
        t: Distinct,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The kept pairs of all nodes, by source, then target, from what was
        found for nodes that differ: positions, distances, and shares.
        """
        assert self.top_k is not None
        first = self.ties == 'first'
        members, start = torch.from_numpy(t.order), torch.from_numpy(t.start)
        parts = []
        for part in found:
            size = start.diff()[part.col]
            if first:
                size.clamp_(max=self.top_k)
            self._check_size(int(size.sum()))
            entry, place = expand(size, start[part.col])
            row = torch.from_numpy(part.row)[entry]
            col = members[place]
            distance = torch.from_numpy(part.distance)[entry]
            share = torch.ones_like(distance)
            # Most nodes have found just as many as they may keep.
            count = torch.bincount(row, minlength=len(part.queries))
            many = (count > self.top_k)[row]
            if bool(many.any()):
                hard = nonzero(many)
                keep, some = select_topk(
                    row[hard], col[hard], distance[hard].neg(), self.top_k,
                    self.ties, len(part.queries))
                many[hard[keep]] = False
                if some is not None:
                    share[hard[keep]] = some
                keep = nonzero(~many)
                row, col, distance, share = (
                    x[keep] for x in (row, col, distance, share))
            parts.append((torch.from_numpy(part.queries)[row], col, distance,
                          share))
        row, col, distance, share = (
            torch.cat(x) for x in zip(*parts, strict=True))
        order = torch.argsort(row * len(members) + col)
        count = torch.bincount(row, minlength=len(s.size))
        group = torch.from_numpy(s.group)
        number = count[group]
        self._check_size(int(number.sum()))
        node, place = expand(number, (count.cumsum(0) - count)[group])
        entry = order[place]
        return torch.stack([node, col[entry]]), distance[entry], share[entry]

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
