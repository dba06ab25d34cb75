"""Takes and draws the images of ``SyntheticPosts``."""
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary
from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets._events import kind_of_event
from mmgraph.datasets._writer import Dice, Text
from mmgraph.parse.bio import tags_of_spans

__all__ = ['Camera', 'Draft']

_MAX_OBJECTS = 10  # What MEGA's detector keeps.
# How often the image shows a word that it could show.
_SHOWN_MENTION, _SHOWN_CONTEXT = 0.95, 0.85
# How often something that the text does not name is related to anything.
_ATTACHED = 0.6
_GRID = (4, 3)  # Cells of the image; an object sits in one of them.
_NUM_REGIONS = 4
_SHOWN_EVENT = 2  # How many objects, and so regions, show an event.


class Draft(NamedTuple):
    text: Text
    relations: tuple[str, ...]  # One a clause.
    shown: tuple[str, ...]  # The cues that the image decides for.
    relevant: bool
    group: int
    #: The event that the text is about and the one that the image shows, if
    #: the type of its alias can be told from other posts' images only.
    event: int = -1
    shows: int = -1
    twins: int = -1  # Posts that are alike but for that.

    @property
    def hidden(self) -> list[str]:
        r"""The cues that the image decides against."""
        return [cue for clause in self.text.clauses if clause.relation is None
                for cue in clause.cues if cue not in self.shown]


class Shot(NamedTuple):
    labels: list[str]
    matches: list[tuple[int, int]]  # (word, object)
    edges: list[tuple[int, int, int]]  # (subject, object, predicate)
    decides: list[bool]  # Whether an object decides.


