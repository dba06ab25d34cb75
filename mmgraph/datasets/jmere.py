"""JMERE: all mentions of a post with an image, and all their relations."""
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post, Vocabulary
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.corpus import (
    SourceFile,
    corpus_root,
    find_file,
    processed,
    progress,
)
from mmgraph.datasets.jmere_relations import (
    JMERE_RELATIONS,
    JMERE_TYPES,
    SYMMETRIC,
    split_label,
)
from mmgraph.datasets.mnre import (
    MNRELine,
    PostMaker,
    check_keys,
    check_words,
    find_graphs,
    find_source,
    image_name,
    mention_span,
    read_mnre,
)
from mmgraph.errors import InputError
from mmgraph.parse.labels import CLEAR, UPOS
from mmgraph.parse.scene_graph import SLOT_PREDICATES
from mmgraph.parse.word_pairs import word_pair_vocabulary
from mmgraph.typing import GraphRoute, JMEREVariant, PathLike, Split
from mmgraph.utils import check_choice, suggest

__all__ = ['JMERE', 'JMERESample', 'find_published', 'read_published',
           'rebuild']

#: Goes up whenever the processed data would differ.
_FORMAT = 1

_Mention = tuple[int, int, int]
_Quintuple = tuple[_Mention, _Mention, int]


class JMERESample(NamedTuple):
    r"""One post with its annotation.

    Args:
        words (list of str): The corpus's own tokens.
        image (str): File name of the image.
        quintuples (dict): Head mention and tail mention, each
            :obj:`(start, end, type_id)`, and :obj:`relation_id`. The keys of
            a dict with no values, which are distinct and have an order.
        place (str): File and line or record, for errors.
    """
    words: list[str]
    image: str
    quintuples: dict[_Quintuple, None]
    place: str

    @property
    def mentions(self) -> list[_Mention]:
        r"""The distinct mentions, in the order of the text."""
        return sorted({mention for head, tail, _ in self.quintuples
                       for mention in (head, tail)})

    def row(self, post: int) -> Row:
        r"""The sample as an instance of a post."""
        mentions = self.mentions
        index = {mention: i for i, mention in enumerate(mentions)}
        return Row(post, mentions, [(index[head], index[tail], relation)
                                    for head, tail, relation
                                    in self.quintuples])

    def canonical_line(self) -> str:
        r"""See :meth:`JMERE.canonical_text`."""
        def show(mention: _Mention) -> str:
            start, end, type_id = mention
            return f'{start},{end},{JMERE_TYPES.to_label(type_id)}'

        items = sorted(f'{show(head)},{show(tail)},'
                       f'{JMERE_RELATIONS.to_label(relation)}'
                       for head, tail, relation in self.quintuples)
        return f'{" ".join(self.words)}\t{self.image}\t{";".join(items)}\n'


def rebuild(
    lines: Iterable[MNRELine],
    variant: str,
    name: str = 'text',
) -> list[JMERESample]:
    r"""The samples of JMERE from the lines of a text file of MNRE version 2,
    in the order of their first lines.

    Args:
        lines (iterable of MNRELine): The lines, in the order of the file.
        variant (str): :obj:`'merged'` or :obj:`'v1'`, see :class:`JMERE`.
        name (str, optional): The file's name, for errors.
    """
    samples: list[JMERESample] = []
    known: dict[tuple[tuple[str, ...], str], JMERESample] = {}
    last: JMERESample | None = None  # What 'v1' may still add to.
    for line in lines:
        label = split_label(line.relation_id)
        if label is None:
            last = None
            continue
        head_type, tail_type, relation = label
        key = tuple(line.words), line.image
        sample = known.get(key) if variant == 'merged' else last
        if sample is None or sample.words != line.words:
            sample = JMERESample(line.words, line.image, {},
                                 f'{name}:{line.line}')
            samples.append(sample)
        known[key] = last = sample
        sample.quintuples[(*line.head, head_type), (*line.tail, tail_type),
                          relation] = None
    return samples


