"""The target graph under another numbering."""
import torch
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import GraphPair
from mmgraph.transforms._pair import check_pair, fresh_generator

__all__ = ['PermutedCopy']


@functional_transform('permuted_copy')
class PermutedCopy(BaseTransform):  # type: ignore[misc]
    r"""Renumbers the target nodes of a pair by a random permutation and
    shuffles the columns of its edges, so that neither the numbering nor the
    order of anything tells who corresponds to whom (functional name:
    :obj:`permuted_copy`).

    :obj:`x_t` and :obj:`match_index` follow; matches stay in the order of the
    source nodes. A pair of a graph and itself becomes a graph and a permuted
    copy of it. Put it last: solvers that favour the diagonal, or low positions
    among equals, profit from equal numberings.

    Args:
        seed (int, optional): Seed of the permutation: the same pair gives the
            same result at each call. (default: :obj:`0`)

    Raises:
        ValueError: If the data is not one :class:`~mmgraph.data.GraphPair`.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
        ...                  num_nodes_s=3, num_nodes_t=3,
        ...                  match_index=torch.arange(3).repeat(2, 1))
        >>> PermutedCopy(seed=1)(pair).match_index
        tensor([[0, 1, 2],
                [1, 2, 0]])
    """
    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def forward(self, data: GraphPair) -> GraphPair:
        pair = check_pair(data)
        generator = fresh_generator(self.seed, 'PermutedCopy')
        n, edge_index = int(pair.num_nodes_t), pair.edge_index_t
        # The new position of each old one.
        place = torch.randperm(n, generator=generator).to(edge_index.device)
        order = torch.randperm(edge_index.size(1), generator=generator).to(
            edge_index.device)
        pair.edge_index_t = place[edge_index[:, order]]
        for key in 'edge_attr_t', 'edge_type_t':
            if pair.get(key) is not None:
                pair[key] = pair[key][order]
        if pair.get('x_t') is not None:
            pair.x_t = pair.x_t[place.argsort()]
        if pair.get('match_index') is not None:
            source, target = pair.match_index
            order = torch.argsort(source, stable=True)
            pair.match_index = torch.stack([source, place[target]])[:, order]
        return pair

    def __repr__(self) -> str:
        return f'{type(self).__name__}(seed={self.seed})'
