import shutil
import zipfile
from pathlib import Path

import pytest

from mmgraph.datasets import integrity
from mmgraph.datasets.integrity import check, data_check, data_stats, stats
from mmgraph.errors import InputError

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(ROOT, tmp_path / 'mnre')
    shutil.copytree(ROOT.parent / 'mega', tmp_path / 'mega')
    return tmp_path / 'mnre'


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    """Our samples are shorter than what was published."""
    monkeypatch.setattr(integrity, '_PUBLISHED_LINES',
                        dict.fromkeys(integrity._PUBLISHED_LINES, 0))


def status(report):
    return {(f.version, f.split, f.kind): f.status for f in report.findings}


def test_whole(folder):
    report = check(folder)
    assert report.ok
    assert set(status(report).values()) == {'differs'}
    assert len(report.findings) == 15
    text, code = data_check(folder)
    assert code == 0
    assert text.endswith('\nok')
    row = next(line for line in text.split('\n') if 'v1       train' in line)
    assert row.split() == ['v1', 'train', 'text', 'differs', '3',
                           'instances,', '2', 'images']
    assert '1 without relations' in text


def test_only_one_version(folder):
    for path in folder.glob('v1_*'):
        path.unlink()
    report = check(folder)
    assert report.ok
    assert status(report)['v1', 'val', 'text'] == 'missing'


def test_missing_text(folder):
    (folder / 'v2_val.txt').unlink()
    text, code = data_check(folder)
    assert code == 1
    assert 'no text of MNRE v2 val here' in text
    assert text.endswith('1 of 15 are missing or damaged')


def test_empty_folder(tmp_path):
    text, code = data_check(tmp_path)
    assert code == 1 and '6 of 15' in text
    with pytest.raises(InputError, match='no such folder'):
        check(tmp_path / 'nowhere')
    with pytest.raises(InputError, match='no such folder'):
        check(tmp_path, image_dir=tmp_path / 'nowhere')


def test_missing_trees_are_no_damage(folder):
    (folder / 'v2_val.conllu').unlink()
    report = check(folder)
    assert report.ok
    assert status(report)['v2', 'val', 'trees'] == 'missing'
    assert "graph='none'" in str(report)


def test_bad_lines(folder):
    path = folder / 'v2_train.txt'
    path.write_text('broken\n' * 7 + path.read_text().replace('[3, 5]',
                                                              '[3, 55]'))
    report = check(folder)
    assert not report.ok
    finding = report.findings[0]
    assert finding.status == 'damaged'
    assert '9 bad lines' in finding.detail
    assert finding.problems[0].startswith(f'{path}:1: not a Python dict')
    assert finding.problems[7].startswith(f"{path}:8: 'h': 'pos' must be")
    assert f'… and 4 more in {path}' in str(report)


def test_short_text_is_damage(folder, monkeypatch):
    monkeypatch.setitem(integrity._PUBLISHED_LINES, ('v2', 'test'), 9)
    report = check(folder)
    assert status(report)['v2', 'test', 'text'] == 'damaged'
    assert '2 good lines, the published file has 9' in str(report)


@pytest.mark.parametrize('old, new, message', [
    ('Ferrow', 'Farrow', 'sentence twitter_stream_0004.jpg has other words'),
    ('0004', '0009', 'no tree of twitter_stream_0004.jpg'),
    ('\tnsubj', ' nsubj', ':3: a CoNLL-U row must have 10 columns'),
])
def test_bad_trees(folder, old, new, message):
    path = folder / 'v2_val.conllu'
    path.write_text(path.read_text().replace(old, new))
    report = check(folder)
    assert not report.ok
    assert status(report)['v2', 'val', 'trees'] == 'damaged'
    assert message in str(report)


@pytest.mark.parametrize('text, message', [
    ('{}', 'no scene graph of 17_06_3.jpg'), ('{', 'not JSON')])
def test_bad_scenes(folder, text, message):
    (folder.parent / 'mega' / 'graph_of_image_val.json').write_text(text)
    report = check(folder)
    assert status(report)['v1', 'val', 'scenes'] == 'damaged'
    assert message in str(report)


def test_unreadable(folder):
    (folder / 'v1_val.txt').unlink()
    (folder / 'mnre_txt_org.zip').write_bytes(b'no archive')
    report = check(folder)
    assert not report.ok
    assert status(report)['v1', 'val', 'text'] == 'unreadable'


def test_archive(folder):
    with zipfile.ZipFile(folder / 'mnre_txt_org.zip', 'w') as archive:
        for split in 'train', 'val', 'test':
            path = folder / f'v1_{split}.txt'
            archive.write(path, f'txt/ours_{split}.txt')
            path.unlink()
    report = check(folder)
    assert report.ok
    assert status(report)['v1', 'val', 'text'] == 'differs'


