"""Pairs of networks whose nodes correspond."""
import copy
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Dataset
from torch_geometric.utils import remove_self_loops, to_undirected

from mmgraph.data import GraphPair
from mmgraph.datasets.integrity import table
from mmgraph.datasets.manifest import FileEntry, Manifest
from mmgraph.errors import DataIntegrityError, InputError
from mmgraph.parse.edge_list import read_edge_list
from mmgraph.typing import PathLike
from mmgraph.utils import suggest

__all__ = [
    'ALIGNMENT_MANIFEST', 'NetworkAlignment', 'check_networks', 'is_networks'
]

_SHIPPED = 'arenas_shipped'
_SHIPPED_EDGES = 'arenas_combined_edges.txt'
_SHIPPED_GOLD = 'arenas_true_mapping.json'


class NetworkAlignment(Dataset):
    r"""One pair of networks with known matches, as a data set of length one.

    Every graph is undirected and simple: :obj:`edge_index` holds each edge in
    both directions, no self-loops, no duplicates. There are four kinds of
    names; :meth:`names` lists those that a folder has:

    * **pairs** (:obj:`'acm_dblp'`, :obj:`'cora'`,
      :obj:`'foursquare_twitter'`, …): two networks with their anchors, and
      :obj:`x_s`, :obj:`x_t` (float, dense) where nodes have attributes;
    * **families** (:obj:`'highschool'`, :obj:`'voles'`,
      :obj:`'multimagna'`): one network under real noise. The source is the
      base network, the target the one at :obj:`level`: the percentage of its
      edges that is *kept* (base 100) or, for :obj:`'multimagna'`, *added*
      (base 0);
    * **base graphs** (:obj:`'arenas_base'`, :obj:`'ca-netscience'`,
      :obj:`'bio-celegans'`, …): a network and the very same network, to be
      noised by :class:`~mmgraph.transforms.DropEdges` or
      :class:`~mmgraph.transforms.RewireEdges`;
    * :obj:`'arenas_shipped'`: the pair that comes with the code of REGAL. Its
      1 % noise is 51 edges of weight zero, which are no edges; a reader that
      ignores weights gets an exact copy (:obj:`'arenas_regal990'` is one).

    .. warning::
        The two sides of families and base graphs are numbered alike. End
        their transforms with :class:`~mmgraph.transforms.PermutedCopy`, or
        aligners that favour low positions or the diagonal profit from it.

    Nothing is downloaded and the folder is never written to.

    Args:
        root (str): The data folder, which holds :obj:`alignment` and, for
            :obj:`'arenas_shipped'`, :obj:`regal`.
        name (str): The pair.
        level (int, optional): The noise of a family, *e.g.* :obj:`90`; see
            :meth:`levels`. (default: :obj:`None`)
        attribute_noise (float, optional): For :obj:`'arenas_shipped'`: adds
            the categorical node attribute (ids, :obj:`[n, 1]`) that differs
            with this probability, *e.g.* :obj:`0.05`. (default: :obj:`None`)
        transform (callable, optional): Applied at each access.
            (default: :obj:`None`)
        verify (bool, optional): Whether the files must be the published
            ones, by SHA-256. (default: :obj:`False`)

    Raises:
        InputError: If the folder has no such pair or the file is damaged.
        ValueError: If an argument does not go with the pair.

    Example:
        >>> voles = NetworkAlignment(root, 'voles', 90)  # doctest: +SKIP
        >>> voles[0]                                     # doctest: +SKIP
        GraphPair(713 nodes, 4644 edges | 713 nodes, 4206 edges, 713 gold
        matches)
    """
    def __init__(
        self,
        root: PathLike,
        name: str,
        level: int | None = None,
        attribute_noise: float | None = None,
        transform: Callable[..., Any] | None = None,
        verify: bool = False,
    ) -> None:
        super().__init__(None, transform)
        self.name = name
        self.level = level
        self.attribute_noise = attribute_noise
        place = _find(root, name)
        if level is not None and place.kind != 'family':
            raise ValueError(f"'level' goes with a family such as "
                             f"'highschool' (got {level} for {name!r})")
        if attribute_noise is not None and place.kind != 'shipped':
            raise ValueError(f"'attribute_noise' goes with {_SHIPPED!r} (got "
                             f'{attribute_noise} for {name!r})')
        if place.kind == 'shipped':
            self._pair, files = _read_shipped(place.path, attribute_noise)
        else:
            files = [place.path]
            with _Archive(place.path) as archive:
                self._pair = _READERS[place.kind](archive, name, level)
        if verify:
            _verify(files)

    @staticmethod
    def names(root: PathLike) -> list[str]:
        r"""The sorted names of all pairs in a data folder.

        Raises:
            InputError: If it holds none.
        """
        return sorted(_places(root))

    @staticmethod
    def levels(root: PathLike, name: str) -> list[int]:
        r"""The levels of a family, mildest first; the base is not among them.

        Raises:
            InputError: If there is no such family.
        """
        place = _find(root, name)
        if place.kind != 'family':
            raise InputError(f'{name!r} is no family: it has no levels',
                             place.path)
        with _Archive(place.path) as archive:
            return _levels(archive)[1:]

    def len(self) -> int:
        return 1

    def get(self, idx: int) -> GraphPair:
        return copy.copy(self._pair)

    def __repr__(self) -> str:
        more = ''.join(
            f', {key}={value}' for key, value in (
                ('level', self.level),
                ('attribute_noise', self.attribute_noise))
            if value is not None)
        return f'{type(self).__name__}({self.name!r}{more})'


