"""Relation classification from two marked mentions."""
import torch
from torch import Tensor, nn

from mmgraph.data import Post
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.ragged import first_of_group
from mmgraph.typing import OptTensor

__all__ = ['MarkerPairHead', 'relation_rows']


def relation_rows(batch: Post, node_type: str) -> tuple[Tensor, Tensor]:
    r"""The rows of :obj:`batch[node_type]` that stand for the head and the
    tail of each relation, :obj:`[R]` each: a mention's opening marker
    (:obj:`'token'`) or its first word (:obj:`'word'`).

    Raises:
        ValueError: If a mention has no opening marker.
    """
    name = 'marked_by' if node_type == 'token' else 'covers'
    entity, row = batch['entity', name, node_type].edge_index
    first = first_of_group(entity, row, int(batch['entity'].num_nodes))
    rows = first[batch['entity', 'relation', 'entity'].edge_index]
    if entity.numel() < first.numel() and bool((rows < 0).any()):
        raise ValueError('a mention of a relation has no opening marker: give '
                         'the data set transform=WordPieces(tokenizer) with '
                         'mark_entities=True')
    return rows[0], rows[1]


class MarkerPairHead(Configurable, nn.Module):
    r"""Classifies the relation of two mentions from the states of their
    opening markers ("entity start", Baldini Soares et al., ACL 2019), joined
    to an optional vector of the post.

    Without :obj:`context_channels` and :obj:`hidden_channels` this is the MTB
    baseline's classifier; with both it is MEGA's, :math:`\mathbf{W}_2
    \,\mathrm{dropout}(\mathbf{W}_1 [\mathbf{h}_{E1}; \mathbf{h}_{E2};
    \hat{\mathbf{y}}])` (Section 3.5; its published code has no non-linearity
    between the two, and none is the default).

    Args:
        in_channels (int): Size of a state.
        num_relations (int): Number of classes.
        context_channels (int, optional): Size of the post's vector.
            (default: :obj:`0`)
        hidden_channels (int, optional): Size of the middle layer; none if
            left out. (default: :obj:`None`)
        dropout (float, optional): Before the last layer.
            (default: :obj:`0.5`)
        activation (torch.nn.Module, optional): After the middle layer.
            (default: :obj:`None`)

    Shapes:
        - **input:** states :math:`(N, F)`, rows of the head and tail mention
          of each relation :math:`(R)`, context :math:`(R, C)`
        - **output:** logits :math:`(R, \text{num\_relations})`
    """
    def __init__(
        self,
        in_channels: int,
        num_relations: int,
        context_channels: int = 0,
        hidden_channels: int | None = None,
        dropout: float = 0.5,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_relations = num_relations
        width = 2 * in_channels + context_channels
        self.merge = (None if hidden_channels is None
                      else nn.Linear(width, hidden_channels))
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_channels or width, num_relations)

    def forward(
        self,
        x: Tensor,
        head: Tensor,
        tail: Tensor,
        context: OptTensor = None,
    ) -> Tensor:
        parts = [x[head], x[tail]]
        if context is not None:
            parts.append(context)
        pair = torch.cat(parts, dim=-1)
        if self.merge is not None:
            pair = self.merge(pair)
        if self.activation is not None:
            pair = self.activation(pair)
        return self.classifier(self.dropout(pair))
