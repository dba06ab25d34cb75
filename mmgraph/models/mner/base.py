"""What all taggers of posts share."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data.batch import Batch

from mmgraph.data import Post
from mmgraph.models.base import Entity, TaskModel, check_labels
from mmgraph.models.rows import word_states
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.heads import CRFHead, SoftmaxHead
from mmgraph.nn.ragged import rows_of
from mmgraph.parse.bio import spans_of_tags
from mmgraph.typing import OptTensor

__all__ = ['SequenceTagger', 'TagOutput', 'TaggingModel', 'kept_tags']


@dataclass
class TagOutput:
    r"""What a tagger computed for the :math:`M` words of a batch that have a
    state (all but those that an encoder's limit cut off).

    Args:
        emissions (torch.Tensor): A score a word and tag, :obj:`[M, T]`.
        word (torch.Tensor): The row of each in the batch's :obj:`word` store,
            :obj:`[M]`, ascending.
        ptr (torch.Tensor): Where the words of each post start,
            :obj:`[B + 1]`.
        loss (torch.Tensor, optional): A model's further training loss.
            (default: :obj:`None`)
    """
    emissions: Tensor
    word: Tensor
    ptr: Tensor
    loss: OptTensor = None


def kept_tags(tags: Tensor, output: TagOutput) -> Tensor:
    r"""The tags of the words that have a state, :obj:`[M]`. A mention whose
    beginning was cut off begins at its first word that was not.
    """
    kept = tags[output.word]
    follows = torch.zeros_like(kept, dtype=torch.bool)
    follows[1:] = output.word.diff() == 1
    first = output.ptr[:-1]
    follows[first[first < kept.numel()]] = False
    inside = (kept > 0) & (kept % 2 == 0)
    return torch.where(inside & ~follows, kept - 1, kept)


class TaggingModel(TaskModel):
    r"""A model that tags the words of posts with BIO tags and so finds their
    mentions. Tags are numbered as in :mod:`mmgraph.parse.bio`.
    """
    task = 'entity'

    num_types: int
    head: CRFHead | SoftmaxHead

    def loss(self, output: TagOutput, batch: Post) -> Tensor:
        r"""The head's loss of the gold tags, plus the model's own further
        loss where it has one.

        Raises:
            ValueError: If the posts have no gold tags, or one is not a tag of
                the model.
        """
        gold = batch['word'].get('tag_id')
        if gold is None:
            raise ValueError("the posts have no gold tags ('word.tag_id')")
        check_labels('tag_id', gold, 1 + 2 * self.num_types)
        loss = self.head.loss(output.emissions, kept_tags(gold, output),
                              output.ptr)
        return loss if output.loss is None else loss + output.loss

    def decode(self, output: TagOutput, batch: Post) -> list[list[Entity]]:
        r"""The mentions of each post, in text order. A word without a state
        is in no mention.
        """
        start = rows_of(batch, 'word')[1].tolist()
        words = batch.words if isinstance(batch, Batch) else [batch.words]
        place, ptr = output.word.tolist(), output.ptr.tolist()
        found = []
        for b, tags in enumerate(self.head.decode(output.emissions,
                                                  output.ptr)):
            row = [0] * len(words[b])
            for word, tag in zip(place[ptr[b]:ptr[b + 1]], tags, strict=True):
                row[word - start[b]] = tag
            found.append([Entity(s, e, kind, ' '.join(words[b][s:e]))
                          for s, e, kind in spans_of_tags(row)])
        return found


class SequenceTagger(TaggingModel):
    r"""Encoder → dropout → head: the text-only taggers.

    Args:
        encoder (TextEncoder): States of the text.
        num_types (int): Number of types of mentions.
        head (torch.nn.Module): A :class:`~mmgraph.nn.heads.CRFHead` or a
            :class:`~mmgraph.nn.heads.SoftmaxHead`.
        dropout (float): Before the head.
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        head: CRFHead | SoftmaxHead,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_types = num_types
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, batch: Post) -> TagOutput:
        x, word, ptr = word_states(batch, self.encoder(batch),
                                   self.encoder.node_type)
        return TagOutput(self.head(self.dropout(x)), word, ptr)
