"""What every aligner takes and what it gives."""
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor, nn
from torch_geometric.utils import scatter

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.typing import MatchMethod, OptTensor, Ties
from mmgraph.utils import checks_enabled, suggest

__all__ = ['Aligner', 'Alignment', 'ragged_pairs']

#: Two scores of one source node are tied if they differ by no more than this
#: share of the score at the cut.
TIE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    r"""Soft matches between the nodes of a batch of :math:`B` graph pairs:
    ragged inside, dense on demand.

    Args:
        match_index (torch.Tensor): The :math:`M` matched pairs :obj:`[2, M]`
            as global node positions, source nodes in row 0, target nodes in
            row 1. No pair occurs twice, and both nodes of a pair belong to the
            same graph pair.
        match_score (torch.Tensor): The score of each pair, :obj:`[M]`. A pair
            that is not listed has score zero.
        source_ptr (torch.Tensor): Where each graph's source nodes start,
            :obj:`[B + 1]`.
        target_ptr (torch.Tensor): Where each graph's target nodes start,
            :obj:`[B + 1]`.
        loss (torch.Tensor, optional): An aligner's own training signal, a
            scalar. (default: :obj:`None`)

    Raises:
        ShapeError: If the shapes above do not hold.

    Example:
        >>> alignment = Alignment(
        ...     match_index=torch.tensor([[0, 0, 1], [0, 1, 1]]),
        ...     match_score=torch.tensor([0.4, 0.4, 0.9]),
        ...     source_ptr=torch.tensor([0, 2]),
        ...     target_ptr=torch.tensor([0, 2]),
        ... )
        >>> alignment
        Alignment(num_graphs=1, num_source=2, num_target=2, num_matches=3)
        >>> alignment.dense()
        tensor([[[0.4000, 0.4000],
                 [0.0000, 0.9000]]])
        >>> alignment.topk(1, ties='split').match_score
        tensor([0.2000, 0.2000, 0.9000])
    """
    match_index: Tensor
    match_score: Tensor
    source_ptr: Tensor
    target_ptr: Tensor
    loss: OptTensor = None

    def __post_init__(self) -> None:
        index, score = self.match_index, self.match_score
        if index.dim() != 2 or index.size(0) != 2:
            raise ShapeError(
                f"'match_index' must have shape [2, M] "
                f"(got {list(index.shape)})", (2, 'M'), index.shape)
        if score.dim() != 1 or score.numel() != index.size(1):
            raise ShapeError(
                f"'match_score' must hold one score for each of the "
                f"{index.size(1)} columns of 'match_index' "
                f"(got shape {list(score.shape)})",
                (index.size(1), ), score.shape)
        if (self.source_ptr.dim() != 1 or self.source_ptr.numel() == 0
                or self.source_ptr.shape != self.target_ptr.shape):
            raise ShapeError(
                f"'source_ptr' and 'target_ptr' must both have shape [B + 1] "
                f"(got {list(self.source_ptr.shape)} and "
                f"{list(self.target_ptr.shape)})")

    @classmethod
    def from_dense(
        cls,
        scores: Tensor,
        source: GraphView,
        target: GraphView,
        loss: OptTensor = None,
    ) -> 'Alignment':
        r"""Reads the scores of all real pairs from a padded matrix; the rest
        of the matrix is ignored.

        Args:
            scores (torch.Tensor): Scores :obj:`[B, N_s, N_t]`.
            source (GraphView): The source graphs, no larger than :obj:`N_s`.
            target (GraphView): The target graphs, no larger than :obj:`N_t`.
            loss (torch.Tensor, optional): Passed on. (default: :obj:`None`)

        Raises:
            ShapeError: If :obj:`scores` does not cover the graphs.
        """
        check_views(source, target)
        if scores.dim() != 3 or scores.size(0) != source.num_graphs:
            raise ShapeError(
                f"'scores' must have shape [B, N_s, N_t] with B = "
                f"{source.num_graphs} (got {list(scores.shape)})",
                (source.num_graphs, 'N_s', 'N_t'), scores.shape)
        need = (_max_size(source.ptr), _max_size(target.ptr))
        if scores.size(1) < need[0] or scores.size(2) < need[1]:
            raise ShapeError(
                f"'scores' must cover graphs of {need[0]} source and {need[1]} "
                f"target nodes (got {list(scores.shape)})",
                (source.num_graphs, *need), scores.shape)
        index = ragged_pairs(source.ptr, target.ptr)
        graph = source.batch[index[0]]
        score = scores[graph, index[0] - source.ptr[graph],
                       index[1] - target.ptr[graph]]
        return cls(index, score, source.ptr, target.ptr, loss)

    @property
    def num_graphs(self) -> int:
        r"""Number of graph pairs :math:`B`."""
        return self.source_ptr.numel() - 1

    @property
    def num_source(self) -> int:
        r"""Number of source nodes of all graphs together."""
        return int(self.source_ptr[-1])

    @property
    def num_target(self) -> int:
        r"""Number of target nodes of all graphs together."""
        return int(self.target_ptr[-1])

    @property
    def num_matches(self) -> int:
        r"""Number of matched pairs :math:`M`."""
        return self.match_score.numel()

    @property
    def batch(self) -> Tensor:
        r"""The graph pair of each match, :obj:`[M]`."""
        return torch.bucketize(self.match_index[0].contiguous(),
                               self.source_ptr[1:], right=True)

    def dense(
        self,
        num_source: int | None = None,
        num_target: int | None = None,
    ) -> Tensor:
        r"""The scores as a padded matrix :obj:`[B, N_s, N_t]`, zero on padding
        and where there is no match.

        Args:
            num_source (int, optional): :math:`N_s`; the size of the largest
                source graph by default. (default: :obj:`None`)
            num_target (int, optional): :math:`N_t`; the size of the largest
                target graph by default. (default: :obj:`None`)

        Raises:
            ShapeError: If a graph is larger than the size asked for.
        """
        sizes = []
        for name, size, ptr in (('num_source', num_source, self.source_ptr),
                                ('num_target', num_target, self.target_ptr)):
            if size is None or checks_enabled():
                need = _max_size(ptr)
                if size is not None and size < need:
                    raise ShapeError(f"'{name}' must be at least {need}, the "
                                     f"size of the largest graph (got {size})")
                size = need if size is None else size
            sizes.append(size)
        graph = self.batch
        out = self.match_score.new_zeros(self.num_graphs, *sizes)
        return out.index_put((
            graph,
            self.match_index[0] - self.source_ptr[graph],
            self.match_index[1] - self.target_ptr[graph],
        ), self.match_score)

    def topk(self, k: int, ties: Ties = 'first') -> 'Alignment':
        r"""Keeps the :obj:`k` best targets of each source node.

        Scores are tied with the :obj:`k`-th best one :math:`s` if they differ
        from it by no more than :math:`10^{-6} |s|`. Structural twins are the
        rule and not the exception in small graphs, so the choice matters.

        Args:
            k (int): How many targets a source node keeps.
            ties (str, optional): What happens to the tie set at the cut.
                :obj:`'first'` keeps the lowest target positions;
                :obj:`'split'` keeps all of them and shares the free slots out
                evenly, *i.e.* each score is multiplied by the number of free
                slots over the size of the tie set (for :obj:`k=1`: each
                carries :math:`s / |\text{tie set}|`).
                (default: :obj:`'first'`)

        Returns:
            Alignment: Sorted by source, then by target position.

        Raises:
            ValueError: If :obj:`k < 1` or :obj:`ties` is unknown.
        """
        check_topk(k, ties)
        if self.num_matches == 0:
            return self
        row, col = self.match_index
        keep, share = select_topk(row, col, self.match_score.detach(), k, ties,
                                  self.num_source)
        match_index = self.match_index[:, keep]
        score = self.match_score[keep]
        if share is not None:
            score = score * share.to(score.dtype)
        if not is_sorted(match_index, self.num_target):
            order = lexsort(match_index[1], match_index[0])
            match_index, score = match_index[:, order], score[order]
        return replace(self, match_index=match_index, match_score=score)

    def match(
        self,
        method: MatchMethod = 'lap',
        min_score: float | None = None,
    ) -> 'Alignment':
        r"""Decides: keeps at most one target for each source node.

        The choice of decoder changes an accuracy more than the choice of
        aligner does, so name it beside every figure.

        Args:
            method (str, optional): :obj:`'argmax'` takes the best target of
                each source node, the lowest position among equals, so that
                two nodes may share a target. The others are one-to-one:
                :obj:`'greedy'` takes the best pair that is left, again and
                again; :obj:`'lap'` takes the matching with the highest sum of
                scores (linear assignment, by SciPy). Both decide between
                equals by position. (default: :obj:`'lap'`)
            min_score (float, optional): Pairs that score less are left
                unmatched; they are dropped after the choice.
                (default: :obj:`None`)

        Returns:
            Alignment: The chosen pairs with their scores, sorted by source.
            Only listed pairs are ever chosen.

        Raises:
            ValueError: If :obj:`method` is unknown, or a score is not finite.

        Complexity: linear in :math:`M`; :math:`O(M \log M)`; and at worst
        cubic in the size of a graph. A list that holds few of all pairs is
        matched as a sparse graph, in :math:`O(M)` memory.

        Example:
            >>> ptr = torch.tensor([0, 2])
            >>> alignment = Alignment(
            ...     torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]]),
            ...     torch.tensor([.9, .8, .7, .1]), ptr, ptr)
            >>> for method in 'argmax', 'greedy', 'lap':
            ...     alignment.match(method).match_index.tolist()
            [[0, 1], [0, 0]]
            [[0, 1], [0, 1]]
            [[0, 1], [1, 0]]
        """
        methods = {'argmax': None, 'greedy': _greedy, 'lap': _lap}
        if method not in methods:
            raise ValueError(f"'method' must name a decoder (got {method!r}); "
                             f'{suggest(method, list(methods))}')
        score = self.match_score.detach()
        if not bool(torch.isfinite(score).all()):
            raise ValueError("'match_score' must be finite")
        decode = methods[method]
        if decode is None:
            out = self.topk(1)
        else:
            keep = decode(self)
            keep = keep[torch.argsort(self.match_index[0, keep])]
            out = replace(self, match_index=self.match_index[:, keep],
                          match_score=self.match_score[keep])
        if min_score is not None:
            keep = nonzero(out.match_score.detach() >= min_score)
            out = replace(out, match_index=out.match_index[:, keep],
                          match_score=out.match_score[keep])
        return out

    def to(self, device: torch.device | str) -> 'Alignment':
        r"""The same alignment on another device."""
        return Alignment(
            self.match_index.to(device), self.match_score.to(device),
            self.source_ptr.to(device), self.target_ptr.to(device),
            None if self.loss is None else self.loss.to(device))

    def __repr__(self) -> str:
        return (f'{self.__class__.__name__}(num_graphs={self.num_graphs}, '
                f'num_source={self.num_source}, num_target={self.num_target}, '
                f'num_matches={self.num_matches})')


