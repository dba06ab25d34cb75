"""Scores of alignments against a gold correspondence."""
from typing import Literal

import torch
from torch import Tensor

from mmgraph.nn.align import Alignment

__all__ = ['match_accuracy']


def match_accuracy(
    alignment: Alignment,
    match_index: Tensor,
    side: Literal['source', 'target'] = 'target',
) -> tuple[float, int]:
    r"""Share of the nodes of one side that have a gold partner and whose best
    partner, by score, is right. Among :math:`t` equally good ones the credit
    is :math:`1/t` where the right one is among them (ties are the norm in
    structural alignment); a node without any match counts as wrong.

    Args:
        alignment (Alignment): Predicted matches.
        match_index (torch.Tensor): Gold matches :obj:`[2, M]`, at most one a
            node of that side.
        side (str, optional): Whose nodes look for a partner.
            (default: :obj:`'target'`)

    Returns:
        The accuracy in :math:`[0, 1]` (0 without gold) and the number of nodes
        it is a mean over.

    Example:
        >>> index = torch.tensor([[0, 1, 1], [0, 0, 1]])
        >>> ptr = torch.tensor([0, 2])
        >>> alignment = Alignment(index, torch.tensor([.9, .4, .7]), ptr, ptr)
        >>> match_accuracy(alignment, torch.tensor([[0, 1], [0, 1]]))
        (1.0, 2)
    """
    row = {'source': 0, 'target': 1}[side]
    node, partner = match_index[row], match_index[1 - row]
    if node.numel() == 0:
        return 0.0, 0
    ptr = alignment.source_ptr if row == 0 else alignment.target_ptr
    n = int(ptr[-1])
    gold = node.new_full((n,), -1)
    gold[node] = partner
    index = alignment.match_index[row]
    score = alignment.match_score.detach()
    best = score.new_full((n,), float('-inf')).scatter_reduce(
        0, index, score, 'amax')
    # Identical rows come out 1e-8 apart through the square root of a kernel.
    tied = score >= best[index] - 1e-6 * best[index].abs()
    count = score.new_zeros(n).index_add(0, index[tied],
                                         torch.ones_like(score[tied]))
    hit = tied & (alignment.match_index[1 - row] == gold[index])
    credit = (1 / count[index[hit]]).sum()
    return float(credit) / node.numel(), node.numel()
