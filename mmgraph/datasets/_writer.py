"""Writes the texts of ``SyntheticPosts``."""
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar, cast

import numpy as np

from mmgraph.datasets import _grammar as grammar

__all__ = ['Clause', 'Dice', 'Text', 'Writer']

T = TypeVar('T')

_MIN_WORDS, _MAX_WORDS = 6, 25  # A clause, on average.


class Clause(NamedTuple):
    r"""What a sentence is to say of two mentions."""
    types: tuple[str, str]
    cues: list[str]
    verb: tuple[str, str] | None  # With its preposition.
    relation: str | None  # None: that of one of the cues, as the image shows.

    @property
    def signs(self) -> set[str]:
        r"""The relations that the words name."""
        named = {grammar.CUE_RELATION[cue] for cue in self.cues}
        return named if self.verb is None else {
            *named, grammar.VERB_RELATION[self.verb[0]]}


class Text(NamedTuple):
    words: list[str]
    heads: list[int]
    labels: list[str]
    pos: list[str]
    #: ((start, end), type) of the head and the tail mention of each clause.
    mentions: list[tuple[tuple[int, int], str]]
    #: (word position, object class or type of mention) of what can be shown.
    referents: list[tuple[int, str]]
    clauses: Sequence[Clause]
    #: The word whose type the text does not tell; -1 if there is none.
    alias: int = -1

    @property
    def cues(self) -> list[str]:
        return [cue for clause in self.clauses for cue in clause.cues]

    def named(self, name: str, kind: str) -> 'Text':
        r"""The same text about something else of an untold type."""
        words, (head, (span, _)) = self.words.copy(), self.mentions
        words[self.alias] = name
        return self._replace(words=words, mentions=[head, (span, kind)])


class Item(NamedTuple):
    forms: tuple[str, ...]  # Alternatives; or one slot.
    pos: str  # Empty for a slot.
    label: str
    head: int  # Position of the governing item; -1 for the root.


class Dice:
    r"""A stream of uniform numbers; drawing them in bulk makes one cheap."""
    def __init__(self, seed: list[int]) -> None:
        self._generator = np.random.default_rng(seed)
        self._numbers: list[float] = []

    def roll(self) -> float:
        if not self._numbers:
            self._numbers = self._generator.random(4096).tolist()
        return self._numbers.pop()

    def below(self, size: int) -> int:
        return int(self.roll() * size)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def sample(self, items: Sequence[T], size: int) -> list[T]:
        return self.shuffled(items)[:size]


def _compile(pattern: str) -> list[list[Item]]:
    r"""The variants of a pattern, with and without its optional phrases, each
    as a flat list in text order.
    """
    tokens = re.findall(r'\[|\]|[^\s\[\]]+', pattern)

    def parse(i: int) -> tuple[list[list[Item]], int]:
        # Heads are counted from the start of the phrase; the phrase's own
        # head word has -1.
        label, i = tokens[i], i + 1
        optional, label = label.startswith('?'), label.lstrip('?')
        # Each variant: (items, position of the head word, pending children).
        variants: list[tuple[list[Item], int, list[int]]] = [([], -1, [])]
        while tokens[i] != ']':
            if tokens[i] == '[':
                inner, i = parse(i + 1)
                grown = []
                for items, head, pending in variants:
                    for more in inner:
                        at = len(items)
                        moved = [item._replace(head=item.head + at)
                                 if item.head >= 0 else item for item in more]
                        tops = [at + j for j, item in enumerate(more)
                                if item.head < 0]
                        grown.append((items + moved, head, pending + tops))
                variants = grown
            else:
                form, _, pos = tokens[i].rpartition('/')
                item = Item(tuple((form or pos).split('|')),
                             pos if form else '', label, -1)
                variants = [([*items, item], len(items), pending)
                            for items, _, pending in variants]
            i += 1
        done = []
        for items, head, pending in variants:
            for child in pending:
                items[child] = items[child]._replace(head=head)
            done.append(items)
        return ([[], *done] if optional else done), i

    return parse(1)[0]


