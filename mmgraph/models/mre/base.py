"""What all relation-extraction models share."""
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data.batch import Batch

from mmgraph.data import Post
from mmgraph.models.base import Entity, Relation, TaskModel, check_labels
from mmgraph.nn.align import Alignment
from mmgraph.nn.ragged import range_of_group, rows_of

__all__ = ['RelationModel', 'RelationOutput']


@dataclass
class RelationOutput:
    r"""What a relation model computed for the :math:`R` marked pairs of a
    batch.

    Args:
        logits (torch.Tensor): :obj:`[R, num_relations]`.
        alignment (Alignment, optional): The word-object alignment used.
        semantic (Alignment, optional): Attention of objects over text rows.
    """
    logits: Tensor
    alignment: Alignment | None = None
    semantic: Alignment | None = None

    @property
    def probability(self) -> Tensor:
        r"""Class probabilities :obj:`[R, num_relations]`, float32."""
        return self.logits.float().softmax(dim=-1)


class RelationModel(TaskModel):
    r"""A model that classifies the relation of marked mention pairs."""
    task = 'relation'

    num_relations: int

    def loss(self, output: RelationOutput, batch: Post) -> Tensor:
        r"""Cross-entropy of the gold relations (mean over pairs), plus the
        aligner's own loss where it has one; zero if there is no pair.

        Raises:
            ValueError: If a gold relation is not a class of the model.
        """
        gold = batch['entity', 'relation', 'entity'].relation_id
        check_labels('relation_id', gold, self.num_relations)
        logits = output.logits.float()
        # The mean of no pair would be NaN.
        loss = F.cross_entropy(logits, gold) if gold.numel() else logits.sum()
        alignment = output.alignment
        if alignment is not None and alignment.loss is not None:
            loss = loss + alignment.loss
        return loss

    def decode(
        self,
        output: RelationOutput,
        batch: Post,
    ) -> list[list[Relation]]:
        r"""The most probable relation of each pair: a list a post, the
        negative relation included.
        """
        score, best = output.probability.max(dim=-1)
        return relations_of(batch, best.tolist(), score.tolist())


def mentions_of(batch: Post) -> list[Entity]:
    r"""All mentions of a batch, with positions inside their own posts."""
    entity, word = batch['entity', 'covers', 'word'].edge_index
    graph, ptr = rows_of(batch, 'word')
    place = word - ptr[graph[word]]
    start, end = range_of_group(entity, place, int(batch['entity'].num_nodes))
    post = rows_of(batch, 'entity')[0].tolist()
    words = batch.words if isinstance(batch, Batch) else [batch.words]
    return [
        Entity(s, e, kind, ' '.join(words[i][s:e]))
        for i, s, e, kind in zip(post, start.tolist(), end.tolist(),
                                 batch['entity'].type_id.tolist(),
                                 strict=True)
    ]


def relations_of(
    batch: Post,
    relation_id: list[int],
    score: list[float],
) -> list[list[Relation]]:
    r"""Joins one label and score a pair to the mentions of the posts."""
    entities = mentions_of(batch)
    out: list[list[Relation]] = [
        [] for _ in range(rows_of(batch, 'word')[1].numel() - 1)]
    head, tail = batch['entity', 'relation', 'entity'].edge_index.tolist()
    for i, post in enumerate(post_of_relation(batch).tolist()):
        out[post].append(Relation(entities[head[i]], entities[tail[i]],
                                  relation_id[i], score[i]))
    return out


def post_of_relation(batch: Post) -> Tensor:
    r"""The post of each relation, :obj:`[R]`."""
    graph, _ = rows_of(batch, 'entity')
    head: Tensor = batch['entity', 'relation', 'entity'].edge_index[0]
    return graph[head]


def sum_by(x: Tensor, index: Tensor, num_groups: int) -> Tensor:
    r"""Sums rows by group; a group without rows gets zeros."""
    return x.new_zeros(num_groups, x.size(1)).index_add(0, index, x)


def concat(parts: list[Tensor]) -> Tensor:
    r"""Joins feature rows."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
