r"""Word-pair tables ↔ mentions and relations.

One table over all pairs of words holds the mentions of a post and the
relations between them, from the `"Joint Multimodal Entity-Relation Extraction
Based on Edge-enhanced Graph Alignment Network and Word-pair Relation Tagging"
<https://doi.org/10.1609/aaai.v37i9.26309>`_ (AAAI 2023) paper. With :math:`T`
types and :math:`R` relations its labels are 0 for none, :math:`1 + t` for a
mention of type :math:`t` and :math:`1 + T + r` for relation :math:`r`.

A mention labels the pairs :math:`i \leq j` of its words, a relation all pairs
of a word of the one mention and a word of the other: the pair :math:`(\min(i,
j), \max(i, j))`, or, in a directed table, :math:`(i, j)` with :math:`i` in the
head and :math:`j` in the tail. Mentions that overlap do not fit; what is
written later stays. As in the published code, the relations are written one
after the other, each after its head and its tail.

Everything here works on a whole batch of posts: positions of words count over
the batch, and the labels :obj:`[P]` are in the order of :func:`pair_index`.
"""
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmgraph.data import Post, Vocabulary
from mmgraph.errors import InputError
from mmgraph.typing import OptTensor
from mmgraph.utils import check_choice

__all__ = [
    'PairReading', 'SpanRule', 'head_comes_first', 'pair_index',
    'pairs_of_annotation', 'read_pairs', 'read_table', 'table_of',
    'upper_triangle', 'word_pair_vocabulary'
]

SpanRule = Literal['triangle', 'diagonal']


def word_pair_vocabulary(
    types: Vocabulary | Sequence[str],
    relations: Vocabulary | Sequence[str],
) -> Vocabulary:
    r"""The labels of word pairs in the order of their ids.

    Example:
        >>> word_pair_vocabulary(['per', 'loc'], ['born_in']).labels
        ('none', 'entity:per', 'entity:loc', 'relation:born_in')
    """
    return Vocabulary(['none', *(f'entity:{label}' for label in types),
                       *(f'relation:{label}' for label in relations)])


def pair_index(ptr: Tensor, directed: bool = False) -> Tensor:
    r"""All pairs of words of each post, post by post and row by row.

    Args:
        ptr (torch.Tensor): Where the words of each post start,
            :obj:`[B + 1]`.
        directed (bool, optional): If :obj:`True`, all ordered pairs; else
            those with :math:`i \leq j`. (default: :obj:`False`)

    Returns:
        Positions :math:`(i, j)` over the whole batch, :obj:`[2, P]`, with
        :math:`P = \sum_b n_b (n_b + 1) / 2`, or :math:`\sum_b n_b^2` if
        directed.

    Example:
        >>> pair_index(torch.tensor([0, 2, 3])).tolist()
        [[0, 0, 1, 2], [0, 1, 1, 2]]
    """
    post = torch.repeat_interleave(ptr.diff())
    first = (ptr[post] if directed
             else torch.arange(post.numel(), device=ptr.device))
    row, place = _runs(ptr[post + 1] - first)
    return torch.stack([row, first[row] + place])


def upper_triangle(pairs: Tensor, ptr: Tensor) -> Tensor:
    r"""Where the undirected pairs :math:`(\min(i, j), \max(i, j))` of some
    pairs stand in :obj:`pair_index(ptr)`.

    Args:
        pairs (torch.Tensor): Pairs :math:`(i, j)` of words of one post each,
            :obj:`[2, K]`.
        ptr (torch.Tensor): Where the words of each post start,
            :obj:`[B + 1]`.

    Example:
        >>> ptr = torch.tensor([0, 2])
        >>> upper_triangle(pair_index(ptr, directed=True), ptr).tolist()
        [0, 1, 1, 2]
    """
    post = torch.repeat_interleave(ptr.diff())
    sizes = ptr[post + 1] - torch.arange(post.numel(), device=ptr.device)
    row = sizes.cumsum(0) - sizes
    first, last = pairs.amin(0), pairs.amax(0)
    return row[first] + (last - first)


