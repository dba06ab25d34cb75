"""Posts of several clauses in ``SyntheticPosts``, for joint extraction."""
import torch
from torch import Tensor
from torch_geometric.utils import scatter

from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets._camera import Draft
from mmgraph.datasets._writer import Dice, Writer

__all__ = ['best_answers', 'best_f1', 'deal', 'write_clauses']


def deal(
    num_posts: int,
    num_clauses: int,
    num_choices: int,
    visual: float,
    dice: Dice,
) -> list[list[bool]]:
    r"""Which clauses of each group of twins are ambiguous: as near to the
    share :obj:`visual` of all clauses as whole groups allow, dealt at random
    to as many groups as there can be. Groups without one are left out.
    """
    groups = num_posts // num_choices
    cells = groups * num_clauses
    count = min(round(visual * num_posts * num_clauses / num_choices), cells)
    opened = dice.shuffled([True] * count + [False] * (cells - count))
    rows = [opened[i:i + num_clauses] for i in range(0, cells, num_clauses)]
    return [row for row in rows if any(row)]


def write_clauses(
    writer: Writer,
    num_posts: int,
    num_clauses: int,
    num_choices: int,
    visual: float,
    irrelevant: float,
) -> list[Draft]:
    r"""The posts, group by group. In each group, every choice of an ambiguous
    clause has its turn, in an order of the clause's own.

    Raises:
        ValueError: If there are too few posts for :obj:`irrelevant`.
    """
    plan = deal(num_posts, num_clauses, num_choices, visual, writer.dice)
    decided = num_posts - num_choices * len(plan)
    unrelated = round(irrelevant * num_posts)
    if unrelated >= decided + num_choices:  # Rounding may take a few.
        raise ValueError(
            f"'irrelevant' must not exceed the share of posts whose clauses "
            f'are all told by the text (got {irrelevant}, with {decided} of '
            f"{num_posts} such posts); lower 'visual' or 'irrelevant'")
    unrelated = min(unrelated, decided)
    drafts = []
    for group, opened in enumerate(plan):
        text = writer.several(opened, num_choices)
        for turn in range(num_choices):
            # The order of cues was drawn for each clause.
            relations = tuple(
                grammar.CUE_RELATION[clause.cues[turn]]
                if clause.relation is None else clause.relation
                for clause in text.clauses)
            shown = tuple(clause.cues[turn] for clause in text.clauses
                          if clause.relation is None)
            drafts.append(Draft(text, relations, shown, True, group))
    for i in range(decided):
        text = writer.several([False] * num_clauses, num_choices)
        drafts.append(Draft(
            text, tuple(str(clause.relation) for clause in text.clauses), (),
            i >= unrelated, len(plan) + i))
    return drafts


def best_answers(group: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    r"""What one answer to all twins of a group can gain, clause by clause.

    Args:
        group (torch.Tensor): The group of each post, :obj:`[N]`.
        answers (torch.Tensor): The relation of each clause, -1 for none,
            :obj:`[N, C]`.

    Returns:
        tuple: For each clause of each group that holds a relation at all, how
        often the best answer is right, and how often it is given.
    """
    num_clauses = answers.size(1)
    cell = (group[:, None] * num_clauses + torch.arange(num_clauses)).flatten()
    found, cell, said = cell.unique(return_inverse=True, return_counts=True)
    relation = answers.flatten()
    cell, relation = cell[relation >= 0], relation[relation >= 0]
    width = int(relation.max()) + 1 if relation.numel() else 1
    pair, count = (cell * width + relation).unique(return_counts=True)
    right = scatter(count, pair // width, dim_size=found.numel(),
                    reduce='max')
    return right[right > 0], said[right > 0]


def best_f1(right: Tensor, said: Tensor, gold: int) -> float:
    r"""The highest F1 that any choice among answers can reach,

    .. math::
        \max_S \frac{2 \sum_{i \in S} a_i}{G + \sum_{i \in S} b_i}

    The answers of a best choice are the first ones in order of
    :math:`a_i / b_i`: if :math:`F` is the maximum, then :math:`\sum_{i \in S}
    (2 a_i - F b_i) - F G` is zero for the best choice and at most zero for
    any, so that it is best to take all with :math:`a_i / b_i > F / 2`, and of
    no account whether to take those that are equal.

    Args:
        right (torch.Tensor): How often each answer is right, :math:`a_i`.
        said (torch.Tensor): How often it is given, :math:`b_i`.
        gold (int): Number of correct answers that there are, :math:`G`;
            the F1 is zero without any.
    """
    if gold == 0:
        return 0.0
    order = (right.double() / said).argsort(descending=True)
    return float((2 * right[order].cumsum(0)
                  / (gold + said[order].cumsum(0)).double()).max())
