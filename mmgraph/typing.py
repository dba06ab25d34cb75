"""Type aliases shared by every part of mmgraph."""
import os
from typing import Literal, TypeAlias

from torch import Tensor

__all__ = [
    'GraphRoute', 'JMEREVariant', 'MNREVersion', 'MatchMethod',
    'NeighbourPool', 'OptTensor', 'PathLike', 'Split', 'TagReading', 'Ties',
    'TreeRoute'
]

OptTensor: TypeAlias = Tensor | None
PathLike: TypeAlias = str | os.PathLike[str]

Split: TypeAlias = Literal['train', 'val', 'test']
MNREVersion: TypeAlias = Literal['v1', 'v2']
JMEREVariant: TypeAlias = Literal['merged', 'v1', 'published']
GraphRoute: TypeAlias = Literal['none', 'dependency', 'dependency+scene']
TreeRoute: TypeAlias = Literal['none', 'dependency']
TagReading: TypeAlias = Literal['lenient', 'strict']
NeighbourPool: TypeAlias = Literal['train', 'all']
Ties: TypeAlias = Literal['split', 'first']
MatchMethod: TypeAlias = Literal['argmax', 'greedy', 'lap']
