"""Lists of the images that a post's text and image are related to."""
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, TextIO

from mmgraph.errors import InputError
from mmgraph.typing import PathLike, Split

__all__ = ['NeighbourRecord', 'read_neighbour_lists']

_LINES = 7


class NeighbourRecord(NamedTuple):
    r"""The neighbours of one post, the most similar first. Images are named
    without extension, like posts.

    Args:
        post_id (str): The post.
        inter_ids (list of str): Images that show what the text tells of.
        inter_scores (list of float): Their similarity to the text.
        intra_ids (list of str): Images with the same kinds of objects as the
            post's own.
        intra_scores (list of float): Their similarity to the post's image.
        split (str): The post's split.
    """
    post_id: str
    inter_ids: list[str]
    inter_scores: list[float]
    intra_ids: list[str]
    intra_scores: list[float]
    split: Split = 'train'


def read_neighbour_lists(
    path: PathLike,
    split: Split = 'train',
) -> Iterator[NeighbourRecord]:
    r"""Reads the neighbour lists that were published with the `"Learning from
    Different text-image Pairs: A Relation-enhanced Graph Convolutional Network
    for Multimodal NER" <https://doi.org/10.1145/3503161.3548228>`_ paper, one
    record at a time.

    A record is seven lines: words, tags, the image of the post, the scores of
    the images that are closest to its text and their names, the scores of the
    images that are closest to its image and their names. Names are file names;
    their extension is dropped. How many neighbours there are is up to the
    file.

    Args:
        path (str): The file.
        split (str, optional): The split that its posts belong to.
            (default: :obj:`'train'`)

    Raises:
        InputError: With the file and the line: if the last record is cut; if
            there are not as many tags as words or scores as images; if a
            score is no finite number or larger than the one before; if an
            image is listed twice or is the post's own; if a post has two
            records.
    """
    seen: dict[str, int] = {}
    try:
        # Only '\n' ends a line: a word may hold U+2028 or a bare '\r'.
        with open(path, encoding='utf-8-sig', newline='\n') as file:
            for first, lines in _blocks(file, path):
                record = _record(lines, split, path, first)
                before = seen.setdefault(record.post_id, first)
                if before != first:
                    raise InputError(f'post {record.post_id} has its second '
                                     f'record here; the first is in line '
                                     f'{before}', path, first)
                yield record
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         path) from error
    except UnicodeDecodeError as error:
        raise InputError(f'not UTF-8 text ({error})', path) from error


def _blocks(file: TextIO, path: PathLike) -> Iterator[tuple[int, list[str]]]:
    r"""The lines of each record, and the number of the first one."""
    lines: list[str] = []
    line = 0
    for line, text in enumerate(file, 1):
        lines.append(text.removesuffix('\n').removesuffix('\r'))
        if len(lines) == _LINES:
            yield line - _LINES + 1, lines
            lines = []
    if any(lines):
        raise InputError(f'the file ends after {len(lines)} of the {_LINES} '
                         f'lines of a record', path, line)


def _record(
    lines: list[str],
    split: Split,
    path: PathLike,
    first: int,
) -> NeighbourRecord:
    words, tags = (text.split(' ') for text in lines[:2])
    if len(words) != len(tags):
        raise InputError(f'as many tags as words must stand here (got '
                         f'{len(tags)} for {len(words)})', path, first + 1)
    own = _names(lines[2], path, first + 2)
    if len(own) != 1:
        raise InputError(f'the third line of a record must name one image '
                         f'(got {len(own)}). Are all records before this one '
                         f'whole?', path, first + 2)
    inter, intra = (
        _list(lines[i], lines[i + 1], own[0], path, first + i) for i in (3, 5))
    return NeighbourRecord(own[0], *inter, *intra, split)


def _stem(name: str) -> str:
    # As PurePath(name).stem; a corpus has 160,000 of them.
    base = name.rpartition('/')[2]
    return base.rpartition('.')[0] or base


def _names(text: str, path: PathLike, line: int) -> list[str]:
    names = [_stem(name) for name in text.split(' ') if text]
    if not all(names):
        raise InputError('names of images must be parted by single blanks',
                         path, line)
    return names


def _list(
    scores: str,
    images: str,
    own: str,
    path: PathLike,
    line: int,
) -> tuple[list[str], list[float]]:
    try:
        values = [float(value) for value in scores.split(' ') if scores]
    except ValueError as error:
        raise InputError(f'scores must be numbers parted by single blanks '
                         f'({error})', path, line) from error
    for value in values:
        if not math.isfinite(value):
            raise InputError(f'scores must be finite (got {value})', path,
                             line)
    for a, b in pairwise(values):
        if a < b:
            raise InputError(f'scores must not rise: the most similar image '
                             f'comes first (got {b} after {a})', path, line)
    names = _names(images, path, line + 1)
    if len(names) != len(values):
        raise InputError(f'as many images as scores must stand here (got '
                         f'{len(names)} for {len(values)})', path, line + 1)
    if own in names:
        raise InputError(f"the post's own image {own} must not be among its "
                         f'neighbours', path, line + 1)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names)
                     if name in names[:i])
        raise InputError(f'image {twice} is listed twice', path, line + 1)
    return names, values
