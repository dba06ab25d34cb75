"""Scores of alignments against a gold correspondence, and without one."""
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmgraph.data import GraphPair, GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align import Alignment
from mmgraph.typing import MatchMethod, OptTensor
from mmgraph.utils import suggest

__all__ = [
    'MatchScores', 'alignment_report', 'edge_correctness', 'hits_at_k',
    'induced_conserved_structure', 'match_accuracy', 'match_scores',
    'matched_neighborhood_consistency', 'mean_reciprocal_rank',
    'one_to_one_accuracy', 'symmetric_substructure_score'
]

Side = Literal['source', 'target']
Sides = Literal['source', 'target', 'both']

#: Two scores are tied if they differ by no more than this share of the gold
#: partner's: identical rows come out 1e-8 apart through the square root of a
#: kernel.
_TOLERANCE = 1e-6


def match_accuracy(
    alignment: Alignment,
    match_index: Tensor,
    side: Side = 'target',
) -> tuple[float, int]:
    r"""Share of the nodes of one side that have a gold partner and whose best
    partner, by score, is right. Among :math:`t` equally good ones the credit
    is :math:`1/t` where the right one is among them (ties are the norm in
    structural alignment); a node without any match counts as wrong.

    Args:
        alignment (Alignment): Predicted matches.
        match_index (torch.Tensor): Gold matches :obj:`[2, M]`, at most one a
            node of that side.
        side (str, optional): Whose nodes look for a partner.
            (default: :obj:`'target'`)

    Returns:
        The accuracy in :math:`[0, 1]` (0 without gold) and the number of nodes
        it is a mean over.

    Example:
        >>> index = torch.tensor([[0, 1, 1], [0, 0, 1]])
        >>> ptr = torch.tensor([0, 2])
        >>> alignment = Alignment(index, torch.tensor([.9, .4, .7]), ptr, ptr)
        >>> match_accuracy(alignment, torch.tensor([[0, 1], [0, 1]]))
        (1.0, 2)
    """
    row = {'source': 0, 'target': 1}[side]
    node, partner = match_index[row], match_index[1 - row]
    if node.numel() == 0:
        return 0.0, 0
    ptr = alignment.source_ptr if row == 0 else alignment.target_ptr
    n = int(ptr[-1])
    gold = node.new_full((n,), -1)
    gold[node] = partner
    index = alignment.match_index[row]
    score = alignment.match_score.detach()
    best = score.new_full((n,), float('-inf')).scatter_reduce(
        0, index, score, 'amax')
    tied = score >= best[index] - _TOLERANCE * best[index].abs()
    count = score.new_zeros(n).index_add(0, index[tied],
                                         torch.ones_like(score[tied]))
    hit = tied & (alignment.match_index[1 - row] == gold[index])
    credit = (1 / count[index[hit]]).sum()
    return float(credit) / node.numel(), node.numel()


def hits_at_k(
    alignment: Alignment,
    match_index: Tensor,
    k: int,
    side: Sides = 'source',
    seeds: OptTensor = None,
) -> float:
    r"""Share of the test nodes whose gold partner is among the :obj:`k` best.

    The candidates of a node are *all* nodes of the other graph of its pair.
    With :math:`b` of them better than the gold partner and :math:`t` tied with
    it, itself included, the credit is the chance that it comes among the first
    :math:`k` in a random order of equals, :math:`\min(1, \max(0, k - b) / t)`.

    A candidate that is not listed scores zero, and where a node lists a
    negative score, its unlisted candidates come after all listed ones. So an
    alignment that leaves out zeros scores as one that lists them. Scores are
    tied if they differ from the gold partner's by no more than
    :math:`10^{-6}` of it.

    Args:
        alignment (Alignment): Predicted scores, not yet decided.
        match_index (torch.Tensor): Gold matches :obj:`[2, M]` as global node
            positions, at most one a node of the side that looks.
        k (int): How many count.
        side (str, optional): Whose nodes look for a partner; :obj:`'both'`
            is the mean of both directions. (default: :obj:`'source'`)
        seeds (torch.Tensor, optional): Matches that the aligner was given,
            :obj:`[2, S]`: their nodes are no test nodes (but remain
            candidates). (default: :obj:`None`)

    Returns:
        float: In :math:`[0, 1]`; 0 without test nodes.

    Raises:
        ValueError: If :obj:`k < 1`, :obj:`side` is unknown, or the gold
            matches do not fit the alignment.

    Complexity: linear in listed pairs and nodes.

    Example:
        >>> index = torch.tensor([[0, 0, 1], [0, 1, 0]])
        >>> ptr = torch.tensor([0, 2])
        >>> alignment = Alignment(index, torch.tensor([.9, .4, .7]), ptr, ptr)
        >>> gold = torch.tensor([[0, 1], [0, 1]])
        >>> [hits_at_k(alignment, gold, k) for k in (1, 2)]
        [0.5, 1.0]
    """
    if k < 1:
        raise ValueError(f"'k' must be at least 1 (got {k})")
    return _mean([_hits(_ranks(alignment, match_index, one, seeds), k)
                  for one in _sides(side)])


