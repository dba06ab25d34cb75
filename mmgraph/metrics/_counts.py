"""What the scores of all tasks share: ratios, and counts of processes."""
import torch
from torch import Tensor, distributed

__all__ = ['ratio', 'sum_over_processes']


def ratio(a: Tensor, b: Tensor) -> Tensor:
    r"""Element-wise :math:`a / b`; 0 without denominator."""
    return torch.where(b > 0, a / b.clamp(min=1e-300), torch.zeros_like(a))


def sum_over_processes(counts: Tensor) -> Tensor:
    r"""The counts of all processes together; those of this one stay."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return counts
    total = counts.clone()
    if distributed.get_backend() == 'nccl':
        total = total.cuda()
    distributed.all_reduce(total)
    return total.cpu()
