"""What posts of ``SyntheticPosts`` have in common: events."""
import zlib
from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets._writer import Dice

__all__ = ['KINDS', 'Group', 'alias', 'draw_keys', 'kind_of_event', 'plan']

#: The types of events. Event e is of type e modulo their number; nothing else
#: of an event depends on its number.
KINDS = tuple(grammar.SHOWN_AS)

_KEY_DIM = 64


def kind_of_event(event: int) -> str:
    r"""The type of an event."""
    return KINDS[event % len(KINDS)]


class Group(NamedTuple):
    r"""Twins: one post a type, alike but for the alias and the event."""
    texts: list[int]  # The event that each text is about.
    images: list[int]  # The event that each image shows; all of one type.


def plan(num_groups: int, num_events: int, dice: Dice) -> list[Group]:
    r"""The events of each group. Every event has its turn as often as any
    other of its type. No post's image shows the event of its text.
    """
    kinds, per_kind = len(KINDS), num_events // len(KINDS)
    texts = [dice.shuffled(range(per_kind)) for _ in KINDS]
    images = [dice.shuffled(range(per_kind)) for _ in KINDS]
    turn = [0] * kinds
    shown = [g % kinds for g in range(num_groups)]
    groups = []
    for g, kind in enumerate(dice.shuffled(shown)):
        order = dice.shuffled(range(kinds))
        about = [texts[k][g % per_kind] * kinds + k for k in order]
        shows = [images[kind][(turn[kind] + i) % per_kind] * kinds + kind
                 for i in range(kinds)]
        turn[kind] += kinds
        own = order.index(kind)
        other = next(i for i, event in enumerate(shows)
                     if event != about[own])
        if shows[own] == about[own]:
            shows[own], shows[other] = shows[other], shows[own]
        groups.append(Group(about, shows))
    return groups


def alias(dice: Dice, split: int, num_splits: int, taken: Set[str]) -> str:
    r"""A word that is nowhere else: not in :obj:`taken`, and in no other
    split, because a checksum deals all possible words out to the splits.
    """
    while True:
        word = ''.join(dice.pick(grammar.ALIAS_CONSONANTS)
                       + dice.pick(grammar.ALIAS_VOWELS)
                       for _ in range(4)).capitalize()
        if (word not in taken
                and zlib.crc32(word.encode()) % num_splits == split):
            return word


def draw_keys(
    events: Sequence[Tensor],
    num_events: int,
    noise: float,
    world_seed: Sequence[int],
    seed: Sequence[int],
) -> list[Tensor]:
    r"""What an encoder would tell of some texts (or images): the signature of
    the event that they are about, plus Gaussian noise. What is about no event
    has a signature of its own, one for all that share a position.

    Args:
        events (sequence of torch.Tensor): One tensor an encoder: the event of
            each item, or -1, all of one size.
        num_events (int): Number of events.
        noise (float): Length of the noise, relative to that of a signature.
        world_seed (sequence of int): Seed of the events' signatures.
        seed (sequence of int): Seed of everything else.
    """
    world = np.random.default_rng(list(world_seed))
    signature = world.standard_normal((num_events, _KEY_DIM))
    generator = np.random.default_rng(list(seed))
    own = generator.standard_normal((events[0].numel(), _KEY_DIM))
    keys = []
    for event in events:
        index = event.numpy()
        key = np.where(index[:, None] >= 0, signature[index], own)
        key = key + noise * generator.standard_normal(key.shape)
        keys.append(torch.from_numpy(key).float())
    return keys
