r"""Aligners of networks by others, behind one call.

Nothing of mmgraph is imported here and nothing of others is kept here. SciPy
and POT come from the environment. What is not on the package index is
imported from a folder that the user names (``--peers``, or the environment
variable :obj:`MMGRAPH_PEERS`) and that holds checkouts of

* :obj:`REGAL/` (GemsLab/REGAL), :obj:`CONE-Align/` (GemsLab/CONE-Align),
  :obj:`Fugal/` (idea-iitd/Fugal), :obj:`PlanetAlign/` (yq-leo/PlanetAlign),
  :obj:`Framework_GraphAlignment/` (constantinosskitsas), and
* :obj:`site-packages/`, where pip may have put graspologic and what the
  others need (``pip install --target``).

Each adapter loads its peer and returns a function from a :class:`Problem` to
scores: what is imported does not count as work. It changes what it must so
that the peer runs and is measured fairly, and says so: nothing that changes
its result, besides the seed of what it draws.
"""
import importlib
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import scipy
import scipy.sparse as sp

__all__ = ['PEERS', 'NotInstalled', 'Peer', 'Problem', 'Solve']

Array = np.ndarray[Any, Any]


class Problem(NamedTuple):
    r"""A pair of networks as the peers take it."""
    source: sp.csr_array  # symmetric, 0/1, float64, zero diagonal
    target: sp.csr_array
    x_source: Array | None  # node attributes [n, F]
    x_target: Array | None
    seeds: Array  # known matches [2, S]
    seed: int  # of what is drawn

    def dense(self, square: bool = False) -> tuple[Array, Array]:
        r"""Both adjacency matrices, if asked with isolated nodes that make
        them of one size.
        """
        sizes = [self.source.shape[0], self.target.shape[0]]
        if square:
            sizes = [max(sizes)] * 2
        out = []
        for size, adjacency in zip(sizes, (self.source, self.target)):
            matrix = np.zeros((size, size))
            n = adjacency.shape[0]
            matrix[:n, :n] = adjacency.toarray()
            out.append(matrix)
        return out[0], out[1]

    def crop(self, scores: Array) -> Array:
        r"""What is left of padded scores."""
        return scores[:self.source.shape[0], :self.target.shape[0]]

    def one_to_one(self, rows: Array, cols: Array) -> Array:
        r"""A mapping as scores of zero and one."""
        scores = np.zeros((self.source.shape[0], self.target.shape[0]))
        kept = (rows < scores.shape[0]) & (cols < scores.shape[1])
        scores[rows[kept], cols[kept]] = 1
        return scores


Solve = Callable[[Problem], Array]


class NotInstalled(ImportError):
    r"""A peer that is not there."""


class Peer(NamedTuple):
    r"""An aligner by others.

    Args:
        load: Imports it (the folder of peers is the argument) and returns
            what solves a :class:`Problem`.
        settings: What it is run with, where that is not its default.
        version: What tells its version.
        seeds: :obj:`'no'`, :obj:`'can'` or :obj:`'must'` be given.
        features: Likewise, node attributes.
        ranks: Whether it scores pairs; a mapping has no second candidates.
    """
    load: Callable[[Path | None], Solve]
    settings: dict[str, Any]
    version: Callable[[Path | None], str]
    seeds: str = 'no'
    features: str = 'no'
    ranks: bool = True


