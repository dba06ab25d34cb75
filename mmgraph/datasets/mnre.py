"""MNRE: relations between the mentions of a post with an image."""
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post, SceneGraph, Vocabulary
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
from mmgraph.datasets.features import FeatureFile
from mmgraph.datasets.mnre_relations import RELATIONS
from mmgraph.errors import InputError
from mmgraph.parse.labels import CLEAR, UPOS
from mmgraph.parse.scene_graph import SLOT_PREDICATES, read_slot_relations
from mmgraph.typing import GraphRoute, MNREVersion, PathLike, Split
from mmgraph.utils import suggest

__all__ = [
    'MNRE', 'MNRELine', 'PostMaker', 'check_keys', 'check_words',
    'find_graphs', 'find_mnre_trees', 'find_scenes', 'find_source',
    'image_name', 'mention_span', 'read_mnre'
]

#: Goes up whenever the processed data would differ.
_FORMAT = 1

# The type of a mention is not in the files. For positive rows it could be
# read off the label, which is the answer; so it stays unknown.
_ENTITY_TYPES = Vocabulary(['unknown'], scheme='MNRE', unknown='unknown')

_ZIP = 'mnre_txt_org.zip'


class MNRELine(NamedTuple):
    r"""One line of a text file, checked.

    Args:
        words (list of str): The corpus's own tokens.
        head (tuple): Word positions :obj:`(start, end)`, end exclusive.
        tail (tuple): Likewise.
        relation_id (int): Id in :obj:`RELATIONS`.
        image (str): File name of the image.
        line (int): The line's number, counted from 1.
    """
    words: list[str]
    head: tuple[int, int]
    tail: tuple[int, int]
    relation_id: int
    image: str
    line: int


def _candidates(root: Path, version: str, split: str) -> Iterator[SourceFile]:
    yield SourceFile(root / f'{version}_{split}.txt')
    if version == 'v2':
        for folder in (root / 'mnre_txt', root):
            # The corpus's own repository has a space in 'mnre_val .txt'.
            for name in (f'mnre_{split}.txt', f'mnre_{split} .txt'):
                yield SourceFile(folder / name)
    else:
        for path in sorted(root.glob(f'**/{_ZIP}')):
            yield SourceFile(path, f'txt/ours_{split}.txt')


def find_source(root: PathLike, version: str, split: str) -> SourceFile:
    r"""The text file of a split, in a flat folder or in a clone of the
    corpus's repository.

    Raises:
        InputError: If there is none; the message says what was looked for.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError("no such folder; 'root' must hold MNRE's text files",
                         root)
    for source in _candidates(root, version, split):
        if source.path.is_file():
            return source
    clone = (f'mnre_txt/mnre_{split}.txt' if version == 'v2' else
             f'{_ZIP} with txt/ours_{split}.txt')
    raise InputError(f'no text of MNRE {version} {split} here: neither '
                     f'{version}_{split}.txt nor {clone} (a clone of the '
                     f"corpus's repository)", root)


def find_mnre_trees(
    root: PathLike,
    version: str,
    split: str,
    conllu_dir: PathLike | None = None,
) -> Path:
    r"""The dependency trees of a split.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    root = Path(root)
    return find_trees(f'{version}_{split}.conllu', [root, root / 'mnre_txt'],
                      conllu_dir)


def find_scenes(
    root: PathLike,
    split: str,
    scene_dir: PathLike | None = None,
) -> Path:
    r"""The scene graphs of a split.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    root = Path(root)
    return find_file(
        f'graph_of_image_{split}.json',
        [Path(scene_dir)] if scene_dir else [root, root.parent / 'mega'],
        "Name its folder with 'scene_dir', or choose graph='dependency'")


def _add_features(scenes: Mapping[str, SceneGraph], path: Path) -> None:
    r"""Gives each object the row of its slot."""
    features = FeatureFile(path)
    for image, scene in scenes.items():
        rows, slots = features.rows(image), scene.slot_id
        if slots.numel() and int(slots.max()) >= rows.size(0):
            raise InputError(
                f'image {image} has {rows.size(0)} feature rows, but its '
                f'scene graph names slot {int(slots.max())}', path)
        scene.x = rows[slots]


def find_graphs(
    root: PathLike,
    version: str,
    split: str,
    graph: str,
    conllu_dir: PathLike | None = None,
    scene_dir: PathLike | None = None,
) -> dict[str, SourceFile]:
    r"""The files beside the text that a choice of :obj:`graph` asks for.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    sources = {}
    if graph != 'none':
        sources['trees'] = SourceFile(
            find_mnre_trees(root, version, split, conllu_dir))
    if graph == 'dependency+scene':
        path = find_scenes(root, split, scene_dir)
        sources['scenes'] = SourceFile(path)
        path = path.with_name(f'object_features_{split}.safetensors')
        if path.is_file():
            sources['features'] = SourceFile(path)
    return sources