class Writer:
    r"""Writes texts; no text twice."""
    _patterns = [_compile(pattern) for pattern in grammar.PATTERNS]
    _verb_patterns = [_compile(pattern) for pattern in grammar.VERB_PATTERNS]
    # Types are drawn in proportion to their relations.
    _types = [types for types, relations
              in grammar.RELATIONS_OF_TYPES.items() for _ in relations]
    _negative_share = 0.3

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.seen: set[str] = set()

    def ambiguous(self, num_choices: int) -> Text:
        r"""A text with cues of :obj:`num_choices` relations."""
        return self._compose([self._open(num_choices)])

    def decided(self) -> tuple[Text, str]:
        r"""A text that tells its relation, and the relation."""
        clause = self._told()
        return self._compose([clause]), cast(str, clause.relation)

    def untold(self) -> Text:
        r"""A text whose tail tells nothing, to be :meth:`Text.named`."""
        cued = self.dice.roll() < 0.6
        return self._compose([Clause(
            ('PER', ''), [self._cue(grammar.NEGATIVE)] if cued else [], None,
            grammar.NEGATIVE)])

    def several(self, opened: Sequence[bool], num_choices: int) -> Text:
        r"""A text of as many clauses, of which those that are
        :obj:`opened` have cues of :obj:`num_choices` relations. No two
        clauses name the same relation, and no two names share a word.
        """
        while True:
            clauses = [self._open(num_choices) if free else self._told()
                       for free in opened]
            signs = [sign for clause in clauses for sign in clause.signs]
            if len(set(signs)) == len(signs):
                break
        while True:
            text = self._compose(clauses)
            names = [word for word, pos in zip(text.words, text.pos)
                     if pos == 'PROPN']
            if len(set(names)) == len(names):
                return text

    def _open(self, num_choices: int) -> Clause:
        dice = self.dice
        types = dice.pick(self._types)
        relations = list(grammar.RELATIONS_OF_TYPES[types])
        if (dice.roll() < self._negative_share * num_choices
                or len(relations) < num_choices):
            chosen = dice.sample(relations, num_choices - 1)
            chosen.append(grammar.NEGATIVE)
        else:
            chosen = dice.sample(relations, num_choices)
        cues = [self._cue(relation) for relation in dice.shuffled(chosen)]
        return Clause(types, cues, None, None)

    def _told(self) -> Clause:
        dice = self.dice
        types = dice.pick(self._types)
        if dice.roll() < self._negative_share:
            relation = grammar.NEGATIVE
            cued = dice.roll() < 0.6
            return Clause(types, [self._cue(relation)] if cued else [], None,
                          relation)
        relation = dice.pick(grammar.RELATIONS_OF_TYPES[types])
        roll = dice.roll()
        if roll < 0.6:  # By one cue, or two that agree.
            labels = dice.sample(grammar.CUE_CLASSES[relation],
                                 2 if roll < 0.1 else 1)
            cues = [dice.pick(grammar.CUES[relation][label])
                    for label in labels]
            return Clause(types, cues, None, relation)
        cues = [self._cue(relation)] if roll < 0.8 else []
        verb = dice.pick(grammar.VERBS[relation])
        return Clause(types, cues, verb, relation)

    def _cue(self, relation: str) -> str:
        label = self.dice.pick(grammar.CUE_CLASSES[relation])
        return self.dice.pick(grammar.CUES[relation][label])

    def _compose(self, clauses: Sequence[Clause]) -> Text:
        least, most = _MIN_WORDS * len(clauses), _MAX_WORDS * len(clauses)
        while True:
            text = self._fill(clauses)
            key = ' '.join(text.words)
            if least <= len(text.words) <= most and key not in self.seen:
                self.seen.add(key)
                return text

    def _fill(self, clauses: Sequence[Clause]) -> Text:
        dice = self.dice
        items: list[Item] = []
        part: list[int] = []  # The clause of each item.
        sites: list[list[list[str]]] = []
        swap: list[bool] = []
        context = tuple(grammar.CONTEXT)
        for i, clause in enumerate(clauses):
            phrase = dice.pick(dice.pick(
                self._patterns if clause.verb is None
                else self._verb_patterns))
            sites.append(self._sites(
                clause.cues, sum(item.forms == ('N', ) for item in phrase),
                context))
            used = {grammar.CLASS_OF_WORD[noun] for site in sites[-1]
                    for noun in site}
            context = tuple(label for label in context if label not in used)
            # The person that the pattern speaks of is the head of the
            # relation, except that two persons take either role.
            swap.append(clause.types[1] == 'PER' and dice.roll() < 0.5)
            items += self._joined(items, phrase) if i else phrase
            part += [i] * (len(items) - len(part))
        page = Page(dice)
        if dice.roll() < 0.15:
            page.add(dice.pick(grammar.OPENERS), 'INTJ', 'intj', -1)
        at = []  # The word of each item.
        for item, i in zip(items, part):
            _, other = clauses[i].types
            verb, slot = clauses[i].verb, item.forms[0]
            head, tail = 2 * i + swap[i], 2 * i + (not swap[i])
            if item.pos:
                at.append(page.add(dice.pick(item.forms), item.pos,
                                   item.label, item.head))
            elif slot == 'P':
                at.append(page.mention('PER', item.label, item.head, head))
            elif slot == 'O':
                at.append(page.mention(other, item.label, item.head, tail))
            elif slot == 'L':
                at.append(page.place(item.label, item.head))
            elif slot == 'N':
                at.append(page.nouns(sites[i].pop(), item.label, item.head))
            elif verb is not None:  # 'V'
                at.append(page.add(verb[0], 'VERB', item.label, item.head))
                page.verb_object(verb[1], other, at[-1], tail)
        heads = page.close(at, items)
        return Text(page.words, heads, page.labels, page.pos,
                    [page.mentions[i] for i in range(2 * len(clauses))],
                    page.referents, clauses, page.alias)

    def _joined(self, before: list[Item], phrase: list[Item]) -> list[Item]:
        r"""A phrase and the words that join it to the first one's root."""
        root = next(i for i, item in enumerate(before) if item.head < 0)
        link, label = self.dice.pick(grammar.LINKS)
        start = len(before) + len(link)
        return [Item((word, ), pos, name, root) for word, pos, name in link] + [
            item._replace(head=item.head + start) if item.head >= 0 else
            item._replace(head=root, label=label) for item in phrase]

    def _sites(self, cues: list[str], size: int,
               context: Sequence[str]) -> list[list[str]]:
        r"""The nouns of each noun phrase: cues at random places, the rest
        filled with context, further cues coordinated.
        """
        dice = self.dice
        order = dice.shuffled(range(size))
        sites: list[list[str]] = [[] for _ in order]
        for i, cue in enumerate(cues):
            sites[order[i % size]].append(cue)
        labels = dice.sample(context, size)
        for site, label in zip(sites, labels):
            if not site:
                site.append(dice.pick(grammar.CONTEXT[label]))
        return sites


