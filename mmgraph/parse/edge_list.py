"""Networks from files: edge lists and GraphML."""
import ast
import csv
import gzip
import io
import math
import xml.etree.ElementTree as ET
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import remove_self_loops, to_undirected

from mmgraph.data import GraphView
from mmgraph.errors import InputError
from mmgraph.typing import OptTensor, PathLike

__all__ = ['EdgeList', 'read_edge_list', 'read_graphml', 'read_name_pairs']

_COMMENTS = ('#', '%', '//')
# First lines that name the columns, in lower case.
_HEADERS = {('source', 'target'), ('src', 'dst'), ('from', 'to'), ('u', 'v'),
            ('node1', 'node2'), ('fromnodeid', 'tonodeid')}

Progress = Callable[[int], Any]


class EdgeList(NamedTuple):
    r"""A network with named nodes, as its file tells it.

    Args:
        names (list of str): The nodes, in order of first appearance.
        edge_index (torch.Tensor): Edges :obj:`[2, E]`, as listed.
        edge_weight (torch.Tensor, optional): Weights :obj:`[E]`, none of them
            zero, where the file has any.

    Example:
        >>> edges = EdgeList(['a', 'b'], torch.tensor([[0], [1]]), None)
        >>> edges.view().edge_index
        tensor([[0, 1],
                [1, 0]])
    """
    names: list[str]
    edge_index: Tensor
    edge_weight: OptTensor = None

    def view(self) -> GraphView:
        r"""The network as aligners see it: each edge in both directions,
        once; no self-loops, no weights.
        """
        edge_index, _ = remove_self_loops(self.edge_index)
        return GraphView.single(
            to_undirected(edge_index, num_nodes=len(self.names)),
            len(self.names))


def read_edge_list(
    path: PathLike,
    progress: Progress | None = None,
) -> EdgeList:
    r"""Reads an edge list: one edge a line, two node names and, if there is
    one, a weight.

    Columns are parted by commas, tabs or blanks, as in the first line; the
    weight may also be NetworkX's :obj:`{'weight': 1.0}`. A line with a single
    name is a node, for those without an edge. Lines that start with
    :obj:`#`, :obj:`%` or :obj:`//` are comments, a first line such as
    :obj:`source,target` is a header, and a file that ends in :obj:`.gz` is
    unpacked.

    .. note::
        A weight of zero means that there is no edge; its nodes remain. The
        noise of the pair that comes with the code of REGAL is written that
        way, and a reader that ignores weights does not see it.

    Args:
        path (str): The file.
        progress (callable, optional): Called with the number of bytes read
            since the last call. (default: :obj:`None`)

    Raises:
        InputError: With the file and the line, if it is not an edge list.
    """
    # Positions by order of appearance, and 64-bit numbers one after another.
    nodes: defaultdict[str, int] = defaultdict(lambda: len(nodes))
    ends, weights = array('q'), array('d')
    weighted = False
    for line, columns in _rows(path, progress):
        if len(columns) == 1:
            nodes[columns[0]]
            continue
        if len(columns) > 3:
            raise InputError(f'an edge must have 2 names and 1 weight at most '
                             f'(got {len(columns)} columns)', path, line)
        source, target = nodes[columns[0]], nodes[columns[1]]
        weight = 1.0
        if len(columns) == 3:
            weight = _weight(columns[2], path, line)
            weighted = weighted or weight != 1
            if weight == 0:
                continue
        ends.append(source)
        ends.append(target)
        weights.append(weight)
    edge_index = torch.from_numpy(np.array(ends)).view(-1, 2).t()
    return EdgeList(list(nodes), edge_index.contiguous(),
                    torch.from_numpy(np.array(weights)).float() if weighted
                    else None)


def read_name_pairs(
    path: PathLike,
    source: dict[str, int],
    target: dict[str, int],
) -> Tensor:
    r"""Reads known matches: a source name and a target name a line, in the
    format of :func:`read_edge_list`; further columns are ignored.

    Args:
        path (str): The file.
        source (dict): Positions of the source names.
        target (dict): Positions of the target names.

    Returns:
        torch.Tensor: Positions :obj:`[2, M]`.

    Raises:
        InputError: With the file and the line, if a name is not known or
            occurs twice in its column.
    """
    found: list[tuple[int, int]] = []
    seen: tuple[dict[int, int], dict[int, int]] = {}, {}
    for line, columns in _rows(path, None):
        if len(columns) < 2:
            raise InputError('a match must have 2 names (got 1 column)', path,
                             line)
        places = []
        for name, known, before, side in zip(
                columns, (source, target), seen, ('source', 'target')):
            place = known.get(name)
            if place is None:
                raise InputError(f'no {side} node is named {name!r}', path,
                                 line)
            if place in before:
                raise InputError(f'{side} node {name!r} occurs in line '
                                 f'{before[place]} too', path, line)
            before[place] = line
            places.append(place)
        found.append((places[0], places[1]))
    return torch.tensor(found, dtype=torch.long).view(-1, 2).t().contiguous()


