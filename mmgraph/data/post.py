"""A social-media post: text, image and annotation as one graph."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from mmgraph.data.scene_graph import SceneGraph
from mmgraph.data.text_graph import TextGraph
from mmgraph.data.validation import (
    Report,
    check_boxes,
    check_edges,
    check_finite,
    check_rows,
)
from mmgraph.typing import OptTensor

__all__ = ['Post']

_SCENE_KEYS = ('slot_id', 'x', 'box', 'label_id', 'score')


def _long(rows: Sequence[Any], width: int) -> Tensor:
    r"""Rows as columns: a tensor :obj:`[width, len(rows)]`."""
    if not rows:
        return torch.empty(width, 0, dtype=torch.long)
    return torch.tensor(rows, dtype=torch.long).t().contiguous()


class Post(HeteroData):
    r"""Everything known about one text-image pair, as one heterogeneous graph.

    Build it with :meth:`build`; the parts come back as :attr:`text` and
    :attr:`scene`. Posts batch, un-batch, move and save as any PyG graph; all
    positions in edge stores are shifted by PyG itself.

    .. list-table:: Node stores
       :header-rows: 1

       * - store
         - attributes
       * - :obj:`word`
         - :obj:`head [n]`; optional :obj:`x [n, F]`, :obj:`pos_id [n]`,
           :obj:`tag_id [n]`
       * - :obj:`object`
         - :obj:`slot_id [m]`; optional :obj:`x [m, F]`, :obj:`box [m, 4]`
           (x1 y1 x2 y2, fractions of the image), :obj:`label_id [m]`,
           :obj:`score [m]`
       * - :obj:`image`
         - :obj:`x [1, F]`, no row without an image (:obj:`F = 0` where no
           feature of the whole image is known)
       * - :obj:`region`
         - :obj:`x [r, F]`, if the data set has grid features
       * - :obj:`entity`
         - :obj:`type_id [e]`
       * - :obj:`token`
         - :obj:`input_id [l]`, added by
           :class:`~mmgraph.transforms.WordPieces`

    .. list-table:: Edge stores
       :header-rows: 1

       * - store
         - meaning
       * - (word, governs, word)
         - dependency, governor → dependent; :obj:`edge_type`
       * - (object, relates, object)
         - subject → object; :obj:`edge_type`, optional :obj:`edge_score`
       * - (entity, covers, word)
         - the words of a mention, in text order
       * - (entity, relation, entity)
         - head → tail; :obj:`relation_id`
       * - (token, part_of, word)
         - the word pieces of a word; markers and special pieces have none
       * - (entity, marked_by, token)
         - the opening marker of a mention
       * - (word, aligns, object)
         - an alignment, :obj:`edge_weight`; added by
           :class:`~mmgraph.transforms.Align`

    Beside them :obj:`words` (list of str), :obj:`post_id` (str) and
    :obj:`image_path` (str or :obj:`None`) are plain Python values.

    Example:
        >>> from mmgraph.data import TextGraph, Vocabulary
        >>> text = TextGraph.from_heads(['Ann', 'met', 'Bob'], [1, -1, 1],
        ...                             ['nsubj', 'root', 'obj'],
        ...                             Vocabulary(['nsubj', 'root', 'obj']))
        >>> Post.build(text, entities=[(0, 1), (2, 3)],
        ...            relations=[(0, 1, 5)], post_id='a')
        Post('a': 3 words, 2 dependencies | no image | 2 entities, 1 relations)
    """
    @classmethod
    def build(
        cls,
        text: TextGraph,
        scene: SceneGraph | None = None,
        entities: Sequence[Sequence[int]] = (),
        relations: Sequence[Sequence[int]] = (),
        image_x: OptTensor = None,
        region_x: OptTensor = None,
        post_id: str = '',
        image_path: str | None = None,
        has_image: bool | None = None,
    ) -> 'Post':
        r"""Composes a post from its parts.

        Args:
            text (TextGraph): The words and their dependencies.
            scene (SceneGraph, optional): The image's objects. A post whose
                image is missing has none. (default: :obj:`None`)
            entities (sequence of tuples, optional): :obj:`(start, end)` or
                :obj:`(start, end, type_id)` a mention: word positions, end
                exclusive. Mentions may nest. (default: :obj:`()`)
            relations (sequence of tuples, optional):
                :obj:`(head, tail, relation_id)` a relation: positions in
                :obj:`entities`. (default: :obj:`()`)
            image_x (torch.Tensor, optional): One feature row for the whole
                image, :obj:`[1, F]` (or :obj:`[0, F]`).
                (default: :obj:`None`)
            region_x (torch.Tensor, optional): Grid features :obj:`[r, F]`.
                (default: :obj:`None`)
            post_id (str, optional): A name to look the post up by.
            image_path (str, optional): Where the picture is.
            has_image (bool, optional): Whether there is an image; by default
                there is one if a scene or a path is given. In a data set with
                object features, a post without image takes
                :obj:`SceneGraph.empty(like)` and :obj:`has_image=False`.

        Raises:
            ValueError: If a mention is empty or outside the text, or a
                relation names a mention that is not there.
        """
        post = cls()
        post.words = list(text.words)
        post.post_id = post_id
        post.image_file = image_path or ''  # A None would not be stored.
        n = len(post.words)
        word = post['word']
        word.num_nodes = n
        word.head = text.head
        for key in ('x', 'pos_id', 'tag_id'):
            if key in text:
                word[key] = text[key]
        governs = post['word', 'governs', 'word']
        governs.edge_index = text.edge_index
        governs.edge_type = text.edge_type

        if has_image is None:
            has_image = scene is not None or image_path is not None
        scene = SceneGraph.empty() if scene is None else scene
        objects = post['object']
        objects.num_nodes = int(scene.num_nodes or 0)
        for key in _SCENE_KEYS:
            if key in scene:
                objects[key] = scene[key]
        relates = post['object', 'relates', 'object']
        relates.edge_index = scene.edge_index
        relates.edge_type = scene.edge_type
        if 'edge_score' in scene:
            relates.edge_score = scene.edge_score

        if image_x is None:
            image_x = torch.empty(int(has_image), 0)
        post['image'].num_nodes = image_x.size(0)
        post['image'].x = image_x
        if region_x is not None:
            post['region'].num_nodes = region_x.size(0)
            post['region'].x = region_x
        return post._set_annotation(entities, relations)

    def annotated(
        self,
        entities: Sequence[Sequence[int]],
        relations: Sequence[Sequence[int]] = (),
    ) -> 'Post':
        r"""A copy that shares this post's text and image and carries another
        annotation; see :meth:`build` for the arguments.
        """
        return copy.copy(self)._set_annotation(entities, relations)

    def _set_annotation(
        self,
        entities: Sequence[Sequence[int]],
        relations: Sequence[Sequence[int]],
    ) -> 'Post':
        n = int(self['word'].num_nodes)
        spans, covers = [], []
        for i, row in enumerate(entities):
            start, end, type_id = (*row, 0)[:3]
            if not 0 <= start < end <= n:
                raise ValueError(
                    f'post {self.post_id!r}: mention {i} must be a span '
                    f'inside the {n} words (got [{start}, {end}))')
            spans.append(type_id)
            covers += [(i, w) for w in range(start, end)]
        for i, (head, tail, _) in enumerate(relations):
            if not (0 <= head < len(spans) and 0 <= tail < len(spans)):
                raise ValueError(
                    f'post {self.post_id!r}: relation {i} must join two of '
                    f'the {len(spans)} mentions (got {head} and {tail})')
        entity = self['entity']
        entity.num_nodes = len(spans)
        entity.type_id = torch.tensor(spans, dtype=torch.long)
        self['entity', 'covers', 'word'].edge_index = _long(covers, 2)
        table = _long(relations, 3)
        relation = self['entity', 'relation', 'entity']
        relation.edge_index, relation.relation_id = table[:2], table[2]
        return self

    def _one(self, what: str) -> None:
        # An AttributeError would be caught by PyG, and its text lost.
        if isinstance(self, Batch):
            raise ValueError(f"'{what}' is of one post; un-batch first "
                             f'(batch[i] or batch.to_data_list())')

    @property
    def image_path(self) -> str | None | list[str | None]:
        r"""Where the picture is; a list for a batch of posts."""
        value = self.image_file
        if isinstance(value, list):
            return [path or None for path in value]
        return value or None

    @property
    def text(self) -> TextGraph:
        r"""The words and dependencies."""
        self._one('text')
        word, governs = self['word'], self['word', 'governs', 'word']
        more = {key: word[key] for key in ('x', 'pos_id', 'tag_id')
                if key in word}
        return TextGraph(words=self.words, edge_index=governs.edge_index,
                         edge_type=governs.edge_type, head=word.head,
                         num_nodes=word.num_nodes, **more)

    @property
    def scene(self) -> SceneGraph | None:
        r"""The objects and predicates; :obj:`None` without an image."""
        self._one('scene')
        objects = self['object']
        if self['image'].num_nodes == 0 and objects.num_nodes == 0:
            return None
        relates = self['object', 'relates', 'object']
        return SceneGraph.build(
            relates.edge_index, objects.num_nodes, relates.edge_type,
            edge_score=relates.get('edge_score'),
            **{key: objects.get(key) for key in _SCENE_KEYS})

    @property
    def entities(self) -> list[tuple[int, int, int]]:
        r"""The mentions as :obj:`(start, end, type_id)`."""
        self._one('entities')
        entity, word = self['entity', 'covers', 'word'].edge_index.tolist()
        spans: dict[int, tuple[int, int]] = {}
        for e, w in zip(entity, word, strict=True):
            start, end = spans.get(e, (w, w + 1))
            spans[e] = min(start, w), max(end, w + 1)
        types = self['entity'].type_id.tolist()
        return [(*spans[e], types[e]) for e in range(len(types))]

    @property
    def relations(self) -> list[tuple[int, int, int]]:
        r"""The relations as :obj:`(head, tail, relation_id)`."""
        self._one('relations')
        store = self['entity', 'relation', 'entity']
        head, tail = store.edge_index.tolist()
        return list(zip(head, tail, store.relation_id.tolist(), strict=True))

    def validate(self, raise_on_error: bool = True) -> bool:
        r"""Checks every store: positions inside their stores, one attribute
        row a node, labels not negative, boxes inside the image, finite
        features, mentions inside the text.

        Args:
            raise_on_error (bool, optional): If :obj:`False`, only tells
                whether all is well. (default: :obj:`True`)

        Raises:
            ValueError: All faults in one message, each with its place.
        """
        report = Report(self)
        words = self['word'].num_nodes
        if not isinstance(self, Batch) and len(self.words) != words:
            report.add(f"'words' must hold one string a word node "
                       f'(got {len(self.words)} for {words})')
        for kind, store in self.node_items():
            check_rows(report, store, store.num_nodes, kind)
            check_finite(report, store, kind)
        check_boxes(report, self['object'], 'object.box')
        for (source, name, target), store in self.edge_items():
            check_edges(report, store, self[source].num_nodes,
                        self[target].num_nodes, f'{source} {name} {target}')
            check_finite(report, store, name)
        if report.ok:
            covered = self['entity', 'covers', 'word'].edge_index[0]
            count = torch.bincount(covered,
                                   minlength=self['entity'].num_nodes)
            if (count == 0).any():
                report.add(f'mention {int((count == 0).nonzero()[0])} covers '
                           f'no word')
        return report.close(raise_on_error)

    def __repr__(self) -> str:
        if isinstance(self, Batch) or 'words' not in self:
            return super().__repr__()
        parts = [f'{self["word"].num_nodes} words, '
                 f'{self["word", "governs", "word"].num_edges} dependencies']
        if self['image'].num_nodes == 0:
            parts.append('no image')
        else:
            relates = self['object', 'relates', 'object']
            parts.append(f'{self["object"].num_nodes} objects, '
                         f'{relates.num_edges} scene relations')
        relation = self['entity', 'relation', 'entity']
        parts.append(f'{self["entity"].num_nodes} entities, '
                     f'{relation.num_edges} relations')
        return (f'{type(self).__name__}({self.post_id!r}: '
                f'{" | ".join(parts)})')