def pairs_of_annotation(
    pairs: Tensor,
    mentions: Tensor,
    relations: Tensor,
    num_types: int,
    num_relations: int,
    directed: bool = False,
) -> Tensor:
    r"""The labels :obj:`[P]` that mentions and relations give to the pairs.

    Args:
        pairs (torch.Tensor): From :func:`pair_index`, :obj:`[2, P]`.
        mentions (torch.Tensor): Columns :obj:`(start, end, type_id)`,
            :obj:`[3, E]`: positions over the batch, end exclusive.
        relations (torch.Tensor): Columns :obj:`(head, tail, relation_id)`,
            :obj:`[3, K]`: head and tail are columns of :obj:`mentions`.
        num_types (int): Number of types :math:`T`.
        num_relations (int): Number of relations :math:`R`.
        directed (bool, optional): As for :func:`pair_index`.
            (default: :obj:`False`)

    Example:
        >>> pairs = pair_index(torch.tensor([0, 3]))
        >>> mentions = torch.tensor([[0, 1], [1, 3], [1, 0]])
        >>> relations = torch.tensor([[1], [0], [0]])
        >>> pairs_of_annotation(pairs, mentions, relations, 2, 1).tolist()
        [2, 3, 3, 1, 1, 1]
    """
    start, end, kind = mentions
    head, tail, relation_id = relations
    size = end - start
    every = torch.arange(start.numel(), device=pairs.device)
    time = every.numel() + 3 * torch.arange(head.numel(), device=pairs.device)

    # All mentions, and once more those of each relation just before it.
    mention = torch.cat([every, head, tail])
    turn = torch.cat([every, time, time + 1])
    run, place = _runs(size[mention])
    i = start[mention[run]] + place
    row, place = _runs(end[mention[run]] - i)
    run = run[row]
    inside = (i[row], i[row] + place, turn[run], 1 + kind[mention[run]])

    run, place = _runs(size[head])
    i = start[head[run]] + place
    row, place = _runs(size[tail[run]])
    run, i = run[row], i[row]
    j = start[tail[run]] + place
    if not directed:
        i, j = torch.minimum(i, j), torch.maximum(i, j)
    between = (i, j, time[run] + 2, 1 + num_types + relation_id[run])

    # The latest label of each pair; none is 0, so an unwritten pair keeps 0.
    i, j, turn, label = map(torch.cat, zip(inside, between, strict=True))
    # The pairs of a row stand side by side, and (i, i) is in every row.
    diagonal = (pairs[0] == pairs[1]).nonzero().view(-1)
    labels = 1 + num_types + num_relations
    return torch.zeros_like(pairs[0]).scatter_reduce(
        0, diagonal[i] + (j - i), turn * labels + label, 'amax') % labels


class PairReading(NamedTuple):
    r"""What the labels of a batch's pairs stand for.

    Args:
        spans (torch.Tensor): Columns :obj:`(start, end, type_id)`,
            :obj:`[3, S]`, in text order: positions over the batch, end
            exclusive.
        relations (torch.Tensor): Columns :obj:`(head, tail, relation_id)`,
            :obj:`[3, K]`: head and tail are columns of :obj:`spans`. Ordered
            by the span that stands first, then by the other.
        score (torch.Tensor): The mean probability of each relation over its
            pairs of words, :obj:`[K]`, in :math:`[0, 1]`.
    """
    spans: Tensor
    relations: Tensor
    score: Tensor


