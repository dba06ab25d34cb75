"""What the transforms of network pairs share."""
import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from mmgraph.data import GraphPair
from mmgraph.utils import suggest

_SIDES = {'source': 's', 'target': 't', 'both': 'st'}


def check_noise(p: float, side: str) -> None:
    r"""Refuses bad arguments of a noise transform."""
    if not 0 <= p <= 1:
        raise ValueError(f"'p' must be in [0, 1] (got {p})")
    if side not in _SIDES:
        raise ValueError(f"'side' must name a graph of the pair (got "
                         f'{side!r}); {suggest(side, list(_SIDES))}')


def fresh_generator(seed: int, *salt: str) -> torch.Generator:
    r"""A generator of its own for each use of a seed: two transforms of a
    chain, or two sides, with the same seed do not draw the same numbers.
    """
    digest = hashlib.sha256(repr((seed, salt)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], 'big'))


def sides_of(side: str) -> str:
    r"""The suffixes of the sides named."""
    return _SIDES[side]


def check_pair(data: Any) -> GraphPair:
    r"""Refuses what is not a single pair."""
    if not isinstance(data, GraphPair) or isinstance(data, Batch):
        raise ValueError(f"'data' must be one 'GraphPair' (got a "
                         f"'{type(data).__name__}'); transform pairs before "
                         f'they are batched')
    return data


class Edges(NamedTuple):
    r"""The undirected edges of one graph.

    Args:
        ends (torch.Tensor): Their ends :obj:`[2, m]`, the lower one first,
            sorted; no duplicates.
        column (torch.Tensor): The edge that each column of
            :obj:`edge_index` belongs to, :obj:`[E]`: one that is stored in
            both directions, or twice, has several columns.
    """
    ends: Tensor
    column: Tensor


def edges_of(pair: GraphPair, side: str) -> Edges:
    r"""The undirected edges of one side of a pair."""
    n = max(int(pair[f'num_nodes_{side}']), 1)
    ends = pair[f'edge_index_{side}'].sort(dim=0).values
    key, column = torch.unique(ends[0] * n + ends[1], return_inverse=True)
    low = key.div(n, rounding_mode='floor')
    return Edges(torch.stack([low, key - low * n]), column)


def draw_edges(
    edges: Edges,
    num_nodes: int,
    p: float,
    allow_isolated: bool,
    generator: torch.Generator,
) -> Tensor:
    r"""A mask :obj:`[m]` of the edges to go, each with probability :obj:`p`.

    Edges are taken in random order; one that is the last of a node stays
    unless :obj:`allow_isolated`. Self-loops are not counted as edges of a
    node.
    """
    m = edges.ends.size(1)
    device = edges.ends.device
    draw = torch.rand(m, generator=generator, dtype=torch.double).to(device)
    gone = draw < p
    if allow_isolated:
        return gone
    loop = edges.ends[0] == edges.ends[1]

    def degree(mask: Tensor) -> Tensor:
        return torch.bincount(edges.ends[:, mask].reshape(-1),
                              minlength=num_nodes)

    # Only nodes that would lose all they have need to be looked at one by one.
    left = degree(~gone & ~loop)
    lost = (left == 0) & (degree(gone & ~loop) > 0)
    doubt = (gone & ~loop & lost[edges.ends].any(dim=0)).nonzero().view(-1)
    gone[doubt] = False
    spare = degree(~gone & ~loop).tolist()
    order = doubt[draw[doubt].argsort()]
    for place, (u, v) in zip(order.tolist(), edges.ends[:, order].t().tolist(),
                             strict=True):
        if spare[u] > 1 and spare[v] > 1:
            spare[u] -= 1
            spare[v] -= 1
            gone[place] = True
    return gone


def keep_columns(pair: GraphPair, side: str, mask: Tensor) -> None:
    r"""Drops the other columns of :obj:`edge_index` with what belongs to
    them.
    """
    key = f'edge_index_{side}'
    pair[key] = pair[key][:, mask]
    for key in f'edge_attr_{side}', f'edge_type_{side}':
        if pair.get(key) is not None:
            pair[key] = pair[key][mask]
