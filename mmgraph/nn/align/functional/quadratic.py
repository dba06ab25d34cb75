r"""The quadratic assignment problem between two graphs, on SciPy's matrices.

Everywhere below :math:`\mathbf{A}` (:math:`n` nodes) and :math:`\mathbf{B}`
(:math:`m \geq n` nodes) are symmetric and sparse, and a *plan*
:math:`\mathbf{P} \in \mathbb{R}_+^{n \times m}` has rows of sum one and columns
of sum one at most. The objective is

.. math::
    f(\mathbf{P}) = \langle \mathbf{L}, \mathbf{P} \rangle
        + \mathrm{tr}(\mathbf{A} \mathbf{P} \mathbf{B} \mathbf{P}^{\top})
        - \omega \mathbf{1}^{\top} \mathbf{P} \mathbf{B} \mathbf{P}^{\top}
        \mathbf{1},

so that an injective map gets twice the number of edges that it keeps, less
:math:`2 \omega` for each edge of :math:`\mathbf{B}` among its images.
"""
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment

__all__ = [
    'QuadraticProblem', 'balance', 'block_search', 'convex_relaxation',
    'frank_wolfe', 'soft_assignment'
]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class QuadraticProblem:
    r"""The objective :math:`f` of this module.

    Args:
        a (scipy.sparse.csr_matrix): :math:`\mathbf{A}`, :obj:`[n, n]`.
        b (scipy.sparse.csr_matrix): :math:`\mathbf{B}`, :obj:`[m, m]`.
        linear (numpy.ndarray): :math:`\mathbf{L}`, :obj:`[n, m]`, or zero.
        penalty (float): :math:`\omega`. Zero is the *naive* and one half the
            *adopted* padding of `"Seeded graph matching"
            <https://arxiv.org/abs/1209.0367>`_; the same if :math:`n = m`.
    """
    a: sp.csr_matrix
    b: sp.csr_matrix
    linear: Array | float = 0.0
    penalty: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        r"""The sizes :math:`(n, m)`."""
        return self.a.shape[0], self.b.shape[0]

    def half(self, plan: Array) -> Array:
        r"""Half the gradient of the quadratic part, :math:`\mathbf{A P B} -
        \omega \mathbf{1} \mathbf{1}^{\top} \mathbf{P B}`, in
        :math:`O(m |\mathcal{E}_A| + n |\mathcal{E}_B|)`.
        """
        out = (self.b @ np.ascontiguousarray((self.a @ plan).T)).T
        if self.penalty:
            out -= self.penalty * (self.b @ plan.sum(0))
        return out

    def half_of_map(self, match: Array) -> Array:
        r"""The same for the map :math:`i \mapsto` :obj:`match[i]`."""
        n, m = self.shape
        moved = sp.csr_matrix(
            (self.a.data, match[self.a.indices], self.a.indptr), shape=(n, m))
        out = (moved @ self.b).toarray()
        if self.penalty:
            used = np.bincount(match, minlength=m).astype(float)
            out -= self.penalty * (self.b @ used)
        return out

    def value(self, match: Array) -> float:
        r"""The objective of a map."""
        b = self.b[match][:, match]
        linear = 0.0
        if isinstance(self.linear, np.ndarray):
            linear = self.linear[np.arange(match.size), match].sum()
        return float(linear + self.a.multiply(b).sum()
                     - self.penalty * b.sum())

    def partial_value(self, match: Array) -> float:
        r"""The objective of the rows that go somewhere (-1: nowhere)."""
        rows = np.flatnonzero(match >= 0)
        to = match[rows]
        linear: Array | float = 0.0
        if isinstance(self.linear, np.ndarray):
            linear = self.linear[np.ix_(rows, to)]
        part = QuadraticProblem(self.a[rows][:, rows], self.b[to][:, to],
                                linear, self.penalty)
        return part.value(np.arange(rows.size))

    def bound(self) -> float:
        r"""An objective that no map exceeds; where there are no linear terms,
        one that leaves no doubt when it is reached.
        """
        linear = 0.0
        if isinstance(self.linear, np.ndarray):
            linear = self.linear.max(1).sum()
        return float(linear + (1 - self.penalty)
                     * min(self.a.sum(), self.b.sum()))

    def block(
        self,
        match: Array,
        rows: Array,
        cols: Array,
    ) -> 'QuadraticProblem':
        r"""The problem of some rows and columns, given where the other rows
        go (:obj:`match`; -1: nowhere); none of them may go to these columns.
        The cost is that of the edges at these rows and columns.
        """
        to = match.copy()
        to[rows] = -1
        a, b = self.a[rows], self.b[cols]
        goal = to[a.indices]
        moved = sp.csr_matrix(
            (np.where(goal >= 0, a.data, 0), np.maximum(goal, 0), a.indptr),
            shape=(rows.size, b.shape[1]))
        linear = 2 * (moved @ b.T).toarray()
        if self.penalty:
            used = np.bincount(to[to >= 0], minlength=b.shape[1])
            linear -= 2 * self.penalty * (b @ used)
        if isinstance(self.linear, np.ndarray):
            linear += self.linear[np.ix_(rows, cols)]
        return QuadraticProblem(a[:, rows], b[:, cols], linear, self.penalty)


