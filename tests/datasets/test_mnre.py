import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import BaseTransform

from mmgraph.datasets import MNRE, Manifest
from mmgraph.errors import InputError
from mmgraph.parse import CLEAR

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def folder(tmp_path):
    """A copy of the flat folder that a test may break."""
    shutil.copytree(ROOT, tmp_path / 'mnre')
    shutil.copytree(ROOT.parent / 'mega', tmp_path / 'mega')
    return tmp_path / 'mnre'


def test_v2():
    dataset = MNRE(ROOT)
    assert repr(dataset) == (
        "MNRE(v2 train, graph='dependency': 5 instances, 3 posts)")
    assert len(dataset) == 5 and dataset.num_posts == 3
    assert dataset.negative == 'None'
    assert dataset.post_index.tolist() == [0, 0, 0, 1, 2]
    assert dataset.relation_ids.tolist() == [9, 0, 14, 14, 11]
    assert dataset.num_words().tolist() == [11, 11, 11, 5, 9]
    assert set(dataset.vocabularies) == {'relation', 'dependency', 'pos',
                                         'entity'}
    post = dataset[0]
    assert post.validate()
    assert post.post_id == 'twitter_stream_0001.jpg'
    assert post.image_path is None and post.scene is None
    assert post.entities == [(3, 5, 0), (6, 8, 0)]
    assert post.relations == [(0, 1, 9)]
    assert post['word'].head.tolist() == [5, 0, 5, 4, 5, -1, 7, 5, 5, 8, 5]
    store = post['word', 'governs', 'word']
    assert CLEAR.to_label(int(store.edge_type[0])) == 'dep'
    assert dataset.vocabularies['pos'].to_label(
        int(post['word'].pos_id[3])) == 'PROPN'
    assert dataset[3].entities == [(0, 3, 0), (0, 2, 0)]  # nested
    assert dataset[4].entities == [(4, 6, 0), (1, 2, 0)]  # head after tail


@pytest.mark.parametrize('split, length', [
    ('train', 5), ('val', 1), ('test', 2)])
def test_splits(split, length):
    dataset = MNRE(ROOT, split)
    assert len(dataset) == length
    # The ids never depend on what a split holds.
    assert len(dataset.vocabularies['relation']) == 23


def test_v1():
    dataset = MNRE(ROOT, version='v1', graph='dependency+scene')
    assert dataset.negative == 'none'
    assert len(dataset.vocabularies['relation']) == 31
    # 'none' is the negative class; ids of images may be numbers; names may
    # differ in white space.
    assert dataset.relation_ids.tolist() == [0, 0, 3]
    assert dataset[0].post_id == '731.jpg'
    assert dataset[0].entities == [(0, 4, 0), (5, 7, 0)]
    scene = dataset[0].scene
    assert scene.slot_id.tolist() == [0, 3, 7]
    assert scene.edge_index.tolist() == [[0, 1, 2], [1, 0, 1]]
    assert len(dataset.vocabularies['predicate']) == 1
    # An image without relations is an image.
    assert dataset[2]['image'].num_nodes == 1
    assert dataset[2].scene.num_nodes == 0
    assert all(post.validate() for post in dataset)


def test_words_alone(folder):
    for path in folder.glob('*.conllu'):
        path.unlink()
    dataset = MNRE(folder, graph='none')
    post = dataset[0]
    assert post['word', 'governs', 'word'].num_edges == 0
    assert post['word'].head.tolist() == [-1] * 11
    assert 'pos_id' not in post['word']
    with pytest.raises(InputError, match=r"no file v2_train\.conllu .* choose "
                                         "graph='none'"):
        MNRE(folder)


