"""Noise: node attributes that are wrong."""
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import GraphPair
from mmgraph.transforms._pair import (
    check_noise,
    check_pair,
    fresh_generator,
    sides_of,
)

__all__ = ['FlipAttributes']


@functional_transform('flip_attributes')
class FlipAttributes(BaseTransform):  # type: ignore[misc]
    r"""Changes each entry of the node attributes of a pair with probability
    :obj:`p` (functional name: :obj:`flip_attributes`).

    Categorical attributes (whole numbers) become another value of their
    column, uniformly among the *other* values that either graph has there: an
    entry that is drawn does change, unless its column has one value only.
    Binary attributes (floating point, 0 and 1) become the other one.

    Args:
        p (float): The probability, in :math:`[0, 1]`.
        side (str, optional): :obj:`'source'`, :obj:`'target'` or
            :obj:`'both'` (each on its own). (default: :obj:`'target'`)
        seed (int, optional): Seed of the draw: the same pair gives the same
            result at each call. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range, the data is not one
            :class:`~mmgraph.data.GraphPair`, or its attributes are missing
            or neither categorical nor binary.

    Example:
        >>> edges = torch.empty(2, 0, dtype=torch.long)
        >>> pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
        ...                  x_s=torch.tensor([[0], [1], [2]]),
        ...                  x_t=torch.tensor([[0], [1], [2]]))
        >>> FlipAttributes(1.0)(pair).x_t.view(-1)
        tensor([1, 2, 1])
    """
    def __init__(
        self,
        p: float,
        side: Literal['source', 'target', 'both'] = 'target',
        seed: int = 0,
    ) -> None:
        check_noise(p, side)
        self.p = p
        self.side = side
        self.seed = seed

    def forward(self, data: GraphPair) -> GraphPair:
        pair = check_pair(data)
        before = {side: pair.get(f'x_{side}') for side in 'st'}
        for side in sides_of(self.side):
            generator = fresh_generator(self.seed, 'FlipAttributes', side)
            x = before[side]
            if x is None:
                raise ValueError(f"'x_{side}' must hold node attributes (got "
                                 f'None)')
            flip = torch.rand(x.shape, generator=generator,
                              dtype=torch.double).to(x.device) < self.p
            if x.is_floating_point():
                if not bool(((x == 0) | (x == 1)).all()):
                    raise ValueError(
                        f"'x_{side}' must be binary or categorical: 0 and 1, "
                        f'or whole numbers (got other {x.dtype} values)')
                pair[f'x_{side}'] = torch.where(flip, 1 - x, x)
                continue
            other = before['t' if side == 's' else 's']
            if other is None or other.shape[1:] != x.shape[1:] or (
                    other.numel() == 0):
                other = x
            if x.numel() == 0:
                continue
            pair[f'x_{side}'] = _other_values(x, other, flip, generator)
        return pair

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(p={self.p}, side={self.side!r}, '
                f'seed={self.seed})')


def _other_values(
    x: Tensor,
    other: Tensor,
    flip: Tensor,
    generator: torch.Generator,
) -> Tensor:
    r"""Another value of its column for each entry to be flipped."""
    columns = x.view(x.size(0), -1)
    out = columns.clone()
    both = torch.cat([columns, other.view(other.size(0), -1)])
    flip = flip.view(columns.shape)
    for j in range(columns.size(1)):
        values = both[:, j].unique()
        place = flip[:, j].nonzero().view(-1)
        if values.numel() < 2 or place.numel() == 0:
            continue
        # A step of 1, ..., k - 1 around the k values never comes back.
        step = torch.randint(1, values.numel(), (place.numel(), ),
                             generator=generator).to(x.device)
        old = torch.searchsorted(values, columns[place, j].contiguous())
        out[place, j] = values[(old + step) % values.numel()]
    return out.view(x.shape)