def balance(scores: Array, num_iters: int = 20) -> Array:
    r"""Scales rows and columns of positive scores in turn (Sinkhorn), so that
    rows sum to one and columns to one, or at most one if there are more of
    them. Rows come last.
    """
    n, m = scores.shape
    tiny = np.finfo(scores.dtype).tiny
    col = np.ones(m, scores.dtype)
    for _ in range(num_iters):
        col = 1 / np.maximum(scores.T @ (1 / np.maximum(scores @ col, tiny)),
                             tiny)
        if m > n:
            col = np.minimum(col, 1)
    scores = scores * col
    scores /= np.maximum(scores.sum(1, keepdims=True), tiny)
    return scores


def soft_assignment(
    problem: QuadraticProblem,
    start: Array,
    *,
    beta: float,
    prior: Array | float = 0.0,
    num_iters: int = 15,
) -> Array:
    r"""Mean-field steps (after Gold and Rangarajan's graduated assignment)
    :math:`\mathbf{P} \leftarrow
    \mathrm{balance}(\exp(\beta \tilde{\mathbf{G}} / \sigma + \mathbf{R}))` with
    :math:`\tilde{g}_{ij} = g_{ij} / \sqrt{\max(d_i, d_j)}`, :math:`\mathbf{G}`
    the gradient over two, and :math:`\sigma` the deviation of
    :math:`\tilde{\mathbf{G}}`; in single precision.

    Args:
        problem (QuadraticProblem): What to maximise.
        start (numpy.ndarray): A plan, :obj:`[n, m]`.
        beta (float): :math:`\beta`, how sharp the plan becomes.
        prior (numpy.ndarray): :math:`\mathbf{R}`, log-scores, :obj:`[n, m]`.
        num_iters (int): Number of steps. (default: :obj:`15`)
    """
    one = np.float32
    a, b = problem.a.astype(one), problem.b.astype(one)
    linear = problem.linear
    if isinstance(linear, np.ndarray):
        linear = (linear / 2).astype(one)
    soft = QuadraticProblem(a, b, 0.0, problem.penalty)
    degree = [np.maximum(np.diff(x.indptr), 1).astype(one) for x in (a, b)]
    scale = 1 / np.sqrt(np.maximum(degree[0][:, None], degree[1]))
    plan = start.astype(one)
    for _ in range(num_iters):
        g = np.ascontiguousarray(soft.half(plan))
        if isinstance(linear, np.ndarray):
            g += linear
        g *= scale
        g *= beta / max(float(g.std()), 1e-12)
        g += prior
        g -= g.max(1, keepdims=True)
        np.maximum(g, -60, out=g)
        plan = balance(np.exp(g, out=g), 10)
    return plan.astype(np.float64)


def frank_wolfe(
    problem: QuadraticProblem,
    start: Array,
    *,
    num_iters: int = 30,
    tol: float = 1e-3,
) -> tuple[Array, Array]:
    r"""FAQ (Vogelstein et al., PLOS ONE 2015): Frank-Wolfe steps with exact
    line search.

    Args:
        problem (QuadraticProblem): What to maximise.
        start (numpy.ndarray): A plan, :obj:`[n, m]`.
        num_iters (int): At most so many steps. (default: :obj:`30`)
        tol (float): Stops where the quadratic part grows by no more than
            this share. (default: :obj:`1e-3`)

    Returns:
        tuple: The last plan and the best map for its gradient.
    """
    n, _ = problem.shape
    rows = np.arange(n)
    plan, half, linear = start, problem.half(start), problem.linear
    for _ in range(num_iters):
        gradient = linear + 2 * half
        match = linear_sum_assignment(gradient, maximize=True)[1]
        ahead = problem.half_of_map(match)
        # f(P + t (Q - P)) = f(P) + slope t + bend t^2
        here = float((half * plan).sum())
        slope = (gradient[rows, match].sum()
                 - float((gradient * plan).sum()))
        bend = (ahead[rows, match].sum() - 2 * half[rows, match].sum() + here)
        step = 1.0
        if bend < 0:
            step = min(1.0, -slope / (2 * bend))
        gain = step * (slope + step * bend)
        if gain <= 0:
            break
        plan = plan * (1 - step)
        plan[rows, match] += step
        half = half * (1 - step)
        half += step * ahead
        if gain <= tol * abs(here):
            break
    match = linear_sum_assignment(linear + 2 * half, maximize=True)[1]
    return plan, match