class Aligner(Configurable, nn.Module, ABC):
    r"""Joins the nodes of source graphs to the nodes of target graphs.

    A subclass implements :meth:`forward`, which

    * treats the pairs of a batch one by one: a pair's result does not depend
      on the rest of the batch;
    * is equivariant to the order of nodes (unless its docstring says why not);
    * accepts graphs without edges or without nodes;
    * reads and writes no global random state: what it draws, it draws from
      the generator of :meth:`pair_generator`.

    Models call :obj:`aligner(source, target)`. An aligner of your own may
    leave out the other arguments of :meth:`forward`.

    .. rubric:: Shapes

    * **input:** two :class:`~mmgraph.data.view.GraphView` of :math:`B` graphs
      each, with :math:`\sum_b n_b` and :math:`\sum_b m_b` nodes
    * **output:** an :class:`Alignment` of :math:`M \leq \sum_b n_b m_b` pairs
    """
    #: Whether node features take part; where not, a model need not make them.
    reads_features: bool = True
    #: Whether known matches help.
    takes_seeds: ClassVar[bool] = False
    #: Seed of what is drawn when no generator is given.
    seed: int = 0

    @abstractmethod
    def forward(
        self,
        source: GraphView,
        target: GraphView,
        *,
        seeds: OptTensor = None,
        generator: torch.Generator | None = None,
    ) -> Alignment:
        r"""Aligns :obj:`source` and :obj:`target` pair by pair.

        Args:
            source (GraphView): The source graphs, *e.g.* words.
            target (GraphView): The target graphs, *e.g.* objects.
            seeds (torch.Tensor, optional): Known matches (anchors)
                :obj:`[2, S]` as global node positions, at most one a node;
                only for aligners with :obj:`takes_seeds`.
                (default: :obj:`None`)
            generator (torch.Generator, optional): Where random numbers come
                from; a fresh one with the aligner's :obj:`seed` by default,
                so that two calls agree. (default: :obj:`None`)
        """

    def check(
        self,
        source: GraphView,
        target: GraphView,
        seeds: OptTensor = None,
    ) -> None:
        r"""Refuses views that do not fit each other, and seeds that do not
        fit the views or that this aligner cannot use.

        Raises:
            ShapeError: If the numbers of graphs differ or :obj:`seeds` is not
                :obj:`[2, S]`.
            ValueError: If seeds are given to an aligner that takes none, name
                a node twice, or join nodes of different pairs.
        """
        check_views(source, target)
        if seeds is None:
            return
        if not self.takes_seeds:
            raise ValueError(f"'{type(self).__name__}' takes no seeds (got "
                             f"{list(seeds.shape)}); see 'takes_seeds'")
        check_seeds(seeds, source, target)

    def pair_generator(
        self,
        generator: torch.Generator | None,
    ) -> Callable[[], torch.Generator]:
        r"""What makes the generator of each pair. All pairs of a call draw
        the same numbers, so that none depends on the pairs before it.
        """
        seed = self.seed
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator,
                                     device=generator.device))
        return lambda: torch.Generator().manual_seed(seed)


