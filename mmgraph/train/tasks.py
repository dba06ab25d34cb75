r"""What a task trains on, how it is scored and how its results are written."""
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError
from mmgraph.metrics import QuintupleMetric, RelationMetric, SpanMetric
from mmgraph.models import Entity, Extraction, Relation

__all__ = ['TASKS', 'Task']

Row = dict[str, Any]


class Task(NamedTuple):
    r"""One task of :class:`~mmgraph.models.TaskModel`.

    Args:
        vocabularies (tuple of str): The names of the labels' vocabularies.
        metric (callable): Makes a metric from those vocabularies,
            :obj:`negative` (the label that means "none") and
            :obj:`symmetric` (the relations without direction).
        found (callable): What is written of what was decoded for a post,
            given the vocabularies: one dictionary a line.
    """
    vocabularies: tuple[str, ...]
    metric: Callable[..., Any]
    found: Callable[..., list[Row]]

    def rows(self, decoded: Any, batch: Any,
             *vocabularies: Vocabulary) -> Iterator[Row]:
        r"""One dictionary a line of a decoded batch."""
        for post_id, words, found in zip(batch.post_id, batch.words, decoded,
                                         strict=True):
            for row in self.found(found, *vocabularies):
                yield dict(post_id=post_id, words=words, **row)


def _mention(entity: Entity) -> Row:
    return dict(text=entity.text, start=entity.start, end=entity.end)


def _entity(item: Entity, types: Vocabulary) -> Row:
    return dict(**_mention(item), type=types.to_label(item.type_id))


def _relation(item: Relation, relations: Vocabulary,
              mention: Callable[[Entity], Row] = _mention) -> Row:
    return dict(head=mention(item.head), tail=mention(item.tail),
                relation=relations.to_label(item.relation_id),
                score=round(item.score, 6))


def _entities(found: Sequence[Entity], types: Vocabulary) -> list[Row]:
    return [_entity(item, types) for item in found]


def _relations(found: Sequence[Relation], relations: Vocabulary) -> list[Row]:
    return [_relation(item, relations) for item in found]


def _extraction(found: Extraction, types: Vocabulary,
                relations: Vocabulary) -> list[Row]:
    # A post without any is a result, too.
    return [dict(entities=_entities(found.entities, types),
                 relations=[_relation(item, relations,
                                      lambda entity: _entity(entity, types))
                            for item in found.relations])]


def _span_metric(types: Vocabulary, **_: Any) -> SpanMetric:
    return SpanMetric(types)


def _relation_metric(relations: Vocabulary, negative: str | None,
                     **_: Any) -> RelationMetric:
    return RelationMetric(relations, negative)


def _quintuple_metric(types: Vocabulary, relations: Vocabulary,
                      negative: str | None,
                      symmetric: Sequence[str]) -> QuintupleMetric:
    if negative is not None:
        raise InputError(f'joint extraction needs a corpus whose posts have '
                         f'all their mentions and relations; this one gives '
                         f'two mentions at a time, related or {negative!r}')
    return QuintupleMetric(types, relations, symmetric)


#: By :obj:`TaskModel.task`.
TASKS = {
    'relation': Task(('relation', ), _relation_metric, _relations),
    'entity': Task(('entity', ), _span_metric, _entities),
    'joint': Task(('entity', 'relation'), _quintuple_metric, _extraction),
}
