"""The order of the rooms, the cost of the import, and the public names."""
import ast
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'mmgraph'

# A module imports from its own floor and the floors above it in this list.
FLOORS = [
    {'typing', 'errors', 'utils'},
    {'data'},
    {'parse'},
    {'datasets'},
    {'transforms'},
    {'nn'},
    {'models'},
    {'metrics'},
    {'testing'},
    {'train'},
    {'viz', 'pipeline', 'demo', 'align_cli', 'cli', '__main__'},
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}

# What `import mmgraph` must not load.
HEAVY = {
    'faiss', 'jsonargparse', 'lightning', 'matplotlib', 'ot',
    'pytorch_lightning', 'spacy', 'stanza', 'torchmetrics'
}


class Import(NamedTuple):
    line: int
    module: str
    names: tuple[str, ...]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def room_of(module: str) -> str | None:
    parts = module.split('.')
    return parts[1] if len(parts) > 1 else None


def imports_of(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """All imports, those inside functions too; not those for types alone."""
    stack: list[ast.AST] = [ast.parse(source)]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            stack.extend(node.orelse)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parts = module.split('.')
                parts = parts[:len(parts) - node.level + int(is_package)]
                base = '.'.join([*parts, base] if base else parts)
            yield Import(node.lineno, base,
                         tuple(alias.name for alias in node.names))
        else:
            stack.extend(ast.iter_child_nodes(node))


def rooms_used(entry: Import) -> set[str]:
    if entry.module == 'mmgraph':  # from mmgraph import data, __version__
        return {
            name for name in entry.names
            if importlib.util.find_spec(f'mmgraph.{name}') is not None
        }
    if entry.module.startswith('mmgraph.'):
        return {entry.module.split('.')[1]}
    return set()


MODULES = sorted(PACKAGE.rglob('*.py'))


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_imports_go_down_only(path):
    module, room = module_name(path), room_of(module_name(path))
    if room is None:
        return  # `mmgraph/__init__.py` gathers all rooms.
    assert room in FLOOR, f'give {room!r} its place in FLOORS'
    entries = imports_of(path.read_text(encoding='utf-8'), module,
                         path.name == '__init__.py')
    wrong = [
        f'{path.name}:{entry.line} imports {used!r}' for entry in entries
        for used in rooms_used(entry)
        if used != room and FLOOR.get(used, len(FLOORS)) > FLOOR[room]
    ]
    assert not wrong


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_rooms_never_import_the_whole_house(path):
    module = module_name(path)
    if FLOOR.get(room_of(module) or '', len(FLOORS)) >= FLOOR['train']:
        return
    entries = imports_of(path.read_text(encoding='utf-8'), module,
                         path.name == '__init__.py')
    assert not [e for e in entries if e.module == 'mmgraph' and not e.names]


def test_the_walk_itself():
    source = ('from ..nn import align\n'
              'def f():\n'
              '    from mmgraph import train, __version__\n'
              'if TYPE_CHECKING:\n'
              '    import mmgraph.cli\n')
    entries = list(imports_of(source, 'mmgraph.data.post', False))
    assert {e.module for e in entries} == {'mmgraph', 'mmgraph.nn'}
    assert set.union(*map(rooms_used, entries)) >= {'nn'}
    entry, = imports_of('from . import view', 'mmgraph.data', True)
    assert entry.module == 'mmgraph.data'
    entry, = imports_of('from .view import x', 'mmgraph.data.post', False)
    assert entry.module == 'mmgraph.data.view'


def test_no_compiled_extension_is_imported_directly():
    banned = {'torch_scatter', 'torch_sparse', 'torch_cluster', 'pyg_lib'}
    for path in MODULES:
        source = path.read_text(encoding='utf-8')
        for entry in imports_of(source, module_name(path), False):
            assert entry.module.split('.')[0] not in banned, path


def test_import_is_cheap():
    script = ('import json, sys\n'
              'import torch_geometric\n'
              'before = set(sys.modules)\n'
              'import mmgraph\n'
              'print(json.dumps(sorted(set(sys.modules) - before)))\n')
    done = subprocess.run([sys.executable, '-c', script], check=True,
                          capture_output=True, text=True,
                          cwd=PACKAGE.parent)
    added = json.loads(done.stdout.splitlines()[-1])
    assert 'mmgraph' in added
    assert not HEAVY & {name.split('.')[0] for name in added}


PACKAGES = sorted(module_name(path) for path in MODULES
                  if path.name == '__init__.py')


@pytest.mark.parametrize('name', PACKAGES)
def test_public_names(name):
    package = importlib.import_module(name)
    names = list(getattr(package, '__all__', []))
    assert names == sorted(set(names)), f'{name}.__all__ is not sorted'
    for public in names:
        value = getattr(package, public)  # importable
        if inspect.isclass(value) and value.__module__.startswith('mmgraph'):
            text = vars(value).get('__doc__') or ''
            # Data classes and named tuples write `Name(field, ...)` themselves.
            assert text.strip(), f'{name}.{public} has no docstring'
            assert not text.startswith(f'{public}('), f'{name}.{public}'


@pytest.mark.parametrize('name', PACKAGES)
def test_listed_classes_are_classes(name):
    package = importlib.import_module(name)
    for listed in getattr(package, 'classes', []):
        assert listed in package.__all__
        assert inspect.isclass(getattr(package, listed))
