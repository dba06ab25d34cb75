"""A sentence as a dependency graph."""
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from mmgraph.data.validation import (
    Report,
    check_edges,
    check_finite,
    check_rows,
)
from mmgraph.data.vocabulary import Vocabulary

__all__ = ['TextGraph']


class TextGraph(Data):
    r"""The words of one post, joined by dependencies, governor → dependent.

    Every word has at most one governor, so an edge is known by its dependent:
    :obj:`edge_index` lists the words that have one, in text order.

    Args:
        words (list of str): The :math:`n` words.
        edge_index (torch.Tensor): Dependencies :obj:`[2, E]`, int64.
        edge_type (torch.Tensor): Label ids :obj:`[E]`, int64.
        head (torch.Tensor): The governor of each word inside this graph,
            :obj:`[n]`, int64; :obj:`-1` marks a root. (Batching does not
            shift it; :obj:`edge_index` it does.)
        x (torch.Tensor, optional): Word features :obj:`[n, F]`.
        pos_id (torch.Tensor, optional): Part-of-speech ids :obj:`[n]`.

    Example:
        >>> vocabulary = Vocabulary(['root', 'nsubj', 'obj'], scheme='UD')
        >>> TextGraph.from_heads(['Ann', 'met', 'Bob'], [1, -1, 1],
        ...                      ['nsubj', 'root', 'obj'], vocabulary)
        TextGraph(3 words, 2 dependencies: Ann met Bob)
    """
    @classmethod
    def from_heads(
        cls,
        words: Sequence[str],
        heads: Sequence[int],
        labels: Sequence[str],
        vocabulary: Vocabulary,
        **attributes: Any,
    ) -> 'TextGraph':
        r"""Builds the graph from a parser's columns.

        Args:
            words (sequence of str): The words.
            heads (sequence of int): The governor of each word, counted from
                0; :obj:`-1` for a root. Several roots are allowed (a post may
                hold several sentences), and so is none (no words).
            labels (sequence of str): The label of each word's dependency;
                roots' labels are not used.
            vocabulary (Vocabulary): Maps labels to ids.
            **attributes: Further attributes, *e.g.* :obj:`pos_id`.

        Raises:
            ValueError: If the columns differ in length, or a governor is
                outside the sentence or the word itself.
        """
        n = len(words)
        if len(heads) != n or len(labels) != n:
            raise ValueError(f"'words', 'heads' and 'labels' must be equally "
                             f'long (got {n}, {len(heads)}, {len(labels)})')
        for i, head in enumerate(heads):
            if head < -1 or head >= n:
                raise ValueError(f"'heads' must be in [-1, {n}) "
                                 f'(got {head} at word {i}, {words[i]!r})')
            if head == i:
                raise ValueError(f"'heads': a word cannot govern itself "
                                 f'(word {i}, {words[i]!r})')
        dependents = [i for i in range(n) if heads[i] >= 0]
        governors = [heads[i] for i in dependents]
        return cls(
            words=list(words),
            edge_index=torch.tensor([governors, dependents],
                                    dtype=torch.long),
            edge_type=torch.tensor([vocabulary.to_id(labels[i])
                                    for i in dependents], dtype=torch.long),
            head=torch.tensor(list(heads), dtype=torch.long),
            num_nodes=n,
            **attributes,
        )

    def validate(self, raise_on_error: bool = True) -> bool:
        r"""Checks the graph's own rules; see :meth:`Post.validate`."""
        report = Report(self)
        n = int(self.num_nodes or 0)
        batched = isinstance(self, Batch)
        words = sum(map(len, self.words)) if batched else len(self.words)
        if words != n:
            report.add(f"'words' must hold one string a node "
                       f'(got {words} for {n} nodes)')
        check_edges(report, self, n, n)
        check_rows(report, self, n)
        check_finite(report, self)
        if report.ok:
            head = torch.full_like(self.head, -1)
            governor, dependent = self.edge_index
            if dependent.unique().numel() != dependent.numel():
                report.add("'edge_index': a word must have one governor at "
                           'most')
            start = self.ptr[self.batch] if batched else torch.zeros_like(head)
            head[dependent] = governor - start[dependent]
            if not torch.equal(head, self.head):
                i = int((head != self.head).nonzero()[0])
                report.add(f"'head' and 'edge_index' disagree at word {i} "
                           f'(got {int(self.head[i])} and {int(head[i])})')
        return report.close(raise_on_error)

    def __repr__(self) -> str:
        if isinstance(self, Batch) or 'words' not in self:
            return super().__repr__()
        text = ' '.join(self.words)
        text = text if len(text) <= 60 else text[:59] + '…'
        return (f'{type(self).__name__}({self.num_nodes} words, '
                f'{self.num_edges} dependencies: {text})')