def mean_reciprocal_rank(
    alignment: Alignment,
    match_index: Tensor,
    side: Sides = 'source',
    seeds: OptTensor = None,
) -> float:
    r"""Mean of one over the rank of the gold partner. The rank is the expected
    one in a random order of equals, :math:`b + (t + 1) / 2` with :math:`b`
    better candidates and :math:`t` equal ones, itself included. Candidates,
    ties and arguments are those of :func:`hits_at_k`. With one partner a node
    this is the mean average precision too.

    Returns:
        float: In :math:`[0, 1]`; 0 without test nodes.

    Example:
        >>> index = torch.tensor([[0, 0, 1], [0, 1, 0]])
        >>> ptr = torch.tensor([0, 2])
        >>> alignment = Alignment(index, torch.tensor([.9, .4, .7]), ptr, ptr)
        >>> mean_reciprocal_rank(alignment, torch.tensor([[0, 1], [0, 1]]))
        0.75
    """
    return _mean([_reciprocal(_ranks(alignment, match_index, one, seeds))
                  for one in _sides(side)])


def one_to_one_accuracy(
    alignment: Alignment,
    match_index: Tensor,
    method: MatchMethod = 'lap',
    seeds: OptTensor = None,
) -> float:
    r"""Share of the gold matches that :meth:`Alignment.match` finds: the
    accuracy after a decision, by linear assignment as a rule. A node that is
    left unmatched counts as wrong.

    Args:
        alignment (Alignment): Predicted scores, not yet decided.
        match_index (torch.Tensor): Gold matches :obj:`[2, M]`.
        method (str, optional): See :meth:`Alignment.match`.
            (default: :obj:`'lap'`)
        seeds (torch.Tensor, optional): Matches that the aligner was given;
            they are not counted. (default: :obj:`None`)

    Returns:
        float: In :math:`[0, 1]`; 0 without test nodes.
    """
    return match_scores(alignment.match(method), match_index, seeds).recall


class MatchScores(NamedTuple):
    r"""Scores of decided matches.

    Args:
        precision (float): Share of the predicted matches that are right.
        recall (float): Share of the gold matches that are predicted.
        f1 (float): Their harmonic mean.
    """
    precision: float
    recall: float
    f1: float


