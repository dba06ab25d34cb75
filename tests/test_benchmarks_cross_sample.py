import json

import pytest

from benchmarks import cross_sample_synthetic as bench


def test_quick(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, 'MODELS', {
        name: bench.MODELS[name] for name in ('graph', 'shuffled')})
    path = tmp_path / 'out.json'
    runs = bench.main(['--quick', '--output', str(path)])
    graph, shuffled = runs
    # 150 aliases: guesses are right on a quarter, four deviations are 14 %.
    assert graph['alias_recall'] > 0.5
    assert shuffled['alias_recall'] < 0.4
    assert graph['f1'] > shuffled['f1']
    assert graph['ceiling'] == pytest.approx(6 / 7, abs=0.01)
    written = json.loads(path.read_text('utf-8'))
    assert written['runs'] == runs
    assert all(len(row) == len(written['columns'])
               for row in written['rows'])
    assert [row[0] for row in written['rows'][:2]] == list(
        bench.MODELS.values())
    assert written['title'] in capsys.readouterr().out


@pytest.mark.parametrize('name', ['no graph', 'text only'])
def test_models_without_neighbours(name):
    item = bench.run(name, seed=1, num_posts=96, epochs=1)
    assert item['model'] == name and item['seed'] == 1
    for key in ('f1', 'precision', 'recall', 'alias_recall', 'other_recall'):
        assert 0 <= item[key] <= 1
    total = (item['alias_recall'] + 3 * item['other_recall']) / 4
    assert item['recall'] == pytest.approx(total)


def test_table():
    runs = [dict(model=name, seed=seed, f1=0.5 + seed / 10, alias_recall=0.25,
                 other_recall=1.0, ceiling=0.857, seconds=3.0)
            for seed in (0, 1) for name in bench.MODELS]
    rows = bench.table(runs)
    assert rows[0] == ['CrossSampleNER with its graph', '55.0 ± 7.1',
                       '25.0 ± 0.0', '100.0 ± 0.0', '3']
    assert rows[-1][1] == '85.7'