def test_other_folders(folder, tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    (folder / 'v1_val.conllu').rename(tmp_path / 'a' / 'v1_val.conllu')
    scenes = tmp_path / 'mega' / 'graph_of_image_val.json'
    scenes.rename(tmp_path / 'b' / scenes.name)
    with pytest.raises(InputError, match=r'v1_val\.conllu'):
        MNRE(folder, 'val', 'v1')
    with pytest.raises(InputError, match="no file graph_of_image_val.json .*"
                                         "'scene_dir'"):
        MNRE(folder, 'val', 'v1', 'dependency+scene',
             conllu_dir=tmp_path / 'a')
    dataset = MNRE(folder, 'val', 'v1', 'dependency+scene',
                   conllu_dir=tmp_path / 'a', scene_dir=tmp_path / 'b')
    assert dataset[0].scene.num_edges == 1


@pytest.fixture
def clone(tmp_path):
    """The file names of the corpus's own repository."""
    root = tmp_path / 'clone'
    (root / 'mnre_txt').mkdir(parents=True)
    (root / 'Version-1').mkdir()
    for split, name in (('train', 'mnre_train.txt'), ('val', 'mnre_val .txt'),
                        ('test', 'mnre_test.txt')):
        shutil.copy(ROOT / f'v2_{split}.txt', root / 'mnre_txt' / name)
    with zipfile.ZipFile(root / 'Version-1' / 'mnre_txt_org.zip', 'w') as zip:
        for split in 'train', 'val', 'test':
            zip.write(ROOT / f'v1_{split}.txt', f'txt/ours_{split}.txt')
    return root


@pytest.mark.parametrize('version', ['v1', 'v2'])
@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_clone(clone, version, split):
    dataset = MNRE(clone, split, version, 'none')
    expected = MNRE(ROOT, split, version, 'none')
    assert [post.words for post in dataset] == [p.words for p in expected]
    assert torch.equal(dataset.relation_ids, expected.relation_ids)
    trees = MNRE(clone, split, version, conllu_dir=ROOT)
    assert torch.equal(trees[0]['word'].head,
                       MNRE(ROOT, split, version)[0]['word'].head)


def test_clone_variants(clone):
    folder = clone / 'mnre_txt'
    (folder / 'mnre_val .txt').rename(folder / 'mnre_val.txt')
    assert len(MNRE(clone, 'val', graph='none')) == 1
    assert len(MNRE(folder, 'val', graph='none')) == 1
    archive = clone / 'Version-1' / 'mnre_txt_org.zip'
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputError, match=r'mnre_txt_org\.zip!txt/ours_val\.txt'
                                         ': cannot read the file'):
        MNRE(clone, 'val', 'v1', 'none')


def test_root_from_environment(monkeypatch, folder):
    monkeypatch.delenv('MMGRAPH_DATA', raising=False)
    with pytest.raises(InputError, match="give 'root', or set MMGRAPH_DATA"):
        MNRE()
    monkeypatch.setenv('MMGRAPH_DATA', str(folder.parent))
    assert len(MNRE()) == 5


def test_root_is_not_written_to(folder):
    def state():
        return {path: path.stat().st_mtime_ns
                for path in folder.parent.rglob('*')
                if 'cache' not in path.parts}
    before = state()
    MNRE(folder, version='v1', graph='dependency+scene')
    assert state() == before


