"""Checks that the graph classes share."""
from typing import Any

import torch
from torch import Tensor

__all__ = [
    'Report', 'check_boxes', 'check_edges', 'check_finite', 'check_rows'
]


class Report:
    r"""Collects what is wrong with a graph and raises it as one error.

    Args:
        graph: The graph; its :obj:`post_id`, if any, opens the message.
    """
    def __init__(self, graph: Any) -> None:
        name = graph.get('post_id') if hasattr(graph, 'get') else None
        self.place = f'{type(graph).__name__} {name or ""}'.strip()
        self.faults: list[str] = []

    @property
    def ok(self) -> bool:
        return not self.faults

    def add(self, fault: str) -> None:
        self.faults.append(fault)

    def close(self, raise_on_error: bool) -> bool:
        if self.faults and raise_on_error:
            raise ValueError(f'{self.place}: ' + '; '.join(self.faults))
        return self.ok


def check_edges(
    report: Report,
    store: Any,
    num_source: int,
    num_target: int,
    name: str = 'edge_index',
) -> None:
    r"""Shape and range of an edge store."""
    edge_index = store.get('edge_index')
    if edge_index is None or edge_index.dim() != 2 \
            or edge_index.size(0) != 2 or edge_index.dtype != torch.long:
        report.add(f"'{name}' must be an int64 tensor of shape [2, E]")
        return
    for row, (limit, end) in enumerate(((num_source, 'source'),
                                        (num_target, 'target'))):
        index = edge_index[row]
        wrong = ((index < 0) | (index >= limit)).nonzero()
        if wrong.numel():
            e = int(wrong[0])
            report.add(f"'{name}': {end} positions must be in [0, {limit}) "
                       f'(got {int(index[e])} at edge {e})')
    for key in ('edge_type', 'edge_score', 'edge_weight', 'relation_id'):
        value = store.get(key)
        if isinstance(value, Tensor) \
                and value.size(0) != edge_index.size(1):
            report.add(f"'{name}' and '{key}' must be equally long "
                       f'(got {edge_index.size(1)} and {value.size(0)})')
        if isinstance(value, Tensor) and key in ('edge_type', 'relation_id') \
                and value.numel() and int(value.min()) < 0:
            e = int(value.argmin())
            report.add(f"'{key}' must not be negative "
                       f'(got {int(value[e])} at edge {e} of {name})')


def check_boxes(report: Report, store: Any, name: str = 'box') -> None:
    r"""Boxes are inside the image and not inside out."""
    box = store.get('box')
    if box is None:
        return
    if box.dim() != 2 or box.size(1) != 4:
        report.add(f"'{name}' must have shape [m, 4] (got {list(box.shape)})")
        return
    wrong = ((box < 0) | (box > 1)).any(1) | (box[:, :2] > box[:, 2:]).any(1)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        report.add(f"'{name}' must be x1 <= x2, y1 <= y2 as fractions of the "
                   f'image in [0, 1] (got {box[i].tolist()} at object {i})')


def check_rows(
    report: Report,
    store: Any,
    num_nodes: int,
    name: str = '',
) -> None:
    r"""There is one attribute row a node, and no id is negative."""
    for key, value in store.items():
        if not isinstance(value, Tensor) or key in ('batch', 'ptr') \
                or key.startswith('edge_'):
            continue
        where = f'{name}.{key}' if name else key
        if value.size(0) != num_nodes:
            report.add(f"'{where}' must have one row a node "
                       f'(got {value.size(0)} for {num_nodes})')
        if key.endswith('_id') and value.numel() and int(value.min()) < 0:
            report.add(f"'{where}' must not be negative "
                       f'(got {int(value.min())} at row '
                       f'{int(value.argmin())})')


def check_finite(report: Report, store: Any, name: str = '') -> None:
    r"""Features are finite."""
    for key, value in store.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            wrong = (~torch.isfinite(value)).nonzero()
            if wrong.numel():
                where = f'{name}.{key}' if name else key
                report.add(f"'{where}' must be finite "
                           f'(got {float(value[tuple(wrong[0])])} at row '
                           f'{int(wrong[0][0])})')
