"""Is the corpus there, whole, and the published one? And what is in it?"""
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from mmgraph.datasets.corpus import SourceFile
from mmgraph.datasets.findings import (
    Finding,
    Report,
    check_images,
    check_text,
    check_trees,
    read_found,
    table,
)
from mmgraph.datasets.jmere import rebuild
from mmgraph.datasets.manifest import JMERE_MANIFEST, MNRE_MANIFEST
from mmgraph.datasets.mnre import (
    MNRELine,
    find_mnre_trees,
    find_scenes,
    find_source,
    read_mnre,
)
from mmgraph.datasets.twitter_integrity import (
    check_twitter,
    is_twitter,
    twitter_stats,
)
from mmgraph.errors import InputError
from mmgraph.parse.scene_graph import read_slot_relations
from mmgraph.typing import MNREVersion, PathLike, Split

__all__ = ['Stats', 'check', 'data_check', 'data_stats', 'stats', 'table']

_VERSIONS = ('v2', 'v1')
_SPLITS = get_args(Split)
assert set(_VERSIONS) == set(get_args(MNREVersion))


def check(
    root: PathLike,
    image_dir: PathLike | None = None,
    conllu_dir: PathLike | None = None,
    scene_dir: PathLike | None = None,
) -> Report:
    r"""Reads every file of MNRE that a folder should hold and says what is
    there, missing, unreadable, damaged, or not the published one. A version
    of which there is no text at all is no fault if the other is there. Tells
    also what :class:`~mmgraph.datasets.JMERE` makes of version 2.

    Args:
        root (str): As in :class:`~mmgraph.datasets.MNRE`.
        image_dir (str, optional): The folder of the pictures, or of one
            folder a split. (default: :obj:`None`)
        conllu_dir (str, optional): As in :class:`~mmgraph.datasets.MNRE`.
        scene_dir (str, optional): As in :class:`~mmgraph.datasets.MNRE`.

    Raises:
        InputError: If :obj:`root` or :obj:`image_dir` is not a folder.
    """
    for folder in (root, image_dir):
        if folder is not None and not Path(folder).is_dir():
            raise InputError('no such folder', folder)
    findings: list[Finding] = []
    good: dict[tuple[str, str], list[MNRELine]] = {}
    for version in _VERSIONS:
        found = [list(_check_split(Path(root), version, split, image_dir,
                                   conllu_dir, scene_dir, good))
                 for split in _SPLITS]
        findings += [finding for group in found for finding in group]
    there = {f.version for f in findings
             if f.kind == 'text' and f.status != 'missing'}
    for finding in findings:
        if there and finding.version not in there:
            finding.fatal = False
    return Report('MNRE', str(root), findings, _rebuilt(good))


def _check_split(
    root: Path,
    version: str,
    split: str,
    image_dir: PathLike | None,
    conllu_dir: PathLike | None,
    scene_dir: PathLike | None,
    good: dict[tuple[str, str], list[MNRELine]],
) -> Iterator[Finding]:
    text, lines = _check_text(root, version, split)
    yield text
    if lines and not text.fatal:
        good[version, split] = lines
    texts = {line.image: line.words for line in lines}
    trees = Finding(version, split, 'trees', 'missing')
    try:
        path = find_mnre_trees(root, version, split, conllu_dir)
        check_trees(trees, path, texts, MNRE_MANIFEST, path.name)
    except InputError as error:
        trees.problems.append(str(error))
    yield trees
    if version == 'v1':
        scenes = Finding(version, split, 'scenes', 'missing')
        try:
            path = find_scenes(root, split, scene_dir)
            _check_scenes(scenes, path, texts)
        except InputError as error:
            scenes.problems.append(str(error))
        yield scenes
    if image_dir is not None:
        yield check_images(Finding(version, split, 'images', 'there'),
                           Path(image_dir), texts)


def _check_text(
    root: Path,
    version: str,
    split: str,
) -> tuple[Finding, list[MNRELine]]:
    found = Finding(version, split, 'text', 'missing')
    try:
        source = find_source(root, version, split)
    except InputError as error:
        found.problems.append(str(error))
        found.fatal = True
        return found, []
    return found, check_text(
        found, source, MNRE_MANIFEST, f'{version}_{split}.txt',
        partial(read_mnre, version=version, name=source.name),
        _PUBLISHED_LINES[version, split], _describe)


