"""The word-pair tables of EEGA, one cell after the other.

Plain-Python loops over nested lists, written from the rules of the paper
"Joint Multimodal Entity-Relation Extraction Based on Edge-enhanced Graph
Alignment Network and Word-pair Relation Tagging" (AAAI 2023) and of its
published code.
"""
from collections.abc import Sequence

__all__ = ['word_pair_quintuples_oracle', 'word_pair_spans_oracle',
           'word_pair_table_oracle']

Span = tuple[int, int, int]
Table = Sequence[Sequence[int]]


def word_pair_table_oracle(
    num_words: int,
    entities: Sequence[Span],
    relations: Sequence[tuple[int, int, int]],
    num_types: int,
    directed: bool = False,
) -> list[list[int]]:
    r"""Fills a table: all mentions in order, then relation by relation its
    head, its tail and itself; what is written later stays. Cells below the
    diagonal of an undirected table are -1.
    """
    table = [[0 if directed or i <= j else -1 for j in range(num_words)]
             for i in range(num_words)]

    def put_mention(mention: Span) -> None:
        start, end, kind = mention
        for i in range(start, end):
            for j in range(i, end):
                table[i][j] = 1 + kind

    for mention in entities:
        put_mention(mention)
    for head, tail, relation_id in relations:
        put_mention(entities[head])
        put_mention(entities[tail])
        for i in range(*entities[head][:2]):
            for j in range(*entities[tail][:2]):
                row, column = (i, j) if directed else (min(i, j), max(i, j))
                table[row][column] = 1 + num_types + relation_id
    return table


def word_pair_spans_oracle(
    table: Table,
    num_types: int,
    rule: str,
) -> list[Span]:
    r"""Reads the mentions off a table, from left to right, by the rule
    :obj:`'triangle'` or by the published :obj:`'diagonal'`.
    """
    n = len(table)
    spans = []
    i = 0
    while i < n:
        tag = table[i][i]
        if not 1 <= tag <= num_types:
            i += 1
            continue
        end = i + 1
        if rule == 'diagonal':
            while end < n and 1 <= table[end][end] <= num_types:
                end += 1
        else:
            while end < n and all(table[k][end] == tag
                                  for k in range(i, end + 1)):
                end += 1
        spans.append((i, end, tag - 1))
        i = end
    return spans


def word_pair_quintuples_oracle(
    table: Table,
    spans: Sequence[Span],
    num_types: int,
    directed: bool = False,
) -> list[tuple[Span, Span, int]]:
    r"""Counts the relations between every two spans. The most frequent one
    wins; ties: the smallest id. The span that stands first is the head, but
    in a directed table, where the two directions are counted apart (ties: the
    smallest id, then the head that stands first).
    """
    out = []
    for a, left in enumerate(spans):
        for right in spans[a + 1:]:
            count: dict[tuple[int, int], int] = {}
            for i in range(*left[:2]):
                for j in range(*right[:2]):
                    cells = [(table[min(i, j)][max(i, j)], 0)]
                    if directed:
                        cells = [(table[i][j], 0), (table[j][i], 1)]
                    for label, flip in cells:
                        if label > num_types:
                            count[label, flip] = count.get((label, flip),
                                                           0) + 1
            if not count:
                continue
            label, flip = min(count, key=lambda c: (-count[c], c))
            head, tail = (right, left) if flip else (left, right)
            out.append((head, tail, label - 1 - num_types))
    return out
