"""Scores of joint extraction: two mentions, their types, their relation."""
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmgraph.data import Post, Vocabulary
from mmgraph.metrics._counts import ratio, sum_over_processes
from mmgraph.metrics._gold import gold_quintuples, gold_spans
from mmgraph.parse.bio import Span
from mmgraph.utils import suggest

__all__ = ['QuintupleMetric']

Quintuple = tuple[Span, Span, int]
Items = tuple[Iterable[Span], Iterable[Quintuple]]

#: What is scored, in the order of the rows of the counts; one row a relation
#: each, then one a type.
_KINDS = ('', 'directed_', 'relation_', 'entity_')


class QuintupleMetric:
    r"""Counts the quintuples (two mentions, their types and their relation)
    that were found, predicted and annotated over a corpus and scores them
    once, at the end; under several processes their counts are summed.

    Four kinds of items are scored, each by

    .. math::
        P = \frac{TP}{|\text{predicted}|}, \quad
        R = \frac{TP}{|\text{gold}|}, \quad
        F_1 = \frac{2 TP}{|\text{predicted}| + |\text{gold}|}.

    .. list-table::
       :header-rows: 1

       * - prefix
         - an item is right if these are
       * - (none)
         - spans and types of both mentions, and the relation; which of the
           two is the head does not matter, as in published scores
       * - :obj:`directed_`
         - that, and head and tail, unless the relation is symmetric
       * - :obj:`relation_`
         - the spans of both mentions, and the relation; neither types nor
           direction matter
       * - :obj:`entity_`
         - span and type of a mention, whether it has a relation or not

    An item that is predicted or annotated twice counts once.

    .. note::
        Gold is the annotation itself. The published code takes what the gold
        table of word pairs decodes to, which hides what such a table cannot
        hold (mentions that overlap).

    Args:
        types (Vocabulary or sequence of str): The types of mentions.
        relations (Vocabulary or sequence of str): The relations, none that
            means "no relation".
        symmetric (sequence of str, optional): Relations that have no
            direction. (default: :obj:`()`)

    Raises:
        ValueError: If a symmetric relation is not one of the relations.

    Example:
        >>> metric = QuintupleMetric(['per', 'loc'], ['born_in', 'peer'])
        >>> ann, oslo = (0, 1, 0), (3, 4, 1)
        >>> metric.update_items([([ann, oslo], [(ann, oslo, 0)])],
        ...                     [([ann, oslo], [(oslo, ann, 0)])])
        >>> scores = metric.compute()
        >>> scores['f1'], scores['directed_f1'], scores['entity_f1']
        (1.0, 0.0, 1.0)
    """
    def __init__(
        self,
        types: Vocabulary | Sequence[str],
        relations: Vocabulary | Sequence[str],
        symmetric: Sequence[str] = (),
    ) -> None:
        self.types = list(types)
        self.labels = list(relations)
        for name in symmetric:
            if name not in self.labels:
                raise ValueError(f"'symmetric' must name relations (got "
                                 f'{name!r}); {suggest(name, self.labels)}')
        self.symmetric_ids = {self.labels.index(name) for name in symmetric}
        self.reset()

    def reset(self) -> None:
        r"""Forgets all counts."""
        #: Right, predicted and gold items (columns) of each relation,
        #: undirected, directed and without types, and of each type.
        self.counts = torch.zeros(3 * len(self.labels) + len(self.types), 3,
                                  dtype=torch.long)

    def update(self, decoded: Sequence[Any], batch: Post) -> None:
        r"""Adds what a joint model's :meth:`decode` gave for a batch of posts:
        its :obj:`entities` and :obj:`relations` for each. Gold is all that is
        annotated in the batch.
        """
        predicted = [
            ([_span(entity) for entity in found.entities],
             [(_span(relation.head), _span(relation.tail),
               relation.relation_id) for relation in found.relations])
            for found in decoded]
        self.update_items(list(zip(gold_spans(batch), gold_quintuples(batch),
                                   strict=True)), predicted)

    def update_items(
        self,
        gold: Sequence[Items],
        predicted: Sequence[Items],
    ) -> None:
        r"""Adds posts that are given as plain tuples.

        Args:
            gold (sequence of tuples): For each post its mentions
                :obj:`(start, end, type_id)` and its quintuples
                :obj:`(head, tail, relation_id)`, head and tail such mentions.
            predicted (sequence of tuples): The same of a model.

        Raises:
            ValueError: If the two differ in length or an id is not one of the
                types or relations.
        """
        if len(gold) != len(predicted):
            raise ValueError(f'there must be one item of predictions a post '
                             f'(got {len(predicted)} for {len(gold)} posts)')
        truth, found = self._items(gold), self._items(predicted)
        for column, items in enumerate((truth & found, found, truth)):
            rows = torch.tensor([item[0] for item in items],
                                dtype=torch.long)
            self.counts[:, column] += torch.bincount(
                rows, minlength=self.counts.size(0))

    def total(self) -> Tensor:
        r"""The counts of :meth:`reset` over all processes."""
        return sum_over_processes(self.counts)

    def compute(self) -> dict[str, float]:
        r"""Micro :obj:`precision`, :obj:`recall` and :obj:`f1` of quintuples,
        and, with the prefixes above, of the other kinds of items, all in
        :math:`[0, 1]`; a ratio without denominator is 0.
        """
        r = len(self.labels)
        sizes = [r, r, r, len(self.types)]
        scores = {}
        for kind, rows in zip(_KINDS, self.total().split(sizes), strict=True):
            for name, value in _columns(rows.sum(0, keepdim=True)).items():
                scores[kind + name] = float(value)
        return scores

    def per_class(self) -> dict[str, dict[str, float]]:
        r"""Precision, recall, F1 and number of gold quintuples
        (:obj:`support`) of each relation; direction does not matter.
        """
        rows = self.total()[:len(self.labels)]
        columns = {**_columns(rows), 'support': rows[:, 2]}
        return {label: {name: float(column[i])
                        for name, column in columns.items()}
                for i, label in enumerate(self.labels)}

    def _items(self, posts: Sequence[Items]) -> set[tuple[Any, ...]]:
        r"""All items of posts, each led by its row of the counts."""
        n, items = len(self.labels), set[tuple[Any, ...]]()
        for post, (mentions, quintuples) in enumerate(posts):
            for start, end, kind in mentions:
                _check('type_id', kind, len(self.types))
                items.add((3 * n + kind, post, start, end))
            for head, tail, relation in quintuples:
                _check('relation_id', relation, n)
                for mention in (head, tail):
                    _check('type_id', mention[2], len(self.types))
                first, last = sorted((head, tail))
                items.add((relation, post, *first, *last))
                if relation not in self.symmetric_ids:
                    first, last = head, tail
                items.add((n + relation, post, *first, *last))
                one, other = sorted((head[:2], tail[:2]))
                items.add((2 * n + relation, post, *one, *other))
        return items


def _span(entity: Any) -> Span:
    return entity.start, entity.end, entity.type_id


def _check(name: str, value: int, size: int) -> None:
    if not 0 <= value < size:
        raise ValueError(f"'{name}' must be in [0, {size}) (got {value}); are "
                         f'these ids of another vocabulary?')


def _columns(counts: Tensor) -> dict[str, Tensor]:
    right, predicted, gold = counts.double().unbind(1)
    return dict(precision=ratio(right, predicted), recall=ratio(right, gold),
                f1=ratio(2 * right, predicted + gold))
