"""What corpora that are read from files share."""
import hashlib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from torch_geometric.transforms import BaseTransform

from mmgraph import __version__
from mmgraph.data import TextGraph
from mmgraph.datasets.base import cached, content_hash
from mmgraph.datasets.manifest import FileEntry, Manifest
from mmgraph.errors import InputError
from mmgraph.parse.conllu import read_conllu
from mmgraph.parse.labels import CLEAR, UPOS
from mmgraph.typing import PathLike
from mmgraph.utils import cache_dir, data_dir

__all__ = ['SourceFile', 'Trees', 'corpus_root', 'find_file', 'find_trees',
           'processed', 'progress']

_T = TypeVar('_T')


class SourceFile(NamedTuple):
    r"""A file of a corpus, perhaps inside an archive.

    Args:
        path (Path): The file or the archive.
        member (str): The file's name in the archive, else :obj:`''`.
    """
    path: Path
    member: str = ''

    @property
    def name(self) -> str:
        r"""The name to show."""
        return f'{self.path}!{self.member}' if self.member else str(self.path)

    def read_bytes(self) -> bytes:
        r"""The whole file.

        Raises:
            InputError: If it cannot be read.
        """
        try:
            if not self.member:
                return self.path.read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.member)
        except (OSError, zipfile.BadZipFile, KeyError, RuntimeError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise InputError(f'cannot read the file ({reason})',
                             self.name) from error


def corpus_root(root: PathLike | None, folder: str, title: str) -> Path:
    r"""The folder of a corpus: the one given, else :obj:`folder` in
    :obj:`$MMGRAPH_DATA`.

    Raises:
        InputError: If none is known.
    """
    if root is not None:
        return Path(root).expanduser()
    data = data_dir()
    if data is None:
        raise InputError(f"no folder of {title} is known: give 'root', or set "
                         f'MMGRAPH_DATA to the folder that holds {folder}/')
    return data / folder


def find_file(name: str, folders: Sequence[Path], mend: str) -> Path:
    r"""A file in the first folder that has it.

    Raises:
        InputError: If none has it; :obj:`mend` says what to do.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f'no file {name} in this folder. {mend}', folders[0])


def find_trees(
    name: str,
    folders: Sequence[Path],
    conllu_dir: PathLike | None = None,
) -> Path:
    r"""The dependency trees of a split, by the name of their file.

    Raises:
        InputError: If they are not there; the message says what to do.
    """
    return find_file(
        name, [Path(conllu_dir)] if conllu_dir else folders,
        'The trees are not part of the corpus: parse the text and put the '
        "file there, name its folder with 'conllu_dir', or choose "
        "graph='none'")


class Trees:
    r"""The dependency trees of a split, by name; without a file, every text
    has a tree without edges.

    Args:
        path (Path, optional): The CoNLL-U file. (default: :obj:`None`)
    """
    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._trees = (dict(read_conllu(path, CLEAR, UPOS))
                       if path is not None else {})

    def find(self, name: str, words: list[str], place: str) -> TextGraph:
        r"""The tree of a text.

        Args:
            name (str): Its :obj:`sent_id`.
            words (list of str): Its words, which the tree must have.
            place (str): File and line of the text, for errors.

        Raises:
            InputError: If there is no such tree, or it has other words.
        """
        if self._path is None:
            return TextGraph.from_heads(words, [-1] * len(words),
                                        ['root'] * len(words), CLEAR)
        tree = self._trees.get(name)
        if tree is None:
            raise InputError(
                f'no sentence with sent_id = {name} (needed by {place}). Do '
                f'text and trees belong to the same version and split?',
                self._path)
        if tree.words != words:
            raise InputError(
                f'sentence {name} has other words than the text at {place}; '
                f"parse the corpus's own tokens", self._path)
        return tree


def progress(items: Iterable[_T], total: int, title: str,
             show: bool) -> Iterable[_T]:
    r"""The same items, with a progress bar on stderr if asked for."""
    if not show:
        return items
    from tqdm import tqdm  # type: ignore[import-untyped]
    return cast(Iterable[_T],
                tqdm(items, total=total, delay=1, desc=title))


def processed(
    stem: str,
    sources: Mapping[str, SourceFile],
    make: Callable[[bytes], dict[str, Any]],
    version: str,
    pre_transform: BaseTransform | None = None,
    force_reload: bool = False,
    **settings: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    r"""What :obj:`make` makes of a corpus's files, kept under
    :obj:`$MMGRAPH_CACHE` beside a manifest of the files.

    Args:
        stem (str): Folder and stem in the cache.
        sources (mapping): The files by what they are; :obj:`'text'` is given
            to :obj:`make`.
        make (callable): Makes tensors and plain Python values.
        version (str): The version of the corpus.
        pre_transform (BaseTransform, optional): Its :func:`repr` is part of
            the key; a plain function, which shows only an address, is run
            every time. (default: :obj:`None`)
        force_reload (bool, optional): Do not read the cache.
            (default: :obj:`False`)
        **settings: All else that the result depends on, plain values.

    Returns:
        The result, and the SHA-256 of each file.
    """
    raw = {name: source.read_bytes() for name, source in sources.items()}
    hashes = {name: hashlib.sha256(data).hexdigest()
              for name, data in raw.items()}
    key = content_hash(__version__, stem, settings, hashes, pre_transform)

    def write() -> dict[str, Any]:
        value = make(raw['text'])
        Manifest({
            source.name: FileEntry.of(raw[name], version=version)
            for name, source in sources.items()
        }).write(cache_dir() / f'{stem}-{key}.json',
                 pre_transform=repr(pre_transform), **settings)
        return value

    # An address may be another function's next time.
    force_reload = force_reload or ' at 0x' in repr(pre_transform)
    return cached(stem, key, write, force_reload), hashes
