import shutil
import zipfile
from pathlib import Path

import pytest

from mmgraph.datasets import integrity, twitter_integrity
from mmgraph.datasets.integrity import check, data_check, data_stats, stats
from mmgraph.datasets.twitter import TWITTER_TYPES, joined_lists, read_splits
from mmgraph.datasets.twitter_integrity import (
    check_twitter,
    text_facts,
    twitter_stats,
    twitter_version,
)
from mmgraph.errors import InputError

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(ROOT, tmp_path / 'mnre')
    shutil.copytree(ROOT.parent / 'mega', tmp_path / 'mega')
    return tmp_path / 'mnre'


@pytest.fixture
def tweets(tmp_path):
    return Path(shutil.copytree(ROOT.parent / 'twitter2015',
                                tmp_path / 'tweets'))


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    """Our samples are shorter than what was published."""
    for module, name in ((integrity, '_PUBLISHED_LINES'),
                         (twitter_integrity, '_PUBLISHED_POSTS')):
        monkeypatch.setattr(module, name,
                            dict.fromkeys(getattr(module, name), 0))


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


# --- Twitter-2015 and -2017 -------------------------------------------------


def test_tweets(tweets):
    report = check_twitter(tweets)
    assert report.ok and report.corpus == 'Twitter-2015'
    assert set(status(report).values()) == {'differs'}
    text, code = data_check(tweets)
    assert code == 0 and text.startswith(f'Twitter-2015 in {tweets}\n')
    assert '4 posts, 7 mentions, 3 tags against IOB2' in text
    assert '3 records, 1 posts without' in text
    assert data_check(ROOT.parent / 'twitter2017')[0].startswith(
        'Twitter-2017 in ')


def test_which_tweets(tmp_path):
    root = tmp_path / 'twitter2015-mine'
    root.mkdir()
    (root / 'test.txt').write_text('IMGID:1\na\tO\n')
    assert twitter_version(root) == '2015'
    (root / 'test.txt').write_text('IMGID:1\na\tB-MISC\n')
    assert twitter_version(root) == '2017'
    assert twitter_version(tmp_path) == '2017'


def test_missing_tweets(tweets):
    (tweets / 'valid.txt').unlink()
    (tweets / 'test.conllu').unlink()
    (tweets / 'test_2.txt').unlink()
    report = check_twitter(tweets)
    found = status(report)
    assert found['2015', 'val', 'text'] == 'missing'
    assert found['2015', 'test', 'trees'] == 'missing'
    assert found['2015', 'test', 'lists'] == 'missing'
    assert sum(finding.fatal for finding in report.findings) == 1
    assert 'no file valid.txt in this folder' in str(report)
    (tweets / 'valid.txt').write_bytes(
        (ROOT.parent / 'twitter2015' / 'valid.txt').read_bytes())
    assert check_twitter(tweets).ok
    with pytest.raises(InputError, match='no such folder'):
        check_twitter(tweets / 'nowhere')
    with pytest.raises(InputError, match='no such folder'):
        check_twitter(tweets, image_dir=tweets / 'nowhere')


@pytest.mark.parametrize('name, old, new, kind, message', [
    ('train.txt', 'B-PER', 'B-PRE', 'text', "train.txt:5: 'B-PRE' is not a"),
    ('train.txt', 'IMGID:102\n', 'IMGID:101\n', 'text',
     'image 101 has its second post here'),
    ('test.txt', 'IMGID:302', 'IMGID:101', 'text',
     'test.txt:8: image 101 has another post in train'),
    ('train.conllu', 'Vance', 'Vince', 'trees', 'sentence 101 has other'),
    ('train_2.txt', '0.74', '0.76', 'lists', 'must not rise'),
    ('train_2.txt', '\n101.jpg', '\n7.jpg', 'lists', 'no post 7 in the text'),
])
def test_bad_tweets(tweets, name, old, new, kind, message):
    path = tweets / name
    path.write_text(path.read_text().replace(old, new, 1))
    report = check_twitter(tweets)
    split = name[:-4].split('.')[0].removesuffix('_2')
    assert not report.ok
    assert status(report)['2015', split, kind] == 'damaged'
    assert message in str(report)


