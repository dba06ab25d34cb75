r"""The steps of structural alignment as plain functions.

They follow xNetMF, the embedding inside REGAL (`"REGAL: Representation
Learning-based Graph Alignment" <https://arxiv.org/abs/1802.06257>`_, CIKM
2018), which `"Multimodal Relation Extraction with Efficient Graph Alignment"
<https://doi.org/10.1145/3474085.3476968>`_ (MEGA, ACM MM 2021) applies to a
dependency tree and a scene graph.
"""
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mmgraph.data.view import ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.typing import OptTensor
from mmgraph.utils import checks_enabled, suggest

__all__ = [
    'CountScale', 'HistogramMethod', 'degree_histogram', 'landmark_embedding',
    'structural_similarity'
]

HistogramMethod: TypeAlias = Literal['auto', 'bitset', 'sparse', 'torch']
CountScale: TypeAlias = Literal['linear', 'log1p', 'sqrt']

#: Entries a sparse product may hold at once; rows are taken in pieces.
_MAX_ENTRIES = 2**24
#: Rows whose landmark kernel is held at once.
_CHUNK_ROWS = 8192


def degree_histogram(
    edge_index: Tensor,
    num_nodes: int,
    *,
    max_hops: int | None = 2,
    discount: float = 0.01,
    bucket_base: int | None = 2,
    include_self: bool = True,
    separate_hops: bool = False,
    count_scale: CountScale = 'linear',
    ptr: OptTensor = None,
    method: HistogramMethod = 'auto',
) -> Tensor:
    r"""Describes each node by the degrees found around it (REGAL, Section
    4.1, Step 1; MEGA, Eq. 12):

    .. math::
        \mathbf{d}_u = \sum_{h=0}^{K} \delta^h \,
        \varphi(\mathrm{hist}(\mathcal{R}_u^h)), \quad \varphi(c) = c

    where :math:`\mathcal{R}_u^h` holds the nodes at a shortest-path distance
    of exactly :math:`h` and :math:`\mathrm{hist}` counts how many of them fall
    into each logarithmic degree bucket. The graph is taken as undirected and
    simple: both directions and repeated edges are merged, self loops are
    dropped, so a node's degree is the number of its distinct neighbours.

    .. note::
        Two changes of ours make features robust to missing edges. With
        :obj:`separate_hops` the sum becomes a concatenation, so that the
        many nodes at two hops no longer drown those at one. With
        :obj:`count_scale='sqrt'`, :math:`\varphi(c) = \sqrt{c}`: an edge
        lost by chance then changes large and small counts alike (the root
        stabilises the variance of a Poisson count).

    .. note::
        The paper sums :math:`\delta^{h-1} \mathrm{hist}(\mathcal{R}_u^h)` from
        :math:`h = 1`; the published code starts at :math:`h = 0` with the
        node's own degree. :obj:`include_self=True` is the code,
        :obj:`include_self=False` is the paper. The code also counts a stored
        self loop in the degree; we do not.

    Args:
        edge_index (torch.Tensor): Edges :obj:`[2, E]`, in any direction.
        num_nodes (int): Number of nodes :math:`n`.
        max_hops (int, optional): Furthest hop :math:`K`; :obj:`0` is the own
            degree alone and :obj:`None` goes on until nothing new is reached.
            (default: :obj:`2`)
        discount (float): Weight :math:`\delta` of one hop more.
            (default: :obj:`0.01`)
        bucket_base (int, optional): Degree :math:`k > 0` falls into column
            :math:`\lfloor \log_b k \rfloor` and degree zero into none;
            :obj:`None` gives each degree, zero included, its own column.
            (default: :obj:`2`)
        include_self (bool): Whether hop 0, the node itself, counts.
            (default: :obj:`True`)
        separate_hops (bool): Whether each hop has columns of its own instead
            of being added to those of the others. (default: :obj:`False`)
        count_scale (str): :math:`\varphi`, how a count enters:
            :obj:`'linear'`, :obj:`'sqrt'` or :obj:`'log1p'`.
            (default: :obj:`'linear'`)
        ptr (torch.Tensor, optional): Where the graphs of a batch start,
            :obj:`[G + 1]`. A promise that no edge joins two graphs; it makes
            batches of small graphs much faster and changes no value.
            (default: :obj:`None`)
        method (str): How neighbourhoods are expanded. :obj:`'bitset'` keeps
            the nodes around a node as the bits of one machine word (graphs of
            up to 64 nodes, CPU); :obj:`'sparse'` takes SciPy's compiled
            sparse products (CPU), two to three times faster than those of
            PyTorch; :obj:`'torch'` runs on any device. All give the same
            numbers to the last bit; :obj:`'auto'` takes the fastest that
            applies. (default: :obj:`'auto'`)

    Returns:
        torch.Tensor: Features :obj:`[n, D]` in double precision, in units of
        nodes. :math:`D = \lfloor \log_b k_{\max} \rfloor + 1` with buckets and
        :math:`k_{\max} + 1` without; one column of zeros if no node has an
        edge. With :obj:`separate_hops`, as many for each hop.

    Raises:
        ShapeError: If :obj:`edge_index` is not :obj:`[2, E]`.
        ValueError: If an argument is out of range.

    Complexity: :math:`O(\sum_u \sum_{v \in \mathcal{N}(u)} k_v)` for
    :math:`K = 2`; memory is bounded by taking rows in pieces.

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])
        >>> degree_histogram(path, 3, discount=0.5)
        tensor([[1.2500, 0.5000],
                [1.0000, 1.0000],
                [1.2500, 0.5000]], dtype=torch.float64)
    """
    return histogram_and_degree(
        edge_index, num_nodes, max_hops=max_hops, discount=discount,
        bucket_base=bucket_base, include_self=include_self,
        separate_hops=separate_hops, count_scale=count_scale, ptr=ptr,
        method=method)[0].contiguous()