def check_seeds(seeds: Tensor, source: GraphView, target: GraphView) -> None:
    r"""Refuses known matches that cannot be true of two views."""
    if seeds.dim() != 2 or seeds.size(0) != 2:
        raise ShapeError(f"'seeds' must have shape [2, S] "
                         f"(got {list(seeds.shape)})", (2, 'S'), seeds.shape)
    if not checks_enabled() or seeds.numel() == 0:
        return
    for row, (name, view) in enumerate((('source', source),
                                        ('target', target))):
        low, high = int(seeds[row].min()), int(seeds[row].max())
        if low < 0 or high >= view.num_nodes:
            raise ValueError(f"'seeds[{row}]' must hold {name} positions in "
                             f'[0, {view.num_nodes}) '
                             f'(got {low if low < 0 else high})')
        if seeds[row].unique().numel() < seeds.size(1):
            raise ValueError(f"'seeds[{row}]' must name a {name} node once "
                             f'at most')
    graphs = source.batch[seeds[0]], target.batch[seeds[1]]
    if not torch.equal(*graphs):
        place = int((graphs[0] != graphs[1]).nonzero()[0])
        raise ValueError(f"'seeds' must join nodes of the same pair (column "
                         f'{place} joins pairs {int(graphs[0][place])} and '
                         f'{int(graphs[1][place])})')