def test_images(folder, tmp_path):
    images = tmp_path / 'images'
    (images / 'train').mkdir(parents=True)
    (images / '731.jpg').write_bytes(b'\xff\xd8\xff\xe0picture')
    (images / 'train' / '17_06_2.jpg').write_bytes(b'\x89PNG\r\n\x1a\n....')
    report = check(folder, image_dir=images)
    found = {(f.version, f.split): f for f in report.findings
             if f.kind == 'images'}
    assert found['v1', 'train'].detail == '2 of 2, 0 unreadable'
    assert found['v1', 'val'].status == 'missing'
    assert 'no image 17_06_3.jpg' in str(report)
    assert report.ok
    (images / '731.jpg').write_bytes(b'')
    report = check(folder, image_dir=images)
    assert not report.ok
    assert f'{images / "731.jpg"}: not a picture' in str(report)


def test_stats():
    table = stats(ROOT)
    train = table['v2 train']
    assert (train.instances, train.images, train.sentences) == (5, 3, 3)
    assert train.tokens == 3 * 11 + 5 + 9
    assert (train.shortest, train.longest) == (5, 11)
    assert (train.relations, train.negative) == (4, 1)
    assert (train.head_first, train.retweets) == (3, 3)
    assert (train.overlapping, train.same_start) == (1, 1)
    assert table['v2 all'].instances == 8
    assert table['v1 train'].non_ascii == 2
    assert table['v1 train'].with_url == 1
    text, code = data_stats(ROOT)
    assert code == 0
    assert 'tokens per instance, mean/min/max' in text
    assert '9.4/5/11' in text


def test_stats_of_less(folder):
    (folder / 'v2_val.txt').unlink()
    assert 'v2 val' not in stats(folder)
    (folder / 'v2_test.txt').write_text('broken')
    with pytest.raises(InputError, match=r'v2_test\.txt:1: '):
        data_stats(folder)
    with pytest.raises(InputError, match='no text of MNRE v2 train'):
        stats(folder.parent)


# The table of section 3 of the corpus's description.
REAL = {
    'instances': '12,247 1,624 1,614 15,485 7,824 975 1,282 10,081',
    'images': '7,356 931 914 9,201 3,996 499 675 5,170',
    'distinct sentences': '7,330 931 914 9,167 3,996 499 675 5,170',
    'tokens, summed over instances':
        '204,005 27,017 27,165 258,187 133,641 16,501 22,042 172,184',
    'tokens per instance, mean/min/max':
        '16.7/4/35 16.6/6/30 16.8/5/28 16.7/4/35 '
        '17.1/3/39 16.9/3/32 17.2/4/33 17.1/3/39',
    'relations present': '23 23 21 23 29 25 28 31',
    'share of None': '63.2% 61.6% 60.3% 62.8% 60.7% 59.5% 58.4% 60.3%',
    'head before tail': '88.3% 87.7% 86.6% 88.1% 82.9% 84.6% 81.1% 82.9%',
    'mentions overlapping': '59 3 5 67 37 5 11 53',
    'of these with the same start': '30 3 3 36 19 2 11 32',
    'rows holding a non-ASCII character': '0 0 0 0 655 73 129 857',
    'rows with a URL token': '0 0 0 0 74 12 6 92',
    'rows starting with RT': '10,992 1,476 1,475 13,943 2,645 293 433 3,371',
}


@pytest.mark.real_data
def test_real_stats(data_root):
    table = stats(data_root / 'mnre')
    columns = [dict(value.rows()) for value in table.values()]
    assert list(table) == [f'{version} {split}' for version in ('v2', 'v1')
                           for split in ('train', 'val', 'test', 'all')]
    found = {name: ' '.join(column[name].replace(' %', '%')
                            for column in columns) for name in REAL}
    assert found == REAL
    assert list(columns[0]) == list(REAL)


@pytest.mark.real_data
def test_real_check(data_root, monkeypatch):
    monkeypatch.undo()
    report = check(data_root / 'mnre')
    assert report.ok
    assert set(status(report).values()) == {'published'}


@pytest.mark.real_data
def test_real_damage(data_root, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(integrity, '_SPLITS', ('val', ))
    text = (data_root / 'mnre' / 'v2_val.txt').read_bytes()
    path = tmp_path / 'v2_val.txt'
    path.write_bytes(text)
    assert status(check(tmp_path))['v2', 'val', 'text'] == 'published'
    # Cut at a line end, cut inside a line, one byte changed.
    for broken in (text[:text.rindex(b'\n', 0, -1) + 1], text[:-40],
                   text.replace(b"'pos'", b"'pis'", 1)):
        path.write_bytes(broken)
        report = check(tmp_path)
        assert not report.ok
        assert status(report)['v2', 'val', 'text'] == 'damaged'
    # Line ends of another system: other bytes, the same data.
    path.write_bytes(text.replace(b'\n', b'\r\n'))
    report = check(tmp_path)
    assert report.ok
    assert status(report)['v2', 'val', 'text'] == 'differs'