class Page:
    r"""The columns of a text while it is written. A governor is a word
    (:obj:`page.heads`) or, not yet known, an item of the pattern
    (:obj:`page.owners`).
    """
    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.words: list[str] = []
        self.pos: list[str] = []
        self.labels: list[str] = []
        self.heads: list[int | None] = []
        self.owners: list[int] = []
        self.mentions: dict[int, tuple[tuple[int, int], str]] = {}
        self.referents: list[tuple[int, str]] = []
        self.alias = -1

    def add(self, word: str, pos: str, label: str, owner: int,
            head: int | None = None) -> int:
        self.words.append(word)
        self.pos.append(pos)
        self.labels.append(label)
        self.owners.append(owner)
        self.heads.append(head)
        return len(self.words) - 1

    def name(self, kind: str) -> list[str]:
        dice = self.dice
        if kind == 'PER':
            roll = dice.roll()
            if roll < 0.1:
                return [dice.pick(grammar.HANDLES)]
            return [dice.pick(grammar.FIRST_NAMES),
                    dice.pick(grammar.SURNAMES)]
        if kind == 'LOC':
            return [dice.pick(grammar.PLACE_NAMES)]
        if kind == 'ORG':
            name = [dice.pick(grammar.ORGANISATION_NAMES)]
            if dice.roll() < 0.5:
                name.append(dice.pick(grammar.ORGANISATION_ENDINGS))
            return name
        return [dice.pick(grammar.WORK_FIRST), dice.pick(grammar.WORK_LAST)]

    def mention(self, kind: str, label: str, owner: int, number: int,
                head: int | None = None) -> int:
        if not kind:
            self.alias = at = self.add('', 'PROPN', label, owner, head)
            self.mentions[number] = (at, at + 1), kind
            return at
        *first, last = self.name(kind)
        start = len(self.words)
        for word in first:
            self.add(word, 'PROPN', 'compound', -1, start + len(first))
        at = self.add(last, 'PROPN', label, owner, head)
        self.mentions[number] = (start, at + 1), kind
        self.referents.append((at, kind))
        return at

    def place(self, label: str, owner: int) -> int:
        at = self.add(self.name('LOC')[0], 'PROPN', label, owner)
        self.referents.append((at, 'LOC'))
        return at

    def nouns(self, nouns: list[str], label: str, owner: int) -> int:
        first = self._noun(nouns[0], label, owner, None)
        for noun in nouns[1:]:
            self.add('and', 'CCONJ', 'cc', -1, first)
            self._noun(noun, 'conj', -1, first)
        return first

    def _noun(self, noun: str, label: str, owner: int,
              head: int | None) -> int:
        dice = self.dice
        modifiers = []
        if dice.roll() < 0.4:  # Posts are terse.
            modifiers.append((dice.pick(grammar.DETERMINERS), 'DET', 'det'))
        if dice.roll() < 0.25:
            modifiers.append((dice.pick(grammar.ADJECTIVES), 'ADJ', 'amod'))
        at = len(self.words) + len(modifiers)
        for modifier in modifiers:
            self.add(*modifier, -1, at)
        self.add(noun, 'NOUN', label, owner, head)
        self.referents.append((at, grammar.CLASS_OF_WORD[noun]))
        return at

    def verb_object(self, prep: str, kind: str, verb: int,
                    number: int) -> None:
        if prep:
            verb = self.add(prep, 'ADP', 'prep', -1, verb)
        self.mention(kind, 'pobj' if prep else 'dobj', -1, number, verb)

    def close(self, at: list[int], items: list[Item]) -> list[int]:
        r"""Ends the text and tells every word's governor."""
        dice = self.dice
        if dice.roll() < 0.6:
            self.add(dice.pick(grammar.ENDINGS), 'PUNCT', 'punct', -1)
        for tag in dice.sample(grammar.HASHTAGS, (0, 0, 1, 2)[dice.below(4)]):
            self.add(tag, 'X', 'dep', -1)
        root = at[next(i for i, item in enumerate(items) if item.head < 0)]
        heads = [root if head is None and owner < 0 else
                 at[owner] if head is None else head
                 for head, owner in zip(self.heads, self.owners)]
        heads[root] = -1
        return heads