@pytest.mark.parametrize('kwargs, message', [
    (dict(split='tset'), r"'split' is unknown \(got 'tset'\); choose from "
                         r"'test', 'train', 'val'\. Did you mean 'test'\?"),
    (dict(version='v3'), "'version' is unknown"),
    (dict(graph='tree'), "'graph' is unknown"),
    (dict(graph='dependency+scene'), 'no scene graphs of the images of '
                                     'version 2 are published'),
])
def test_choices(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MNRE(ROOT, **kwargs)


def test_missing(tmp_path):
    with pytest.raises(InputError, match='no such folder') as caught:
        MNRE(tmp_path / 'nowhere')
    assert str(caught.value).startswith(f'{tmp_path / "nowhere"}: ')
    with pytest.raises(InputError, match=r'no text of MNRE v2 train here: '
                                         r'neither v2_train\.txt nor '
                                         r'mnre_txt/mnre_train\.txt'):
        MNRE(tmp_path)
    with pytest.raises(InputError, match=r'mnre_txt_org\.zip'):
        MNRE(tmp_path, version='v1')


GOOD = dict(token=['Ann', 'met', 'Bob'], h=dict(name='Ann', pos=[0, 1]),
            t=dict(name='Bob', pos=[2, 3]), img_id='a.jpg',
            relation='/per/per/peer')


def but(**kwargs):
    row = {**GOOD, **kwargs}
    return repr({k: v for k, v in row.items() if v is not ...})


@pytest.mark.parametrize('line, message', [
    ('{"token": [', r'not a Python dict literal \(SyntaxError\)'),
    ("__import__('os').getcwd()", 'not a Python dict literal'),
    ('[1]', r'must be a dict \(got list\)'),
    (but(h=...), "key 'h' is missing"),
    (but(img_id=...), "key 'img_id' is missing"),
    (but(token=[]), "'token' must be a list of words"),
    (but(token=['a', '']), "'token' must be a list of words"),
    (but(token='abc'), "'token' must be a list of words"),
    (but(h=dict(name='Ann', pos=[0, 4])), r"'h': 'pos' must be .* <= 3, the "
                                          r'number of tokens \(got \[0, 4\]'),
    (but(t=dict(name='Bob', pos=[2, 2])), "'t': 'pos' must be"),
    (but(t=dict(name='Bob', pos=[-1, 2])), "'t': 'pos' must be"),
    (but(t=dict(name='Bob', pos=[1.0, 2])), "'t': 'pos' must be"),
    (but(t=dict(name='Bob', pos=2)), "'t': 'pos' must be"),
    (but(t=dict(name='Bob')), "'t' must be a dict with 'name' and 'pos'"),
    (but(t=dict(name='Bob', pos=[1, 2])), "'t': 'name' must be the tokens at"),
    (but(relation='/per/per/per'), r"'/per/per/per' is not a relation of MNRE "
                                   r"v2; .* Did you mean '/per/per/peer'\?"),
    (but(relation='/per/per/colleague'), "is a relation of MNRE v1, not of "
                                         "MNRE v2; choose the other 'version"),
    (but(relation=3), '3 is not a relation'),
    (but(img_id=None), "'img_id' must be the name of an image file"),
    (but(img_id=''), "'img_id' must be the name of an image file"),
    (but(token=['Ann', 'saw', 'Bob']), "image 'a.jpg' has another text here "
                                       'than in line 1'),
    (b"{'token': ['\xff']}", 'not UTF-8 text'),
])
def test_broken_line(tmp_path, cache, line, message):
    path = tmp_path / 'v2_train.txt'
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(but().encode() + b'\n\n' + line + b'\n')
    with pytest.raises(InputError, match=message) as caught:
        MNRE(tmp_path, graph='none')
    assert str(caught.value).startswith(f'{path}:3: ')
    assert '\n' not in str(caught.value)
    assert not list(cache.rglob('*.*'))  # nothing half-written


def test_tolerated_lines(tmp_path):
    # A byte-order mark, blank lines, line ends of Windows, no last line end;
    # the key of the description; both spellings of the negative class; posts
    # in several runs, as in version 1.
    rows = [but(), but(img_id='b.jpg', relation='none'),
            but(img_id=..., image_id='a.jpg', relation='None',
                h=dict(pos=(2, 3)), t=GOOD['h']), but(img_id=7,
                                                      relation=None)]
    path = tmp_path / 'v2_train.txt'
    path.write_bytes(b'\xef\xbb\xbf' + '\r\n\r\n'.join(rows).encode())
    dataset = MNRE(tmp_path, graph='none')
    assert dataset.post_index.tolist() == [0, 1, 0, 2]
    assert dataset.relation_ids.tolist() == [5, 0, 0, 0]
    assert dataset[3].post_id == '7.jpg'


def test_nothing_in_it(tmp_path):
    (tmp_path / 'v2_train.txt').write_text('\n')
    with pytest.raises(InputError, match='the file holds no instance'):
        MNRE(tmp_path, graph='none')


def test_other_trees(folder):
    path = folder / 'v2_val.conllu'
    text = path.read_text()
    path.write_text(text.replace('Ferrow', 'Farrow'))
    with pytest.raises(InputError, match=r'has other words than the text at '
                                         r'.*v2_val\.txt:1; parse the') as e:
        MNRE(folder, 'val')
    assert str(e.value).startswith(f'{path}: ')
    path.write_text(text.replace('0004', '0009'))
    with pytest.raises(InputError, match='no sentence with sent_id = twitter_'
                                         'stream_0004.jpg'):
        MNRE(folder, 'val')


def test_other_scenes(folder):
    path = folder.parent / 'mega' / 'graph_of_image_val.json'
    path.write_text('{}')
    with pytest.raises(InputError, match=r'no image 17_06_3\.jpg .*same '
                                         'split of version 1') as caught:
        MNRE(folder, 'val', 'v1', 'dependency+scene')
    assert str(caught.value).startswith(f'{folder.parent}')


class Counting(BaseTransform):
    calls = 0

    def __init__(self, name):
        self.name = name

    def forward(self, data):
        Counting.calls += 1
        data['word'].length = torch.tensor([len(w) for w in data.words])
        return data

    def __repr__(self):
        return f'Counting({self.name!r})'


def test_cache(folder, cache, monkeypatch):
    monkeypatch.setattr(Counting, 'calls', 0)
    first = MNRE(folder, pre_transform=Counting('a'))
    assert Counting.calls == 3  # once a post, not once an instance
    assert first[0]['word'].length.tolist()[:2] == [2, 4]
    again = MNRE(folder, pre_transform=Counting('a'))
    assert Counting.calls == 3
    assert [p.words for p in again] == [p.words for p in first]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a['word'].length, b['word'].length)
        assert torch.equal(a['word'].head, b['word'].head)
        assert a.relations == b.relations
    MNRE(folder, pre_transform=Counting('a'), force_reload=True)
    assert Counting.calls == 6
    MNRE(folder, pre_transform=Counting('b'))  # another setting
    assert Counting.calls == 9
    with open(folder / 'v2_train.conllu', 'a') as file:  # other bytes
        file.write('\n')
    MNRE(folder, pre_transform=Counting('a'))
    assert Counting.calls == 12
    assert sorted(path.suffix for path in cache.rglob('*.*')) == (
        ['.json'] * 3 + ['.pt'] * 3)


