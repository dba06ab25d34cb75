"""What every dependency parser does."""
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mmgraph.data import TextGraph, Vocabulary

__all__ = ['DependencyParser']


@runtime_checkable
class DependencyParser(Protocol):
    r"""Parses words that are already split: a corpus's annotation counts its
    own words, so a parser must not split them anew.

    An implementation gives one graph a sentence, in order, with exactly the
    words it was given; a post of several sentences is one graph with several
    roots.
    """
    @property
    def vocabulary(self) -> Vocabulary:
        r"""The dependency labels, with the name of their scheme."""
        ...

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[TextGraph]:
        r"""Parses a batch.

        Args:
            sentences (sequence of sequences): The words of each sentence.
        """
        ...
