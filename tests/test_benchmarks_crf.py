import json
import sys

import pytest
import torch

from benchmarks import crf_speed as bench


def test_quick_run(tmp_path, capsys):
    pytest.importorskip('torchcrf', reason='needs pytorch-crf')
    threads = torch.get_num_threads()
    output = tmp_path / 'crf_speed.json'
    assert bench.main(['--quick', '--output', str(output)]) == 0
    assert torch.get_num_threads() == threads
    result = json.loads(output.read_text('utf-8'))
    assert len(result['rows']) == len(bench.QUICK) * len(bench.KINDS)
    assert all(len(row) == len(result['columns']) for row in result['rows'])
    for case in result['results']:
        for sides in case['milliseconds'].values():
            assert set(sides) == {'ours', 'peer'}
            assert all(len(each) == 3 for each in sides.values())
    assert 'decoding' in capsys.readouterr().out


def test_nothing_is_written_by_a_quick_run(monkeypatch, tmp_path):
    pytest.importorskip('torchcrf', reason='needs pytorch-crf')
    monkeypatch.setattr(bench, 'RESULT', tmp_path / 'result.json')
    assert bench.main(['--quick', '--rounds', '1']) == 0
    assert not list(tmp_path.iterdir())


def test_recorded_results():
    result = json.loads(bench.RESULT.read_text('utf-8'))
    assert not result['quick']
    assert bench.table(result['results']) == result['rows']
    cells = {(row[0], row[1]): row for row in result['rows']}
    for tags in (9, 13):  # what is promised
        row = cells[bench.Case(32, 64, tags).name, 'loss and gradient']
        assert float(row[4]) >= 2


def test_peer_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'torchcrf', None)
    assert bench.main(['--quick']) == 2
    assert 'pip install' in capsys.readouterr().err