def read_pairs(
    labels: Tensor,
    pairs: Tensor,
    ptr: Tensor,
    num_types: int,
    num_relations: int,
    span_rule: SpanRule = 'triangle',
    directed: bool = False,
    head_first: OptTensor = None,
    logits: OptTensor = None,
) -> PairReading:
    r"""The mentions and relations that the labels of a batch's pairs stand
    for; any labels can be read, well-formed or not.

    Mentions are disjoint runs of words, read from left to right by one of two
    rules.

    * :obj:`'triangle'`: a mention starts at a word whose own label is a type
      :math:`t`, and goes on to word :math:`j` as long as all pairs :math:`(k,
      j)` from its start to :math:`j` are labelled :math:`t`.
    * :obj:`'diagonal'`, the published rule: a mention goes on as long as the
      words' own labels are types, and has the type of its first word. It
      joins mentions that touch.

    Two mentions are related if one of their pairs of words is labelled with a
    relation. The most frequent one is theirs; of equally frequent ones that
    with the smallest id. Which mention is the head, an undirected table does
    not say: :obj:`head_first` decides. In a directed table the two directions
    of a relation compete like different relations; of two equally frequent
    ones the head is the mention that stands first.

    Args:
        labels (torch.Tensor): The label of each pair, :obj:`[P]`.
        pairs (torch.Tensor): From :func:`pair_index`, :obj:`[2, P]`.
        ptr (torch.Tensor): Where the words of each post start,
            :obj:`[B + 1]`.
        num_types (int): Number of types :math:`T`.
        num_relations (int): Number of relations :math:`R`.
        span_rule (str, optional): :obj:`'triangle'` or :obj:`'diagonal'`.
            (default: :obj:`'triangle'`)
        directed (bool, optional): As for :func:`pair_index`.
            (default: :obj:`False`)
        head_first (torch.Tensor, optional): From :func:`head_comes_first`,
            :obj:`[R, T, T]`; without it the mention that stands first is the
            head. Not read if :obj:`directed`. (default: :obj:`None`)
        logits (torch.Tensor, optional): Scores :obj:`[P, 1 + T + R]` that
            :attr:`PairReading.score` is computed from; without them a pair's
            own label has probability one. (default: :obj:`None`)

    Complexity: linear in the number of pairs, but for a sort of those that
    are labelled with a relation.
    """
    check_choice('span_rule', span_rule, ('triangle', 'diagonal'))
    spans = _read_spans(labels, pairs, ptr, num_types, span_rule)
    first, last, kind = spans

    # The span of each word.
    span, place = _runs(last - first)
    span_of = ptr.new_full((int(ptr[-1]),), -1)
    span_of[first[span] + place] = span
    a, b = span_of[pairs[0]], span_of[pairs[1]]
    cell = ((a >= 0) & (b >= 0) & (a != b)).nonzero().view(-1)
    a, b = a[cell], b[cell]
    couple = torch.minimum(a, b) * first.numel() + torch.maximum(a, b)
    flipped = (a > b).long()  # Never in an undirected table.

    # Votes: each candidate of each couple of spans, in order of its id.
    relation_id = labels[cell] - (1 + num_types)
    votes = relation_id >= 0
    kinds = 2 * num_relations
    candidate, count = torch.unique(
        (couple * kinds + 2 * relation_id + flipped)[votes],
        return_counts=True)
    owner, candidate = candidate // kinds, candidate % kinds
    related, group = torch.unique_consecutive(owner, return_inverse=True)
    most = torch.zeros_like(related).scatter_reduce(
        0, group, count * kinds + (kinds - 1 - candidate), 'amax')
    chosen = kinds - 1 - most % kinds
    relation_id, flip = chosen // 2, chosen % 2

    # Scores, over all the pairs of words of the chosen direction.
    at = torch.searchsorted(related, couple)
    found = at < related.numel()
    cell, couple, flipped, at = (
        item[found] for item in (cell, couple, flipped, at))
    member = (related[at] == couple) & (flip[at] == flipped)
    cell, at = cell[member], at[member]
    wanted = 1 + num_types + relation_id[at]
    probability = (
        (labels[cell] == wanted).float() if logits is None else
        logits[cell].float().softmax(-1).gather(1, wanted[:, None])[:, 0])
    score = probability.new_zeros(related.numel()).index_add(
        0, at, probability) / torch.bincount(at, minlength=related.numel())

    n = max(first.numel(), 1)
    head, tail = related // n, related % n
    if not directed and head_first is not None:
        flip = 1 - head_first[relation_id, kind[head], kind[tail]].long()
    head, tail = (torch.where(flip == 1, tail, head),
                  torch.where(flip == 1, head, tail))
    return PairReading(spans, torch.stack([head, tail, relation_id]), score)


def head_comes_first(
    signatures: Sequence[Sequence[int]],
    num_types: int,
    num_relations: int,
) -> Tensor:
    r"""Whether the head is the mention that stands first, for each relation,
    type of the first and type of the second mention: :obj:`[R, T, T]`, bool.

    Most relations join two certain types, head and tail. So the types decide
    where they occur more often in the one role than in the other; else that
    relation's more frequent order in the text, for these types, or, if there
    is none, for all types. Without any of these the head comes first.

    Args:
        signatures (sequence of sequences): Rows :obj:`[relation_id, head_type,
            tail_type, head_first, tail_first]`: how often the head stands
            before and after the tail in the training data. See
            :attr:`~mmgraph.datasets.PostDataset.signatures`.
        num_types (int): Number of types :math:`T`.
        num_relations (int): Number of relations :math:`R`.

    Raises:
        ValueError: If a row is not five numbers, an id is unknown, or a
            number is negative.

    Example:
        >>> table = head_comes_first([[0, 1, 0, 2, 5]], 2, 1)
        >>> bool(table[0, 1, 0]), bool(table[0, 0, 1])
        (True, False)
    """
    limits = (num_relations, num_types, num_types)
    for row in signatures:
        if len(row) != 5 or min(row) < 0 or any(
                value >= limit for value, limit in zip(row, limits)):
            raise ValueError(
                f"'signatures' must be rows [relation_id, head_type, "
                f'tail_type, head_first, tail_first] of {num_relations} '
                f'relations and {num_types} types (got {list(row)})')
    rows = torch.tensor([list(row) for row in signatures],
                        dtype=torch.long).view(-1, 5)
    counts = torch.zeros(num_relations, num_types, num_types, 2,
                         dtype=torch.long)
    counts.index_put_((rows[:, 0], rows[:, 1], rows[:, 2]), rows[:, 3:],
                      accumulate=True)
    types = counts.sum(-1)
    order = counts[..., 0] - counts[..., 1]
    verdict = torch.ones_like(order)
    for evidence in (order.sum((1, 2), keepdim=True).expand_as(order),
                     order + order.transpose(1, 2),
                     types - types.transpose(1, 2)):
        verdict = torch.where(evidence == 0, verdict, evidence)
    return verdict > 0


