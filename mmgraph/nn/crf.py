r"""Linear-chain conditional random field over ragged rows.

How it is computed: every post is cut in its middle, and both halves are
walked towards the cut at once, the right one with transposed transitions. So
a batch whose longest post has :math:`L` words takes :math:`L / 2` steps on
:obj:`[2, B, T]`, and each word has one place, :obj:`[step, half, post]`; what
fills up the shorter posts is never read. What flows into the cut is the
partition function; from there, the walk back gives all marginals, which are
its gradient in closed form, so autograd records no step.

Messages are kept as probabilities, re-scaled every few steps, in float64: one
small matrix product a step. Were scores to differ by so much that a message
could underflow (by hundreds; masks of :obj:`-inf` do), the same steps run in
log-space instead.
"""
import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmgraph.nn.configurable import Configurable
from mmgraph.nn.ragged import pad_rows
from mmgraph.parse.bio import bio_constraint
from mmgraph.typing import OptTensor
from mmgraph.utils import check_at_least, check_choice, checks_enabled

__all__ = ['Constraint', 'LinearChainCRF']

#: Where only well-formed tags count.
Constraint = Literal['always', 'decoding', 'never']

# How far (as an exponent) a message may fall until it is re-scaled; float64
# goes to 708.
_RANGE = 600.