def need(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalled(f'{name}: {error}') from error


def checkout(peers: Path | None, folder: str, inside: str = '') -> Path:
    r"""Puts a checkout, and what it needs, before all that can be imported."""
    path = Path('-') if peers is None else peers / folder
    if not path.is_dir():
        raise NotInstalled(f"no '{folder}' in the folder of peers")
    packages = path.parent / 'site-packages'
    if packages.is_dir() and str(packages) not in sys.path:
        sys.path.append(str(packages))
    sys.path.insert(0, str(path / inside))
    return path


def package(name: str) -> Callable[[Path | None], str]:
    def version(peers: Path | None) -> str:
        paths = sys.path if peers is None else [*sys.path, str(
            peers / 'site-packages')]
        for found in metadata.distributions(name=name, path=paths):
            return f'{name} {found.version}'
        return ''

    return version


def commit(folder: str) -> Callable[[Path | None], str]:
    r"""The commit of a checkout: a line in its file :obj:`COMMIT`."""
    def version(peers: Path | None) -> str:
        path = Path('-') if peers is None else peers / folder / 'COMMIT'
        if not path.is_file():
            return folder
        return f'{folder} @ {path.read_text(encoding="utf-8").strip()[:7]}'

    return version


# SciPy, POT, graspologic #####################################################


def scipy_faq(peers: Path | None, **options: Any) -> Solve:
    def solve(problem: Problem) -> Array:
        a, b = problem.dense(square=True)
        result = scipy.optimize.quadratic_assignment(a, b, options=dict(
            maximize=True, rng=np.random.default_rng(problem.seed),
            partial_match=problem.seeds.T, **options))
        return problem.one_to_one(np.arange(len(a)), result.col_ind)

    return solve


def graspologic_faq(peers: Path | None) -> Solve:
    if peers is not None:
        sys.path.append(str(peers / 'site-packages'))
    match = need('graspologic.match')

    def solve(problem: Problem) -> Array:
        result = match.graph_match(
            *problem.dense(), partial_match=problem.seeds.T,
            rng=problem.seed)
        return problem.one_to_one(result.indices_A, result.indices_B)

    return solve


def pot_gw(peers: Path | None) -> Solve:
    ot = need('ot')

    def solve(problem: Problem) -> Array:
        return ot.gromov.gromov_wasserstein(
            *problem.dense(), symmetric=True)

    return solve


def pot_fgw(peers: Path | None) -> Solve:
    r"""Node cost: one minus the cosine of attributes; zero on known matches,
    and one on the rest of their rows and columns.
    """
    ot = need('ot')

    def solve(problem: Problem) -> Array:
        a, b = problem.dense()
        cost = np.ones((len(a), len(b)))
        if problem.x_source is not None and problem.x_target is not None:
            cost -= unit(problem.x_source) @ unit(problem.x_target).T
        row, col = problem.seeds
        cost[row], cost[:, col] = 1, 1
        cost[row, col] = 0
        return ot.gromov.fused_gromov_wasserstein(cost, a, b, symmetric=True)

    return solve


def unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


# Published code ##############################################################


def regal(peers: Path | None) -> Solve:
    r"""The driver's settings. Changed: the split of unequal sizes, and the
    landmarks follow the seed (the code draws them with seed 42 always).
    Attributes are compared as whole rows of categories.
    """
    checkout(peers, 'REGAL')
    config, xnetmf = need('config'), need('xnetmf')
    similarities = need('alignments').get_embedding_similarities

    def solve(problem: Problem) -> Array:
        def draw(graph: Any, method: Any, verbose: bool = True) -> Array:
            random = np.random.RandomState(  # noqa: NPY002
                problem.seed)
            return random.permutation(np.arange(graph.N))[:method.p]

        xnetmf.get_sample_nodes = draw
        x = None
        if problem.x_source is not None and problem.x_target is not None:
            x = np.concatenate([problem.x_source, problem.x_target])
        union = sp.csr_matrix(sp.block_diag([problem.source, problem.target]))
        graph = config.Graph(union, node_attributes=x)
        method = config.RepMethod(max_layer=2, alpha=0.01, k=10,
                                  num_buckets=2)
        y = xnetmf.get_representations(graph, method)
        n = problem.source.shape[0]
        return similarities(np.nan_to_num(y[:n]), np.nan_to_num(y[n:]),
                            num_top=None)

    return solve


def cone(peers: Path | None, dim: int = 128) -> Solve:
    r"""Changed: Theano is dead, and three functions of NumPy stand in for
    what is used of it; a sum that starts from a matrix of zeros where NumPy 2
    would start from an object; POT gets arrays where it no longer takes
    matrices; unequal sizes get isolated nodes.
    """
    checkout(peers, 'CONE-Align')
    theano = ModuleType('theano')
    tensor = ModuleType('theano.tensor')
    tensor.__dict__.update(
        matrix=lambda: None,
        maximum=lambda _, low: lambda x: np.maximum(x, low),
        log=lambda f: lambda x: np.log(f(x)))
    theano.__dict__.update(
        config=ModuleType('config'), tensor=tensor,
        function=lambda _, f: lambda x: f(np.asarray(x)))
    theano.config.__dict__['floatX'] = 'float64'
    sys.modules.update({'theano': theano, 'theano.tensor': tensor})
    embedding, unsup = need('embedding'), need('unsup_align')
    embedding.np = NumPyOf2020()
    sinkhorn = need('ot').sinkhorn
    unsup.ot = SimpleNamespace(
        sinkhorn=lambda a, b, cost, *args, **kwargs: sinkhorn(
            a, b, np.asarray(cost), *args, **kwargs))

    def solve(problem: Problem) -> Array:
        np.random.seed(problem.seed)  # noqa: NPY002
        a, b = (sp.csr_matrix(m) for m in problem.dense(square=True))
        size = min(dim, a.shape[0] - 1)
        y_a, y_b = (np.asarray(embedding.netmf(m, dim=size)) for m in (a, b))
        start, _ = unsup.convex_init_sparse(y_a, y_b, K_X=a, K_Y=b.copy())
        rotation, _ = unsup.align(y_a, y_b, np.asarray(start))
        return problem.crop(np.exp(-scipy.spatial.distance.cdist(
            y_a @ np.asarray(rotation), y_b)))

    return solve


class NumPyOf2020:
    r"""NumPy, but :obj:`zeros_like` of a sparse matrix is a number to which
    a sparse matrix can be added.
    """
    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def zeros_like(x: Any) -> Any:
        return 0 if sp.issparse(x) else np.zeros_like(x)


def fugal(peers: Path | None) -> Solve:
    r"""mu = 1 and 15 iterations, the defaults, on every pair (the paper tunes
    mu for each network).
    """
    checkout(peers, 'Fugal')
    pred = need('helpers.pred')
    nx, torch = need('networkx'), need('torch')

    def solve(problem: Problem) -> Array:
        a, b = problem.dense(square=True)
        features = [pred.feature_extraction(nx.from_numpy_array(m))
                    for m in (a, b)]
        cost = torch.from_numpy(pred.eucledian_dist(*features, len(a)))
        plan = pred.FindQuasiPerm(torch.from_numpy(a), torch.from_numpy(b),
                                  cost, 1, 15)
        return problem.crop(plan.numpy())

    return solve


def framework(name: str, module: str) -> Callable[[Path | None], Solve]:
    r"""What is pure NumPy in the framework of EDBT 2023, with its settings.
    Its packages import everything, so they are passed over.
    """
    def load(peers: Path | None) -> Solve:
        path = checkout(peers, 'Framework_GraphAlignment')
        for part in ('algorithms', 'algorithms.isorank', 'algorithms.NSD',
                     'algorithms.Grampa'):
            shell = ModuleType(part)
            shell.__path__ = [str(path / part.replace('.', '/'))]
            sys.modules[part] = shell
        code = need(module)

        def solve(problem: Problem) -> Array:
            a, b = problem.dense(square=name == 'GRAMPA')
            data = {'Src': a, 'Tar': b, 'L': None}
            if name == 'IsoRank':
                data['L'] = code.create_L(a, b, lalpha=10000).toarray()
                return code.main(data, alpha=0.9, tol=1e-12, maxiter=100)
            if name == 'NSD':
                return code.main(data, alpha=0.8, iters=20)
            return problem.crop(code.main(data, eta=0.2))

        return solve

    return load


def planetalign(name: str, **options: Any) -> Callable[[Path | None], Solve]:
    r"""Changed: the evaluation of every epoch, which takes most of the time,
    is left out; test anchors are not given.
    """
    def load(peers: Path | None) -> Solve:
        checkout(peers, 'PlanetAlign')
        if peers is not None:  # what it imports and does not use here
            for part in ('gdown', 'psutil'):
                need(part)
        torch, data = need('torch'), need('torch_geometric.data')
        algorithms = need('PlanetAlign.algorithms')
        base_data = need('PlanetAlign.data').BaseData
        cls = getattr(algorithms, name)
        code = sys.modules[cls.__module__]
        code.hits_ks_scores = lambda *args, **kwargs: {}
        code.mrr_score = lambda *args, **kwargs: 0.0

        def solve(problem: Problem) -> Array:
            torch.manual_seed(problem.seed)
            graphs = []
            for adjacency, x in ((problem.source, problem.x_source),
                                 (problem.target, problem.x_target)):
                coo = adjacency.tocoo()
                graphs.append(data.Data(
                    x=None if x is None else torch.from_numpy(x).float(),
                    edge_index=torch.from_numpy(
                        np.stack([coo.row, coo.col])).long(),
                    num_nodes=adjacency.shape[0]))
            pair = base_data(graphs, torch.from_numpy(problem.seeds.T).long(),
                             name, train_ratio=1.0)
            attributed = (problem.x_source is not None
                          and name not in ('IsoRank', ))
            scores, _ = cls(**options).train(
                pair, [0, 1], use_attr=attributed, save_log=False,
                verbose=False)
            return scores.numpy()

        return solve

    return load


PEERS: dict[str, Peer] = {
    'scipy FAQ': Peer(
        scipy_faq, {}, lambda _: f'scipy {scipy.__version__}', seeds='can',
        ranks=False),
    'graspologic FAQ': Peer(
        graspologic_faq, {}, package('graspologic'), seeds='can',
        ranks=False),
    'POT GW': Peer(pot_gw, {'solver': 'conditional gradient'},
                   package('pot')),
    'POT FGW': Peer(
        pot_fgw, {'solver': 'conditional gradient', 'alpha': 0.5},
        package('pot'), seeds='can', features='must'),
    'REGAL (original)': Peer(regal, {}, commit('REGAL'), features='can'),
    'CONE (original)': Peer(cone, {}, commit('CONE-Align')),
    'CONE (original), d = 512': Peer(
        lambda peers: cone(peers, 512), {'dim': 512}, commit('CONE-Align')),
    'FUGAL (original)': Peer(fugal, {'mu': 1, 'niter': 15}, commit('Fugal')),
    'IsoRank (EDBT)': Peer(
        framework('IsoRank', 'algorithms.isorank.isorank2'),
        {'alpha': 0.9, 'lalpha': 10000, 'maxiter': 100},
        commit('Framework_GraphAlignment')),
    'NSD (EDBT)': Peer(
        framework('NSD', 'algorithms.NSD.NSD'), {'alpha': 0.8, 'iters': 20},
        commit('Framework_GraphAlignment')),
    'GRAMPA (EDBT)': Peer(
        framework('GRAMPA', 'algorithms.Grampa.Grampa'), {'eta': 0.2},
        commit('Framework_GraphAlignment')),
    'IsoRank (PlanetAlign)': Peer(
        planetalign('IsoRank'), {}, commit('PlanetAlign'), seeds='must'),
    'FINAL (PlanetAlign)': Peer(
        planetalign('FINAL'), {}, commit('PlanetAlign'), seeds='must',
        features='can'),
    'PARROT (PlanetAlign)': Peer(
        planetalign('PARROT'), {}, commit('PlanetAlign'), seeds='must',
        features='can'),
}