def match_scores(
    matching: Alignment,
    match_index: Tensor,
    seeds: OptTensor = None,
    partial_gold: bool = False,
) -> MatchScores:
    r"""Precision, recall and F1 of decided matches, where nodes may stay
    without a partner. A ratio without denominator is 0.

    Args:
        matching (Alignment): The matches, from :meth:`Alignment.match`.
        match_index (torch.Tensor): Gold matches :obj:`[2, M]`.
        seeds (torch.Tensor, optional): Matches that the aligner was given:
            neither they nor predictions for their source nodes are counted.
            (default: :obj:`None`)
        partial_gold (bool, optional): If true, gold tells the partners of
            some nodes and nothing of the others: predictions that join two
            nodes without gold are not counted. If false, a node without gold
            has no partner, and whatever is predicted for it is wrong.
            (default: :obj:`False`)

    Example:
        >>> ptr = torch.tensor([0, 3])
        >>> found = Alignment(torch.tensor([[0, 1, 2], [0, 2, 1]]),
        ...                   torch.ones(3), ptr, ptr)
        >>> match_scores(found, torch.tensor([[0, 1], [0, 1]]))
        MatchScores(precision=0.333..., recall=0.5, f1=0.4)
    """
    gold = _check_gold(matching, match_index)
    if seeds is not None:
        gold = gold[:, ~_among(gold[0], seeds[0], matching.num_source)]
    row, col = matching.match_index
    width = max(matching.num_target, 1)
    right = torch.isin(row * width + col, gold[0] * width + gold[1])
    counted = torch.ones_like(right)
    if seeds is not None:
        counted &= ~_among(row, seeds[0], matching.num_source)
    if partial_gold:
        counted &= (_among(row, gold[0], matching.num_source)
                    | _among(col, gold[1], matching.num_target))
    correct = int((right & counted).sum())
    precision = _ratio(correct, int(counted.sum()))
    recall = _ratio(correct, gold.size(1))
    return MatchScores(precision, recall,
                       _ratio(2 * precision * recall, precision + recall))


def edge_correctness(
    matching: Alignment,
    source: GraphView,
    target: GraphView,
) -> float:
    r"""EC: the share of the source edges :math:`E_s` that a matching
    :math:`f` maps onto target edges,

    .. math::
        \mathrm{EC} = \frac{|\{\{u, v\} \in E_s : \{f(u), f(v)\} \in E_t\}|}
        {|E_s|},

    from `"Topological network alignment uncovers biological function and
    phylogeny" <https://doi.org/10.1098/rsif.2010.0063>`_. Graphs count as
    undirected and simple: directions, duplicates and self-loops are ignored.
    An edge with an unmatched end is not conserved. No gold is needed; where
    twins make nodes interchangeable, a perfect alignment has EC 1 and an
    accuracy below 1.

    Args:
        matching (Alignment): The matches, at most one a source node, from
            :meth:`Alignment.match`.
        source (GraphView): The source graph(s).
        target (GraphView): The target graph(s).

    Returns:
        float: In :math:`[0, 1]`; 0 without source edges.

    Raises:
        ValueError: If a source node has several partners.
        ShapeError: If the graphs are not those of the matching.

    Example:
        >>> path = GraphView.single(torch.tensor([[0, 1], [1, 2]]), 3)
        >>> star = GraphView.single(torch.tensor([[0, 0], [1, 2]]), 3)
        >>> same = torch.arange(3).repeat(2, 1)
        >>> found = Alignment(same, torch.ones(3), path.ptr, star.ptr)
        >>> edge_correctness(found, path, star)
        0.5
    """
    return _structure(matching, _Edges.of(source, target))['ec']


def induced_conserved_structure(
    matching: Alignment,
    source: GraphView,
    target: GraphView,
) -> float:
    r"""ICS: the share of the target edges among matched nodes that a source
    edge is mapped onto,

    .. math::
        \mathrm{ICS} = \frac{|f(E_s) \cap E_t|}{|E_t[f(V_s)]|},

    from `"Global network alignment using multiscale spectral signatures"
    <https://doi.org/10.1093/bioinformatics/bts592>`_. Arguments and range are
    those of :func:`edge_correctness`.
    """
    return _structure(matching, _Edges.of(source, target))['ics']


def symmetric_substructure_score(
    matching: Alignment,
    source: GraphView,
    target: GraphView,
) -> float:
    r"""S3: conserved edges over all edges of the two graphs laid on each
    other,

    .. math::
        S^3 = \frac{|f(E_s) \cap E_t|}
        {|E_s| + |E_t[f(V_s)]| - |f(E_s) \cap E_t|},

    from `"MAGNA: Maximizing Accuracy in Global Network Alignment"
    <https://doi.org/10.1093/bioinformatics/btu409>`_. Unlike EC it punishes
    a sparse graph laid on a dense one, unlike ICS the reverse. Arguments and
    range are those of :func:`edge_correctness`.
    """
    return _structure(matching, _Edges.of(source, target))['s3']


