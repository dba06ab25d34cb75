from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.inits import reset

from mmgraph.data.view import GraphView
from mmgraph.nn.align.base import Aligner, Alignment, features_of, ragged_pairs
from mmgraph.nn.align.dense import best_of
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.ragged import pad_rows
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least

__all__ = ['ConsensusAligner', 'RelationalGNN']

#: Numbers of a table of pairs that are worked on at once.
_PIECE = 2**24


class RelationalGNN(Configurable, nn.Module):
    r"""A graph neural network that tells the two ends of an edge apart, from
    `"Deep Graph Matching Consensus" <https://arxiv.org/abs/2001.09621>`_
    (ICLR 2020), where it aligns knowledge graphs:

    .. math::
        \mathbf{h}_i^{(l)} = \mathrm{ReLU} \left( \mathbf{W}_0^{(l)}
        \mathbf{h}_i^{(l-1)} + \mathbf{b}^{(l)} + \mathbf{W}_1^{(l)}
        \underset{j \to i}{\mathrm{mean}} \, \mathbf{h}_j^{(l-1)} +
        \mathbf{W}_2^{(l)} \underset{i \to j}{\mathrm{mean}} \,
        \mathbf{h}_j^{(l-1)} \right),

    and a linear map of :math:`[\mathbf{h}_i^{(0)}, \ldots,
    \mathbf{h}_i^{(L)}]`. Edge labels and features are not read. There is no
    batch normalization, which would let pairs of a batch see each other.

    Args:
        in_channels (int): Size of each node's input.
        hidden_channels (int): Size of each layer.
        out_channels (int): Size of each node's output.
        num_layers (int): Number of layers :math:`L`. (default: :obj:`2`)

    Raises:
        ValueError: If a size is not positive, or a view has no features.

    .. rubric:: Shapes

    * **view:** graphs of :math:`N` nodes, :obj:`x` of shape
      :math:`(N, C_{in})`
    * **output:** :math:`(N, C_{out})`

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])
        >>> view = GraphView.single(path, 3, x=torch.randn(3, 8))
        >>> RelationalGNN(8, 16, 4)(view).shape
        torch.Size([3, 4])
    """
    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels,
                       hidden_channels=hidden_channels,
                       out_channels=out_channels, num_layers=num_layers)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.roots = nn.ModuleList()
        self.convs_in = nn.ModuleList()
        self.convs_out = nn.ModuleList()
        size = in_channels
        for _ in range(num_layers):
            self.roots.append(nn.Linear(size, hidden_channels))
            for convs, flow in ((self.convs_in, 'source_to_target'),
                                (self.convs_out, 'target_to_source')):
                convs.append(SAGEConv(size, hidden_channels, flow=flow,
                                      root_weight=False, bias=False))
            size = hidden_channels
        self.out = nn.Linear(in_channels + num_layers * hidden_channels,
                             out_channels)

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, SAGEConv)):
                module.reset_parameters()

    def forward(self, view: GraphView) -> Tensor:
        if view.x is None:
            raise ValueError("'view.x' must be given (got None)")
        states = [view.x]
        for root, conv_in, conv_out in zip(self.roots, self.convs_in,
                                           self.convs_out, strict=True):
            x = states[-1]
            states.append((root(x) + conv_in(x, view.edge_index)
                           + conv_out(x, view.edge_index)).relu())
        return self.out(torch.cat(states, dim=1))

    def extra_repr(self) -> str:
        return (f'{self.in_channels}, {self.hidden_channels}, '
                f'{self.out_channels}, num_layers={self.num_layers}')