def table_of(
    post: Post,
    num_types: int,
    num_relations: int,
    directed: bool = False,
) -> Tensor:
    r"""A post's annotation as a table :obj:`[n, n]`; without
    :obj:`directed`, what is below the diagonal is -1: it is not used.

    Args:
        post (Post): One post.
        num_types (int): Number of types :math:`T`.
        num_relations (int): Number of relations :math:`R`.
        directed (bool, optional): As for :func:`pair_index`.
            (default: :obj:`False`)

    Raises:
        InputError: If the post has a type or relation outside the numbers.

    Example:
        >>> from mmgraph.data import TextGraph, Vocabulary
        >>> text = TextGraph.from_heads(['Ann', 'of', 'Oslo'], [-1, 0, 1],
        ...                             ['dep'] * 3, Vocabulary(['dep']))
        >>> post = Post.build(text, entities=[(0, 1, 0), (2, 3, 1)],
        ...                   relations=[(0, 1, 0)])
        >>> table_of(post, num_types=2, num_relations=1)
        tensor([[ 1,  0,  3],
                [-1,  0,  0],
                [-1, -1,  2]])
    """
    mentions = torch.tensor(post.entities, dtype=torch.long).view(-1, 3).t()
    relations = torch.tensor(post.relations, dtype=torch.long).view(-1, 3).t()
    for name, ids, size in (('type', mentions[2], num_types),
                            ('relation', relations[2], num_relations)):
        wrong = ids[(ids < 0) | (ids >= size)]
        if wrong.numel():
            raise InputError(f"'{name}_id' must be in [0, {size}) (got "
                             f'{int(wrong[0])})', _place(post.post_id))
    n = len(post.words)
    pairs = pair_index(torch.tensor([0, n]), directed)
    table = torch.full((n, n), -1)
    table[pairs[0], pairs[1]] = pairs_of_annotation(
        pairs, mentions, relations, num_types, num_relations, directed)
    return table


def read_table(
    table: Tensor | Sequence[Sequence[int]],
    words: Sequence[str],
    types: Vocabulary | Sequence[str],
    relations: Vocabulary | Sequence[str],
    span_rule: SpanRule = 'triangle',
    directed: bool = False,
    signatures: Sequence[Sequence[int]] | None = None,
    post_id: str = '',
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    r"""The mentions and relations of a table, as :meth:`Post.build
    <mmgraph.data.Post.build>` takes them. See :func:`read_pairs` for the
    rules.

    Args:
        table (torch.Tensor or sequence of sequences): Ids :obj:`[n, n]`, see
            :func:`word_pair_vocabulary`; -1 is an ignored pair. Without
            :obj:`directed`, what is below the diagonal must be empty or
            mirror what is above it.
        words (sequence of str): The words :math:`n`.
        types (Vocabulary or sequence of str): The types of mentions.
        relations (Vocabulary or sequence of str): The relations.
        span_rule (str, optional): :obj:`'triangle'` or :obj:`'diagonal'`.
            (default: :obj:`'triangle'`)
        directed (bool, optional): As for :func:`pair_index`.
            (default: :obj:`False`)
        signatures (sequence of sequences, optional): See
            :func:`head_comes_first`; without them the mention that stands
            first is the head. (default: :obj:`None`)
        post_id (str, optional): A name for errors. (default: :obj:`''`)

    Raises:
        InputError: If the table does not fit the words, or holds an id that
            stands for no type and no relation.

    Example:
        >>> read_table([[1, 0, 3], [-1, 0, 0], [-1, -1, 2]],
        ...            ['Ann', 'of', 'Oslo'], ['per', 'loc'], ['born_in'])
        ([(0, 1, 0), (2, 3, 1)], [(0, 1, 0)])
    """
    place, n = _place(post_id), len(words)
    num_types, num_relations = len(types), len(relations)
    ids = _ids(table, n, place)
    size = 1 + num_types + num_relations
    _refuse((ids < -1) | (ids >= size), ids,
            f'must be -1 (ignored), 0 (none), in [1, {num_types}] (a type) '
            f'or in [{1 + num_types}, {size - 1}] (a relation)', place)
    if not directed:
        below = ids.tril(-1).clamp(min=0)
        _refuse((below > 0) & (below != ids.triu(1).t()), ids,
                'must be empty, or mirror the one above the diagonal, unless '
                'directed=True', place)
    ptr = torch.tensor([0, n])
    pairs = pair_index(ptr, directed)
    found = read_pairs(
        ids[pairs[0], pairs[1]].clamp(min=0), pairs, ptr, num_types,
        num_relations, span_rule, directed, None if signatures is None
        else head_comes_first(signatures, num_types, num_relations))
    return ([(s, e, kind) for s, e, kind in found.spans.t().tolist()],
            [(h, t, kind) for h, t, kind in found.relations.t().tolist()])


def _place(post_id: str) -> str:
    return f'post {post_id!r}'


def _ids(table: Any, n: int, place: str) -> Tensor:
    try:
        ids = torch.as_tensor(table).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'a word-pair table must be a square of ids '
                         f'({error})', place) from error
    if ids.numel() == 0 and n == 0:
        return torch.empty(0, 0, dtype=torch.long)
    if ids.shape != (n, n):
        shape = ' x '.join(map(str, ids.shape))
        raise InputError(f'a word-pair table must have a row and a column for '
                         f'each of the {n} words (got {shape})', place)
    if ids.is_floating_point() or ids.is_complex():
        raise InputError(f'a word-pair table must hold integers (got '
                         f'{ids.dtype})', place)
    return ids.long()


