"""Noise: edges that are missing."""
from typing import Literal

from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import GraphPair
from mmgraph.transforms._pair import (
    check_noise,
    check_pair,
    draw_edges,
    edges_of,
    fresh_generator,
    keep_columns,
    sides_of,
)

__all__ = ['DropEdges']


@functional_transform('drop_edges')
class DropEdges(BaseTransform):  # type: ignore[misc]
    r"""Drops each edge of a pair with probability :obj:`p` (functional name:
    :obj:`drop_edges`): the one-way noise of the network-alignment literature
    for :obj:`side='target'`, the two-way noise for :obj:`side='both'`.

    Edges are undirected: :math:`\{u, v\}` is one edge whether
    :obj:`edge_index` holds :math:`(u, v)`, :math:`(v, u)` or both, and all its
    columns go together, with their attributes. Matches do not change.

    .. note::
        By default no node loses its last edge, as an isolated node cannot be
        aligned by structure: edges are taken in random order, and one that is
        the last of a node stays. Where many nodes have one edge only, fewer
        than :math:`p m` edges go. The published generator takes edges in file
        order, so that the last ones listed of a node are the ones kept.

    Args:
        p (float): The probability, in :math:`[0, 1]`.
        side (str, optional): :obj:`'source'`, :obj:`'target'` or
            :obj:`'both'` (each on its own). (default: :obj:`'target'`)
        allow_isolated (bool, optional): Whether a node may lose all edges.
            (default: :obj:`False`)
        seed (int, optional): Seed of the draw: the same pair gives the same
            result at each call. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range, or the data is not one
            :class:`~mmgraph.data.GraphPair`.

    Example:
        >>> import torch
        >>> edges = torch.arange(100)
        >>> edges = torch.stack([edges, (edges + 1) % 100])  # a ring
        >>> pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
        ...                  num_nodes_s=100, num_nodes_t=100)
        >>> DropEdges(0.2)(pair)
        GraphPair(100 nodes, 100 edges | 100 nodes, 87 edges)
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
            generator = fresh_generator(self.seed, 'DropEdges', side)
            edges = edges_of(pair, side)
            gone = draw_edges(edges, int(pair[f'num_nodes_{side}']), self.p,
                              self.allow_isolated, generator)
            keep_columns(pair, side, ~gone[edges.column])
        return pair

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(p={self.p}, side={self.side!r}, '
                f'allow_isolated={self.allow_isolated}, seed={self.seed})')
