import json
import re
from pathlib import Path

import pytest
import yaml

from mmgraph import demo
from mmgraph.cli import main
from mmgraph.datasets import SyntheticPosts


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, 'SyntheticPosts', lambda **kwargs: (
        SyntheticPosts(**{**kwargs, 'num_posts': 60})))


def test_demo(small, capfd):
    assert main(['demo', '--quick', '--output', 'out/demo']) == 0
    out, err = capfd.readouterr()
    assert 'Traceback' not in err and 'Warning' not in err
    for row in ('majority', 'text-only ceiling', 'text only', 'MEGA',
                'MEGA without structural part', 'chance', 'structural',
                'semantic'):
        assert re.search(rf'^{row}\b.* \d+\.\d  ', out, re.MULTILINE), row
    report = json.loads(Path('out/demo/demo.json').read_text())
    assert (report['seed'], report['visual'], report['quick']) == (0, .5, True)
    rows = {name: value for name, value, _ in report['relations']}
    assert rows['text-only ceiling'] == 0.75
    assert all(0 <= value <= 1 for value in rows.values())
    assert len(report['alignments']) >= 3
    assert Path('out/demo/aligned_post.png').read_bytes()[:4] == b'\x89PNG'
    assert sorted(p.name for p in Path('out/demo').iterdir()) == [
        'aligned_post.png', 'demo.json']

    assert main(['demo', '--quick']) == 0  # finds the same
    again = json.loads(Path('demo/demo.json').read_text())
    for key in 'relations', 'alignments':
        assert [row[:2] for row in again[key]] == [
            row[:2] for row in report[key]]


def test_config_says_what_the_demo_does():
    path = Path(__file__).parents[1] / 'configs' / 'demo.yaml'
    config = yaml.safe_load(path.read_text())
    model = config['model']['model']['init_args']
    encoder = model['encoder']['init_args']
    data = config['data']['dataset']['init_args']
    assert (data['object_dim'], data['num_posts'],
            config['trainer']['max_epochs']) == (
                demo.OBJECT_DIM, demo.NUM_POSTS, demo.EPOCHS)
    assert (encoder['word_dim'], encoder['hidden_channels'],
            model['hidden_channels']) == (
                demo.WIDTH, demo.WIDTH, 2 * demo.WIDTH)
    assert encoder['dropout'] == model['dropout'] == demo.DROPOUT
    assert (config['model']['lr'], config['model']['warmup_steps'],
            config['data']['batch_size']) == (
                demo.LR, demo.WARMUP, demo.BATCH_SIZE)


@pytest.mark.slow
def test_quick_demo_shows_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(['demo', '--quick']) == 0
    report = json.loads(Path('demo/demo.json').read_text())
    rows = {name: value for name, value, _ in report['relations']}
    ceiling = rows['text-only ceiling']
    assert rows['majority'] < rows['text only'] < ceiling + .02
    assert rows['MEGA'] > ceiling + .05