def _describe(lines: list[MNRELine]) -> str:
    images = len({line.image for line in lines})
    return f'{len(lines)} instances, {images} images'


_PUBLISHED_LINES = {
    ('v2', 'train'): 12247, ('v2', 'val'): 1624, ('v2', 'test'): 1614,
    ('v1', 'train'): 7824, ('v1', 'val'): 975, ('v1', 'test'): 1282,
}


def _check_scenes(
    found: Finding,
    path: Path,
    texts: Mapping[str, list[str]],
) -> None:
    if read_found(SourceFile(path), found, MNRE_MANIFEST, path.name) is None:
        return
    try:
        graphs = read_slot_relations(path)
    except InputError as error:
        graphs = {}
        found.problems.append(str(error))
    empty = sum(graph.num_nodes == 0 for graph in graphs.values())
    found.detail = f'{len(graphs)} scene graphs, {empty} without relations'
    found.problems += [f'{path}: no scene graph of {name}'
                       for name in sorted(texts.keys() - graphs.keys())]
    found.close()


def _rebuilt(lines: Mapping[tuple[str, str], list[MNRELine]]) -> list[str]:
    r"""What JMERE is rebuilt from the text of version 2, as a table."""
    rows = []
    for variant in 'merged', 'v1':
        for split in _SPLITS:
            samples = rebuild(lines.get(('v2', split), ()), variant)
            if not samples:
                continue
            text = ''.join(sample.canonical_line() for sample in samples)
            same = JMERE_MANIFEST.status(f'{variant} {split}',
                                         text.encode()) == 'published'
            counts = [len(samples),
                      sum(len(sample.quintuples) for sample in samples),
                      sum(len(sample.mentions) for sample in samples),
                      len({word for sample in samples
                           for word in sample.words})]
            length = sum(len(sample.words) for sample in samples)
            rows.append((variant, split, *(f'{n:,}' for n in counts),
                         f'{length / len(samples):.2f}',
                         'agrees' if same else 'differs'))
    if not rows:
        return []
    return ['JMERE, rebuilt from version 2', '', *table(
        ('variant', 'split', 'posts', 'relations', 'mentions',
         'distinct words', 'mean length', 'canonical text'), rows)]


@dataclass
class Stats:
    r"""Counts of one split, or of all splits of a version.

    Args:
        instances (int): Lines.
        images (int): Distinct images.
        sentences (int): Distinct texts.
        tokens (int): Tokens, summed over the instances.
        shortest (int): Fewest tokens of an instance.
        longest (int): Most tokens of an instance.
        relations (int): Distinct relations, the negative one included.
        negative (int): Instances without relation.
        head_first (int): Instances whose head starts before the tail.
        overlapping (int): Instances whose mentions share a token.
        same_start (int): Of these, instances whose mentions start together.
        non_ascii (int): Instances with a character outside ASCII.
        with_url (int): Instances with a token that starts with
            :obj:`'http'`.
        retweets (int): Instances that start with :obj:`'RT'`.
    """
    instances: int
    images: int
    sentences: int
    tokens: int
    shortest: int
    longest: int
    relations: int
    negative: int
    head_first: int
    overlapping: int
    same_start: int
    non_ascii: int
    with_url: int
    retweets: int

    @classmethod
    def of(cls, lines: Sequence[MNRELine]) -> 'Stats':
        r"""Counts the lines of a file."""
        count: Counter[str] = Counter()
        sizes = [len(line.words) for line in lines] or [0]
        for line in lines:
            (a, b), (c, d) = line.head, line.tail
            overlap = max(a, c) < min(b, d)
            words = line.words
            count.update(
                negative=line.relation_id == 0, head_first=a < c,
                overlapping=overlap, same_start=overlap and a == c,
                non_ascii=not ''.join(words).isascii(),
                with_url=any(word.startswith('http') for word in words),
                retweets=words[0] == 'RT')
        return cls(
            instances=len(lines),
            images=len({line.image for line in lines}),
            sentences=len({tuple(line.words) for line in lines}),
            tokens=sum(sizes), shortest=min(sizes), longest=max(sizes),
            relations=len({line.relation_id for line in lines}),
            **{key: count[key] for key in (
                'negative', 'head_first', 'overlapping', 'same_start',
                'non_ascii', 'with_url', 'retweets')})

    def rows(self) -> list[tuple[str, str]]:
        r"""Name and value of each row of the printed table."""
        n = max(self.instances, 1)
        return [
            ('instances', f'{self.instances:,}'),
            ('images', f'{self.images:,}'),
            ('distinct sentences', f'{self.sentences:,}'),
            ('tokens, summed over instances', f'{self.tokens:,}'),
            ('tokens per instance, mean/min/max',
             f'{self.tokens / n:.1f}/{self.shortest}/{self.longest}'),
            ('relations present', f'{self.relations}'),
            ('share of None', f'{100 * self.negative / n:.1f} %'),
            ('head before tail', f'{100 * self.head_first / n:.1f} %'),
            ('mentions overlapping', f'{self.overlapping}'),
            ('of these with the same start', f'{self.same_start}'),
            ('rows holding a non-ASCII character', f'{self.non_ascii}'),
            ('rows with a URL token', f'{self.with_url}'),
            ('rows starting with RT', f'{self.retweets:,}'),
        ]