class PostMaker:
    r"""Makes the posts of a split, with their trees and scene graphs.

    Args:
        sources (mapping): What :func:`find_graphs` gave.
        version (str): The version of the corpus, for errors.
        pre_transform (BaseTransform, optional): Applied to each post.
            (default: :obj:`None`)
    """
    def __init__(
        self,
        sources: Mapping[str, SourceFile],
        version: str,
        pre_transform: BaseTransform | None = None,
    ) -> None:
        self._sources, self._version = sources, version
        self._pre_transform = pre_transform
        self._trees = Trees(sources['trees'].path if 'trees' in sources
                            else None)
        self._scenes: dict[str, SceneGraph] | None = None
        if 'scenes' in sources:
            self._scenes = read_slot_relations(sources['scenes'].path)
            if 'features' in sources:
                _add_features(self._scenes, sources['features'].path)

    def __call__(
        self,
        words: list[str],
        image: str,
        place: str,
        post_id: str | None = None,
    ) -> Post:
        r"""A post without annotation.

        Args:
            words (list of str): Its words.
            image (str): The file name of its image.
            place (str): File and line of the text, for errors.
            post_id (str, optional): Its name; by default that of the image.
                (default: :obj:`None`)

        Raises:
            InputError: If its tree or its scene graph is not there.
        """
        post = Post.build(self._trees.find(image, words, place),
                          self._scene(image, place),
                          post_id=image if post_id is None else post_id)
        if self._pre_transform is not None:
            post = self._pre_transform(post)
        return post

    def _scene(self, image: str, place: str) -> SceneGraph | None:
        if self._scenes is None:
            return None
        scene = self._scenes.get(image)
        if scene is None:
            raise InputError(f'no image {image} (needed by {place}). Do the '
                             f'files belong to the same split of version '
                             f'{self._version[1:]}?',
                             self._sources['scenes'].path)
        return scene


def check_keys(value: Mapping[Any, Any], *keys: str) -> None:
    r"""Refuses a dict of a file that lacks a key.

    Raises:
        ValueError: If it does.
    """
    missing = [key for key in keys if key not in value]
    if missing:
        raise ValueError(f"key '{missing[0]}' is missing (found "
                         f'{sorted(map(str, value))})')


def image_name(value: Mapping[Any, Any]) -> str:
    r"""The file name of the image of a dict of a file.

    Raises:
        ValueError: If it has none.
    """
    # The corpus's description says 'image_id', its files 'img_id'.
    key = ('image_id' if 'img_id' not in value and 'image_id' in value
           else 'img_id')
    check_keys(value, key)
    image = value[key]
    if type(image) is int:
        image = f'{image}.jpg'
    if not isinstance(image, str) or not image:
        raise ValueError(f"'{key}' must be the name of an image file "
                         f'(got {image!r:.60})')
    return image


def check_words(words: Any) -> list[str]:
    r"""The words of a text as a file has them.

    Raises:
        ValueError: If they are not words.
    """
    if not (isinstance(words, list) and words
            and all(isinstance(word, str) and word for word in words)):
        raise ValueError("'token' must be a list of words, none of them "
                         'empty')
    return words