def check_views(source: GraphView, target: GraphView) -> None:
    r"""Refuses views that hold different numbers of graphs."""
    if source.num_graphs != target.num_graphs:
        raise ShapeError(
            f"'source' and 'target' must hold the same number of graphs (got "
            f"{source.num_graphs} and {target.num_graphs}). A pair without "
            f"an image has a target graph of zero nodes")


def features_of(source: GraphView, target: GraphView) -> tuple[Tensor, Tensor]:
    r"""The node features of two views; refuses a view without any."""
    if source.x is None or target.x is None:
        name = 'source' if source.x is None else 'target'
        raise ValueError(f"'{name}.x' must be given (got None); this "
                         f'aligner compares node features')
    return source.x, target.x


def check_topk(k: int, ties: str, name: str = 'k') -> None:
    r"""Refuses bad arguments of :meth:`Alignment.topk`."""
    if k < 1:
        raise ValueError(f"'{name}' must be at least 1 (got {k})")
    if ties not in ('first', 'split'):
        raise ValueError(f"'ties' must name a rule (got {ties!r}); "
                         f"{suggest(ties, ['first', 'split'])}")


def lexsort(*keys: Tensor) -> Tensor:
    r"""The order that sorts by the last key, then the one before it, ..."""
    order = torch.argsort(keys[0], stable=True)
    for key in keys[1:]:
        order = order[torch.argsort(key[order], stable=True)]
    return order


