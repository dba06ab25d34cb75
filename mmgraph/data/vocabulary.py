"""Frozen label ↔ id maps."""
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmgraph.errors import InputError
from mmgraph.typing import PathLike
from mmgraph.utils import atomic_path, suggest

__all__ = ['Vocabulary']


class Vocabulary:
    r"""A frozen, ordered set of labels: dependency labels, predicates, object
    classes, relations, words.

    Ids are positions, :math:`0 \ldots n - 1`. A label that is not in the
    vocabulary gets the id of :obj:`unknown` where the vocabulary has one, and
    is an error where it has none.

    Args:
        labels (sequence of str): The labels, in the order of their ids.
        scheme (str, optional): Where the labels come from, *e.g.*
            :obj:`'UD'` or :obj:`'CLEAR'`: two schemes share names that mean
            different things. (default: :obj:`''`)
        unknown (str, optional): The label, one of :obj:`labels`, that stands
            for all others. (default: :obj:`None`)

    Raises:
        ValueError: If a label occurs twice, or :obj:`unknown` is not a label.

    Example:
        >>> vocabulary = Vocabulary(['unk', 'nsubj', 'obj'], unknown='unk')
        >>> vocabulary.to_id('obj'), vocabulary.to_id('new')
        (2, 0)
        >>> vocabulary.to_label(1)
        'nsubj'
    """
    __slots__ = ('_ids', '_labels', '_scheme', '_unknown')

    _ids: dict[str, int]
    _labels: tuple[str, ...]
    _scheme: str
    _unknown: str | None

    def __init__(
        self,
        labels: Sequence[str],
        scheme: str = '',
        unknown: str | None = None,
    ) -> None:
        ids = {label: i for i, label in enumerate(labels)}
        if len(ids) != len(labels):
            twice = next(a for i, a in enumerate(labels) if ids[a] != i)
            raise ValueError(f"'labels' must be distinct (got {twice!r} twice)")
        if unknown is not None and unknown not in ids:
            raise ValueError(f"'unknown' must be one of the labels "
                             f'(got {unknown!r})')
        for name, value in (('_ids', ids), ('_labels', tuple(labels)),
                            ('_scheme', scheme), ('_unknown', unknown)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_counts(
        cls,
        items: Iterable[str],
        scheme: str = '',
        unknown: str = '<unk>',
        min_count: int = 1,
        reserved: Sequence[str] = (),
    ) -> 'Vocabulary':
        r"""Collects labels, the most frequent first (ties: alphabetical).

        Args:
            items (iterable of str): The labels as they occur.
            scheme (str, optional): See above. (default: :obj:`''`)
            unknown (str, optional): Takes id 0 (after :obj:`reserved`).
            min_count (int, optional): Rarer labels become unknown.
                (default: :obj:`1`)
            reserved (sequence of str, optional): Labels put first, *e.g.* a
                padding label. (default: :obj:`()`)
        """
        counts: dict[str, int] = {}
        for item in items:
            counts[item] = counts.get(item, 0) + 1
        first = [*reserved, unknown]
        rest = sorted((label for label, count in counts.items()
                       if count >= min_count and label not in first),
                      key=lambda label: (-counts[label], label))
        return cls([*first, *rest], scheme, unknown)

    @property
    def labels(self) -> tuple[str, ...]:
        r"""All labels, in the order of their ids."""
        return self._labels

    @property
    def scheme(self) -> str:
        r"""The name of the label scheme."""
        return self._scheme

    @property
    def unknown(self) -> str | None:
        r"""The label that stands for labels not in the vocabulary."""
        return self._unknown

    def to_id(self, label: str) -> int:
        r"""The id of a label.

        Raises:
            KeyError: If the label is not there and nothing stands for it.
        """
        found = self._ids.get(label)
        if found is not None:
            return found
        if self._unknown is not None:
            return self._ids[self._unknown]
        raise KeyError(f'{label!r} is not a label of this '
                       f'{self._scheme or "nameless"} vocabulary; '
                       f'{suggest(label, self._labels)}')

    def to_ids(self, labels: Iterable[str]) -> list[int]:
        r"""The ids of several labels."""
        return [self.to_id(label) for label in labels]

    def to_label(self, index: int) -> str:
        r"""The label of an id.

        Raises:
            IndexError: If the id is outside :math:`[0, n)`.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'label ids must be in [0, {len(self)}) '
                             f'(got {index})')
        return self._labels[index]

    def to_dict(self) -> dict[str, Any]:
        r"""Plain values, for JSON and checkpoints."""
        return dict(labels=list(self._labels), scheme=self._scheme,
                    unknown=self._unknown)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> 'Vocabulary':
        r"""The inverse of :meth:`to_dict`."""
        return cls(state['labels'], state.get('scheme', ''),
                   state.get('unknown'))

    def save(self, path: PathLike) -> None:
        r"""Writes the vocabulary as JSON."""
        with atomic_path(path) as part:
            part.write_text(
                json.dumps(self.to_dict(), ensure_ascii=False, indent=1),
                encoding='utf-8')

    @classmethod
    def load(cls, path: PathLike) -> 'Vocabulary':
        r"""Reads what :meth:`save` wrote.

        Raises:
            InputError: If the file is not a vocabulary.
        """
        try:
            return cls.from_dict(json.loads(
                Path(path).read_text(encoding='utf-8')))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f'not a vocabulary file ({error})',
                             path) from error

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __contains__(self, label: object) -> bool:
        return label in self._ids

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Vocabulary)
                and self.to_dict() == other.to_dict())

    def __hash__(self) -> int:
        return hash((self._labels, self._scheme, self._unknown))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError('a Vocabulary is frozen')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._labels, self._scheme, self._unknown)

    def __repr__(self) -> str:
        shown = ', '.join(self._labels[:4])
        more = ', …' if len(self) > 4 else ''
        scheme = f', scheme={self._scheme!r}' if self._scheme else ''
        return f'{type(self).__name__}({len(self)}: {shown}{more}{scheme})'
