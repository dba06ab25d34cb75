r"""EEGA without its text encoder, as its formulas read, in dense PyTorch.

The peer that mmgraph's layers are compared with, written from the formulas of
the `"Joint Multimodal Entity-Relation Extraction Based on Edge-enhanced Graph
Alignment Network and Word-pair Relation Tagging"
<https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI 2023) and the shapes
of its published code: posts are padded, a graph is a matrix of labels, and
what belongs to a pair of nodes is a tensor over all pairs: keys and values of
the attention along edges :obj:`[B, n, n, d]`, the channels' embeddings
:obj:`[B, n, n, 100]` and their images :obj:`[B, n, n, d]`, and the pair
representation :obj:`[B, n, n, 2 d + 300]`. Transport is IPOT on plain numbers.
What is at fault in the published code is not repeated: padding is masked
everywhere, the cut of the costs is a pair's own, and plans are rounded to be
feasible. Plans are constants, as in mmgraph.

Nothing of mmgraph is imported. Parameters have the names that they have in
:class:`mmgraph.models.jmere.EEGA`, so that its state (but for the encoder's)
can be loaded.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ['DenseBatch', 'DenseEEGA', 'edge_distance', 'ipot',
           'node_distance', 'round_plan']


class DenseBatch(NamedTuple):
    r"""A batch of padded posts.

    Args:
        words: States of the words, :obj:`[B, n, d]`.
        word_mask: Which of them there are, :obj:`[B, n]`.
        word_label: The label under which a word (second axis) hears another
            (third axis), :obj:`[B, n, n]`, itself included; -1: not at all.
        objects, object_mask, object_label: The same of objects.
        pos: Part of speech of each word, :obj:`[B, n]`.
        distance: Id of each pair's distance, :obj:`[B, n, n]`.
        pmi: Id of each pair's co-occurrence, :obj:`[B, n, n]`.
        target: Label of each pair, :obj:`[B, n, n]`; -1: not scored.
    """
    words: Tensor
    word_mask: Tensor
    word_label: Tensor
    objects: Tensor
    object_mask: Tensor
    object_label: Tensor
    pos: Tensor
    distance: Tensor
    pmi: Tensor
    target: Tensor


def masked(logit: Tensor, mask: Tensor) -> Tensor:
    r"""A softmax over what there is."""
    return logit.masked_fill(~mask, torch.finfo(logit.dtype).min).softmax(-1)


class AttributeTransformer(nn.Module):
    r"""Eq. 3-4: keys and values of every pair of nodes."""
    def __init__(self, d: int, num_labels: int, edge_dim: int, heads: int,
                 dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(num_labels, edge_dim)
        self.lin_query = nn.Linear(d, d)
        self.lin_key = nn.Linear(d, d)
        self.lin_value = nn.Linear(d, d)
        self.lin_edge_key = nn.Linear(edge_dim, d)
        self.lin_edge_value = nn.Linear(edge_dim, d)
        self.norm_1 = nn.LayerNorm(d)
        self.lin_out = nn.Linear(d, d, bias=False)
        self.norm_2 = nn.LayerNorm(d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        split = (self.heads, -1)
        z = self.embedding(label.clamp(min=0))  # [B, n, n, edge_dim]
        key = self.lin_key(x).unsqueeze(1) + self.lin_edge_key(z)
        value = self.lin_value(x).unsqueeze(1) + self.lin_edge_value(z)
        query = self.lin_query(x).unflatten(2, split)
        logit = torch.einsum('bihc,bijhc->bhij', query,
                             key.unflatten(3, split))
        alpha = self.dropout(masked(logit / math.sqrt(query.size(3)),
                                    (label >= 0).unsqueeze(1)))
        heard = torch.einsum('bhij,bijhc->bihc', alpha,
                             value.unflatten(3, split)).flatten(2)
        x = self.norm_1(x + heard)
        return self.norm_2(x + self.lin_out(x))


class CrossAttention(nn.Module):
    r"""Eq. 8: words hear objects; zeros where there are none."""
    def __init__(self, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.lin_query = nn.Linear(d, d, bias=False)
        self.lin_key = nn.Linear(d, d, bias=False)
        self.lin_value = nn.Linear(d, d, bias=False)
        self.lin_out = nn.Linear(d, d, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            lin(rows).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for lin, rows in ((self.lin_query, x), (self.lin_key, memory),
                              (self.lin_value, memory)))
        logit = query @ key.transpose(2, 3) / math.sqrt(query.size(3))
        alpha = self.dropout(masked(logit, mask[:, None, None]))
        out = self.lin_out((alpha @ value).transpose(1, 2).flatten(2))
        return out * mask.any(1)[:, None, None]


class Channel(nn.Module):
    r"""Eq. 9-10, in the published code's form: a score a head and pair from
    the embedding of the pair.
    """
    def __init__(self, d: int, num_ids: int, edge_dim: int, heads: int,
                 dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(num_ids, edge_dim)
        self.lin_edge = nn.Linear(edge_dim, d, bias=False)
        self.score = nn.Parameter(torch.empty(d // heads))
        self.lin_value = nn.Linear(d, d, bias=False)
        self.dropout = nn.Dropout(dropout)

    def pairs(self, ids: Tensor) -> Tensor:
        r"""The embeddings of all pairs, :obj:`[B, n, n, edge_dim]`."""
        r = self.embedding(ids)
        return r if ids.dim() == 3 else r.unsqueeze(2) + r.unsqueeze(1)

    def forward(self, x: Tensor, r: Tensor, mask: Tensor) -> Tensor:
        split = (self.heads, -1)
        score = (self.lin_edge(r).unflatten(3, split) @ self.score).relu()
        alpha = self.dropout(masked(score.permute(0, 3, 1, 2),
                                    mask[:, None, None]))
        value = self.lin_value(x).unflatten(2, split).transpose(1, 2)
        return (x + (alpha @ value).transpose(1, 2).flatten(2)).relu()


class DenseEEGA(nn.Module):
    r"""One block of EEGA with all its parts; see
    :class:`mmgraph.models.jmere.EEGA` for the arguments.
    """
    def __init__(
        self,
        in_channels: int,
        num_types: int,
        num_relations: int,
        object_channels: int,
        num_dependencies: int,
        num_predicates: int,
        num_pos: int,
        num_distances: int,
        num_pmi: int,
        hidden_channels: int,
        edge_dim: int = 100,
        num_heads: int = 12,
        alpha: float = 0.4,
        align_weight: float = 0.6,
        dropout: float = 0.2,
        graph_dropout: float = 0.3,
        image_dropout: float = 0.4,
    ) -> None:
        super().__init__()
        d = hidden_channels
        self.alpha, self.align_weight = alpha, align_weight
        self.text = nn.Sequential(nn.Linear(in_channels, d), nn.ReLU(),
                                  nn.Dropout(dropout))
        self.image = nn.Sequential(
            nn.Linear(object_channels, d), nn.ReLU(),
            nn.Dropout(image_dropout), nn.Linear(d, d), nn.ReLU(),
            nn.Dropout(image_dropout))
        more = edge_dim, num_heads, graph_dropout
        # One more label, that of self loops.
        self.text_layers = nn.ModuleList([
            AttributeTransformer(d, num_dependencies + 1, *more)])
        self.image_layers = nn.ModuleList([
            AttributeTransformer(d, num_predicates + 1, *more)])
        self.cross = nn.ModuleList([CrossAttention(d, num_heads, dropout)])
        self.norms = nn.ModuleList([nn.LayerNorm(d)])
        self.channels = nn.ModuleDict({
            'pos': Channel(d, num_pos, *more),
            'distance': Channel(d, num_distances, *more),
            'pmi': Channel(d, num_pmi, *more)})
        self.merge = nn.Linear(3 * d, d)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.ModuleDict({'classifier': nn.Linear(
            2 * d + 3 * edge_dim, 1 + num_types + num_relations)})

    def forward(self, batch: DenseBatch) -> tuple[Tensor, Tensor]:
        r"""The logits of all pairs :obj:`[B, n, n, C]` and the weighted loss
        of the alignment.
        """
        x = self.text_layers[0](self.text(batch.words), batch.word_label)
        y = self.image_layers[0](self.image(batch.objects),
                                 batch.object_label)
        loss = self.align_weight * self.alignment_loss(x, y, batch)
        heard = self.cross[0](x, y, batch.object_mask)
        x = self.norms[0](x + self.dropout(heard))
        parts, vectors = [], []
        for name, ids in (('pos', batch.pos), ('distance', batch.distance),
                          ('pmi', batch.pmi)):
            channel = self.channels[name]
            vectors.append(channel.pairs(ids))
            parts.append(channel(x, vectors[-1], batch.word_mask))
        x = self.dropout(self.merge(torch.cat(parts, 2)))
        n = x.size(1)
        pair = torch.cat([x.unsqueeze(2).expand(-1, n, n, -1),
                          x.unsqueeze(1).expand(-1, n, n, -1), *vectors], 3)
        return self.head['classifier'](self.dropout(pair)), loss

    def loss(self, logits: Tensor, align: Tensor, target: Tensor) -> Tensor:
        r"""Cross-entropy of the pairs that are scored, and the alignment."""
        return F.cross_entropy(logits.flatten(0, 2), target.flatten(),
                               ignore_index=-1) + align

    def alignment_loss(self, x: Tensor, y: Tensor,
                       batch: DenseBatch) -> Tensor:
        r"""Eq. 5-7, the mean over posts with words and objects."""
        masks = batch.word_mask, batch.object_mask
        wd = node_distance(x, y, *masks)
        gwd = edge_distance(structure(x, batch.word_label, masks[0]),
                            structure(y, batch.object_label, masks[1]), *masks)
        both = masks[0].any(1) & masks[1].any(1)
        loss = self.alpha * wd + (1 - self.alpha) * gwd
        return (loss * both).sum() / both.sum().clamp(min=1)


# Transport ###################################################################


def cosine_cost(x: Tensor, y: Tensor, cell: Tensor,
                cut: float = 0.1) -> Tensor:
    r"""Cosine distances less a tenth of their range in the pair."""
    cost = 1 - F.normalize(x, dim=2) @ F.normalize(y, dim=2).transpose(1, 2)
    with torch.no_grad():
        low = cost.masked_fill(~cell, torch.inf).amin((1, 2), keepdim=True)
        high = cost.masked_fill(~cell, -torch.inf).amax((1, 2), keepdim=True)
        level = torch.where(low.isfinite(), low + cut * (high - low), 0.)
    return (cost - level).relu() * cell


def structure(x: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    r"""Distances of the ends of edges; one where there is no edge, zero of a
    node to itself.
    """
    cell = mask.unsqueeze(2) & mask.unsqueeze(1)
    distance = cosine_cost(x, x, cell)
    distance = torch.where(label >= 0, distance, 1.)
    loop = torch.eye(x.size(1), dtype=torch.bool, device=x.device)
    return distance * (cell & ~loop)


def marginals(mask: Tensor, other: Tensor) -> Tensor:
    r"""The same mass on each node; none if the other side is empty."""
    mass = mask.double() / mask.sum(1, keepdim=True).clamp(min=1)
    return mass * other.any(1, keepdim=True)


def ipot(cost: Tensor, row_mask: Tensor, col_mask: Tensor, beta: float,
         num_iters: int = 50) -> Tensor:
    r"""Proximal steps of one scaling each, from a flat plan."""
    p = marginals(row_mask, col_mask).to(cost.dtype).unsqueeze(2)
    q = marginals(col_mask, row_mask).to(cost.dtype).unsqueeze(2)
    tiny = torch.finfo(cost.dtype).tiny
    plan = ((p > 0) & (q > 0).transpose(1, 2)).to(cost.dtype)
    kernel = (-cost / beta).exp()
    sigma = torch.ones_like(q)
    for _ in range(num_iters):
        step = kernel * plan
        delta = p / (step @ sigma).clamp(min=tiny)
        sigma = q / (step.transpose(1, 2) @ delta).clamp(min=tiny)
        plan = delta * step * sigma.transpose(1, 2)
    return plan


def round_plan(plan: Tensor, row_mask: Tensor, col_mask: Tensor) -> Tensor:
    r"""A feasible plan beside the given one (Altschuler et al., 2017)."""
    p = marginals(row_mask, col_mask).to(plan.dtype).unsqueeze(2)
    q = marginals(col_mask, row_mask).to(plan.dtype).unsqueeze(1)
    tiny = torch.finfo(plan.dtype).tiny
    plan = plan * (p / plan.sum(2, keepdim=True).clamp(min=tiny)).clamp(max=1)
    plan = plan * (q / plan.sum(1, keepdim=True).clamp(min=tiny)).clamp(max=1)
    row = (p - plan.sum(2, keepdim=True)).clamp(min=0)
    col = (q - plan.sum(1, keepdim=True)).clamp(min=0)
    return plan + row * col / row.sum(1, keepdim=True).clamp(min=tiny)


def node_distance(x: Tensor, y: Tensor, row_mask: Tensor,
                  col_mask: Tensor) -> Tensor:
    r"""Wasserstein distance of the nodes of each pair, :obj:`[B]`."""
    cost = cosine_cost(x, y, row_mask.unsqueeze(2) & col_mask.unsqueeze(1))
    with torch.no_grad():
        plan = round_plan(ipot(cost, row_mask, col_mask, beta=0.5), row_mask,
                          col_mask)
    return (plan * cost).sum((1, 2))


def edge_distance(s: Tensor, t: Tensor, row_mask: Tensor, col_mask: Tensor,
                  num_outer: int = 5) -> Tensor:
    r"""Gromov-Wasserstein distance of the edges of each pair, :obj:`[B]`."""
    def linear(s: Tensor, t: Tensor, plan: Tensor) -> Tensor:
        row, col = plan.sum(2, keepdim=True), plan.sum(1).unsqueeze(2)
        return (s.square() @ row + (t.square() @ col).transpose(1, 2)
                - 2 * s @ plan @ t)

    with torch.no_grad():
        # Rounding grows over 250 steps: double, as in mmgraph.
        left, right = s.double(), t.double()
        plan = (marginals(row_mask, col_mask).unsqueeze(2)
                * marginals(col_mask, row_mask).unsqueeze(1))
        for _ in range(num_outer):
            plan = ipot(linear(left, right, plan), row_mask, col_mask,
                        beta=0.1)
        plan = round_plan(plan, row_mask, col_mask).to(s.dtype)
    return (plan * linear(s, t, plan)).sum((1, 2))