def select_topk(
    row: Tensor,
    col: Tensor,
    value: Tensor,
    k: int,
    ties: Ties,
    num_rows: int,
    lengths: OptTensor = None,
) -> tuple[Tensor, OptTensor]:
    r"""The entries of :meth:`Alignment.topk`, in their own order, and, where
    ties are split, the share of its score that each one keeps. If rows are
    sorted, :obj:`lengths` may tell how many entries each one has.
    """
    if k == 1:
        if lengths is None:
            best = scatter(value, row, dim_size=num_rows, reduce='max')
        else:
            best = torch.segment_reduce(value, 'max', lengths=lengths,
                                        unsafe=True, initial=0)
        best -= best.abs() * TIE_TOLERANCE
        keep = nonzero(value >= best.index_select(0, row))
        row = row.index_select(0, keep)
        if ties == 'split':
            size = torch.bincount(row, minlength=num_rows).to(value.dtype)
            return keep, size.reciprocal_().index_select(0, row)
        col = col.index_select(0, keep)
        first = scatter(col, row, dim_size=num_rows, reduce='min')
        return keep[col == first[row]], None
    order = lexsort(col, value.neg(), row)
    row, col, value = row[order], col[order], value[order]
    count = torch.bincount(row, minlength=num_rows)
    start = count.cumsum(0) - count
    cut = value[(start + count.clamp(max=k) - 1)[row]]
    slack = TIE_TOLERANCE * cut.abs()
    above, tied = value > cut + slack, (value - cut).abs() <= slack
    free = k - torch.bincount(row[above], minlength=num_rows)[row]
    if ties == 'split':
        size = torch.bincount(row[tied], minlength=num_rows)[row]
        share = (free.to(value.dtype) / size).clamp_(max=1)
        share.masked_fill_(above, 1)
        kept = (above | tied).nonzero().view(-1)
        keep, again = order[kept].sort()
        return keep, share[kept[again]]
    # Inside the tie set the position of the target counts, not its score.
    tied = tied.nonzero().view(-1)
    tied = tied[lexsort(col[tied], row[tied])]
    size = torch.bincount(row[tied], minlength=num_rows)
    place = torch.arange(tied.numel(), device=row.device)
    place = place - (size.cumsum(0) - size)[row[tied]]
    tied = tied[place < free[tied]]
    return order[torch.cat([above.nonzero().view(-1), tied])].sort()[0], None


def _greedy(alignment: Alignment) -> Tensor:
    r"""The best pair that is left, by rounds: a pair that is the best of both
    its nodes is next in turn for certain, so all such pairs are taken at once.
    """
    row, col = alignment.match_index
    score = alignment.match_score.detach()
    # One total order decides between equals, so that rounds end.
    order = lexsort(col, row, score.neg())
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device)
    left, taken = order, []
    while left.numel() > 0:
        r, c, place = row[left], col[left], rank[left]
        first_r = scatter(place, r, dim_size=alignment.num_source,
                          reduce='min')
        first_c = scatter(place, c, dim_size=alignment.num_target,
                          reduce='min')
        won = (first_r[r] == place) & (first_c[c] == place)
        taken.append(left[won])
        used_r = torch.zeros(alignment.num_source, dtype=torch.bool,
                             device=row.device)
        used_c = torch.zeros(alignment.num_target, dtype=torch.bool,
                             device=row.device)
        used_r[r[won]] = True
        used_c[c[won]] = True
        left = left[~(used_r[r] | used_c[c])]
    return torch.cat(taken) if taken else order