def matched_neighborhood_consistency(
    matching: Alignment,
    source: GraphView,
    target: GraphView,
) -> float:
    r"""MNC: how far the partners of a node's neighbours are the neighbours of
    its partner, from `"CONE-Align: Consistent Network Alignment with
    Proximity-Preserving Node Embedding" <https://arxiv.org/abs/2005.04725>`_,

    .. math::
        \mathrm{MNC} = \frac{1}{|M|} \sum_{(i, j) \in M} \frac{
        |f(N_s(i)) \cap N_t(j)|}{|f(N_s(i)) \cup N_t(j)|}.

    The mean is over the matches :math:`M`. Two nodes that both have no
    neighbours (or, on the source side, none that is matched) agree: their
    term, 0/0 in the formula, is 1. Published code returns -1 for a graph in
    which this happens. Arguments and range are those of
    :func:`edge_correctness`; 0 without matches.
    """
    return _neighborhood(matching, _Edges.of(source, target))


def alignment_report(
    alignment: Alignment,
    pair: GraphPair,
    *,
    seeds: OptTensor = None,
    methods: Sequence[MatchMethod] = ('argmax', 'lap'),
    ks: Sequence[int] = (1, 5, 10),
    side: Sides = 'source',
    partial_gold: bool = False,
) -> dict[str, float]:
    r"""All scores of an alignment of one pair, or of a batch of pairs.

    Args:
        alignment (Alignment): Predicted scores, not yet decided.
        pair (GraphPair): What was aligned; gold is its :obj:`match_index`, and
            without it the scores that need none are given.
        seeds (torch.Tensor, optional): Matches that the aligner was given;
            see :func:`hits_at_k`. (default: :obj:`None`)
        methods (sequence of str, optional): Decoders to be scored; see
            :meth:`Alignment.match`. Linear assignment is slow on large
            graphs. (default: :obj:`('argmax', 'lap')`)
        ks (sequence of int, optional): For :func:`hits_at_k`.
            (default: :obj:`(1, 5, 10)`)
        side (str, optional): For :func:`hits_at_k` and the reciprocal rank.
            (default: :obj:`'source'`)
        partial_gold (bool, optional): See :func:`match_scores`.
            (default: :obj:`False`)

    Returns:
        dict: :obj:`num_test` (gold matches that are no seeds),
        :obj:`hits@k`, :obj:`mrr`; and for each method :obj:`{method}_accuracy`
        (share of these that are found), :obj:`_precision`, :obj:`_f1`,
        :obj:`_ec`, :obj:`_ics`, :obj:`_s3`, :obj:`_mnc`.

    Example:
        >>> from mmgraph.nn.align import StructuralAligner
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
        ...                  num_nodes_s=3, num_nodes_t=3,
        ...                  match_index=torch.arange(3).repeat(2, 1))
        >>> alignment = StructuralAligner(top_k=None)(pair.source, pair.target)
        >>> report = alignment_report(alignment, pair)
        >>> report['hits@1'], report['lap_ec']
        (0.666..., 1.0)
    """
    gold = pair.get('match_index')
    edges = _Edges.of(pair.source, pair.target)
    report: dict[str, float] = {}
    if gold is not None:
        found = [_ranks(alignment, gold, one, seeds) for one in _sides(side)]
        report['num_test'] = found[0].better.numel()
        for k in ks:
            if k < 1:
                raise ValueError(f"'ks' must be at least 1 (got {k})")
            report[f'hits@{k}'] = _mean([_hits(one, k) for one in found])
        report['mrr'] = _mean([_reciprocal(one) for one in found])
    for method in methods:
        matching = alignment.match(method)
        if gold is not None:
            scores = match_scores(matching, gold, seeds, partial_gold)
            report[f'{method}_accuracy'] = scores.recall
            report[f'{method}_precision'] = scores.precision
            report[f'{method}_f1'] = scores.f1
        structure = _structure(matching, edges)
        structure['mnc'] = _neighborhood(matching, edges)
        report |= {f'{method}_{name}': value
                   for name, value in structure.items()}
    return report


