import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch_geometric.loader import DataLoader

from mmgraph.datasets import (
    MNRE,
    FeatureFile,
    Manifest,
    StandInFeatures,
    Twitter2015,
    Twitter2017,
)
from mmgraph.datasets.twitter import TWITTER_TYPES, TwitterSample, read_twitter
from mmgraph.errors import InputError
from mmgraph.parse.bio import bio_violations, spans_of_tags
from mmgraph.transforms import RegionFeatures

RESOURCES = Path(__file__).parent.parent / 'resources'
ROOT = RESOURCES / 'twitter2015'
TYPES = TWITTER_TYPES['2015']


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def folder(tmp_path):
    """A copy that a test may break."""
    return Path(shutil.copytree(ROOT, tmp_path / 'twitter2015'))


def test_posts():
    dataset = Twitter2015(ROOT)
    assert repr(dataset) == ("Twitter2015(train, graph='dependency', "
                             "reading='lenient': 4 posts)")
    assert len(dataset) == dataset.num_posts == 4
    assert dataset.negative is None
    assert dataset.vocabularies['entity'].labels == ('PER', 'LOC', 'ORG',
                                                     'OTHER')
    assert dataset.vocabularies['tag'].labels[-2:] == ('B-OTHER', 'I-OTHER')
    post = dataset[0]
    assert post.validate()
    assert (post.post_id, post.image_path) == ('101', '101.jpg')
    assert post['image'].num_nodes == 1 and post['object'].num_nodes == 0
    assert post.words[3:5] == ['Mira', 'Vance']
    assert post.entities == [(3, 5, 0), (6, 8, 2)]
    assert post.relations == []
    assert post['word'].tag_id.tolist() == [0, 0, 0, 1, 2, 0, 5, 6, 0]
    assert post['word'].head.tolist() == [2, 2, -1, 2, 2, 2, 2, 2, 2]
    assert dataset.vocabularies['pos'].to_label(
        int(post['word'].pos_id[3])) == 'PROPN'
    assert dataset[3].entities == []
    assert dataset.num_words().tolist() == [9, 8, 3, 3]


def test_readings():
    lenient, strict = Twitter2015(ROOT), Twitter2015(ROOT, reading='strict')
    assert lenient.violations == strict.violations == 3
    # I-LOC I-LOC O O I-LOC O B-LOC I-ORG
    assert lenient[1].entities == [(0, 2, 1), (4, 5, 1), (6, 7, 1), (7, 8, 2)]
    assert lenient[1]['word'].tag_id.tolist() == [3, 4, 0, 0, 3, 0, 3, 5]
    assert strict[1].entities == [(6, 7, 1)]
    assert strict[1]['word'].tag_id.tolist() == [0, 0, 0, 0, 0, 0, 3, 0]
    for dataset in lenient, strict:
        for post in dataset:
            tags = post['word'].tag_id.tolist()
            assert spans_of_tags(tags, 'strict') == post.entities
            assert bio_violations(tags) == []


def test_quirks():
    # A lone no-break space is a word; there is no last line end; a post may
    # be the repetition of another; an I- may begin a file's last post.
    val, test = Twitter2015(ROOT, 'val'), Twitter2015(ROOT, 'test')
    assert not (ROOT / 'test.txt').read_bytes().endswith(b'\n\n')
    assert val[0].words == ['\u00a0', 'Ben', 'waves']
    assert [post.post_id for post in test] == ['301', '302', '303']
    assert test[2].entities == [(0, 1, 1)]
    assert test[0].words == test[1].words


def test_2017():
    dataset = Twitter2017(RESOURCES / 'twitter2017')
    assert (RESOURCES / 'twitter2017' / 'train.txt').read_bytes().endswith(
        b'\n\n')
    assert dataset.vocabularies['entity'].labels[3] == 'MISC'
    assert [post.post_id for post in dataset] == ['O_11', '16_05_18_15']
    assert dataset[0].entities == [(0, 2, 0), (5, 6, 3)]
    assert dataset.violations == 0


