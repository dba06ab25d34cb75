"""Twitter-2015 and -2017: are the files whole, and what is in them?"""
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from mmgraph.data import RelationGraph, Vocabulary
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
from mmgraph.datasets.manifest import TWITTER_MANIFEST
from mmgraph.datasets.twitter import (
    TWITTER_TYPES,
    TwitterSample,
    find_lists,
    find_text,
    find_twitter_trees,
    joined_lists,
    read_splits,
    read_twitter,
)
from mmgraph.errors import InputError
from mmgraph.parse.bio import bio_violations, spans_of_tags
from mmgraph.parse.neighbour_lists import NeighbourRecord, read_neighbour_lists
from mmgraph.typing import PathLike, Split

__all__ = ['check_twitter', 'is_twitter', 'text_facts', 'twitter_stats',
           'twitter_version']

_SPLITS: tuple[Split, ...] = get_args(Split)
_FILES = [f'{stem}{end}' for stem in ('train', 'valid', 'test')
          for end in ('.txt', '_2.txt', '.conllu')]

_PUBLISHED_POSTS = {
    ('2015', 'train'): 4000, ('2015', 'val'): 1000, ('2015', 'test'): 3257,
    ('2017', 'train'): 3373, ('2017', 'val'): 723, ('2017', 'test'): 723,
}


def is_twitter(root: PathLike) -> bool:
    r"""Whether a folder holds files of Twitter-2015 or -2017."""
    return any((Path(root) / name).is_file() for name in _FILES)


def twitter_version(root: PathLike) -> str:
    r"""Which of the two corpora a folder holds: the fourth type of mentions
    tells, or else the folder's name.
    """
    for path in sorted(Path(root).glob('*.txt')):
        data = SourceFile(path).read_bytes()
        for year, types in TWITTER_TYPES.items():
            if f'-{types.to_label(3)}'.encode() in data:
                return year
    return '2015' if '2015' in Path(root).absolute().name else '2017'


def check_twitter(
    root: PathLike,
    image_dir: PathLike | None = None,
    conllu_dir: PathLike | None = None,
) -> Report:
    r"""Reads every file of Twitter-2015 or -2017 that a folder should hold and
    says what is there, missing, unreadable, damaged, or not the published one.

    Args:
        root (str): As in :class:`~mmgraph.datasets.Twitter2015`.
        image_dir (str, optional): The folder of the pictures, or of one
            folder a split. (default: :obj:`None`)
        conllu_dir (str, optional): As in
            :class:`~mmgraph.datasets.Twitter2015`.

    Raises:
        InputError: If :obj:`root` or :obj:`image_dir` is not a folder.
    """
    for folder in (root, image_dir):
        if folder is not None and not Path(folder).is_dir():
            raise InputError('no such folder', folder)
    year = twitter_version(root)
    seen: dict[str, str] = {}
    findings = [finding for split in _SPLITS for finding in _check_split(
        Path(root), year, split, image_dir, conllu_dir, seen)]
    return Report(TWITTER_TYPES[year].scheme, str(root), findings)


def _check_split(
    root: Path,
    year: str,
    split: Split,
    image_dir: PathLike | None,
    conllu_dir: PathLike | None,
    seen: dict[str, str],
) -> Iterator[Finding]:
    folder = f'twitter{year}'
    text = Finding(year, split, 'text', 'missing')
    samples: list[TwitterSample] = []
    try:
        path = find_text(root, split)
        samples = check_text(
            text, SourceFile(path), TWITTER_MANIFEST, f'{folder}/{path.name}',
            partial(read_twitter, types=TWITTER_TYPES[year], name=str(path)),
            _PUBLISHED_POSTS[year, split], _describe)
    except InputError as error:
        text.problems.append(str(error))
        text.fatal = True
    twice = [f'{text.path}:{sample.line}: image {sample.image_id} has another '
             f'post in {seen[sample.image_id]}'
             for sample in samples if sample.image_id in seen]
    if twice:
        text.problems += twice
        text.close()
    seen.update((sample.image_id, split) for sample in samples)
    yield text
    texts = {sample.image_id: sample.words for sample in samples}
    trees = Finding(year, split, 'trees', 'missing')
    try:
        path = find_twitter_trees(root, split, conllu_dir)
        check_trees(trees, path, texts, TWITTER_MANIFEST,
                    f'{folder}/{path.name}')
    except InputError as error:
        trees.problems.append(str(error))
    yield trees
    lists = Finding(year, split, 'lists', 'missing')
    try:
        path = find_lists(root, split)
        _check_lists(lists, path, split, texts, f'{folder}/{path.name}')
    except InputError as error:
        lists.problems.append(str(error))
    yield lists
    if image_dir is not None:
        yield check_images(Finding(year, split, 'images', 'there'),
                           Path(image_dir), [f'{name}.jpg' for name in texts])


def _describe(samples: list[TwitterSample]) -> str:
    mentions = sum(len(spans_of_tags(sample.tags)) for sample in samples)
    violations = sum(len(bio_violations(sample.tags)) for sample in samples)
    return (f'{len(samples)} posts, {mentions} mentions, {violations} tags '
            f'against IOB2')


def _check_lists(
    found: Finding,
    path: Path,
    split: Split,
    texts: Mapping[str, list[str]],
    name: str,
) -> None:
    if read_found(SourceFile(path), found, TWITTER_MANIFEST, name) is None:
        return
    names = set()
    try:
        for record in read_neighbour_lists(path, split):
            names.add(record.post_id)
            if texts and record.post_id not in texts:
                found.problems.append(f'{path}: no post {record.post_id} in '
                                      f'the text')
    except InputError as error:
        found.problems.append(str(error))
    found.detail = (f'{len(names)} records, {len(texts.keys() - names)} posts '
                    f'without')
    found.close()