def test_short_tweets(tweets, monkeypatch):
    monkeypatch.setitem(twitter_integrity._PUBLISHED_POSTS,
                        ('2015', 'test'), 9)
    assert '3 good lines, the published file has 9' in str(
        check_twitter(tweets))


def test_images_of_tweets(tweets, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    (images / '201.jpg').write_bytes(b'\xff\xd8\xff\xe0picture')
    report = check_twitter(tweets, image_dir=images)
    found = {f.split: f for f in report.findings if f.kind == 'images'}
    assert report.ok
    assert found['val'].detail == '1 of 2, 0 unreadable'
    assert found['test'].status == 'missing'


def test_stats_of_tweets(tweets):
    splits = read_splits(tweets, TWITTER_TYPES['2015'])
    facts = text_facts(splits['train'], TWITTER_TYPES['2015'])
    assert facts['posts'] == '4' and facts['tokens'] == '23'
    assert facts['tokens per post, min/mean/max'] == '3/5.75/9'
    assert facts['distinct tokens'] == '22'
    assert facts['posts without mention'] == '1'
    assert facts['posts with several types'] == '2'
    assert facts['mentions, lenient'] == '7'
    assert facts['mentions, strict'] == '4'
    assert facts['LOC, lenient'] == '3' and facts['LOC, strict'] == '1'
    assert facts['tags against IOB2'] == '3'
    assert facts['URL tokens'] == facts['posts starting with RT'] == '1'
    assert text_facts(splits['val'], TWITTER_TYPES['2015'])[
        'tokens with a non-ASCII character'] == '2'
    assert text_facts(splits['test'], TWITTER_TYPES['2015'])[
        'repeated texts'] == '1'
    text, code = data_stats(tweets)
    assert code == 0
    assert 'posts without lists: 1 train, 1 val, 1 test' in text
    assert 'of these without a post: 1 inter, 0 intra, 1 in all' in text
    for path in tweets.glob('*_2.txt'):
        path.unlink()
    assert 'Neighbour lists' not in data_stats(tweets)[0]
    (tweets / 'test.txt').unlink()
    with pytest.raises(InputError, match=r'no file test\.txt'):
        data_stats(tweets)


def test_facts_of_lists(tmp_path):
    """Figures worked out by hand."""
    root = tmp_path / 'x'
    root.mkdir()
    for stem, names in (('train', 'abe'), ('valid', 'c'), ('test', 'd')):
        (root / f'{stem}.txt').write_text(''.join(
            f'IMGID:{name}\nw\tB-MISC\n\n' for name in names))
    lists = {'train': [('a', '.9 .9 .5 .4', 'b x c d', '0 0', 'b c'),
                       ('b', '.9 .8 .7 .7', 'a x d c', '1 .5', 'd x')],
             'valid': [('c', '.9 .9', 'x a', '0', 'a')], 'test': []}
    for stem, records in lists.items():
        (root / f'{stem}_2.txt').write_text(''.join(
            f'w\nO\n{own}.jpg\n{s}\n'
            + ' '.join(f'{name}.jpg' for name in i.split()) + f'\n{t}\n'
            + ' '.join(f'{name}.jpg' for name in j.split()) + '\n'
            for own, s, i, t, j in records))
    text = twitter_stats(root, k=3).split('\n\n')
    assert [line.split() for line in text[3].split('\n')[3:]] == [
        # a: b x c; b: a x d
        'inter train 2 33.3% 16.7% 16.7% 33.3%'.split(),
        'inter val 1 50.0% 0.0% 0.0% 50.0%'.split(),
        'inter test 0 0.0% 0.0% 0.0% 0.0%'.split(),
        # a: b c; b: d x
        'intra train 2 25.0% 25.0% 25.0% 25.0%'.split(),
        'intra val 1 100.0% 0.0% 0.0% 0.0%'.split(),
        'intra test 0 0.0% 0.0% 0.0% 0.0%'.split()]
    assert [line.split() for line in text[4].split('\n')[3:]] == [
        # x is in two of three; a's first two are tied, b's tie comes after 3.
        'inter train 5 66.7% 100.0% 100.0% 50.0% 0'.split(),
        'inter val 2 100.0% 100.0% 100.0% 100.0% 0'.split(),
        'inter test 0 0.0% 0.0% 0.0% 0.0% 0'.split(),
        'intra train 4 33.3% 100.0% 100.0% 50.0% 1'.split(),
        'intra val 1 100.0% 100.0% 100.0% 0.0% 1'.split(),
        'intra test 0 0.0% 0.0% 0.0% 0.0% 0'.split()]
    assert text[5].split('\n') == [
        'distinct images in whole lists: 5 inter, 5 intra',
        'of these without a post: 1 inter, 1 intra, 1 in all',
        'posts without lists: 1 train, 0 val, 1 test']


# The tables of sections 2.3 and 2.4 of the description of the neighbour lists.
SHARES = {
    '2015 train inter': '49.7 12.1 29.2 8.9',
    '2015 val inter': '49.7 11.4 29.6 9.3',
    '2015 test inter': '48.9 12.2 29.7 9.2',
    '2015 train intra': '48.2 12.3 39.1 0.4',
    '2015 test intra': '47.3 12.2 40.1 0.4',
    '2017 train inter': '74.9 14.4 10.7 0.0',
    '2017 test inter': '75.4 14.0 10.7 0.0',
    '2017 train intra': '69.2 15.6 15.2 0.0',
    '2017 test intra': '68.8 15.8 15.4 0.0',
}
HUBS = {
    '2015 train inter': '779 44.4 42.5 85.8',
    '2015 test inter': '721 45.5 43.3 86.0',
    '2017 train inter': '659 33.5 31.8 81.2',
    '2017 test inter': '411 34.7 32.2 82.2',
    '2015 train intra': '6844 0.3 0.6 4.3',
    '2017 train intra': '4247 0.4 0.7 5.8',
}
LISTS = {'2015 train': '3999', '2015 val': '999', '2015 test': '3256',
         '2017 train': '3373', '2017 val': '723', '2017 test': '723'}
ZEROS = {'2015 train': 622, '2015 val': 138, '2015 test': 533,
         '2017 train': 548, '2017 val': 106, '2017 test': 122}


@pytest.mark.real_data
@pytest.mark.parametrize('year', ['2015', '2017'])
def test_real_lists(data_root, year):
    text, _ = data_stats(data_root / f'twitter{year}')
    _, _, head, shares, hubs, tail = text.split('\n\n')
    assert head.startswith('Neighbour lists, the first 5 of each')
    found: dict[str, dict[str, list[str]]] = {'shares': {}, 'hubs': {}}
    for name, part in ('shares', shares), ('hubs', hubs):
        for line in part.split('\n')[3:]:
            relation, split, *cells = line.replace('%', '').split()
            found[name][f'{year} {split} {relation}'] = [
                cell.replace(',', '') for cell in cells]
    for key, expected in SHARES.items():
        if key.startswith(year):
            assert ' '.join(found['shares'][key][1:]) == expected, key
    for key, expected in HUBS.items():
        if key.startswith(year):
            assert ' '.join(found['hubs'][key][:4]) == expected, key
    for key, expected in ZEROS.items():
        if key.startswith(year):
            assert found['hubs'][f'{key} intra'][-1] == str(expected)
            assert found['hubs'][f'{key} inter'][-1] == '0'
            assert found['shares'][f'{key} inter'][0] == LISTS[key]
            # "in about 90 % of records"
            assert 88 < float(found['hubs'][f'{key} intra'][-2]) < 93
    assert tail == {
        '2015': 'distinct images in whole lists: 1,550 inter, 8,035 intra\n'
                'of these without a post: 11 inter, 29 intra, 29 in all\n'
                'posts without lists: 1 train, 1 val, 1 test',
        '2017': 'distinct images in whole lists: 1,047 inter, 4,641 intra\n'
                'of these without a post: 0 inter, 0 intra, 0 in all\n'
                'posts without lists: 0 train, 0 val, 0 test'}[year]


@pytest.mark.real_data
def test_real_posts_without_lists(data_root):
    for year, expected in (('2015', ['33008', '370925', '1418707']),
                           ('2017', [])):
        root = data_root / f'twitter{year}'
        records = joined_lists(root, read_splits(root, TWITTER_TYPES[year]))
        assert [record.post_id for record in records
                if not record.inter_ids] == expected


# The tables of sections 2 and 3 of the description of the corpora.
TEXTS = {
    'posts': '4,000 1,000 3,257 3,373 723 723',
    'tokens': '64,439 16,178 52,822 53,007 11,309 11,330',
    'tokens per post, min/mean/max':
        '3/16.11/37 2/16.18/41 3/16.22/36 5/15.72/50 5/15.64/33 5/15.67/33',
    'distinct tokens': '22,201 7,398 19,066 11,126 3,839 3,864',
    'distinct tokens in lower case': '20,221 6,832 17,381 9,200 3,324 3,331',
    'posts without mention': '104 31 89 392 76 86',
    'posts with several types': '1,107 275 928 1,326 276 295',
    'mentions, lenient': '6,352 1,594 5,207 6,049 1,324 1,351',
    'PER, lenient': '2,285 567 1,873 2,943 626 621',
    'LOC, lenient': '2,135 543 1,720 731 173 178',
    'ORG, lenient': '957 251 860 1,674 375 395',
    'mentions, strict': '6,166 1,541 5,072 6,049 1,324 1,351',
    'PER, strict': '2,217 552 1,816 2,943 626 621',
    'LOC, strict': '2,091 522 1,697 731 173 178',
    'ORG, strict': '927 247 839 1,674 375 395',
    'tags against IOB2': '186 53 135 0 0 0',
    'URL tokens': '5,159 1,289 4,229 0 0 0',
    'posts starting with RT': '2,206 563 1,805 9 1 2',
    'tokens with a non-ASCII character': '166 42 148 1,376 271 267',
    'repeated texts': '1 0 3 2 0 0',
}
OTHERS = {'OTHER, lenient': '975 233 754', 'OTHER, strict': '931 220 720',
          'MISC, lenient': '701 150 157', 'MISC, strict': '701 150 157'}


@pytest.mark.real_data
def test_real_texts(data_root):
    columns = [text_facts(samples, TWITTER_TYPES[year])
               for year in ('2015', '2017')
               for samples in read_splits(data_root / f'twitter{year}',
                                          TWITTER_TYPES[year]).values()]
    assert {name: ' '.join(column[name] for column in columns)
            for name in TEXTS} == TEXTS
    for name, expected in OTHERS.items():
        assert ' '.join(column[name] for column in columns
                        if name in column) == expected
    assert columns[0].keys() | columns[3].keys() == TEXTS.keys() | OTHERS.keys()


@pytest.mark.real_data
@pytest.mark.parametrize('year', ['2015', '2017'])
def test_real_check_of_tweets(data_root, year, monkeypatch):
    monkeypatch.undo()
    report = check_twitter(data_root / f'twitter{year}')
    assert report.ok and len(report.findings) == 9
    assert set(status(report).values()) == {'published'}


@pytest.mark.real_data
def test_real_damage_of_tweets(data_root, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(twitter_integrity, '_SPLITS', ('val', ))
    text = (data_root / 'twitter2015' / 'valid.txt').read_bytes()
    path = tmp_path / 'valid.txt'
    for broken, expected in (
            (text, 'published'), (text[:text.rindex(b'\n\n')], 'damaged'),
            (text[:-3], 'damaged'), (text.replace(b'\t', b' ', 1), 'damaged'),
            (text.replace(b'\n', b'\r\n'), 'differs')):
        path.write_bytes(broken)
        assert status(check_twitter(tmp_path))['2015', 'val',
                                               'text'] == expected
