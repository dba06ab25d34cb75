"""Scores of relation classification."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmgraph.data import Post, Vocabulary
from mmgraph.metrics._counts import ratio, sum_over_processes

__all__ = ['RelationMetric', 'confusion_matrix', 'relation_scores']


def confusion_matrix(
    predicted: Tensor,
    gold: Tensor,
    num_relations: int,
) -> Tensor:
    r"""Counts :obj:`[num_relations, num_relations]`, gold rows and predicted
    columns.

    Args:
        predicted (torch.Tensor): Predicted ids :obj:`[N]`.
        gold (torch.Tensor): Gold ids :obj:`[N]`.
        num_relations (int): Number of classes.

    Raises:
        ValueError: If the two differ in length or an id is out of range.
    """
    if predicted.shape != gold.shape:
        raise ValueError(f"'predicted' and 'gold' must be equally long "
                         f'(got {predicted.numel()} and {gold.numel()})')
    for name, ids in ('predicted', predicted), ('gold', gold):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) \
                < num_relations:
            raise ValueError(f"'{name}' must be in [0, {num_relations}) "
                             f'(got {int(ids.min())} to {int(ids.max())})')
    flat = gold.long() * num_relations + predicted.long()
    counts = torch.bincount(flat, minlength=num_relations**2)
    return counts.view(num_relations, num_relations)


def relation_scores(
    confusion: Tensor,
    negative_id: int | None = None,
) -> dict[str, float]:
    r"""Accuracy over all rows, and micro precision, recall and F1 without the
    negative label, as OpenNRE's evaluator (and so MEGA's table) defines them:
    correct positives over all predictions that are not negative, and over all
    gold rows that are not negative.

    Args:
        confusion (torch.Tensor): Gold rows, predicted columns.
        negative_id (int, optional): The label that means "no relation". A
            gold-negative row predicted positive lowers precision.
            (default: :obj:`None`)

    Returns:
        :obj:`accuracy`, :obj:`precision`, :obj:`recall`, :obj:`f1` and
        :obj:`macro_f1` (mean over the positive classes that occur in the
        gold), in :math:`[0, 1]`; a ratio without denominator is 0.

    Example:
        >>> confusion = torch.tensor([[2, 1], [1, 1]])
        >>> scores = relation_scores(confusion, negative_id=0)
        >>> scores['accuracy'], scores['precision'], scores['recall']
        (0.6, 0.5, 0.5)
    """
    matrix = confusion.double()
    positive = torch.ones(matrix.size(0), dtype=torch.bool)
    if negative_id is not None:
        positive[negative_id] = False
    correct = matrix.diagonal()
    gold, predicted = matrix.sum(1), matrix.sum(0)
    hits = correct[positive].sum()
    precision = ratio(hits, predicted[positive].sum())
    recall = ratio(hits, gold[positive].sum())
    present = positive & (gold > 0)
    macro = ratio(2 * correct, gold + predicted)[present]
    return dict(
        accuracy=float(ratio(correct.sum(), matrix.sum())),
        precision=float(precision),
        recall=float(recall),
        f1=float(ratio(2 * precision * recall, precision + recall)),
        macro_f1=float(macro.mean()) if macro.numel() else 0.0,
    )


class RelationMetric:
    r"""Accumulates a confusion matrix over a corpus and scores it once, at
    the end; under several processes their counts are summed.

    Args:
        relations (Vocabulary or sequence of str): The labels.
        negative (str, optional): The label that means "no relation".
            (default: :obj:`None`)

    Example:
        >>> metric = RelationMetric(['None', 'peer'], negative='None')
        >>> metric.update_ids(torch.tensor([1, 0]), torch.tensor([1, 1]))
        >>> metric.compute()['recall']
        0.5
    """
    def __init__(
        self,
        relations: Vocabulary | Sequence[str],
        negative: str | None = None,
    ) -> None:
        self.labels = list(relations)
        if negative is not None and negative not in self.labels:
            raise ValueError(f"'negative' must be one of the relations "
                             f'(got {negative!r})')
        self.negative_id = (None if negative is None
                            else self.labels.index(negative))
        self.reset()

    def reset(self) -> None:
        r"""Forgets all counts."""
        n = len(self.labels)
        self.confusion = torch.zeros(n, n, dtype=torch.long)

    def update(self, decoded: Sequence[Sequence[Any]], batch: Post) -> None:
        r"""Adds what a model's :meth:`decode` gave for a batch of posts."""
        predicted = [relation.relation_id for relations in decoded
                     for relation in relations]
        gold = batch['entity', 'relation', 'entity'].relation_id
        self.update_ids(torch.tensor(predicted, dtype=torch.long), gold.cpu())

    def update_ids(self, predicted: Tensor, gold: Tensor) -> None:
        r"""Adds predicted and gold ids, :obj:`[N]` each."""
        self.confusion += confusion_matrix(predicted.cpu(), gold.cpu(),
                                           len(self.labels))

    def total(self) -> Tensor:
        r"""The confusion matrix over all processes."""
        return sum_over_processes(self.confusion)

    def compute(self) -> dict[str, float]:
        r"""See :func:`relation_scores`."""
        return relation_scores(self.total(), self.negative_id)

    def per_class(self) -> dict[str, dict[str, float]]:
        r"""Precision, recall (the "accuracy" of MEGA's Table 3), F1 and gold
        count (:obj:`support`) of each label.
        """
        matrix = self.total().double()
        correct, gold, predicted = (matrix.diagonal(), matrix.sum(1),
                                    matrix.sum(0))
        columns = dict(precision=ratio(correct, predicted),
                       recall=ratio(correct, gold),
                       f1=ratio(2 * correct, gold + predicted), support=gold)
        return {label: {key: float(column[i])
                        for key, column in columns.items()}
                for i, label in enumerate(self.labels)}