class _Ranks(NamedTuple):
    r"""How the gold partner of each test node stands: how many candidates are
    better, and how many as good, itself included.
    """
    better: Tensor
    equal: Tensor


def _sides(side: str) -> list[int]:
    rows = {'source': [0], 'target': [1], 'both': [0, 1]}
    if side not in rows:
        raise ValueError(f"'side' must tell who looks for a partner (got "
                         f'{side!r}); {suggest(side, list(rows))}')
    return rows[side]


def _check_gold(alignment: Alignment, gold: Tensor) -> Tensor:
    if gold.dim() != 2 or gold.size(0) != 2:
        raise ShapeError(f"'match_index' must have shape [2, M] (got "
                         f'{list(gold.shape)})', (2, 'M'), gold.shape)
    gold = gold.contiguous()
    for row, size in enumerate((alignment.num_source, alignment.num_target)):
        if gold.numel() and not (0 <= int(gold[row].min())
                                 and int(gold[row].max()) < size):
            raise ValueError(f"'match_index' row {row} must be in [0, {size}) "
                             f'(got {int(gold[row].min())} to '
                             f'{int(gold[row].max())})')
    graphs = [torch.bucketize(gold[row], ptr[1:], right=True) for row, ptr in
              enumerate((alignment.source_ptr, alignment.target_ptr))]
    if not torch.equal(*graphs):
        raise ValueError("'match_index' must join nodes of the same pair")
    return gold


def _among(index: Tensor, chosen: Tensor, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool, device=index.device)
    mask[chosen] = True
    return mask[index]


def _ranks(
    alignment: Alignment,
    match_index: Tensor,
    row: int,
    seeds: OptTensor,
) -> _Ranks:
    gold = _check_gold(alignment, match_index)
    ptrs = alignment.source_ptr, alignment.target_ptr
    size, other_ptr = int(ptrs[row][-1]), ptrs[1 - row]
    if seeds is not None:
        gold = gold[:, ~_among(gold[row], seeds[row], size)]
    node, partner = gold[row], gold[1 - row]
    if node.unique().numel() < node.numel():
        raise ValueError(f"'match_index' row {row} must name a node once at "
                         f'most')
    index, other = alignment.match_index[row], alignment.match_index[1 - row]
    score = alignment.match_score.detach()
    # Of each node: its partner, the partner's score (zero if it is not
    # listed), and whether that comes after all that is listed.
    true = node.new_full((size, ), -1)
    true[node] = partner
    hit = other == true[index]
    value = score.new_zeros(size)
    value[index[hit]] = score[hit]
    listed = torch.zeros(size, dtype=torch.bool, device=index.device)
    listed[index[hit]] = True
    negative = torch.zeros_like(listed)
    negative[index[score < 0]] = True
    last = ~listed & negative
    at = value[index]
    slack = _TOLERANCE * at.abs()
    better = (score > at + slack) | last[index]
    equal = ((score - at).abs() <= slack) & ~last[index]
    num_better = torch.bincount(index[better], minlength=size)
    num_equal = torch.bincount(index[equal], minlength=size)
    # Those that are not listed never beat a listed partner; they equal one
    # that is not listed either, or that scores zero like them.
    graph = torch.bucketize(node, ptrs[row][1:], right=True)
    candidates = (other_ptr[1:] - other_ptr[:-1])[graph]
    unlisted = candidates - torch.bincount(index, minlength=size)[node]
    alike = ~listed[node] | ((value[node] == 0) & ~negative[node])
    return _Ranks(num_better[node],
                  num_equal[node] + torch.where(alike, unlisted, 0))


def _hits(ranks: _Ranks, k: int) -> float:
    credit = ((k - ranks.better).clamp(min=0).double() / ranks.equal).clamp(
        max=1)
    return _ratio(float(credit.sum()), credit.numel())


def _reciprocal(ranks: _Ranks) -> float:
    rank = ranks.better.double() + (ranks.equal + 1) / 2
    return _ratio(float((1 / rank).sum()), rank.numel())


