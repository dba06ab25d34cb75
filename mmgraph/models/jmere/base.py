"""What all models that fill a table of word pairs share."""
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data.batch import Batch

from mmgraph.data import Post
from mmgraph.models.base import Entity, Extraction, Relation, TaskModel
from mmgraph.nn.align import Alignment
from mmgraph.nn.heads import DecodedPairs, WordPairHead
from mmgraph.nn.ragged import rows_of
from mmgraph.typing import OptTensor

__all__ = ['JointModel', 'WordPairOutput']


@dataclass
class WordPairOutput:
    r"""What a joint model computed for the :math:`P` pairs of words of a
    batch.

    Args:
        logits (torch.Tensor): A score a pair and label, :obj:`[P, C]`.
        pair_index (torch.Tensor): The two words of each pair, rows of the
            batch's :obj:`word` store, :obj:`[2, P]`; see
            :func:`~mmgraph.parse.pair_index`.
        loss (torch.Tensor, optional): A model's further training loss.
            (default: :obj:`None`)
        alignment (Alignment, optional): Words aligned to objects.
            (default: :obj:`None`)
    """
    logits: Tensor
    pair_index: Tensor
    loss: OptTensor = None
    alignment: Alignment | None = None


class JointModel(TaskModel):
    r"""A model that labels the pairs of a post's words, and so finds its
    mentions and their relations in one pass.

    A word that an encoder's limit cut off is a word all the same: it has its
    place in the tree and in the table.
    """
    task = 'joint'

    head: WordPairHead

    def loss(self, output: WordPairOutput, batch: Post) -> Tensor:
        r"""The mean cross-entropy over all pairs of words, plus the model's
        own further loss where it has one.

        Raises:
            ValueError: If a gold type or relation is not one of the model.
        """
        loss = self.head.loss(output.logits,
                              self._gold(batch, output.pair_index))
        return loss if output.loss is None else loss + output.loss

    def decode(self, output: WordPairOutput, batch: Post) -> list[Extraction]:
        r"""The mentions and relations of each post."""
        found = self.head.decode(output.logits, output.pair_index,
                                 rows_of(batch, 'word')[1])
        return _named(found, batch)

    def decode_gold(self, batch: Post) -> list[Extraction]:
        r"""What the gold labels decode to: overlapping and touching mentions
        do not fit the table.
        """
        ptr = rows_of(batch, 'word')[1]
        pairs = self.head.pair_index(ptr)
        return _named(self.head.decode_labels(self._gold(batch, pairs), pairs,
                                              ptr), batch)

    def _gold(self, batch: Post, pairs: Tensor) -> Tensor:
        word = torch.arange(int(batch['word'].num_nodes), device=pairs.device)
        return self.head.labels(batch, word, pairs)


def _named(found: list[DecodedPairs], batch: Post) -> list[Extraction]:
    r"""Spans and ids as mentions and relations."""
    texts = batch.words if isinstance(batch, Batch) else [batch.words]
    out = []
    for words, (spans, relations) in zip(texts, found, strict=True):
        mentions = [Entity(start, end, kind, ' '.join(words[start:end]))
                    for start, end, kind in spans]
        out.append(Extraction(mentions, [
            Relation(mentions[head], mentions[tail], relation_id, score)
            for head, tail, relation_id, score in relations]))
    return out
