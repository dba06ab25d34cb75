"""Noise: edges that are elsewhere."""
import math
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import GraphPair
from mmgraph.transforms._pair import (
    check_noise,
    check_pair,
    draw_edges,
    edges_of,
    fresh_generator,
    sides_of,
)

__all__ = ['RewireEdges']


@functional_transform('rewire_edges')
class RewireEdges(BaseTransform):  # type: ignore[misc]
    r"""Drops each edge of a pair with probability :obj:`p` and adds as many
    random ones (functional name: :obj:`rewire_edges`): the multimodal noise of
    the network-alignment literature. The number of edges does not change.

    Edges are undirected, see :class:`~mmgraph.transforms.DropEdges`. A new
    edge joins two different nodes, uniformly among the pairs that had no edge
    before (so that none comes back), and takes over the columns and attributes
    of a dropped one. Self-loops are let alone.

    .. note::
        A published generator toggles random *pairs*, as many as a share of
        the directed edges: twice the noise that it names, and on sparse
        graphs almost all of it insertions.

    Args:
        p (float): The probability, in :math:`[0, 1]`.
        side (str, optional): :obj:`'source'`, :obj:`'target'` or
            :obj:`'both'` (each on its own). (default: :obj:`'target'`)
        allow_isolated (bool, optional): Whether a node may lose all its old
            edges. (default: :obj:`False`)
        seed (int, optional): Seed of the draw: the same pair gives the same
            result at each call. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range, the data is not one
            :class:`~mmgraph.data.GraphPair`, or a graph has fewer pairs
            without an edge than are needed.

    Example:
        >>> edges = torch.arange(100)
        >>> edges = torch.stack([edges, (edges + 1) % 100])  # a ring
        >>> pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
        ...                  num_nodes_s=100, num_nodes_t=100)
        >>> out = RewireEdges(0.2)(pair)
        >>> int((out.edge_index_t != edges).any(dim=0).sum())
        18
    """
    def __init__(
        self,
        p: float,
        side: Literal['source', 'target', 'both'] = 'target',
        allow_isolated: bool = False,
        seed: int = 0,
    ) -> None:
        check_noise(p, side)
        self.p = p
        self.side = side
        self.allow_isolated = allow_isolated
        self.seed = seed

    def forward(self, data: GraphPair) -> GraphPair:
        pair = check_pair(data)
        for side in sides_of(self.side):
            generator = fresh_generator(self.seed, 'RewireEdges', side)
            n = int(pair[f'num_nodes_{side}'])
            edges = edges_of(pair, side)
            gone = draw_edges(edges, n, self.p, self.allow_isolated, generator)
            gone &= edges.ends[0] != edges.ends[1]
            dropped = gone.nonzero().view(-1)
            new = _non_edges(edges.ends, n, dropped.numel(), generator)
            moved = edges.ends.clone()
            moved[:, dropped] = new
            # (v, u) of a dropped edge becomes (v', u') of the new one.
            key = f'edge_index_{side}'
            ends = moved[:, edges.column]
            turned = pair[key][0] > pair[key][1]
            pair[key] = torch.where(turned, ends.flip(0), ends)
        return pair

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(p={self.p}, side={self.side!r}, '
                f'allow_isolated={self.allow_isolated}, seed={self.seed})')


def _non_edges(
    ends: Tensor,
    num_nodes: int,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    r"""Different pairs :math:`u < v` without an edge, in random order."""
    if count == 0:
        return ends[:, :0]
    low, high = ends[:, ends[0] != ends[1]]
    # Pairs are numbered 0, 1, ... as (0, 1), (0, 2), (1, 2), (0, 3), ...
    taken = (high * (high - 1) // 2 + low).sort().values
    free = num_nodes * (num_nodes - 1) // 2 - taken.numel()
    if count > free:
        raise ValueError(f"'p' asks for {count} new edges; the graph has only "
                         f'{free} pairs of nodes without an edge')
    rank = _distinct(free, count, generator).to(ends.device)
    # Before the r-th free pair come as many taken ones as have r or fewer
    # free ones before them.
    before = taken - torch.arange(taken.numel(), device=taken.device)
    pair = rank + torch.searchsorted(before, rank, right=True)
    v = ((1 + (1 + 8 * pair.double()).sqrt()) / 2).long()
    # The root may be off by one where numbers are large.
    v -= (v * (v - 1) // 2 > pair).long()
    v += (v * (v + 1) // 2 <= pair).long()
    return torch.stack([pair - v * (v - 1) // 2, v])


def _distinct(limit: int, count: int, generator: torch.Generator) -> Tensor:
    r"""Different numbers below :obj:`limit`, uniformly, in random order."""
    if count > limit // 4:
        return torch.randperm(limit, generator=generator)[:count]
    found = torch.empty(0, dtype=torch.long)
    while found.numel() < count:
        more = math.ceil(1.2 * (count - found.numel())) + 8
        found = torch.cat([found, torch.randint(limit, (more, ),
                                                generator=generator)]).unique()
    # unique() sorts: the order, and who is one too many, are drawn.
    return found[torch.randperm(found.numel(), generator=generator)[:count]]
