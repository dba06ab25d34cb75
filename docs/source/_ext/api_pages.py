"""Writes the API reference: a page for every package, one for every name.

It looks at what the packages themselves call public (``__all__``), so a new
class, and a new package, documents itself. The pages go to ``generated/``.
"""
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.display import progress_message

logger = logging.getLogger(__name__)

FOLDER = 'generated'
ROOT = 'mmgraph'
# The order of the rooms; whatever is not named here comes after them.
ORDER = [
    'data', 'parse', 'datasets', 'transforms', 'nn', 'models', 'metrics',
    'train', 'pipeline', 'viz', 'cli', 'testing', 'errors', 'typing', 'utils'
]


def is_shown(name: str, is_package: bool) -> bool:
    """Packages, modules beside them, and modules of plain functions."""
    parts = name.split('.')
    if any(part.startswith('_') for part in parts):
        return False
    return is_package or len(parts) == 2 or parts[-1] == 'functional'


def find_modules() -> list[ModuleType]:
    root = importlib.import_module(ROOT)
    modules = [root]

    def failed(name: str) -> None:
        logger.warning('%s cannot be imported', name)

    for info in pkgutil.walk_packages(root.__path__, f'{ROOT}.', failed):
        if is_shown(info.name, info.ispkg):
            try:
                modules.append(importlib.import_module(info.name))
            except ImportError as error:
                logger.warning('%s cannot be imported: %s', info.name, error)
    return [module for module in modules if hasattr(module, '__all__')]


def place(module: ModuleType) -> tuple[int, str]:
    parts = module.__name__.split('.')
    if len(parts) == 1:
        return len(ORDER) + 1, ''
    room = parts[1]
    return (ORDER.index(room) if room in ORDER else len(ORDER),
            module.__name__)


def home(name: str, modules: list[ModuleType]) -> str | None:
    """The one module whose page describes a name that several may list."""
    module, _, public = name.rpartition('.')
    value = getattr(importlib.import_module(module), public)
    if inspect.ismodule(value):
        return None
    origin = getattr(value, '__module__', None)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return module  # a constant or an alias does not know its origin
    if origin is None or not origin.startswith(ROOT):
        return None  # re-exported from elsewhere
    listing = [
        other.__name__ for other in modules
        if public in other.__all__ and getattr(other, public) is value
    ]
    near = [
        other for other in listing
        if origin == other or origin.startswith(f'{other}.')
    ]
    return max(near or listing, key=lambda other: other.count('.'))


def heading(text: str, mark: str = '=') -> str:
    return f'{text}\n{mark * len(text)}\n\n'


def source(value: Any) -> str:
    """The line that names the paper of a class, if the class does."""
    paper = vars(value).get('__paper__') if inspect.isclass(value) else None
    if paper is None:
        return ''
    return f'**Source:** `{paper.title} <{paper.url}>`__ ({paper.year})\n\n'


def object_page(name: str, value: Any) -> str:
    if inspect.isclass(value):
        kind = 'exception' if issubclass(value, BaseException) else 'class'
        options = '   :members:\n   :show-inheritance:\n'
    elif inspect.isroutine(value):
        kind, options = 'function', ''
    else:
        kind, options = 'data', ''
    module, _, public = name.rpartition('.')
    return (heading(public) + source(value) +
            f'.. currentmodule:: {module}\n\n'
            f'.. auto{kind}:: {name}\n{options}')


def module_page(module: ModuleType, names: list[str]) -> str:
    name = module.__name__
    text = heading(name)
    if module.__doc__:
        text += inspect.cleandoc(module.__doc__) + '\n\n'
    text += f'.. currentmodule:: {name}\n\n'
    groups: dict[str, list[str]] = {}
    for public in names:
        value = getattr(module, public)
        title = ('Classes' if inspect.isclass(value) else
                 'Functions' if inspect.isroutine(value) else 'Constants')
        groups.setdefault(title, []).append(public)
    for title in sorted(groups, key=['Classes', 'Functions',
                                     'Constants'].index):
        rows = ''.join(f'   {public}\n' for public in groups[title])
        text += (heading(title, '-') +
                 f'.. autosummary::\n   :nosignatures:\n\n{rows}\n')
    rows = ''.join(f'   {name}.{public}\n' for public in names)
    return text + f'.. toctree::\n   :hidden:\n\n{rows}'


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / FOLDER
    modules = sorted(find_modules(), key=place)
    pages: dict[str, str] = {}
    shown: list[str] = []
    for module in modules:
        name = module.__name__
        names = [
            public for public in module.__all__
            if not public.startswith('_')
            and home(f'{name}.{public}', modules) == name
        ]
        if not names:
            continue
        shown.append(name)
        pages[name] = module_page(module, names)
        for public in names:
            pages[f'{name}.{public}'] = object_page(
                f'{name}.{public}', getattr(module, public))
    pages['index'] = (
        heading('API reference') +
        'Every public class, function and constant has a page of its own.\n\n'
        '.. toctree::\n   :maxdepth: 1\n\n' +
        ''.join(f'   {name}\n' for name in shown))

    folder.mkdir(exist_ok=True)
    for path in folder.glob('*.rst'):
        if path.stem not in pages:
            path.unlink()
    for stem, text in pages.items():
        path = folder / f'{stem}.rst'
        if not path.exists() or path.read_text('utf-8') != text:
            path.write_text(text, 'utf-8')


def on_builder_inited(app: Sphinx) -> None:
    with progress_message('writing API pages'):
        write_pages(app)


def skip_member(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    skip: bool,
    options: object,
) -> bool | None:
    """A named tuple's fields say only 'Alias for field number 0'."""
    return True if type(obj).__name__ == '_tuplegetter' else None


def forget_type_docs(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    """A constant without a comment is not described by its type's text."""
    if what == 'data' and '\n'.join(lines).strip() == inspect.cleandoc(
            type(obj).__doc__ or '').strip():
        lines.clear()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect('builder-inited', on_builder_inited)
    app.connect('autodoc-skip-member', skip_member)
    app.connect('autodoc-process-docstring', forget_type_docs)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
