"""``mmgraph align``: two networks from files, their matches to a file."""
import argparse
import ast
import csv
import inspect
import os
import sys
import threading
import time
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmgraph.data import GraphPair, GraphView
from mmgraph.errors import InputError
from mmgraph.metrics.alignment import alignment_report
from mmgraph.nn import align
from mmgraph.nn.align import Aligner, Alignment, DenseAligner
from mmgraph.parse.edge_list import (
    EdgeList,
    read_edge_list,
    read_graphml,
    read_name_pairs,
)
from mmgraph.typing import MatchMethod
from mmgraph.utils import atomic_path, suggest

__all__ = ['add_arguments', 'aligners', 'build_aligner', 'run']

_EXAMPLES = """examples:
  mmgraph align A.edges B.edges -o matches.csv
  mmgraph align A.edges B.edges.gz --top-k 5 --truth truth.csv -o best5.csv
  mmgraph align A.graphml B.graphml --match lap -o one_to_one.csv
  mmgraph align A.edges B.edges --aligner IsoRankAligner --seeds known.csv \\
      --set alpha=0.8 -o matches.csv

files: an edge list has two node names a line and, if you like, a weight,
parted by blanks, tabs or commas; '#' starts a comment; a weight of 0 means no
edge, other weights are not read; a line with one name is a node without edges.
Files that end in .graphml are GraphML; .gz is unpacked. The matches have the
header source,target,score; seeds and truth are read in the same form.
"""

#: Candidates that a source node keeps by default.
_TOP_K = 10
#: Seconds after which a step says that it is still at work.
_PATIENCE = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    r"""Describes the arguments of ``mmgraph align``."""
    parser.description = ('Finds, for each node of network A, the nodes of '
                          'network B that correspond to it.')
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('source', type=Path, metavar='A',
                        help='the source network: an edge list or GraphML')
    parser.add_argument('target', type=Path, metavar='B',
                        help='the target network')
    parser.add_argument('--aligner', default='StructuralAligner',
                        metavar='NAME', help='class of mmgraph.nn.align '
                        '(default: StructuralAligner); one of: '
                        + ', '.join(sorted(aligners())))
    parser.add_argument('--set', action='append', default=[], dest='settings',
                        metavar='KEY=VALUE', help='an argument of the aligner;'
                        ' may be repeated. A part is given by its class name '
                        'and its own arguments by dots: --set '
                        'aligner=DegreeAligner --set aligner.top_k=20')
    parser.add_argument('--top-k', type=int, metavar='K',
                        help='best candidates of each source node (default: '
                        f'{_TOP_K}, or with --match as many as the aligner '
                        'gives)')
    parser.add_argument('--match', choices=get_args(MatchMethod),
                        help='decide: one target a source node at most; '
                        'greedy and lap are one-to-one')
    parser.add_argument('--min-score', type=float, metavar='S',
                        help='leave out what scores less')
    parser.add_argument('--seeds', type=Path, metavar='FILE',
                        help='known matches, for aligners that take them')
    parser.add_argument('--truth', type=Path, metavar='FILE',
                        help='true matches: prints how many are found (seeds '
                        'are not counted)')
    parser.add_argument('-o', '--output', type=Path, required=True,
                        metavar='FILE', help='the matches, as CSV')
    parser.set_defaults(run=run)


def aligners() -> dict[str, type[Aligner]]:
    r"""The aligners that can be had by name: those that need no training and
    no features.
    """
    found = {}
    for name in align.classes:
        cls = getattr(align, name)
        if issubclass(cls, Aligner) and not inspect.isabstract(cls) \
                and not _learns(cls):
            found[name] = cls
    return found


def _learns(cls: type[Aligner]) -> bool:
    r"""Whether it asks for sizes of features or for layers to be trained."""
    hints = typing.get_type_hints(cls.__init__)
    return any(
        parameter.default is inspect.Parameter.empty
        and (name.endswith('channels') or hints.get(name) is nn.Module)
        for name, parameter in
        inspect.signature(cls.__init__).parameters.items())


