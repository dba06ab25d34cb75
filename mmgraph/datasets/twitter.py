"""Twitter-2015 and Twitter-2017: the mentions of a post with an image."""
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

import torch
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post, RelationGraph, Vocabulary
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.corpus import (
    SourceFile,
    Trees,
    corpus_root,
    find_file,
    find_trees,
    processed,
    progress,
)
from mmgraph.datasets.features import FeatureBank
from mmgraph.errors import InputError
from mmgraph.parse.bio import (
    bio_violations,
    bio_vocabulary,
    spans_of_tags,
    tags_of_spans,
)
from mmgraph.parse.labels import CLEAR, UPOS
from mmgraph.parse.neighbour_lists import NeighbourRecord, read_neighbour_lists
from mmgraph.typing import (
    NeighbourPool,
    PathLike,
    Split,
    TagReading,
    TreeRoute,
)
from mmgraph.utils import check_choice, suggest

__all__ = [
    'TWITTER_TYPES', 'Twitter2015', 'Twitter2017', 'TwitterSample',
    'find_lists', 'find_text', 'find_twitter_trees', 'joined_lists',
    'read_splits', 'read_twitter'
]

#: Goes up whenever the processed data would differ.
_FORMAT = 1

_SPLITS: tuple[Split, ...] = get_args(Split)
_STEMS = {'train': 'train', 'val': 'valid', 'test': 'test'}
_IMAGE = 'IMGID:'

#: The types of mentions of each corpus, as its files name them.
TWITTER_TYPES = {
    year: Vocabulary(['PER', 'LOC', 'ORG', other], f'Twitter-{year}')
    for year, other in (('2015', 'OTHER'), ('2017', 'MISC'))
}


class TwitterSample(NamedTuple):
    r"""One post of a text file.

    Args:
        image_id (str): The name of its image, without extension.
        words (list of str): The corpus's own tokens.
        tags (list of int): The tag of each word as the file has it, see
            :mod:`mmgraph.parse.bio`.
        line (int): The line it begins in, counted from 1.
    """
    image_id: str
    words: list[str]
    tags: list[int]
    line: int


def find_text(root: PathLike, split: str) -> Path:
    r"""The text file of a split.

    Raises:
        InputError: If it is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError("no such folder; 'root' must hold train.txt, "
                         'valid.txt and test.txt', root)
    return find_file(f'{_STEMS[split]}.txt', [root],
                     "'root' must be a folder of Twitter-2015 or -2017")


def find_twitter_trees(
    root: PathLike,
    split: str,
    conllu_dir: PathLike | None = None,
) -> Path:
    r"""The dependency trees of a split.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    return find_trees(f'{_STEMS[split]}.conllu', [Path(root)], conllu_dir)