def _refuse(wrong: Tensor, ids: Tensor, rule: str, place: str) -> None:
    where = wrong.nonzero()
    if where.numel():
        i, j = where[0].tolist()
        raise InputError(f'pair ({i}, {j}) of the word-pair table {rule} '
                         f'(got {int(ids[i, j])})', place)


def _runs(sizes: Tensor) -> tuple[Tensor, Tensor]:
    r"""The members of runs of some sizes: the run of each, and its place."""
    run = torch.repeat_interleave(sizes)
    start = sizes.cumsum(0) - sizes
    return run, torch.arange(run.numel(), device=run.device) - start[run]


def _read_spans(
    labels: Tensor,
    pairs: Tensor,
    ptr: Tensor,
    num_types: int,
    rule: SpanRule,
) -> Tensor:
    r"""See :attr:`PairReading.spans`."""
    diagonal = (pairs[0] == pairs[1]).nonzero().view(-1)
    own = labels[diagonal]
    n = own.numel()
    inside = (own > 0) & (own <= num_types)
    # Whether a word and the one before it may be of one mention.
    joined = torch.zeros(n + 1, dtype=torch.bool, device=own.device)
    joined[1:-1] = inside[1:] & inside[:-1]
    if rule == 'triangle':
        joined[1:-1] &= own[1:] == own[:-1]
    joined[ptr] = False
    start = (inside & ~joined[:-1]).nonzero().view(-1)
    end = (inside & ~joined[1:]).nonzero().view(-1) + 1
    if rule == 'diagonal':
        return torch.stack([start, end, own[start] - 1])

    # The pairs inside these runs of words of one type. Up the column of word
    # j, its type goes on to row top[j].
    run, place = _runs(end - start)
    word, stop = start[run] + place, end[run]
    row, place = _runs(stop - word - 1)
    i = word[row]
    j = i + 1 + place
    top = torch.zeros_like(own).scatter_reduce(
        0, j, torch.where(labels[diagonal[i] + (j - i)] == own[j], 0, i + 1),
        'amax')
    # So a mention that starts at word i ends before the first such j.
    refused = top[j] > i
    until = torch.arange(n + 1, device=own.device)
    until[word] = stop
    until = until.scatter_reduce(0, i[refused], j[refused], 'amin')
    # Mentions start where runs do and where another one ends. All of these
    # words are reached by steps, twice as many in each round.
    reached = torch.zeros_like(joined)
    reached[start] = True
    longest = int((end - start).max()) if start.numel() else 0
    step = until
    for _ in range(longest.bit_length()):
        reached[step[reached.nonzero().view(-1)]] = True
        step = step[step]
    start = (reached[:-1] & inside).nonzero().view(-1)
    return torch.stack([start, until[start], own[start] - 1])