class Camera:
    r"""Takes the image of each post and runs a faulty detector over it."""
    def __init__(
        self,
        vocabularies: Mapping[str, Vocabulary],
        split: str,
        seed: Sequence[int],
        world_seed: Sequence[int],
        noise: float,
        distractors: int,
        object_dim: int,
    ) -> None:
        self.vocabularies = vocabularies
        self.split = split
        self.dice = Dice([*seed, 0])
        self.generator = np.random.default_rng([*seed, 1])
        self.region_dice = Dice([*seed, 2])
        self.region_generator = np.random.default_rng([*seed, 3])
        self.noise = noise
        self.distractors = distractors
        self.labels = list(vocabularies['object'])
        self.cues = [label for classes in grammar.CUE_CLASSES.values()
                     for label in classes]
        world = np.random.default_rng(list(world_seed))
        self.prototypes = world.standard_normal(
            (len(self.labels), object_dim), dtype=np.float32)
        self.prototypes *= math.sqrt(object_dim) / np.linalg.norm(
            self.prototypes, axis=1, keepdims=True)

    def take(self, drafts: list[Draft], regions: bool) -> list[Post]:
        shots = [self._shoot(draft) for draft in drafts]
        sizes = [len(shot.labels) for shot in shots]
        ptr = np.cumsum([0, *sizes])
        label = np.array(self.vocabularies['object'].to_ids(
            name for shot in shots for name in shot.labels), dtype=np.int64)
        x = self.generator.standard_normal(
            (label.size, self.prototypes.shape[1]), dtype=np.float32)
        x *= np.float32(self.noise)
        x += self.prototypes[label]
        flat = dict(x=x, label_id=label, box=self._boxes(label, ptr),
                    score=self._scores(ptr))
        store = {key: torch.from_numpy(value).split(sizes)
                 for key, value in flat.items()}
        region_x = self._regions(drafts, shots) if regions else None
        texts: dict[int, TextGraph] = {}
        posts = []
        for i, (draft, shot) in enumerate(zip(drafts, shots)):
            if draft.group not in texts:
                texts[draft.group] = self._parse(draft.text)
            table = _columns(shot.edges, 3)
            scene = SceneGraph.build(
                table[:2], sizes[i], table[2],
                **{key: value[i] for key, value in store.items()})
            post = Post.build(
                texts[draft.group], scene, post_id=f'{self.split}-{i}',
                region_x=None if region_x is None else region_x[i])
            if regions:
                word = torch.arange(len(draft.text.words))
                post['word'].cross = word == draft.text.alias
            post['word', 'matches', 'object'].edge_index = _columns(
                shot.matches, 2)
            post['object'].decides = torch.tensor(shot.decides,
                                                  dtype=torch.bool)
            post['image'].decides = torch.tensor([any(shot.decides)])
            post['image'].relevant = torch.tensor([draft.relevant])
            posts.append(post)
        return posts

    def _parse(self, text: Text) -> TextGraph:
        pos = self.vocabularies['pos'].to_ids(text.pos)
        kinds = self.vocabularies['entity']
        tags = tags_of_spans([(*span, kinds.to_id(kind))
                              for span, kind in text.mentions],
                             len(text.words))
        return TextGraph.from_heads(
            text.words, text.heads, text.labels,
            self.vocabularies['dependency'], pos_id=torch.tensor(pos),
            tag_id=torch.tensor(tags))

    def _shoot(self, draft: Draft) -> Shot:
        dice, text = self.dice, draft.text
        deciders = {grammar.CLASS_OF_WORD[cue] for cue in draft.shown}
        hidden = {grammar.CLASS_OF_WORD[cue] for cue in draft.hidden}
        # What no false object may be: anything that the text names, nor
        # another sign of a relation that it leaves open.
        named = {label for _, label in text.referents}
        seen: list[tuple[str, int]] = []  # (class, word or -1)
        if draft.relevant:
            signs = {grammar.CUE_RELATION[cue] for cue in text.cues}
            if len(text.clauses) > 1:  # Nor a sign of what a verb tells.
                signs = signs.union(*(one.signs for one in text.clauses))
            for sign in signs:
                named.update(grammar.CUE_CLASSES[sign])
            for word, label in text.referents:
                if label in grammar.SHOWN_AS:
                    shown = dice.roll() < _SHOWN_MENTION
                    label = dice.pick(grammar.SHOWN_AS[label])
                elif label in grammar.CONTEXT:
                    shown = dice.roll() < _SHOWN_CONTEXT
                else:
                    shown = label not in hidden
                if shown and (label in deciders
                              or dice.roll() >= self.noise):
                    seen.append((label, word))
            # What every photo holds beside its subject, then plain errors.
            seen += [(label, -1) for label in dice.sample(
                [label for label in self.cues if label not in named],
                self.distractors)]
            seen += [(label, -1) for label in dice.sample(
                [label for label in grammar.CONTEXT if label not in named],
                dice.below(3))]
            false = sum(dice.roll() < self.noise for _ in range(3))
        elif draft.shows >= 0:
            named.update(*grammar.SHOWN_AS.values())
            seen += [(dice.pick(grammar.SHOWN_AS[kind_of_event(draft.shows)]),
                      -1) for _ in range(_SHOWN_EVENT)]
            seen += [(label, -1) for label in dice.sample(
                tuple(grammar.CONTEXT), dice.below(3))]
            false = sum(dice.roll() < self.noise for _ in range(3))
        else:
            false = 3 + dice.below(6)
        others = [label for label in self.labels if label not in named]
        seen += [(dice.pick(others), -1) for _ in range(false)]
        # Never too many: the deciding object comes before the false ones; of
        # several clauses, it may not, and anything else may be missed.
        if len(text.clauses) > 1 and len(seen) > _MAX_OBJECTS:
            seen = sorted(dice.shuffled(seen),
                          key=lambda one: one[0] not in deciders)
        seen = seen[:_MAX_OBJECTS]
        seen = dice.shuffled(seen)
        labels = [label for label, _ in seen]
        edges = self._edges(draft, {word: i for i, (_, word)
                                    in enumerate(seen) if word >= 0},
                            len(seen))
        return Shot(labels,
                     sorted((word, i) for i, (_, word) in enumerate(seen)
                            if word >= 0),
                     [(s, o, self._predicate(labels[s], labels[o]))
                      for s, o in edges],
                     [label in deciders for label in labels])

    def _edges(self, draft: Draft, place: dict[int, int],
               size: int) -> list[tuple[int, int]]:
        dice = self.dice
        pairs = []
        if draft.relevant:
            # Two words are joined if the path between them in the tree holds
            # no other shown word: all words that hang on the same piece of
            # the tree that is not shown, and the shown word above it.
            pieces: dict[int, list[int]] = {}
            for word in sorted(place):
                piece, up = word, draft.text.heads[word]
                while up >= 0 and up not in place:
                    piece, up = up, draft.text.heads[up]
                if up >= 0:
                    pairs.append((place[up], place[word]))
                others = pieces.setdefault(piece, [])
                pairs += [(other, place[word]) for other in others]
                others.append(place[word])
            pairs = [pair for pair in pairs if dice.roll() >= self.noise]
        # What the text does not name often belongs to its main thing: hubs
        # of the tree are hubs of the scene.
        named = set(place.values())
        hub = -1
        if draft.relevant and place:
            count = Counter(draft.text.heads)
            hub = place[max(sorted(place), key=lambda word: count[word])]
        for i in range(size if size > 1 else 0):
            rate = self.noise if i in named else _ATTACHED
            if dice.roll() < rate:
                other = hub
                if hub in (-1, i) or dice.roll() < self.noise:
                    other = (i + 1 + dice.below(size - 1)) % size
                if (i, other) not in pairs and (other, i) not in pairs:
                    pairs.append((other, i))
        return sorted(pairs)

    def _predicate(self, subject: str, other: str) -> int:
        kinds = grammar.kind_of(subject), grammar.kind_of(other)
        label = self.dice.pick(grammar.PREDICATES[kinds])
        return int(self.vocabularies['predicate'].to_id(label))

    def _regions(self, drafts: list[Draft], shots: list[Shot]) -> Tensor:
        r"""Features of the regions: each shows one object or, where there
        are too few, nothing. Those that show an event come first.
        """
        dice, names = self.region_dice, self.vocabularies['object']
        rows = []
        for draft, shot in zip(drafts, shots, strict=True):
            event = (grammar.SHOWN_AS[kind_of_event(draft.shows)]
                     if draft.shows >= 0 else ())
            labels = sorted(dice.shuffled(shot.labels),
                            key=lambda name: name not in event)
            cells = names.to_ids(labels[:_NUM_REGIONS])
            cells += [-1] * (_NUM_REGIONS - len(cells))
            rows.append(dice.shuffled(cells))
        cell = np.array(rows)
        x = self.region_generator.standard_normal(
            (*cell.shape, self.prototypes.shape[1]), dtype=np.float32)
        x *= np.float32(self.noise)
        x += np.where(cell[..., None] >= 0, self.prototypes[cell], 0)
        return torch.from_numpy(x)

    def _scores(self, ptr: Any) -> Any:
        r"""Detection scores, falling within each image."""
        image = np.repeat(np.arange(ptr.size - 1), np.diff(ptr))
        score = self.generator.uniform(0.3, 1.0, image.size)
        return score[np.lexsort((-score, image))].astype(np.float32)

    def _boxes(self, label: Any, ptr: Any) -> Any:
        r"""One box a cell of a grid. Sizes depend on the kind of object only,
        so that boxes do not tell cues apart.
        """
        columns, rows = _GRID
        image = np.repeat(np.arange(ptr.size - 1), np.diff(ptr))
        cells = self.generator.random((ptr.size - 1, columns * rows))
        cell = cells.argsort(1)[image, np.arange(label.size) - ptr[image]]
        kinds = [grammar.kind_of(name) for name in self.labels]
        reach = np.array([{'person': (0.9, 1.2), 'place': (1.3, 1.2),
                           'thing': (0.8, 0.8)}[kind] for kind in kinds])
        jitter = self.generator.uniform(-0.1, 0.1, (label.size, 2))
        scale = self.generator.uniform(0.85, 1.1, (label.size, 1))
        grid = np.array([columns, rows])
        centre = (np.stack([cell % columns, cell // columns], 1)
                  + 0.5 + jitter) / grid
        half = reach[label] * scale / grid / 2
        return np.concatenate([centre - half, centre + half], 1).clip(
            0, 1).astype(np.float32)


def _columns(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    if not rows:
        return torch.empty(width, 0, dtype=torch.long)
    return torch.tensor(rows).t().contiguous()
