"""Words to word pieces, one word at a time, and where markers go."""
import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmgraph.errors import InputError

__all__ = ['Mention', 'WordTokenizer', 'fit_pieces', 'insert_markers']

Mention = tuple[int, int]  # word positions [start, end)
Pieces = Sequence[int]

_CACHE_SIZE = 1 << 20  # words; far above any corpus, a bound for services


class MarkedPieces(NamedTuple):
    r"""What :func:`insert_markers` gives.

    Args:
        input_id (list of int): All pieces, special ones and markers included.
        token (list of int): The positions in :obj:`input_id` that belong to a
            word, ascending.
        word (list of int): The word of each of them.
        opening (list of int): The position of each mention's opening marker.
    """
    input_id: list[int]
    token: list[int]
    word: list[int]
    opening: list[int]


class WordTokenizer:
    r"""Splits single words with a Hugging Face tokenizer and remembers them.

    A corpus's own words stay the unit: pieces of two words never merge, and a
    word that looks like a special piece (:obj:`'[SEP]'` in a post) is split
    as ordinary text. Byte-level tokenizers see each word with the blank
    before it.

    Args:
        tokenizer (str or tokenizer): A Hugging Face tokenizer, the id of one,
            or a local folder.

    Raises:
        InputError: If no tokenizer can be loaded from there.
    """
    def __init__(self, tokenizer: Any) -> None:
        self.name = str(tokenizer)
        if isinstance(tokenizer, str) or hasattr(tokenizer, '__fspath__'):
            tokenizer = _load(str(tokenizer))
        else:
            self.name = str(getattr(tokenizer, 'name_or_path', ''))
        self.tokenizer = tokenizer
        self.unknown_id: int | None = _special(tokenizer, 'unk')
        self.first_id = _special(tokenizer, 'cls', 'bos')
        self.last_id = _special(tokenizer, 'sep', 'eos')
        self._reserved = set(tokenizer.all_special_ids)
        # Our own copy: padding and truncation are a state of the backend
        # (some files switch them on), and the caller's tokenizer must stay as
        # it is. Tokenizers written in Python have no backend.
        self._backend = copy.deepcopy(
            getattr(tokenizer, 'backend_tokenizer', None))
        if self._backend is not None:
            self._backend.no_padding()
            self._backend.no_truncation()
            self._backend.encode_special_tokens = True
        self._prefix = self._finds_prefix()
        self._cache: dict[str, tuple[int, ...]] = {}

    def _finds_prefix(self) -> str:
        # Asked of the tokenizer itself: is a word inside a text split as it
        # is alone, or as it is after a blank?
        alone, inside = self._encode('a'), self._encode('a a')
        if inside != alone + alone and inside == alone + self._encode(' a'):
            return ' '
        return ''

    def __call__(self, word: str) -> tuple[int, ...]:
        r"""The pieces of a word: at least one."""
        found = self._cache.get(word)
        if found is None:
            found = self._split(word)
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[word] = found
        return found

    def _encode(self, text: str) -> list[int]:
        if self._backend is not None:
            return list(self._backend.encode(text,
                                             add_special_tokens=False).ids)
        return list(self.tokenizer.convert_tokens_to_ids(
            self.tokenizer.tokenize(text)))

    def _split(self, word: str) -> tuple[int, ...]:
        pieces = self._encode(self._prefix + word)
        if pieces and self._reserved.isdisjoint(pieces):
            return tuple(pieces)
        if self.unknown_id is None:
            raise ValueError(f'the tokenizer {self.name!r} has no piece for '
                             f'the word {word!r} and no unknown piece')
        # No piece at all, or (in a post) what means something to the model.
        return tuple(self.unknown_id if i in self._reserved else i
                     for i in pieces) or (self.unknown_id, )

    def marker_ids(self, markers: Sequence[str]) -> list[int]:
        r"""The ids of markers.

        Raises:
            ValueError: If a marker is not in the tokenizer's vocabulary.
        """
        ids = []
        for marker in markers:
            found = self.tokenizer.convert_tokens_to_ids(marker)
            if found is None or found == self.unknown_id:
                raise ValueError(
                    f"'markers' must be in the tokenizer's vocabulary (got "
                    f'{marker!r} with {self.name!r}). Name four pieces that '
                    f'it has, or add these: '
                    f'tokenizer.add_tokens({list(markers)})')
            ids.append(int(found))
        self._reserved.update(ids)  # No word of a post is a marker.
        self._cache.clear()
        return ids


def _load(name: str) -> Any:
    from transformers import AutoTokenizer
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise InputError(f'no tokenizer can be loaded from there ({reason})',
                         name) from error


