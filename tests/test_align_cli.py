"""``mmgraph align``, from files to files."""
import csv
import gzip
import os
import re
import sys
import time
from typing import Literal

import networkx as nx
import pytest
import torch
from torch import nn

from mmgraph import align_cli
from mmgraph.align_cli import aligners, build_aligner
from mmgraph.cli import main
from mmgraph.data import GraphView
from mmgraph.errors import InputError
from mmgraph.nn import align
from mmgraph.nn.align import Aligner, DenseAligner, StructuralAligner


class SeededAligner(DenseAligner):
    """Knows the seeds, and that low positions go with low positions."""
    takes_seeds = True

    def __init__(self, top_k: int | None = None, weight: float = 1.0,
                 mode: Literal['near', 'far'] = 'near', flag: bool = False,
                 name: str = 'x', sizes: list[int] | None = None) -> None:
        super().__init__(top_k)
        if weight < 0:
            raise ValueError(f"'weight' must not be negative (got {weight})")
        self.weight, self.mode, self.flag = weight, mode, flag
        self.name, self.sizes = name, sizes

    def score(self, source, target, seeds, generator):
        i = torch.arange(source.num_nodes).view(-1, 1)
        scores = 1 / (1.5 + (i - torch.arange(target.num_nodes)).abs())
        scores[seeds[0], seeds[1]] = 9
        return scores * self.weight


class WrappingAligner(Aligner):
    """Has a part."""
    def __init__(self, aligner: Aligner, other: Aligner | None = None) -> None:
        super().__init__()
        self.aligner, self.other = aligner, other

    def forward(self, source, target, *, seeds=None, generator=None):
        return self.aligner(source, target)


class LearnedAligner(SeededAligner):
    """Needs sizes."""
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, 1)


@pytest.fixture(autouse=True)
def more_aligners(monkeypatch):
    names = ['SeededAligner', 'WrappingAligner', 'LearnedAligner']
    for name in names:
        monkeypatch.setattr(align, name, globals()[name], raising=False)
    monkeypatch.setattr(align, 'classes', ['Alignment', 'DenseAligner',
                                           'SemanticAligner',
                                           'StructuralAligner', *names])


@pytest.fixture
def files(tmp_path):
    """A tree without twins, its copy under other names, and the truth."""
    tree = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (5, 6), (6, 7),
                     (7, 8), (4, 9), (4, 10), (10, 11)])
    (tmp_path / 'A.edges').write_text(''.join(
        f'{u} {v}\n' for u, v in tree.edges))
    (tmp_path / 'B.csv').write_text('source,target,weight\n' + ''.join(
        f'node {11 - v},node {11 - u},2.5\n' for u, v in tree.edges))
    (tmp_path / 'truth.csv').write_text('source,target\n' + ''.join(
        f'{i},node {11 - i}\n' for i in range(12)))
    return tmp_path


@pytest.fixture
def call(files, capsys, monkeypatch):
    monkeypatch.chdir(files)

    def run(*args):
        status = main(['align', *map(str, args)])
        done = capsys.readouterr()
        return status, done.out, done.err
    return run


# Every node of the tree is told from every other.
EXACT = [f'--set={key}=none' for key in ('max_hops', 'bucket_base')] + [
    '--set=discount=0.5']


def rows(path):
    with open(path, encoding='utf-8', newline='') as file:
        header, *found = csv.reader(file)
    assert header == ['source', 'target', 'score']
    return [(a, b, float(score)) for a, b, score in found]


def test_best_match(call, files):
    status, out, err = call('A.edges', 'B.csv', '--top-k', 1, '--truth',
                            'truth.csv', '-o', 'out/matches.csv', *EXACT)
    assert status == 0
    found = rows(files / 'out' / 'matches.csv')
    assert len(found) == 12
    assert {(a, b) for a, b, _ in found} == {
        (str(i), f'node {11 - i}') for i in range(12)}
    assert 'A.edges: 12 nodes, 11 edges\n' in err
    assert 'B.csv: 12 nodes, 11 edges (weights are not read)\n' in err
    assert re.search(r'^hits@1 +1\.0000$', out, re.MULTILINE)
    assert re.search(r'^argmax_ec +1\.0000$', out, re.MULTILINE)
    assert re.search(r'12 matches of 12 of 12 source nodes, by '
                     r'StructuralAligner in \d+\.\d\d s: wrote out/matches.csv'
                     r'\n$', out)
    assert os.listdir(files / 'out') == ['matches.csv']


def test_candidates(call, files):
    assert call('A.edges', 'B.csv', '-o', 'm.csv')[0] == 0
    found = rows(files / 'm.csv')
    assert len(found) == 120  # Ten candidates of each by default.
    for name in {a for a, _, _ in found}:
        scores = [s for a, _, s in found if a == name]
        assert scores == sorted(scores, reverse=True)
    # The best of ten is the best.
    assert call('A.edges', 'B.csv', '-o', 'n.csv', '--top-k', 1)[0] == 0
    assert {row[:2] for row in rows(files / 'n.csv')} <= {
        row[:2] for row in found}
    assert call('A.edges', 'B.csv', '-o', 'n.csv', '--min-score', .99)[0] == 0
    assert rows(files / 'n.csv') == [row for row in found if row[2] >= .99]


