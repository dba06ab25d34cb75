"""Tagging word by word."""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgraph.nn.configurable import Configurable
from mmgraph.utils import check_at_least

__all__ = ['SoftmaxHead']


class SoftmaxHead(Configurable, nn.Module):
    r"""Tags each word by itself: a linear layer and a softmax, as BERT's
    authors tag (`"BERT: Pre-training of Deep Bidirectional Transformers for
    Language Understanding" <https://arxiv.org/abs/1810.04805>`_, Section
    5.3). Its tags need not be well-formed; how they are read is up to
    :func:`~mmgraph.parse.bio.spans_of_tags`.

    Args:
        in_channels (int): Size of a word's state.
        num_types (int): Number of types of mentions :math:`K`; there are
            :math:`T = 1 + 2K` tags (see :mod:`mmgraph.parse.bio`).

    Shapes:
        - **input:** states :math:`(n, F)`
        - **output:** emissions :math:`(n, T)`

    Raises:
        ValueError: If :obj:`num_types` is not positive.

    Example:
        >>> head = SoftmaxHead(8, num_types=2)
        >>> emissions, ptr = head(torch.zeros(3, 8)), torch.tensor([0, 2, 3])
        >>> head.loss(emissions, torch.tensor([1, 2, 0]), ptr) > 0
        tensor(True)
        >>> [len(tags) for tags in head.decode(emissions, ptr)]
        [2, 1]
    """
    def __init__(self, in_channels: int, num_types: int) -> None:
        super().__init__()
        check_at_least(1, num_types=num_types)
        self.num_types = num_types
        self.classifier = nn.Linear(in_channels, 1 + 2 * num_types)

    def reset_parameters(self) -> None:
        r"""Draws new weights."""
        self.classifier.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def loss(self, emissions: Tensor, tags: Tensor, ptr: Tensor) -> Tensor:
        r"""Cross-entropy of the gold tags, mean over the words; zero, and
        differentiable, if there is none.

        Args:
            emissions (torch.Tensor): :obj:`[n, T]`.
            tags (torch.Tensor): Gold tags :obj:`[n]`.
            ptr (torch.Tensor): Where each post's words start,
                :obj:`[B + 1]`; not read, it is there as in
                :class:`~mmgraph.nn.heads.CRFHead`.
        """
        emissions = emissions.float()
        if not tags.numel():  # The mean of no word would be NaN.
            return emissions.sum()
        return F.cross_entropy(emissions, tags)

    @torch.no_grad()
    def decode(self, emissions: Tensor, ptr: Tensor) -> list[list[int]]:
        r"""The most probable tag of each word."""
        tags = emissions.argmax(dim=-1).tolist()
        bounds = ptr.tolist()
        return [tags[i:j] for i, j in zip(bounds, bounds[1:])]
