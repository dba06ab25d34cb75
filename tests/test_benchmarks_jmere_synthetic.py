import json

import pytest

from benchmarks import jmere_synthetic as bench


def test_quick_is_recorded_and_resumed(tmp_path, capsys, monkeypatch):
    path = tmp_path / 'out.json'
    args = ['--quick', '--output', str(path), '--models', 'text']
    first = bench.main(args)
    assert [(item['model'], item['seed']) for item in first] == [('text', 0)]
    # What is recorded is not run again.
    monkeypatch.setattr(bench, 'run', lambda *_: pytest.fail('run again'))
    assert bench.main(args) == first
    assert path.with_suffix('.png').read_bytes()[:4] == b'\x89PNG'
    written = json.loads(path.read_text('utf-8'))
    assert written['runs'] == first
    assert all(len(row) == len(written['columns'])
               for row in written['rows'])
    assert written['title'] in capsys.readouterr().out
    assert 0.5 < first[0]['text_ceiling'] < 0.9
    assert first[0]['ceiling'] > 0.99


@pytest.mark.parametrize('name', ['carry loss', 'other image'])
def test_models_with_an_image(name):
    item = bench.run(name, seed=1, num_posts=40, epochs=1, split='val')
    assert item['model'] == name and item['seed'] == 1
    for key in bench.SCORES:
        assert 0 <= item[key] <= 1
    # Nothing matches in the image of another post.
    assert (item['aligned'] is None) is (name == 'other image')


def test_other_image_takes_all_of_it():
    data = bench.module(seed=0, num_posts=12, other_image=True)
    plain = bench.module(seed=0, num_posts=12, other_image=False)
    ours, theirs = data.split('val'), plain.split('val')
    taken = []
    for one, own in zip(ours, theirs, strict=True):
        assert one.words == own.words and one.relations == own.relations
        found = [i for i, other in enumerate(theirs)
                 if other['object'].x.shape == one['object'].x.shape
                 and other['object'].x.equal(one['object'].x)]
        assert len(found) == 1 and theirs[found[0]].post_id != one.post_id
        relates = ('object', 'relates', 'object')
        assert one[relates].edge_index.equal(
            theirs[found[0]][relates].edge_index)
        taken += found
    assert sorted(taken) == list(range(12))


def test_table_has_means_and_bounds():
    runs = [dict(model='none', seed=seed, f1=0.5 + seed / 10,
                 directed_f1=0.4, entity_f1=0.9, relation_f1=0.6,
                 aligned=None, text_ceiling=0.75, ceiling=1.0,
                 seconds=3.0) for seed in (0, 1)]
    rows = bench.table(runs)
    assert rows[0][:3] == [bench.MODELS['none'][0], '55.0 ± 7.1',
                           '40.0 ± 0.0']
    assert rows[0][5:] == ['', '2', '3']
    assert rows[1][:2] == ['most from the text (exact)', '75.0 ± 0.0']
    assert rows[2][1] == '100.0 ± 0.0'