def _lap(alignment: Alignment) -> Tensor:
    r"""Linear assignment, pair by pair, by SciPy's compiled solvers."""
    graph = alignment.batch
    order = torch.argsort(graph, stable=True)
    count = torch.bincount(graph, minlength=alignment.num_graphs)
    source_ptr, target_ptr = alignment.source_ptr, alignment.target_ptr
    kept, start = [], 0
    for b, size in enumerate(count.tolist()):
        place = order[start:start + size]
        start += size
        if size == 0:
            continue
        row = (alignment.match_index[0, place] - source_ptr[b]).cpu().numpy()
        col = (alignment.match_index[1, place] - target_ptr[b]).cpu().numpy()
        shape = (int(source_ptr[b + 1] - source_ptr[b]),
                 int(target_ptr[b + 1] - target_ptr[b]))
        score = alignment.match_score.detach()[place].double().cpu().numpy()
        won = assign(row, col, score, shape)
        kept.append(place[torch.from_numpy(won).to(place.device)])
    return torch.cat(kept) if kept else order


def assign(
    row: np.ndarray,
    col: np.ndarray,
    score: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    r"""Positions of the listed pairs in the one-to-one matching of the highest
    sum. An unlisted pair counts as zero, or as the lowest score if that is
    less: what is listed is never worse than what is not.
    """
    n, m = shape
    score = score - min(0., float(score.min()))
    if score.size > _SPARSE_SHARE * n * m:
        dense = np.zeros(shape)
        dense[row, col] = score
        place = np.full(shape, -1)
        place[row, col] = np.arange(score.size)
        found = place[linear_sum_assignment(dense, maximize=True)]
        return found[found >= 0]
    # A target of its own for each source node, worth zero, so that there is a
    # full matching; one more for all keeps zeros from counting as absent.
    own = np.arange(n)
    weights = sp.csr_matrix(
        (np.concatenate([score + 1, np.ones(n)]),
         (np.concatenate([row, own]), np.concatenate([col, m + own]))),
        shape=(n, m + n))
    left, right = min_weight_full_bipartite_matching(weights, maximize=True)
    key = row.astype(np.int64) * m + col
    order = np.argsort(key)
    real = right < m
    wanted = left[real].astype(np.int64) * m + right[real]
    return order[np.searchsorted(key, wanted, sorter=order)]


#: Lists of a smaller share of all pairs are matched as a sparse graph.
_SPARSE_SHARE = 0.1


def nonzero(mask: Tensor) -> Tensor:
    r"""The positions that are true; on the CPU, NumPy is three times faster.
    """
    if mask.device.type == 'cpu':
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().view(-1)


def is_sorted(match_index: Tensor, num_target: int) -> bool:
    r"""Whether pairs come by source, then by target position."""
    key = match_index[0] * num_target + match_index[1]
    return bool((key[1:] >= key[:-1]).all())


def expand(
    count: Tensor,
    first: Tensor,
    dtype: torch.dtype = torch.long,
) -> tuple[Tensor, Tensor]:
    r"""Pairs row :math:`r` with :obj:`count[r]` columns from :obj:`first[r]`
    on. Positions of type :obj:`torch.int` are faster to gather by.
    """
    row = torch.arange(count.numel(), dtype=dtype, device=count.device)
    row = row.repeat_interleave(count)
    offset = first - (count.cumsum(0) - count)
    col = offset.to(dtype).index_select(0, row)
    col += torch.arange(row.numel(), dtype=dtype, device=row.device)
    return row, col


def ragged_pairs(source_ptr: Tensor, target_ptr: Tensor) -> Tensor:
    r"""Every pair of a source and a target node of the same graph pair.

    Args:
        source_ptr (torch.Tensor): Where source graphs start, :obj:`[B + 1]`.
        target_ptr (torch.Tensor): Where target graphs start, :obj:`[B + 1]`.

    Returns:
        torch.Tensor: Global positions :obj:`[2, M]` with
        :math:`M = \sum_b n_b m_b`, sorted by source, then target.

    Example:
        >>> ragged_pairs(torch.tensor([0, 1, 2]), torch.tensor([0, 2, 3]))
        tensor([[0, 0, 1],
                [0, 1, 2]])
    """
    num_source = source_ptr[1:] - source_ptr[:-1]
    num_target = target_ptr[1:] - target_ptr[:-1]
    return torch.stack(expand(num_target.repeat_interleave(num_source),
                              target_ptr[:-1].repeat_interleave(num_source)))


def _max_size(ptr: Tensor) -> int:
    return int((ptr[1:] - ptr[:-1]).max()) if ptr.numel() > 1 else 0
