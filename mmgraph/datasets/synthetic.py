"""Posts from a grammar, with everything about them known."""
from typing import Any

import numpy as np
import torch
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import scatter

from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets._camera import Camera, Draft
from mmgraph.datasets._drawing import draw_objects
from mmgraph.datasets._writer import Dice, Writer
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.typing import Split
from mmgraph.utils import suggest

__all__ = ['SyntheticPosts']

_SPLITS = ('train', 'val', 'test')
_WORLD = len(_SPLITS)  # A stream of random numbers that all splits share.


class SyntheticPosts(PostDataset):
    r"""Posts written from a grammar, together with their dependency tree, a
    scene graph with object features, one relation, and the **known**
    correspondence of words and objects. Nothing is read or downloaded.

    It answers two questions that no real corpus can: *does a model use the
    image*, and *is an alignment right*.

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

    .. note::
        With :obj:`visual`, the number of visual posts is rounded to whole
        groups of twins; :attr:`visual_share` tells the share there is.
        Texts depend on :obj:`seed`, :obj:`split`, :obj:`num_posts`,
        :obj:`visual` and :obj:`num_choices` only; object classes' prototypes
        on :obj:`seed` and :obj:`object_dim` only, so that all splits are draws
        from one world.

    Args:
        split (str, optional): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`:
            independent draws. (default: :obj:`'train'`)
        num_posts (int, optional): Number of posts. (default: :obj:`2000`)
        visual (float, optional): Share of posts whose relation only the image
            decides. (default: :obj:`0.5`)
        irrelevant (float, optional): Share of posts with an unrelated image.
            (default: :obj:`0.0`)
        detector_noise (float, optional): In :math:`[0, 1]`. The length of the
            Gaussian noise on object features relative to the length of the
            class prototypes :math:`\sqrt{F}`; at the same time the
            probability that an object (never the deciding one) is missed,
            that each of three false objects is seen, that a predicate is
            missed, and that an object gets a false one.
            (default: :obj:`0.1`)
        num_choices (int, optional): Relations named by a visual post, 2 or 3.
            (default: :obj:`2`)
        distractors (int, optional): How many cue objects that the text does
            not name a relevant image shows, 0 to 3. (default: :obj:`1`)
        object_dim (int, optional): Size :math:`F` of object features.
            (default: :obj:`64`)
        seed (int, optional): Seed of the world. (default: :obj:`0`)
        transform (callable, optional): Applied at each access.
            (default: :obj:`None`)

    Raises:
        ValueError: If an argument is out of its range, or
            :obj:`visual + irrelevant` exceeds one.

    Example:
        >>> dataset = SyntheticPosts(num_posts=100, visual=0.5, seed=0)
        >>> dataset
        SyntheticPosts(train: 100 posts, 50 visual, text-only ceiling 0.75)
        >>> dataset.text_only_ceiling
        0.75
    """
    def __init__(
        self,
        split: Split = 'train',
        num_posts: int = 2000,
        visual: float = 0.5,
        irrelevant: float = 0.0,
        detector_noise: float = 0.1,
        num_choices: int = 2,
        distractors: int = 1,
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
                            ('detector_noise', detector_noise)):
            if not 0 <= share <= 1:
                raise ValueError(f"'{name}' must be in [0, 1] (got {share})")
        if visual + irrelevant > 1 + 1e-9:
            raise ValueError(
                f"'visual' and 'irrelevant' must not exceed 1 together (got "
                f'{visual} + {irrelevant}). Only posts whose text decides can '
                f'have an irrelevant image')
        if num_choices not in (2, 3):
            raise ValueError(f"'num_choices' must be 2 or 3 (got "
                             f'{num_choices}); some types of mentions take '
                             f'part in three relations only')
        if not 0 <= distractors <= 3:
            raise ValueError(f"'distractors' must be in [0, 3] (got "
                             f'{distractors})')
        if seed < 0:
            raise ValueError(f"'seed' must not be negative (got {seed})")
        self.split = split
        self.visual = visual
        self.irrelevant = irrelevant
        self.detector_noise = detector_noise
        self.num_choices = num_choices
        self.distractors = distractors
        self.object_dim = object_dim
        self.seed = seed
        vocabularies = grammar.make_vocabularies()
        drafts = self._write(num_posts)
        camera = Camera(vocabularies, split, self._seed('image'),
                        [seed, _WORLD], detector_noise, distractors,
                        object_dim)
        posts = camera.take(drafts)
        rows = [Row(i, [(*span, vocabularies['entity'].to_id(kind))
                        for span, kind in draft.text.mentions],
                    [(0, 1, vocabularies['relation'].to_id(draft.relation))])
                for i, draft in enumerate(drafts)]
        super().__init__(posts, rows, vocabularies, transform,
                         grammar.NEGATIVE)
        self._twins = torch.tensor([draft.group for draft in drafts])
        self._decides = torch.tensor([draft.shown is not None
                                     for draft in drafts])

    def _seed(self, what: str) -> list[int]:
        return [self.seed, _SPLITS.index(self.split),
                ('text', 'order', 'image').index(what)]

    def _write(self, num_posts: int) -> list[Draft]:
        k = self.num_choices
        groups = min(round(self.visual * num_posts / k), num_posts // k)
        decided = num_posts - k * groups
        unrelated = min(round(self.irrelevant * num_posts), decided)
        writer = Writer(Dice(self._seed('text')))
        drafts = []
        for group in range(groups):
            text = writer.ambiguous(k)
            drafts += [Draft(text, grammar.CUE_RELATION[word], word, True,
                             group) for word in text.cues]
        for i in range(decided):
            text, relation = writer.decided()
            drafts.append(Draft(text, relation, None, i >= unrelated,
                                groups + i))
        order = np.random.default_rng(self._seed('order'))
        return [drafts[i] for i in order.permutation(len(drafts))]

    @property
    def text_only_ceiling(self) -> float:
        r"""The accuracy of the best possible function of the text, on the
        instances of this data set (or of this slice of it):

        .. math::
            \frac{1}{N} \sum_{t} \max_r | \{ i : t_i = t, r_i = r \} |

        For a whole split this is the number of text-decided posts plus the
        number of groups of twins, over :math:`N`.
        """
        group = self._twins[self.post_index]
        width = len(self.vocabularies['relation'])
        pair, count = (group * width + self.relation_ids).unique(
            return_counts=True)
        best = scatter(count, pair // width, reduce='max')
        return int(best.sum()) / len(self)

    @property
    def visual_share(self) -> float:
        r"""The share of posts whose relation only the image decides."""
        return int(self._decides[self.post_index].sum()) / len(self)

    @property
    def majority(self) -> float:
        r"""The share of the most frequent relation."""
        return int(self.relation_ids.bincount().max()) / len(self)

    @property
    def chance(self) -> float:
        r"""The expected accuracy of guessing relations uniformly."""
        return 1 / len(self.vocabularies['relation'])

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
        visual = int(self._decides[self.post_index].sum())
        return (f'{type(self).__name__}({self.split}: {len(self)} posts, '
                f'{visual} visual, text-only ceiling '
                f'{self.text_only_ceiling:.4g})')
