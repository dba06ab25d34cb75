"""Tagging with a conditional random field."""
from torch import Tensor, nn

from mmgraph.nn.configurable import Configurable
from mmgraph.nn.crf import Constraint, LinearChainCRF
from mmgraph.utils import check_at_least

__all__ = ['CRFHead']


class CRFHead(Configurable, nn.Module):
    r"""Tags the words of a post together: a linear layer and a conditional
    random field (:class:`~mmgraph.nn.crf.LinearChainCRF`) over it, from the
    `"Neural Architectures for Named Entity Recognition"
    <https://arxiv.org/abs/1603.01360>`_ paper (Section 2.2).

    Args:
        in_channels (int): Size of a word's state.
        num_types (int): Number of types of mentions :math:`K`; there are
            :math:`T = 1 + 2K` tags (see :mod:`mmgraph.parse.bio`).
        constraint (str, optional): Where only well-formed tags count:
            :obj:`'always'`, in :obj:`'decoding'`, or :obj:`'never'`; see
            :class:`~mmgraph.nn.crf.LinearChainCRF`.
            (default: :obj:`'always'`)

    Shapes:
        - **input:** states :math:`(n, F)`
        - **output:** emissions :math:`(n, T)`

    Raises:
        ValueError: If :obj:`num_types` is not positive or :obj:`constraint`
            unknown; by :meth:`loss` if gold tags are ill-formed where
            :obj:`constraint` is :obj:`'always'`.

    Example:
        >>> import torch
        >>> head = CRFHead(8, num_types=2)
        >>> emissions, ptr = head(torch.zeros(3, 8)), torch.tensor([0, 3])
        >>> head.loss(emissions, torch.tensor([1, 2, 0]), ptr) > 0
        tensor(True)
        >>> len(head.decode(emissions, ptr)[0])
        3
    """
    def __init__(
        self,
        in_channels: int,
        num_types: int,
        constraint: Constraint = 'always',
    ) -> None:
        super().__init__()
        check_at_least(1, num_types=num_types)
        self.num_types = num_types
        self.classifier = nn.Linear(in_channels, 1 + 2 * num_types)
        self.crf = LinearChainCRF(1 + 2 * num_types, num_types, constraint)

    def reset_parameters(self) -> None:
        r"""Draws new weights."""
        self.classifier.reset_parameters()
        self.crf.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def loss(self, emissions: Tensor, tags: Tensor, ptr: Tensor) -> Tensor:
        r"""The negative log-likelihood of the gold tags, mean over the posts
        that have words; zero, and differentiable, if none has.

        Args:
            emissions (torch.Tensor): :obj:`[n, T]`.
            tags (torch.Tensor): Gold tags :obj:`[n]`.
            ptr (torch.Tensor): Where each post's words start,
                :obj:`[B + 1]`.
        """
        posts = (ptr.diff() > 0).sum()
        return self.crf(emissions, tags, ptr).sum() / posts.clamp(min=1)

    def decode(self, emissions: Tensor, ptr: Tensor) -> list[list[int]]:
        r"""The most probable tags of each post."""
        return self.crf.decode(emissions, ptr)