@pytest.mark.parametrize('method', ['greedy', 'lap', 'argmax'])
def test_match(call, files, method):
    status, out, _ = call('A.edges', 'B.csv', '--match', method, '--truth',
                          'truth.csv', '-o', 'm.csv', '--aligner',
                          'SeededAligner')
    assert status == 0
    found = rows(files / 'm.csv')
    assert len({a for a, _, _ in found}) == len(found) == 12
    if method != 'argmax':
        assert len({b for _, b, _ in found}) == 12
    assert f'{method}_accuracy' in out


def test_graphml_and_gz(call, files):
    graph = nx.read_edgelist(files / 'A.edges')
    nx.write_graphml(graph, files / 'A.graphml')
    (files / 'B.csv.gz').write_bytes(
        gzip.compress((files / 'B.csv').read_bytes()))
    assert call('A.edges', 'B.csv', '-o', 'm.csv', '--top-k', 1)[0] == 0
    assert call('A.graphml', 'B.csv.gz', '-o', 'n.csv', '--top-k', 1)[0] == 0
    assert sorted(rows(files / 'm.csv')) == sorted(rows(files / 'n.csv'))


def test_seeds(call, files):
    (files / 'known.csv').write_text('3,node 0\n')
    args = ['A.edges', 'B.csv', '--aligner', 'SeededAligner', '-o', 'm.csv',
            '--top-k', 1, '--truth', 'truth.csv']
    assert call(*args, '--seeds', 'known.csv')[0] == 0
    assert ('3', 'node 0', 9.0) in rows(files / 'm.csv')
    _, out, _ = call(*args, '--seeds', 'known.csv')
    assert re.search(r'^num_test +11$', out, re.MULTILINE)
    status, _, err = call('A.edges', 'B.csv', '-o', 'n.csv', '--seeds',
                          'known.csv')
    assert status == 2 and "'StructuralAligner' takes no seeds" in err


def test_settings(call, files):
    args = ['A.edges', 'B.csv', '-o', 'm.csv', '--aligner']
    assert call(*args, 'SeededAligner', '--set', 'weight=3', '--top-k',
                1)[0] == 0
    assert rows(files / 'm.csv')[0][2] == 2
    assert call(*args, 'WrappingAligner', '--set', 'aligner=SeededAligner',
                '--set', 'aligner.weight=6', '--top-k', 1)[0] == 0
    assert rows(files / 'm.csv')[0][2] == 4


def test_build_aligner():
    found = build_aligner('SeededAligner', {
        'weight': '2', 'top_k': 'none', 'mode': 'far', 'flag': 'true',
        'name': '12', 'sizes': '[1, 2]'}, {'top_k': 3, 'ties': 'first'})
    assert isinstance(found, SeededAligner) and found.top_k is None
    assert (found.weight, found.mode, found.flag) == (2, 'far', True)
    assert found.name == '12' and found.sizes == [1, 2]
    assert build_aligner('SeededAligner', {}, {'top_k': 3}).top_k == 3
    found = build_aligner('WrappingAligner', {
        'other.top_k': '4', 'other': 'StructuralAligner',
        'aligner': 'SeededAligner'})
    assert isinstance(found.other, StructuralAligner)
    assert found.other.top_k == 4
    assert build_aligner('WrappingAligner', {
        'aligner': 'SeededAligner', 'other': 'none'}).other is None


@pytest.mark.parametrize('name, settings, message', [
    ('StructuralAlinger', {}, "Did you mean 'StructuralAligner'"),
    ('DenseAligner', {}, "no aligner 'DenseAligner'; choose from 'Seeded"),
    ('LearnedAligner', {}, 'no aligner'),
    ('SeededAligner', {'wieght': '1'}, "no argument 'wieght'; choose from "
     ".*Did you mean 'weight'"),
    ('SeededAligner', {'weight': 'much'},
     r"'SeededAligner.weight' must be a number \(got 'much'\)"),
    ('SeededAligner', {'weight': 'true'}, 'must be a number'),
    ('SeededAligner', {'top_k': '1.5'}, 'must be a whole number or none'),
    ('SeededAligner', {'flag': '1'}, r"true or false \(got '1'\)"),
    ('SeededAligner', {'mode': 'nere'}, "Did you mean 'near'"),
    ('SeededAligner', {'weight': '-1'}, "'SeededAligner': 'weight' must not"),
    ('SeededAligner', {'sizes': 'x'}, 'must be list or none'),
    ('SeededAligner', {'weight.x': '1'}, 'has no arguments of its own'),
    ('WrappingAligner', {}, "'WrappingAligner' needs --set aligner=…"),
    ('WrappingAligner', {'aligner.top_k': '1'},
     'name the class first: --set aligner=NAME'),
    ('WrappingAligner', {'aligner': 'Seeded'}, "no aligner 'Seeded'"),
])
def test_bad_settings(name, settings, message):
    with pytest.raises(InputError, match=message):
        build_aligner(name, settings)