def mention_span(value: Any, key: str, words: list[str]) -> tuple[int, int]:
    r"""The span of a mention, a dict with :obj:`'name'` and :obj:`'pos'`.

    Args:
        value (Any): The mention as a file has it.
        key (str): What it is called there.
        words (list of str): The words of the text.

    Raises:
        ValueError: If it is not one, is outside the text, or its name is not
            the tokens there.
    """
    if not isinstance(value, dict) or 'pos' not in value:
        raise ValueError(f"'{key}' must be a dict with 'name' and 'pos' "
                         f'(got {value!r:.60})')
    pos = value['pos']
    if not (isinstance(pos, list | tuple) and len(pos) == 2
            and all(type(i) is int for i in pos)
            and 0 <= pos[0] < pos[1] <= len(words)):
        raise ValueError(
            f"'{key}': 'pos' must be [start, end) with 0 <= start < end <= "
            f'{len(words)}, the number of tokens (got {pos!r:.60})')
    start, end = pos
    name = value.get('name')
    # Version 1 differs in white space in 3 % of the mentions.
    if isinstance(name, str) and (''.join(name.split())
                                  != ''.join(''.join(words[start:end])
                                             .split())):
        raise ValueError(f"'{key}': 'name' must be the tokens at 'pos' "
                         f'[{start}, {end}); one of the two is wrong')
    return start, end


def _parse_line(text: str, line: int, relations: Vocabulary) -> MNRELine:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f'not a Python dict literal '
                         f'({type(error).__name__}); mend or remove the '
                         f'line') from error
    if not isinstance(value, dict):
        raise ValueError(f'a line must be a dict (got '
                         f'{type(value).__name__})')
    image = image_name(value)
    try:
        check_keys(value, 'token', 'h', 't', 'relation')
        words = check_words(value['token'])
        return MNRELine(words, mention_span(value['h'], 'h', words),
                        mention_span(value['t'], 't', words),
                        _relation_id(value['relation'], relations), image,
                        line)
    except ValueError as error:
        raise ValueError(f'{error} (post {image!r})') from error


def _relation_id(relation: Any, relations: Vocabulary) -> int:
    if relation in ('None', 'none', None):
        return 0
    if relation in relations:
        return relations.to_id(relation)
    raise ValueError(_unknown_relation(relation, relations))


def _unknown_relation(relation: Any, relations: Vocabulary) -> str:
    for other in RELATIONS.values():
        if other != relations and isinstance(relation, str) \
                and relation in other:
            return (f'{relation!r} is a relation of {other.scheme}, not of '
                    f"{relations.scheme}; choose the other 'version'")
    return (f'{relation!r:.60} is not a relation of {relations.scheme}; '
            f'{suggest(relation, relations.labels)}')


def read_mnre(
    data: bytes,
    version: str,
    name: str = 'text',
) -> Iterator[MNRELine | InputError]:
    r"""Reads the lines of a text file, which are Python dict literals, not
    JSON. A line that cannot be used comes as the error that says why, so that
    the caller decides whether to go on.

    Args:
        data (bytes): The file.
        version (str): :obj:`'v1'` or :obj:`'v2'`: whose relations.
        name (str, optional): The file's name, for errors.
    """
    relations = RELATIONS[version]
    seen: dict[str, tuple[list[str], int]] = {}
    for line, raw in enumerate(data.split(b'\n'), 1):
        try:
            text = raw.decode('utf-8-sig' if line == 1 else 'utf-8').strip()
            if not text:
                continue
            found = _parse_line(text, line, relations)
            words, first = seen.setdefault(found.image, (found.words, line))
            if words != found.words:
                raise ValueError(f'image {found.image!r} has another text '
                                 f'here than in line {first}')
        except UnicodeDecodeError as error:
            yield InputError(f'not UTF-8 text ({error.reason})', name, line)
        except ValueError as error:
            yield InputError(str(error), name, line)
        else:
            yield found