def build_aligner(
    name: str,
    settings: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
) -> Aligner:
    r"""An aligner from its class name and arguments as text.

    Args:
        name (str): A name of :func:`aligners`.
        settings (dict): Its arguments; dots lead into parts.
        defaults (dict, optional): Further arguments, for those that the
            class has and :obj:`settings` does not give.
            (default: :obj:`None`)

    Raises:
        InputError: If there is no such aligner or argument, a value has the
            wrong type, or the aligner refuses it.
    """
    classes = aligners()
    if name not in classes:
        raise InputError(f'no aligner {name!r}; {suggest(name, list(classes))}')
    cls = classes[name]
    parameters = dict(inspect.signature(cls.__init__).parameters)
    del parameters['self']
    hints = typing.get_type_hints(cls.__init__)
    arguments = {key: value for key, value in (defaults or {}).items()
                 if key in parameters}
    parts: dict[str, dict[str, str]] = {}
    for key, text in settings.items():
        head, dot, rest = key.partition('.')
        if head not in parameters:
            raise InputError(f"'{name}' has no argument {head!r}; "
                             f'{suggest(head, list(parameters))}')
        if dot:
            parts.setdefault(head, {})[rest] = text
        elif _is_aligner(hints.get(head)) and text.lower() != 'none':
            arguments[head] = text
        else:
            arguments[head] = _value(text, hints.get(head), f'{name}.{head}')
    for key in parameters:
        if not _is_aligner(hints.get(key)):
            if key in parts:
                raise InputError(f"'{name}.{key}' has no arguments of its own")
            continue
        chosen = arguments.get(key)
        if isinstance(chosen, str):
            arguments[key] = build_aligner(chosen, parts.get(key, {}))
        elif key in parts:
            raise InputError(f'name the class first: --set {key}=NAME')
    missing = [key for key, parameter in parameters.items()
               if parameter.default is inspect.Parameter.empty
               and parameter.kind is not inspect.Parameter.VAR_KEYWORD
               and key not in arguments]
    if missing:
        raise InputError(f"'{name}' needs --set {missing[0]}=…")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise InputError(f"'{name}': {error}") from error


def _is_aligner(hint: Any) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, Aligner)
               for kind in (hint, *get_args(hint)))


def _value(text: str, hint: Any, name: str) -> Any:
    r"""The value that a text stands for, if the type allows it."""
    lowered = text.lower()
    value: Any = {'true': True, 'false': False, 'none': None,
                  'null': None}.get(lowered, text)
    if value is text:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = text
    if hint is None or _fits(value, hint):
        return value
    if _fits(text, hint):
        return text
    raise InputError(f"'{name}' must be {_shown(hint)} (got {text!r})"
                     + (f'; {suggest(text, get_args(hint))}'
                        if get_origin(hint) is Literal else ''))


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is type(None):
        return value is None
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if isinstance(value, str) and kind is not str:
        return False  # A text is a sequence, but no list.
    return isinstance(value, kind)