def _special(tokenizer: Any, *names: str) -> int | None:
    for name in names:
        found = getattr(tokenizer, f'{name}_token_id', None)
        if found is not None:
            return int(found)
    return None


def insert_markers(
    pieces: Sequence[Pieces],
    mentions: Sequence[Mention] = (),
    markers: Sequence[tuple[int, int]] = (),
    first_id: int | None = None,
    last_id: int | None = None,
) -> MarkedPieces:
    r"""Joins the pieces of all words, each mention between its markers.

    Markers follow the mention's place in :obj:`mentions` (its role), not the
    text order. Nested mentions nest: of two that open at one word the longer
    opens first, and of two that end at one word the one opened last ends
    first. No piece is repeated.

    Args:
        pieces (sequence of sequences): The pieces of each word; a word that
            was cut away has none.
        mentions (sequence of tuples, optional): Word positions
            :obj:`(start, end)`, end exclusive. (default: :obj:`()`)
        markers (sequence of tuples, optional): The opening and closing marker
            of each mention. (default: :obj:`()`)
        first_id (int, optional): The piece put first.
            (default: :obj:`None`)
        last_id (int, optional): The piece put last. (default: :obj:`None`)
    """
    before: dict[int, list[tuple[tuple[int, ...], int, int]]] = {}
    for role, ((start, end), (opening, closing)) in enumerate(
            zip(mentions, markers, strict=False)):
        before.setdefault(start, []).append(((1, -end, role), opening, role))
        before.setdefault(end, []).append(((0, -start, -role), closing, -1))
    opened = [0] * min(len(mentions), len(markers))
    input_id: list[int] = [] if first_id is None else [first_id]
    token: list[int] = []
    word: list[int] = []

    def put(boundary: int) -> None:
        for _, marker, role in sorted(before[boundary]):
            if role >= 0:
                opened[role] = len(input_id)
            input_id.append(marker)

    for w, row in enumerate(pieces):
        if w in before:
            put(w)
        n = len(input_id)
        input_id += row
        if len(row) == 1:
            token.append(n)
            word.append(w)
        else:
            token += range(n, n + len(row))
            word += [w] * len(row)
    if len(pieces) in before:
        put(len(pieces))
    if last_id is not None:
        input_id.append(last_id)
    return MarkedPieces(input_id, token, word, opened)


def fit_pieces(
    pieces: Sequence[Pieces],
    room: int,
    mentions: Sequence[Mention] = (),
) -> list[Pieces]:
    r"""Cuts pieces away until at most :obj:`room` are left.

    Words outside the mentions go first, whole: those farthest from the
    nearest mention, counted in words; of two equally far the one farther from
    all mentions together, then the later. Only when none is left the mentions
    are cut from their ends. The first piece of each mention always stays.
    Without mentions the text is cut at its end.

    Args:
        pieces (sequence of sequences): The pieces of each word.
        room (int): How many pieces may stay.
        mentions (sequence of tuples, optional): Word positions
            :obj:`(start, end)`, end exclusive. (default: :obj:`()`)

    Raises:
        ValueError: If :obj:`room` is too small for the mentions' first
            pieces.
    """
    kept = list(pieces)
    excess = sum(map(len, kept)) - room
    if excess <= 0:
        return kept
    inside = {w for start, end in mentions for w in range(start, end)}

    def distance(w: int) -> tuple[int, int, int]:
        away = [max(start - w, w - end + 1) for start, end in mentions]
        return min(away, default=0), sum(away), w

    outside = sorted((w for w in range(len(kept)) if w not in inside),
                     key=distance)
    while excess > 0 and outside:
        w = outside.pop()
        if not mentions and not outside:  # One long word: cut inside it.
            kept[w] = kept[w][:max(len(kept[w]) - excess, 0)]
            return kept
        excess -= len(kept[w])
        kept[w] = kept[w][:0]
    if excess <= 0:
        return kept
    # The place of each piece after the nearest opening before it.
    place: list[tuple[int, int, int]] = []
    starts = {start for start, _ in mentions}
    offset = 0
    for w in sorted(inside):
        offset = 0 if w in starts else offset
        for i in range(len(kept[w])):
            place.append((offset, w, i))
            offset += 1
    place.sort()
    if room < len(starts):
        raise ValueError(f'{len(starts)} pieces are needed for the first '
                         f'pieces of the mentions (got room for {room})')
    sizes = dict.fromkeys(inside, 0)
    for _, w, i in place[:room]:
        sizes[w] = max(sizes[w], i + 1)
    for w, size in sizes.items():
        kept[w] = kept[w][:size]
    return kept
