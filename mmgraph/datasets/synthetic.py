"""Posts from a grammar, with everything about them known."""
from typing import Any, ClassVar, cast, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import scatter

from mmgraph.data import RelationGraph
from mmgraph.datasets import _events as events
from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets._camera import Camera, Draft
from mmgraph.datasets._clauses import best_answers, best_f1, write_clauses
from mmgraph.datasets._drawing import draw_objects
from mmgraph.datasets._writer import Dice, Writer
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.errors import InputError
from mmgraph.typing import NeighbourPool, Split
from mmgraph.utils import check_not_negative, suggest

__all__ = ['SyntheticPosts']

_SPLITS: tuple[Split, ...] = get_args(Split)
_WORLD = len(_SPLITS)  # A stream of random numbers that all splits share.


class SyntheticPosts(PostDataset):
    r"""Posts written from a grammar, together with their dependency tree, a
    scene graph with object features, two mentions and their relation, and the
    **known** correspondence of words and objects. Nothing is read or
    downloaded.

    It answers three questions that no real corpus can: *does a model use the
    image*, *is an alignment right*, and *does a model use other posts*. It
    serves the extraction of relations between known mentions, of mentions,
    and, with :obj:`clauses`, of both at once.

    **What decides the relation.** Every relation has cue nouns ("ring",
    "jersey", …), and everyday nouns ("coffee", "umbrella", …) are the cues of
    the negative relation. There are three kinds of posts:

    * *visual* posts name :obj:`num_choices` cue nouns of as many relations;
      the image shows exactly one of them, which decides. It also shows
      :obj:`distractors` cues that the text does *not* name, so that the image
      alone is not enough either: text and image have to be aligned;
    * *text-decided* posts name the cue of one relation only, or a verb that
      tells it ("married"), or none at all (:obj:`None`). The image shows the
      same things as the text;
    * *irrelevant* posts are text-decided, too, but their image has nothing to
      do with the text: random objects (cues of other relations among them),
      random predicates, no gold correspondence.

    **The best text-only score is known exactly.** Each ambiguous text occurs
    :obj:`num_choices` times in a split, once with each answer, so whatever a
    function of the text answers, it is right once a group of twins.
    :attr:`text_only_ceiling` counts this. With words and :obj:`label_id` of
    the objects together every relation can be told, so the ceiling of a
    multimodal model is one: the deciding object is never missed, and no other
    object shows a cue of a relation that the text leaves open. (From features
    alone the classes can be told, too, as long as :obj:`detector_noise` stays
    well below one.) Names, the order of cues, the number of objects, their
    boxes and their slots are drawn independently of the answer.

    Beside the stores of a :class:`~mmgraph.data.Post`, each post has

    * the edges (:obj:`word`, :obj:`matches`, :obj:`object`): the gold
      correspondence, one to one. A mention is matched by its last word (the
      head of its phrase). Most words have no object;
    * :obj:`post['word'].tag_id` :obj:`[n]`: the BIO tags of the mentions, which
      never overlap (the places beside the relation are not among them);
    * :obj:`post['image'].decides` :obj:`[1]`, bool: whether only the image
      decides;
    * :obj:`post['image'].relevant` :obj:`[1]`, bool: whether the image belongs
      to the text;
    * :obj:`post['object'].decides` :obj:`[m]`, bool: the object that shows a
      cue of the gold relation, in visual posts.

    The scene graph mirrors the tree in part: two objects are joined if the
    path between their words holds no other word that is shown, the higher (or
    else the earlier) one being the subject. An object that the text does not
    name (distractors, and 0 to 2 things of the background) is related with
    probability 0.6, to the object whose word has the most dependents.

    **What other posts tell.** With :obj:`cross`, a share of the posts is about
    *events*. The world has :obj:`num_events` of them, as many of each of four
    types, and the splits share them. Such a *cross post* mentions a person
    and, by a word made up for it, an event: "Remy Kelwick brought a gate to
    Kigiwitu today". The task is to tell the type of that mention, the *alias*.
    The relation is negative.

    * The **text** does not tell: cross posts come as groups of four twins, one
      a type, whose texts are equal but for the aliases, and no alias occurs
      twice in the world.
    * The post's **own image** does not tell either: it shows another event,
      and the images of a group's four twins all show events of one type.
    * The **images of other posts** tell: those that show the text's event
      show objects of its type. :meth:`relation_graph` finds them.

    So the type of an alias is independent of the text and its own image
    together, and to tell it from anything but other posts is to guess one
    of four. :attr:`text_only_span_ceiling` says what span F1 that leaves.
    Cross posts have :obj:`relevant = False`, and every post has

    * :obj:`post['word'].cross` :obj:`[n]`, bool: whether a word is an alias;
    * :obj:`post['region'].x` :obj:`[4, F]`: grid features of its image; a
      region shows one of the objects or nothing, and two of the four show the
      event of a cross post's image.

    **Joint extraction.** With :obj:`clauses` :math:`= C \geq 1`, a post
    consists of :math:`C` such sentences, joined to one tree: each further
    sentence hangs on the root of the first one, by :obj:`parataxis` behind
    punctuation or by :obj:`conj` behind "and". There is one image. An
    instance is a post with all its :math:`2 C` mentions (head and tail of the
    first clause, of the second one, …) and at most one relation a clause:

    * a clause whose answer is the negative relation has mentions, but no
      relation. So :obj:`vocabularies['relation']` has no :obj:`None`,
      :attr:`negative` is :obj:`None`, and :obj:`vocabularies['entity']` is
      the four types, without :obj:`unknown`;
    * :obj:`visual` is the share of *clauses* that only the image decides,
      wherever they are. A group of :obj:`num_choices` twins shares the text,
      and each choice of each of its ambiguous clauses is shown once, in an
      order drawn for each clause. :obj:`post['object'].decides` marks all
      deciding objects;
    * no two clauses of a post name the same relation by a cue or a verb, and
      no object that the text does not name is a cue of any of them: an object
      can decide its own clause only;
    * no word occurs in two names of a post, mentions or places.

    Mentions and their types are told by the text (the places beside the
    relation, which are none, hang on "in"; mentions do so behind a verb that
    decides only). :attr:`text_only_quintuple_ceiling` says what quintuple F1
    that leaves; text and image together tell every quintuple but for its
    direction. :attr:`symmetric` relations have none, and types that differ
    tell it. Nothing tells it of :obj:`/per/per/parent`, as the head is drawn
    at random: half of them are expected to be right, so that *directed* F1
    ends at one minus half their share of all relations, 5 to 7 points below
    the undirected one.

    .. note::
        With :obj:`visual`, the number of visual posts is rounded to whole
        groups of twins; :attr:`visual_share` tells the share there is.
        Texts depend on :obj:`seed`, :obj:`split`, :obj:`num_posts`,
        :obj:`visual`, :obj:`num_choices`, :obj:`cross`, :obj:`num_events` and
        :obj:`clauses` only; object classes' prototypes on :obj:`seed` and
        :obj:`object_dim` only, so that all splits are draws from one world.
        The number of cross posts is a multiple of four.

    Args:
        split (str, optional): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`:
            independent draws. (default: :obj:`'train'`)
        num_posts (int, optional): Number of posts. (default: :obj:`2000`)
        visual (float, optional): Share of posts whose relation only the image
            decides; of clauses, with :obj:`clauses`. (default: :obj:`0.5`)
        irrelevant (float, optional): Share of posts with an unrelated image:
            posts whose text decides, every clause of it.
            (default: :obj:`0.0`)
        detector_noise (float, optional): In :math:`[0, 1]`. The length of the
            Gaussian noise on object features relative to the length of the
            class prototypes :math:`\sqrt{F}`; at the same time the
            probability that an object (never the deciding one) is missed,
            that each of three false objects is seen, that a predicate is
            missed, and that an object gets a false one.
            (default: :obj:`0.1`)
        num_choices (int, optional): Relations named by a visual post or an
            ambiguous clause, 2 or 3; 2 with three clauses.
            (default: :obj:`2`)
        distractors (int, optional): How many cue objects that the text does
            not name a relevant image shows, 0 to 3. (default: :obj:`1`)
        cross (float, optional): Share of cross posts. (default: :obj:`0.0`)
        num_events (int, optional): Number of events, a multiple of four, at
            least eight. Each is shown by about as many images of a split as
            there are cross posts an event. (default: :obj:`40`)
        clauses (int, optional): Clauses a post, 1 to 3, for joint
            extraction; :obj:`0` for posts with one relation that may be
            :obj:`None`. (default: :obj:`0`)
        object_dim (int, optional): Size :math:`F` of object features.
            (default: :obj:`64`)
        seed (int, optional): Seed of the world. (default: :obj:`0`)
        transform (callable, optional): Applied at each access.
            (default: :obj:`None`)

    Raises:
        ValueError: If an argument is out of its range, or
            :obj:`visual + irrelevant + cross` exceeds one; or if, with
            :obj:`clauses`, there are cross posts, three choices in three
            clauses, or not enough posts for :obj:`irrelevant`.

    Example:
        >>> dataset = SyntheticPosts(num_posts=100, visual=0.5, seed=0)
        >>> dataset
        SyntheticPosts(train: 100 posts, 50 visual, text-only ceiling 0.75)
        >>> dataset.text_only_ceiling
        0.75
        >>> dataset = SyntheticPosts(num_posts=100, visual=0.0, cross=0.4,
        ...                          num_events=8)
        >>> round(dataset.text_only_span_ceiling, 3)
        0.889
        >>> dataset.relation_graph(k=3)
        RelationGraph(300 texts, 300 images | 900 matches, 900 resembles | k=3)
        >>> joint = SyntheticPosts(num_posts=100, visual=0.6, clauses=2)
        >>> len(joint[1].entities), len(joint[1].relations)
        (4, 2)
        >>> round(joint.text_only_quintuple_ceiling, 3)
        0.714
    """
    symmetric: ClassVar[tuple[str, ...]] = grammar.SYMMETRIC

    def __init__(
        self,
        split: Split = 'train',
        num_posts: int = 2000,
        visual: float = 0.5,
        irrelevant: float = 0.0,
        detector_noise: float = 0.1,
        num_choices: int = 2,
        distractors: int = 1,
        cross: float = 0.0,
        num_events: int = 40,
        clauses: int = 0,
        object_dim: int = 64,
        seed: int = 0,
        transform: BaseTransform | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"'split' must name a split (got {split!r}); "
                             f'{suggest(split, _SPLITS)}')
        for name, size in (('num_posts', num_posts),
                           ('object_dim', object_dim)):
            if size < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {size})")
        for name, share in (('visual', visual), ('irrelevant', irrelevant),
                            ('detector_noise', detector_noise),
                            ('cross', cross)):
            if not 0 <= share <= 1:
                raise ValueError(f"'{name}' must be in [0, 1] (got {share})")
        if visual + irrelevant > 1 + 1e-9:
            raise ValueError(
                f"'visual' and 'irrelevant' must not exceed 1 together (got "
                f'{visual} + {irrelevant}). Only posts whose text decides can '
                f'have an irrelevant image')
        if visual + irrelevant + cross > 1 + 1e-9:
            raise ValueError(
                f"'visual', 'irrelevant' and 'cross' must not exceed 1 "
                f'together (got {visual} + {irrelevant} + {cross}); they are '
                f'shares of different posts')
        kinds = len(events.KINDS)
        if num_events % kinds or num_events < 2 * kinds:
            raise ValueError(
                f"'num_events' must be a multiple of {kinds}, the number of "
                f'types, and at least {2 * kinds} (got {num_events})')
        if num_choices not in (2, 3):
            raise ValueError(f"'num_choices' must be 2 or 3 (got "
                             f'{num_choices}); some types of mentions take '
                             f'part in three relations only')
        if not 0 <= distractors <= 3:
            raise ValueError(f"'distractors' must be in [0, 3] (got "
                             f'{distractors})')
        if not 0 <= clauses <= 3:
            raise ValueError(f"'clauses' must be in [0, 3] (got {clauses})")
        if clauses and cross:
            raise ValueError(f"'cross' must be 0 with 'clauses' (got {cross} "
                             f'and {clauses}); cross posts have one relation')
        if clauses == 3 and num_choices == 3:
            raise ValueError("'num_choices' must be 2 with three clauses (got "
                             '3); there are too few relations')
        if seed < 0:
            raise ValueError(f"'seed' must not be negative (got {seed})")
        self.split = split
        self.visual = visual
        self.irrelevant = irrelevant
        self.detector_noise = detector_noise
        self.num_choices = num_choices
        self.distractors = distractors
        self.cross = cross
        self.num_events = num_events
        self.clauses = clauses
        self.object_dim = object_dim
        self.seed = seed
        vocabularies = grammar.make_vocabularies(clauses > 0)
        drafts = self._write(num_posts, frozenset(vocabularies['word']))
        camera = Camera(vocabularies, split, self._seed('image'),
                        [seed, _WORLD], detector_noise, distractors,
                        object_dim)
        posts = camera.take(drafts, regions=cross > 0)
        relations = vocabularies['relation']
        rows = [Row(i, [(*span, vocabularies['entity'].to_id(kind))
                        for span, kind in draft.text.mentions],
                    [(2 * c, 2 * c + 1, relations.to_id(relation))
                     for c, relation in enumerate(draft.relations)
                     if relation in relations])
                for i, draft in enumerate(drafts)]
        super().__init__(posts, rows, vocabularies, transform,
                         None if clauses else grammar.NEGATIVE)
        self._twins = torch.tensor([draft.group for draft in drafts])
        # The relation of each clause, -1 for none, and what only the image
        # decides.
        self._answers = torch.tensor([
            [relations.to_id(relation) if relation in relations else -1
             for relation in draft.relations] for draft in drafts])
        self._open = torch.tensor([
            [clause.relation is None for clause in draft.text.clauses]
            for draft in drafts])
        self._cross_twins = torch.tensor([draft.twins for draft in drafts])
        self._text_event = torch.tensor([draft.event for draft in drafts])
        self._image_event = torch.tensor([draft.shows for draft in drafts])

    def _seed(self, what: str) -> list[int]:
        return [self.seed, _SPLITS.index(self.split),
                ('text', 'order', 'image', 'event', 'key').index(what)]

    def _write(self, num_posts: int, known: frozenset[str]) -> list[Draft]:
        writer = Writer(Dice(self._seed('text')))
        if self.clauses:
            drafts = write_clauses(writer, num_posts, self.clauses,
                                   self.num_choices, self.visual,
                                   self.irrelevant)
        else:
            drafts = self._write_single(writer, num_posts, known)
        order = np.random.default_rng(self._seed('order'))
        return [drafts[i] for i in order.permutation(len(drafts))]

    def _write_single(
        self,
        writer: Writer,
        num_posts: int,
        known: frozenset[str],
    ) -> list[Draft]:
        k, kinds = self.num_choices, len(events.KINDS)
        crossed = min(round(self.cross * num_posts / kinds),
                      num_posts // kinds)
        single = num_posts - kinds * crossed
        groups = min(round(self.visual * num_posts / k), single // k)
        decided = single - k * groups
        unrelated = min(round(self.irrelevant * num_posts), decided)
        drafts = []
        for group in range(groups):
            text = writer.ambiguous(k)
            drafts += [Draft(text, (grammar.CUE_RELATION[word], ), (word, ),
                             True, group) for word in text.cues]
        for i in range(decided):
            text, relation = writer.decided()
            drafts.append(Draft(text, (relation, ), (), i >= unrelated,
                                groups + i))
        return drafts + self._write_cross(writer, crossed, groups + decided,
                                          known)

    def _write_cross(
        self,
        writer: Writer,
        num_groups: int,
        first: int,
        known: frozenset[str],
    ) -> list[Draft]:
        dice = Dice(self._seed('event'))
        taken = set(known)
        drafts: list[Draft] = []
        plan = events.plan(num_groups, self.num_events, dice)
        for twins, group in enumerate(plan):
            text = writer.untold()
            for about, shows in zip(group.texts, group.images, strict=True):
                name = events.alias(dice, _SPLITS.index(self.split),
                                    len(_SPLITS), taken)
                taken.add(name)
                drafts.append(Draft(
                    text.named(name, events.kind_of_event(about)),
                    (grammar.NEGATIVE, ), (), False, first + len(drafts),
                    about, shows, twins))
        return drafts

    @property
    def text_only_ceiling(self) -> float:
        r"""The accuracy of the best possible function of the text, on the
        instances of this data set (or of this slice of it):

        .. math::
            \frac{1}{N} \sum_{t} \max_r | \{ i : t_i = t, r_i = r \} |

        For a whole split this is the number of text-decided posts plus the
        number of groups of twins, over :math:`N`.

        Raises:
            InputError: With :obj:`clauses`; see
                :attr:`text_only_quintuple_ceiling`.
        """
        self._check_single('text_only_ceiling')
        group = self._twins[self.post_index]
        width = len(self.vocabularies['relation'])
        pair, count = (group * width + self.relation_ids).unique(
            return_counts=True)
        best = scatter(count, pair // width, reduce='max')
        return int(best.sum()) / len(self)

    @property
    def text_only_quintuple_ceiling(self) -> float:
        r"""The best quintuple F1 (micro, direction ignored) of any function of
        the text that gives each pair of mentions at most one relation, on
        this data set or on this slice of it:

        .. math::
            \max_{0 \le m \le M} \frac{2 \sum_{i \le m} a_i}
                                      {G + \sum_{i \le m} b_i}

        with :math:`G` relations. Each :math:`i` is a clause of a text that
        occurs :math:`b_i` times, :math:`a_i > 0` times of them with the
        relation that it has most often; they are in falling order of
        :math:`a_i / b_i`. A function of the text answers such a clause alike
        for all twins, right :math:`a_i` times at most, or leaves it out.

        This is exact. Spans and types are told by the text, pairs across
        clauses and clauses with :math:`a_i = 0` have nothing to gain, and if
        :math:`F` is the maximum, a choice of clauses is best if and only if it
        maximises :math:`\sum_i (2 a_i - F b_i)`: it holds the clauses with
        :math:`a_i / b_i > F / 2`, and none of those below.

        In a whole split, :math:`a_i / b_i` is one for what the text decides
        and one over :obj:`num_choices` for the rest. With two choices it never
        harms to answer: with :math:`A` relations that the text tells and
        :math:`B` ambiguous clauses, the ceiling is :math:`(2 A + B) / (A + B +
        G)`.

        .. note::
            To answer *several* relations for a pair would reach more (2/3
            in place of 1/2, of a pair with two choices). No extractor here
            does, and no pair has two.

        Raises:
            InputError: Without :obj:`clauses`; see :attr:`text_only_ceiling`.
        """
        if not self.clauses:
            raise InputError("'text_only_quintuple_ceiling' is for joint "
                             "extraction ('clauses' must be at least 1, got "
                             '0)')
        posts = self.post_index
        answers = self._answers[posts]
        return best_f1(*best_answers(self._twins[posts], answers),
                       int((answers >= 0).sum()))

    @property
    def visual_share(self) -> float:
        r"""The share of posts whose relation only the image decides; of
        clauses, with :obj:`clauses`.
        """
        return float(self._open[self.post_index].double().mean())

    @property
    def cross_share(self) -> float:
        r"""The share of cross posts."""
        return int((self.text_events >= 0).sum()) / len(self)

    @property
    def text_only_span_ceiling(self) -> float:
        r"""The best span F1 (micro, over both mentions of each post) that
        can be had on this data set, or on this slice of it, without seeing
        other posts:

        .. math::
            \max_{0 \le m \le M} \frac{2 (A + m)}{2 A + C + \sum_{i \le m} n_i}

        with :math:`A` mentions that the text tells, :math:`C` aliases,
        :math:`M` groups of :math:`n_1 \le n_2 \le \ldots` twins
        (:math:`n_i = 4` in a whole split): a function that answers alike for
        twins is right on one of them, and may as well leave a group out.

        This is the **exact** maximum over all functions of the text that read
        every alias as the same unknown word, with or without the type of
        event that the own image shows. For a model that does see the aliases'
        letters or the image's pixels, but has not been fitted to this split,
        it bounds the **expected** F1, as types are independent of both; on one
        draw, luck may exceed it.

        With four types it pays to leave out all aliases (:math:`m = 0`) as
        long as there are no more than twice as many aliases as other mentions,
        which is always so.
        """
        twins = self._cross_twins[self.post_index]
        size = twins[twins >= 0].unique(return_counts=True)[1].sort().values
        gold = 2 * len(self)
        told = gold - int(size.sum())
        found = told + torch.cat([size.new_zeros(1), size.cumsum(0)])
        right = told + torch.arange(found.numel())
        return float((2 * right / (gold + found).double()).max())

    @property
    def text_events(self) -> Tensor:
        r"""The event that each instance's text is about, -1 for none,
        :obj:`[len(self)]`.
        """
        return self._text_event[self.post_index]

    @property
    def image_events(self) -> Tensor:
        r"""The event that each instance's image shows, -1 for none,
        :obj:`[len(self)]`.
        """
        return self._image_event[self.post_index]

    @property
    def event_types(self) -> list[str]:
        r"""The type of each event."""
        return [events.kind_of_event(i) for i in range(self.num_events)]

    @property
    def majority(self) -> float:
        r"""The share of the most frequent relation; not with
        :obj:`clauses`.
        """
        self._check_single('majority')
        return int(self.relation_ids.bincount().max()) / len(self)

    @property
    def chance(self) -> float:
        r"""The expected accuracy of guessing relations uniformly; not with
        :obj:`clauses`.
        """
        self._check_single('chance')
        return 1 / len(self.vocabularies['relation'])

    def _check_single(self, what: str) -> None:
        if self.clauses:
            raise InputError(f"'{what}' is for posts with one relation each "
                             f"('clauses' must be 0, got {self.clauses})")

    @property
    def cue_relations(self) -> dict[str, str]:
        r"""The relation of each cue noun."""
        return dict(grammar.CUE_RELATION)

    @property
    def word_objects(self) -> dict[str, str]:
        r"""The object class of each noun that an image can show (cues and
        context; mentions show as persons, logos, places, …).
        """
        return dict(grammar.CLASS_OF_WORD)

    def relation_graph(
        self,
        k: int = 5,
        pool: NeighbourPool = 'all',
        noise: float = 0.3,
        **options: Any,
    ) -> RelationGraph:
        r"""The graph over all splits in which texts find images of the same
        event, and images find images with the same kinds of objects.

        Texts and images are compared by *keys*, which stand for what a
        sentence encoder tells of a text and of an image's caption: the
        signature of the event plus Gaussian noise; for a post about no event,
        a signature that only its own image shares. Keys are no features of
        the graph's nodes: they would tell a model the event, whose type it
        could learn by heart. Kinds of objects are the detector's scores, the
        highest of each class. :obj:`graph['image'].x` are the region features
        :obj:`[N_i, 4, F]`.

        With :obj:`pool='train'` (as with :obj:`'all'`) the neighbours of every
        cross post show its event, as long as :obj:`k` training images do.

        Args:
            k (int, optional): Neighbours of each text and of each image.
                (default: :obj:`5`)
            pool (str, optional): Whose images may be neighbours:
                :obj:`'train'` or :obj:`'all'`. (default: :obj:`'all'`)
            noise (float, optional): Length of the noise on keys relative to
                that of the signatures. Texts hardly ever find a wrong event
                below 1 and mostly do above 3. (default: :obj:`0.3`)
            **options (optional): Further arguments of
                :meth:`RelationGraph.from_features
                <mmgraph.data.RelationGraph.from_features>`.

        Raises:
            ValueError: If no post is a cross post.
        """
        check_not_negative(noise=noise)
        if self.cross == 0:
            raise ValueError("'cross' must be positive: these posts have "
                             'nothing to do with each other (got 0.0)')
        parts: list[SyntheticPosts] = [
            self if split == self.split else
            cast(SyntheticPosts, self.with_split(split)) for split in _SPLITS]
        keys = zip(*(part._keys(noise) for part in parts), strict=True)
        text, image = (torch.cat(key) for key in keys)
        ids = [post_id for part in parts for post_id in part._data.post_id]
        x = torch.cat([part._data['region'].x for part in parts])
        return RelationGraph.from_features(
            text, image,
            torch.cat([part._object_scores() for part in parts]),
            k=k, pool=pool, text_id=ids, image_id=ids,
            text_split=[part.split for part in parts
                        for _ in range(part.num_posts)],
            image_features=x.view(len(ids), -1, x.size(1)), **options)

    def _keys(self, noise: float) -> list[Tensor]:
        return events.draw_keys(
            [self._text_event, self._image_event], self.num_events, noise,
            [self.seed, _WORLD, 1], self._seed('key'))

    def _object_scores(self) -> Tensor:
        r"""The highest score of each class in each image."""
        objects = self._data['object']
        ptr = self._slices['object']['label_id']
        image = torch.repeat_interleave(ptr.diff())
        width = len(self.vocabularies['object'])
        return scatter(objects.score, image * width + objects.label_id,
                       dim_size=self.num_posts * width,
                       reduce='max').view(-1, width)

    def draw(
        self,
        index: int,
        size: tuple[int, int] = (640, 480),
        names: bool = True,
    ) -> Any:
        r"""A simple picture of an instance's objects, as the detector boxed
        them: one shape and colour a class, with its name.

        Args:
            index (int): Position of the instance.
            size (tuple, optional): Width and height in pixels.
                (default: :obj:`(640, 480)`)
            names (bool, optional): Whether to write each object's class.
                (default: :obj:`True`)

        Returns:
            PIL.Image.Image: The picture.
        """
        post = self.post(int(self.post_index[index]))
        label_ids = post['object'].label_id.tolist()
        labels = [self.vocabularies['object'].to_label(i) for i in label_ids]
        return draw_objects(labels, label_ids, post['object'].box.tolist(),
                            size, names)

    def __repr__(self) -> str:
        if self.clauses:
            unit = 'clause' if self.clauses == 1 else 'clauses'
            return (f'{type(self).__name__}({self.split}: {len(self)} posts, '
                    f'{self.clauses} {unit} each, '
                    f'{100 * self.visual_share:.4g} % visual, '
                    f'text-only quintuple ceiling '
                    f'{self.text_only_quintuple_ceiling:.4g})')
        visual = int(self._open[self.post_index].sum())
        crossed = int((self.text_events >= 0).sum())
        return (f'{type(self).__name__}({self.split}: {len(self)} posts, '
                f'{visual} visual, '
                + (f'{crossed} cross, ' if self.cross else '') +
                f'text-only ceiling {self.text_only_ceiling:.4g})')
