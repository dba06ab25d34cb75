"""Ragged rows ↔ padded tensors."""
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph.data import ptr_from_sizes

__all__ = [
    'first_of_group', 'pad_rows', 'range_of_group', 'row_ptr', 'rows_of'
]


def rows_of(batch: HeteroData, node_type: str) -> tuple[Tensor, Tensor]:
    r"""The graph of each node :obj:`[N]` and the offsets :obj:`[B + 1]` of one
    node store, for a batch of posts or for a single one.
    """
    store = batch[node_type]
    vector = store.get('batch')
    if vector is not None:
        return vector, store.ptr
    edge = next(iter(batch.edge_stores)).edge_index
    n = int(store.num_nodes)
    return edge.new_zeros(n), edge.new_tensor([0, n])


def row_ptr(sizes: list[int], like: Tensor) -> Tensor:
    r"""Offsets on the device of :obj:`like`."""
    return ptr_from_sizes(torch.tensor(sizes, device=like.device))


def pad_rows(
    x: Tensor,
    batch: Tensor,
    ptr: Tensor,
    value: float = 0.0,
    size: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Ragged rows as a padded tensor, padded to the longest of the batch.

    Args:
        x (torch.Tensor): Rows :obj:`[N, *]`, sorted by graph.
        batch (torch.Tensor): The graph of each row, :obj:`[N]`.
        ptr (torch.Tensor): Offsets :obj:`[B + 1]`.
        value (float, optional): What to pad with. (default: :obj:`0.0`)
        size (int, optional): Pads to this length instead; longer graphs are
            cut. (default: :obj:`None`)

    Returns:
        The padded rows :obj:`[B, L, *]` and the mask :obj:`[B, L]`, which is
        :obj:`True` on real rows: :obj:`padded[mask]` gives the rows back.
    """
    sizes = ptr.diff()
    longest = int(sizes.max()) if sizes.numel() else 0
    length = longest if size is None else size
    place = torch.arange(x.size(0), device=x.device) - ptr[batch]
    if length < longest:
        kept = place < length
        x, batch, place = x[kept], batch[kept], place[kept]
    mask = (torch.arange(length, device=x.device) < sizes.unsqueeze(1))
    padded = x.new_full((sizes.numel(), length, *x.shape[1:]), value)
    padded[batch, place] = x
    return padded, mask


def first_of_group(
    index: Tensor,
    value: Tensor,
    num_groups: int,
    fill: int = -1,
) -> Tensor:
    r"""The smallest :obj:`value` of each group, :obj:`[num_groups]`;
    :obj:`fill` for a group without any.

    Args:
        index (torch.Tensor): The group of each value.
        value (torch.Tensor): Integers.
        num_groups (int): Number of groups.
        fill (int, optional): For empty groups. (default: :obj:`-1`)
    """
    big = torch.iinfo(value.dtype).max
    out = value.new_full((num_groups,), big)
    out = out.scatter_reduce(0, index, value, 'amin')
    return torch.where(out == big, torch.full_like(out, fill), out)


def range_of_group(
    index: Tensor,
    value: Tensor,
    num_groups: int,
) -> tuple[Tensor, Tensor]:
    r"""The smallest value of each group, and one behind the largest,
    :obj:`[num_groups]` each: the start and end of a mention from its words.
    An empty group has -1 and 0.

    Args:
        index (torch.Tensor): The group of each value.
        value (torch.Tensor): Integers.
        num_groups (int): Number of groups.
    """
    start = first_of_group(index, value, num_groups)
    return start, 1 - first_of_group(index, -value, num_groups, fill=1)
