"""Joint extraction of mentions and relations from a table of word pairs."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgraph.data import Post
from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.ragged import range_of_group, rows_of
from mmgraph.parse.word_pairs import (
    PairReading,
    SpanRule,
    head_comes_first,
    pair_index,
    pairs_of_annotation,
    read_pairs,
)
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least, check_choice

__all__ = ['DecodedPairs', 'WordPairHead']


class DecodedPairs(NamedTuple):
    r"""The mentions and relations of one post.

    Args:
        spans (list): :obj:`(start, end, type_id)` a mention, end exclusive,
            in text order; positions inside the post.
        relations (list): :obj:`(head, tail, relation_id, score)` a relation:
            positions in :obj:`spans`, and the relation's mean probability
            over its pairs of words.
    """
    spans: list[tuple[int, int, int]]
    relations: list[tuple[int, int, int, float]]


class WordPairHead(Configurable, nn.Module):
    r"""Labels each pair of a post's words and reads mentions and relations
    from the table of labels, from the `"Joint Multimodal Entity-Relation
    Extraction Based on Edge-enhanced Graph Alignment Network and Word-pair
    Relation Tagging" <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI
    2023, Eq. 11).

    The classifier is linear in the states of the two words and in the vectors
    of the pair in some channels :math:`l` (its distance in the tree, say),

    .. math::
        \mathbf{W} [\mathbf{x}_i; \mathbf{x}_j; \mathbf{r}^1_{ij}; \ldots]
        + \mathbf{b} = \mathbf{A} \mathbf{x}_i + \mathbf{B} \mathbf{x}_j
        + \sum_l \mathbf{C}_l \mathbf{r}^l_{ij} + \mathbf{b},

    and a vector of a pair is a row of a small table. So each product is
    computed once a word and once a row, and the pairs only add up numbers: no
    tensor has a pair's features.

    .. note::
        The paper writes the two words' states only; its published code joins
        the channels, as here. It drops features of each pair anew. We drop
        those of the words, once for each of the two places, and of the
        tables' rows: the same in expectation.

    .. note::
        The published code reads mentions off the diagonal
        (:obj:`span_rule='diagonal'`) and leaves the direction of a relation
        open. See :func:`~mmgraph.parse.word_pairs.read_pairs` for the rules.

    Args:
        in_channels (int): Size :math:`F` of a word's state.
        num_types (int): Number of types of mentions :math:`T`.
        num_relations (int): Number of relations :math:`R`, none that means
            "no relation".
        pair_channels (sequence of int, optional): Size of a pair's vector in
            each channel. (default: :obj:`()`)
        directed (bool, optional): If :obj:`True`, all ordered pairs are
            labelled, a relation in the row of its head: twice the work, and
            the direction is read off the table. (default: :obj:`False`)
        span_rule (str, optional): :obj:`'triangle'` or :obj:`'diagonal'`.
            (default: :obj:`'triangle'`)
        signatures (sequence of sequences, optional): What tells the head of
            an undirected table's relation from its tail, see
            :func:`~mmgraph.parse.word_pairs.head_comes_first`. Without it the
            head stands first. (default: :obj:`None`)
        dropout (float, optional): Before the classifier.
            (default: :obj:`0.2`)

    Shapes:
        - **input:** states :math:`(M, F)`, pairs :math:`(2, P)`
        - **output:** logits :math:`(P, 1 + T + R)`; see
          :func:`~mmgraph.parse.word_pairs.word_pair_vocabulary`

    Raises:
        ValueError: If a size is not positive, :obj:`span_rule` unknown or a
            row of :obj:`signatures` ill-formed.

    Complexity: :math:`\mathcal{O}(M F C + P C)` with :math:`C = 1 + T + R`.

    Example:
        >>> head = WordPairHead(8, num_types=2, num_relations=3)
        >>> ptr = torch.tensor([0, 3, 5])
        >>> logits = head(torch.randn(5, 8), head.pair_index(ptr))
        >>> logits.shape
        torch.Size([9, 6])
        >>> found = head.decode(logits, head.pair_index(ptr), ptr)
        >>> len(found)
        2
    """
    head_first: OptTensor

    def __init__(
        self,
        in_channels: int,
        num_types: int,
        num_relations: int,
        pair_channels: Sequence[int] = (),
        directed: bool = False,
        span_rule: SpanRule = 'triangle',
        signatures: Sequence[Sequence[int]] | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels, num_types=num_types,
                       num_relations=num_relations)
        for channels in pair_channels:
            check_at_least(1, pair_channels=channels)
        check_choice('span_rule', span_rule, ('triangle', 'diagonal'))
        self.num_types = num_types
        self.num_relations = num_relations
        self.directed = directed
        self.span_rule: SpanRule = span_rule
        self.widths = [in_channels, in_channels, *pair_channels]
        self.register_buffer(
            'head_first', None if signatures is None else
            head_comes_first(signatures, num_types, num_relations),
            persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(sum(self.widths),
                                    1 + num_types + num_relations)

    def reset_parameters(self) -> None:
        r"""Draws new weights."""
        self.classifier.reset_parameters()

    def pair_index(self, ptr: Tensor) -> Tensor:
        r"""The pairs :obj:`[2, P]` that this head labels; see
        :func:`mmgraph.parse.word_pairs.pair_index`.
        """
        return pair_index(ptr, self.directed)

    def forward(
        self,
        x: Tensor,
        pair_index: Tensor,
        features: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> Tensor:
        r"""Scores the labels of pairs.

        Args:
            x (torch.Tensor): States :obj:`[M, F]`.
            pair_index (torch.Tensor): Pairs of rows of :obj:`x`,
                :obj:`[2, P]`.
            features (sequence of tuples, optional): A table of vectors
                :obj:`[K, pair_channels[l]]` a channel, and each pair's row
                :obj:`[P]`, or its two rows :obj:`[2, P]`, which are added.
                (default: :obj:`()`)

        Raises:
            ShapeError: If there are more or fewer channels than
                :obj:`pair_channels`, or one does not fit.
        """
        self._check(x, pair_index, features)
        first, second, *channels = self.classifier.weight.split(self.widths, 1)
        logits = F.linear(self.dropout(x), first, self.classifier.bias
                          ).index_select(0, pair_index[0])
        logits += F.linear(self.dropout(x), second
                           ).index_select(0, pair_index[1])
        for weight, (table, index) in zip(channels, features, strict=True):
            rows = F.linear(self.dropout(table), weight)
            for row in index.unbind(0) if index.dim() == 2 else (index,):
                logits += rows.index_select(0, row)
        return logits

    def labels(self, batch: Post, word: Tensor, pair_index: Tensor) -> Tensor:
        r"""The gold labels of pairs.

        Args:
            batch (Post): A batch of posts.
            word (torch.Tensor): The row of each state in the batch's
                :obj:`word` store, :obj:`[M]`, ascending. A mention goes from
                its first to its last word that has a state; one without any
                is left out with its relations.
            pair_index (torch.Tensor): From :meth:`pair_index`.

        Raises:
            ShapeError: If the pairs are not those of :obj:`word`.
            ValueError: If a post has a type or relation that the head was not
                built for.
        """
        if pair_index.numel() == 0:
            return pair_index[0]
        if int(pair_index.max()) + 1 != word.numel():
            raise ShapeError(
                f"'pair_index' must hold the pairs of the {word.numel()} words "
                f'(got {int(pair_index.max()) + 1})')
        post = rows_of(batch, 'entity')[0]
        kind = batch['entity'].type_id
        self._check_ids(batch, 'type_id', kind, post, self.num_types)
        relation = batch['entity', 'relation', 'entity']
        self._check_ids(batch, 'relation_id', relation.relation_id,
                        post[relation.edge_index[0]], self.num_relations)

        row = word.new_full((int(batch['word'].num_nodes),), -1)
        row[word] = torch.arange(word.numel(), device=word.device)
        entity, place = batch['entity', 'covers', 'word'].edge_index
        place = row[place]
        entity, place = entity[place >= 0], place[place >= 0]
        start, end = range_of_group(entity, place, kind.numel())
        seen = start >= 0
        number = seen.cumsum(0) - 1
        head, tail = relation.edge_index
        both = seen[head] & seen[tail]
        return pairs_of_annotation(
            pair_index,
            torch.stack([start[seen], end[seen], kind[seen]]),
            torch.stack([number[head[both]], number[tail[both]],
                         relation.relation_id[both]]),
            self.num_types, self.num_relations, self.directed)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of the gold labels, mean over the pairs; zero, and
        differentiable, if there is none.
        """
        logits = logits.float()
        if not labels.numel():  # The mean of no pair would be NaN.
            return logits.sum()
        return F.cross_entropy(logits, labels)

    @torch.no_grad()
    def decode(
        self,
        logits: Tensor,
        pair_index: Tensor,
        ptr: Tensor,
    ) -> list[DecodedPairs]:
        r"""The mentions and relations of each post, from the most probable
        label of each pair.

        Args:
            logits (torch.Tensor): :obj:`[P, 1 + T + R]`.
            pair_index (torch.Tensor): From :meth:`pair_index`.
            ptr (torch.Tensor): Where each post's rows start, :obj:`[B + 1]`.
        """
        return self._read(logits.argmax(dim=-1), pair_index, ptr, logits)

    def decode_labels(
        self,
        labels: Tensor,
        pair_index: Tensor,
        ptr: Tensor,
    ) -> list[DecodedPairs]:
        r"""As :meth:`decode`, from labels :obj:`[P]`; the score of a relation
        is its share of the pairs of words.
        """
        return self._read(labels, pair_index, ptr, None)

    def _read(
        self,
        labels: Tensor,
        pairs: Tensor,
        ptr: Tensor,
        logits: OptTensor,
    ) -> list[DecodedPairs]:
        return _per_post(read_pairs(
            labels, pairs, ptr, self.num_types, self.num_relations,
            self.span_rule, self.directed, self.head_first, logits), ptr)

    def _check(
        self,
        x: Tensor,
        pairs: Tensor,
        features: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        widths = self.widths[2:]
        if len(features) != len(widths):
            raise ShapeError(f"'features' must hold {len(widths)} channels "
                             f'(got {len(features)})')
        for name, table, width in (
                ('x', x, self.widths[0]),
                *((f'features[{i}][0]', table, width) for i, ((table, _), width)
                  in enumerate(zip(features, widths, strict=True)))):
            if table.size(-1) != width:
                raise ShapeError(f"'{name}' must have {width} columns (got "
                                 f'{table.size(-1)})', ('N', width),
                                 table.shape)
        for i, (_, index) in enumerate(features):
            if index.size(-1) != pairs.size(1):
                raise ShapeError(
                    f"'features[{i}][1]' must have one column for each of the "
                    f'{pairs.size(1)} pairs (got {index.size(-1)})',
                    ('P',), index.shape)

    @staticmethod
    def _check_ids(
        batch: Post,
        name: str,
        ids: Tensor,
        post: Tensor,
        size: int,
    ) -> None:
        wrong = ((ids < 0) | (ids >= size)).nonzero()
        if wrong.numel():
            i = int(wrong[0])
            names = batch.post_id
            where = names if isinstance(names, str) else names[int(post[i])]
            raise ValueError(f"post {where!r}: '{name}' must be in [0, {size}) "
                             f'(got {int(ids[i])}); was the model built for '
                             f'another vocabulary?')


def _per_post(found: PairReading, ptr: Tensor) -> list[DecodedPairs]:
    r"""Splits a batch's spans and relations, which come post by post."""
    start, end, kind = found.spans
    head, tail, relation_id = found.relations
    post = torch.searchsorted(ptr[1:].contiguous(), start, right=True)
    first = torch.searchsorted(post, torch.arange(
        ptr.numel() - 1, device=ptr.device))  # The first span of each post.
    begin, shift = ptr[post], first[post[head]]
    out: list[DecodedPairs] = [DecodedPairs([], [])
                               for _ in range(ptr.numel() - 1)]
    for b, *span in torch.stack(
            [post, start - begin, end - begin, kind], 1).tolist():
        out[b].spans.append((span[0], span[1], span[2]))
    rows = torch.stack([post[head], head - shift, tail - shift, relation_id],
                       1).tolist()
    for (b, *row), score in zip(rows, found.score.tolist(), strict=True):
        out[b].relations.append((row[0], row[1], row[2], score))
    return out
