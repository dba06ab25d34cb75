r"""The images that queries of a corpus find, and how they are found."""
import copy
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmgraph.data.neighbours import (
    Keys,
    Pool,
    distinct_rows,
    nearest,
    row_hashes,
    starts,
)
from mmgraph.errors import ShapeError
from mmgraph.utils import check_choice, suggest

__all__ = ['HubCorrection', 'RelationBank', 'TieBreak', 'check_search']

HubCorrection: TypeAlias = Literal['mutual', 'csls']
TieBreak: TypeAlias = Literal['index', 'visual']

Edges: TypeAlias = tuple[Any, Any, Any]


def check_search(
    hub_correction: str | None,
    tie_break: str,
    index: str,
) -> None:
    r"""Refuses unknown options of a search."""
    if hub_correction is not None:
        check_choice('hub_correction', hub_correction, ('mutual', 'csls'))
    check_choice('tie_break', tie_break, ('index', 'visual'))
    if index not in ('exact', 'faiss') and not index.startswith('faiss:'):
        raise ValueError(f"'index' must name a search (got {index!r}); "
                         f"{suggest(index, ['exact', 'faiss'])}")


class RelationBank:
    r"""What a :class:`~mmgraph.data.RelationGraph` keeps of its construction,
    so that posts can be inserted: the keys of images that may be found, the
    statistics of hubs, and the options of
    :meth:`~mmgraph.data.RelationGraph.from_features`. Rows are those of the
    graph's images at the time it was built.
    """
    image: Pool
    types: Pool
    text_hash: Tensor | None = None
    text_group: Tensor | None = None

    def __init__(
        self,
        k: int,
        threshold: float | None,
        hub_correction: str | None,
        tie_break: str,
        drop_zero: bool,
        exclude_duplicates: bool,
        index: str,
        num_probes: int,
        seed: int,
        block_size: int,
    ) -> None:
        self.k = k
        self.threshold = threshold
        self.hub_correction = hub_correction
        self.tie_break = tie_break
        self.drop_zero = drop_zero
        self.exclude_duplicates = exclude_duplicates
        self.index = index
        self.num_probes = num_probes
        self.seed = seed
        self.block_size = block_size
        self.has_types = False

    def fit(
        self,
        text: Keys,
        image: Keys,
        types: Keys | None,
        texts: Any,
        images: Any,
        own: Any,
        log: bool = False,
    ) -> Any:
        r"""Takes the images of a mask as the pool, and corrects their hubs by
        the texts of a mask. Returns the group of the pool that equals each
        image, -1 for none.
        """
        group = distinct_rows(image.table).group
        rows = np.flatnonzero(images)
        self.image = Pool(image, rows, group[rows])
        self.has_types = types is not None
        # Hubs are corrected in one of the relations only.
        self.types = (Pool(
            types, rows, distinct_rows(types.table).group[rows])
            if types is not None else self.image
            if self.hub_correction is None else copy.copy(self.image))
        label = np.full(len(group), -1)
        label[group[self.image.first.numpy()]] = np.arange(len(self.image))
        group = label[group]
        if self.exclude_duplicates:
            self.text_hash, order = torch.from_numpy(
                row_hashes(text.table).view(np.int64)).sort()
            self.text_group = torch.from_numpy(
                np.append(group, -1)[own])[order]
        if self.hub_correction is not None:
            self._correct(text, np.flatnonzero(texts), log)
        return group

    def _correct(self, text: Keys, rows: Any, log: bool) -> None:
        r"""How near the images of the pool are to texts."""
        pool = Pool(text, rows, distinct_rows(text.table).group[rows])
        row, _, score = self._nearest(
            self.image.keys, self.image.first.numpy(), pool, self.k,
            log='hubs' if log else None)
        number = len(self.image)
        size = np.bincount(row, minlength=number)
        if self.hub_correction == 'csls':
            total = np.bincount(row, score.astype(np.float64), number)
            self.image.offset = torch.from_numpy(total / np.maximum(size, 1))
            return
        last = starts(row, number)[1:] - 1
        reach = np.full(number, -np.inf, np.float32)
        full = size == self.k  # or any text would be among its nearest
        reach[full] = score[last[full]]
        self.image.reach = torch.from_numpy(reach)

    def queries(
        self,
        text: Any,
        image: Any,
        types: Any,
    ) -> tuple[Keys, Keys, Keys | None]:
        r"""Keys of new posts, which must fit those of the pool."""
        keys = self.image.keys
        if image is not None and (types is not None) != self.has_types:
            raise ValueError(
                f"'object_types' must be given where the graph was built with "
                f"them, and only there (got {'none' if types is None else ''}"
                f"{'' if types is None else 'some'})")
        out = []
        for value, name, like in ((text, 'text_x', keys),
                                  (image, 'image_x', keys),
                                  (types, 'object_types', self.types.keys)):
            if value is None:
                value = torch.empty(0, like.dim)
            out.append(Keys(value, name, like.metric))
            if out[-1].dim != like.dim:
                raise ShapeError(f"'{name}' must have {like.dim} channels "
                                 f'(got {out[-1].dim})',
                                 (len(value), like.dim), value.shape)
        if self.has_types and len(out[1]) != len(out[2]):
            raise ShapeError(f"'object_types' must have {len(out[1])} rows "
                             f'(got {len(out[2])})')
        return out[0], out[1], out[2] if self.has_types else None

    def match(self, text: Keys, own: Any, group: Any, log: bool) -> Edges:
        r"""The images of texts. :obj:`own` are the rows of their own images
        (:obj:`None`: not to be excluded), :obj:`group` the groups that equal
        them, -1 for none.
        """
        return self._kept(*self._nearest(
            text, np.arange(len(text)), self.image, self.k, own=own,
            barred=self._barred(text, group),
            log='matches' if log else None))

    def resemble(
        self,
        image: Keys,
        types: Keys | None,
        own: Any,
        group: Any,
        log: bool,
    ) -> Edges:
        r"""The images of images, likewise."""
        label = 'resembles' if log else None
        if types is None:
            barred = None
            if self.exclude_duplicates:
                query = np.flatnonzero(group >= 0)
                barred = query, group[query]
            return self._kept(*self._nearest(
                image, np.arange(len(image)), self.types, self.k, own=own,
                barred=barred, log=label))
        if self.tie_break == 'visual':
            return self._kept(*self._by_looks(image, types, own, group, label))
        return self._kept(*self._by_types(types, own, group, label))

    def _by_types(
        self,
        types: Keys,
        own: Any,
        group: Any,
        log: str | None,
    ) -> Edges:
        r"""Queries with the same objects share a list, from which each takes
        what is not its own.
        """
        if len(types) == 0:
            return _edges([])
        kind = distinct_rows(types.table).group
        twins = self.image.group_of() if self.exclude_duplicates else None
        if twins is not None:
            kind = kind * (len(self.image) + 1) + group + 1
        _, first, kind = np.unique(kind, return_index=True,
                                   return_inverse=True)
        pending, width = np.arange(len(first)), self.k + 1
        lists = []
        while pending.size > 0:
            row, col, score = self._nearest(
                types, first[pending], self.types, width, log=log)
            full = np.bincount(row, minlength=len(pending)) == width
            if twins is not None:
                same = group[first[pending]]
                keep = (same[row] < 0) | (twins[col] != same[row])
                row, col, score = row[keep], col[keep], score[keep]
            # Without twins one place more is enough for what is own.
            full &= (np.bincount(row, minlength=len(pending))
                     < self.k + (twins is None))
            keep = ~full[row]
            lists.append((pending[row[keep]], col[keep], score[keep]))
            pending, width = pending[full], 4 * width
        row, col, score = _edges(lists)
        order = np.argsort(row, kind='stable')
        row, col, score = row[order], col[order], score[order]
        start = starts(row, len(first))
        size = np.diff(start)[kind]
        query = np.repeat(np.arange(len(kind)), size)
        entry = (np.arange(len(query)) - np.repeat(np.cumsum(size) - size, size)
                 + np.repeat(start[kind], size))
        col, score = col[entry], score[entry]
        if own is not None:
            keep = col != own[query]
            query, col, score = query[keep], col[keep], score[keep]
        keep = np.arange(len(query)) - starts(
            query, len(kind))[query] < self.k
        return query[keep], col[keep], score[keep]

    def _by_looks(
        self,
        image: Keys,
        types: Keys,
        own: Any,
        group: Any,
        log: str | None,
    ) -> Edges:
        r"""Among images with equally similar objects, those that look more
        alike come first. Queries with the same objects go together.
        """
        if len(types) == 0:
            return _edges([])
        kinds = distinct_rows(types.table)
        looks = self.image.group_of()
        pending, width = np.arange(len(kinds.first)), self.k + 1
        parts = []
        while pending.size > 0:
            row, col, score = self._nearest(
                types, kinds.first[pending], self.types, width,
                whole_ties=True, log=log)
            start = starts(row, len(pending))
            again = []
            for i, kind in enumerate(pending):
                here = slice(start[i], start[i + 1])
                query = kinds.order[kinds.start[kind]:kinds.start[kind + 1]]
                found = self._ordered(image, query, col[here], score[here],
                                      looks, own, group)
                size = np.bincount(found[0], minlength=len(query))
                if (size < self.k).any() and (
                        width <= start[i + 1] - start[i] < len(looks)):
                    again.append(kind)
                    continue
                parts.append((query[found[0]], *found[1:]))
            pending, width = np.array(again, np.int64), 4 * width
        row, col, score = _edges(parts)
        order = np.argsort(row, kind='stable')
        return row[order], col[order], score[order]

    def _ordered(
        self,
        image: Keys,
        query: Any,
        col: Any,
        score: Any,
        looks: Any,
        own: Any,
        group: Any,
    ) -> Edges:
        r"""The best of a list for each query, equal scores by looks."""
        parts = []
        level = np.flatnonzero(np.diff(score, prepend=np.inf))
        for low, high in zip(level, np.append(level[1:], len(col))):
            member = np.sort(col[low:high])
            pool = Pool(self.image.keys, member, looks[member])
            barred = None
            if self.exclude_duplicates:
                # Groups of this pool by their group in the whole one.
                whole = looks[pool.first.numpy()]
                order = np.argsort(whole)
                place = np.searchsorted(whole[order], group[query])
                place = order[np.minimum(place, len(order) - 1)]
                row = np.flatnonzero((whole[place] == group[query])
                                     & (group[query] >= 0))
                barred = row, place[row]
            row, found, _ = nearest(
                image, query, pool, self.k, barred=barred,
                own=None if own is None else own[query],
                block_size=self.block_size)
            parts.append((row, found, np.full(len(row), score[low])))
        row, found, value = _edges(parts)
        order = np.argsort(row, kind='stable')
        row, found, value = row[order], found[order], value[order]
        keep = np.arange(len(row)) - starts(row, len(query))[row] < self.k
        return row[keep], found[keep], value[keep]

    def _barred(self, text: Keys, group: Any) -> tuple[Any, Any] | None:
        r"""Pairs of a text and a group that equals its own image, or the own
        image of an equal text.
        """
        if self.text_hash is None or self.text_group is None:
            return None
        known = self.text_hash.numpy()
        wanted = row_hashes(text.table).view(np.int64)
        low = np.searchsorted(known, wanted)
        size = np.searchsorted(known, wanted, side='right') - low
        # Rows of zeros are empty texts, which tell of nothing.
        size[text.length.numpy() == 0] = 0
        row = np.repeat(np.arange(len(wanted)), size)
        entry = np.arange(len(row)) + np.repeat(
            low - (np.cumsum(size) - size), size)
        row = np.concatenate([row, np.arange(len(wanted))])
        col = np.concatenate([self.text_group.numpy()[entry], group])
        row, col = row[col >= 0], col[col >= 0]
        number = len(self.image)
        return np.divmod(np.unique(row * number + col), max(1, number))

    def equals(self, image: Keys) -> Any:
        r"""The group of the pool that equals each of other images, -1 for
        none.
        """
        out = np.full(len(image), -1)
        if not self.exclude_duplicates:
            return out
        pool = copy.copy(self.image)
        pool.offset = pool.reach = None
        row, col, _ = nearest(image, np.arange(len(image)), pool, 1,
                              whole_ties=True, block_size=self.block_size)
        group = pool.group_of()[col]
        same = np.array([np.array_equal(image.exact(r), pool.keys.exact(c))
                         for r, c in zip(row, col)], bool)
        out[row[same]] = group[same]
        return out

    def subset(self, keep: Any) -> 'RelationBank':
        r"""The bank of some images, by a mask; statistics stay."""
        out = copy.copy(self)
        keep = keep[:len(self.image.keys)]
        out.image, out.types = self.image.subset(keep), self.types.subset(keep)
        if self.text_group is not None:
            # Groups of the old pool in the new one.
            label = np.full(len(self.image) + 1, -1)
            old = self.image.group_of()[out.image.first.numpy()]
            label[old] = np.arange(len(old))
            out.text_group = torch.from_numpy(label[self.text_group.numpy()])
        return out

    def _nearest(
        self,
        queries: Keys,
        rows: Any,
        pool: Pool,
        k: int,
        **kwargs: Any,
    ) -> Edges:
        return nearest(queries, rows, pool, k, index=self.index,
                       num_probes=self.num_probes, seed=self.seed,
                       block_size=self.block_size, **kwargs)

    def _kept(self, row: Any, col: Any, score: Any) -> Edges:
        keep = np.ones(len(row), bool)
        if self.threshold is not None:
            keep &= score >= self.threshold
        if self.drop_zero:
            keep &= score != 0
        return row[keep], col[keep], score[keep]


def _edges(parts: list[Edges]) -> Edges:
    if not parts:
        return (np.empty(0, np.int64), np.empty(0, np.int64),
                np.empty(0, np.float32))
    row, col, score = (np.concatenate(part) for part in zip(*parts))
    return row, col, score