def _shown(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return 'a known name'
    if get_origin(hint) in (Union, types.UnionType):
        return ' or '.join(_shown(part) for part in get_args(hint))
    return {float: 'a number', int: 'a whole number', bool: 'true or false',
            type(None): 'none', str: 'a text'}.get(
                hint, str(getattr(hint, '__name__', hint)))


def run(args: argparse.Namespace) -> int:
    r"""What ``mmgraph align`` does."""
    if args.top_k is not None and args.top_k < 1:
        raise InputError(f"'--top-k' must be at least 1 (got {args.top_k})")
    aligner = _aligner(args)
    if args.seeds is not None and not aligner.takes_seeds:
        raise InputError(f"'{args.aligner}' takes no seeds; leave out "
                         f"'--seeds' or choose another aligner")
    _check_output(args.output)
    networks = [_read(path) for path in (args.source, args.target)]
    source, target = (network.view() for network in networks)
    places = [{name: i for i, name in enumerate(network.names)}
              for network in networks]
    seeds, truth = (None if path is None else read_name_pairs(path, *places)
                    for path in (args.seeds, args.truth))
    for path, network, view in zip((args.source, args.target), networks,
                                   (source, target)):
        _say(f'{path}: {view.num_nodes:,} nodes, '
             f'{view.edge_index.size(1) // 2:,} edges'
             + (' (weights are not read)' if network.edge_weight is not None
                else ''))
    start = time.perf_counter()
    with _still_at_work(args.aligner):
        found = (aligner(source, target) if seeds is None else
                 aligner(source, target, seeds=seeds))
    seconds = time.perf_counter() - start
    chosen = found
    if args.top_k is not None or args.match is None:
        chosen = found = found.topk(args.top_k or _TOP_K)
    if args.match is not None:
        with _still_at_work(f"matching by '{args.match}'"):
            chosen = found.match(args.match)
    if args.min_score is not None:
        chosen = _above(chosen, args.min_score)
    report = ''
    if truth is not None:
        report = _report(found, source, target, truth, seeds, args.match)
    _write(args.output, chosen, networks)
    print(f'{report}{chosen.num_matches:,} matches of '  # noqa: T201
          f'{chosen.match_index[0].unique().numel():,} of '
          f'{source.num_nodes:,} source nodes, by {args.aligner} in '
          f'{seconds:.2f} s: wrote {args.output}')
    return 0


def _aligner(args: argparse.Namespace) -> Aligner:
    settings: dict[str, str] = {}
    for item in args.settings:
        key, sign, text = item.partition('=')
        if not sign or not key:
            raise InputError(f"'--set' takes KEY=VALUE (got {item!r})")
        if key in settings:
            raise InputError(f"'--set {key}=…' is given twice")
        settings[key] = text
    cls = aligners().get(args.aligner)
    # All scores of a pair take part in a decision where they are there.
    top_k = args.top_k
    if top_k is None and not (args.match and cls is not None
                              and issubclass(cls, DenseAligner)):
        top_k = _TOP_K
    defaults: dict[str, Any] = {'ties': 'first'}
    if top_k is not None:
        defaults['top_k'] = top_k
    return build_aligner(args.aligner, settings, defaults)


def _check_output(path: Path) -> None:
    r"""Says at once, and not after the work, that a file cannot be written."""
    if path.is_dir():
        raise InputError("'--output' must be a file, not a folder", path)
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError('cannot write here; choose another folder', path)


def _read(path: Path) -> EdgeList:
    name = path.name.lower().removesuffix('.gz')
    read = read_graphml if name.endswith('.graphml') else read_edge_list
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         path) from error
    with tqdm(total=size, desc=f'reading {path.name}', unit='B', leave=False,
              unit_scale=True, delay=_PATIENCE, disable=None) as bar:
        network = read(path, bar.update)
    if not network.names:
        raise InputError('no edges in it', path)
    return network


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


@contextmanager
def _still_at_work(what: str) -> Iterator[None]:
    r"""Shows the time on the standard error output while a step takes long; a
    line a minute where that is no terminal.
    """
    done = threading.Event()
    start = time.perf_counter()

    def show() -> None:
        if done.wait(_PATIENCE):
            return
        if not sys.stderr.isatty():
            while True:
                _say(f'{what}: {time.perf_counter() - start:.0f} s …')
                if done.wait(60):
                    return
        with tqdm(desc=what, bar_format='{desc}: {elapsed}',
                  leave=False) as bar:
            bar.start_t -= time.perf_counter() - start
            while not done.wait(.5):
                bar.refresh()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _above(alignment: Alignment, min_score: float) -> Alignment:
    kept = alignment.match_score >= min_score
    return Alignment(alignment.match_index[:, kept],
                     alignment.match_score[kept], alignment.source_ptr,
                     alignment.target_ptr)


def _report(
    found: Alignment,
    source: GraphView,
    target: GraphView,
    truth: Tensor,
    seeds: Tensor | None,
    method: MatchMethod | None,
) -> str:
    pair = GraphPair(edge_index_s=source.edge_index,
                     edge_index_t=target.edge_index,
                     num_nodes_s=source.num_nodes,
                     num_nodes_t=target.num_nodes, match_index=truth)
    scores = alignment_report(found, pair, seeds=seeds, partial_gold=True,
                              methods=[method or 'argmax'])
    width = max(map(len, scores))
    return ''.join(
        f'{name:<{width}}  {value:.4f}\n' if isinstance(value, float) else
        f'{name:<{width}}  {value}\n' for name, value in scores.items()) + '\n'


def _write(
    path: Path,
    chosen: Alignment,
    networks: Sequence[EdgeList],
) -> None:
    r"""The best candidates of each source node first."""
    index, score = chosen.match_index, chosen.match_score.detach()
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(index[0, order], stable=True)]
    names = [network.names for network in networks]
    rows = zip(index[0, order].tolist(), index[1, order].tolist(),
               score[order].tolist())
    with atomic_path(path) as part, \
            open(part, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['source', 'target', 'score'])
        writer.writerows((names[0][i], names[1][j], f'{value:.6g}')
                         for i, j, value in rows)
