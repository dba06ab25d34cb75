from abc import abstractmethod

import torch
from torch import Tensor

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.base import (
    TIE_TOLERANCE,
    Aligner,
    Alignment,
    nonzero,
    select_topk,
)
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least

__all__ = ['DenseAligner']

#: Scores whose best are looked for at once.
_PIECE = 2**24


class DenseAligner(Aligner):
    r"""Base of the aligners for networks that score every pair of nodes: one
    pair of graphs at a time, no gradient.

    A subclass implements :meth:`score`, for a pair with at least one node on
    each side, and says what it is about; the batch, the empty graphs, the
    random numbers and the result are dealt with here.

    Args:
        top_k (int, optional): How many targets a source node keeps, the
            lowest positions among equals; :obj:`None` keeps all.
            (default: :obj:`None`)
        max_entries (int): How many scores a pair may have. Memory is a small
            multiple of it. (default: :obj:`268435456`)
        seed (int): Seed of what is drawn. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range or, in the forward pass, a
            pair is larger than :obj:`max_entries`.
    """
    reads_features = False

    def __init__(
        self,
        top_k: int | None = None,
        max_entries: int = 2**28,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(1, top_k=top_k, max_entries=max_entries)
        self.top_k = top_k
        self.max_entries = max_entries
        self.seed = seed

    @abstractmethod
    def score(
        self,
        source: GraphView,
        target: GraphView,
        seeds: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        r"""Scores every pair of nodes of one pair of graphs.

        Args:
            source (GraphView): One graph of :math:`n \geq 1` nodes.
            target (GraphView): One graph of :math:`m \geq 1` nodes.
            seeds (torch.Tensor): Known matches :obj:`[2, S]`, local
                positions; :math:`S` may be zero.
            generator (torch.Generator): Where random numbers come from.

        Returns:
            torch.Tensor: Finite scores :obj:`[n, m]`, the higher the better.
        """

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
        device = source.batch.device
        dtype = torch.float
        if source.x is not None and source.x.is_floating_point():
            dtype = source.x.dtype
        if seeds is None:
            seeds = torch.empty(2, 0, dtype=torch.long, device=device)
        seed_graph = source.batch[seeds[0]]
        fresh = self.pair_generator(generator)
        index = [torch.empty(2, 0, dtype=torch.long, device=device)]
        score = [torch.empty(0, dtype=dtype, device=device)]
        starts = torch.stack([source.ptr[:-1], target.ptr[:-1]], dim=1)
        pairs = zip(source.unbatch(), target.unbatch(), starts.unsqueeze(2))
        for b, (one, other, start) in enumerate(pairs):
            n, m = one.num_nodes, other.num_nodes
            if n == 0 or m == 0:
                continue
            if n * m > self.max_entries:
                raise ValueError(
                    f"'{type(self).__name__}' holds a score for each of the "
                    f"{n} x {m} pairs of nodes, more than 'max_entries' "
                    f"({self.max_entries}); 'StructuralAligner' does not")
            known = seeds[:, seed_graph == b] - start
            scores = self.score(one, other, known, fresh())
            if scores.shape != (n, m):
                raise ShapeError(
                    f"'{type(self).__name__}.score' must return shape "
                    f'[{n}, {m}] (got {list(scores.shape)})', (n, m),
                    scores.shape)
            found, value = best_of(scores, self.top_k)
            index.append(found + start)
            score.append(value.to(dtype))
        return Alignment(torch.cat(index, dim=1), torch.cat(score),
                         source.ptr, target.ptr)

    def extra_repr(self) -> str:
        return '' if self.top_k is None else f'top_k={self.top_k}'


def best_of(scores: Tensor, top_k: int | None) -> tuple[Tensor, Tensor]:
    r"""The best targets of each row of a matrix of scores, all by default, as
    pairs :obj:`[2, M]` sorted by row, then column, and their scores.
    """
    n, m = scores.shape
    if top_k is None or top_k >= m:
        rows = torch.arange(n, device=scores.device).repeat_interleave(m)
        cols = torch.arange(m, device=scores.device).repeat(n)
        return torch.stack([rows, cols]), scores.reshape(-1)
    index, score = [], []
    for start in range(0, n, max(1, _PIECE // m)):
        part = scores[start:start + max(1, _PIECE // m)]
        cut = part.topk(top_k).values[:, -1:]
        near = part >= cut - 2 * TIE_TOLERANCE * cut.abs()
        place = nonzero(near.reshape(-1))
        row = place.div(m, rounding_mode='floor')
        col = place - row * m
        value = part.reshape(-1)[place]
        keep, _ = select_topk(row, col, value, top_k, 'first', part.size(0))
        index.append(torch.stack([row[keep] + start, col[keep]]))
        score.append(value[keep])
    return torch.cat(index, dim=1), torch.cat(score)
