"""Type aliases shared by every part of mmgraph."""
import os
from typing import Literal, TypeAlias

from torch import Tensor

__all__ = [
    'GraphRoute', 'MNREVersion', 'MatchMethod', 'OptTensor', 'PathLike',
    'Split', 'Ties'
]

OptTensor: TypeAlias = Tensor | None
PathLike: TypeAlias = str | os.PathLike[str]

Split: TypeAlias = Literal['train', 'val', 'test']
MNREVersion: TypeAlias = Literal['v1', 'v2']
GraphRoute: TypeAlias = Literal['none', 'dependency', 'dependency+scene']
Ties: TypeAlias = Literal['split', 'first']
MatchMethod: TypeAlias = Literal['argmax', 'greedy', 'lap']