class MNRE(PostDataset):
    r"""The corpus of the `"MNRE: A Challenge Multimodal Dataset for Neural
    Relation Extraction with Visual Evidence in Social Media Posts"
    <https://doi.org/10.1109/ICME51207.2021.9428274>`_ paper (version 1, 31
    relations) and of the `"Multimodal Relation Extraction with Efficient Graph
    Alignment" <https://doi.org/10.1145/3474085.3476968>`_ paper (version 2, 23
    relations): short posts, two mentions and their relation an instance.

    Entity 0 is the head and entity 1 the tail; the head stands after the tail
    in 12 to 19 % of the instances. The two versions share no image. Types of
    mentions are not in the files.

    The data is not downloaded. :obj:`root` is a clone of the corpus's own
    repository or a folder with the files :obj:`{version}_{split}.txt`, and is
    only read; what is made of it is kept under :obj:`$MMGRAPH_CACHE`.

    Args:
        root (str, optional): The folder; by default
            :obj:`$MMGRAPH_DATA/mnre`. (default: :obj:`None`)
        split (str, optional): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
            (default: :obj:`'train'`)
        version (str, optional): :obj:`'v1'` or :obj:`'v2'`.
            (default: :obj:`'v2'`)
        graph (str, optional): What joins the words and what is known of the
            image: :obj:`'none'` (words alone), :obj:`'dependency'` (trees of
            :obj:`{version}_{split}.conllu`) or :obj:`'dependency+scene'`
            (and scene graphs of :obj:`graph_of_image_{split}.json`, published
            for version 1 only; with an :obj:`object_features_{split}.
            safetensors` beside them, a matrix :obj:`[slots, F]` an image name,
            objects have features). (default: :obj:`'dependency'`)
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
        scene_dir (str, optional): Where the scene graphs are, if neither in
            :obj:`root` nor in :obj:`root/../mega`. (default: :obj:`None`)

    Raises:
        ValueError: If a choice is unknown, or scene graphs are asked for
            version 2 without :obj:`scene_dir`.
        InputError: If a file is missing or a line cannot be used; the message
            names the file and the line.
    """
    def __init__(
        self,
        root: PathLike | None = None,
        split: Split = 'train',
        version: MNREVersion = 'v2',
        graph: GraphRoute = 'dependency',
        transform: BaseTransform | None = None,
        pre_transform: BaseTransform | None = None,
        force_reload: bool = False,
        log: bool = False,
        conllu_dir: PathLike | None = None,
        scene_dir: PathLike | None = None,
    ) -> None:
        for name, value, choices in (('split', split, get_args(Split)),
                                     ('version', version,
                                      get_args(MNREVersion)),
                                     ('graph', graph, get_args(GraphRoute))):
            if value not in choices:
                raise ValueError(f"'{name}' is unknown (got {value!r}); "
                                 f'{suggest(value, choices)}')
        if graph == 'dependency+scene' and version == 'v2' \
                and scene_dir is None:
            raise ValueError(
                "graph='dependency+scene' needs version='v1': no scene graphs "
                'of the images of version 2 are published. Choose '
                "graph='dependency', or give your own with 'scene_dir'")
        self.split, self.version, self.graph = split, version, graph
        self._bar = log
        folder = corpus_root(root, 'mnre', 'MNRE')
        sources = {'text': find_source(folder, version, split),
                   **find_graphs(folder, version, split, graph, conllu_dir,
                                 scene_dir)}

        def make(text: bytes) -> dict[str, Any]:
            return self._process(text, sources, pre_transform)

        #: SHA-256 of each raw file that was read.
        self.hashes: dict[str, str]
        packed, self.hashes = processed(
            f'mnre/{version}-{split}', sources, make, version, pre_transform,
            force_reload, format=_FORMAT, graph=graph)
        vocabularies = {'relation': RELATIONS[version], 'dependency': CLEAR,
                        'pos': UPOS, 'entity': _ENTITY_TYPES}
        if graph == 'dependency+scene':
            vocabularies['predicate'] = SLOT_PREDICATES
        super().__init__(packed['posts'], packed['rows'],
                         vocabularies, transform,
                         negative=RELATIONS[version].to_label(0))

    def _process(
        self,
        text: bytes,
        sources: Mapping[str, SourceFile],
        pre_transform: BaseTransform | None,
    ) -> dict[str, Any]:
        name = sources['text'].name
        make = PostMaker(sources, self.version, pre_transform)
        index: dict[str, int] = {}
        posts: list[Post] = []
        rows: list[Row] = []
        lines = read_mnre(text, self.version, name)
        for found in progress(lines, text.count(b'\n'),
                              f'MNRE {self.version} {self.split}', self._bar):
            if isinstance(found, InputError):
                raise found
            if found.image not in index:
                index[found.image] = len(posts)
                posts.append(make(found.words, found.image,
                                  f'{name}:{found.line}'))
            rows.append(Row(index[found.image],
                            [(*found.head, 0), (*found.tail, 0)],
                            [(0, 1, found.relation_id)]))
        if not rows:
            raise InputError('the file holds no instance', name)
        return dict(posts=self.pack(posts), rows=self.pack_rows(rows))

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.version} {self.split}, graph='
                f'{self.graph!r}: {len(self)} instances, {self.num_posts} '
                f'posts)')