def _read(root: PathLike) -> dict[tuple[str, str], list[MNRELine]]:
    r"""The lines of each text that a folder holds."""
    found: dict[tuple[str, str], list[MNRELine]] = {}
    fault: InputError | None = None
    for version in _VERSIONS:
        for split in _SPLITS:
            try:
                source = find_source(root, version, split)
            except InputError as error:
                fault = fault or error
                continue
            lines = found[version, split] = []
            for line in read_mnre(source.read_bytes(), version, source.name):
                if isinstance(line, InputError):
                    raise line
                lines.append(line)
    if not found and fault is not None:
        raise fault
    return found


def stats(root: PathLike) -> dict[str, Stats]:
    r"""Counts what a folder holds, by :obj:`'{version} {split}'` and
    :obj:`'{version} all'`.

    Raises:
        InputError: If there is no text, or a line cannot be used.
    """
    return _stats(_read(root))


def _stats(
    texts: Mapping[tuple[str, str], list[MNRELine]],
) -> dict[str, Stats]:
    found: dict[str, Stats] = {}
    for version in _VERSIONS:
        splits = {split: lines for (other, split), lines in texts.items()
                  if other == version}
        for split, lines in splits.items():
            found[f'{version} {split}'] = Stats.of(lines)
        everything = [line for lines in splits.values() for line in lines]
        if everything:
            found[f'{version} all'] = Stats.of(everything)
    return found


def data_check(
    root: PathLike,
    image_dir: PathLike | None = None,
) -> tuple[str, int]:
    r"""The text and the exit status of :obj:`mmgraph data check`: 0, or 1 if
    something is missing or damaged. The files tell which corpus it is.

    Args:
        root (str): A folder of MNRE, Twitter-2015 or Twitter-2017.
        image_dir (str, optional): See :func:`check`. (default: :obj:`None`)
    """
    report = (check_twitter if is_twitter(root) else check)(
        root, image_dir=image_dir)
    return str(report), 0 if report.ok else 1


def data_stats(root: PathLike) -> tuple[str, int]:
    r"""The text and the exit status of :obj:`mmgraph data stats`: counts, for
    MNRE also those of what :class:`~mmgraph.datasets.JMERE` makes of it.
    """
    if is_twitter(root):
        return twitter_stats(root), 0
    texts = _read(root)
    counts = _stats(texts)
    columns = [value.rows() for value in counts.values()]
    rows = [(cells[0][0], *(cell[1] for cell in cells))
            for cells in zip(*columns, strict=True)]
    lines = table(('', *counts), rows)
    if rebuilt := _rebuilt(texts):
        lines += ['', *rebuilt]
    return '\n'.join(lines), 0
