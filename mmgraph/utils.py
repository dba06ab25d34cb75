"""Small helpers that know nothing of graphs."""
import importlib
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mmgraph.errors import InputError, MissingExtraError
from mmgraph.typing import PathLike

__all__ = [
    'atomic_path', 'cache_dir', 'check_at_least', 'check_choice',
    'check_not_negative', 'check_positive', 'checks', 'checks_enabled',
    'data_dir', 'optional_import', 'seed_everything', 'suggest'
]

_CHECKS = True


def optional_import(name: str, extra: str) -> ModuleType:
    r"""Imports an optional package where it is needed.

    Args:
        name (str): Module name, *e.g.* :obj:`'matplotlib.pyplot'`.
        extra (str): The extra of mmgraph that installs it.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split('.')[0]
        if error.name is not None and error.name.split('.')[0] != package:
            raise  # The package is there; something *it* needs is not.
        raise MissingExtraError(package, extra) from error


def checks_enabled() -> bool:
    r"""Whether checks that read tensor values are on."""
    return _CHECKS


@contextmanager
def checks(enabled: bool) -> Iterator[None]:
    r"""Switches the checks that read tensor values (they cost a device
    synchronisation) on or off inside a :obj:`with` block.

    Example:
        >>> import mmgraph
        >>> with mmgraph.checks(False):
        ...     mmgraph.utils.checks_enabled()
        False
    """
    global _CHECKS
    before, _CHECKS = _CHECKS, enabled
    try:
        yield
    finally:
        _CHECKS = before


def seed_everything(seed: int) -> None:
    r"""Seeds Python, NumPy and PyTorch. For scripts only: no function of the
    library touches a global random state.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def suggest(value: object, choices: Sequence[Any]) -> str:
    r"""The tail of an error message: the sorted choices and the nearest one.

    Example:
        >>> suggest('tset', ['train', 'val', 'test'])
        "choose from 'test', 'train', 'val'. Did you mean 'test'?"
    """
    names = sorted(str(choice) for choice in choices)
    tail = 'choose from ' + ', '.join(repr(name) for name in names)
    near = get_close_matches(str(value), names, n=1)
    return tail + (f". Did you mean '{near[0]}'?" if near else '')


def data_dir() -> Path | None:
    r"""The folder of real corpora, :obj:`$MMGRAPH_DATA`, if set."""
    value = os.environ.get('MMGRAPH_DATA')
    return Path(value).expanduser() if value else None


def cache_dir() -> Path:
    r"""Where processed data goes: :obj:`$MMGRAPH_CACHE`, else the user's cache
    directory. A corpus's own folder is never written to.
    """
    value = os.environ.get('MMGRAPH_CACHE')
    if value:
        return Path(value).expanduser()
    home = os.environ.get('XDG_CACHE_HOME')
    return (Path(home) if home else Path.home() / '.cache') / 'mmgraph'


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    r"""Yields a temporary path beside :obj:`path` that takes its place only if
    the block ends without an error, so that nothing is left half-written.

    Raises:
        InputError: If the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f'.{path.name}.', suffix='.part')
    except OSError as error:
        raise InputError(
            f'cannot write here ({error.strerror}); '
            f'choose another folder', path) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp makes private files
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def check_at_least(least: int, **values: int | None) -> None:
    r"""Refuses arguments below a bound; :obj:`None` is none of them."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"'{name}' must be at least {least} "
                             f"(got {value})")


def check_positive(**values: float | None) -> None:
    r"""Refuses arguments that are not above zero; :obj:`None` is none."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"'{name}' must be positive (got {value})")


def check_not_negative(**values: float) -> None:
    r"""Refuses arguments below zero."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"'{name}' must not be negative (got {value})")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    r"""Refuses an unknown choice."""
    if value not in choices:
        raise ValueError(f"'{name}' must be one of its choices (got "
                         f'{value!r}); {suggest(value, choices)}')
