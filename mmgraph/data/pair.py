"""Two graphs to be aligned."""
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from mmgraph.data.validation import Report, check_finite
from mmgraph.data.view import GraphView, ptr_from_sizes

__all__ = ['GraphPair']

_EDGE_KEYS = {'edge_index_s', 'edge_index_t', 'match_index'}


class GraphPair(Data):
    r"""A source and a target graph with, where known, their gold matches.

    Batches with PyG's own loader: no :obj:`follow_batch` is needed, because
    the sizes ride along.

    Args:
        edge_index_s (torch.Tensor): Source edges :obj:`[2, E_s]`, int64.
        edge_index_t (torch.Tensor): Target edges :obj:`[2, E_t]`, int64.
        num_nodes_s (int, optional): Number of source nodes; counted from
            :obj:`x_s` if left out.
        num_nodes_t (int, optional): Number of target nodes; likewise.
        x_s (torch.Tensor, optional): Source features :obj:`[n_s, F]`.
        x_t (torch.Tensor, optional): Target features :obj:`[n_t, F]`.
        edge_attr_s (torch.Tensor, optional): :obj:`[E_s, D]`.
        edge_attr_t (torch.Tensor, optional): :obj:`[E_t, D]`.
        edge_type_s (torch.Tensor, optional): :obj:`[E_s]`, int64.
        edge_type_t (torch.Tensor, optional): :obj:`[E_t]`, int64.
        match_index (torch.Tensor, optional): Gold matches :obj:`[2, M]`,
            int64: row 0 counts source nodes, row 1 target nodes.

    Example:
        >>> pair = GraphPair(edge_index_s=torch.tensor([[0, 1], [1, 2]]),
        ...                  edge_index_t=torch.tensor([[0], [1]]),
        ...                  num_nodes_s=3, num_nodes_t=2)
        >>> pair.source.num_nodes, pair.target.num_nodes
        (3, 2)
    """
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if 'edge_index_s' in self:  # Not the empty shell that PyG fills.
            for side in 's', 't':
                if f'num_nodes_{side}' in self:
                    continue
                if f'x_{side}' not in self:
                    raise ValueError(f"a graph without features needs "
                                     f"'num_nodes_{side}' (got neither it "
                                     f"nor 'x_{side}')")
                self[f'num_nodes_{side}'] = self[f'x_{side}'].size(0)
            self['num_nodes'] = self.num_nodes_s + self.num_nodes_t

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == 'match_index':
            return torch.tensor([[int(self.num_nodes_s)],
                                 [int(self.num_nodes_t)]])
        if key in _EDGE_KEYS:
            return self[f'num_nodes_{key[-1]}']
        return 0

    def __cat_dim__(
        self,
        key: str,
        value: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        return 1 if key in _EDGE_KEYS else 0

    def _view(self, side: str) -> GraphView:
        edge_index = self[f'edge_index_{side}']
        sizes = torch.as_tensor(self[f'num_nodes_{side}'],
                                device=edge_index.device).view(-1)
        index = torch.arange(sizes.numel(), device=sizes.device)
        return GraphView(
            x=self.get(f'x_{side}'),
            edge_index=edge_index,
            edge_type=self.get(f'edge_type_{side}'),
            edge_attr=self.get(f'edge_attr_{side}'),
            batch=index.repeat_interleave(sizes),
            ptr=ptr_from_sizes(sizes),
        )

    @property
    def source(self) -> GraphView:
        r"""The source graph(s)."""
        return self._view('s')

    @property
    def target(self) -> GraphView:
        r"""The target graph(s)."""
        return self._view('t')

    def validate(self, raise_on_error: bool = True) -> bool:
        r"""Checks positions and features; see :meth:`Post.validate`."""
        report = Report(self)
        sizes = {side: int(torch.as_tensor(self[f'num_nodes_{side}']).sum())
                 for side in 'st'}
        limits = {'edge_index_s': ('s', 's'), 'edge_index_t': ('t', 't'),
                  'match_index': ('s', 't')}
        for key, sides in limits.items():
            value = self.get(key)
            if value is None:
                continue
            for row, side in enumerate(sides):
                wrong = ((value[row] < 0)
                         | (value[row] >= sizes[side])).nonzero()
                if wrong.numel():
                    e = int(wrong[0])
                    report.add(f"'{key}' row {row} must be in "
                               f'[0, {sizes[side]}) '
                               f'(got {int(value[row, e])} at column {e})')
        for side, size in sizes.items():
            x = self.get(f'x_{side}')
            if x is not None and x.size(0) != size:
                report.add(f"'x_{side}' must have one row a node "
                           f'(got {x.size(0)} for {size} nodes)')
        check_finite(report, self)
        return report.close(raise_on_error)

    def __repr__(self) -> str:
        if isinstance(self, Batch) or 'edge_index_s' not in self:
            return super().__repr__()
        gold = self.get('match_index')
        known = '' if gold is None else f', {gold.size(1)} gold matches'
        return (f'{type(self).__name__}({int(self.num_nodes_s)} nodes, '
                f'{self.edge_index_s.size(1)} edges | {int(self.num_nodes_t)} '
                f'nodes, {self.edge_index_t.size(1)} edges{known})')
