"""Alignment of a post's words and objects, computed once."""
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import GraphView, Post, batch_view

__all__ = ['Align']


@functional_transform('align')
class Align(BaseTransform):  # type: ignore[misc]
    r"""Runs an aligner on a post and keeps what it finds as (word, aligns,
    object) edges with :obj:`edge_weight` (functional name: :obj:`align`).

    As :obj:`pre_transform` of a data set it runs once a post, not once an
    instance. No gradient reaches the aligner: one that is trained belongs in
    the model.

    .. note::
        A data set's cache is keyed by :func:`repr`. A hash of the aligner's
        settings and parameters is therefore part of it.

    Args:
        aligner (callable): Takes two :class:`~mmgraph.data.GraphView`, the
            words and the objects, and gives an alignment with
            :obj:`match_index [2, M]` and :obj:`match_score [M]`: any
            :class:`~mmgraph.nn.align.Aligner`.
    """
    def __init__(self, aligner: Callable[[GraphView, GraphView], Any]) -> None:
        self.aligner = aligner

    def forward(self, data: Post) -> Post:
        words, objects = batch_view(data, 'word'), batch_view(data, 'object')
        index = words.edge_index.new_empty(2, 0)
        weight: Tensor = torch.empty(0, device=index.device)
        if words.num_nodes > 0 and objects.num_nodes > 0:
            with torch.no_grad():
                found = self.aligner(words, objects)
            index = found.match_index
            weight = found.match_score.detach().float()
        store = data['word', 'aligns', 'object']
        store.edge_index, store.edge_weight = index, weight
        return data

    def __repr__(self) -> str:
        more = ''
        if isinstance(self.aligner, nn.Module):
            more = f', digest={_digest(self.aligner)}'
        return f'{type(self).__name__}({self.aligner!r}{more})'


def _digest(module: nn.Module) -> str:
    r"""A hash of a module's settings, which its :func:`repr` may leave out,
    and of its parameters.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = sorted(
            (key, value) for key, value in vars(part).items()
            if not key.startswith('_') and key != 'training'
            and isinstance(value, bool | int | float | str | None))
        digest.update(repr((name, settings)).encode())
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().view(-1)
                      .view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