class ConsensusAligner(Aligner):
    r"""A learned aligner that asks, again and again, whether the neighbors of
    two nodes are matched to each other, from `"Deep Graph Matching Consensus"
    <https://arxiv.org/abs/2001.09621>`_ (ICLR 2020, Section 3).

    Nodes are first compared by themselves, :math:`\hat{\mathbf{S}}^{(0)} =
    \Psi_1(G_s) \Psi_1(G_t)^{\top}`, and then, for :math:`l = 0, \ldots, L -
    1`, by what they see of random numbers :math:`\mathbf{R}_s^{(l)} \sim
    \mathcal{N}(0, 1)` that the matches carry from source to target:

    .. math::
        \mathbf{S}^{(l)} &= \mathrm{softmax}(\hat{\mathbf{S}}^{(l)}), \quad
        \mathbf{R}_t^{(l)} = \mathbf{S}^{(l) \top} \mathbf{R}_s^{(l)}, \\
        \mathbf{o}_i^s &= \Psi_2(\mathbf{R}_s^{(l)}, G_s)_i, \quad
        \mathbf{o}_j^t = \Psi_2(\mathbf{R}_t^{(l)}, G_t)_j, \\
        \hat{S}_{ij}^{(l+1)} &= \hat{S}_{ij}^{(l)} +
        \mathrm{MLP}(\mathbf{o}_i^s - \mathbf{o}_j^t)

    with the softmax over the targets of a node. The score of a pair is
    :math:`S_{ij}^{(L)}`.

    **Known matches** (:obj:`seeds`) mean two things. In training mode they
    are what is to be learned: scores are as without them, and
    :obj:`Alignment.loss` is the mean of :math:`-\log S_{ij}^{(0)} - \log
    S_{ij}^{(L)}` over them. In evaluation mode they are evidence: only pairs
    that do not contradict them are listed, so that they carry their random
    numbers faithfully, and there is no loss.

    .. note::
        We differ from the published code in that

        * pairs of a batch are ragged, not padded, and the dense and the
          sparse variant are one;
        * random numbers come from a generator that each pair starts anew, so
          that a pair's result is the same alone and in any batch, and
          evaluation can be repeated. They belong to positions: renumbering
          source nodes deals them to other nodes and changes scores a little,
          the less the larger :math:`\Psi_2`'s input. **Pass** :obj:`generator`
          **in training**, else every step sees the same numbers;
        * the first layer of the MLP is applied to nodes, not to pairs, which
          is the same because it is linear;
        * the loss is computed from logarithms, without a constant inside;
        * a node may stay unmatched (:obj:`partial`).

    Args:
        psi_1 (torch.nn.Module): The network :math:`\Psi_1`. Networks here
            take a :class:`~mmgraph.data.view.GraphView` and return
            :obj:`[N, C]`, as :class:`RelationalGNN` does.
        psi_2 (torch.nn.Module): The network :math:`\Psi_2`, with attributes
            :obj:`in_channels`, the number of random numbers of a node, and
            :obj:`out_channels`.
        num_steps (int): Consensus steps :math:`L`. (default: :obj:`10`)
        top_k (int, optional): How many targets a source node has, the best
            by :math:`\hat{\mathbf{S}}^{(0)}`; in training, as many random
            ones and the known match are added. :obj:`None` takes all.
            (default: :obj:`None`)
        detach (bool): Whether :math:`\Psi_1` is left out of training, as in
            the second phase of the paper's knowledge graph experiment.
            (default: :obj:`False`)
        partial (bool): Whether a source node may stay unmatched: the softmax
            then has one more column with a logit that is learned, and scores
            of a node sum to less than one. In training, source nodes that
            :obj:`seeds` do not name are taken to have no partner.
            (default: :obj:`False`)
        psi_target (torch.nn.Module, optional): Takes the place of
            :math:`\Psi_1` for target graphs, where their features are of
            another kind. (default: :obj:`None`)
        seed (int): Seed of the random numbers. (default: :obj:`0`)

    Raises:
        ValueError: If an argument is out of range, or a view has no features.

    .. rubric:: Shapes

    * **source:** :math:`B` graphs of :math:`n_b` nodes, :obj:`x` as
      :math:`\Psi_1` takes it
    * **target:** :math:`B` graphs of :math:`m_b` nodes, likewise
    * **output:** :math:`M` pairs, all or those of :obj:`top_k`; scores in
      :math:`[0, 1]`, those of a source node sum to one (to less if
      :obj:`partial`), in the data type of :obj:`x` of the source

    Complexity: :math:`O(M C)` a step besides the networks, with :math:`C`
    channels of :math:`\Psi_2`; memory the same, in training for all steps.
    :obj:`top_k` compares all pairs once, in pieces.

    Example:
        >>> path = torch.tensor([[0, 1], [1, 2]])
        >>> view = GraphView.single(path, 3, x=torch.randn(3, 8))
        >>> aligner = ConsensusAligner(RelationalGNN(8, 16, 16),
        ...                            RelationalGNN(4, 8, 8))
        >>> truth = torch.arange(3).repeat(2, 1)
        >>> aligner(view, view, seeds=truth).loss.backward()
        >>> aligner.eval()(view, view)
        Alignment(num_graphs=1, num_source=3, num_target=3, num_matches=9)
    """
    takes_seeds = True

    def __init__(
        self,
        psi_1: nn.Module,
        psi_2: nn.Module,
        num_steps: int = 10,
        top_k: int | None = None,
        detach: bool = False,
        partial: bool = False,
        psi_target: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(0, num_steps=num_steps)
        if top_k is not None:
            check_at_least(1, top_k=top_k)
        self.num_indicators = _size_of(psi_2, 'in_channels')
        channels = _size_of(psi_2, 'out_channels')
        self.psi_1 = psi_1
        self.psi_2 = psi_2
        self.psi_target = psi_target
        self.num_steps = num_steps
        self.top_k = top_k
        self.detach = detach
        self.partial = partial
        self.seed = seed
        self.lin_1 = nn.Linear(channels, channels)
        self.lin_2 = nn.Linear(channels, 1)
        if partial:
            self.unmatched = nn.Parameter(torch.zeros(()))
        else:
            self.register_parameter('unmatched', None)

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        for module in self.children():
            reset(module)
        if self.partial:
            nn.init.zeros_(self.unmatched)

    def forward(
        self,
        source: GraphView,
        target: GraphView,
        *,
        seeds: OptTensor = None,
        generator: torch.Generator | None = None,
    ) -> Alignment:
        self.check(source, target, seeds)
        x_s, _ = features_of(source, target)
        fresh = self.pair_generator(generator)
        h_s = self.psi_1(source)
        h_t = (self.psi_target or self.psi_1)(target)
        if self.detach:
            h_s, h_t = h_s.detach(), h_t.detach()
        known = seeds
        if known is None:
            known = torch.empty(2, 0, dtype=torch.long, device=h_s.device)
        index, logit = self._compare(h_s, h_t, source, target, known, fresh)
        first = log = self._log_softmax(logit, index[0], source.num_nodes)
        for r_s in self.indicators(source, fresh).to(h_s.dtype):
            logit = logit + self.consensus(r_s, log[0].exp(), index, source,
                                           target)
            log = self._log_softmax(logit, index[0], source.num_nodes)
        loss = None
        if self.training and seeds is not None:
            loss = self._loss(first, index, seeds, source, target)
            if self.num_steps > 0:
                loss = loss + self._loss(log, index, seeds, source, target)
        score = log[0].exp().to(x_s.dtype)
        return Alignment(index, score, source.ptr, target.ptr, loss)

    def indicators(
        self,
        source: GraphView,
        fresh: Callable[[], torch.Generator],
    ) -> Tensor:
        r"""The random numbers of all steps and source nodes. Graphs of the
        same size have the same ones.

        Args:
            source (GraphView): The source graphs.
            fresh (callable): From :meth:`pair_generator`.

        Returns:
            torch.Tensor: Normally distributed, :obj:`[L, N, R]`.
        """
        sizes = source.sizes.tolist()
        draws = {n: torch.randn(self.num_steps, n, self.num_indicators,
                                generator=fresh()) for n in {0, *sizes}}
        return torch.cat([draws[n] for n in [0, *sizes]], dim=1).to(
            source.batch.device)

    def consensus(
        self,
        r_s: Tensor,
        score: Tensor,
        index: Tensor,
        source: GraphView,
        target: GraphView,
    ) -> Tensor:
        r"""What one step adds to the logit of each pair.

        Args:
            r_s (torch.Tensor): Random numbers :obj:`[N, R]` of the source.
            score (torch.Tensor): Scores of pairs :obj:`[M]`.
            index (torch.Tensor): The pairs :obj:`[2, M]`.
            source (GraphView): The source graphs.
            target (GraphView): The target graphs.
        """
        r_t = r_s.new_zeros(target.num_nodes, r_s.size(1))
        score = score.to(r_s.dtype).unsqueeze(1)
        for part in _pieces(index.size(1), r_s.size(1)):
            row, col = index[:, part]
            r_t = r_t.index_add(0, col, score[part] * r_s[row])
        o_s = self.lin_1(self.psi_2(source._replace(x=r_s)))
        o_t = self.psi_2(target._replace(x=r_t)) @ self.lin_1.weight.t()
        out = [o_s.new_empty(0)]
        for part in _pieces(index.size(1), o_s.size(1)):
            row, col = index[:, part]
            gap = o_s.index_select(0, row) - o_t.index_select(0, col)
            out.append(self.lin_2(gap.relu()).squeeze(1))
        return torch.cat(out)

    def _compare(
        self,
        h_s: Tensor,
        h_t: Tensor,
        source: GraphView,
        target: GraphView,
        known: Tensor,
        fresh: Callable[[], torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        r"""The pairs that take part and their first logits."""
        largest = int(target.sizes.max()) if target.num_graphs > 0 else 0
        sparse = self.top_k is not None and self.top_k < largest
        if sparse:
            index = self._candidates(h_s.detach(), h_t.detach(), source,
                                     target, fresh)
            key = torch.cat([index, known], dim=1)
            key = (key[0] * target.num_nodes + key[1]).unique()
            row = key.div(max(target.num_nodes, 1), rounding_mode='floor')
            index = torch.stack([row, key - row * target.num_nodes])
        else:
            index = ragged_pairs(source.ptr, target.ptr)
        if not self.training and known.size(1) > 0:
            taken = torch.full((source.num_nodes, ), -1, device=h_s.device)
            taken[known[0]] = known[1]
            free = torch.ones(target.num_nodes, dtype=torch.bool,
                              device=h_s.device)
            free[known[1]] = False
            row, col = index
            own = taken[row]
            index = index[:, (own == col) | ((own < 0) & free[col])]
        row, col = index
        if sparse:
            logit = torch.cat([h_s.new_empty(0)] + [
                (h_s[row[part]] * h_t[col[part]]).sum(1)
                for part in _pieces(row.numel(), h_s.size(1))])
        else:
            left, _ = pad_rows(h_s, source.batch, source.ptr)
            right, _ = pad_rows(h_t, target.batch, target.ptr)
            graph = source.batch[row]
            logit = (left @ right.transpose(1, 2))[
                graph, row - source.ptr[graph], col - target.ptr[graph]]
        # Sums of many exponentials: single precision at least.
        return index, logit.to(torch.promote_types(logit.dtype, torch.float))

    def _candidates(
        self,
        h_s: Tensor,
        h_t: Tensor,
        source: GraphView,
        target: GraphView,
        fresh: Callable[[], torch.Generator],
    ) -> Tensor:
        r"""The best targets of each source node and, in training, as many
        random ones.
        """
        k = self.top_k or 0
        index = [source.ptr.new_empty(2, 0)]
        ends = torch.stack([source.ptr[:-1], source.ptr[1:], target.ptr[:-1],
                            target.ptr[1:]], dim=1)
        for low_s, high_s, low_t, high_t in ends.tolist():
            n, m = high_s - low_s, high_t - low_t
            if n == 0 or m == 0:
                continue
            for part in _pieces(n, m):
                found, _ = best_of(
                    h_s[low_s:high_s][part] @ h_t[low_t:high_t].t(), k)
                start = found.new_tensor([low_s + part.start, low_t])
                index.append(found + start.unsqueeze(1))
            if self.training and m > k:
                row = torch.arange(low_s, high_s, device=h_s.device)
                col = torch.randint(low_t, high_t, (n * min(k, m - k), ),
                                    generator=fresh())
                index.append(torch.stack([
                    row.repeat_interleave(min(k, m - k)), col.to(row.device)]))
        return torch.cat(index, dim=1)

    def _log_softmax(
        self,
        logit: Tensor,
        row: Tensor,
        num_rows: int,
    ) -> tuple[Tensor, OptTensor]:
        r"""Logarithms of scores of pairs and of staying unmatched."""
        top = logit.new_full((num_rows, ), torch.finfo(logit.dtype).min)
        top = top.scatter_reduce(0, row, logit.detach(), 'amax')
        if self.partial:
            top = torch.maximum(top, self.unmatched.detach().to(top.dtype))
        total = torch.zeros_like(top).index_add(
            0, row, (logit - top[row]).exp())
        if not self.partial:
            return logit - (top + total.log())[row], None
        total = top + (total + (self.unmatched - top).exp()).log()
        return logit - total[row], self.unmatched - total

    def _loss(
        self,
        log: tuple[Tensor, OptTensor],
        index: Tensor,
        seeds: Tensor,
        source: GraphView,
        target: GraphView,
    ) -> Tensor:
        r"""The mean negative log-likelihood of known matches."""
        score, unmatched = log
        key = index[0] * target.num_nodes + index[1]
        wanted = seeds[0] * target.num_nodes + seeds[1]
        likelihood = score[torch.searchsorted(key, wanted)]
        if unmatched is not None:
            alone = torch.ones(source.num_nodes, dtype=torch.bool,
                               device=score.device)
            alone[seeds[0]] = False
            likelihood = torch.cat([likelihood, unmatched[alone]])
        return -likelihood.sum() / max(likelihood.numel(), 1)

    def extra_repr(self) -> str:
        return (f'num_steps={self.num_steps}, top_k={self.top_k}, '
                f'partial={self.partial}')


def _size_of(psi_2: nn.Module, name: str) -> int:
    size = getattr(psi_2, name, None)
    if not isinstance(size, int):
        raise ValueError(f"'psi_2' must tell its '{name}' (got a "
                         f"{type(psi_2).__name__} that does not)")
    return size


def _pieces(number: int, width: int) -> Iterator[slice]:
    size = max(1, _PIECE // max(width, 1))
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))
