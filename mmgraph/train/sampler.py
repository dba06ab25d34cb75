"""Batches of posts of similar length."""
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

__all__ = ['LengthBatchSampler']


class LengthBatchSampler(Sampler[list[int]]):
    r"""Batches whose posts are about equally long, in random order.

    Shuffled posts are taken a pool at a time (:obj:`pool_size` batches), the
    pool is sorted by length and cut into batches, and the batches are
    shuffled: little padding, and still another order every epoch. It depends
    on :obj:`seed` and the epoch alone, so that a resumed run goes on with the
    batches it would have had.

    Under several processes each takes every :obj:`world_size`-th batch. While
    training, all processes get equally many (the last ones are filled with
    batches from the start); while evaluating, every post is seen exactly once,
    and no process is left without a batch (batches are smaller if need be).

    Args:
        lengths (torch.Tensor): The length of each post, :obj:`[N]`.
        batch_size (int): Posts a batch.
        shuffle (bool, optional): If :obj:`False`, one sorted pool, longest
            first. (default: :obj:`True`)
        pool_size (int, optional): Batches a pool. (default: :obj:`50`)
        seed (int, optional): Seed of the order. (default: :obj:`0`)
        rank (int, optional): This process. (default: :obj:`0`)
        world_size (int, optional): Number of processes.
            (default: :obj:`1`)

    Raises:
        ValueError: If :obj:`batch_size` is not positive, or there are fewer
            posts than processes.

    Example:
        >>> sampler = LengthBatchSampler(torch.tensor([3, 9, 4, 8]), 2,
        ...                              shuffle=False)
        >>> list(sampler)
        [[1, 3], [2, 0]]
    """
    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        shuffle: bool = True,
        pool_size: int = 50,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"'batch_size' must be positive "
                             f'(got {batch_size})')
        if 0 < lengths.numel() < world_size:
            raise ValueError(f"'world_size' must be at most the number of "
                             f'posts (got {world_size} processes for '
                             f'{lengths.numel()} posts)')
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.pool_size = pool_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        #: Batches that the next iteration leaves out: those a run that is
        #: resumed in the middle of an epoch has already had.
        self.skip = 0
        if not shuffle:
            self.batch_size = min(
                batch_size, max(1, lengths.numel() // world_size))

    @property
    def sampler(self) -> 'LengthBatchSampler':
        r"""Itself: Lightning calls :meth:`set_epoch` of
        :obj:`loader.batch_sampler.sampler`.
        """
        return self

    def set_epoch(self, epoch: int) -> None:
        r"""Chooses the order; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        if self.shuffle:
            missing = -len(batches) % self.world_size
            batches += [batches[i % len(batches)] for i in range(missing)]
        skip, self.skip = self.skip, 0
        yield from batches[self.rank::self.world_size][skip:]

    def __len__(self) -> int:
        total = math.ceil(self.lengths.numel() / self.batch_size)
        if self.shuffle:
            return math.ceil(total / self.world_size)
        return len(range(self.rank, total, self.world_size))

    def _batches(self) -> list[list[int]]:
        n, size = self.lengths.numel(), self.batch_size
        if n == 0:
            return []
        if not self.shuffle:
            order = self.lengths.argsort(descending=True, stable=True)
            return [part.tolist() for part in order.split(size)]
        generator = torch.Generator().manual_seed(
            self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(n, generator=generator)
        # The odd one out, a short last batch, may come at any place.
        batches: list[list[int]] = []
        for pool in order.split(size * self.pool_size):
            pool = pool[self.lengths[pool].argsort(stable=True)]
            batches += [part.tolist() for part in pool.split(size)]
        shuffled = torch.randperm(len(batches), generator=generator)
        return [batches[i] for i in shuffled.tolist()]
