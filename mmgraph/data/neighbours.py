r"""The most similar among many rows: exact, in blocks, or by an index."""
import math
import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmgraph.errors import ShapeError
from mmgraph.utils import optional_import

__all__ = [
    'Distinct', 'Keys', 'Pool', 'distinct_rows', 'inverted_file', 'nearest',
    'row_hashes', 'starts'
]

#: Lists of the inverted file over the square root of the number of points,
#: and points that a list is trained on.
_LISTS, _TRAIN = 4.0, 32
#: Points that are compared with a block of queries at once, and the most of
#: them that share one maximum.
_STEP, _SEGMENT = 4096, 64
#: Points from which on half precision pays.
_HALF = 8192
#: Numbers gathered at once to compute exact similarities.
_GATHER = 2**18
#: Bytes of prepared points that are kept for the next block of queries.
_KEEP = 2**30


class Distinct(NamedTuple):
    r"""Rows of a table in groups of equal ones.

    Args:
        order (numpy.ndarray): Positions by group, ascending inside one,
            :obj:`[n]`.
        start (numpy.ndarray): Where groups start in :obj:`order`,
            :obj:`[G + 1]`.
        group (numpy.ndarray): The group of each row, :obj:`[n]`.
    """
    order: Any
    start: Any
    group: Any

    @property
    def first(self) -> Any:
        r"""The first member of each group, :obj:`[G]`."""
        return self.order[self.start[:-1]]

    @property
    def size(self) -> Any:
        r"""The number of members of each group, :obj:`[G]`."""
        return np.diff(self.start)


