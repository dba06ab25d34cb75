"""What all corpora of posts share: rows over posts, and a content cache."""
import hashlib
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Dataset
from torch_geometric.data.collate import collate
from torch_geometric.data.separate import separate
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post, RelationGraph, Vocabulary
from mmgraph.errors import InputError
from mmgraph.typing import Split
from mmgraph.utils import atomic_path, cache_dir

__all__ = ['PostDataset', 'Row', 'cached', 'content_hash']


class Row(NamedTuple):
    r"""One instance: a post with the annotation that this instance has.

    Args:
        post (int): Position of the post.
        entities (sequence of tuples): As in :meth:`Post.build`.
        relations (sequence of tuples): As in :meth:`Post.build`.
    """
    post: int
    entities: Sequence[tuple[int, ...]]
    relations: Sequence[tuple[int, int, int]]


def content_hash(*parts: Any) -> str:
    r"""A short hash of anything that :func:`repr` shows in full."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode())
        digest.update(b'\0')
    return digest.hexdigest()[:16]


def cached(name: str, key: str, make: Callable[[], Any],
           force_reload: bool = False) -> Any:
    r"""What :obj:`make` gives, kept under :obj:`MMGRAPH_CACHE` and keyed by
    content. A cache file that cannot be read is made anew.

    Args:
        name (str): Folder and stem of the file, *e.g.* :obj:`'mnre/v2-train'`.
        key (str): Hash of all that the result depends on.
        make (callable): Makes the result: tensors and plain Python values.
        force_reload (bool, optional): Do not read. (default: :obj:`False`)
    """
    path = cache_dir() / f'{name}-{key}.pt'
    if path.is_file() and not force_reload:
        try:
            return torch.load(path, weights_only=True)
        except (AttributeError, EOFError, LookupError, OSError, RuntimeError,
                TypeError, ValueError, pickle.UnpicklingError):
            pass  # What a damaged file raises depends on the damaged byte.
    value = make()
    with atomic_path(path) as part:
        torch.save(value, part)
    return value


class PostDataset(Dataset):
    r"""A data set of instances (:class:`Row`) over posts.

    An instance shares its post's text, tree and scene graph, so what is
    computed once a post (parsing, alignment) is stored once a post. Slicing,
    shuffling and :obj:`transform` are those of
    :class:`torch_geometric.data.Dataset`.

    Args:
        posts (sequence of Post): The posts, without annotation; or what
            :meth:`pack` made of them.
        rows (sequence of Row): The instances; or a packed table.
        vocabularies (mapping): :class:`~mmgraph.data.Vocabulary` by name:
            :obj:`'relation'`, :obj:`'dependency'`, …
        transform (callable, optional): Applied at each access.
            (default: :obj:`None`)
        negative (str, optional): The relation that means "none".
            (default: :obj:`None`)
    """
    #: Names of the relations without direction: head and tail may be swapped.
    symmetric: ClassVar[tuple[str, ...]] = ()

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        # A copy or an un-pickled data set comes without arguments.
        bound = inspect.signature(cls.__init__).bind_partial(
            self, *args, **kwargs)
        self._init_args = dict(list(bound.arguments.items())[1:])
        return self

    def with_split(self, split: Split) -> 'PostDataset':
        r"""The same data set with the same arguments, another split.

        Raises:
            ValueError: If this data set has no splits.
        """
        if 'split' not in inspect.signature(type(self).__init__).parameters:
            raise ValueError(f"'{type(self).__name__}' has no splits")
        return type(self)(**{**self._init_args, 'split': split})

    def __init__(
        self,
        posts: Sequence[Post] | Mapping[str, Any],
        rows: Sequence[Row] | Mapping[str, Tensor],
        vocabularies: Mapping[str, Vocabulary],
        transform: BaseTransform | None = None,
        negative: str | None = None,
    ) -> None:
        super().__init__(None, transform)
        self.vocabularies = dict(vocabularies)
        self.negative = negative
        packed = posts if isinstance(posts, Mapping) else self.pack(posts)
        self._data = Post.from_dict(dict(packed['data']))
        self._slices = packed['slices']
        self._num_posts = packed['num_posts']
        self._posts: list[Post | None] = [None] * self._num_posts
        self._rows = (dict(rows) if isinstance(rows, Mapping)
                      else self.pack_rows(rows))

    @staticmethod
    def pack(posts: Sequence[Post]) -> dict[str, Any]:
        r"""Posts as a few large tensors, ready to save."""
        if not posts:
            return dict(data={}, slices={}, num_posts=0)
        data, slices, _ = collate(Post, data_list=list(posts),
                                  increment=False, add_batch=False)
        return dict(data=data.to_dict(), slices=slices, num_posts=len(posts))

    @staticmethod
    def pack_rows(rows: Sequence[Row]) -> dict[str, Tensor]:
        r"""Rows as tensors, ready to save."""
        def table(groups: list[Any]) -> tuple[Tensor, Tensor]:
            sizes = torch.tensor([0] + [len(group) for group in groups])
            flat = [(*row, 0)[:3] for group in groups for row in group]
            return (torch.tensor(flat, dtype=torch.int32).view(-1, 3),
                    sizes.cumsum(0))
        entity, entity_ptr = table([row.entities for row in rows])
        relation, relation_ptr = table([row.relations for row in rows])
        return dict(post=torch.tensor([row.post for row in rows],
                                      dtype=torch.long),
                    entity=entity, entity_ptr=entity_ptr,
                    relation=relation, relation_ptr=relation_ptr)

    def len(self) -> int:
        return self._rows['post'].numel()

    def _group(self, name: str, i: int) -> list[tuple[int, int, int]]:
        ptr = self._rows[f'{name}_ptr']
        rows = self._rows[name][int(ptr[i]):int(ptr[i + 1])]
        return [tuple(row) for row in rows.tolist()]

    def get(self, idx: int) -> Post:
        post = self.post(int(self._rows['post'][idx]))
        return post.annotated(self._group('entity', idx),
                              self._group('relation', idx))

    @property
    def num_posts(self) -> int:
        r"""Number of posts; an instance (row) is a view of one of them."""
        return self._num_posts

    def post(self, index: int) -> Post:
        r"""A post without annotation and without :obj:`transform`. Do not
        change it in place: its rows share it.
        """
        found = self._posts[index]
        if found is None:
            found = separate(Post, batch=self._data, idx=index,
                             slice_dict=self._slices, decrement=False)
            self._posts[index] = found
        return found

    @property
    def post_index(self) -> Tensor:
        r"""The post of each instance, :obj:`[len(self)]`."""
        return self._rows['post'][list(self.indices())]

    @property
    def relation_ids(self) -> Tensor:
        r"""The relation of each instance, :obj:`[len(self)]`, for corpora with
        one relation an instance.

        Raises:
            ValueError: If an instance has none or several.
        """
        if (self._rows['relation_ptr'].diff() != 1).any():
            raise ValueError(f"'{type(self).__name__}' has instances with no "
                             f'relation, or with several')
        return self._rows['relation'][list(self.indices()), 2].long()

    def relation_graph(self, k: int = 5, **options: Any) -> RelationGraph:
        r"""The graph across the posts of the whole corpus, all splits of it:
        what a post's text and image are related to in other posts.

        Args:
            k (int, optional): Most neighbours in each relation.
                (default: :obj:`5`)
            **options: What the corpus itself lets one choose.

        Raises:
            InputError: If no relations across the posts are known.
        """
        raise InputError(
            f"'{type(self).__name__}' knows no relations across its posts; "
            f'build a RelationGraph from features '
            f'(RelationGraph.from_features)')

    @property
    def signatures(self) -> list[list[int]]:
        r"""Which mentions the relations join here, and in which order of the
        text: a sorted row :obj:`[relation_id, head_type, tail_type,
        head_first, tail_first]` for each combination that occurs. The last
        two are how often the head, by :obj:`(start, end)`, stands before the
        tail and after it.
        """
        rows = self._rows
        # How often each instance is here: a slice may repeat one.
        times = torch.bincount(
            torch.tensor(list(self.indices()), dtype=torch.long),
            minlength=self._rows['post'].numel())
        instance = torch.repeat_interleave(rows['relation_ptr'].diff())
        here = times[instance] > 0
        instance, relation = instance[here], rows['relation'][here].long()
        head, tail = rows['entity'].long()[
            relation[:, :2].t() + rows['entity_ptr'][instance]]
        keys, group = torch.unique(
            torch.stack([relation[:, 2], head[:, 2], tail[:, 2]], dim=1),
            dim=0, return_inverse=True)
        same = head[:, 0] == tail[:, 0]
        first = (head[:, 0] < tail[:, 0]) | same & (head[:, 1] < tail[:, 1])
        last = (head[:, 0] > tail[:, 0]) | same & (head[:, 1] > tail[:, 1])
        counts = keys.new_zeros(keys.size(0), 2).index_add_(
            0, group, torch.stack([first, last], dim=1)
            * times[instance].unsqueeze(1))
        found: list[list[int]] = torch.cat([keys, counts], dim=1).tolist()
        return found

    def texts(self) -> Iterator[list[str]]:
        r"""The words of each post that has an instance here, once a post."""
        for index in self.post_index.unique().tolist():
            yield self._data.words[index]

    def words(self) -> Iterator[str]:
        r"""The words of all posts that have an instance here, once a post."""
        return chain.from_iterable(self.texts())

    def num_words(self) -> Tensor:
        r"""Number of words of each instance, :obj:`[len(self)]`."""
        sizes = self._slices['word']['head'].diff()
        return sizes[self.post_index]

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({len(self)} instances, '
                f'{self.num_posts} posts)')


