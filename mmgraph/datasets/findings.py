"""What was found of the files of a corpus, and how it is told."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mmgraph.datasets.corpus import SourceFile
from mmgraph.datasets.manifest import Manifest
from mmgraph.errors import InputError
from mmgraph.parse.conllu import read_conllu
from mmgraph.parse.labels import CLEAR

__all__ = ['Finding', 'Report', 'check_images', 'check_text', 'check_trees',
           'read_found', 'table']

_T = TypeVar('_T')

# Problems shown a file; the number of all is always shown.
_SHOWN = 5

# First bytes of the picture formats that social media use.
_PICTURES = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF8', b'RIFF')


@dataclass
class Finding:
    r"""What was found of one kind of file of one split.

    Args:
        version (str): The version of the corpus.
        split (str): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
        kind (str): :obj:`'text'`, :obj:`'trees'`, :obj:`'scenes'`,
            :obj:`'lists'` or :obj:`'images'`.
        status (str): :obj:`'published'`, :obj:`'differs'` (readable, but not
            the published bytes), :obj:`'there'` (nothing to compare with),
            :obj:`'missing'`, :obj:`'unreadable'` or :obj:`'damaged'`.
        detail (str): Counts.
        path (str): The file.
        problems (list of str): One line each, file and line first.
        fatal (bool): Whether this makes the corpus unusable as it is.
    """
    version: str
    split: str
    kind: str
    status: str
    detail: str = ''
    path: str = ''
    problems: list[str] = field(default_factory=list)
    fatal: bool = False

    def close(self) -> 'Finding':
        r"""A readable file with problems is damaged."""
        if self.problems:
            self.status, self.fatal = 'damaged', True
        return self


@dataclass
class Report:
    r"""What was found in a folder.

    Args:
        corpus (str): The name of the corpus.
        root (str): The folder.
        findings (list of Finding): One a file.
        notes (list of str): Further lines, shown before the verdict.
    """
    corpus: str
    root: str
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        r"""Whether every text is there and nothing is damaged."""
        return not any(found.fatal for found in self.findings)

    def __str__(self) -> str:
        rows = [(f.version, f.split, f.kind, f.status, f.detail)
                for f in self.findings]
        lines = [f'{self.corpus} in {self.root}', '',
                 *table(('version', 'split', 'what', 'status', 'detail'),
                         rows)]
        for found in self.findings:
            lines += ['', *found.problems[:_SHOWN]] if found.problems else []
            if len(found.problems) > _SHOWN:
                lines.append(f'… and {len(found.problems) - _SHOWN} more in '
                             f'{found.path}')
        if self.notes:
            lines += ['', *self.notes]
        bad = sum(found.fatal for found in self.findings)
        return '\n'.join([*lines, '', 'ok' if self.ok else
                          f'{bad} of {len(self.findings)} are missing or '
                          f'damaged'])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    r"""The lines of a table."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ['  '.join(cell.ljust(width) for cell, width
                       in zip(row, widths, strict=True)).rstrip()
             for row in cells]
    return [lines[0], '  '.join('-' * width for width in widths), *lines[1:]]


def read_found(source: SourceFile, found: Finding, manifest: Manifest,
               name: str) -> bytes | None:
    r"""The bytes of a file, after a look at its manifest."""
    found.path = source.name
    try:
        data = source.read_bytes()
    except InputError as error:
        found.problems.append(str(error))
        found.status, found.fatal = 'unreadable', True
        return None
    found.status = manifest.status(name, data)
    return data


def check_text(
    found: Finding,
    source: SourceFile,
    manifest: Manifest,
    name: str,
    read: Callable[[bytes], Iterable[_T | InputError]],
    published: int,
    describe: Callable[[list[_T]], str],
) -> list[_T]:
    r"""Reads the instances of a split as far as they can be used. A file that
    is not the published one must not be shorter.
    """
    data = read_found(source, found, manifest, name)
    if data is None:
        return []
    items: list[_T] = []
    for item in read(data):
        if isinstance(item, InputError):
            found.problems.append(str(item))
        else:
            items.append(item)
    found.detail = describe(items)
    if found.problems:
        found.detail += f', {len(found.problems)} bad lines'
    if found.status == 'differs' and len(items) < published:
        found.problems.append(f'{found.path}: {len(items)} good lines, the '
                              f'published file has {published}')
    found.close()
    return items


def check_trees(
    found: Finding,
    path: Path,
    texts: Mapping[str, list[str]],
    manifest: Manifest,
    name: str,
) -> Finding:
    r"""Every text must have its tree, of the same words."""
    if read_found(SourceFile(path), found, manifest, name) is None:
        return found
    there = set()
    try:
        for key, graph in read_conllu(path, CLEAR):
            there.add(key)
            if key in texts and graph.words != texts[key]:
                found.problems.append(f'{path}: sentence {key} has other '
                                      f'words than the text')
    except InputError as error:
        found.problems.append(str(error))
    found.problems += [f'{path}: no tree of {key}'
                       for key in sorted(texts.keys() - there)]
    found.detail = f'{len(there)} trees'
    return found.close()


def check_images(
    found: Finding,
    folder: Path,
    names: Iterable[str],
) -> Finding:
    r"""Looks for the pictures of a split, by the names of their files."""
    names = sorted(names)
    found.path = str(folder)
    missing, unreadable = [], []
    for name in names:
        path = next((p for p in (folder / name, folder / found.split / name)
                     if p.is_file()), None)
        if path is None:
            missing.append(f'{folder}: no image {name}')
            continue
        try:
            with open(path, 'rb') as file:
                if not file.read(8).startswith(_PICTURES):
                    unreadable.append(f'{path}: not a picture')
        except OSError as error:
            unreadable.append(f'{path}: cannot read the file '
                              f'({error.strerror})')
    found.problems = unreadable + missing
    found.detail = (f'{len(names) - len(missing)} of {len(names)}, '
                    f'{len(unreadable)} unreadable')
    # A post whose image is missing is a post without image; a broken file
    # would stop a run half-way.
    found.fatal = bool(unreadable)
    if unreadable:
        found.status = 'damaged'
    elif len(missing) == len(names):
        found.status = 'missing'
    return found
