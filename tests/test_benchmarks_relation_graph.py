import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import relation_graph as bench


def run(folder, *more):
    assert bench.main(['--quick', '--sizes', '200', '--output',
                       str(folder / 'out.json'), *more]) == 0
    return json.loads((folder / 'out.json').read_text('utf-8'))


@pytest.fixture
def in_process(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(bench, 'supervise', lambda module, given, _:
                        bench.child(*given[:2], Path(given[2])))
    yield
    torch.set_num_threads(threads)


def test_runs_are_recorded_and_skipped(tmp_path, monkeypatch, capsys,
                                       in_process):
    pytest.importorskip('matplotlib')
    out = run(tmp_path, '--methods', 'exact')
    build, train = out['runs']
    assert build['recall'] == 1 and build['cpu'] > 0 and build['peak'] >= 0
    assert train['images'] > 0 and train['gather'] > 0
    assert len(out['rows']) == 1
    assert {len(row) for row in out['rows']} == {len(out['columns'])}
    more = json.loads((tmp_path / 'out_training.json').read_text('utf-8'))
    assert {len(row) for row in more['rows']} == {len(more['columns'])}
    assert (tmp_path / 'relation_graph.png').is_file()
    assert 'Corpus graphs' in capsys.readouterr().out

    def never(*args):
        raise AssertionError('ran again')

    monkeypatch.setattr(bench, 'supervise', never)
    assert run(tmp_path, '--methods', 'exact')['runs'] == out['runs']
    assert run(tmp_path, '--render')['runs'] == out['runs']
    with pytest.raises(AssertionError, match='ran again'):
        run(tmp_path, '--methods', 'flat')


@pytest.mark.parametrize('method', bench.METHODS)
def test_methods_agree(method, tmp_path):
    pytest.importorskip({'sklearn': 'sklearn', 'exact': 'torch'}.get(
        method, 'faiss'))
    bench.make_features(tmp_path, 240)
    text, image = bench.load(tmp_path)
    rows = np.arange(0, 240, 3)
    ready: list[int] = []
    whole, some = (bench.RUN[method](text, image, which,
                                     lambda: ready.append(1))
                   for which in (None, rows))
    assert ready  # the sample's time starts here
    for a, b in zip(whole, some):
        assert a.shape == (240, bench.K)
        assert np.array_equal(a[rows], b)
    value = bench.recall(whole, None, tmp_path)
    assert value == 1 if method != 'index' else value > .8
    broken = whole[0], np.roll(whole[1], 1, axis=0)
    assert bench.recall(broken, None, tmp_path) < .9


def test_budget(tmp_path):
    bench.make_features(tmp_path, 200)
    child = 'benchmarks.relation_graph', ['build', 'exact', str(tmp_path)]
    assert bench.supervise(*child, 0.)['stopped'] == 'more than 0 CPU s'
    assert bench.supervise(*child, 60., gib=.01)['stopped'].endswith('GiB')
    child[1][2] += '/none'
    assert bench.supervise(*child, 60.)['stopped'] == 'ended with code 1'