def read_graphml(
    path: PathLike,
    progress: Progress | None = None,
) -> EdgeList:
    r"""Reads the nodes and edges of a `GraphML
    <http://graphml.graphdrawing.org>`_ file, with edge weights where a key
    named :obj:`weight` exists. Names are the :obj:`id` of nodes. Other data,
    ports and hyperedges are not read; :obj:`.gz` is unpacked.

    Args:
        path (str): The file.
        progress (callable, optional): As in :func:`read_edge_list`.

    Raises:
        InputError: If it is not GraphML, or an edge has an unknown end.
    """
    nodes: dict[str, int] = {}
    named: list[tuple[str, str]] = []
    weights: list[float] = []
    weight_key, default = None, 1.0
    found_graph = False
    with _opened(path, progress) as file:
        try:
            for event, item in ET.iterparse(file, ('start', 'end')):
                tag = item.tag.rpartition('}')[2]
                if event == 'start':
                    found_graph |= tag == 'graph'
                    continue
                if tag == 'key' and item.get('attr.name') == 'weight' \
                        and item.get('for') in ('edge', 'all'):
                    weight_key = item.get('id')
                    for child in item:
                        default = _weight(child.text or '', path, None)
                elif tag == 'node':
                    name = item.get('id')
                    if name is None or name in nodes:
                        raise InputError(
                            'a node has no id' if name is None else
                            f'node {name!r} occurs twice', path)
                    nodes[name] = len(nodes)
                    item.clear()
                elif tag == 'edge':
                    named.append((item.get('source', ''),
                                  item.get('target', '')))
                    weights.append(_edge_weight(item, weight_key, default,
                                                path))
                    item.clear()
        except ET.ParseError as error:
            raise InputError(f'not GraphML ({error})', path,
                             error.position[0]) from error
    if not found_graph:
        raise InputError("not GraphML (it has no 'graph')", path)
    for ends in named:
        for name in ends:
            if name not in nodes:
                raise InputError(f'an edge names {name!r}, which is no node',
                                 path)
    weight = torch.tensor(weights)
    edge_index = torch.tensor([[nodes[a], nodes[b]] for a, b in named],
                              dtype=torch.long).view(-1, 2).t()
    kept = weight != 0
    return EdgeList(list(nodes), edge_index[:, kept].contiguous(),
                    None if bool((weight == 1).all()) else weight[kept])


def _edge_weight(
    item: Any,
    key: str | None,
    default: float,
    path: PathLike,
) -> float:
    for child in item:
        if key is not None and child.get('key') == key:
            return _weight(child.text or '', path, None)
    return default


def _weight(text: str, path: PathLike, line: int | None) -> float:
    try:
        value = float(text)
    except ValueError:
        try:
            value = float(ast.literal_eval(text).get('weight', 1.0))
        except (ValueError, SyntaxError, TypeError, AttributeError,
                RecursionError):
            value = math.nan
    if not math.isfinite(value):
        raise InputError(f'a weight must be a finite number (got '
                         f'{text[:40]!r})', path, line)
    return value


def _rows(
    path: PathLike,
    progress: Progress | None,
) -> Iterator[tuple[int, list[str]]]:
    r"""The columns of each line that has any, and its number."""
    split: Callable[[str], list[str]] | None = None
    with _opened(path, progress) as file:
        line = 0
        try:
            for line, text in enumerate(
                    io.TextIOWrapper(file, 'utf-8-sig'), 1):
                text = text.strip()
                if not text or text[0] in '#%/' and text.startswith(_COMMENTS):
                    continue
                # NetworkX writes {'weight': 1.0}, commas and blanks inside.
                data = None
                if text[-1] == '}' and '{' in text:
                    text, _, data = text.partition('{')
                    text = text.rstrip(' ,\t')
                is_first = split is None
                if split is None:
                    split = _splitter(text)
                columns = split(text)
                if is_first and tuple(
                        name.lower() for name in columns[:2]) in _HEADERS:
                    continue
                if data is not None:
                    columns.append('{' + data)
                if '' in columns:
                    raise InputError('an empty column', path, line)
                yield line, columns
        except UnicodeDecodeError as error:
            raise InputError('not UTF-8 text', path, line + 1) from error


def _splitter(text: str) -> Callable[[str], list[str]]:
    if ',' in text:
        return _split_commas
    return _split_tabs if '\t' in text else str.split


def _split_commas(text: str) -> list[str]:
    if '"' in text:
        columns = next(csv.reader([text], skipinitialspace=True), [])
        return [name.strip() for name in columns]
    return [name.strip() for name in text.split(',')]


def _split_tabs(text: str) -> list[str]:
    return [name.strip() for name in text.split('\t')]


@contextmanager
def _opened(
    path: PathLike,
    progress: Progress | None,
) -> Iterator[IO[bytes]]:
    r"""A file for reading, unpacked; whatever is wrong with it is an input
    error.
    """
    try:
        with open(path, 'rb') as raw:
            file: Any = io.BufferedReader(_Counted(raw, progress), 2**18)
            if Path(path).suffix.lower() == '.gz':
                file = gzip.GzipFile(fileobj=file)
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f'damaged .gz file ({error})', path) from error
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         path) from error


class _Counted(io.RawIOBase):
    r"""Tells how many bytes are read."""
    def __init__(self, raw: IO[bytes], progress: Progress | None) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        buffer[:len(data)] = data
        if self._progress is not None:
            self._progress(len(data))
        return len(data)
