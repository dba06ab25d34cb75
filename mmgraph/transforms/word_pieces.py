"""Word pieces of a post, with markers around the mentions."""
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post
from mmgraph.parse.word_pieces import (
    Mention,
    WordTokenizer,
    fit_pieces,
    insert_markers,
)

__all__ = ['WordPieces']

_MARKERS = ('[unused0]', '[unused1]', '[unused2]', '[unused3]')


@functional_transform('word_pieces')
class WordPieces(BaseTransform):  # type: ignore[misc]
    r"""Adds what a pretrained text encoder reads: the word pieces of a post,
    each joined to its word, with markers around the two mentions of its
    relation (functional name: :obj:`word_pieces`).

    The head mention of the post's first relation is put between
    :obj:`markers[0]` and :obj:`markers[1]`, the tail between
    :obj:`markers[2]` and :obj:`markers[3]`, from the `"Matching the Blanks:
    Distributional Similarity for Relation Learning"
    <https://arxiv.org/abs/1906.03158>`_ paper: the roles decide, not the
    order in the text. Mentions may nest. A post without relation gets its
    pieces alone.

    Stores added:

    - :obj:`token`: :obj:`input_id [l]`
    - (token, part_of, word): special pieces and markers have no edge
    - (entity, marked_by, token): the opening marker of head and tail

    .. note::
        Published code cuts the text after :obj:`max_length` pieces and may
        lose a marker and the closing piece. Here the words farthest from the
        mentions go first; markers, the first piece of each mention and the
        closing piece always stay.

    Args:
        tokenizer (str or tokenizer): A Hugging Face tokenizer, the id of one,
            or a local folder.
        max_length (int, optional): Most pieces of a post, special pieces and
            markers included. (default: :obj:`128`)
        markers (sequence of str, optional): Four pieces of the tokenizer's
            vocabulary: head opens, head closes, tail opens, tail closes.
        mark_entities (bool, optional): If :obj:`False`, puts no markers.
            (default: :obj:`True`)

    Raises:
        InputError: If the tokenizer cannot be loaded.
        ValueError: If a marker is not in the tokenizer's vocabulary, or
            :obj:`max_length` leaves no room.
    """
    def __init__(
        self,
        tokenizer: Any,
        max_length: int = 128,
        markers: Sequence[str] = _MARKERS,
        mark_entities: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.markers = tuple(markers)
        self.mark_entities = mark_entities
        self._words = WordTokenizer(tokenizer)
        self._num_special = sum(
            i is not None for i in (self._words.first_id, self._words.last_id))
        self._markers: list[tuple[int, int]] = []
        if mark_entities:
            if len(set(self.markers)) != 4:
                raise ValueError(f"'markers' must be four different pieces "
                                 f'(got {list(self.markers)})')
            a, b, c, d = self._words.marker_ids(self.markers)
            self._markers = [(a, b), (c, d)]
        least = self._num_special + (6 if mark_entities else 1)
        if max_length < least:
            raise ValueError(
                f"'max_length' must be at least {least}: special pieces, "
                f'markers and a first piece a mention (got {max_length})')

    @property
    def hf_tokenizer(self) -> Any:
        r"""The Hugging Face tokenizer."""
        return self._words.tokenizer

    def num_tokens(self, words: Sequence[str]) -> int:
        r"""The number of pieces of some words, without special pieces and
        markers, before truncation: for batches of equally long posts.
        """
        return sum(len(self._words(word)) for word in words)

    def forward(self, data: Post) -> Post:
        mentions, roles = self._mentions(data)
        pieces: list[Sequence[int]] = [self._words(w) for w in data.words]
        markers = self._markers if mentions else []
        room = self.max_length - self._num_special - 2 * len(markers)
        if sum(map(len, pieces)) > room:
            pieces = fit_pieces(pieces, room, mentions)
        found = insert_markers(pieces, mentions, markers,
                               self._words.first_id, self._words.last_id)
        token = data['token']
        token.input_id = torch.tensor(found.input_id, dtype=torch.long)
        token.num_nodes = len(found.input_id)
        data['token', 'part_of', 'word'].edge_index = torch.tensor(
            [found.token, found.word], dtype=torch.long)
        data['entity', 'marked_by', 'token'].edge_index = torch.tensor(
            [roles[:len(found.opening)], found.opening], dtype=torch.long)
        return data

    @staticmethod
    def _mentions(data: Post) -> tuple[list[Mention], list[int]]:
        r"""The head and tail spans of the first relation, and the rows of the
        two entities.
        """
        relation = data['entity', 'relation', 'entity'].edge_index
        if relation.size(1) == 0:
            return [], []
        roles = relation[:, 0].tolist()
        entity, word = data['entity', 'covers', 'word'].edge_index.tolist()
        spans = []
        for role in roles:
            covered = [w for e, w in zip(entity, word, strict=True)
                       if e == role]
            spans.append((min(covered), max(covered) + 1))
        return spans, roles

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self._words.name!r}, '
                f'max_length={self.max_length}, markers={self.markers}, '
                f'mark_entities={self.mark_entities})')