def find_lists(root: PathLike, split: str) -> Path:
    r"""The neighbour lists of a split.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    return find_file(
        f'{_STEMS[split]}_2.txt', [Path(root)],
        'The neighbour lists are not part of the corpus: they come with the '
        'code of the relation-enhanced GCN (1429904852/R-GCN)')


def read_twitter(
    data: bytes,
    types: Vocabulary,
    name: str = 'text',
) -> Iterator[TwitterSample | InputError]:
    r"""Reads the posts of a text file: :obj:`IMGID:` and the image's name,
    then a word, a tab and its tag a line, and an empty line behind the last
    word, which the last post of a file may lack.

    Words are taken as they are: one of them is a single no-break space. A post
    that cannot be used comes as the error that says why, so that the caller
    decides whether to go on.

    Args:
        data (bytes): The file.
        types (Vocabulary): The types of mentions, see :obj:`TWITTER_TYPES`.
        name (str, optional): The file's name, for errors.
    """
    tags = bio_vocabulary(types)
    seen: dict[str, int] = {}
    sample: TwitterSample | None = None
    skip = False  # What is left of a post that cannot be used.
    # Only '\n' ends a line: a word may hold U+2028 or a bare '\r'.
    for line, raw in enumerate([*data.split(b'\n'), b''], 1):
        try:
            text = raw.decode('utf-8-sig' if line == 1
                              else 'utf-8').removesuffix('\r')
            if not text:
                if sample is not None:
                    yield _whole(sample, seen)
                sample, skip = None, False
            elif skip:
                continue
            elif sample is None:
                sample = TwitterSample(_image_id(text), [], [], line)
            else:
                _add_word(sample, text, types, tags)
        except UnicodeDecodeError as error:
            sample, skip = None, True
            yield InputError(f'not UTF-8 text ({error.reason})', name, line)
        except _PostError as error:
            sample, skip = None, bool(raw.strip(b'\r'))
            yield InputError(str(error), name, error.line or line)


class _PostError(ValueError):
    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def _image_id(text: str) -> str:
    image_id = text.removeprefix(_IMAGE)
    if image_id == text or not image_id or '\t' in image_id:
        raise _PostError(f"a post must begin with '{_IMAGE}' and the name of "
                         f'its image (got {text!r:.60})')
    return image_id


def _add_word(sample: TwitterSample, text: str, types: Vocabulary,
              tags: Vocabulary) -> None:
    columns = text.split('\t')
    if len(columns) != 2:
        raise _PostError(
            f'a word and its tag must be parted by one tab (got '
            f'{len(columns)} columns)'
            + ('; an empty line must end the post before this one'
               if text.startswith(_IMAGE) else ''))
    word, tag = columns
    if not word:
        raise _PostError('a word must not be empty')
    if tag not in tags:
        raise _PostError(_unknown_tag(tag, types, tags))
    sample.words.append(word)
    sample.tags.append(tags.to_id(tag))


def _unknown_tag(tag: str, types: Vocabulary, tags: Vocabulary) -> str:
    for other in TWITTER_TYPES.values():
        if other != types and tag in bio_vocabulary(other):
            return (f'{tag!r} is a tag of {other.scheme}, not of '
                    f'{types.scheme}: is this the other corpus?')
    return (f'{tag!r:.60} is not a tag of {types.scheme}; '
            f'{suggest(tag, tags.labels)}')


def _whole(sample: TwitterSample, seen: dict[str, int]) -> TwitterSample:
    if not sample.words:
        raise _PostError('a post must have a word', sample.line)
    first = seen.setdefault(sample.image_id, sample.line)
    if first != sample.line:
        raise _PostError(f'image {sample.image_id} has its second post here; '
                         f'the first is in line {first}', sample.line)
    return sample


def read_splits(
    root: PathLike,
    types: Vocabulary,
) -> dict[Split, list[TwitterSample]]:
    r"""The posts of all three splits.

    Raises:
        InputError: If a file is missing, a post cannot be used, or two splits
            have a post of the same image.
    """
    found: dict[Split, list[TwitterSample]] = {}
    seen: dict[str, str] = {}
    for split in _SPLITS:
        path = find_text(root, split)
        found[split] = []
        for sample in read_twitter(SourceFile(path).read_bytes(), types,
                                   str(path)):
            if isinstance(sample, InputError):
                raise sample
            place = seen.setdefault(sample.image_id,
                                    f'{path.name}:{sample.line}')
            if place != f'{path.name}:{sample.line}':
                raise InputError(f'image {sample.image_id} has another post '
                                 f'at {place}', path, sample.line)
            found[split].append(sample)
    return found


def joined_lists(
    root: PathLike,
    splits: dict[Split, list[TwitterSample]],
) -> Iterator[NeighbourRecord]:
    r"""The neighbours of every post, in the order of the corpus; a post
    without lists has none.

    Raises:
        InputError: If a file is missing or damaged, or has a record of a post
            that is not in its split.
    """
    for split, samples in splits.items():
        path = find_lists(root, split)
        records = {record.post_id: record
                   for record in read_neighbour_lists(path, split)}
        for sample in samples:
            empty = NeighbourRecord(sample.image_id, [], [], [], [], split)
            yield records.pop(sample.image_id, empty)
        if records:
            raise InputError(
                f'{len(records)} records are of posts that '
                f'{find_text(root, split).name} does not have, such as '
                f'{next(iter(records))}. Do the two belong together?', path)


# Both corpora have them in their own docstring, where the command line looks.
_ARGUMENTS = r"""Args:
        root (str, optional): The folder; by default
            :obj:`$MMGRAPH_DATA/twitter2015` or :obj:`…/twitter2017`.
            (default: :obj:`None`)
        split (str, optional): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
            (default: :obj:`'train'`)
        reading (str, optional): What an ``I-`` that does not continue a
            mention is: it opens one (:obj:`'lenient'`) or is ``O``
            (:obj:`'strict'`). (default: :obj:`'lenient'`)
        graph (str, optional): What joins the words: :obj:`'none'` or
            :obj:`'dependency'` (trees of :obj:`train.conllu`, …).
            (default: :obj:`'dependency'`)
        transform (BaseTransform, optional): Applied at each access.
            (default: :obj:`None`)
        pre_transform (BaseTransform, optional): Applied once to each post,
            before it has mentions. Its :func:`repr` is part of the cache key;
            a plain function, which shows only an address, is run every time.
            (default: :obj:`None`)
        force_reload (bool, optional): Do not read the cache.
            (default: :obj:`False`)
        log (bool, optional): Show a progress bar on stderr.
            (default: :obj:`False`)
        conllu_dir (str, optional): Where the trees are, if not in
            :obj:`root`. (default: :obj:`None`)

    Raises:
        ValueError: If a choice is unknown.
        InputError: If a file is missing or a line cannot be used; the message
            names the file and the line.
    """


class _Twitter(PostDataset):
    r"""What the two corpora share; see :class:`Twitter2015`."""

    _version: ClassVar[str]

    def __init__(
        self,
        root: PathLike | None = None,
        split: Split = 'train',
        reading: TagReading = 'lenient',
        graph: TreeRoute = 'dependency',
        transform: BaseTransform | None = None,
        pre_transform: BaseTransform | None = None,
        force_reload: bool = False,
        log: bool = False,
        conllu_dir: PathLike | None = None,
    ) -> None:
        check_choice('split', split, _SPLITS)
        check_choice('reading', reading, get_args(TagReading))
        check_choice('graph', graph, get_args(TreeRoute))
        self.split, self.reading, self.graph = split, reading, graph
        self.types = TWITTER_TYPES[self._version]
        self.folder = corpus_root(root, f'twitter{self._version}',
                                  self.types.scheme)
        self._bar = log
        sources = {'text': SourceFile(find_text(self.folder, split))}
        if graph != 'none':
            sources['trees'] = SourceFile(
                find_twitter_trees(self.folder, split, conllu_dir))

        def make(text: bytes) -> dict[str, Any]:
            return self._process(text, sources, pre_transform)

        #: SHA-256 of each raw file that was read.
        self.hashes: dict[str, str]
        packed, self.hashes = processed(
            f'twitter{self._version}/{split}', sources, make, self._version,
            pre_transform, force_reload, format=_FORMAT, reading=reading,
            graph=graph)
        #: Words whose ``I-`` tag, in the file, does not continue a mention.
        self.violations: int = packed['violations']
        super().__init__(packed['posts'], packed['rows'],
                         {'entity': self.types,
                          'tag': bio_vocabulary(self.types),
                          'dependency': CLEAR, 'pos': UPOS}, transform)

    def _process(
        self,
        text: bytes,
        sources: dict[str, SourceFile],
        pre_transform: BaseTransform | None,
    ) -> dict[str, Any]:
        name = sources['text'].name
        trees = Trees(sources['trees'].path if 'trees' in sources else None)
        posts: list[Post] = []
        rows: list[Row] = []
        violations = 0
        samples = read_twitter(text, self.types, name)
        for found in progress(samples, text.count(_IMAGE.encode()),
                              f'{self.types.scheme} {self.split}', self._bar):
            if isinstance(found, InputError):
                raise found
            violations += len(bio_violations(found.tags))
            spans = spans_of_tags(found.tags, self.reading)
            tree = trees.find(found.image_id, found.words,
                              f'{name}:{found.line}')
            tree.tag_id = torch.tensor(tags_of_spans(spans, len(found.words)))
            post = Post.build(tree, post_id=found.image_id,
                              image_path=f'{found.image_id}.jpg')
            if pre_transform is not None:
                post = pre_transform(post)
            rows.append(Row(len(posts), spans, ()))
            posts.append(post)
        if not rows:
            raise InputError('the file holds no post', name)
        return dict(posts=self.pack(posts), rows=self.pack_rows(rows),
                    violations=violations)

    def relation_graph(
        self,
        k: int = 5,
        features: FeatureBank | None = None,
        pool: NeighbourPool = 'all',
        drop_zero: bool = True,
        **options: Any,
    ) -> RelationGraph:
        r"""The published neighbour lists (:obj:`train_2.txt`,
        :obj:`valid_2.txt`, :obj:`test_2.txt` in :obj:`root`) as one graph over
        all splits: texts and images of the corpus in its order, then the
        images that neighbour lists name and no post has. The three posts of
        Twitter-2015 without lists have no neighbours.

        .. note::
            The lists were made over all splits (and, for Twitter-2015, over
            29 images without a post): with :obj:`pool='all'`, images of
            validation and test posts are seen in training. With
            :obj:`pool='train'` the neighbours are the best of the ten listed
            that belong to a training post; about half (2015) or a quarter
            (2017) of them do not.

        Args:
            k (int, optional): Most neighbours in each relation; ten are
                listed. (default: :obj:`5`)
            features (FeatureBank, optional): Gives the images their
                :obj:`x [N, R, D]`, all of them in memory. Listed images that
                have neither a post nor features are passed over.
                (default: :obj:`None`)
            pool (str, optional): Whose images may be neighbours,
                :obj:`'all'` or :obj:`'train'`. (default: :obj:`'all'`)
            drop_zero (bool, optional): Leave out neighbours with a score of
                zero: an image without objects lists ten arbitrary ones.
                (default: :obj:`True`)
            **options: See :meth:`RelationGraph.from_neighbour_lists
                <mmgraph.data.RelationGraph.from_neighbour_lists>`.

        Raises:
            ValueError: If :obj:`k` or :obj:`pool` is out of its range.
            InputError: If a file is missing or damaged, or there are no
                features of a post's image.
        """
        splits = read_splits(self.folder, self.types)
        records = joined_lists(self.folder, splits)
        if features is not None:
            own = {sample.image_id for samples in splits.values()
                   for sample in samples}
            records = (_among(record, lambda name: name in own
                              or name in features) for record in records)
        graph = RelationGraph.from_neighbour_lists(
            records, k=k, pool=pool, drop_zero=drop_zero, **options)
        if features is not None:
            graph['image'].x = features(graph['image'].post_id)
        return graph

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.split}, graph={self.graph!r}, '
                f'reading={self.reading!r}: {len(self)} posts)')


def _among(
    record: NeighbourRecord,
    known: Callable[[str], bool],
) -> NeighbourRecord:
    r"""The record without the neighbours that are not known."""
    def some(ids: list[str],
             scores: list[float]) -> tuple[list[str], list[float]]:
        kept = [i for i, image_id in enumerate(ids) if known(image_id)]
        return [ids[i] for i in kept], [scores[i] for i in kept]

    return NeighbourRecord(record.post_id,
                           *some(record.inter_ids, record.inter_scores),
                           *some(record.intra_ids, record.intra_scores),
                           record.split)


class Twitter2015(_Twitter):
    __doc__ = r"""The corpus of the `"Adaptive Co-attention Network for Named
    Entity Recognition in Tweets" <https://doi.org/10.1609/aaai.v32i1.11962>`_
    paper, in the copy distributed with the `"Improving Multimodal Named Entity
    Recognition via Entity Span Detection with Unified Multimodal Transformer"
    <https://aclanthology.org/2020.acl-main.306>`_ paper: posts with one image,
    whose mentions are persons, locations, organisations and others.

    A post is an instance. Its mentions are its entities, and
    :obj:`post['word'].tag_id` are their tags: 0 is ``O``, :math:`1 + 2t` is
    ``B-`` and :math:`2 + 2t` is ``I-`` of type :math:`t`. The fourth type keeps
    the name it has in the files, :obj:`'OTHER'` (Twitter-2017:
    :obj:`'MISC'`); papers call it MISC in both. Images are not part of what is
    read: :obj:`image_path` is the file's name, :obj:`post_id` the same without
    extension, and every post has one.

    The files break the IOB2 scheme: 186, 53 and 135 ``I-`` tags of the three
    splits do not continue a mention. In the lenient reading (conlleval's and
    seqeval's default, and that of the systems of the UMT family) they open
    one; in the strict one they are ``O``. So test has 5,207 or 5,072 mentions,
    and figures of the two readings cannot be compared. :obj:`violations`
    counts these words.

    The data is not downloaded. :obj:`root` is a folder with :obj:`train.txt`,
    :obj:`valid.txt` and :obj:`test.txt`, and is only read; what is made of it
    is kept under :obj:`$MMGRAPH_CACHE`. Other copies differ in labels.

    """ + _ARGUMENTS
    _version = '2015'


class Twitter2017(_Twitter):
    __doc__ = r"""The corpus of the `"Visual Attention Model for Name Tagging in
    Multimodal Social Media" <https://aclanthology.org/P18-1185>`_ paper, as it
    was split anew for the `"Improving Multimodal Named Entity Recognition via
    Entity Span Detection with Unified Multimodal Transformer"
    <https://aclanthology.org/2020.acl-main.306>`_ paper (3,373, 723 and 723
    posts; the original has 4,290, 1,432 and 1,459, and figures on the two
    cannot be compared).

    All is as in :class:`Twitter2015`, but that the fourth type is called
    :obj:`'MISC'` and that no tag breaks the IOB2 scheme: both readings are the
    same.

    """ + _ARGUMENTS
    _version = '2017'