def test_words_alone(folder):
    (folder / 'train.conllu').unlink()
    post = Twitter2015(folder, graph='none')[0]
    assert post['word', 'governs', 'word'].num_edges == 0
    assert 'pos_id' not in post['word']
    with pytest.raises(InputError, match=r"no file train\.conllu .* choose "
                                         "graph='none'"):
        Twitter2015(folder)
    post = Twitter2015(folder, conllu_dir=ROOT)[0]
    assert post['word', 'governs', 'word'].num_edges == 8


def test_root(monkeypatch, folder, tmp_path):
    monkeypatch.delenv('MMGRAPH_DATA', raising=False)
    with pytest.raises(InputError, match='no folder of Twitter-2015 .*holds '
                                         'twitter2015/'):
        Twitter2015()
    monkeypatch.setenv('MMGRAPH_DATA', str(folder.parent))
    assert len(Twitter2015()) == 4
    with pytest.raises(InputError, match='no such folder'):
        Twitter2017()
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=r'no file valid\.txt'):
        Twitter2015(tmp_path / 'empty', 'val')


@pytest.mark.parametrize('kwargs, message', [
    (dict(split='valid'), "'split' .*'valid'.*choose from 'test', 'train', "
                          "'val'"),
    (dict(reading='strikt'), "Did you mean 'strict'"),
    (dict(graph='dependency+scene'), "'graph' must be one of its choices"),
])
def test_choices(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Twitter2015(ROOT, **kwargs)


GOOD = b'IMGID:1\na\tO\nb\tB-PER\n\n'


@pytest.mark.parametrize('post, line, message', [
    (b'a\tO', 1, r"must begin with 'IMGID:'.*\(got 'a\\tO'\)"),
    (b'IMGID:\na\tO', 1, "must begin with 'IMGID:'"),
    (b'IMGID:2\tO\na\tO', 1, "must begin with 'IMGID:'"),
    (b'\xc2\xa0', 1, "must begin with 'IMGID:'"),
    (b'IMGID:2', 1, 'a post must have a word'),
    (b'IMGID:2\na', 2, r'by one tab \(got 1 columns\)'),
    (b'IMGID:2\na O', 2, r'\(got 1 columns\)'),
    (b'IMGID:2\na\tO\tO', 2, r'\(got 3 columns\)'),
    (b'IMGID:2\na\tO\nIMGID:3\nb\tO', 3, 'an empty line must end the post'),
    (b'IMGID:2\n\tO', 2, 'a word must not be empty'),
    (b'IMGID:2\na\t', 2, "'' is not a tag of Twitter-2015"),
    (b'IMGID:2\na\tB-PRE', 2, r"'B-PRE' is not a tag .*Did you mean 'B-PER'"),
    (b'IMGID:2\na\tB-MISC', 2, "'B-MISC' is a tag of Twitter-2017, not of "
                               'Twitter-2015: is this the other corpus'),
    (b'IMGID:1\na\tO', 1, 'image 1 has its second post here; the first is in '
                          'line 1'),
    (b'IMGID:2\n\xff\tO', 2, 'not UTF-8 text'),
])
@pytest.mark.parametrize('end', [b'', b'\n', b'\n\n'])
def test_broken_post(tmp_path, cache, post, line, message, end):
    path = tmp_path / 'train.txt'
    path.write_bytes(GOOD + post + end)
    with pytest.raises(InputError, match=message) as caught:
        Twitter2015(tmp_path, graph='none')
    assert str(caught.value).startswith(f'{path}:{4 + line}: ')
    assert '\n' not in str(caught.value)
    assert not list(cache.rglob('*.*'))
    # What follows is read, and the broken post is told once.
    data = GOOD + post + b'\n\nIMGID:9\nz\tO'
    found = list(read_twitter(data, TYPES))
    assert [getattr(item, 'image_id', None) for item in found] == ['1', None,
                                                                   '9']


def test_tolerated(tmp_path):
    # A byte-order mark, line ends of Windows, more empty lines, separators
    # that are no line ends.
    data = ('\ufeff\r\n\r\nIMGID:1\r\na\u2028\x85b\tO\r\n\r\n\r\n'
            'IMGID:2\r\n \tI-LOC\r\n')
    assert list(read_twitter(data.encode(), TYPES)) == [
        TwitterSample('1', ['a\u2028\x85b'], [0], 3),
        TwitterSample('2', [' '], [4], 7)]


@pytest.mark.parametrize('data', [b'', b'\n\n'])
def test_nothing_in_it(tmp_path, data):
    (tmp_path / 'train.txt').write_bytes(data)
    with pytest.raises(InputError, match='the file holds no post'):
        Twitter2015(tmp_path, graph='none')


def test_other_trees(folder):
    path = folder / 'valid.conllu'
    text = path.read_text()
    path.write_text(text.replace('waves', 'raves'))
    with pytest.raises(InputError, match=r'sentence 201 has other words than '
                                         r'the text at .*valid\.txt:1') as e:
        Twitter2015(folder, 'val')
    assert str(e.value).startswith(f'{path}: ')
    path.write_text(text.replace('202', '203'))
    with pytest.raises(InputError, match=r'no sentence with sent_id = 202 '
                                         r'\(needed by .*valid\.txt:6\)'):
        Twitter2015(folder, 'val')


def test_cache(folder, cache):
    first = Twitter2015(folder)
    path, = cache.rglob('*.pt')
    stamp = path.stat().st_mtime_ns
    again = Twitter2015(folder)
    assert path.stat().st_mtime_ns == stamp
    assert again.violations == 3 and again.hashes == first.hashes
    for a, b in zip(first, again, strict=True):
        assert a.words == b.words and a.entities == b.entities
        assert torch.equal(a['word'].tag_id, b['word'].tag_id)
    Twitter2015(folder, reading='strict')
    Twitter2015(folder, graph='none')
    Twitter2015(folder, 'val')
    assert len(list(cache.rglob('*.pt'))) == 4
    with open(folder / 'train.txt', 'a') as file:
        file.write('\n\nIMGID:105\nnew\tO\n')
    assert len(Twitter2015(folder, graph='none')) == 5
    manifest = next(path for path in cache.rglob('*.json')
                    if json.loads(path.read_text())['reading'] == 'strict')
    assert {entry.sha256 for entry in Manifest.read(manifest).values()
            } == set(first.hashes.values())


def test_splits_and_batches():
    dataset = Twitter2015(ROOT, reading='strict', graph='none')
    test = dataset.with_split('test')
    assert (test.split, test.reading, test.graph) == ('test', 'strict', 'none')
    batch = next(iter(DataLoader(Twitter2015(ROOT), batch_size=4)))
    assert batch.post_id == ['101', '102', '1003', '104']
    assert batch['word'].ptr.tolist() == [0, 9, 17, 20, 23]
    assert batch['entity'].ptr.tolist() == [0, 2, 6, 7, 7]
    assert batch['image'].ptr.tolist() == [0, 1, 2, 3, 4]


MATCHES = ('text', 'matches', 'image')
RESEMBLES = ('image', 'resembles', 'image')


def test_relation_graph():
    dataset = Twitter2015(ROOT, 'val', graph='none')
    graph = dataset.relation_graph()
    # All splits, in the order of the corpus; the image without a post last.
    posts = ['101', '102', '1003', '104', '201', '202', '301', '302', '303']
    assert graph['text'].post_id == posts
    assert graph['image'].post_id == [*posts, '999']
    assert graph['text'].image_index.tolist() == list(range(9))
    masks = [[graph[store][f'{split}_mask'].int().tolist()
              for split in ('train', 'val', 'test')]
             for store in ('text', 'image')]
    assert masks[0] == [[1] * 4 + [0] * 5, [0] * 4 + [1] * 2 + [0] * 3,
                        [0] * 6 + [1] * 3]
    assert masks[1] == [[*mask, 0] for mask in masks[0]]
    query, image = graph[MATCHES].edge_index
    # The last post of each split has no lists.
    assert query.bincount(minlength=9).tolist() == [4, 4, 4, 0, 4, 0, 4, 4, 0]
    assert image[:4].tolist() == [1, 9, 3, 4]
    assert graph[MATCHES].edge_weight[:4].tolist() == pytest.approx(
        [.75, .74, .73, .72])
    # 101 lists images with a score of zero only, 102 one of them.
    query, image = graph[RESEMBLES].edge_index
    assert query.bincount(minlength=10)[:3].tolist() == [0, 3, 3]
    graph = dataset.relation_graph(k=2, drop_zero=False)
    assert graph[RESEMBLES].edge_index[0].bincount()[:3].tolist() == [2, 2, 2]
    assert graph[RESEMBLES].edge_weight[:2].tolist() == [0, 0]


def test_relation_graph_of_training_images():
    graph = Twitter2015(ROOT).relation_graph(k=2, pool='train')
    for edge_type in MATCHES, RESEMBLES:
        image = graph[edge_type].edge_index[1]
        assert graph['image'].train_mask[image].all()
    # 101 lists 102, 999, 104 and 201.
    assert graph[MATCHES].edge_index[:, :2].tolist() == [[0, 0], [1, 3]]


def test_relation_graph_features():
    bank = StandInFeatures(num_regions=2, channels=3)
    dataset = Twitter2015(ROOT, transform=RegionFeatures(bank))
    x = dataset.relation_graph(features=bank)['image'].x
    assert x.shape == (10, 2, 3)
    # A post's own image is the same here and there.
    assert torch.equal(x[1], dataset[1]['region'].x)
    assert 'x' not in dataset.relation_graph()['image']


def test_relation_graph_features_of_some(tmp_path):
    names = ['101', '102', '1003', '104', '201', '202', '301', '302', '303']
    path = tmp_path / 'x.safetensors'
    save_file({name: torch.zeros(1, 2) for name in names}, path)
    graph = Twitter2015(ROOT).relation_graph(k=2, features=FeatureFile(path))
    # 999 has neither a post nor features: the next of the list comes instead.
    assert graph['image'].post_id == names
    assert graph[MATCHES].edge_index[:, :2].tolist() == [[0, 0], [1, 3]]
    save_file({name: torch.zeros(1, 2) for name in names[1:]}, path)
    with pytest.raises(InputError, match='no features of image 101'):
        Twitter2015(ROOT).relation_graph(features=FeatureFile(path))


def test_relation_graph_errors(folder):
    dataset = Twitter2015(folder)
    with pytest.raises(ValueError, match="'k' must be at least 1"):
        dataset.relation_graph(k=0)
    with pytest.raises(ValueError, match="'pool'"):
        dataset.relation_graph(pool='tran')
    path = folder / 'train_2.txt'
    text = path.read_text()
    path.write_text(text.replace('0.73', 'nan', 1))
    with pytest.raises(InputError, match=r'train_2\.txt:4: .*finite'):
        dataset.relation_graph()
    path.write_text(text.replace('\n101.jpg', '\n7.jpg', 1))
    with pytest.raises(InputError, match=r'1 records are of posts that '
                                         r'train\.txt does not have, such as '
                                         '7'):
        dataset.relation_graph()
    path.unlink()
    with pytest.raises(InputError, match=r'no file train_2\.txt'):
        dataset.relation_graph()
    path.write_text(text)
    path = folder / 'valid.txt'
    text = path.read_text()
    path.write_text(text.replace('202', '101'))
    with pytest.raises(InputError, match=r'valid\.txt:6: image 101 has another '
                                         r'post at train\.txt:1'):
        dataset.relation_graph()
    path.write_text(text.replace('B-PER', 'PER'))
    with pytest.raises(InputError, match=r"valid\.txt:3: 'PER' is not a tag"):
        dataset.relation_graph()
    path.unlink()
    with pytest.raises(InputError, match=r'no file valid\.txt'):
        dataset.relation_graph()


def test_other_corpora_have_no_relation_graph():
    with pytest.raises(ValueError, match="'MNRE' knows no relations across"):
        MNRE(RESOURCES / 'mnre').relation_graph()


def test_progress_bar(capsys):
    Twitter2015(ROOT, log=True)
    assert capsys.readouterr().out == ''


@pytest.mark.real_data
@pytest.mark.parametrize('cls, split, posts, words, mentions, violations, '
                         'last', [
    (Twitter2015, 'train', 4000, 64439, 6352, 186, '33008'),
    (Twitter2015, 'val', 1000, 16178, 1594, 53, '370925'),
    (Twitter2015, 'test', 3257, 52822, 5207, 135, '1418707'),
    (Twitter2017, 'train', 3373, 53007, 6049, 0, 'O_2576'),
    (Twitter2017, 'val', 723, 11309, 1324, 0, 'O_3178'),
    (Twitter2017, 'test', 723, 11330, 1351, 0, 'O_2232'),
])
def test_real(data_root, cls, split, posts, words, mentions, violations,
              last):
    dataset = cls(split=split)
    assert len(dataset) == dataset.num_posts == posts
    assert int(dataset.num_words().sum()) == words
    assert dataset.violations == violations
    assert dataset[-1].post_id == last
    total = 0
    for post in dataset:
        tags = post['word'].tag_id.tolist()
        assert spans_of_tags(tags, 'strict') == post.entities
        assert bio_violations(tags) == []
        total += len(post.entities)
    assert total == mentions
    for post in dataset[::50]:
        assert post.validate()


@pytest.mark.real_data
def test_real_strict(data_root):
    dataset = Twitter2015(split='val', reading='strict', graph='none')
    assert sum(len(post.entities) for post in dataset) == 1541
    assert all(bio_violations(post['word'].tag_id.tolist()) == []
               for post in dataset)


@pytest.mark.real_data
def test_real_lone_space(data_root):
    dataset = Twitter2015(split='val')
    post, = (post for post in dataset if post.post_id == '73309')
    assert '\u00a0' in post.words


@pytest.mark.real_data
@pytest.mark.parametrize('cls, posts, images, without', [
    (Twitter2015, 8257, 8286, 3), (Twitter2017, 4819, 4819, 0)])
def test_real_relation_graph(data_root, cls, posts, images, without):
    dataset = cls(split='val', graph='none')
    graph = dataset.relation_graph(drop_zero=False)
    assert graph['text'].num_nodes == posts
    assert graph['image'].num_nodes == images
    assert int(graph['image'].train_mask.sum()
               + graph['image'].val_mask.sum()
               + graph['image'].test_mask.sum()) == posts
    for edge_type in MATCHES, RESEMBLES:
        size = graph[edge_type].edge_index[0].bincount(minlength=posts)
        assert int((size[:posts] == 0).sum()) == without
        assert int(size.max()) == 5
    # All-zero lists of the three splits.
    graph = dataset.relation_graph()
    size = graph[RESEMBLES].edge_index[0].bincount(minlength=posts)[:posts]
    assert int((size == 0).sum()) == without + (
        622 + 138 + 533 if without else 548 + 106 + 122)
    # The edges of section 2.4 of the description of the lists.
    assert [graph[edge_type].num_edges for edge_type in (MATCHES, RESEMBLES)
            ] == ([41270, 34805] if without else [24095, 20215])
    graph = dataset.relation_graph(k=10, pool='train')
    for edge_type in MATCHES, RESEMBLES:
        assert graph['image'].train_mask[graph[edge_type].edge_index[1]].all()