class _Place(NamedTuple):
    kind: str
    path: Path


def _places(root: PathLike) -> dict[str, _Place]:
    root = Path(root)
    if not root.is_dir():
        raise InputError('no such folder', root)
    found: dict[str, _Place] = {}
    for path in sorted((root / 'alignment').glob('*.npz')):
        try:
            with _Archive(path) as archive:
                kind, keys = archive.kind(), archive.keys()
        except InputError:  # It is told when the pair is asked for.
            kind, keys = 'pair', []
        if kind == 'graphs':
            for key in keys:
                name, _, part = key.rpartition('__')
                if part == 'edge_index':
                    found[name] = _Place(kind, path)
        elif kind:
            found[path.stem] = _Place(kind, path)
    if (root / 'regal' / _SHIPPED_EDGES).is_file():
        found[_SHIPPED] = _Place('shipped', root / 'regal')
    if not found:
        raise InputError("no pairs of networks here; 'root' is the folder "
                         "that holds 'alignment' and 'regal'", root)
    return found


def _find(root: PathLike, name: str) -> _Place:
    places = _places(root)
    if name not in places:
        raise InputError(f'no pair {name!r} here; '
                         f'{suggest(name, list(places))}', root)
    return places[name]


class _Archive:
    r"""An :obj:`.npz` file; whatever is wrong with it is an input error."""
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> '_Archive':
        try:
            self._raw = open(self.path, 'rb')
        except OSError as error:
            raise InputError(f'cannot read the file ({error.strerror})',
                             self.path) from error
        try:
            self._file = np.load(self._raw, allow_pickle=False)
            if not isinstance(self._file, np.lib.npyio.NpzFile):
                raise ValueError
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            self._raw.close()
            raise InputError('damaged: not an .npz archive',
                             self.path) from error
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._file.close()
        self._raw.close()
        if isinstance(error, InputError):
            return
        # What a damaged archive raises depends on the damaged byte.
        if isinstance(error, KeyError | ValueError | IndexError | OSError
                      | EOFError | TypeError | RuntimeError
                      | zipfile.BadZipFile) or kind is not None and (
                          kind.__module__ == 'zlib'):
            raise InputError(f'damaged: {error}', self.path) from error

    def keys(self) -> list[str]:
        return list(self._file.files)

    def kind(self) -> str:
        keys = self.keys()
        if 'edge_index1' in keys:
            return 'pair'
        if 'edge_index' in keys:
            return 'base'
        if any(re.fullmatch(r'edge_index_\d+', key) for key in keys):
            return 'family'
        return 'graphs' if any(key.endswith('__edge_index')
                               for key in keys) else ''

    def __contains__(self, key: str) -> bool:
        return key in self._file.files

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self:
            raise InputError(f'damaged: no array {key!r}', self.path)
        return self._file[key]

    def edges(self, key: str, num_nodes: int) -> Tensor:
        array = self[key]
        if array.ndim != 2 or array.shape[0] != 2:
            raise InputError(f'damaged: {key!r} must have shape [2, m] (got '
                             f'{list(array.shape)})', self.path)
        if array.size and not 0 <= array.min() <= array.max() < num_nodes:
            raise InputError(f'damaged: {key!r} must be in [0, {num_nodes}) '
                             f'(got {array.min()} to {array.max()})',
                             self.path)
        return undirected(torch.from_numpy(array.astype(np.int64)), num_nodes)

    def features(self, key: str, num_nodes: int) -> Tensor | None:
        if f'{key}_rc' not in self and f'{key}_shape' not in self:
            return None
        shape = [int(size) for size in self[f'{key}_shape']]
        if shape[0] != num_nodes:
            raise InputError(f'damaged: {key!r} must have one row a node (got '
                             f'{shape[0]} for {num_nodes} nodes)', self.path)
        rows, cols = torch.from_numpy(self[f'{key}_rc'].astype(np.int64))
        x = torch.zeros(shape)
        x[rows, cols] = (torch.from_numpy(self[f'{key}_val']).float()
                         if f'{key}_val' in self else torch.ones(rows.numel()))
        return x


