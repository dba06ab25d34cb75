import math

import torch
from torch import Tensor, nn

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.base import Aligner, Alignment, check_views, features_of
from mmgraph.nn.ragged import pad_rows
from mmgraph.typing import OptTensor
from mmgraph.utils import check_positive

__all__ = ['SemanticAligner']


class SemanticAligner(Aligner):
    r"""Guided attention: each target node (an image object) asks which source
    nodes (words) speak of it, from `"Multimodal Relation Extraction with
    Efficient Graph Alignment" <https://doi.org/10.1145/3474085.3476968>`_
    (ACM MM 2021, Section 3.3.2)

    .. math::
        \mathbf{K} = \mathbf{X}_s \mathbf{W}_k + \mathbf{b}_k, \quad
        \mathbf{Q} = \mathbf{X}_t \mathbf{W}_q + \mathbf{b}_q, \quad
        \boldsymbol{\beta} = \mathrm{softmax}\left(\frac{\mathbf{Q}
        \mathbf{K}^{\top}}{\sqrt{d}}\right)

    with the softmax over the source nodes of the pair; source node :math:`i`
    and target node :math:`j` score :math:`\beta_{ji}`.

    .. note::
        The published code lets padded word pieces take part in the softmax
        and passes each input through two linear maps in a row, which are one.
        Here only real nodes take part and there is one map each.

    Args:
        source_channels (int): Size of each source node feature.
        target_channels (int): Size of each target node feature.
        hidden_channels (int): Size :math:`d` of keys and queries.
        bias (bool): Whether the maps have a bias. (default: :obj:`True`)

    Raises:
        ValueError: If a size is not positive.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs, :obj:`x` of shape
      :math:`(\sum_b n_b, C_s)`
    * **target:** :math:`B` graphs, :obj:`x` of shape
      :math:`(\sum_b m_b, C_t)`
    * **output:** all :math:`\sum_b n_b m_b` pairs; scores in :math:`[0, 1]`,
      those of one target node sum to one

    Complexity: :math:`O(B N_s N_t d)` with the largest sizes of the batch.

    Example:
        >>> words = GraphView.single(torch.empty(2, 0, dtype=torch.long), 3,
        ...                          x=torch.randn(3, 8))
        >>> objects = words._replace(x=torch.randn(3, 5))
        >>> SemanticAligner(8, 5, 16)(words, objects)
        Alignment(num_graphs=1, num_source=3, num_target=3, num_matches=9)
    """
    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        hidden_channels: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(source_channels=source_channels,
                       target_channels=target_channels,
                       hidden_channels=hidden_channels)
        self.source_channels = source_channels
        self.target_channels = target_channels
        self.hidden_channels = hidden_channels
        self.lin_key = nn.Linear(source_channels, hidden_channels, bias)
        self.lin_query = nn.Linear(target_channels, hidden_channels, bias)

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        self.lin_key.reset_parameters()
        self.lin_query.reset_parameters()

    def forward(
        self,
        source: GraphView,
        target: GraphView,
        *,
        seeds: OptTensor = None,
        generator: torch.Generator | None = None,
    ) -> Alignment:
        self.check(source, target, seeds)
        x_s, x_t = features_of(source, target)
        beta = self.attention(x_s, x_t, source, target)
        return Alignment.from_dense(beta.transpose(1, 2), source, target)

    def attention(
        self,
        x_source: Tensor,
        x_target: Tensor,
        source: GraphView,
        target: GraphView,
    ) -> Tensor:
        r"""The attention :math:`\boldsymbol{\beta}` of target over source
        nodes as a padded matrix.

        Args:
            x_source (torch.Tensor): Source features
                :math:`(\sum_b n_b, C_s)`; those of the view are not read.
            x_target (torch.Tensor): Target features
                :math:`(\sum_b m_b, C_t)`.
            source (GraphView): Which rows belong to which graph.
            target (GraphView): Which rows belong to which graph.

        Returns:
            torch.Tensor: Weights :obj:`[B, N_t, N_s]`. Rows of real target
            nodes sum to one (to zero if the pair has no source node); padding
            is zero.

        Raises:
            ShapeError: If features do not fit the views or the layer.
        """
        check_views(source, target)
        for name, x, view, size in (
            ('x_source', x_source, source, self.source_channels),
            ('x_target', x_target, target, self.target_channels),
        ):
            if x.dim() != 2 or x.shape != (view.num_nodes, size):
                raise ShapeError(
                    f"'{name}' must have shape [{view.num_nodes}, {size}] "
                    f"(got {list(x.shape)})", (view.num_nodes, size), x.shape)
        key, key_mask = pad_rows(self.lin_key(x_source), source.batch,
                                 source.ptr)
        query, query_mask = pad_rows(self.lin_query(x_target), target.batch,
                                     target.ptr)
        logit = query @ key.transpose(1, 2) / math.sqrt(self.hidden_channels)
        hidden = ~key_mask.unsqueeze(1)
        # A finite fill: a row without any source node stays free of NaN.
        logit = logit.masked_fill(hidden, torch.finfo(logit.dtype).min)
        beta = logit.softmax(dim=-1)
        return beta.masked_fill(hidden | ~query_mask.unsqueeze(2), 0)

    def extra_repr(self) -> str:
        return f'hidden_channels={self.hidden_channels}'
