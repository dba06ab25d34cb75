"""What task models read of a batch: one state a word, features of an image."""
import torch
from torch import Tensor

from mmgraph.data import Post, ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.nn.ragged import first_of_group, rows_of

__all__ = ['check_columns', 'image_rows', 'word_states']


def word_states(
    batch: Post,
    x: Tensor,
    node_type: str,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""One state a word from an encoder's rows: that of its first piece.

    Args:
        batch (Post): A batch of posts.
        x (torch.Tensor): States :obj:`[N, F]`, one a row of
            :obj:`batch[node_type]`.
        node_type (str): :obj:`'token'` or :obj:`'word'`.

    Returns:
        The states :obj:`[M, F]` of the words that have one, the rows
        :obj:`[M]` of these words, and offsets :obj:`[B + 1]`.
    """
    graph, ptr = rows_of(batch, 'word')
    if node_type == 'word':
        return x, torch.arange(x.size(0), device=x.device), ptr
    piece, word = batch['token', 'part_of', 'word'].edge_index
    first = first_of_group(word, piece, graph.numel())
    kept = (first >= 0).nonzero().view(-1)
    sizes = torch.bincount(graph[kept], minlength=ptr.numel() - 1)
    return x[first[kept]], kept, ptr_from_sizes(sizes)


def check_columns(x: Tensor, channels: int, option: str, name: str) -> None:
    r"""Features are of the size that a model was built for.

    Raises:
        ShapeError: If not.
    """
    if x.size(-1) != channels:
        raise ShapeError(f"'{name}' must have '{option}' = {channels} columns "
                         f'(got {x.size(-1)})', ('N', channels), x.shape)


def image_rows(
    batch: Post,
    node_type: str,
    channels: int,
    option: str,
    like: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Features of the regions or objects of a batch's images. Posts without
    that store are posts without an image.

    Args:
        batch (Post): A batch of posts.
        node_type (str): :obj:`'region'` or :obj:`'object'`.
        channels (int): The size of a row that the model was built for.
        option (str): The model's argument that says so.
        like (torch.Tensor): The states that they will meet: the dtype.

    Returns:
        The rows :obj:`[N, channels]`, the post of each :obj:`[N]`, and offsets
        :obj:`[B + 1]`.

    Raises:
        ShapeError: If rows have another size.
        ValueError: If there are such nodes, but without features.
    """
    if node_type in batch.node_types:
        store = batch[node_type]
        x = store.get('x')
        if x is not None:
            check_columns(x, channels, option, f'{node_type}.x')
            return x.to(like.dtype), *rows_of(batch, node_type)
        if store.num_nodes:
            raise ValueError(f"the posts' {node_type}s have no features "
                             f"('{node_type}.x')")
    ptr = torch.zeros_like(rows_of(batch, 'word')[1])
    return like.new_empty(0, channels), ptr.new_empty(0), ptr