def convex_relaxation(
    problem: QuadraticProblem,
    num_iters: int = 20,
) -> Array:
    r"""Frank-Wolfe steps, from the flat plan, towards the plan of smallest
    :math:`\lVert \mathbf{A P} - \mathbf{P B} \rVert_F^2`, a convex problem.
    """
    n, m = problem.shape
    plan = np.full((n, m), 1 / m)

    def gap(plan: Array) -> Array:
        return problem.a @ plan - (problem.b @ plan.T).T

    rest = gap(plan)
    for _ in range(num_iters):
        gradient = problem.a @ rest - (problem.b @ rest.T).T
        match = linear_sum_assignment(gradient)[1]
        ahead = np.zeros((n, m))
        ahead[np.arange(n), match] = 1
        change = gap(ahead) - rest
        size = float((change * change).sum())
        step = -float((change * rest).sum()) / size if size > 0 else 0.0
        if step <= 0:
            break
        step = min(step, 1.0)
        plan += step * (ahead - plan)
        rest += step * change
    return plan


def block_search(
    problem: QuadraticProblem,
    match: Array,
    rng: np.random.Generator,
    *,
    block_size: int = 64,
    num_rounds: int = 100,
    bound: float = np.inf,
) -> tuple[Array, float, Array]:
    r"""Large-neighbourhood search: frees the images of a few nodes at a time,
    solves the small problem that is left by :meth:`frank_wolfe` from the flat
    plan, and keeps what is not worse.

    Equally good maps are taken as they come, so that the search wanders among
    the best maps that it knows. The nodes of a block are within two steps of
    a few random ones, where twins are, or, at every other round as long as
    :obj:`bound` is not reached, are those with lost edges and some others.

    Args:
        problem (QuadraticProblem): What to maximise.
        match (numpy.ndarray): A map to start from, :obj:`[n]`.
        rng (numpy.random.Generator): Where random numbers come from.
        block_size (int): Nodes of a block, from half of it to twice (four
            times, as long as :obj:`bound` is not reached) as many.
            (default: :obj:`64`)
        num_rounds (int): How many rounds follow the last gain, unless there
            are three times as many in all. (default: :obj:`100`)
        bound (float): An objective that cannot be exceeded.
            (default: :obj:`inf`)

    Returns:
        tuple: The best map, its objective, and the best maps after each
        round, :obj:`[R, n]`.
    """
    n, m = problem.shape
    match, value = match.copy(), problem.value(match)
    maps, gained = [match.copy()], 0
    around = problem.a + sp.identity(n, format='csr')
    few_a = problem.a.nnz <= problem.b.nnz
    for turn in range(3 * num_rounds):
        reached = value >= bound - 1e-6
        if turn - gained >= num_rounds:
            break
        wide = 1 if reached else 2
        size = min(n, int(block_size * 2 ** rng.uniform(-1, wide)))
        reach = np.zeros(n)
        if turn % 2 and not reached:
            # Where edges are lost and next to it, more or less at random.
            lost, near = _lost_edges(problem, match, few_a)
            reach += lost
            reach += near
            reach += rng.choice([0.5, 1.5, 3.0]) * rng.random(n)
        else:
            # Twins are two steps apart, and so is what they hang on.
            centres = rng.choice(n, min(n, max(1, size // 16)), replace=False)
            reach[centres] = 1
            reach = around @ (around @ reach) + 1e-3 * rng.random(n)
        rows = np.argpartition(-reach, size - 1)[:size]
        cols = match[rows]
        if m > n:
            free = np.setdiff1d(np.arange(m), match)
            cols = np.append(cols, rng.choice(free, min(size, free.size),
                                              replace=False))
        block = problem.block(match, rows, cols)
        old = block.value(np.arange(rows.size))
        start = np.full(block.shape, 1 / cols.size)
        noisy = QuadraticProblem(
            block.a, block.b,
            block.linear + 1e-4 * rng.random(block.shape), block.penalty)
        _, new = frank_wolfe(noisy, start, num_iters=10)
        gain = block.value(new) - old
        if gain > -1e-9:
            match[rows] = cols[new]
            if gain > 1e-9:
                value, maps, gained = value + gain, [], turn
        maps.append(match.copy())
    return match, value, np.stack(maps)


def _lost_edges(
    problem: QuadraticProblem,
    match: Array,
    few_a: bool,
) -> tuple[Array, Array]:
    r"""Which nodes have an edge that a map does not keep (or one of
    :math:`\mathbf{B}`, if that has fewer), and which are next to such nodes.
    """
    b = problem.b[match][:, match]
    lost = (problem.a if few_a else b) - problem.a.multiply(b)
    at = (lost.sum(1).A1 > 0).astype(float)
    return at, ((problem.a + b) @ at > 0).astype(float)
