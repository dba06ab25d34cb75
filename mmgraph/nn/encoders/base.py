"""The interface of text encoders."""
from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from mmgraph.data import Post
from mmgraph.nn.configurable import Configurable

__all__ = ['TextEncoder']


class TextEncoder(Configurable, nn.Module, ABC):
    r"""Turns the text of a batch of posts into one state a token or word.

    Attributes:
        node_type (str): :obj:`'token'` or :obj:`'word'`: the store whose rows
            :meth:`forward` returns states for.
        out_channels (int): Size of each state.
    """
    node_type: Literal['token', 'word']
    out_channels: int

    @abstractmethod
    def forward(self, batch: Post) -> Tensor:
        r"""Returns the states :obj:`[N, out_channels]`, one a row of
        :obj:`batch[node_type]`, in the same order.
        """