def histogram_and_degree(
    edge_index: Tensor,
    num_nodes: int,
    *,
    max_hops: int | None = 2,
    discount: float = 0.01,
    bucket_base: int | None = 2,
    include_self: bool = True,
    separate_hops: bool = False,
    count_scale: CountScale = 'linear',
    ptr: OptTensor = None,
    method: HistogramMethod = 'auto',
) -> tuple[Tensor, Tensor]:
    r"""As :meth:`degree_histogram`, and the degrees :obj:`[n]`."""
    check_histogram(max_hops, discount, bucket_base, count_scale)
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ShapeError(
            f"'edge_index' must have shape [2, E] "
            f"(got {list(edge_index.shape)})", (2, 'E'), edge_index.shape)
    if checks_enabled() and edge_index.numel() > 0:
        low, high = torch.aminmax(edge_index)
        if low < 0 or high >= num_nodes:
            raise ValueError(
                f"'edge_index' must hold positions in [0, {num_nodes}) (got "
                f"{int(low if low < 0 else high)}). Is 'num_nodes' the number "
                f"of nodes of all graphs together?")
    if ptr is None:
        ptr = edge_index.new_tensor([0, num_nodes])
    elif checks_enabled() and edge_index.numel() > 0:
        graph = _graph_of(ptr, num_nodes)
        if not torch.equal(graph[edge_index[0]], graph[edge_index[1]]):
            raise ValueError("'edge_index' must not join two graphs of 'ptr'")
    hops = _BACKENDS[_resolve(method, edge_index, ptr)](edge_index, num_nodes,
                                                        ptr, max_hops)
    degree = hops.degree
    column, num_columns = _columns(degree, bucket_base)
    size = (num_nodes, num_columns)
    root, log = count_scale == 'sqrt', count_scale == 'log1p'
    one = math.log(2) if log else 1.0
    weight = discount if include_self else 1.0
    # Hop 0 by itself, or what the other hops are added to.
    parts: list[Any]
    if isinstance(hops, _Torch):
        parts = [torch.zeros(size, dtype=torch.double,
                             device=edge_index.device)]
        if include_self:
            node = (column >= 0).nonzero().view(-1)
            parts[0][node, column[node]] = one
        for count in hops.counts(column, num_columns):
            count = count.double()
            count = count.sqrt() if root else count.log1p() if log else count
            if separate_hops:
                parts.append(count * weight)
            else:
                parts[0] += count * weight
            weight *= discount
    else:
        parts = [np.zeros(size[::-1])]  # columns first: read one by one
        if include_self:
            node = np.flatnonzero(column >= 0)
            parts[0].reshape(-1)[column[node] * num_nodes + node] = one
        for count in hops.counts(column, num_columns):
            if root or log:
                count = (np.sqrt if root else np.log1p)(count,
                                                        dtype=np.float64)
            count = np.multiply(count, weight, dtype=np.float64)
            if separate_hops:
                parts.append(count)
            else:
                parts[0] += count
            weight *= discount
    if not include_self and len(parts) > 1:
        del parts[0]
    if isinstance(hops, _Torch):
        return torch.cat(parts, dim=1), degree
    table = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return torch.from_numpy(table).t(), torch.from_numpy(degree)


