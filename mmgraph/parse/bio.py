r"""BIO tags ↔ mentions.

Tags are numbered by the types of mentions: 0 is ``O``, :math:`1 + 2t` is
``B-`` and :math:`2 + 2t` is ``I-`` of type :math:`t`. So a model needs the
number of types only.
"""
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmgraph.data import Vocabulary

__all__ = ['BIOConstraint', 'Span', 'bio_constraint', 'bio_violations',
           'bio_vocabulary', 'spans_of_tags', 'tags_of_spans']

#: A mention: first word, one behind the last, type.
Span = tuple[int, int, int]


def bio_vocabulary(types: Vocabulary | Sequence[str]) -> Vocabulary:
    r"""The tags of some types of mentions, in the order of their ids.

    Example:
        >>> bio_vocabulary(['PER', 'LOC']).labels
        ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    """
    scheme = types.scheme if isinstance(types, Vocabulary) else ''
    return Vocabulary(['O', *(f'{side}-{label}' for label in types
                              for side in 'BI')], scheme)


def spans_of_tags(
    tags: Sequence[int],
    mode: Literal['lenient', 'strict'] = 'lenient',
) -> list[Span]:
    r"""The mentions that a sequence of tags stands for, in text order.

    An ``I-`` that does not continue a mention of its type opens one in the
    lenient reading (conlleval's, seqeval's default); in the strict one (IOB2)
    it is no mention, and neither are those that follow it.

    Args:
        tags (sequence of int): The tag of each word.
        mode (str, optional): :obj:`'lenient'` or :obj:`'strict'`.
            (default: :obj:`'lenient'`)

    Example:
        >>> spans_of_tags([2, 2, 0, 1, 4])
        [(0, 2, 0), (3, 4, 0), (4, 5, 1)]
        >>> spans_of_tags([2, 2, 0, 1, 4], mode='strict')
        [(3, 4, 0)]
    """
    if mode not in ('lenient', 'strict'):
        raise ValueError(f"'mode' must be 'lenient' or 'strict' "
                         f'(got {mode!r})')
    spans: list[Span] = []
    start, open_type = 0, -1
    for i, tag in enumerate([*tags, 0]):
        inside = tag > 0 and tag % 2 == 0
        kind = (tag - 1) // 2  # -1 for O
        if inside and kind == open_type:
            continue
        if open_type >= 0:
            spans.append((start, i, open_type))
        start = i
        open_type = -1 if inside and mode == 'strict' else kind
    return spans


def tags_of_spans(spans: Sequence[Sequence[int]], num_words: int) -> list[int]:
    r"""The tags of mentions that do not overlap.

    Args:
        spans (sequence of tuples): :obj:`(start, end, type_id)` a mention,
            end exclusive.
        num_words (int): Number of words.

    Raises:
        ValueError: If a mention is empty, outside the text or overlaps
            another.

    Example:
        >>> tags_of_spans([(0, 2, 1)], 3)
        [3, 4, 0]
    """
    tags = [0] * num_words
    for start, end, kind in spans:
        if not 0 <= start < end <= num_words:
            raise ValueError(f'a mention must be a span inside the '
                             f'{num_words} words (got [{start}, {end}))')
        if any(tags[start:end]):
            raise ValueError(f'mentions must not overlap, or tags cannot '
                             f'tell them (got [{start}, {end}) twice)')
        tags[start:end] = [1 + 2 * kind] + [2 + 2 * kind] * (end - start - 1)
    return tags


def bio_violations(tags: Sequence[int]) -> list[int]:
    r"""The words whose ``I-`` tag does not continue a mention of its type.

    Example:
        >>> bio_violations([2, 2, 0, 1, 4])
        [0, 4]
    """
    return [i for i, tag in enumerate(tags)
            if tag > 0 and tag % 2 == 0
            and (i == 0 or (tags[i - 1] + 1) // 2 != tag // 2)]


class BIOConstraint(NamedTuple):
    r"""Which tag sequences are well-formed (IOB2).

    Args:
        start (torch.Tensor): Whether a tag may come first, :obj:`[T]`, bool.
        transitions (torch.Tensor): Whether a tag (column) may follow another
            (row), :obj:`[T, T]`, bool.
        end (torch.Tensor): Whether a tag may come last, :obj:`[T]`, bool.
    """
    start: Tensor
    transitions: Tensor
    end: Tensor


def bio_constraint(num_types: int) -> BIOConstraint:
    r"""``I-`` may follow ``B-`` and ``I-`` of its own type only.

    Example:
        >>> bio_constraint(1).transitions.int().tolist()
        [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    tag = torch.arange(1 + 2 * num_types)
    inside = (tag > 0) & (tag % 2 == 0)
    kind = (tag + 1) // 2
    same = kind.unsqueeze(1) == kind
    return BIOConstraint(~inside, ~inside | same, torch.ones_like(inside))
