"""The tables of recorded runs."""
import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import runs

CONFIGS = sorted((Path(__file__).parent.parent / 'configs').glob('*.yaml'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_task_of_a_config(path):
    model = yaml.safe_load(path.read_text())['model']['model']['class_path']
    expected = {'mner': 'entity', 'mre': 'relation',
                'jmere': 'joint'}[model.split('.')[2]]
    assert runs.task_of(path) == expected


def fake(seed, f1, last='MISC', config='a.yaml'):
    labels = {name: dict(f1=f1 / 2) for name in ('PER', 'LOC', 'ORG', last)}
    return dict(config=config, seed=seed, precision='32-true', epochs=3 + seed,
                samples_per_second=10.0 + seed, encoder='tiny',
                test=dict(precision=0.5, recall=0.25, f1=f1),
                per_class=labels)


def test_rows_are_means_over_seeds():
    table = runs.TABLES['entity']._replace(reported={'a.yaml': '9'})
    found = runs.rows(table, [fake(0, 0.5), fake(1, 0.7),
                              fake(0, 0.4, 'OTHER', 'b.yaml')])
    spread = '60.00 ± 14.14'
    types = ['30.00 ± 7.07'] * 4
    assert found == [
        ['a', 'tiny', '32-true', '2', '4', *types, '50.00 ± 0.00',
         '25.00 ± 0.00', spread, '10', '9'],
        ['b', 'tiny', '32-true', '1', '3', *['20.00'] * 4, '50.00', '25.00',
         '40.00', '10', '']]
    columns = ['config', 'encoder', 'precision', 'seeds', 'epochs',
               *table.head, 'samples/s', 'reported F1']
    assert {len(row) for row in found} == {len(columns)}


def test_joint_rows_have_their_ceiling():
    item = dict(fake(0, 0.5), config='eega_jmere.yaml',
                ceiling=dict(f1=0.995, entity_f1=1.0))
    item['test'] |= dict(directed_f1=0.4, entity_f1=0.8, relation_f1=0.6)
    assert runs.rows(runs.TABLES['joint'], [item]) == [
        ['eega_jmere', 'tiny', '32-true', '1', '3', '50.00', '25.00', '50.00',
         '40.00', '80.00', '60.00', '99.50', '10', '55.29 / 51.07']]


def test_a_run_scores_and_keeps_the_ceiling(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['runs'])
    config = tmp_path / 'eega_tiny.yaml'
    config.write_text(yaml.safe_dump(dict(
        trainer=dict(max_epochs=1, accelerator='cpu', logger=False,
                     enable_progress_bar=False),
        model=dict(model=dict(
            class_path='mmgraph.models.jmere.EEGA', init_args=dict(
                encoder=dict(class_path='mmgraph.nn.encoders.CharWordEncoder',
                             init_args=dict(word_dim=4, hidden_channels=4)),
                num_heads=2, edge_dim=4))),
        data=dict(
            pairs=dict(class_path='mmgraph.transforms.WordPairs'),
            dataset=dict(class_path='mmgraph.datasets.SyntheticPosts',
                         init_args=dict(num_posts=12, clauses=2))))))
    assert runs.task_of(config) == 'joint'
    item = runs.run(config, 'none', 0, '32-true', [])
    assert item['ceiling']['f1'] == 1 > item['test']['f1']
    table = runs.TABLES['joint']
    assert len(runs.rows(table, [item])[0]) == 7 + len(table.scores)
    json.dumps(item)


def test_runs_are_kept_apart_by_task_and_added(tmp_path):
    for f1 in (0.5, 0.7):
        table = runs.TABLES['entity']
        result = runs.load(tmp_path / table.path.name)
        result['runs'].append(fake(len(result['runs']), f1))
        runs.save(tmp_path, table, result)
    assert [path.name for path in tmp_path.iterdir()] == ['mner_twitter.json']
    again = runs.load(tmp_path / 'mner_twitter.json')
    assert [item['seed'] for item in again['runs']] == [0, 1]
    assert again['rows'][0][3] == '2' and 'torch' in again['versions']
    assert runs.load(tmp_path / 'mre_mnre.json') == dict(runs=[])
