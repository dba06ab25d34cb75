"""Exceptions of mmgraph.

Every message names the argument or place, the rule, the value found and, where
it is known, what to do. :class:`InputError` is for anything a user gave us (a
file, a folder, a setting): the command line prints it as one line and exits
with code 2.
"""
from collections.abc import Sequence

__all__ = [
    'DataIntegrityError', 'InputError', 'MissingExtraError', 'ShapeError'
]


class ShapeError(ValueError):
    r"""A tensor has the wrong shape.

    Args:
        message (str): What was wrong.
        expected_shape (sequence, optional): The shape asked for; strings stand
            for free sizes. (default: :obj:`None`)
        actual_shape (sequence, optional): The shape found.
            (default: :obj:`None`)
    """
    def __init__(
        self,
        message: str,
        expected_shape: Sequence[int | str] | None = None,
        actual_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(message)
        self.expected_shape = expected_shape
        self.actual_shape = actual_shape


class InputError(ValueError):
    r"""Something a user gave cannot be used: one line says what and where.

    Args:
        message (str): What is wrong and what to do about it.
        path (str, optional): The file or folder at fault.
            (default: :obj:`None`)
        line (int, optional): Its line, counted from 1. (default: :obj:`None`)
    """
    def __init__(
        self,
        message: str,
        path: object = None,
        line: int | None = None,
    ) -> None:
        self.path = None if path is None else str(path)
        self.line = line
        place = ''
        if path is not None:
            place = f'{path}:{line}: ' if line is not None else f'{path}: '
        super().__init__(place + message)


class DataIntegrityError(InputError, RuntimeError):
    r"""Files of a corpus are missing, damaged or of another version.

    Args:
        message (str): What is wrong and what to do about it.
        files (sequence of str): The files at fault.
    """
    def __init__(self, message: str, files: Sequence[str] = ()) -> None:
        self.files = list(files)
        super().__init__(message, self.files[0] if self.files else None)


class MissingExtraError(ImportError):
    r"""An optional package is needed; the message names the extra.

    Args:
        package (str): The package that could not be imported.
        extra (str): The extra of mmgraph that brings it.
    """
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"'{package}' is not installed. "
            f"Install it with: pip install 'mmgraph[{extra}]'", name=package)
        self.extra = extra
