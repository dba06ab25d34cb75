"""A corpus as a graph: which images of other posts a post is related to."""
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph.data.neighbours import Keys
from mmgraph.data.relation_bank import (
    HubCorrection,
    RelationBank,
    TieBreak,
    check_search,
)
from mmgraph.data.relation_report import RelationReport, relation_statistics
from mmgraph.data.validation import Report, check_edges, check_finite
from mmgraph.data.view import ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least, check_choice, suggest

__all__ = ['MATCHES', 'RESEMBLES', 'NeighbourLists', 'RelationGraph']

#: The edges from a text to images of other posts.
MATCHES = ('text', 'matches', 'image')
#: The edges from an image to other images.
RESEMBLES = ('image', 'resembles', 'image')

_SPLITS = ('train', 'val', 'test')
_MASKS = tuple(f'{split}_mask' for split in _SPLITS)

#: Rounds of swaps of the control.
_SWAPS = 30

Splits = Sequence[str | int | None] | Tensor | np.ndarray


class NeighbourLists(Protocol):
    r"""What :meth:`RelationGraph.from_neighbour_lists` reads of a record."""
    @property
    def post_id(self) -> str: ...

    @property
    def split(self) -> Any: ...

    @property
    def inter_ids(self) -> Sequence[str]: ...

    @property
    def inter_scores(self) -> Sequence[float]: ...

    @property
    def intra_ids(self) -> Sequence[str]: ...

    @property
    def intra_scores(self) -> Sequence[float]: ...