def landmark_embedding(
    features: Tensor,
    landmarks: Tensor,
    *,
    gamma_struct: float = 1.0,
    attributes: OptTensor = None,
    gamma_attr: float = 1.0,
    squared: bool = False,
    rtol: float = 1e-10,
    eps: float = 1e-12,
    dtype: torch.dtype = torch.double,
) -> Tensor:
    r"""Factors the similarity of all nodes through their similarity to a few
    landmarks (REGAL, Section 4.2):

    .. math::
        \mathbf{C}_{ul} = \exp(-\gamma_s \lVert \mathbf{d}_u - \mathbf{d}_l
        \rVert_2 - \gamma_a \lvert \{ f : A_{uf} \neq A_{lf} \} \rvert), \quad
        \mathbf{Y} = \mathbf{C} \mathbf{V} \mathbf{\Lambda}^{-1/2}

    with :math:`\mathbf{W} = \mathbf{V} \mathbf{\Lambda} \mathbf{V}^{\top}` the
    rows of :math:`\mathbf{C}` at the landmarks, so that :math:`\mathbf{Y}
    \mathbf{Y}^{\top} = \mathbf{C} \mathbf{W}^{+} \mathbf{C}^{\top}` before
    rows are scaled to unit length. :math:`\mathbf{Y}` is defined up to a
    rotation; only its Gram matrix means something.

    .. note::
        The paper squares the norm in the exponent (:obj:`squared=True`); the
        published code does not. The code takes the singular vectors of the
        pseudo-inverse where we take the eigenvectors of :math:`\mathbf{W}`,
        which is the same, cheaper, and defined when landmarks coincide (which
        is common).

    Args:
        features (torch.Tensor): Structural features :obj:`[n, D]`, *e.g.* from
            :meth:`degree_histogram`.
        landmarks (torch.Tensor): Rows that serve as landmarks, :obj:`[p]`.
        gamma_struct (float): Weight :math:`\gamma_s`. (default: :obj:`1.0`)
        attributes (torch.Tensor, optional): Categorical ids :obj:`[n, F]`,
            compared for equality. (default: :obj:`None`)
        gamma_attr (float): Weight :math:`\gamma_a`. (default: :obj:`1.0`)
        squared (bool): Whether the norm is squared. (default: :obj:`False`)
        rtol (float): Eigenvalues below this share of the largest one count as
            zero. On the pairs we tested, any value from :obj:`1e-6` to
            :obj:`1e-12` aligns alike. (default: :obj:`1e-10`)
        eps (float): Shortest row that is still scaled to unit length.
            (default: :obj:`1e-12`)
        dtype (torch.dtype): What rows are stored in. The kernel and its
            factor are double precision in any case: in single precision they
            cost several points of accuracy, whereas storing rows so costs
            none. (default: :obj:`torch.double`)

    Returns:
        torch.Tensor: Unit rows :obj:`[n, p]`. Where :math:`\mathbf{W}`
        has rank :math:`r < p`, the last :math:`p - r` columns are zero.
        Not differentiable.

    Raises:
        ShapeError: If shapes do not fit.

    Complexity: :math:`O(n p (D + p) + p^3)`.

    Example:
        >>> y = landmark_embedding(torch.tensor([[0.0], [1.0], [1.0]]),
        ...                        torch.tensor([0, 1]))
        >>> y @ y.t()
        tensor([[1.0000, 0.3679, 0.3679],
                [0.3679, 1.0000, 1.0000],
                [0.3679, 1.0000, 1.0000]], dtype=torch.float64)
    """
    if features.dim() != 2:
        raise ShapeError(
            f"'features' must have shape [n, D] (got {list(features.shape)})",
            ('n', 'D'), features.shape)
    _check_attributes(attributes, features.size(0))
    with torch.no_grad():
        centers = features[landmarks].double()

        def kernel(rows: slice | Tensor) -> Tensor:
            out = torch.cdist(
                features[rows].double(), centers,
                compute_mode='donot_use_mm_for_euclid_dist')
            out = (out.square_() if squared else out).mul_(-gamma_struct)
            if attributes is not None:
                ours, theirs = attributes[rows], attributes[landmarks]
                for f in range(attributes.size(1)):
                    differ = ours[:, f, None] != theirs[None, :, f]
                    out.add_(differ, alpha=-gamma_attr)
            return out.exp_()

        gram = kernel(landmarks)
        value, vector = torch.linalg.eigh((gram + gram.t()) / 2)
        value, vector = value.flip(0), vector.flip(1)
        keep = value > rtol * value[:1]
        factor = vector * torch.where(keep, value, 1.0).rsqrt() * keep
        out = features.new_empty(features.size(0), landmarks.numel(),
                                 dtype=dtype)
        for start in range(0, features.size(0), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            part = kernel(rows) @ factor
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
            out[rows] = part.div_(norm.clamp_(min=eps))
        return out


def structural_similarity(
    source: Tensor,
    target: Tensor,
    *,
    gamma_struct: float = 1.0,
    source_attributes: OptTensor = None,
    target_attributes: OptTensor = None,
    gamma_attr: float = 1.0,
    squared: bool = False,
) -> Tensor:
    r"""The alignment score that the landmark route gives when **every** node
    is a landmark:

    .. math::
        a_{ij} = \exp(-\sqrt{2 - 2 \mathbf{S}_{ij}}), \quad \mathbf{S}_{ij} =
        \exp(-\gamma_s \lVert \mathbf{d}_i - \mathbf{d}_j \rVert_2 - \gamma_a
        \lvert \{ f : A_{if} \neq A_{jf} \} \rvert)

    Then :math:`\mathbf{C} = \mathbf{W} = \mathbf{S}`, hence :math:`\mathbf{Y}
    \mathbf{Y}^{\top} = \mathbf{S}`, whose diagonal is one, so that
    :math:`\lVert \mathbf{y}_i - \mathbf{y}_j \rVert^2 = 2 - 2 \mathbf{S}_{ij}`
    and neither landmarks nor a factorisation are needed.

    .. note::
        MEGA (Eq. 13 and after) squares both norms; its published code squares
        none. :obj:`squared=True` squares the inner one. The outer one changes
        scores but no ranking, and stays plain.

    Args:
        source (torch.Tensor): Features :obj:`[..., N_s, D]`.
        target (torch.Tensor): Features :obj:`[..., N_t, D]`.
        gamma_struct (float): Weight :math:`\gamma_s`. (default: :obj:`1.0`)
        source_attributes (torch.Tensor, optional): Categorical ids
            :obj:`[..., N_s, F]`. (default: :obj:`None`)
        target_attributes (torch.Tensor, optional): Categorical ids
            :obj:`[..., N_t, F]`. (default: :obj:`None`)
        gamma_attr (float): Weight :math:`\gamma_a`. (default: :obj:`1.0`)
        squared (bool): Whether the norm is squared. (default: :obj:`False`)

    Returns:
        torch.Tensor: Scores :obj:`[..., N_s, N_t]` in
        :math:`[e^{-\sqrt{2}}, 1]`, one for equal features. Not
        differentiable.

    Example:
        >>> structural_similarity(torch.tensor([[0.0], [1.0]]),
        ...                       torch.tensor([[1.0]]))
        tensor([[0.3249],
                [1.0000]])
    """
    attributes = None
    if source_attributes is not None and target_attributes is not None:
        attributes = zip(
            [ids.unsqueeze(-1) for ids in source_attributes.unbind(-1)],
            [ids.unsqueeze(-2) for ids in target_attributes.unbind(-1)])
    return score_from_columns(
        zip([column.unsqueeze(-1) for column in source.unbind(-1)],
            [column.unsqueeze(-2) for column in target.unbind(-1)]),
        gamma_struct=gamma_struct, attributes=attributes,
        gamma_attr=gamma_attr, squared=squared)


@torch.no_grad()
def score_from_columns(
    columns: Iterable[tuple[Tensor, Tensor]],
    *,
    gamma_struct: float,
    attributes: Iterable[tuple[Tensor, Tensor]] | None = None,
    gamma_attr: float = 1.0,
    squared: bool = False,
) -> Tensor:
    r"""As :meth:`structural_similarity`, for feature columns of both sides
    that broadcast against each other. Differences are taken before they are
    squared: with a matrix product, equal features would come out a score of
    3e-4 apart.
    """
    total, difference = None, None
    for a, b in columns:
        difference = torch.sub(a, b, out=difference)
        if total is None:
            total = difference.square()
        else:
            total.addcmul_(difference, difference)
    assert total is not None
    total = (total if squared else total.sqrt_()).mul_(-gamma_struct)
    if attributes is not None:
        for a, b in attributes:
            total.add_(a != b, alpha=-gamma_attr)
    return total.expm1_().mul_(-2).sqrt_().neg_().exp_()


def check_histogram(
    max_hops: int | None,
    discount: float,
    bucket_base: int | None,
    count_scale: str = 'linear',
) -> None:
    r"""Refuses bad arguments of :meth:`degree_histogram`."""
    if count_scale not in get_args(CountScale):
        raise ValueError(f"'count_scale' must name a scale (got "
                         f"{count_scale!r}); "
                         f'{suggest(count_scale, get_args(CountScale))}')
    if max_hops is not None and max_hops < 0:
        raise ValueError(f"'max_hops' must not be negative (got {max_hops}); "
                         f"None goes on until nothing new is reached")
    if not math.isfinite(discount) or discount < 0:
        raise ValueError(f"'discount' must be a number of at least 0 "
                         f"(got {discount})")
    if bucket_base is not None and (
            isinstance(bucket_base, bool) or not isinstance(bucket_base, int)
            or bucket_base < 2):
        raise ValueError(f"'bucket_base' must be a whole number of at least "
                         f"2, or None for a column a degree "
                         f"(got {bucket_base!r})")


def _check_attributes(attributes: OptTensor, num_nodes: int) -> None:
    if attributes is None:
        return
    if attributes.dim() != 2 or attributes.size(0) != num_nodes:
        raise ShapeError(
            f"'attributes' must have shape [{num_nodes}, F] "
            f"(got {list(attributes.shape)})",
            (num_nodes, 'F'), attributes.shape)


def _resolve(method: str, edge_index: Tensor, ptr: Tensor) -> str:
    if method != 'auto' and method not in _BACKENDS:
        raise ValueError(f"'method' must name a way to expand (got "
                         f"{method!r}); {suggest(method, list(_BACKENDS))}")
    cpu = edge_index.device.type == 'cpu'
    if method == 'torch' or (method == 'auto' and not cpu):
        return 'torch'
    if not cpu:
        raise ValueError(f"'method' must be 'torch' or 'auto' on device "
                         f"'{edge_index.device}' (got {method!r})")
    largest = int((ptr[1:] - ptr[:-1]).max()) if ptr.numel() > 1 else 0
    if method == 'bitset' and largest > 64:
        raise ValueError(f"'method' can only be 'bitset' for graphs of up to "
                         f"64 nodes (got {largest}). Was 'ptr' passed?")
    if method == 'auto':
        return 'bitset' if largest <= 64 else 'sparse'
    return method


def _graph_of(ptr: Tensor, num_nodes: int) -> Tensor:
    graph = torch.arange(ptr.numel() - 1, device=ptr.device)
    return graph.repeat_interleave(ptr[1:] - ptr[:-1], output_size=num_nodes)


def _columns(degree: Any, base: int | None) -> tuple[Any, int]:
    r"""The histogram column of each node, -1 for none, and their number."""
    largest = int(degree.max()) if len(degree) > 0 else 0
    if base is None:
        return degree, largest + 1
    # Whole powers only: log(3**5) / log(3) is below 5 in floating point.
    powers = [1]
    while powers[-1] * base <= largest:
        powers.append(powers[-1] * base)
    table = np.searchsorted(powers, np.arange(largest + 1), side='right') - 1
    if isinstance(degree, Tensor):
        return torch.from_numpy(table).to(degree.device)[degree], len(powers)
    return table.take(degree), len(powers)


class _Bitset:
    r"""Graphs of up to 64 nodes: the ball around a node is one machine word,
    one more hop is a bitwise *or* over its neighbours, and a histogram is a
    population count under the mask of each column.
    """
    def __init__(self, edge_index: Tensor, num_nodes: int, ptr: Tensor,
                 max_hops: int | None) -> None:
        offset = ptr.numpy()
        sizes = np.diff(offset)
        largest = int(sizes.max(initial=0))
        self.shift = max(3, (largest - 1).bit_length())  # log2 of the width
        self.max_hops = max_hops
        self.num_graphs = sizes.size
        self.graph = np.repeat(np.arange(sizes.size), sizes)
        first = np.repeat(offset[:-1], sizes)
        self.local = np.arange(num_nodes) - first
        self.row, self.col = edge_index.numpy()
        # Filling a table of bytes merges repeated edges without sorting.
        table = np.zeros((num_nodes << self.shift, ), np.uint8)
        start = (np.arange(num_nodes) << self.shift)
        table[start + self.local] = 1
        start -= first
        table[start[self.row] + self.col] = 1
        table[start[self.col] + self.row] = 1
        self.ball = self._pack(table)
        self.degree = _bit_count(self.ball).astype(np.int64) - 1

    def counts(self, column: Any, num_columns: int) -> Iterator[Any]:
        if self.ball.size == 0:
            return
        key = column * self.num_graphs + self.graph
        known = np.flatnonzero(column >= 0)
        size = self.num_graphs * num_columns << self.shift
        table = np.zeros((size, ), np.uint8)
        table[(key[known] << self.shift) + self.local[known]] = 1
        mask = self._pack(table).reshape(num_columns, -1)
        mask = mask.take(self.graph, axis=1)
        one = np.array(1, self.ball.dtype)
        before = one << self.local.astype(self.ball.dtype)
        ball = self.ball
        for hop in _hops(self.max_hops):
            if hop > 1:
                inner, ball = ball, ball.copy()
                np.bitwise_or.at(ball, self.row, inner[self.col])
                np.bitwise_or.at(ball, self.col, inner[self.row])
            new = ball & ~before
            if self.max_hops is None and not new.any():
                return
            yield _bit_count(mask & new)
            before = ball

    def _pack(self, table: Any) -> Any:
        dtype = np.dtype(f'<u{1 << (self.shift - 3)}')
        return np.packbits(table, bitorder='little').view(dtype)


class _Sparse:
    r"""Large graphs: the ball around a node is a row of a sparse matrix, and
    one more hop a product with the adjacency matrix. Histograms of growing
    balls are subtracted, so that no ring is ever formed. Rows go through all
    hops in pieces, so that the balls of all nodes are never held at once.
    """
    def __init__(self, edge_index: Tensor, num_nodes: int, ptr: Tensor,
                 max_hops: int | None) -> None:
        row, col = edge_index.numpy()
        node = np.arange(num_nodes)
        row, col = np.r_[row, col, node], np.r_[col, row, node]
        one = np.ones(row.size, np.float32)
        size = (num_nodes, num_nodes)
        self.ball = sp.csr_array((one, (row, col)), shape=size)
        self.ball.sum_duplicates()
        self.ball.data[:] = 1
        self.max_hops = max_hops
        self.size = np.diff(self.ball.indptr).astype(np.int64)
        self.degree = self.size - 1

    def counts(self, column: Any, num_columns: int) -> Iterator[Any]:
        if self.size.size == 0 or self.max_hops == 0:
            return
        known = np.flatnonzero(column >= 0)
        # Whole numbers are exact in float32 up to 2**24.
        dtype = np.float32 if self.size.size < 2**24 else np.float64
        label = np.zeros((self.size.size, num_columns), dtype)
        label[known, column[known]] = 1
        inside = self.ball @ label
        rings = [inside - label]
        stack = [self._grow(0, self.ball, inside, label)]
        while stack:
            grown = next(stack[-1], None)
            if grown is None:
                stack.pop()
                continue
            start, ball, inside, ring = grown
            if len(rings) == len(stack):
                rings.append(np.zeros_like(label))
            rings[len(stack)][start:start + len(ring)] = ring
            if len(stack) + 1 != self.max_hops:
                stack.append(self._grow(start, ball, inside, label))
        for ring in rings:
            yield ring.T

    def _grow(
        self,
        start: int,
        ball: Any,
        inside: Any,
        label: Any,
    ) -> Iterator[tuple[int, Any, Any, Any]]:
        r"""The balls of some rows, one hop larger, piece by piece, as long
        as they do grow.
        """
        if self.max_hops == 1:
            return
        work = np.cumsum(ball @ self.size.astype(np.float64))
        for rows in pieces(work, _MAX_ENTRIES):
            part = ball[rows] @ self.ball
            if part.nnz == ball.indptr[rows.stop] - ball.indptr[rows.start]:
                continue
            part.data[:] = 1
            after = part @ label
            yield start + rows.start, part, after, after - inside[rows]


class _Torch:
    r"""Any device: the balls are a sorted list of (node, member) keys."""
    def __init__(self, edge_index: Tensor, num_nodes: int, ptr: Tensor,
                 max_hops: int | None) -> None:
        self.num_nodes, self.max_hops = num_nodes, max_hops
        node = torch.arange(num_nodes, device=edge_index.device)
        row = torch.cat([edge_index[0], edge_index[1], node])
        col = torch.cat([edge_index[1], edge_index[0], node])
        self.ball = torch.unique(row * num_nodes + col)
        self.neighbor = self.ball % max(num_nodes, 1)
        self.size = torch.bincount(self.ball // max(num_nodes, 1),
                                   minlength=num_nodes)
        self.start = ptr_from_sizes(self.size)[:-1]
        self.degree = self.size - 1

    def counts(self, column: Tensor, num_columns: int) -> Iterator[Tensor]:
        label = (column + 1, num_columns + 1)
        before = torch.zeros(self.num_nodes, num_columns,
                             dtype=torch.long, device=column.device)
        known = (column >= 0).nonzero().view(-1)
        before[known, column[known]] = 1
        ball = self.ball
        for hop in _hops(self.max_hops):
            if hop > 1:
                entries = ball.numel()
                ball = self._grow(ball)
                if self.max_hops is None and ball.numel() == entries:
                    return
            after = self._count(ball, *label)
            yield after - before
            before = after

    def _count(self, ball: Tensor, label: Tensor, size: int) -> Tensor:
        row = ball // max(self.num_nodes, 1)
        key = row * size + label[ball % max(self.num_nodes, 1)]
        count = torch.bincount(key, minlength=self.num_nodes * size)
        return count.view(self.num_nodes, size)[:, 1:]

    def _grow(self, ball: Tensor) -> Tensor:
        if self.num_nodes == 0:
            return ball
        row, col = ball // self.num_nodes, ball % self.num_nodes
        size = torch.bincount(row, minlength=self.num_nodes)
        stop = size.cumsum(0)
        work = self.size[col].cumsum(0)[stop - 1]
        parts = []
        for rows in pieces(work.cpu().numpy(), _MAX_ENTRIES):
            low = int(stop[rows.start] - size[rows.start])
            high = int(stop[rows.stop - 1])
            count = self.size[col[low:high]]
            entry = torch.arange(low, high, device=ball.device)
            entry = entry.repeat_interleave(count)
            shift = self.start[col[low:high]] - (count.cumsum(0) - count)
            place = torch.arange(entry.numel(), device=ball.device)
            place += shift[entry - low]
            key = row[entry] * self.num_nodes + self.neighbor[place]
            parts.append(torch.unique(key))
        return torch.cat(parts)


def _bit_count(words: Any) -> Any:
    r"""How many bits of each word are set."""
    if hasattr(np, 'bitwise_count'):
        return np.bitwise_count(words)
    octets = np.ascontiguousarray(words).view(np.uint8)
    octets = octets.reshape(*words.shape, words.itemsize)
    return np.unpackbits(octets, axis=-1).sum(-1, dtype=np.uint8)


def _hops(max_hops: int | None) -> Iterator[int]:
    hop = 0
    while max_hops is None or hop < max_hops:
        hop += 1
        yield hop


def pieces(work: Any, limit: int) -> Iterator[slice]:
    r"""Runs of rows whose work, given as running totals, stays within a
    limit.
    """
    start, done = 0, 0
    while start < len(work):
        stop = int(np.searchsorted(work, done + limit, side='right'))
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start, done = stop, work[stop - 1]


_BACKENDS: dict[str, type[_Bitset | _Sparse | _Torch]] = {
    'bitset': _Bitset, 'sparse': _Sparse, 'torch': _Torch
}