class _Edges(NamedTuple):
    r"""Two networks as undirected simple graphs.

    Args:
        source (torch.Tensor): Edges :math:`u < v`, each once.
        target (torch.Tensor): Edges :math:`u < v`, each once.
        keys (torch.Tensor): The latter as sorted numbers.
        num_source (int): Source nodes.
        num_target (int): Target nodes.
    """
    source: Tensor
    target: Tensor
    keys: Tensor
    num_source: int
    num_target: int

    @classmethod
    def of(cls, source: GraphView, target: GraphView) -> '_Edges':
        edges, keys = _simple(target)
        return cls(_simple(source)[0], edges, keys, source.num_nodes,
                   target.num_nodes)

    def images(self, matching: Alignment) -> Tensor:
        r"""The partner of each source node, or -1."""
        for name, size, wanted in (
            ('source', self.num_source, matching.num_source),
            ('target', self.num_target, matching.num_target),
        ):
            if size != wanted:
                raise ShapeError(f"'{name}' must have the {wanted} nodes of "
                                 f'the matching (got {size})')
        row, col = matching.match_index
        image = row.new_full((self.num_source, ), -1)
        image[row] = col
        if int((image >= 0).sum()) < row.numel():
            raise ValueError("'matching' must have one partner a source node "
                             "at most; decide by 'Alignment.match'")
        return image

    def key(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.minimum(u, v) * self.num_target + torch.maximum(u, v)

    def in_target(self, key: Tensor) -> Tensor:
        if self.keys.numel() == 0:
            return torch.zeros_like(key, dtype=torch.bool)
        place = torch.searchsorted(self.keys, key)
        return self.keys[place.clamp_(max=self.keys.numel() - 1)] == key


def _structure(matching: Alignment, edges: _Edges) -> dict[str, float]:
    r"""What counts of conserved edges give."""
    u, v = edges.images(matching)[edges.source]
    both = (u >= 0) & (v >= 0)
    key = edges.key(u[both], v[both])
    kept = key[edges.in_target(key)]
    # Fewer images than edges where two source nodes share a partner.
    images = kept.unique().numel()
    induced = int(_among(edges.target, matching.match_index[1],
                         edges.num_target).all(dim=0).sum())
    num_source = edges.source.size(1)
    return dict(ec=_ratio(kept.numel(), num_source),
                ics=_ratio(images, induced),
                s3=_ratio(images, num_source + induced - images))


def _neighborhood(matching: Alignment, edges: _Edges) -> float:
    r"""See :func:`matched_neighborhood_consistency`."""
    image, width = edges.images(matching), max(edges.num_target, 1)
    node, partner = matching.match_index
    # Pairs (i, f(v)) for the matched neighbours v of a matched node i.
    u, v = torch.cat([edges.source, edges.source.flip(0)], dim=1)
    both = (image[u] >= 0) & (image[v] >= 0)
    u, w = u[both], image[v[both]]
    if partner.unique().numel() < partner.numel():
        key = torch.unique(u * width + w)
        u = key.div(width, rounding_mode='floor')
        w = key - u * width
    reached = torch.bincount(u, minlength=edges.num_source)[node]
    degree = torch.bincount(edges.target.reshape(-1),
                            minlength=edges.num_target)[partner]
    hit = edges.in_target(edges.key(image[u], w))
    shared = torch.bincount(u[hit], minlength=edges.num_source)[node]
    union = reached + degree - shared
    share = torch.where(union > 0, shared / union.clamp(min=1).double(), 1.0)
    return _ratio(float(share.sum()), share.numel())


def _simple(view: GraphView) -> tuple[Tensor, Tensor]:
    r"""Undirected edges :math:`u < v`, each once, and sorted numbers of them.
    """
    width = max(view.num_nodes, 1)
    low = torch.minimum(view.edge_index[0], view.edge_index[1])
    high = torch.maximum(view.edge_index[0], view.edge_index[1])
    key = (low * width + high)[low != high].unique()
    low = key.div(width, rounding_mode='floor')
    return torch.stack([low, key - low * width]), key


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