class RelationGraph(HeteroData):
    r"""A corpus of posts as one graph: a text is linked to images of *other*
    posts that show what it tells of (inter-modal), an image to images with the
    same kinds of objects (intra-modal), as in `"Learning from Different
    text-image Pairs: A Relation-enhanced Graph Convolutional Network for
    Multimodal NER" <https://doi.org/10.1145/3503161.3548228>`_ (ACM MM 2022).

    Build it with :meth:`from_features` or :meth:`from_neighbour_lists`. Every
    query has at most :math:`k` neighbours, so that :meth:`gather` takes the
    neighbourhood of a batch from a table: its cost does not depend on the size
    of the corpus.

    .. list-table:: Stores
       :header-rows: 1

       * - store
         - attributes
       * - :obj:`text`
         - :obj:`post_id` (list of str), :obj:`image_index [N_t]` (row of the
           post's own image, -1 without), :obj:`train_mask`, :obj:`val_mask`,
           :obj:`test_mask [N_t]`; optional :obj:`x [N_t, F]`
       * - :obj:`image`
         - :obj:`x [N_i, D]` or :obj:`[N_i, R, D]`, what layers read;
           :obj:`post_id` (list of str) the images' ids; the same masks. An
           image that belongs to no post is in none
       * - (text, matches, image), (image, resembles, image)
         - query → neighbour, sorted by query, then rank; :obj:`edge_weight
           [E]`, the similarity

    Edges point from a query to what it found; messages flow the other way
    (see :meth:`to_messages`).

    .. note:: In the published set-up images of validation and test posts are
        neighbours of training posts (*transductive*). :meth:`inductive`, or
        :obj:`pool='train'` on building, which fills all :math:`k` places from
        the training split, keep them apart.

    Example:
        >>> x = torch.tensor([[1., 0.], [.9, .1], [0., 1.], [.1, .9]])
        >>> graph = RelationGraph.from_features(
        ...     x, x, k=1, text_split=['train', 'train', 'train', 'test'])
        >>> graph
        RelationGraph(4 texts, 4 images | 4 matches, 4 resembles | k=1)
        >>> graph['text', 'matches', 'image'].edge_index
        tensor([[0, 1, 2, 3],
                [1, 0, 3, 2]])
        >>> graph.inductive('train')['text', 'matches', 'image'].edge_index
        tensor([[0, 1, 3],
                [1, 0, 2]])
        >>> graph.gather(['3'])['image'].n_id
        tensor([2, 3])
    """

    # Construction ############################################################

    @classmethod
    def from_features(
        cls,
        text_x: Any,
        image_x: Any,
        object_types: Any = None,
        *,
        k: int = 5,
        threshold: float | None = None,
        pool: Literal['all', 'train', 'val', 'test'] = 'all',
        text_id: Sequence[str] | None = None,
        image_id: Sequence[str] | None = None,
        text_image: Tensor | Sequence[int] | None = None,
        text_split: Splits | None = None,
        image_split: Splits | None = None,
        text_features: OptTensor = None,
        image_features: OptTensor = None,
        metric: Literal['cosine', 'dot'] = 'cosine',
        hub_correction: HubCorrection | None = None,
        tie_break: TieBreak = 'index',
        drop_zero: bool = True,
        exclude_own: bool = True,
        exclude_duplicates: bool = False,
        index: str = 'exact',
        num_probes: int = 8,
        block_size: int = 4096,
        seed: int = 0,
        log: bool = False,
    ) -> 'RelationGraph':
        r"""Finds the neighbours by search among features.

        Similarities are computed in double precision and rounded to single;
        equal ones are ties, of which the lowest row comes first. Which
        neighbours a query has depends on nothing but it and the pool: not on
        the size of blocks, on threads or on other queries (unless hubs are
        corrected, which depends on all queries).

        Features may be memory maps (:obj:`numpy.load(..., mmap_mode='r')`)
        larger than memory: they are read in blocks. The graph keeps them as
        they are, so that what is mapped for reading only must not be written
        to in place.

        Args:
            text_x (torch.Tensor or numpy.ndarray): Retrieval keys of texts
                :obj:`[N_t, F]`.
            image_x (torch.Tensor or numpy.ndarray): Retrieval keys of images
                :obj:`[N_i, F]` in the same space, *e.g.* of their captions.
            object_types (torch.Tensor or numpy.ndarray, optional): What kinds
                of objects an image shows :obj:`[N_i, C]`, *e.g.* a detector's
                highest score a class, by which images are related to images;
                equal rows are compared once. By default images are compared
                by :obj:`image_x`. (default: :obj:`None`)
            k (int, optional): Most neighbours in each relation.
                (default: :obj:`5`)
            threshold (float, optional): The least similarity of an edge.
                (default: :obj:`None`)
            pool (str, optional): Whose images may be neighbours: those of
                :obj:`'all'` splits (and of none), or of one.
                (default: :obj:`'all'`)
            text_id (sequence of str, optional): Ids of posts; row numbers by
                default. (default: :obj:`None`)
            image_id (sequence of str, optional): Ids of images, likewise.
                (default: :obj:`None`)
            text_image (torch.Tensor, optional): Row of each text's own image,
                -1 for none, :obj:`[N_t]`. By default the image of the same
                id; without ids, the image of the same row if there are as
                many images as texts, else none. (default: :obj:`None`)
            text_split (sequence, optional): Split of each text: a name, or 0,
                1, 2 for :obj:`'train'`, :obj:`'val'`, :obj:`'test'`, and -1
                or :obj:`None` for none. (default: :obj:`None`)
            image_split (sequence, optional): Split of each image. By default
                an image is in the splits of the texts whose own it is.
                (default: :obj:`None`)
            text_features (torch.Tensor, optional): Stored as
                :obj:`graph['text'].x`. (default: :obj:`None`)
            image_features (torch.Tensor, optional): Stored as
                :obj:`graph['image'].x`; :obj:`image_x` by default.
                (default: :obj:`None`)
            metric (str, optional): :obj:`'cosine'` or :obj:`'dot'`.
                (default: :obj:`'cosine'`)
            hub_correction (str, optional): Against images that are near to
                every text; for the inter-modal relation, where hubs are.
                :obj:`'mutual'` keeps an edge only if the text is also among
                the :math:`k` texts nearest to the image. :obj:`'csls'`
                (cross-domain similarity local scaling, `"Word Translation
                Without Parallel Data" <https://arxiv.org/abs/1710.04087>`_,
                Eq. 6) ranks images by :math:`2 s_{qi} - r_q - r_i`, where
                :math:`r` is the mean similarity to the :math:`k` nearest of
                the other side; edge weights remain similarities.
                (default: :obj:`None`)
            tie_break (str, optional): Which of the images with equally
                similar objects come first: those of the lowest
                :obj:`'index'`, or those that look more alike by
                :obj:`image_x` (:obj:`'visual'`; slower).
                (default: :obj:`'index'`)
            drop_zero (bool, optional): Whether similarities of exactly zero
                make no edge. (default: :obj:`True`)
            exclude_own (bool, optional): Whether a text may not find its own
                image. (An image never finds itself.) (default: :obj:`True`)
            exclude_duplicates (bool, optional): Whether a query may not find
                images whose key equals its own image's, nor a text the
                images of posts with an equal text key.
                (default: :obj:`False`)
            index (str, optional): :obj:`'exact'`; :obj:`'faiss'` for an
                inverted file (extra :obj:`ann`), which finds most of them in
                a small part of the time; or :obj:`'faiss:...'` with a factory
                string of faiss, *e.g.* :obj:`'faiss:HNSW32'`. Weights are
                exact in any case. (default: :obj:`'exact'`)
            num_probes (int, optional): Lists of an inverted file that a query
                looks into: the more, the fewer neighbours are missed.
                (default: :obj:`8`)
            block_size (int, optional): Queries compared at once.
                (default: :obj:`4096`)
            seed (int, optional): Seed of the index. (default: :obj:`0`)
            log (bool, optional): Whether to show progress.
                (default: :obj:`False`)

        Raises:
            ShapeError: If features do not fit each other.
            ValueError: If features are not finite, ids not unique, or an
                option is unknown.
            MissingExtraError: If faiss is asked for and not installed.

        Complexity: exact :math:`O(N_t N_i F)` time, with equal rows compared
        once, and memory for :obj:`block_size` rows beside the features and
        the result; with an index :math:`O((N_t + N_i) \sqrt{N_i} F)`.
        """
        check_at_least(1, k=k, block_size=block_size, num_probes=num_probes)
        check_choice('metric', metric, ('cosine', 'dot'))
        check_choice('pool', pool, ('all', *_SPLITS))
        check_search(hub_correction, tie_break, index)
        text = Keys(text_x, 'text_x', metric)
        image = Keys(image_x, 'image_x', metric)
        types = (None if object_types is None
                 else Keys(object_types, 'object_types', metric))
        if text.dim != image.dim:
            raise ShapeError(f"'text_x' and 'image_x' must be in one space "
                             f'(got {text.dim} and {image.dim} channels)',
                             (len(image), text.dim), image.x.shape)
        _check_length(len(image), object_types=types)
        graph = cls._nodes(len(text), len(image), text_id, image_id,
                           text_image, text_split, image_split)
        if text_features is not None:
            _check_length(len(text), text_features=text_features)
            graph['text'].x = text_features
        if image_features is not None:
            _check_length(len(image), image_features=image_features)
        graph['image'].x = image.x if image_features is None \
            else image_features

        def pooled(store: Any) -> Any:
            return (np.ones(store.num_nodes, bool) if pool == 'all'
                    else store[f'{pool}_mask'].numpy())

        bank = RelationBank(
            k=k, threshold=threshold, hub_correction=hub_correction,
            tie_break=tie_break, drop_zero=drop_zero,
            exclude_duplicates=exclude_duplicates, index=index,
            num_probes=num_probes, seed=seed, block_size=block_size)
        own = graph['text'].image_index.numpy()
        group = bank.fit(text, image, types, pooled(graph['text']),
                         pooled(graph['image']), own, log)
        rows = np.arange(len(image))
        inter = bank.match(text, own if exclude_own else None,
                           np.append(group, -1)[own], log)
        intra = bank.resemble(image, types, rows, group, log)
        graph._set_edges(MATCHES, *inter)
        graph._set_edges(RESEMBLES, *intra)
        graph.k = k
        graph.bank = bank
        return graph

    @classmethod
    def from_neighbour_lists(
        cls,
        records: Iterable[NeighbourLists],
        k: int = 5,
        *,
        pool: Literal['all', 'train', 'val', 'test'] = 'all',
        posts: Iterable[tuple[str, str | int]] = (),
        image_id: Sequence[str] | None = None,
        image_features: OptTensor = None,
        threshold: float | None = None,
        drop_zero: bool = True,
    ) -> 'RelationGraph':
        r"""Takes the neighbours from lists that somebody else has made.

        Texts come in the order of the records, then of :obj:`posts`. A post's
        own image has the post's id. An image that belongs to no post is in no
        split.

        Args:
            records (iterable): One object a post with :obj:`post_id`,
                :obj:`split`, :obj:`inter_ids`, :obj:`inter_scores`,
                :obj:`intra_ids` and :obj:`intra_scores` (image ids, the most
                similar first, and similarities), *e.g.*
                :class:`~mmgraph.parse.NeighbourRecord`.
            k (int, optional): Neighbours taken in each relation, at most as
                many as are listed. (default: :obj:`5`)
            pool (str, optional): Whose images may be neighbours; the others
                are passed over before :obj:`k` are taken.
                (default: :obj:`'all'`)
            posts (iterable of tuples, optional): Id and split of further
                posts; those without a record have no neighbours.
                (default: :obj:`()`)
            image_id (sequence of str, optional): The order of images; must
                hold all that occur. By default posts come first, in their
                order, then other images as they occur.
                (default: :obj:`None`)
            image_features (torch.Tensor, optional): Stored as
                :obj:`graph['image'].x`, rows as in :obj:`image_id`.
                (default: :obj:`None`)
            threshold (float, optional): The least score of an edge.
                (default: :obj:`None`)
            drop_zero (bool, optional): Whether a score of zero makes no edge
                (what is listed with it is arbitrary).
                (default: :obj:`True`)

        Raises:
            ValueError: If a post has two records, a list and its scores
                differ in length, a score is not finite, or
                :obj:`image_features` come without :obj:`image_id`.

        Example:
            >>> from collections import namedtuple
            >>> Record = namedtuple('Record', 'post_id split inter_ids '
            ...                     'inter_scores intra_ids intra_scores')
            >>> RelationGraph.from_neighbour_lists([
            ...     Record('a', 'train', ['b', 'z'], [.7, .6], ['b'], [0.]),
            ...     Record('b', 'test', ['a'], [.5], ['a'], [1.])])
            RelationGraph(2 texts, 3 images | 3 matches, 1 resembles | k=5)
        """
        check_at_least(1, k=k)
        check_choice('pool', pool, ('all', *_SPLITS))
        if image_features is not None and image_id is None:
            raise ValueError("'image_features' need 'image_id', the order of "
                             'their rows')
        records = list(records)
        split = {record.post_id: record.split for record in records}
        if len(split) < len(records):
            raise ValueError("'records' must hold one record a post "
                             f'(got {len(records)} for {len(split)} posts)')
        for post_id, name in posts:
            split.setdefault(post_id, name)
        if image_id is None:
            image_id = list(dict.fromkeys([*split, *(
                name for record in records
                for name in (*record.inter_ids, *record.intra_ids))]))
        graph = cls._nodes(len(split), len(image_id), list(split), image_id,
                           None, list(split.values()), None)
        if image_features is not None:
            _check_length(len(image_id), image_features=image_features)
            graph['image'].x = image_features
        row = {name: i for i, name in enumerate(image_id)}
        for kind, relation in (('inter', MATCHES), ('intra', RESEMBLES)):
            source, target, weight = [], [], []
            for i, record in enumerate(records):
                names = getattr(record, f'{kind}_ids')
                scores = getattr(record, f'{kind}_scores')
                if len(names) != len(scores):
                    raise ValueError(
                        f"post {record.post_id!r}: '{kind}_ids' and "
                        f"'{kind}_scores' must be equally long "
                        f'(got {len(names)} and {len(scores)})')
                try:
                    target += [row[name] for name in names]
                except KeyError as error:
                    raise ValueError(
                        f'post {record.post_id!r}: image {error.args[0]!r} '
                        f"must be in 'image_id'") from None
                weight += scores
                source += [i] * len(names)
            query = np.array(source, np.int64)
            if relation == RESEMBLES:
                own = graph['text'].image_index.numpy()[query]
                if (own < 0).any():
                    raise ValueError(
                        f'post {records[query[own < 0][0]].post_id!r} must '
                        f"have its own image in 'image_id'")
                query = own
            graph._set_edges(relation, *_take(
                query, np.array(target, np.int64),
                np.array(weight, np.float32),
                None if pool == 'all'
                else graph['image'][f'{pool}_mask'].numpy(),
                k, threshold, drop_zero, relation))
        graph.k = k
        return graph

    @classmethod
    def _nodes(
        cls,
        num_texts: int,
        num_images: int,
        text_id: Sequence[str] | None,
        image_id: Sequence[str] | None,
        text_image: Any,
        text_split: Splits | None,
        image_split: Splits | None,
    ) -> 'RelationGraph':
        r"""A graph without edges and features."""
        text_ids = _ids(text_id, num_texts, 'text_id')
        image_ids = _ids(image_id, num_images, 'image_id')
        if text_image is None:
            if text_id is not None and image_id is not None:
                row = {name: i for i, name in enumerate(image_ids)}
                text_image = [row.get(name, -1) for name in text_ids]
            elif text_id is None and image_id is None \
                    and num_texts == num_images:
                text_image = range(num_texts)
            else:
                text_image = [-1] * num_texts
        index = torch.as_tensor(text_image, dtype=torch.long).view(-1)
        _check_length(num_texts, text_image=index)
        if index.numel() and not (-1 <= int(index.min())
                                  and int(index.max()) < num_images):
            wrong = int(((index < -1) | (index >= num_images)).nonzero()[0])
            raise ValueError(f"'text_image' must hold rows in [0, "
                             f'{num_images}), or -1 for none '
                             f'(got {int(index[wrong])} at row {wrong})')
        graph = cls()
        text, image = graph['text'], graph['image']
        text.num_nodes, image.num_nodes = num_texts, num_images
        text.post_id, image.post_id = text_ids, image_ids
        text.image_index = index
        code = _split_codes(text_split, num_texts, 'text_split')
        codes = _split_codes(image_split, num_images, 'image_split')
        for i, name in enumerate(_MASKS):
            text[name] = code == i
            image[name] = codes == i
            if image_split is None:
                image[name][index[(code == i) & (index >= 0)]] = True
        return graph

    def _set_edges(
        self,
        relation: tuple[str, str, str],
        row: Any,
        col: Any,
        weight: Any,
    ) -> None:
        store = self[relation]
        store.edge_index = torch.from_numpy(np.stack([row, col]))
        store.edge_weight = torch.from_numpy(weight)

    # Changes #################################################################

    def inductive(self, split: str = 'train') -> 'RelationGraph':
        r"""The graph without the edges into images of other splits (or of
        none), so that whatever is gathered for queries of :obj:`split`, in
        any number of hops, holds images of this split only. Queries of other
        splits remain, and look up images of :obj:`split`; so do posts that
        are inserted later.

        Places of removed neighbours stay empty; to have them filled, build
        the graph with :obj:`pool=split`.

        Args:
            split (str, optional): :obj:`'train'`, :obj:`'val'` or
                :obj:`'test'`. (default: :obj:`'train'`)
        """
        check_choice('split', split, _SPLITS)
        mask = self['image'][f'{split}_mask']
        graph = self.__copy__()
        for relation in (MATCHES, RESEMBLES):
            store = graph[relation]
            keep = mask[store.edge_index[1]]
            store.edge_index = store.edge_index[:, keep]
            store.edge_weight = store.edge_weight[keep]
        if 'bank' in self:
            graph.bank = self.bank.subset(mask.cpu().numpy())
        return graph

    def shuffled(self, seed: int = 0) -> 'RelationGraph':
        r"""The control without the signal: the same queries with as many
        neighbours of the same weights, but not theirs.

        Neighbours are permuted among the edges of each relation that join the
        same splits. Degrees of queries *and* of images (hubs remain hubs),
        weights and the leakage between splits thus stay what they are, and no
        query gets an image twice or its own. Where hubs leave little choice,
        a part of the neighbours is still the right one by chance.

        Args:
            seed (int, optional): Seed of the permutation.
                (default: :obj:`0`)
        """
        graph = self.__copy__()
        rng = np.random.default_rng(seed)
        for relation in (MATCHES, RESEMBLES):
            row, col = self[relation].edge_index.cpu().numpy()
            kind = (4 * self._split(relation[0])[row]
                    + self._split('image')[col])
            col = _permute(row, col, kind, self._own(relation[0]), rng)
            # Ranks stay where they are: weights keep their order.
            graph[relation].edge_index = torch.from_numpy(
                np.stack([row, col])).to(self[relation].edge_index.device)
        if 'bank' in graph:
            del graph.bank
        return graph

    def insert(
        self,
        text_x: Any = None,
        image_x: Any = None,
        object_types: Any = None,
        *,
        text_id: Sequence[str] | None = None,
        image_id: Sequence[str] | None = None,
        text_image: Any = None,
        text_split: Splits | None = None,
        text_features: OptTensor = None,
        image_features: OptTensor = None,
        log: bool = False,
    ) -> 'RelationGraph':
        r"""The graph with posts that were not there when it was built. They
        are queries only: they find images of the pool, as a post of the
        corpus would (with the same options and the statistics of then), but
        nothing finds them. All that was there stays as it is, and new posts
        do not know of each other, so that their order or number does not
        matter.

        Args:
            text_x (torch.Tensor or numpy.ndarray, optional): Keys of new texts
                :obj:`[n, F]`. (default: :obj:`None`)
            image_x (torch.Tensor or numpy.ndarray, optional): Keys of new
                images :obj:`[m, F]`. (default: :obj:`None`)
            object_types (torch.Tensor or numpy.ndarray, optional): Their kinds
                of objects :obj:`[m, C]`, if the graph was built with some.
                (default: :obj:`None`)
            text_id (sequence of str, optional): Ids; row numbers by default.
            image_id (sequence of str, optional): Likewise.
            text_image (torch.Tensor, optional): The own image of each new
                text among the new images, -1 for none; as in
                :meth:`from_features` by default. (default: :obj:`None`)
            text_split (sequence, optional): Splits; none by default.
                (default: :obj:`None`)
            text_features (torch.Tensor, optional): Further rows of
                :obj:`graph['text'].x`, if it has any.
                (default: :obj:`None`)
            image_features (torch.Tensor, optional): Further rows of
                :obj:`graph['image'].x`; :obj:`image_x` by default.
                (default: :obj:`None`)
            log (bool, optional): Whether to show progress.
                (default: :obj:`False`)

        Raises:
            ValueError: If the graph was not built from features, what it was
                built from is missing here, or an id is there already.

        Complexity: that of searching, and a copy of the stored features.
        """
        if 'bank' not in self:
            raise ValueError('posts can only be inserted into a graph that '
                             'was built by from_features (this one was not, '
                             'or was shuffled)')
        bank: RelationBank = self.bank
        text, image, types = bank.queries(text_x, image_x, object_types)
        old_texts = int(self['text'].num_nodes)
        old_images = int(self['image'].num_nodes)
        ids = []
        for given, old, new in ((text_id, old_texts, len(text)),
                                (image_id, old_images, len(image))):
            ids.append([str(old + i) for i in range(new)]
                       if given is None else given)
        if text_image is None and (text_id is None or image_id is None):
            alike = text_id is image_id and len(text) == len(image)
            text_image = range(len(text)) if alike else [-1] * len(text)
        added = self._nodes(len(text), len(image), ids[0], ids[1], text_image,
                            text_split, None)
        for store, keys, value, count in (
                ('text', text, text_features, len(text)),
                ('image', image, image_features, len(image))):
            if 'x' not in self[store]:
                continue
            if value is None and store == 'image':
                value = keys.x
            if value is None:
                raise ValueError(f"'{store}_features' must be given (got "
                                 f"None): '{store}' has features")
            old = self[store].x
            if value.shape != (count, *old.shape[1:]):
                raise ShapeError(
                    f"'{store}_features' must have shape "
                    f'{[count, *old.shape[1:]]} (got {list(value.shape)})',
                    (count, *old.shape[1:]), value.shape)
            added[store].x = value.to(old)
        own = added['text'].image_index
        group = bank.equals(image)
        inter = bank.match(text, None, np.append(group, -1)[own.numpy()], log)
        intra = bank.resemble(image, types, None, group, log)

        graph = self.__copy__()
        device = self['text'].image_index.device
        added['text'].image_index = torch.where(own < 0, own, own + old_images)
        for kind in ('text', 'image'):
            store = graph[kind]
            store.num_nodes = store.num_nodes + added[kind].num_nodes
            store.post_id = _ids(store.post_id + added[kind].post_id,
                                 store.num_nodes, f'{kind}_id')
            for key, value in added[kind].items():
                if isinstance(value, Tensor):
                    store[key] = torch.cat([store[key], value.to(device)])
        for relation, (row, col, weight), first in (
                (MATCHES, inter, old_texts), (RESEMBLES, intra, old_images)):
            edges = graph[relation]
            edges.edge_index = torch.cat([edges.edge_index, torch.from_numpy(
                np.stack([row + first, col])).to(device)], 1)
            edges.edge_weight = torch.cat([
                edges.edge_weight, torch.from_numpy(weight).to(device)])
        return graph

    # Look-ups ################################################################

    def gather(
        self,
        queries: Tensor | Sequence[str],
        num_hops: int = 1,
    ) -> 'RelationGraph':
        r"""The neighbourhood of some texts as a graph of its own.

        Its texts are the queries in the order given; its images are those
        within :obj:`num_hops` of them, each once, by row, the queries' own
        included. In the first hop a text finds the images it matches and its
        own image those it resembles; in each further hop, images that were
        found find others. :obj:`n_id` in both stores tells the rows here.

        Args:
            queries (torch.Tensor or sequence of str): Rows of texts, int64,
                or their ids.
            num_hops (int, optional): Number of hops. (default: :obj:`1`)

        Raises:
            ValueError: If a row or an id is not in the graph.

        Complexity: :math:`O(B k^h)`, whatever the size of the corpus.
        """
        check_at_least(1, num_hops=num_hops)
        text = self['text']
        device = text.image_index.device
        rows = self._rows_of(queries).to(device)
        own = text.image_index[rows]
        query, target, weight = self._out_edges(MATCHES, rows)
        frontier = torch.unique(own[own >= 0])
        found = torch.unique(torch.cat([frontier, target]))
        expanded, parts = frontier[:0], []
        for _ in range(num_hops):
            source, other, value = self._out_edges(RESEMBLES, frontier)
            parts.append((frontier[source], other, value))
            expanded = torch.cat([expanded, frontier])
            found = torch.unique(torch.cat([found, other]))
            frontier = found[~torch.isin(found, expanded)]
        source, other, value = (torch.cat(part) for part in zip(*parts))
        order = torch.argsort(source, stable=True)  # ranks keep their order

        out = type(self)()
        for kind, n_id in (('text', rows), ('image', found)):
            store = out[kind]
            store.num_nodes = n_id.numel()
            store.n_id = n_id
            number = self[kind].num_nodes
            for key, item in self[kind].items():
                if key == 'post_id':
                    store[key] = [item[i] for i in n_id.tolist()]
                elif isinstance(item, Tensor) and key != 'n_id' \
                        and item.dim() > 0 and item.size(0) == number:
                    store[key] = item[n_id]
        out['text'].image_index = torch.where(
            own < 0, own, torch.searchsorted(found, own))
        out[MATCHES].edge_index = torch.stack(
            [query, torch.searchsorted(found, target)])
        out[MATCHES].edge_weight = weight
        out[RESEMBLES].edge_index = torch.searchsorted(
            found, torch.stack([source[order], other[order]]))
        out[RESEMBLES].edge_weight = value[order]
        if 'k' in self:
            out.k = self.k
        return out

    def _out_edges(
        self,
        relation: tuple[str, str, str],
        rows: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The edges of some queries: positions in :obj:`rows`, neighbours
        and weights.
        """
        ptr = self._ptr(relation)
        first = ptr[rows]
        size = ptr[rows + 1] - first
        position = torch.arange(rows.numel(), device=rows.device)
        position = position.repeat_interleave(size)
        edge = (first - (size.cumsum(0) - size))[position] + torch.arange(
            position.numel(), device=rows.device)
        store = self[relation]
        return position, store.edge_index[1, edge], store.edge_weight[edge]

    def _ptr(self, relation: tuple[str, str, str]) -> Tensor:
        r"""Where the edges of each query start; computed once."""
        index = self[relation].edge_index
        cache = self._cache()
        known, version, ptr = cache.get(relation, (None, None, None))
        if known is not index or version != index._version:
            source = index[0]
            if (source[1:] < source[:-1]).any():
                raise ValueError(f"edges of '{relation[1]}' must be sorted by "
                                 f'query')
            ptr = ptr_from_sizes(torch.bincount(
                source, minlength=int(self[relation[0]].num_nodes)))
            cache[relation] = index, index._version, ptr
        return ptr

    def query_rows(
        self,
        queries: str | Tensor | Sequence[str] | None = None,
    ) -> Tensor:
        r"""Rows of texts by their split, a mask, their ids, or of all."""
        text = self['text']
        if queries is None:
            return torch.arange(text.num_nodes)
        if isinstance(queries, str):
            check_choice('queries', queries, _SPLITS)
            queries = text[f'{queries}_mask']
        if isinstance(queries, Tensor) and queries.dtype == torch.bool:
            _check_length(text.num_nodes, queries=queries)
            return queries.nonzero().view(-1)
        return self._rows_of(queries)

    def _rows_of(self, queries: Tensor | Sequence[str]) -> Tensor:
        number = int(self['text'].num_nodes)
        if isinstance(queries, Tensor):
            if queries.dim() != 1 or queries.dtype != torch.long:
                raise ShapeError(
                    f"'queries' must be rows as an int64 tensor [B], or ids "
                    f'(got {queries.dtype} {list(queries.shape)})',
                    ('B', ), queries.shape)
            if queries.numel() and not (0 <= int(queries.min())
                                        and int(queries.max()) < number):
                wrong = queries[(queries < 0) | (queries >= number)]
                raise ValueError(f"'queries' must be rows in [0, {number}) "
                                 f'(got {int(wrong[0])})')
            return queries
        ids = self['text'].post_id
        cache = self._cache()
        known, row = cache.get('row', (None, {}))
        if known is not ids:
            row = {name: i for i, name in enumerate(ids)}
            cache['row'] = ids, row
        try:
            return torch.tensor([row[name] for name in queries],
                                dtype=torch.long)
        except KeyError as error:
            name = error.args[0]
            raise ValueError(f"'queries' must be ids of this graph's {number} "
                             f'posts (got {name!r})') from None

    def _cache(self) -> dict[Any, Any]:
        # Not a store: neither saved nor moved, and checked when it is read.
        cache: dict[Any, Any] = self.__dict__.setdefault('_lookups', {})
        return cache

    def __copy__(self) -> 'RelationGraph':
        out: RelationGraph = super().__copy__()
        out.__dict__.pop('_lookups', None)
        return out

    def __deepcopy__(self, memo: Any) -> 'RelationGraph':
        out: RelationGraph = super().__deepcopy__(memo)
        out.__dict__.pop('_lookups', None)
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items()
                if key != '_lookups'}

    def to_messages(self) -> HeteroData:
        r"""The same graph with edges in the direction that messages flow,
        from a neighbour to the query: what PyG's convolutions and its
        :class:`~torch_geometric.loader.NeighborLoader` expect. The own image
        of each text is one more relation, (image, pairs, text).

        Ids stay behind; samplers tell rows by :obj:`n_id`.

        Example:
            >>> x = torch.eye(3) + .1
            >>> graph = RelationGraph.from_features(x, x, k=2)
            >>> graph.to_messages().edge_types
            [('image', 'matches', 'text'), ('image', 'resembles', 'image'),
             ('image', 'pairs', 'text')]
        """
        out = HeteroData()
        for kind in ('text', 'image'):
            for key, value in self[kind].items():
                if key not in ('post_id', 'image_index'):
                    out[kind][key] = value
            out[kind].num_nodes = self[kind].num_nodes
        for relation in (MATCHES, RESEMBLES):
            source, name, target = relation
            store = self[relation]
            out[target, name, source].edge_index = store.edge_index.flip(0)
            out[target, name, source].edge_weight = store.edge_weight
        own = self['text'].image_index
        row = (own >= 0).nonzero().view(-1)
        pairs = out['image', 'pairs', 'text']
        pairs.edge_index = torch.stack([own[row], row])
        pairs.edge_weight = torch.ones(row.numel(), device=row.device)
        return out

    def report(self, split: str | None = None) -> RelationReport:
        r"""Degrees, hubs, leakage between splits, zero and tied scores and
        connected components of both relations.

        Args:
            split (str, optional): Whose queries to count: :obj:`'train'`,
                :obj:`'val'` or :obj:`'test'`; all by default.
                (default: :obj:`None`)
        """
        if split is not None:
            check_choice('split', split, _SPLITS)
        parts = []
        for relation in (MATCHES, RESEMBLES):
            kind = relation[0]
            asked = (np.ones(self[kind].num_nodes, bool) if split is None
                     else self[kind][f'{split}_mask'].cpu().numpy())
            parts.append(relation_statistics(
                relation[1], self[relation].edge_index.cpu().numpy(),
                self[relation].edge_weight.cpu().numpy(), asked,
                self._split(kind), self._split('image'),
                same=relation == RESEMBLES))
        return RelationReport(*parts)

    def _split(self, kind: str) -> Any:
        r"""The first split of each node, 3 for none."""
        code = np.full(self[kind].num_nodes, 3)
        for i in reversed(range(3)):
            code[self[kind][_MASKS[i]].cpu().numpy()] = i
        return code

    def _own(self, kind: str) -> Any:
        r"""The own image of each node."""
        return (np.arange(self['image'].num_nodes) if kind == 'image'
                else self['text'].image_index.cpu().numpy())

    def validate(self, raise_on_error: bool = True) -> bool:
        r"""Checks positions, order, ids, masks and numbers; see
        :meth:`Post.validate`. Also that no image is found twice by a query,
        and none by itself.
        """
        report = Report(self)
        for kind in ('text', 'image'):
            store, number = self[kind], self[kind].num_nodes
            if len(store.post_id) != number:
                report.add(f"'{kind}.post_id' must hold one id a node (got "
                           f'{len(store.post_id)} for {number})')
            elif len(set(store.post_id)) < number and 'n_id' not in store:
                report.add(f"'{kind}.post_id' must not hold an id twice")
            for key in ('x', *_MASKS):
                if key in store and store[key].size(0) != number:
                    report.add(f"'{kind}.{key}' must have one row a node "
                               f'(got {store[key].size(0)} for {number})')
            check_finite(report, store, kind)
        own = self['text'].image_index
        limit = self['image'].num_nodes
        wrong = ((own < -1) | (own >= limit)).nonzero()
        if wrong.numel():
            report.add(f"'text.image_index' must be in [-1, {limit}) (got "
                       f'{int(own[wrong[0]])} at row {int(wrong[0])})')
        for relation in (MATCHES, RESEMBLES):
            source, name, target = relation
            store = self[relation]
            check_edges(report, store, self[source].num_nodes,
                        self[target].num_nodes, ' '.join(relation))
            check_finite(report, store, name)
            row, col = store.edge_index
            if (row[1:] < row[:-1]).any():
                report.add(f"edges of '{name}' must be sorted by query")
            key = row * (limit + 1) + col
            if key.unique().numel() < key.numel():
                report.add(f"'{name}' must not join two nodes twice")
            if relation == RESEMBLES and (row == col).any():
                report.add(f"'{name}' must not join an image to itself (got "
                           f'{int(row[row == col][0])})')
        return report.close(raise_on_error)

    def __repr__(self) -> str:
        if not all(kind in self.node_types for kind in ('text', 'image')):
            return f'{type(self).__name__}()'
        most = f' | k={self.k}' if 'k' in self else ''
        return (f'{type(self).__name__}({self["text"].num_nodes} texts, '
                f'{self["image"].num_nodes} images | '
                f'{self[MATCHES].num_edges} matches, '
                f'{self[RESEMBLES].num_edges} resembles{most})')


def _take(
    row: Any,
    col: Any,
    weight: Any,
    mask: Any,
    k: int,
    threshold: float | None,
    drop_zero: bool,
    relation: tuple[str, str, str],
) -> tuple[Any, Any, Any]:
    r"""The first :obj:`k` of each list, by query."""
    if not np.isfinite(weight).all():
        raise ValueError(f"scores of '{relation[1]}' must be finite (got "
                         f'{weight[~np.isfinite(weight)][0]})')
    if mask is not None:
        row, col, weight = (part[mask[col]] for part in (row, col, weight))
    by = np.argsort(row, kind='stable')
    row, col, weight = row[by], col[by], weight[by]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    keep = place < k
    if threshold is not None:
        keep &= weight >= threshold
    if drop_zero:
        keep &= weight != 0
    return row[keep], col[keep], weight[keep]


def _permute(row: Any, col: Any, kind: Any, own: Any, rng: Any) -> Any:
    r"""Targets permuted among edges of the same kind, by rounds of random
    swaps from which those that join a pair twice are taken back. Rounds of
    disjoint swaps mix in a number that grows with the logarithm of edges.
    """
    def faulty(col: Any) -> Any:
        wrong = own[row] == col
        order = np.lexsort((col, row))
        twice = np.flatnonzero((row[order][1:] == row[order][:-1])
                               & (col[order][1:] == col[order][:-1]))
        wrong[order[twice]] = wrong[order[twice + 1]] = True
        return wrong

    for _ in range(_SWAPS):
        order = np.lexsort((rng.random(len(col)), kind))
        one, two = order[:-1:2], order[1::2]
        alike = kind[one] == kind[two]
        one, two = one[alike], two[alike]
        new = col.copy()
        new[one], new[two] = col[two], col[one]
        while True:
            wrong = faulty(new)
            back = wrong[one] | wrong[two]
            if not back.any():
                break
            new[one[back]], new[two[back]] = col[one[back]], col[two[back]]
            one, two = one[~back], two[~back]
        col = new
    return col


def _check_length(number: int, **values: Any) -> None:
    for name, value in values.items():
        if value is not None and len(value) != number:
            raise ShapeError(f"'{name}' must have {number} rows "
                             f'(got {len(value)})')


def _ids(ids: Sequence[str] | None, number: int, name: str) -> list[str]:
    if ids is None:
        return [str(i) for i in range(number)]
    out = list(ids)
    if len(out) != number:
        raise ShapeError(f"'{name}' must hold {number} ids (got {len(out)})")
    if len(set(out)) < number:
        twice = next(name for i, name in enumerate(out) if name in out[:i])
        raise ValueError(f"'{name}' must hold an id once (got {twice!r} "
                         f'again)')
    return out


def _split_codes(value: Splits | None, number: int, name: str) -> Tensor:
    if value is None:
        return torch.full((number, ), -1)
    code = {split: i for i, split in enumerate(_SPLITS)}
    out = []
    for item in value.tolist() if hasattr(value, 'tolist') else value:
        if item is None or item in (-1, 0, 1, 2):
            out.append(-1 if item is None else int(item))
        elif item in code:
            out.append(code[item])
        else:
            raise ValueError(f"'{name}' must name splits (got {item!r}); "
                             f'{suggest(item, _SPLITS)}')
    if len(out) != number:
        raise ShapeError(f"'{name}' must have {number} rows (got {len(out)})")
    return torch.tensor(out, dtype=torch.long)