def test_every_listed_aligner_can_be_built(monkeypatch):
    monkeypatch.undo()
    for name, cls in aligners().items():
        settings = {}
        try:
            aligner = build_aligner(name, settings)
        except InputError as error:
            assert 'needs --set aligner=' in str(error)
            aligner = build_aligner(name, {'aligner': 'StructuralAligner'})
        assert type(aligner) is cls


def test_every_listed_aligner_runs(monkeypatch):
    """Or says in one line what it needs."""
    monkeypatch.undo()
    edges = torch.tensor([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])
    view = GraphView.single(edges, 4)
    ran = []
    for name in aligners():
        try:
            aligner = build_aligner(name, {})
        except InputError:
            aligner = build_aligner(name, {'aligner': 'StructuralAligner'})
        try:
            ran.append(aligner(view, view).num_matches > 0)
        except (ValueError, ImportError) as error:
            assert '\n' not in str(error), name
    assert any(ran)


BAD = [
    (['A.edges', 'none.csv'], 'none.csv: cannot read the file (No such'),
    (['A.edges', 'bad.edges'], 'bad.edges:2: a weight must be a finite'),
    (['A.edges', 'empty.edges'], 'empty.edges: no edges in it'),
    (['A.edges', 'A.edges', '--top-k', 0], "'--top-k' must be at least 1"),
    (['A.edges', 'A.edges', '--top-k', 'x'], '--top-k'),
    (['A.edges', 'A.edges', '--match', 'best'], "invalid choice: 'best'"),
    (['A.edges', 'A.edges', '--aligner', 'Regal'], "no aligner 'Regal'"),
    (['A.edges', 'A.edges', '--set', 'top_k'], "'--set' takes KEY=VALUE"),
    (['A.edges', 'A.edges', '--set', 'seed=1', '--set', 'seed=2'], 'twice'),
    (['A.edges', 'A.edges', '--set', 'top_k=0'],
     "'top_k' must be at least 1 (got 0)"),
    (['A.edges', 'A.edges', '--truth', 'truth.csv'],
     "truth.csv:2: no target node is named 'node 11'"),
    (['A.edges', 'A.edges', '--seeds', 'none', '--aligner', 'SeededAligner'],
     'none: cannot read the file'),
    (['A.edges'], 'the following arguments are required: B'),
    (['A.edges', 'A.edges', '--aligner', 'SeededAligner', '--set',
      'top_k=2', '--frobnicate'], 'unrecognized arguments: --frobnicate'),
]


@pytest.mark.parametrize('args, message', BAD, ids=lambda v: str(v)[:30])
def test_bad_input(call, files, args, message):
    (files / 'bad.edges').write_text('a b\na b c\n')
    (files / 'empty.edges').write_text('# nothing\n')
    before = sorted(os.listdir(files))
    status, out, err = call(*args, '-o', 'new/m.csv')
    assert status == 2 and out == ''
    last = err.splitlines()[-1]
    assert last.startswith('mmgraph: error: ') and message in last
    assert sorted(os.listdir(files)) == before


def test_bad_output(call, files):
    (files / 'file').write_text('')
    for output in '.', 'file/m.csv':
        status, _, err = call('A.edges', 'B.csv', '-o', output)
        assert status == 2
        assert len(err.splitlines()) == 1, 'before any work'
    assert call('A.edges', 'B.csv')[0] == 2  # None at all.


def test_failure_leaves_the_old_file(call, files, monkeypatch):
    (files / 'm.csv').write_text('old')

    def fail(*args, **kwargs):
        raise InputError('no')
    monkeypatch.setattr(align_cli.csv, 'writer', fail)
    before = sorted(os.listdir(files))
    assert call('A.edges', 'B.csv', '-o', 'm.csv')[0] == 2
    assert (files / 'm.csv').read_text() == 'old'
    assert sorted(os.listdir(files)) == before


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(['align', '--help'])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert 'mmgraph align A.edges B.edges' in out
    assert 'StructuralAligner' in out and 'LearnedAligner' not in out


@pytest.mark.parametrize('terminal', [False, True])
def test_long_work_says_so(call, monkeypatch, terminal):
    monkeypatch.setattr(align_cli, '_PATIENCE', .01)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)

    def slow(self, *args):
        time.sleep(.3)
        return torch.ones(12, 12)
    monkeypatch.setattr(SeededAligner, 'score', slow)
    status, _, err = call('A.edges', 'B.csv', '-o', 'm.csv', '--aligner',
                          'SeededAligner')
    assert status == 0
    assert ('SeededAligner: 00:00' if terminal else
            'SeededAligner: 0 s …') in err
