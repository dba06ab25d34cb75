"""Scores of entity recognition: exact mentions, counted over a corpus."""
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from mmgraph.data import Post, Vocabulary
from mmgraph.metrics._counts import ratio, sum_over_processes
from mmgraph.metrics._gold import gold_spans
from mmgraph.parse.bio import Span, bio_vocabulary, spans_of_tags
from mmgraph.utils import check_choice, suggest

__all__ = ['SpanMetric', 'span_scores']

Mode = Literal['lenient', 'strict']
Tags = Sequence[Sequence[int]] | Sequence[Sequence[str]]


def span_scores(
    gold_tags: Tags,
    predicted_tags: Tags,
    types: Vocabulary | Sequence[str],
    mode: Mode = 'lenient',
) -> dict[str, float]:
    r"""Micro precision, recall and F1 of tagged sentences, as conlleval and
    seqeval define them, and the macro mean of F1. See :class:`SpanMetric`
    for the scores a type.

    Args:
        gold_tags (sequence of sequences): The tags of each sentence, ids or
            names (such as :obj:`'B-PER'`).
        predicted_tags (sequence of sequences): The same of a model. Names
            outside the scheme (:obj:`'X'`, :obj:`'[CLS]'`) count as
            :obj:`'O'`.
        types (Vocabulary or sequence of str): The types of mentions.
        mode (str, optional): How ill-formed tags are read:
            :obj:`'lenient'` (conlleval, seqeval's default) or
            :obj:`'strict'` (seqeval's :obj:`mode='strict'` with IOB2); see
            :func:`~mmgraph.parse.bio.spans_of_tags`.
            (default: :obj:`'lenient'`)

    Returns:
        As :meth:`SpanMetric.compute`.

    Raises:
        ValueError: If the two differ in length, an id is no tag, or a name
            is a tag of an unknown type.

    Example:
        >>> scores = span_scores([['B-PER', 'I-PER', 'O', 'B-LOC']],
        ...                      [['I-PER', 'I-PER', 'O', 'O']],
        ...                      ['PER', 'LOC'])
        >>> scores['precision'], scores['recall']
        (1.0, 0.5)
    """
    metric = SpanMetric(types, mode)
    metric.update_tags(gold_tags, predicted_tags)
    return _scores(metric.counts)