def distinct_rows(table: Any) -> Distinct:
    r"""Groups the equal rows of a table :obj:`[n, D]`, compared in double
    precision. Groups come in no particular order.

    Rows are sorted by a hash of 64 bits, twenty times faster than by value.
    Groups only ever hold equal rows; should two hashes meet, equal rows may
    end up in two groups. The table is read in blocks, and of rows whose hash
    is alone no further time.
    """
    number = len(table)
    key = row_hashes(table)
    step = max(1, _GATHER // max(1, table.shape[1]))
    order = np.argsort(key, kind='stable')
    key = key[order]
    new = np.ones(number, bool)
    same = np.flatnonzero(key[1:] == key[:-1]) + 1
    for low in range(0, len(same), step):
        place = same[low:low + step]
        new[place] = (np.asarray(table[order[place]], np.float64)
                      != np.asarray(table[order[place - 1]], np.float64)
                      ).any(1)
    start = np.flatnonzero(new)
    group = np.empty_like(order)
    group[order] = np.cumsum(new) - 1
    return Distinct(order, np.append(start, number), group)


def row_hashes(table: Any) -> Any:
    r"""A hash of 64 bits of each row in double precision, :obj:`[n]`."""
    key = np.empty(len(table), np.uint64)
    step = max(1, _GATHER // max(1, table.shape[1]))
    for low in range(0, len(table), step):
        key[low:low + step] = _hash(
            np.asarray(table[low:low + step], np.float64))
    return key


def _hash(table: Any) -> Any:
    key = np.zeros(len(table), np.uint64)
    for column in table.T:
        # splitmix64: sums of plain multiples would meet on a lattice.
        key += np.ascontiguousarray(column).view(np.uint64)
        key += np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(30)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(27)
        key *= np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


def starts(row: Any, number: int) -> Any:
    r"""Where each of :obj:`number` rows starts in a sorted list of rows,
    :obj:`[number + 1]`.
    """
    return np.searchsorted(row, np.arange(number + 1))


def inverted_file(
    dim: int,
    number: int,
    seed: int,
    inner_product: bool = False,
) -> Any:
    r"""An empty inverted file of `faiss
    <https://github.com/facebookresearch/faiss>`_ (extra :obj:`ann`), sized
    for :obj:`number` points; the same seed gives the same clusters.

    Raises:
        MissingExtraError: If faiss is not installed.
    """
    faiss = optional_import('faiss', 'ann')
    num_lists = max(1, min(int(_LISTS * math.sqrt(number)), number // 4))
    kind, metric = ((faiss.IndexFlatIP, faiss.METRIC_INNER_PRODUCT)
                    if inner_product else
                    (faiss.IndexFlatL2, faiss.METRIC_L2))
    quantizer = kind(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, num_lists, metric)
    index.cp.seed = seed % 2**31
    index.cp.min_points_per_centroid = 1  # or it warns
    index.cp.max_points_per_centroid = _TRAIN
    return index


class Keys:
    r"""Rows that are compared by cosine or inner product.

    Args:
        x (torch.Tensor or numpy.ndarray): The rows :obj:`[N, D]`; may be a
            memory map, which is read in blocks and never as a whole.
        name (str): Its name in messages.
        metric (str, optional): :obj:`'cosine'` or :obj:`'dot'`.
            (default: :obj:`'cosine'`)

    Raises:
        ShapeError: If :obj:`x` is not :obj:`[N, D]`.
        ValueError: If :obj:`x` holds no real numbers, or one is not finite.
    """
    def __init__(self, x: Any, name: str, metric: str = 'cosine') -> None:
        if isinstance(x, Tensor):
            x = x.detach().cpu()
        else:
            with warnings.catch_warnings():
                # A map opened for reading only; nothing here writes to it.
                warnings.filterwarnings('ignore', message='.*not writable')
                x = torch.from_numpy(np.asarray(x))
        if x.dim() != 2:
            raise ShapeError(f"'{name}' must have shape [N, D] "
                             f'(got {list(x.shape)})', ('N', 'D'), x.shape)
        if x.is_complex():
            raise ValueError(f"'{name}' must hold real numbers (got "
                             f'{x.dtype})')
        self.x = x
        self.name = name
        self.metric = metric
        length = torch.empty(len(x), dtype=torch.float64)
        step = max(1, _GATHER // max(1, x.size(1)))
        for low in range(0, len(x), step):
            block = self.exact(slice(low, low + step))
            square = np.einsum('ij,ij->i', block, block)
            if not np.isfinite(square).all():
                i = int(np.flatnonzero(~np.isfinite(square))[0])
                values = block[i]
                wrong = values[~np.isfinite(values)]
                if wrong.size == 0:
                    wrong = values[[np.abs(values).argmax()]]
                raise ValueError(f"'{name}' must be finite (got "
                                 f'{wrong[0]} at row {low + i})')
            length[low:low + step] = torch.from_numpy(np.sqrt(square))
        self.length = length
        # Whether single precision can hold the rows and their products.
        self.plain = bool(((length == 0) | ((length > 1e-15)
                                            & (length < 1e15))).all())
        if metric == 'dot' and not self.plain:
            raise ValueError(f"'{name}' must have rows of lengths between "
                             f"1e-15 and 1e15 for metric='dot'")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def dim(self) -> int:
        return self.x.size(1)

    @property
    def table(self) -> Any:
        r"""The rows as an array that can be sliced, without a copy."""
        if self.x.dtype == torch.bfloat16:  # NumPy has none
            return self.x.float().numpy()
        return self.x.numpy()

    def exact(self, rows: Any) -> Any:
        r"""Some rows in double precision."""
        return self.x[rows].double().numpy()

    def unit(self, rows: Any) -> Tensor:
        r"""Some rows in single precision, of length one for the cosine."""
        x = self.x[rows]
        if self.metric == 'dot':
            return x.float()
        length = self.length[rows].unsqueeze(1)
        length = length.masked_fill(length == 0, 1)  # zero rows stay zero
        if self.plain:
            return x.float() / length.float()
        return (x.double() / length).float()

    def scale(self, rows: Any) -> Any:
        r"""What the length of each of :meth:`unit` is in truth."""
        length = self.length[rows].numpy()
        return length if self.metric == 'dot' else (length > 0) * 1.

    def similarity(self, rows: Any, other: 'Keys', columns: Any) -> Any:
        r"""The similarity of pairs of rows, :obj:`[M]`, in double precision.
        It depends on the two rows alone, bit by bit: not on what else is
        computed, and not on which of the two is the query.
        """
        out = np.empty(len(rows))
        step = max(1, _GATHER // max(1, self.dim))
        for low in range(0, len(rows), step):
            r, c = rows[low:low + step], columns[low:low + step]
            value = np.einsum('ij,ij->i', self.exact(r), other.exact(c))
            if self.metric == 'cosine':
                length = (self.length[r] * other.length[c]).numpy()
                value /= np.where(length == 0, 1, length)
            out[low:low + step] = value
        return out


class Pool:
    r"""The rows that may be found, in groups of equal ones: a group is
    compared once, whatever its size. Groups are numbered by their first
    member.

    Args:
        keys (Keys): The rows.
        rows (numpy.ndarray): Which of them are in the pool, ascending.
        group (numpy.ndarray): The group of each, in any numbering.
    """
    def __init__(self, keys: Keys, rows: Any, group: Any) -> None:
        # Ascending rows: the first of each group is its lowest.
        _, first, group = np.unique(group, return_index=True,
                                    return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        group = rank[group]
        order = np.argsort(group, kind='stable')
        self.keys = keys
        self.order = torch.from_numpy(rows[order].astype(np.int64))
        self.start = torch.from_numpy(starts(group[order], len(first)))
        #: What is taken off twice the similarity of each group.
        self.offset: Tensor | None = None
        #: The least similarity at which each group may be found.
        self.reach: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # An index is neither saved nor copied.
        return {key: value for key, value in self.__dict__.items()
                if key != 'indexed'}

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def first(self) -> Tensor:
        r"""The first member of each group, :obj:`[G]`."""
        return self.order[self.start[:-1]]

    def group_of(self) -> Any:
        r"""The group of each row of the keys, -1 outside the pool."""
        group = np.full(len(self.keys), -1)
        size = np.diff(self.start.numpy())
        group[self.order.numpy()] = np.repeat(np.arange(len(self)), size)
        return group

    def subset(self, keep: Any) -> 'Pool':
        r"""The pool of some rows only, by a mask over all rows."""
        group = self.group_of()
        rows = np.flatnonzero((group >= 0) & keep)
        pool = Pool(self.keys, rows, group[rows])
        same = group[pool.first.numpy()]
        for name in ('offset', 'reach'):
            value = getattr(self, name)
            setattr(pool, name, None if value is None else value[same])
        return pool


class _Points:
    r"""The groups of a pool as they are compared with blocks of queries."""
    def __init__(self, pool: Pool, dtype: torch.dtype, segment: int) -> None:
        self.pool, self.dtype, self.segment = pool, dtype, segment
        self.rows = pool.first
        size = len(pool) * pool.keys.dim * dtype.itemsize
        self.kept: dict[int, tuple[Tensor, float]] | None = (
            {} if size <= _KEEP else None)

    def block(self, low: int) -> tuple[Tensor, float]:
        r"""Points from :obj:`low` on, and the most that one lost when it was
        rounded.
        """
        if self.kept is not None and low in self.kept:
            return self.kept[low]
        out = _rounded(self.pool.keys.unit(self.rows[low:low + _STEP]),
                       self.dtype)
        pad = -len(out[0]) % self.segment
        block = torch.nn.functional.pad(out[0], (0, 0, 0, pad))
        lost = float(out[1].max()) if len(out[1]) else 0.
        if self.kept is not None:
            self.kept[low] = block, lost
        return block, lost


def _rounded(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    r"""Rows in another precision and the length of what they lost."""
    out = x.to(dtype)
    if dtype == x.dtype:
        return out, x.new_zeros(len(x))
    return out, (x - out.float()).norm(dim=1)


def _coarse_dtype(number: int) -> torch.dtype:
    r"""What products with so many points are computed in: half precision
    where the CPU has matrix units for it (six times faster) and that pays for
    what is computed again, else single.
    """
    test = getattr(torch.cpu, '_is_amx_tile_supported', None)
    half = number >= _HALF and test is not None and test()
    return torch.bfloat16 if half else torch.float32


def nearest(
    queries: Keys,
    rows: Any,
    pool: Pool,
    k: int,
    *,
    own: Any = None,
    barred: tuple[Any, Any] | None = None,
    whole_ties: bool = False,
    index: str = 'exact',
    num_probes: int = 8,
    seed: int = 0,
    block_size: int = 4096,
    log: str | None = None,
) -> tuple[Any, Any, Any]:
    r"""The :obj:`k` members of a pool that are the most similar to each
    query. Similarities are those of double precision, rounded to single;
    equal ones are ties, of which the lowest row comes first.

    Blocks of queries and points are compared by matrix products, in half
    precision where the CPU is fast at it. Rounding cannot lose a neighbour:
    all that comes within twice the bound of the error to the :obj:`k`-th best
    is computed again, exactly. The result is thus that of double precision,
    and depends neither on the size of blocks nor on the other queries.

    Args:
        queries (Keys): Rows that queries are among.
        rows (numpy.ndarray): Which of them are queries, :obj:`[Q]`.
        pool (Pool): What is searched.
        k (int): How many members are asked for.
        own (numpy.ndarray, optional): The row of the pool's keys that each
            query may not find (-1: none), :obj:`[Q]`.
        barred (tuple, optional): Pairs of a query's position and a group of
            the pool that it may not find.
        whole_ties (bool, optional): Whether all members that tie with the
            :obj:`k`-th are given. (default: :obj:`False`)
        index (str, optional): :obj:`'exact'`, :obj:`'faiss'` for an inverted
            file, or :obj:`'faiss:...'` with any of its factory strings.
            (default: :obj:`'exact'`)
        num_probes (int, optional): Lists of an inverted file that a query
            looks into. (default: :obj:`8`)
        seed (int, optional): Seed of the inverted file.
        block_size (int, optional): Queries compared at once.
        log (str, optional): Label of a progress bar; none by default.

    Returns:
        Sorted by query, then rank: query positions :obj:`[M]`, rows of the
        pool's keys :obj:`[M]`, similarities :obj:`[M]`.

    Complexity: :math:`O(Q P D)` time for :math:`P` groups and
    :obj:`block_size` times :math:`O(D + P / 64)` memory; with an inverted
    file :math:`O((P + Q) \sqrt{P} D)` time and :math:`O(P D)` memory.
    """
    rows = np.asarray(rows)
    found: list[tuple[Any, Any, Any]] = []
    if len(pool) > 0 and len(rows) > 0:
        search = (_Exact(queries, pool) if index == 'exact'
                  else partial(_indexed(pool, index, seed), queries,
                               num_probes))
        blocks = range(0, len(rows), block_size)
        for low in tqdm(blocks, desc=log, disable=log is None):
            block = rows[low:low + block_size]
            mine = None if own is None else own[low:low + block_size]
            bars = None
            if barred is not None:
                here = slice(*np.searchsorted(
                    barred[0], [low, low + block_size]))
                bars = ((barred[0][here] - low) * len(pool)
                        + barred[1][here])
            row, col, score = _block(search, queries, block, pool, k, mine,
                                     bars, whole_ties)
            found.append((row + low, col, score))
    if not found:
        return (np.empty(0, np.int64), np.empty(0, np.int64),
                np.empty(0, np.float32))
    row, col, score = (np.concatenate(part) for part in zip(*found))
    return row, col, score


def _block(
    search: Any,
    queries: Keys,
    rows: Any,
    pool: Pool,
    k: int,
    own: Any,
    bars: Any,
    whole_ties: bool,
) -> tuple[Any, Any, Any]:
    r"""The neighbours of one block of queries."""
    # One more than asked for: a query's own row may be among them, and then
    # the first other member of its group may come after another tied group.
    pending, width = np.arange(len(rows)), k + 1
    done: list[tuple[Any, Any, Any, Any]] = []
    while True:
        row, group = search(rows[pending], width)
        row = pending[row]
        score = queries.similarity(rows[row], pool.keys, pool.first[group])
        rank = score.astype(np.float32)
        if pool.offset is not None:
            rank = (2 * score - pool.offset.numpy()[group]).astype(np.float32)
        order = np.lexsort((group, -rank, row))
        row, group, rank = row[order], group[order], rank[order]
        score = score[order].astype(np.float32)
        first = starts(row, len(rows))
        place = np.arange(len(row)) - first[row]
        size = np.diff(first)
        full = np.zeros(len(rows), bool)
        full[pending] = (size[pending] >= width) & (width < len(pool))
        keep = place < width
        if whole_ties:
            last = np.minimum(first[:-1] + width, first[1:]) - 1
            keep |= rank == rank[last[row]]
        if bars is not None:
            keep &= ~np.isin(row * len(pool) + group, bars)
        row, group, rank, score = (
            part[keep] for part in (row, group, rank, score))
        left = np.bincount(row, minlength=len(rows))
        again = full & (left < k + (own is not None))
        keep = ~again[row]
        done.append((row[keep], group[keep], rank[keep], score[keep]))
        pending = np.flatnonzero(again)
        if pending.size == 0:
            break
        width = min(4 * width, len(pool))
    row, group, rank, score = (np.concatenate(part) for part in zip(*done))
    return _members(row, group, rank, score, len(rows), pool, k, own,
                    whole_ties)


def _members(
    row: Any,
    group: Any,
    rank: Any,
    score: Any,
    number: int,
    pool: Pool,
    k: int,
    own: Any,
    whole_ties: bool,
) -> tuple[Any, Any, Any]:
    r"""The best :obj:`k` members of the groups that queries found."""
    start, order = pool.start.numpy(), pool.order.numpy()
    size = start[group + 1] - start[group]
    if not whole_ties:
        size = np.minimum(size, k + 1)
    entry = np.repeat(np.arange(len(row)), size)
    place = np.arange(len(entry)) - np.repeat(np.cumsum(size) - size, size)
    col = order[start[group[entry]] + place]
    row, group, rank, score = (
        part[entry] for part in (row, group, rank, score))
    if own is not None:
        keep = col != own[row]
        row, col, group, rank, score = (
            part[keep] for part in (row, col, group, rank, score))
    by = np.lexsort((col, -rank, row))
    row, col, group, rank, score = (
        part[by] for part in (row, col, group, rank, score))
    first = starts(row, number)
    place = np.arange(len(row)) - first[row]
    keep = place < k
    if whole_ties and len(row):
        last = np.minimum(first[:-1] + k, first[1:]) - 1
        keep |= rank == rank[last[row]]
    if pool.reach is not None:
        keep &= score >= pool.reach.numpy()[group]
    return row[keep], col[keep], score[keep]


class _Exact:
    r"""All groups that may be among the best of a block of queries."""
    def __init__(self, queries: Keys, pool: Pool) -> None:
        self.queries, self.pool = queries, pool
        self.dtype = _coarse_dtype(len(pool))
        # Sums of products in single precision, in any order; TF32 and the
        # like keep fewer bits of what is multiplied.
        single = torch.get_float32_matmul_precision() == 'highest'
        unit = 2.**-24 if single or self.dtype != torch.float32 else 2.**-9
        self.bound = 1.01 * ((queries.dim + 12) * 2.**-24 + 2 * unit)
        self.most = float(pool.keys.scale(pool.first).max())
        self.points: dict[int, _Points] = {}

    def __call__(self, rows: Any, width: int) -> tuple[Any, Any]:
        pool, number = self.pool, len(self.pool)
        single = self.queries.unit(rows)
        query, lost = _rounded(single, self.dtype)
        scale = torch.from_numpy(self.queries.scale(rows)).float()
        offset = None if pool.offset is None else pool.offset.float()
        # Enough maxima to tell the best ``width`` groups well.
        segment = 2**int(math.log2(max(1., min(
            _SEGMENT, min(_STEP, number) / (8 * width)))))
        if segment not in self.points:
            self.points[segment] = _Points(pool, self.dtype, segment)
        points = self.points[segment]
        lowest = torch.finfo(torch.float32).min
        best = torch.full((len(rows), width), -math.inf)
        slack, cut, found = torch.zeros(()), best[:, -1], []
        for low in range(0, number, _STEP):
            block, worst = points.block(low)
            score = query @ block.t()
            error = self.bound * scale * self.most + 1.01 * (
                lost * self.most + scale * worst)
            if offset is not None:
                part = offset[low:low + _STEP]
                score = torch.sub(2 * score.float(), torch.nn.functional.pad(
                    part, (0, len(block) - len(part))))
                error = 2 * error + 2.**-22 * (
                    scale * self.most + part.abs().max())
                if self.dtype != torch.float32:
                    error = error + 2.02 * 2.**-9 * scale * self.most
            slack = slack.maximum(error)
            score[:, number - low:] = -math.inf
            parts = score.view(len(rows), -1, segment)
            top = parts.amax(2)
            best = torch.cat([best, top.float()], 1).topk(width).values
            cut = best[:, -1] - 2 * slack
            if self.dtype != torch.float32:
                # The k-th best was rounded, and so was what equals it.
                cut = cut - 2.02 * 2.**-9 * best[:, -1].abs()
            cut = cut.nan_to_num_(nan=lowest, neginf=lowest)
            hit = _nonzero(top >= cut.unsqueeze(1))
            row = hit // top.size(1)
            inside = _nonzero(parts.view(-1, segment)[hit]
                              >= cut[row].unsqueeze(1))
            which = inside // segment
            col = hit[which] % top.size(1) * segment + inside % segment
            row = row[which]
            found.append((row, col + low, score[row, col].float()))
        row, col, score = (torch.cat(part) for part in zip(*found))
        keep = _nonzero(score >= cut[row])
        row, col = row[keep], col[keep]
        if self.dtype != torch.float32:
            row, col = self.refine(single, scale, row, col, width)
        return row.numpy(), col.numpy()

    def refine(
        self,
        query: Tensor,
        scale: Tensor,
        row: Tensor,
        col: Tensor,
        width: int,
    ) -> tuple[Tensor, Tensor]:
        r"""What half precision left open is mostly settled by single."""
        first = self.pool.first
        score = torch.empty(len(row))
        step = max(1, _GATHER // max(1, query.size(1)))
        for low in range(0, len(row), step):
            here = slice(low, low + step)
            score[here] = torch.einsum(
                'ij,ij->i', query[row[here]],
                self.pool.keys.unit(first[col[here]]))
        slack = self.bound * scale * self.most
        if self.pool.offset is not None:
            offset = self.pool.offset.float()
            score = 2 * score - offset[col]
            slack = 2 * slack + 2.**-22 * (
                scale * self.most + offset.abs().max())
        order = torch.from_numpy(np.lexsort((-score.numpy(), row.numpy())))
        row, col, score = row[order], col[order], score[order]
        start = torch.from_numpy(starts(row.numpy(), len(query)))
        last = (start[:-1] + width).minimum(start[1:]) - 1
        keep = score >= (score[last] - 2 * slack)[row]
        return row[keep], col[keep]


def _indexed(pool: Pool, index: str, seed: int) -> '_Approximate':
    r"""The index of a pool, which is kept for the next queries."""
    name, made = pool.__dict__.get('indexed', ((), None))
    if name != (index, seed):
        made = _Approximate(pool, index, seed)
        pool.__dict__['indexed'] = (index, seed), made
    return made


class _Approximate:
    r"""Groups that an index of faiss finds, the offset as one more axis."""
    def __init__(self, pool: Pool, index: str, seed: int) -> None:
        faiss = optional_import('faiss', 'ann')
        self.pool = pool
        number = len(pool)
        dim = pool.keys.dim + (pool.offset is not None)
        kind = index.partition(':')[2]
        if kind:
            self.index = faiss.index_factory(dim, kind,
                                             faiss.METRIC_INNER_PRODUCT)
        else:
            self.index = inverted_file(dim, number, seed, inner_product=True)
        if not self.index.is_trained:
            lists = getattr(self.index, 'nlist', 256)
            some = np.random.default_rng(seed).permutation(number)
            self.index.train(self.points(
                torch.from_numpy(np.sort(some[:_TRAIN * max(lists, 256)]))))
        step = max(1, _GATHER // dim)
        for low in range(0, number, step):
            self.index.add(self.points(
                torch.arange(low, min(number, low + step))))

    def points(self, groups: Tensor) -> Any:
        x = self.pool.keys.unit(self.pool.first[groups])
        if self.pool.offset is not None:
            offset = self.pool.offset[groups].float().unsqueeze(1)
            x = torch.cat([x, -offset], 1)
        return x.numpy()

    def __call__(
        self,
        queries: Keys,
        num_probes: int,
        rows: Any,
        width: int,
    ) -> tuple[Any, Any]:
        x = queries.unit(rows)
        if self.pool.offset is not None:
            x = torch.cat([2 * x, x.new_ones(len(x), 1)], 1)
        lists = getattr(self.index, 'nlist', 1)
        if hasattr(self.index, 'nprobe'):
            # Enough lists to hold several times as many as are asked for.
            self.index.nprobe = min(lists, max(num_probes, math.ceil(
                4 * width * lists / len(self.pool))))
        _, col = self.index.search(x.numpy(), min(width, len(self.pool)))
        row, place = (col >= 0).nonzero()
        return row, col[row, place]


def _nonzero(mask: Tensor) -> Tensor:
    # Three times faster than torch.nonzero.
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
