r"""What a task trains on, how it is scored and how its results are written."""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mmgraph.data import Vocabulary
from mmgraph.metrics import RelationMetric, SpanMetric
from mmgraph.models import Entity, Relation

__all__ = ['TASKS', 'Task']

Row = dict[str, Any]


class Task(NamedTuple):
    r"""One task of :class:`~mmgraph.models.TaskModel`.

    Args:
        vocabulary (str): The name of the labels' vocabulary.
        metric (callable): Makes a metric from the labels and from the one that
            means "none".
        row (callable): What of a decoded item is written, given the labels.
    """
    vocabulary: str
    metric: Callable[[Vocabulary, str | None], Any]
    row: Callable[[Any, Vocabulary], Row]

    def rows(self, decoded: Any, batch: Any,
             labels: Vocabulary) -> Iterator[Row]:
        r"""One dictionary an item of a decoded batch."""
        for post_id, words, items in zip(batch.post_id, batch.words, decoded,
                                         strict=True):
            for item in items:
                yield dict(post_id=post_id, words=words,
                           **self.row(item, labels))


def _mention(entity: Entity) -> Row:
    return dict(text=entity.text, start=entity.start, end=entity.end)


def _relation(item: Relation, labels: Vocabulary) -> Row:
    return dict(head=_mention(item.head), tail=_mention(item.tail),
                relation=labels.to_label(item.relation_id),
                score=round(item.score, 6))


def _entity(item: Entity, labels: Vocabulary) -> Row:
    return dict(**_mention(item), type=labels.to_label(item.type_id))


#: By :obj:`TaskModel.task`.
TASKS = {
    'relation': Task('relation', RelationMetric, _relation),
    'entity': Task('entity', lambda labels, _: SpanMetric(labels), _entity),
}
