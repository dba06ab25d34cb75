"""The four verbs of a task model, and what it gives back."""
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmgraph.data import Post
from mmgraph.nn import Configurable

__all__ = ['Entity', 'Extraction', 'Relation', 'TaskModel', 'check_labels']


@dataclass(frozen=True)
class Entity:
    r"""A mention.

    Args:
        start (int): Its first word.
        end (int): One behind its last word.
        type_id (int): Its type, an id of the entity vocabulary.
        text (str): Its words joined by blanks.
    """
    start: int
    end: int
    type_id: int
    text: str


@dataclass(frozen=True)
class Relation:
    r"""A relation between two mentions of a post.

    Args:
        head (Entity): The head mention.
        tail (Entity): The tail mention.
        relation_id (int): An id of the relation vocabulary.
        score (float): Its probability, in :math:`[0, 1]`.
    """
    head: Entity
    tail: Entity
    relation_id: int
    score: float


@dataclass(frozen=True)
class Extraction:
    r"""What a model of entities *and* relations found in a post.

    Args:
        entities (list of Entity): The mentions, in text order, whether or not
            they take part in a relation.
        relations (list of Relation): The relations between them.
    """
    entities: list[Entity]
    relations: list[Relation]


class TaskModel(Configurable, nn.Module, ABC):
    r"""A published system: :meth:`forward`, :meth:`loss`, :meth:`decode`, and
    :meth:`from_config`; training and scoring live elsewhere.

    Attributes:
        task (str): :obj:`'relation'`, :obj:`'entity'` or :obj:`'joint'`
            (both): what it is trained on and scored by.
    """
    task: ClassVar[Literal['relation', 'entity', 'joint']]

    @abstractmethod
    def forward(self, batch: Post) -> Any:
        r"""Runs the model on a batch of posts."""

    @abstractmethod
    def loss(self, output: Any, batch: Post) -> Tensor:
        r"""The training loss, a scalar."""

    @abstractmethod
    def decode(self, output: Any, batch: Post) -> list[Any]:
        r"""What the model found: one item a post."""

    def decode_gold(self, batch: Post) -> list[Any] | None:
        r"""What :meth:`decode` would find if every score were right: the
        most that this way of decoding can reach. :obj:`None` where that is
        the annotation itself.
        """
        return None


def check_labels(name: str, ids: Tensor, size: int) -> None:
    r"""Gold labels are labels of the model.

    Raises:
        ValueError: If one is not.
    """
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.numel():
        raise ValueError(f"'{name}' must be in [0, {size}) (got "
                         f'{int(wrong[0])}); was the model built for another '
                         f'vocabulary?')