def text_facts(
    samples: Sequence[TwitterSample],
    types: Vocabulary,
) -> dict[str, str]:
    r"""Counts of one split, by what is counted.

    Args:
        samples (sequence of TwitterSample): Its posts.
        types (Vocabulary): The types of mentions.
    """
    words = [word for sample in samples for word in sample.words]
    sizes = [len(sample.words) for sample in samples] or [0]
    kinds = [{kind for _, _, kind in spans_of_tags(sample.tags)}
             for sample in samples]
    facts = {
        'posts': len(samples),
        'tokens': len(words),
        'tokens per post, min/mean/max': '/'.join([
            str(min(sizes)), f'{len(words) / max(len(samples), 1):.2f}',
            str(max(sizes))]),
        'distinct tokens': len(set(words)),
        'distinct tokens in lower case': len({w.lower() for w in words}),
        'posts without mention': sum(not kind for kind in kinds),
        'posts with several types': sum(len(kind) > 1 for kind in kinds),
    }
    for mode in ('lenient', 'strict'):
        count = Counter(kind for sample in samples for _, _, kind
                        in spans_of_tags(sample.tags, mode))
        facts[f'mentions, {mode}'] = count.total()
        facts |= {f'{label}, {mode}': count[i]
                  for i, label in enumerate(types)}
    facts |= {
        'tags against IOB2': sum(len(bio_violations(sample.tags))
                                 for sample in samples),
        'URL tokens': sum(word.startswith(('http:', 'https:'))
                          for word in words),
        'posts starting with RT': sum(sample.words[0] == 'RT'
                                      for sample in samples),
        'tokens with a non-ASCII character': sum(not word.isascii()
                                                 for word in words),
        'repeated texts': len(samples) - len({tuple(sample.words)
                                              for sample in samples}),
    }
    return {name: value if isinstance(value, str) else f'{value:,}'
            for name, value in facts.items()}


def twitter_stats(root: PathLike, k: int = 5) -> str:
    r"""The text of :obj:`mmgraph data stats`: counts of the text and, where
    the neighbour lists are there, whose images they name, how much a few
    images dominate them, and how many are empty, zero or tied.

    Args:
        root (str): As in :class:`~mmgraph.datasets.Twitter2015`.
        k (int, optional): Neighbours looked at. (default: :obj:`5`)

    Raises:
        InputError: If a file is missing or damaged.
    """
    types = TWITTER_TYPES[twitter_version(root)]
    splits = read_splits(root, types)
    columns = [text_facts(samples, types) for samples in splits.values()]
    lines = [f'{types.scheme} in {root}', '', *table(
        ('', *splits), [(name, *(column[name] for column in columns))
                        for name in columns[0]])]
    if any((Path(root) / name).is_file() for name in _FILES
           if name.endswith('_2.txt')):
        lines += ['', *_list_lines(list(joined_lists(root, splits)), k)]
    return '\n'.join(lines)


def _list_lines(records: Sequence[NeighbourRecord], k: int) -> Iterator[str]:
    # Whatever is listed counts, arbitrary images with a score of zero, too.
    graph = RelationGraph.from_neighbour_lists(records, k=k, drop_zero=False)
    reports = {split: graph.report(split) for split in _SPLITS}
    shares, hubs = [], []
    for relation, name in (('inter', 'matches'), ('intra', 'resembles')):
        for row, split in enumerate(_SPLITS):
            found = getattr(reports[split], name)
            lists = found.num_queries - found.num_without
            tops = [getattr(record, f'{relation}_scores')[:k]
                    for record in records if record.split == split]
            tied = sum(len(set(scores)) < len(scores) for scores in tops)
            shares.append((relation, split, f'{lists:,}',
                           *(f'{share:.1%}' for share in found.leakage[row])))
            hubs.append((relation, split, f'{found.distinct:,}',
                         f'{found.most_frequent:.1%}', f'{found.top_10:.1%}',
                         f'{found.top_100:.1%}',
                         f'{tied / max(lists, 1):.1%}',
                         f'{found.zero_lists * lists:,.0f}'))
    yield (f'Neighbour lists, the first {k} of each (inter: text to image, '
           f'intra: image to image)')
    yield ''
    yield 'Whose images fill the slots'
    yield from table(('relation', 'split', 'lists', *_SPLITS, 'extra'), shares)
    yield ''
    yield 'Hubs, ties and lists of zeros'
    yield from table(('relation', 'split', 'images', 'top image in',
                      '10 images fill', '100 images fill', 'tied',
                      'all zero'), hubs)
    yield ''
    inter = {name for record in records for name in record.inter_ids}
    intra = {name for record in records for name in record.intra_ids}
    own = {record.post_id for record in records}
    yield (f'distinct images in whole lists: {len(inter):,} inter, '
           f'{len(intra):,} intra')
    yield (f'of these without a post: {len(inter - own)} inter, '
           f'{len(intra - own)} intra, {len((inter | intra) - own)} in all')
    empty = Counter(record.split for record in records
                    if not record.inter_ids and not record.intra_ids)
    yield 'posts without lists: ' + ', '.join(
        f'{empty[split]} {split}' for split in _SPLITS)