class LinearChainCRF(Configurable, nn.Module):
    r"""Linear-chain conditional random field from the `"Neural Architectures
    for Named Entity Recognition" <https://arxiv.org/abs/1603.01360>`_ paper
    (Section 2.2; Lafferty et al., 2001). Of a post with emissions
    :math:`\mathbf{P} \in \mathbb{R}^{n \times T}`, the tags
    :math:`\mathbf{y}` have the score and the probability

    .. math::
        s(\mathbf{y}) = a_{y_1} + \sum_{t=1}^{n} P_{t, y_t} +
        \sum_{t=1}^{n-1} A_{y_t, y_{t+1}} + b_{y_n}, \qquad
        p(\mathbf{y}) = \frac{e^{s(\mathbf{y})}}
        {\sum_{\mathbf{y}^{\prime}} e^{s(\mathbf{y}^{\prime})}}

    where :math:`\mathbf{a}`, :math:`\mathbf{b}` and :math:`\mathbf{A}` are
    the parameters :obj:`start`, :obj:`end` and :obj:`transitions` (from row
    to column).

    With :obj:`num_types`, tags are those of :mod:`mmgraph.parse.bio` and may
    be restricted to the well-formed ones (IOB2):

    * :obj:`'always'`: ill-formed tags have no probability, so the sum above
      leaves them out as well, and loss, marginals and decoding speak of the
      same distribution. On well-formed gold tags, the likelihood of this
      reading is never below that of the next (`"Constraining Linear-chain
      CRFs to Regular Languages" <https://arxiv.org/abs/2106.07306>`_).
    * :obj:`'decoding'`: only :meth:`decode` and :meth:`k_best` leave them
      out.
    * :obj:`'never'`: as published; the model may learn to avoid them.

    .. note::
        The published code adds -1000 where a boundary must not be; we add
        nothing and leave forbidden transitions out of the sums. Scores of
        any dtype are worked on in float64, so that a probability near 1 does
        not vanish in rounding.

    Args:
        num_tags (int): Number of tags :math:`T`.
        num_types (int, optional): Number of types of mentions, if tags are
            BIO tags: :math:`T` must be 1 + 2 * :obj:`num_types`.
            (default: :obj:`None`)
        constraint (str, optional): Where ill-formed tags are left out, see
            above; nothing is without :obj:`num_types`.
            (default: :obj:`'always'`)

    Shapes:
        - **input:** emissions :math:`(n, T)`, the words of all posts one
          after the other, :obj:`-inf` where a tag is impossible; gold tags
          :math:`(n)`; offsets of the posts :math:`(B + 1)`
        - **output:** negative log-likelihoods :math:`(B)`, in
          :math:`[0, \infty]`, zero for a post without words

    Raises:
        ValueError: If :obj:`num_tags` does not fit :obj:`num_types`, shapes
            do not fit, or gold tags are impossible (where
            :class:`mmgraph.checks` are off, their loss is :obj:`inf`).

    Time is :math:`\mathcal{O}(B L T^2)` in :math:`L / 2` steps, :math:`L` the
    longest post; memory is :math:`\mathcal{O}(B L T)`, :math:`T` times that
    in log-space and in :meth:`decode`.

    Example:
        >>> crf = LinearChainCRF(5, num_types=2)
        >>> emissions = torch.zeros(3, 5)
        >>> emissions[0, 1] = emissions[1, 4] = 9.  # B-0 and I-1: ill-formed
        >>> emissions[1, 2] = 8.
        >>> ptr = torch.tensor([0, 2, 3])
        >>> crf(emissions, torch.tensor([1, 2, 0]), ptr).shape
        torch.Size([2])
        >>> crf.decode(emissions, ptr)[0]
        [1, 2]
    """
    may_start: OptTensor
    may_follow: OptTensor

    def __init__(
        self,
        num_tags: int,
        num_types: int | None = None,
        constraint: Constraint = 'always',
    ) -> None:
        super().__init__()
        check_at_least(1, num_tags=num_tags)
        check_choice('constraint', constraint, get_args(Constraint))
        if num_types is not None and num_tags != 1 + 2 * num_types:
            raise ValueError(f"'num_tags' must be 1 + 2 * 'num_types' "
                             f'(got {num_tags} and {num_types})')
        self.num_tags, self.num_types = num_tags, num_types
        self.constraint = 'never' if num_types is None else constraint
        self.start = nn.Parameter(torch.empty(num_tags))
        self.end = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        allowed = None if num_types is None else bio_constraint(num_types)
        self.register_buffer('may_start', allowed and allowed.start,
                             persistent=False)
        self.register_buffer('may_follow', allowed and allowed.transitions,
                             persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new weights, uniform in :math:`[-0.1, 0.1]`."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, emissions: Tensor, tags: Tensor, ptr: Tensor) -> Tensor:
        x = self._check(emissions, ptr)
        if tags.shape != x.shape[:1]:
            raise ValueError(f"'tags' must have shape [{x.size(0)}] "
                             f'(got {list(tags.shape)})')
        if checks_enabled() and tags.numel():
            low, high = map(int, tags.aminmax())
            if low < 0 or high >= self.num_tags:
                raise ValueError(f"'tags' must be in [0, {self.num_tags}) "
                                 f'(got {low} to {high})')
        loss = _LogPartition.apply(
            x, *self._potentials(), *self._allowed('always'),
            _fold(ptr, x.size(0)), tags)
        if checks_enabled():
            impossible = (loss == torch.inf).nonzero()
            if impossible.numel():
                i = int(impossible[0])
                raise ValueError(
                    f"'tags' must be possible: they must be well-formed and "
                    f'no emission of theirs -inf (got '
                    f'{tags[ptr[i]:ptr[i + 1]].tolist()} in post {i})')
        return loss.to(_dtype(emissions))

    def log_partition(self, emissions: Tensor, ptr: Tensor) -> Tensor:
        r"""The logarithm of the sum over all tags, :obj:`[B]`; its gradient
        with respect to the emissions is :meth:`marginals`. It can be
        differentiated once.
        """
        x = self._check(emissions, ptr)
        return _LogPartition.apply(
            x, *self._potentials(), *self._allowed('always'),
            _fold(ptr, x.size(0)), None).to(_dtype(emissions))

    @torch.no_grad()
    def marginals(self, emissions: Tensor, ptr: Tensor) -> Tensor:
        r"""The probability of each tag of each word, :obj:`[n, T]`, without
        gradient.
        """
        x = self._check(emissions, ptr)
        fold = _fold(ptr, x.size(0))
        walk = _walk_in(x, *self._potentials(), *self._allowed('always'), fold)
        unary, _ = _walk_out(walk, fold, x.new_ones(fold.num_posts))
        return unary.index_select(0, fold.place).to(_dtype(emissions))

    @torch.no_grad()
    def decode(self, emissions: Tensor, ptr: Tensor) -> list[list[int]]:
        r"""The most probable tags of each post (Viterbi); which of several
        equally probable ones is not defined.
        """
        x = self._check(emissions, ptr)
        fold = _fold(ptr, x.size(0))
        start, transitions, end = _mask(
            *self._potentials(), *self._allowed('decoding'))
        word = _scatter(x, fold, 0.)
        pre = torch.stack([start, end]).unsqueeze(1)
        step = torch.stack([transitions, transitions.t()]).unsqueeze(1)
        before, after, back = [pre.expand_as(word[0])], [], []
        for emission in word:
            after.append(before[-1] + emission)
            pre, index = (after[-1].unsqueeze(-1) + step).max(dim=-2)
            before.append(pre)
            back.append(index)
        best = (torch.cat(after).flatten(0, 1)[fold.left]
                + torch.cat(before).flatten(0, 1)[fold.right]).argmax(-1)
        # Behind its end, a half hands on the tag at the cut as it is.
        beyond = torch.arange(len(back), device=x.device).view(
            -1, 1, 1) >= torch.stack([(fold.size - 1) // 2, fold.size // 2])
        pointer = torch.stack(back)
        identity = torch.arange(self.num_tags, device=x.device)
        pointer = torch.where(beyond.unsqueeze(-1), identity, pointer)
        path = [best.expand(2, -1).unsqueeze(-1)]
        for index in pointer.flip(0):
            path.append(index.gather(-1, path[-1]))
        tags = torch.stack(path[:0:-1]).flatten()[fold.place].tolist()
        bounds = ptr.tolist()
        return [tags[i:j] for i, j in zip(bounds, bounds[1:])]

    @torch.no_grad()
    def k_best(
        self,
        emissions: Tensor,
        ptr: Tensor,
        k: int,
    ) -> list[list[tuple[list[int], float]]]:
        r"""The :obj:`k` most probable tag sequences of each post with their
        log-probabilities, best first; fewer where fewer are possible, and
        the empty one for a post without words.

        Args:
            emissions (torch.Tensor): :obj:`[n, T]`.
            ptr (torch.Tensor): Where each post's words start,
                :obj:`[B + 1]`.
            k (int): How many.
        """
        check_at_least(1, k=k)
        x = self._check(emissions, ptr)
        fold = _fold(ptr, x.size(0))
        partition = self.log_partition(x, ptr).tolist()
        start, transitions, end = _mask(
            *self._potentials(), *self._allowed('decoding'))
        word, mask = pad_rows(x, fold.post, ptr)
        b, length, t = word.shape
        # The k best ways to each tag, [B, T, k]; a state is tag * k + rank.
        best = x.new_full((b, t, k), -torch.inf)
        best[..., 0] = start
        identity = torch.arange(t * k, device=x.device).expand(b, -1)
        pointers = []
        for i in range(length):
            if i:
                way = best.unsqueeze(1) + transitions.t().unsqueeze(-1)
                found, index = way.flatten(2).topk(k, dim=-1)
                kept = mask[:, i, None]
                best = torch.where(kept.unsqueeze(-1), found, best)
                pointers.append(torch.where(kept, index.flatten(1), identity))
            best = best + word[:, i].unsqueeze(-1)
        score, state = (best + end.unsqueeze(-1)).flatten(1).topk(k, dim=-1)
        path = [state]
        for pointer in reversed(pointers):
            path.append(pointer.gather(1, path[-1]))
        tags = torch.stack(path[::-1], dim=-1).div(k, rounding_mode='floor')
        return [
            [(way[:n], value - z) for way, value in zip(ways, values)
             if value > -torch.inf] if n else [([], 0.)]
            for n, z, ways, values in zip(
                ptr.diff().tolist(), partition, tags.tolist(), score.tolist())
        ]

    def extra_repr(self) -> str:
        r"""What :func:`repr` shows."""
        return f'{self.num_tags}, constraint={self.constraint!r}'

    def _check(self, emissions: Tensor, ptr: Tensor) -> Tensor:
        if emissions.dim() != 2 or emissions.size(1) != self.num_tags:
            raise ValueError(f"'emissions' must have shape [n, "
                             f'{self.num_tags}] (got '
                             f'{list(emissions.shape)})')
        if checks_enabled() and int(ptr[-1]) != emissions.size(0):
            raise ValueError(f"'ptr' must end with the number of rows of "
                             f"'emissions' (got {int(ptr[-1])} for "
                             f'{emissions.size(0)})')
        return emissions.double()

    def _potentials(self) -> tuple[Tensor, Tensor, Tensor]:
        return (self.start.double(), self.transitions.double(),
                self.end.double())

    def _allowed(self, use: Constraint) -> tuple[OptTensor, OptTensor]:
        if self.constraint in ('always', use):
            return self.may_start, self.may_follow
        return None, None


def _dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float)


class _Fold(NamedTuple):
    r"""Posts cut in their middle, on a grid :obj:`[steps, 2, B]`."""
    post: Tensor  # of each word
    ahead: Tensor  # words before each word
    behind: Tensor  # words after it
    place: Tensor  # of each word: a row of the grid
    size: Tensor  # of each post
    left: Tensor  # the last word of the left half of each post
    right: Tensor  # behind the last word of the right half
    steps: int

    @property
    def num_posts(self) -> int:
        return self.size.numel()


def _fold(ptr: Tensor, num_words: int) -> _Fold:
    size = ptr.diff()
    b = size.numel()
    posts = torch.arange(b, device=ptr.device)
    post = posts.repeat_interleave(size, output_size=num_words)
    ahead = torch.arange(num_words, device=ptr.device)
    ahead = ahead - ptr.index_select(0, post)
    behind = size.index_select(0, post) - 1 - ahead
    step = torch.minimum(ahead, behind)
    place = (2 * step + (behind < ahead)) * b + post
    left = (size - 1).clamp(min=0) // 2 * (2 * b) + posts
    right = (size // 2 * 2 + 1) * b + posts
    longest = int(size.max()) if b else 0
    return _Fold(post, ahead, behind, place, size, left, right,
                 max(1, (longest + 1) // 2))


def _scatter(x: Tensor, fold: _Fold, fill: float) -> Tensor:
    grid = x.new_full((fold.steps * 2 * fold.num_posts, x.size(1)), fill)
    grid.index_copy_(0, fold.place, x)
    return grid.view(fold.steps, 2, fold.num_posts, x.size(1))


def _mask(
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    may_start: OptTensor,
    may_follow: OptTensor,
) -> tuple[Tensor, Tensor, Tensor]:
    if may_start is not None and may_follow is not None:
        start = start.masked_fill(~may_start, -torch.inf)
        transitions = transitions.masked_fill(~may_follow, -torch.inf)
    return start, transitions, end


def _log_bmm(x: Tensor, y: Tensor) -> Tensor:
    way = x.unsqueeze(-1) + y.unsqueeze(1)
    top = way.amax(-2, keepdim=True)
    way = _exp(way.sub_(top.clamp(min=torch.finfo(way.dtype).min)))
    return way.sum(-2).log_() + top.squeeze(-2)


def _exp(x: Tensor) -> Tensor:
    # Never above 1, however the scores were rounded; and exp() is slow where
    # it underflows.
    return x.clamp(-700, 0).exp_().masked_fill_(x < -700, 0)


class _Walk(NamedTuple):
    r"""Messages into the cut."""
    log_z: Tensor  # [B]
    word: Tensor  # potential of each word [S, 2, B, T]
    step: Tensor  # potential of a transition [2, T, T]
    before: Tensor  # message to each word [S + 1, 2, B, T]
    after: Tensor  # message from each word [S, 2, B, T]
    from_left: Tensor  # the messages that meet in the cut [B, T],
    from_right: Tensor  # each divided by the sum of their product
    log_space: bool


def _walk_in(
    x: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    may_start: OptTensor,
    may_follow: OptTensor,
    fold: _Fold,
) -> _Walk:
    b, t = fold.num_posts, x.size(1)
    ends = torch.stack([start, end])
    # How far the message to a tag can fall below the largest in a step. Every
    # tag is reached from every other in one step, or in two where B- must
    # come between, so what is lost does not add up beyond that. This gives
    # the number of steps until messages must be re-scaled.
    scores = torch.cat([ends.flatten(), transitions.flatten()])
    least, most = scores.aminmax()
    low, high = x.aminmax() if x.numel() else (least, most)
    fall = 1 + math.log(t) + float(high - low + 2 * (most - least))
    log_space = not fall * 3 <= _RANGE  # also if it is NaN
    interval = fold.steps if log_space else int(_RANGE / fall) - 2
    start, transitions, end = _mask(start, transitions, end, may_start,
                                    may_follow)
    ends = torch.stack([start, end])
    step = torch.stack([transitions, transitions.t()])
    if not log_space:
        x, ends, step = ((x - high).exp_(), (ends - most).exp_(),
                         (step - most).exp_())
    word = _scatter(x, fold, 0. if log_space else 1.)
    before = x.new_empty(fold.steps + 1, 2, b, t)
    before[0] = ends.unsqueeze(1)
    after = torch.empty_like(word)
    scale = [x.new_zeros(2, b)]
    times = torch.add if log_space else torch.mul
    befores, afters, words = before.unbind(), after.unbind(), word.unbind()
    for s in range(fold.steps):
        if s and s % interval == 0:
            # It goes into the word's potential, so that no other step knows.
            norm = befores[s].sum(-1, keepdim=True)
            words[s].div_(norm)
            scale.append(scale[-1] + norm.squeeze(-1).log_())
        times(befores[s], words[s], out=afters[s])
        if log_space:
            befores[s + 1].copy_(_log_bmm(afters[s], step))
        else:
            torch.bmm(afters[s], step, out=befores[s + 1])
    from_left = after.view(-1, t).index_select(0, fold.left)
    from_right = before.view(-1, t).index_select(0, fold.right)
    if log_space:
        log_z = torch.logsumexp(from_left + from_right, -1)
        from_left = from_left - log_z.unsqueeze(-1)
        from_right = from_right - log_z.unsqueeze(-1)
    else:
        # Either may be as small as float64 allows, so scaled before they meet.
        left = from_left.sum(-1, keepdim=True)
        right = from_right.sum(-1, keepdim=True)
        from_left, from_right = from_left / left, from_right / right
        joint = (from_left * from_right).sum(-1, keepdim=True)
        log_z = torch.cat([joint, left, right], dim=-1).log_().sum(-1)
        log_z = log_z + fold.size * high + (fold.size + 1) * most
        from_left = from_left / joint / right
        from_right = from_right / joint / left
        if len(scale) > 1:
            # Of the last words of both halves; the right one may have none.
            scales = torch.stack(scale)
            last = torch.stack([fold.size - 1, fold.size - 2]).clamp(min=0)
            rows = last // 2 // interval
            log_z = log_z + scales.gather(0, rows.unsqueeze(0))[0].sum(0)
    return _Walk(log_z.masked_fill_(fold.size == 0, 0), word, step, before,
                 after, from_left, from_right, log_space)


def _walk_out(
    walk: _Walk,
    fold: _Fold,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Marginals on the grid :obj:`[(S + 1) * 2 * B, T]` and expected counts
    of the transitions :obj:`[T, T]`, those of each post times its weight.
    """
    log_z, word, step, before, after, from_left, from_right, log_space = walk
    steps, _, b, t = word.shape
    nothing = -torch.inf if log_space else 0.
    none = ((fold.size == 0) | (log_z == -torch.inf)).unsqueeze(-1)
    from_left = from_left.masked_fill(none, nothing)
    from_right = from_right.masked_fill(none, nothing)
    # What surrounds a message: times the message, it is a marginal. A half
    # begins with what the other one has brought to the cut.
    around = torch.full_like(before, nothing)
    flat = around.view(-1, t)
    at_cut = word.view(-1, t).index_select(0, fold.left)
    flat.index_copy_(0, fold.left, from_right + at_cut if log_space
                     else from_right * at_cut)
    flat.index_copy_(0, fold.right, from_left)
    back = step.transpose(1, 2)
    arounds, words = around.unbind(), word.unbind()
    for s in range(steps - 1, -1, -1):
        if log_space:
            message = _log_bmm(arounds[s + 1], back) + words[s]
            torch.logaddexp(arounds[s], message, out=arounds[s])
        else:
            arounds[s].addcmul_(torch.bmm(arounds[s + 1], back), words[s])
    weight = weight.unsqueeze(-1)
    if log_space:
        unary = _exp(before + around) * weight
        pairs = after.unsqueeze(-1) + step.unsqueeze(1)
        pairs = _exp(pairs + around[1:].unsqueeze(-2))
        counts = (pairs * weight.unsqueeze(-1)).sum((0, 2))
    else:
        around *= weight
        unary = before * around
        pairs = (after.transpose(2, 3) @ around[1:]).sum(0)
        counts = step * pairs
    return unary.view(-1, t), counts[0] + counts[1].t()


class _LogPartition(torch.autograd.Function):
    r"""The log-partition function, minus the score of the gold tags if there
    are any. Its gradient is the expected counts, minus those of the gold.
    """
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        transitions: Tensor,
        end: Tensor,
        may_start: OptTensor,
        may_follow: OptTensor,
        fold: _Fold,
        tags: OptTensor,
    ) -> Tensor:
        walk = _walk_in(x, start, transitions, end, may_start, may_follow,
                        fold)
        ctx.fold, ctx.log_space = fold, walk.log_space
        if tags is None:
            ctx.save_for_backward(*walk[:-1], None, None)
            return walk.log_z
        start, transitions, end = _mask(start, transitions, end, may_start,
                                        may_follow)
        # A word looks up what leads to it, and the last one the end as well;
        # the others find a zero there.
        t = x.size(1)
        table = torch.cat([transitions.flatten(), start, end, x.new_zeros(1)])
        came = torch.where(fold.ahead == 0, t, tags.roll(1)) * t + tags
        goes = torch.where(fold.behind == 0, t * t + t + tags, t * t + 2 * t)
        look_up = torch.stack([came, goes])
        own = torch.arange(tags.numel(), device=x.device) * t + tags
        value = table[look_up].sum(0) + x.flatten()[own]
        score = torch.zeros_like(walk.log_z).index_add_(0, fold.post, value)
        ctx.save_for_backward(*walk[:-1], own, look_up)
        # The two differ by rounding where the gold has all probability.
        loss = (walk.log_z - score).clamp_(min=0)
        return loss.masked_fill_(score == -torch.inf, torch.inf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        *saved, own, look_up = ctx.saved_tensors
        walk = _Walk._make([*saved, ctx.log_space])
        unary, pairs = _walk_out(walk, ctx.fold, grad)
        b, t = ctx.fold.num_posts, unary.size(1)
        start, end = unary[:2 * b].view(2, b, t).sum(1)
        x = unary.index_select(0, ctx.fold.place)
        if look_up is not None:
            weight = grad.index_select(0, ctx.fold.post)
            x.view(-1).index_add_(0, own, -weight)
            gold = x.new_zeros(t * t + 2 * t + 1).index_add_(
                0, look_up.flatten(), weight.repeat(2))
            pairs = pairs - gold[:t * t].view(t, t)
            start = start - gold[t * t:-t - 1]
            end = end - gold[-t - 1:-1]
        return x, start, pairs, end, None, None, None, None