class SpanMetric:
    r"""Counts the mentions that were found, predicted and annotated over a
    corpus and scores them once, at the end; under several processes their
    counts are summed.

    A mention is :math:`(\text{start}, \text{end}, \text{type})` on the words
    of its post, and must be right in all three:

    .. math::
        P = \frac{TP}{|\text{predicted}|}, \quad
        R = \frac{TP}{|\text{gold}|}, \quad
        F_1 = \frac{2 TP}{|\text{predicted}| + |\text{gold}|}

    A mention predicted twice counts once. Words that an encoder did not see
    are annotated all the same, so their mentions count as missed.

    .. note::
        Some published systems score otherwise: averages over batches, the
        last batch dropped, word pieces for words, or all sentences joined to
        one. Their figures do not compare.

    Args:
        types (Vocabulary or sequence of str): The types of mentions.
        mode (str, optional): How :meth:`update_tags` reads ill-formed tags,
            see :func:`span_scores`. (default: :obj:`'lenient'`)

    Example:
        >>> metric = SpanMetric(['PER', 'LOC'])
        >>> metric.update_tags([[1, 2, 0, 3]], [[1, 2, 0, 1]])
        >>> metric.compute()['f1']
        0.5
        >>> metric.per_class()['PER']['precision']
        0.5
    """
    def __init__(
        self,
        types: Vocabulary | Sequence[str],
        mode: Mode = 'lenient',
    ) -> None:
        check_choice('mode', mode, ('lenient', 'strict'))
        self.labels = list(types)
        self.mode = mode
        self._tag_ids = {tag: i for i, tag in enumerate(bio_vocabulary(types))}
        self.reset()

    def reset(self) -> None:
        r"""Forgets all counts."""
        #: Right, predicted and gold mentions (columns) of each type.
        self.counts = torch.zeros(len(self.labels), 3, dtype=torch.long)

    def update(self, decoded: Sequence[Sequence[Any]], batch: Post) -> None:
        r"""Adds what a model's :meth:`decode` gave for a batch of posts: a
        list of entities a post. The gold mentions are all of the batch.
        """
        predicted = [[(entity.start, entity.end, entity.type_id)
                      for entity in entities] for entities in decoded]
        self._count(gold_spans(batch), predicted)

    def update_tags(self, gold_tags: Tags, predicted_tags: Tags) -> None:
        r"""Adds tagged sentences; see :func:`span_scores`."""
        gold = [self._ids(tags, 'gold_tags') for tags in gold_tags]
        predicted = [self._ids(tags, 'predicted_tags')
                     for tags in predicted_tags]
        sizes = [[len(tags) for tags in side] for side in (gold, predicted)]
        if sizes[0] != sizes[1]:
            raise ValueError("'gold_tags' and 'predicted_tags' must hold "
                             'sentences of equal length, one a word')
        self._count([spans_of_tags(tags, self.mode) for tags in gold],
                    [spans_of_tags(tags, self.mode) for tags in predicted])

    def total(self) -> Tensor:
        r"""The right, predicted and gold mentions (columns) of each type over
        all processes.
        """
        return sum_over_processes(self.counts)

    def compute(self) -> dict[str, float]:
        r"""Micro :obj:`precision`, :obj:`recall` and :obj:`f1`, and
        :obj:`macro_f1`, the mean over the types that occur in the gold or in
        the prediction (as in seqeval), all in :math:`[0, 1]`; a ratio without
        denominator is 0.
        """
        return _scores(self.total())

    def per_class(self) -> dict[str, dict[str, float]]:
        r"""Precision, recall, F1 and number of gold mentions
        (:obj:`support`) of each type.
        """
        right, predicted, gold = self.total().double().unbind(1)
        columns = dict(precision=ratio(right, predicted),
                       recall=ratio(right, gold),
                       f1=ratio(2 * right, gold + predicted), support=gold)
        return {label: {key: float(column[i])
                        for key, column in columns.items()}
                for i, label in enumerate(self.labels)}

    def _count(
        self,
        gold: Sequence[Iterable[Span]],
        predicted: Sequence[Iterable[Span]],
    ) -> None:
        if len(gold) != len(predicted):
            raise ValueError(f'there must be one list of predicted mentions '
                             f'a post (got {len(predicted)} for '
                             f'{len(gold)} posts)')
        truth, found = (
            {(i, *span) for i, spans in enumerate(side) for span in spans}
            for side in (gold, predicted))
        n = len(self.labels)
        wrong = [m[3] for m in truth | found if not 0 <= m[3] < n]
        if wrong:
            raise ValueError(f"'type_id' must be in [0, {n}) (got "
                             f'{wrong[0]}); are these ids of another '
                             f'vocabulary?')
        for column, mentions in enumerate((truth & found, found, truth)):
            kinds = torch.tensor([m[3] for m in mentions], dtype=torch.long)
            self.counts[:, column] += torch.bincount(kinds, minlength=n)

    def _ids(self, tags: Iterable[int | str], name: str) -> list[int]:
        return [self._id(tag, name) for tag in tags]

    def _id(self, tag: int | str, name: str) -> int:
        if not isinstance(tag, str):
            if 0 <= tag < len(self._tag_ids):
                return int(tag)
            raise ValueError(f"'{name}' must be in [0, {len(self._tag_ids)}) "
                             f'(got {tag})')
        known = self._tag_ids.get(tag)
        if known is None:
            if name == 'gold_tags' or tag.startswith(('B-', 'I-')):
                raise ValueError(f"'{name}' must be tags of the types (got "
                                 f'{tag!r}); {suggest(tag, [*self._tag_ids])}')
            return 0
        return known


def _scores(counts: Tensor) -> dict[str, float]:
    right, predicted, gold = counts.double().unbind(1)
    micro = counts.double().sum(0)
    f1 = ratio(2 * right, predicted + gold)[predicted + gold > 0]
    return dict(
        precision=float(ratio(micro[0], micro[1])),
        recall=float(ratio(micro[0], micro[2])),
        f1=float(ratio(2 * micro[0], micro[1] + micro[2])),
        macro_f1=float(f1.mean()) if f1.numel() else 0.0,
    )