def test_cache_of_another_folder_is_the_same(folder):
    Counting.calls = 0
    MNRE(folder, pre_transform=Counting('a'))
    MNRE(ROOT, pre_transform=Counting('a'))
    assert Counting.calls == 3


def test_plain_functions_are_run_every_time():
    calls = []

    def transform(post):
        calls.append(post.post_id)
        return post

    MNRE(ROOT, pre_transform=transform)
    MNRE(ROOT, pre_transform=transform)
    assert len(calls) == 6


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:200], lambda data: b'x' * 99,
    lambda data: data[:len(data) // 2] + b'\0' * 50
    + data[len(data) // 2 + 50:]])
def test_damaged_cache_is_made_anew(cache, damage):
    MNRE(ROOT)
    path, = cache.rglob('*.pt')
    path.write_bytes(damage(path.read_bytes()))
    assert len(MNRE(ROOT)) == 5
    torch.load(path, weights_only=True)


def test_hashes_and_manifest(cache):
    dataset = MNRE(ROOT, version='v1', graph='dependency+scene')
    path, = cache.rglob('*.json')
    manifest = Manifest.read(path)
    assert ({entry.sha256 for entry in manifest.values()}
            == set(dataset.hashes.values()))
    assert set(dataset.hashes) == {'text', 'trees', 'scenes'}
    assert json.loads(path.read_text())['graph'] == 'dependency+scene'


def test_transform_and_slices():
    Counting.calls = 0
    dataset = MNRE(ROOT, transform=Counting('a'))
    assert Counting.calls == 0
    assert dataset[1]['word'].length.numel() == 11
    assert Counting.calls == 1
    part = dataset[torch.tensor([4, 0])]
    assert len(part) == 2
    assert part.relation_ids.tolist() == [11, 9]
    assert part[0].post_id == 'twitter_0003.jpg'


def test_loader():
    dataset = MNRE(ROOT, version='v1', graph='dependency+scene')
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch['entity'].num_nodes == 6
    assert batch['entity', 'relation', 'entity'].edge_index.tolist() == [
        [0, 2, 4], [1, 3, 5]]
    assert batch['object'].ptr.tolist() == [0, 3, 6, 6]
    assert batch.post_id == ['731.jpg', '731.jpg', '17_06_2.jpg']


def test_progress_bar(capsys):
    MNRE(ROOT, log=True)
    out = capsys.readouterr()
    assert out.out == '' and len(MNRE(ROOT, log=True)) == 5


@pytest.mark.real_data
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_real_relation_ids(data_root, version):
    published = json.loads(
        (data_root / 'mnre' / f'rel2id_{version}.json').read_text())
    relations = MNRE(data_root / 'mnre', 'test', version,
                     'none').vocabularies['relation']
    assert {label: i for i, label in enumerate(relations)} == published


@pytest.mark.real_data
@pytest.mark.parametrize('version, split, graph, instances, posts', [
    ('v2', 'train', 'dependency', 12247, 7356),
    ('v2', 'val', 'dependency', 1624, 931),
    ('v2', 'test', 'none', 1614, 914),
    ('v1', 'train', 'dependency+scene', 7824, 3996),
    ('v1', 'val', 'dependency+scene', 975, 499),
    ('v1', 'test', 'dependency+scene', 1282, 675),
])
def test_real(data_root, version, split, graph, instances, posts):
    dataset = MNRE(data_root / 'mnre', split, version, graph)
    assert (len(dataset), dataset.num_posts) == (instances, posts)
    names = [dataset.post(i).post_id for i in range(posts)]
    assert len(set(names)) == posts
    assert all('.' in name for name in names)
    for post in dataset[::50]:
        assert post.validate()
    if graph == 'dependency+scene':
        empty = sum(dataset.post(i)['object'].num_nodes == 0
                    for i in dataset.post_index)
        assert empty == {'train': 1462, 'val': 188, 'test': 263}[split]
        assert all(post['image'].num_nodes == 1 for post in dataset[::50])