def find_published(root: PathLike, split: str) -> SourceFile:
    r"""The published file of a split.

    Raises:
        InputError: If it is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError("no such folder; 'root' must hold train.json, "
                         'val.json and test.json', root)
    return SourceFile(find_file(
        f'{split}.json', [root, root / 'no_none_unified_tags_txt'],
        "'root' must hold the published files of JMERE; the other variants "
        'are rebuilt from the text of MNRE version 2'))


def _label(value: Any, what: str, labels: Vocabulary) -> int:
    # The published code lowers the case, too.
    label = value.lower() if isinstance(value, str) else value
    if not isinstance(label, str) or label not in labels:
        raise ValueError(f'{value!r:.60} is not a {what} of {labels.scheme}; '
                         f'{suggest(label, labels.labels)}')
    return labels.to_id(label)


def _quintuple(value: Any, words: list[str]) -> _Quintuple:
    # There is a list around every quintuple.
    if not (isinstance(value, list) and len(value) == 1
            and isinstance(value[0], dict)):
        raise ValueError(f"an item of 'label_list' must be a list with one "
                         f'dict (got {value!r:.60})')
    item = value[0]
    check_keys(item, 'beg_ent', 'sec_ent', 'relation')

    def mention(key: str) -> _Mention:
        start, end = mention_span(item[key], key, words)
        check_keys(item[key], 'tags')
        return start, end, _label(item[key]['tags'], 'type', JMERE_TYPES)

    return (mention('beg_ent'), mention('sec_ent'),
            _label(item['relation'], 'relation', JMERE_RELATIONS))


def _record(value: Any, place: str) -> JMERESample:
    if not isinstance(value, dict):
        raise ValueError(f'a record must be a dict (got '
                         f'{type(value).__name__})')
    image = image_name(value)
    try:
        check_keys(value, 'token', 'label_list')
        words = check_words(value['token'])
        if not isinstance(value['label_list'], list):
            raise ValueError(f"'label_list' must be a list (got "
                             f'{type(value["label_list"]).__name__})')
        quintuples = [_quintuple(item, words) for item in value['label_list']]
    except ValueError as error:
        raise ValueError(f'{error} (post {image!r})') from error
    return JMERESample(words, image, dict.fromkeys(quintuples), place)


def read_published(
    data: bytes,
    name: str = 'file',
) -> Iterator[JMERESample]:
    r"""Reads a published file: a JSON list of records :obj:`{'token': […],
    'img_id': …, 'label_list': [[{'beg_ent': {'name', 'pos', 'tags'},
    'sec_ent': {…}, 'relation': …}], …]}`.

    Args:
        data (bytes): The file.
        name (str, optional): The file's name, for errors.

    Raises:
        InputError: If a record cannot be used; the message says which,
            counted from 0.
    """
    try:
        records = json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(f'not JSON ({error.msg})', name,
                         error.lineno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f'not JSON ({type(error).__name__})',
                         name) from error
    if not isinstance(records, list):
        raise InputError(f'must be a JSON list of records (got '
                         f'{type(records).__name__})', name)
    for i, value in enumerate(records):
        try:
            yield _record(value, f'{name}, record {i}')
        except ValueError as error:
            raise InputError(f'record {i}: {error}', name) from error


class JMERE(PostDataset):
    r"""The corpus of the `"Joint Multimodal Entity-Relation Extraction Based
    on Edge-enhanced Graph Alignment Network and Word-pair Relation Tagging"
    <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI 2023): short posts
    with an image, all their related mentions, which have one of four types,
    and all relations between these, of 21 kinds.

    It is rebuilt from the text of version 2 of :class:`MNRE`, whose labels,
    such as :obj:`'/per/org/member_of'`, hold the two types and the relation.
    Lines without relation give nothing, so a mention that takes part in no
    relation is not annotated.

    .. list-table::
       :header-rows: 1

       * - :obj:`variant`
         - an instance is
       * - :obj:`'merged'`
         - a text and its image, with all its relations
       * - :obj:`'v1'`
         - a run of consecutive lines of one text, all with a relation. So the
           script makes it that the authors publish, and so are the files that
           the paper reports on: a line without relation splits a text into
           several instances, each with a part of its relations
       * - :obj:`'published'`
         - a record of the published files :obj:`{split}.json`

    Mentions are distinct spans with their type, in the order of the text;
    they may nest. An instance is one post. :obj:`post_id` is the name of the
    image (:attr:`images`), followed by :obj:`'#2'`, :obj:`'#3'`, … in its
    second, third, … instance, which occur in :obj:`'v1'` only.

    .. note::
        The paper counts 3,617, 495 and 474 instances; by its script there is
        one more in each split. Its number of entities is that of the places
        that mentions take in relations, twice the number of relations.

    The data is not downloaded. :obj:`root` is only read; what is made of it
    is kept under :obj:`$MMGRAPH_CACHE`.

    Args:
        root (str, optional): A folder of :class:`MNRE` or, for
            :obj:`'published'`, the folder of the published files; by default
            :obj:`$MMGRAPH_DATA/mnre` or :obj:`$MMGRAPH_DATA/jmere`.
            (default: :obj:`None`)
        split (str, optional): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
            (default: :obj:`'train'`)
        variant (str, optional): See above. (default: :obj:`'merged'`)
        graph (str, optional): What joins the words and what is known of the
            image: :obj:`'none'` (words alone), :obj:`'dependency'` (trees of
            :obj:`v2_{split}.conllu`) or :obj:`'dependency+scene'` (and your
            own scene graphs, see :obj:`scene_dir`).
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
        scene_dir (str, optional): Where the scene graphs
            :obj:`graph_of_image_{split}.json` are and, if there are any, the
            features of objects, as in :class:`MNRE`. None are published.
            (default: :obj:`None`)

    Raises:
        ValueError: If a choice is unknown, or scene graphs are asked for
            without :obj:`scene_dir`.
        InputError: If a file is missing or a line or record cannot be used;
            the message names the file, the line or record, and the post.
    """
    symmetric: ClassVar[tuple[str, ...]] = SYMMETRIC

    def __init__(
        self,
        root: PathLike | None = None,
        split: Split = 'train',
        variant: JMEREVariant = 'merged',
        graph: GraphRoute = 'dependency',
        transform: BaseTransform | None = None,
        pre_transform: BaseTransform | None = None,
        force_reload: bool = False,
        log: bool = False,
        conllu_dir: PathLike | None = None,
        scene_dir: PathLike | None = None,
    ) -> None:
        check_choice('split', split, get_args(Split))
        check_choice('variant', variant, get_args(JMEREVariant))
        check_choice('graph', graph, get_args(GraphRoute))
        if graph == 'dependency+scene' and scene_dir is None:
            raise ValueError(
                "graph='dependency+scene' needs 'scene_dir': no scene graphs "
                'of the images of JMERE are published. Give the folder of '
                "your own, or choose graph='dependency'")
        self.split, self.variant, self.graph = split, variant, graph
        self._bar = log
        if variant == 'published':
            folder = corpus_root(root, 'jmere', 'JMERE')
            text = find_published(folder, split)
        else:
            folder = corpus_root(root, 'mnre', 'MNRE')
            text = find_source(folder, 'v2', split)
        sources = {'text': text,
                   **find_graphs(folder, 'v2', split, graph, conllu_dir,
                                 scene_dir)}

        def make(text: bytes) -> dict[str, Any]:
            return self._process(text, sources, pre_transform)

        #: SHA-256 of each raw file that was read.
        self.hashes: dict[str, str]
        packed, self.hashes = processed(
            f'jmere/{variant}-{split}', sources, make, variant, pre_transform,
            force_reload, format=_FORMAT, graph=graph)
        #: The file name of each post's image.
        self.images: list[str] = packed['images']
        vocabularies = {
            'entity': JMERE_TYPES, 'relation': JMERE_RELATIONS,
            'word_pair': word_pair_vocabulary(JMERE_TYPES, JMERE_RELATIONS),
            'dependency': CLEAR, 'pos': UPOS}
        if graph == 'dependency+scene':
            vocabularies['predicate'] = SLOT_PREDICATES
        super().__init__(packed['posts'], packed['rows'], vocabularies,
                         transform)

    def _process(
        self,
        text: bytes,
        sources: dict[str, SourceFile],
        pre_transform: BaseTransform | None,
    ) -> dict[str, Any]:
        name = sources['text'].name
        make = PostMaker(sources, 'v2', pre_transform)
        if self.variant == 'published':
            samples = list(read_published(text, name))
        else:
            lines = progress(read_mnre(text, 'v2', name), text.count(b'\n'),
                             f'MNRE v2 {self.split}', self._bar)
            samples = rebuild(_good(lines), self.variant, name)
        if not samples:
            raise InputError('the file holds no relation', name)
        count: Counter[str] = Counter()
        posts: list[Post] = []
        rows: list[Row] = []
        for sample in progress(samples, len(samples),
                               f'JMERE {self.variant} {self.split}',
                               self._bar):
            count[sample.image] += 1
            again = count[sample.image]
            rows.append(sample.row(len(posts)))
            posts.append(make(
                sample.words, sample.image, sample.place,
                sample.image + (f'#{again}' if again > 1 else '')))
        return dict(posts=self.pack(posts), rows=self.pack_rows(rows),
                    images=[sample.image for sample in samples])

    def canonical_text(self) -> str:
        r"""The corpus as one text, by which two copies can be compared: a line
        an instance, in order. A line holds the words, joined by spaces; a tab;
        the name of the image; a tab; and the relations
        :obj:`start,end,type,start,end,type,relation`, head first, sorted as
        strings and joined by semicolons.
        """
        return ''.join(map(JMERESample.canonical_line, self._samples()))

    def fingerprint(self) -> str:
        r"""The SHA-256 of :meth:`canonical_text`, in hexadecimal. Those of the
        published text are in :obj:`mmgraph.datasets.manifest.JMERE_MANIFEST`.
        """
        return hashlib.sha256(self.canonical_text().encode()).hexdigest()

    def _samples(self) -> Iterator[JMERESample]:
        for row in self.indices():
            post = int(self._rows['post'][row])
            mentions = self._group('entity', row)
            yield JMERESample(
                self._data.words[post], self.images[post],
                {(mentions[head], mentions[tail], relation): None
                 for head, tail, relation in self._group('relation', row)},
                self.split)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.variant} {self.split}, graph='
                f'{self.graph!r}: {len(self)} posts)')


def _good(lines: Iterable[MNRELine | InputError]) -> Iterator[MNRELine]:
    for line in lines:
        if isinstance(line, InputError):
            raise line
        yield line