def undirected(edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""Each edge in both directions, once, sorted; no self-loops."""
    edge_index, _ = remove_self_loops(edge_index)
    out: Tensor = to_undirected(edge_index, num_nodes=num_nodes)
    return out


def _make(path: Path, **parts: Any) -> GraphPair:
    pair = GraphPair(**{key: value for key, value in parts.items()
                        if value is not None})
    try:
        pair.validate()
    except ValueError as error:
        raise InputError(f'damaged: {error}', path) from error
    return pair


def _read_pair(archive: _Archive, name: str, level: int | None) -> GraphPair:
    n, m = (int(size) for size in archive['num_nodes'])
    gold = torch.from_numpy(archive['gt'].astype(np.int64))
    return _make(
        archive.path, edge_index_s=archive.edges('edge_index1', n),
        edge_index_t=archive.edges('edge_index2', m), num_nodes_s=n,
        num_nodes_t=m, x_s=archive.features('x1', n),
        x_t=archive.features('x2', m),
        match_index=gold.view(-1, 2).t().contiguous())


def _levels(archive: _Archive) -> list[int]:
    r"""The levels from the base on: the key tells percentages of edges, and
    the base is the one that the others were made from.
    """
    levels = sorted(int(key.rpartition('_')[2]) for key in archive.keys()
                    if key.startswith('edge_index_'))
    return levels if levels[0] == 0 else levels[::-1]


def _read_family(archive: _Archive, name: str, level: int | None) -> GraphPair:
    base, *levels = _levels(archive)
    if level not in (base, *levels):
        raise InputError(f"'level' must be a level of {name!r} (got {level}); "
                         f'choose from {", ".join(map(str, levels))}',
                         archive.path)
    n = int(archive['num_nodes'][0])
    return _make(archive.path,
                 edge_index_s=archive.edges(f'edge_index_{base}', n),
                 edge_index_t=archive.edges(f'edge_index_{level}', n),
                 num_nodes_s=n, num_nodes_t=n,
                 match_index=torch.arange(n).repeat(2, 1))


def _read_graph(archive: _Archive, name: str, level: int | None) -> GraphPair:
    prefix = '' if 'edge_index' in archive else f'{name}__'
    n = int(archive[f'{prefix}num_nodes'][0])
    edges = archive.edges(f'{prefix}edge_index', n)
    return _make(archive.path, edge_index_s=edges, edge_index_t=edges.clone(),
                 num_nodes_s=n, num_nodes_t=n,
                 match_index=torch.arange(n).repeat(2, 1))


_READERS = {'pair': _read_pair, 'family': _read_family, 'base': _read_graph,
            'graphs': _read_graph}


def _read_shipped(
    folder: Path,
    attribute_noise: float | None,
) -> tuple[GraphPair, list[Path]]:
    r"""The pair of REGAL: one list of the edges of both graphs, the nodes of
    the first before those of the second.
    """
    path, gold_path = folder / _SHIPPED_EDGES, folder / _SHIPPED_GOLD
    files = [path, gold_path]
    try:
        gold = torch.tensor(json.loads(gold_path.read_text(encoding='utf-8')))
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         gold_path) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f'damaged: {error}', gold_path) from error
    n = gold.numel()
    if gold.dtype != torch.long or gold.dim() != 1 or not torch.equal(
            gold.sort().values, torch.arange(n)):
        raise InputError('damaged: not a permutation', gold_path)
    listed = read_edge_list(path)  # It leaves out edges of weight zero.
    try:
        nodes = torch.tensor([int(name) for name in listed.names])
    except ValueError as error:
        raise InputError(f'damaged: {error}', path) from error
    edges = nodes[listed.edge_index]
    first = (edges < n).all(dim=0)
    if not (first | ((edges >= n) & (edges < 2 * n)).all(dim=0)).all():
        raise InputError(f'damaged: an edge joins the two graphs of {n} nodes '
                         f'each, or has a node out of range', path)
    x: dict[str, Tensor] = {}
    if attribute_noise is not None:
        ids_path = folder / f'arenas_attr1-2vals-prob{attribute_noise:.6f}.npy'
        files.append(ids_path)
        x = _read_ids(ids_path, n)
    return _make(path, edge_index_s=undirected(edges[:, first], n),
                 edge_index_t=undirected(edges[:, ~first] - n, n),
                 num_nodes_s=n, num_nodes_t=n,
                 match_index=torch.stack([torch.arange(n), gold]), **x), files


def _read_ids(path: Path, num_nodes: int) -> dict[str, Tensor]:
    if not path.is_file():
        there = sorted(float(found.stem.rpartition('prob')[2])
                       for found in path.parent.glob('arenas_attr1-*.npy'))
        raise ValueError(f"'attribute_noise' must be one of the files' "
                         f'({", ".join(map(str, there)) or "there are none"}; '
                         f'no {path.name})')
    try:
        ids = torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InputError(f'damaged: {error}', path) from error
    if ids.shape != (2 * num_nodes, 1) or ids.dtype != torch.long:
        raise InputError(f'damaged: must hold whole numbers '
                         f'[{2 * num_nodes}, 1]', path)
    return dict(x_s=ids[:num_nodes], x_t=ids[num_nodes:])


def _verify(files: list[Path]) -> None:
    for path in files:
        status = ALIGNMENT_MANIFEST.status(path.name, path.read_bytes())
        if status != 'published':
            raise DataIntegrityError(
                'is not a published file' if status == 'unlisted' else
                'is not the published file (its SHA-256 differs)',
                [str(path)])


def is_networks(root: PathLike) -> bool:
    r"""Whether a folder is one of :class:`NetworkAlignment`."""
    root = Path(root)
    return root.name == 'alignment' or (root / 'alignment').is_dir()


def check_networks(root: PathLike) -> tuple[str, int]:
    r"""Reads every pair of networks in a data folder: the text and the exit
    status of :obj:`mmgraph data check`, 1 if a file is damaged or missing.

    Args:
        root (str): As in :class:`NetworkAlignment`, or its folder
            :obj:`alignment`.

    Raises:
        InputError: If there are no pairs of networks.
    """
    root = Path(root)
    if root.name == 'alignment' and not (root / 'alignment').is_dir():
        root = root.absolute().parent
    there = [*sorted((root / 'alignment').glob('*.npz')),
             *sorted(path for path in (root / 'regal').glob('*')
                     if path.name in ALIGNMENT_MANIFEST)]
    if not there:
        _places(root)
    rows, bad = [], 0
    for path in there:
        detail = ''
        try:
            status = ALIGNMENT_MANIFEST.status(path.name, path.read_bytes())
            detail = ', '.join(_describe(path))
        except (InputError, OSError) as error:
            status, detail = 'damaged', str(error)
            bad += 1
        rows.append((path.name, status, detail))
    names = {path.name for path in there}
    for name in ALIGNMENT_MANIFEST:
        if name not in names:
            rows.append((name, 'missing', ''))
    lines = table(('file', 'status', 'detail'), rows)
    end = f'{bad} of {len(rows)} are damaged' if bad else 'ok'
    return '\n'.join([f'Networks in {root}', '', *lines, '', end]), int(
        bad > 0)


def _describe(path: Path) -> list[str]:
    r"""What a file holds: nodes and edges of each of its graphs."""
    if path.suffix != '.npz':
        if path.name != _SHIPPED_EDGES:
            return []
        pair, _ = _read_shipped(path.parent, None)
        return [_sizes(pair)]
    with _Archive(path) as archive:
        kind = archive.kind()
        if kind == 'graphs':
            names = [key.removesuffix('__edge_index')
                     for key in archive.keys() if key.endswith('edge_index')]
            for name in names:
                _read_graph(archive, name, None)
            return [f'{len(names)} graphs']
        if kind == 'family':
            base, *levels = _levels(archive)
            for level in levels:
                pair = _read_family(archive, path.stem, level)
            return [f'{pair.num_nodes_s} nodes, base {base}, levels '
                    + ' '.join(map(str, levels))]
        if not kind:
            raise InputError('no network in it', path)
        return [_sizes(_READERS[kind](archive, path.stem, None))]


def _sizes(pair: GraphPair) -> str:
    return (f'{pair.num_nodes_s} nodes, {pair.edge_index_s.size(1) // 2} '
            f'edges | {pair.num_nodes_t} nodes, '
            f'{pair.edge_index_t.size(1) // 2} edges, '
            f'{pair.match_index.size(1)} matches')


_NONE = 'none stated'
_FRAMEWORK = 'constantinosskitsas/Framework_GraphAlignment at bea8b62'
_REGAL = dict(licence='MIT-style, 2018', source='GemsLab/REGAL at 42ed908')

#: The files of :class:`NetworkAlignment`.
ALIGNMENT_MANIFEST = Manifest({
    'acm_dblp.npz': FileEntry(
        296553,
        'ab879bb1664649cb27b609a76ba2dfbfb1300de5b53ee06acc23b119441d985a',
        licence=_NONE, source='zhichenz98/PARROT-WWW23 at 889ed1b'),
    'arenas_base.npz': FileEntry(
        10574,
        '1ffd8ce11899302a51cd327157dfbe81f4085184947da6cbd573938a5f641a89',
        licence=_NONE, source='AU-DIS/GRASP at b4b0fe3'),
    'arenas_cone950.npz': FileEntry(
        27196,
        '8606f3e0d736a6c217f8f6fa12e0efba5c2630d5db12b8ae179c2eae4b336371',
        licence=_NONE, source='GemsLab/CONE-Align at 0aeab8a'),
    'arenas_regal990.npz': FileEntry(
        27156,
        '0214081d5afbedb00e47135f50ae2cc36b36443f93b3bb73cfe7de0046463b34',
        **_REGAL),
    'arenas_walign.npz': FileEntry(
        27084,
        'a84292d22bf1e78acd9d4e8071a7c0c11b166242e0a0dd1e2593be6e1aa8af3d',
        licence=_NONE, source='gaoji7777/walign at 4085699'),
    'base_graphs.npz': FileEntry(
        735891,
        '1244fea68a120230965fb1979edca2b6c7fd594e7d145513e6c09a12054335da',
        licence=_NONE, source=_FRAMEWORK),
    'cora.npz': FileEntry(
        229137,
        '1226cd50b7241f7f36e3d110cd16b89f3896870fed424b9d90fcdb9b0441eb11',
        licence=_NONE, source='zhichenz98/PARROT-WWW23 at 889ed1b'),
    'flickr_myspace.npz': FileEntry(
        77857,
        'd813d2cee3121131d7b59a89d7a35dbc8dc5db5c358c053f29a1f82fc26098f1',
        licence=_NONE, source='sizhang92/FINAL-KDD16 at 29f7841'),
    'foursquare_twitter.npz': FileEntry(
        331647,
        'abaf35c34bdd1a3081ec87845648663b048315b68c60e28aa94fcccb836606f9',
        licence=_NONE, source='zhichenz98/PARROT-WWW23 at 889ed1b'),
    'highschool.npz': FileEntry(
        33237,
        'fb97655f4d29ee77b208535d10b0f02b8dd8dc96108496204c12afd9df247b6e',
        licence=_NONE, source=_FRAMEWORK),
    'multimagna.npz': FileEntry(
        57807,
        '36203619173e3d026aaa128e33043f9c4f46814eca608f7f1afb3eba762e0d0a',
        licence=_NONE, source=_FRAMEWORK),
    'phone_email.npz': FileEntry(
        49620,
        '311bf50a8764545924a06d153e6dcf88a68785bedd4bbd3b91a2527c5f05829f',
        licence=_NONE, source='zhichenz98/PARROT-WWW23 at 889ed1b'),
    'voles.npz': FileEntry(
        21867,
        'da8e98100e103824f43c6cd083e1bb442bffd85ac52a5cbfb5f079270b64deb2',
        licence=_NONE, source=_FRAMEWORK),
    'arenas_combined_edges.txt': FileEntry(
        272750,
        '6764808e5ed1e0d5dfc5ac52c76312b1a5d682d4f30fd38141527c4dc9c24f94',
        **_REGAL),
    'arenas_true_mapping.json': FileEntry(
        5700,
        '046252e9fb0f8a497390242d181e09b3f1837e8304f90824edfb8589a664f17e',
        **_REGAL),
    'arenas_attr1-2vals-prob0.000000.npy': FileEntry(
        18240,
        '7ae1a6614e09b5e4934412517710ce253585bf40bc16855594580ea755c41195',
        **_REGAL),
    'arenas_attr1-2vals-prob0.050000.npy': FileEntry(
        18240,
        '68c0e83aa7221961b7e22ca74525992fb5fbc871820f3de661476ad6a0633205',
        **_REGAL),
})
