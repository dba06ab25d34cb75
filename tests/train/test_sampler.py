from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmgraph.train import LengthBatchSampler


def lengths_of(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 60, (n,), generator=generator)


def flat(batches):
    return [i for batch in batches for i in batch]


@given(n=st.integers(0, 70), size=st.integers(1, 9),
       shuffle=st.booleans(), pool=st.integers(1, 4), epoch=st.integers(0, 5))
def test_every_index_once(n, size, shuffle, pool, epoch):
    sampler = LengthBatchSampler(lengths_of(n), size, shuffle, pool)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(flat(batches)) == list(range(n))
    assert len(batches) == len(sampler)
    assert all(0 < len(batch) <= size for batch in batches)


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = LengthBatchSampler(lengths_of(50), 8, seed=seed)
        sampler.set_epoch(epoch)
        torch.manual_seed(torch.randint(100, ()))  # of no importance
        return list(sampler)

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert orders == [order(seed, epoch) for seed in (0, 1)
                      for epoch in (0, 1, 2)]
    assert len({str(o) for o in orders}) == 6


def test_evaluation_is_sorted_and_never_changes():
    lengths = lengths_of(50)
    sampler = LengthBatchSampler(lengths, 8, shuffle=False)
    first = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == first
    sizes = lengths[flat(first)].tolist()
    assert sizes == sorted(sizes, reverse=True)
    # Equal lengths keep the order of the corpus, as predictions need it.
    same = LengthBatchSampler(torch.zeros(20), 6, shuffle=False)
    assert flat(same) == list(range(20))


def padding(lengths, batches):
    return sum(int(lengths[b].max()) * len(b) - int(lengths[b].sum())
               for b in batches) / int(lengths.sum())


def test_little_padding():
    lengths = lengths_of(2000)
    bucketed = padding(lengths, LengthBatchSampler(lengths, 32))
    random = padding(lengths, LengthBatchSampler(torch.zeros(2000), 32))
    assert bucketed < 0.05 < 0.5 < random


@given(n=st.integers(0, 60), size=st.integers(1, 9),
       world=st.integers(1, 8), epoch=st.integers(0, 2))
def test_training_shards_are_equal(n, size, world, epoch):
    if 0 < n < world:
        return
    shards = []
    for rank in range(world):
        sampler = LengthBatchSampler(lengths_of(n), size, rank=rank,
                                     world_size=world)
        sampler.set_epoch(epoch)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    assert len({len(shard) for shard in shards}) == 1
    seen = Counter(flat(batch for shard in shards for batch in shard))
    assert set(seen) == set(range(n))
    alone = LengthBatchSampler(lengths_of(n), size)
    alone.set_epoch(epoch)
    steps = list(zip(*shards, strict=True))  # what is added up in a step
    dealt = [batch for step in steps for batch in step]
    assert dealt[:len(alone)] == list(alone)
    # Whole batches are filled in, fewer than there are processes.
    assert len(dealt) - len(alone) < world


@given(n=st.integers(0, 60), size=st.integers(1, 9), world=st.integers(1, 8))
def test_evaluation_shards_are_exact(n, size, world):
    if 0 < n < world:
        return
    shards = [list(LengthBatchSampler(lengths_of(n), size, False, rank=rank,
                                      world_size=world))
              for rank in range(world)]
    assert sorted(flat(b for shard in shards for b in shard)) == list(range(n))
    for rank, shard in enumerate(shards):
        assert len(shard) == len(LengthBatchSampler(
            lengths_of(n), size, False, rank=rank, world_size=world))
        # One that had none would not join in when the scores are added up.
        assert n == 0 or shard


def test_resume_inside_an_epoch():
    sampler = LengthBatchSampler(lengths_of(50), 8)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.skip = 3
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[3:]
    assert list(sampler) == whole  # once only


def test_lightning_finds_the_epoch():
    # It looks for `set_epoch` on the sampler of the batch sampler.
    sampler = LengthBatchSampler(lengths_of(9), 2)
    assert sampler.sampler is sampler


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"'batch_size' must be positive "
                                         r'\(got 0\)'):
        LengthBatchSampler(lengths_of(3), 0)
    with pytest.raises(ValueError, match=r'4 processes for 3 posts'):
        LengthBatchSampler(lengths_of(3), 2, world_size=4)
