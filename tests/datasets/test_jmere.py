import hashlib
import json
import random
from collections import Counter
from functools import cache
from itertools import combinations

import pytest
import torch
from safetensors.torch import save_file
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, TextGraph, Vocabulary
from mmgraph.datasets import JMERE, MNRE, PostDataset, Row, integrity
from mmgraph.datasets.integrity import check, data_check, data_stats
from mmgraph.datasets.jmere_relations import split_label
from mmgraph.datasets.manifest import JMERE_MANIFEST
from mmgraph.datasets.mnre_relations import RELATIONS
from mmgraph.errors import InputError

PER, ORG, MISC, LOC = range(4)
JMERE_LABELS = (
    'parent siblings couple neighbor peer charges alumi alternate_names '
    'place_of_residence place_of_birth member_of subsidiary locate_at contain '
    'present_in awarded race religion nationality part_of held_on').split()

A = 'Porto greets Ana Ruiz of Delta FC'.split()
B = 'Ana Ruiz left Porto'.split()


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def line(words, head, tail, relation, image='a.jpg'):
    """A line of MNRE version 2."""
    def mention(span):
        return dict(name=' '.join(words[slice(*span)]), pos=list(span))
    return repr(dict(token=words, h=mention(head), t=mention(tail),
                     img_id=image, relation=relation)) + '\n'


MEMBER = line(A, (2, 4), (5, 7), '/per/org/member_of')
LOCATED = line(A, (5, 7), (0, 1), '/org/loc/locate_at')
NOTHING = line(A, (2, 4), (0, 1), 'None')
LIVES = line(B, (0, 2), (3, 4), '/per/loc/place_of_residence', 'b.jpg')
NO_LIFE = line(B, (0, 2), (3, 4), 'None', 'b.jpg')


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines, split='train'):
        (tmp_path / f'v2_{split}.txt').write_text(''.join(lines))
        return tmp_path
    return write_lines


def quintuples(post):
    return [(post.entities[h], post.entities[t], r)
            for h, t, r in post.relations]


MEMBER_OF = ((2, 4, PER), (5, 7, ORG), 10)
LOCATE_AT = ((5, 7, ORG), (0, 1, LOC), 12)
RESIDENCE = ((0, 2, PER), (3, 4, LOC), 8)


def test_a_post(write):
    dataset = JMERE(write(MEMBER, NOTHING, LIVES, LOCATED), graph='none')
    assert repr(dataset) == ("JMERE(merged train, graph='none': 2 posts)")
    assert len(dataset) == dataset.num_posts == 2
    assert dataset.negative is None
    assert dataset.images == ['a.jpg', 'b.jpg']
    post = dataset[0]
    assert post.validate()
    assert post.words == A and post.post_id == 'a.jpg'
    assert post.image_path is None and post.scene is None
    # Mentions stand in the order of the text, relations in that of the file.
    assert post.entities == [(0, 1, LOC), (2, 4, PER), (5, 7, ORG)]
    assert post.relations == [(1, 2, 10), (2, 0, 12)]
    assert quintuples(dataset[1]) == [RESIDENCE]


def test_vocabularies(write):
    dataset = JMERE(write(MEMBER), graph='none')
    found = dataset.vocabularies
    assert set(found) == {'entity', 'relation', 'word_pair', 'dependency',
                          'pos'}
    assert found['entity'].labels == ('per', 'org', 'misc', 'loc')
    assert list(found['relation']) == JMERE_LABELS
    # The numbers of the published code: none, types, relations.
    published = ['none', *found['entity'], *found['relation']]
    assert len(published) == len(found['word_pair']) == 26
    assert [label.split(':')[-1] for label in found['word_pair']] == published
    assert published[11] == 'alumi' and published[25] == 'held_on'
    assert dataset.symmetric == ('siblings', 'couple', 'neighbor', 'peer',
                                 'alumi', 'alternate_names')
    assert set(dataset.symmetric) < set(found['relation'])


def test_every_label_of_mnre_is_split():
    labels = RELATIONS['v2'].labels
    assert split_label(0) is None
    types, used = 'per org misc loc'.split(), set()
    for i, label in enumerate(labels[1:], 1):
        head, tail, relation = split_label(i)
        assert label == (f'/{types[head]}/{types[tail]}/'
                         f'{JMERE_LABELS[relation]}')
        used.add(relation)
    assert used == set(range(21))  # alternate_names twice


@pytest.mark.parametrize('lines, merged, v1', [
    # Consecutive lines of a text are one instance.
    ([MEMBER, LOCATED], [[MEMBER_OF, LOCATE_AT]], [[MEMBER_OF, LOCATE_AT]]),
    # A line without relation ends it,
    ([MEMBER, NOTHING, LOCATED], [[MEMBER_OF, LOCATE_AT]],
     [[MEMBER_OF], [LOCATE_AT]]),
    # and so does another text, with or without relation.
    ([MEMBER, LIVES, LOCATED], [[MEMBER_OF, LOCATE_AT], [RESIDENCE]],
     [[MEMBER_OF], [RESIDENCE], [LOCATE_AT]]),
    ([MEMBER, NO_LIFE, LOCATED], [[MEMBER_OF, LOCATE_AT]],
     [[MEMBER_OF], [LOCATE_AT]]),
    # Lines without relation give nothing, wherever they stand.
    ([NOTHING, NO_LIFE, LIVES, NO_LIFE, NOTHING], [[RESIDENCE]],
     [[RESIDENCE]]),
    # The same relation twice is one, but in two instances there are two.
    ([MEMBER, MEMBER, LOCATED, MEMBER], [[MEMBER_OF, LOCATE_AT]],
     [[MEMBER_OF, LOCATE_AT]]),
    ([MEMBER, NOTHING, MEMBER], [[MEMBER_OF]], [[MEMBER_OF], [MEMBER_OF]]),
    # One text with two images: two posts when merged, one run in the script,
    # which has the image of its first line.
    ([MEMBER, LOCATED.replace('a.jpg', 'c.jpg')],
     [[MEMBER_OF], [LOCATE_AT]], [[MEMBER_OF, LOCATE_AT]]),
])
def test_rule(write, lines, merged, v1):
    root = write(*lines)
    for variant, expected in ('merged', merged), ('v1', v1):
        found = JMERE(root, 'train', variant, 'none')
        assert [quintuples(post) for post in found] == expected


def test_post_ids(write):
    root = write(MEMBER, LIVES, LOCATED, NOTHING, MEMBER)
    dataset = JMERE(root, variant='v1', graph='none')
    assert [post.post_id for post in dataset] == ['a.jpg', 'b.jpg', 'a.jpg#2',
                                                  'a.jpg#3']
    assert dataset.images == ['a.jpg', 'b.jpg', 'a.jpg', 'a.jpg']


def walk(rows, variant):
    """The rule as a walk over rows (words, image, relation or None)."""
    samples = []
    if variant == 'merged':
        keys = []
        for words, image, relation in rows:
            if relation and (words, image) not in keys:
                keys.append((words, image))
                samples.append([image, []])
            if relation:
                samples[keys.index((words, image))][1].append(relation)
        return samples
    at = 0
    while at < len(rows):
        words, image, relation = rows[at]
        at += 1
        if relation is None:
            continue
        samples.append([image, [relation]])
        while at < len(rows) and rows[at][0] == words:
            at += 1
            if rows[at - 1][2] is None:
                break
            samples[-1][1].append(rows[at - 1][2])
    return samples


@pytest.mark.parametrize('seed', range(20))
def test_rule_on_random_rows(write, seed):
    draw = random.Random(seed)
    rows = [draw.choice([(A, 'a.jpg'), (B, 'b.jpg'), (A, 'c.jpg')])
            + (draw.choice(['peer', 'couple', 'charges', None]), )
            for _ in range(30)]
    root = write(*(line(words, (0, 1), (2, 3),
                        f'/per/per/{relation}' if relation else 'None', image)
                   for words, image, relation in rows))
    for variant in 'merged', 'v1':
        dataset = JMERE(root, variant=variant, graph='none')
        assert [(image, sorted({r for _, _, r in post.relations}))
                for image, post in zip(dataset.images, dataset, strict=True)
                ] == [(image, sorted({JMERE_LABELS.index(r) for r in found}))
                      for image, found in walk(rows, variant)]


def test_canonical_text(write):
    root = write(LOCATED, LIVES, MEMBER, MEMBER)
    dataset = JMERE(root, graph='none')
    # Sorted as strings, whatever the order of the lines.
    assert dataset.canonical_text() == (
        'Porto greets Ana Ruiz of Delta FC\ta.jpg\t'
        '2,4,per,5,7,org,member_of;5,7,org,0,1,loc,locate_at\n'
        'Ana Ruiz left Porto\tb.jpg\t0,2,per,3,4,loc,place_of_residence\n')
    assert dataset.fingerprint() == hashlib.sha256(
        dataset.canonical_text().encode()).hexdigest()
    assert dataset[1:].canonical_text().startswith('Ana')
    # The second instance of an image has the image's name.
    part = JMERE(write(MEMBER, NOTHING, LOCATED), variant='v1', graph='none')
    assert [row.split('\t')[1] for row in
            part.canonical_text().splitlines()] == ['a.jpg', 'a.jpg']


def test_texts_and_words(write):
    root = write(MEMBER, NOTHING, LOCATED, LIVES)
    dataset = JMERE(root, variant='v1', graph='none')
    assert list(dataset.texts()) == [A, A, B]
    assert list(dataset.words()) == A + A + B
    assert list(dataset[[2, 0, 2]].texts()) == [A, B]  # once a post
    # MNRE: four instances of two posts.
    assert list(MNRE(root, graph='none').texts()) == [A, B]
    assert list(JMERE(write(LIVES), graph='none').texts()) == [B]


def test_signatures(write):
    charges = [line(A, head, tail, '/per/per/charges')
               for head, tail in (((0, 1), (2, 4)), ((2, 4), (0, 1)),
                                  ((3, 4), (2, 4)), ((2, 3), (2, 4)))]
    root = write(MEMBER, LOCATED, LIVES, *charges)
    dataset = JMERE(root, graph='none')
    # (2, 3) starts with (2, 4) and ends first.
    expected = [[5, PER, PER, 2, 2], [8, PER, LOC, 1, 0],
                [10, PER, ORG, 1, 0], [12, ORG, LOC, 0, 1]]
    assert dataset.signatures == expected
    assert dataset[1:].signatures == expected[1:2]
    assert dataset[[1, 1]].signatures == [[8, PER, LOC, 2, 0]]
    assert dataset[[]].signatures == []
    assert all(type(value) is int for row in expected for value in row)
    assert MNRE(root, graph='none').signatures[0][:3] == [6, 0, 0]
    assert MNRE.symmetric == PostDataset.symmetric == ()


def test_signatures_of_rows():
    """One span with two types stands neither before nor after itself."""
    labels = Vocabulary(['root', 'dep'])
    posts = [Post.build(TextGraph.from_heads(
        ['a', 'b'], [-1, 0], ['root', 'dep'], labels)) for _ in range(2)]
    rows = [Row(0, [], []), Row(1, [(0, 1, 2), (0, 1, 0)], [(0, 1, 4)]),
            Row(0, [(1, 2, 1)], []), Row(0, [(1, 2, 1), (0, 2, 1)],
                                         [(0, 1, 0), (1, 0, 0), (0, 1, 3)])]
    dataset = PostDataset(posts, rows, {})
    assert dataset.signatures == [[0, 1, 1, 1, 1], [3, 1, 1, 0, 1],
                                  [4, 2, 0, 0, 0]]
    assert PostDataset(posts, rows[:1], {}).signatures == []
    assert PostDataset([], [], {}).signatures == []
    assert list(PostDataset([], [], {}).texts()) == []


def test_loader(write):
    batch = next(iter(DataLoader(
        JMERE(write(MEMBER, LOCATED, LIVES), graph='none'), batch_size=2)))
    assert batch['entity'].type_id.tolist() == [LOC, PER, ORG, PER, LOC]
    store = batch['entity', 'relation', 'entity']
    assert store.edge_index.tolist() == [[1, 2, 3], [2, 0, 4]]
    assert store.relation_id.tolist() == [10, 12, 8]


def test_splits(write):
    write(MEMBER)
    root = write(LIVES, split='test')
    dataset = JMERE(root, variant='v1', graph='none').with_split('test')
    assert repr(dataset) == "JMERE(v1 test, graph='none': 1 posts)"
    with pytest.raises(InputError, match='no text of MNRE v2 val here'):
        dataset.with_split('val')


TREE = ('# sent_id = b.jpg\n1\tAna\t_\tPROPN\tNNP\t_\t2\tcompound\t_\t_\n'
        '2\tRuiz\t_\tPROPN\tNNP\t_\t3\tnsubj\t_\t_\n'
        '3\tleft\t_\tVERB\tVBD\t_\t0\troot\t_\t_\n'
        '4\tPorto\t_\tPROPN\tNNP\t_\t3\tdobj\t_\t_\n\n')


def test_graphs(write, tmp_path):
    root = write(LIVES, NO_LIFE, LIVES)
    with pytest.raises(InputError, match=r'no file v2_train\.conllu'):
        JMERE(root)
    trees = tmp_path / 'trees'
    trees.mkdir()
    (trees / 'v2_train.conllu').write_text(TREE)
    dataset = JMERE(root, variant='v1', conllu_dir=trees)
    # Both instances of the image have its tree.
    assert [post['word'].head.tolist() for post in dataset] == [
        [1, 2, -1, 2]] * 2
    pos = dataset.vocabularies['pos']
    assert pos.to_label(int(dataset[1]['word'].pos_id[2])) == 'VERB'

    scenes = tmp_path / 'scenes'
    scenes.mkdir()
    (scenes / 'graph_of_image_train.json').write_text(
        json.dumps({'b.jpg': {'rel': [[0, 3]]}}))
    save_file({'b.jpg': torch.arange(20.).view(4, 5)},
              scenes / 'object_features_train.safetensors')
    options = dict(graph='dependency+scene', conllu_dir=trees)
    dataset = JMERE(root, scene_dir=scenes, **options)
    assert dataset[0].validate()
    assert dataset[0]['object'].x.tolist() == [[0., 1., 2., 3., 4.],
                                               [15., 16., 17., 18., 19.]]
    assert dataset[0]['image'].num_nodes == 1
    assert 'predicate' in dataset.vocabularies
    assert set(dataset.hashes) == {'text', 'trees', 'scenes', 'features'}
    with pytest.raises(ValueError, match="needs 'scene_dir'"):
        JMERE(root, **options)
    (scenes / 'graph_of_image_train.json').write_text('{}')
    with pytest.raises(InputError, match=r'no image b\.jpg \(needed by .*'
                                         r'v2_train\.txt:1\)'):
        JMERE(root, scene_dir=scenes, **options)


def test_cache(write, cache_dir):
    root = write(MEMBER)
    calls = []

    def transform(post):
        calls.append(post.post_id)
        return post

    first = JMERE(root, graph='none', pre_transform=transform)
    assert calls == ['a.jpg']
    (root / 'v2_train.txt').rename(root / 'mnre_train.txt')
    again = JMERE(root, graph='none')
    assert again.images == first.images
    assert again.canonical_text() == first.canonical_text()
    JMERE(root, variant='v1', graph='none')
    assert len(list(cache_dir.rglob('*.pt'))) == 3


@pytest.mark.parametrize('kwargs, message', [
    (dict(split='tset'), "'split' .*'tset'.* Did you mean 'test'"),
    (dict(variant='v2'), "'variant' .*'v2'.* choose from 'merged', 'published'"
                         ", 'v1'"),
    (dict(graph='tree'), "'graph' "),
])
def test_choices(kwargs, message):
    with pytest.raises(ValueError, match=message):
        JMERE('nowhere', **kwargs)


# What is wrong with a line, and how MNRE and JMERE say so.
@pytest.mark.parametrize('old, new, message', [
    ('/per/org/member_of', '/per/org/member',
     r"'/per/org/member' is not a relation of MNRE v2; .* Did you mean "
     r"'/per/org/member_of'\?"),
    ('/per/org/', '/animal/org/', "'/animal/org/member_of' is not a relation"),
    ('[5, 7]', '[5, 8]', r"'t': 'pos' must be .* <= 7, .* \(got \[5, 8\]\)"),
    ('[2, 4]', '[4, 2]', r"'h': 'pos' must be .* \(got \[4, 2\]\)"),
    ("'Ana Ruiz'", "'Ana Diaz'", "'h': 'name' must be the tokens at 'pos' "),
    ("'token'", "'tokens'", "key 'token' is missing"),
    ("'Porto', 'greets'", "'Porto', ''", "'token' must be a list of words"),
])
def test_bad_lines(write, cache_dir, old, new, message):
    root = write(LIVES, MEMBER.replace(old, new))
    for variant in 'merged', 'v1':
        with pytest.raises(InputError, match=message) as caught:
            JMERE(root, 'train', variant, 'none')
        text = str(caught.value)
        assert text.startswith(f'{root / "v2_train.txt"}:2: ')
        assert text.endswith("(post 'a.jpg')") and '\n' not in text
    assert not list(cache_dir.rglob('*.*'))  # nothing half-written


def test_nothing_in_it(write):
    with pytest.raises(InputError, match='holds no relation'):
        JMERE(write(NOTHING, NO_LIFE), graph='none')


def published(words, image, *items):
    """A record of a published file."""
    def mention(span, kind):
        return dict(name=' '.join(words[slice(*span)]), pos=list(span),
                    tags=kind)
    return dict(token=words, img_id=image, label_list=[
        [dict(beg_ent=mention(*head), sec_ent=mention(*tail), relation=kind)]
        for head, tail, kind in items])


RECORDS = [
    published(B, 'b.jpg', (((0, 2), 'per'), ((3, 4), 'loc'),
                           'place_of_residence')),
    published(A, 'a.jpg', (((2, 4), 'per'), ((5, 7), 'org'), 'member_of'),
              (((5, 7), 'ORG'), ((0, 1), 'Loc'), 'Locate_at')),
    published(A, 'a.jpg', (((2, 4), 'per'), ((5, 7), 'org'), 'member_of')),
]


def test_published(tmp_path, monkeypatch):
    folder = tmp_path / 'jmere'
    folder.mkdir()
    (folder / 'train.json').write_text(json.dumps(RECORDS))
    dataset = JMERE(folder, variant='published', graph='none')
    assert repr(dataset) == "JMERE(published train, graph='none': 3 posts)"
    assert [post.post_id for post in dataset] == ['b.jpg', 'a.jpg', 'a.jpg#2']
    assert [quintuples(post) for post in dataset] == [
        [RESIDENCE], [MEMBER_OF, LOCATE_AT], [MEMBER_OF]]
    # The text it was made from gives the same.
    (tmp_path / 'v2_train.txt').write_text(
        LIVES + MEMBER + LOCATED + NOTHING + MEMBER)
    assert JMERE(tmp_path, variant='v1', graph='none').fingerprint() == \
        dataset.fingerprint()
    (folder / 'v2_train.conllu').write_text(
        TREE + TREE.replace('b.jpg', 'a.jpg'))
    with pytest.raises(InputError, match='sentence a.jpg has other words than '
                                         r'the text at .*train\.json, '
                                         'record 1'):
        JMERE(folder, variant='published')
    # Where it is by default, and as the published code names the folder.
    monkeypatch.setenv('MMGRAPH_DATA', str(tmp_path))
    inner = folder / 'no_none_unified_tags_txt'
    inner.mkdir()
    (folder / 'train.json').rename(inner / 'train.json')
    assert len(JMERE(variant='published', graph='none')) == 3


def change(path, value):
    """The records with a change in the second one; ... takes a key away."""
    records = json.loads(json.dumps(RECORDS))
    *path, last = [1, *path]
    place = records
    for key in path:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(records)


ITEM = ('label_list', 0, 0)


@pytest.mark.parametrize('path, value, message', [
    (ITEM + ('beg_ent', 'tags'), 'pers', "'pers' is not a type of JMERE; "
                                         r".* Did you mean 'per'\?"),
    (ITEM + ('sec_ent', 'tags'), None, 'None is not a type of JMERE'),
    (ITEM + ('sec_ent', 'tags'), ..., "key 'tags' is missing"),
    (ITEM + ('relation', ), 'memberof', "'memberof' is not a relation of "
                                        "JMERE; .* Did you mean 'member_of'"),
    (ITEM + ('relation', ), 'none', "'none' is not a relation"),
    (ITEM + ('relation', ), ['peer'], 'is not a relation'),
    (ITEM + ('relation', ), ..., "key 'relation' is missing"),
    (ITEM + ('beg_ent', 'pos'), [2, 9], r"'beg_ent': 'pos' must be .* <= 7, "
                                        r'.*\(got \[2, 9\]\)'),
    (ITEM + ('beg_ent', 'pos'), [3, 4], "'beg_ent': 'name' must be the tokens"),
    (ITEM + ('sec_ent', ), [5, 7], "'sec_ent' must be a dict"),
    (ITEM + ('sec_ent', ), ..., "key 'sec_ent' is missing"),
    (('label_list', 0), [], 'must be a list with one dict'),
    (('label_list', 0), RECORDS[1]['label_list'][0][0],
     'must be a list with one dict'),
    (('label_list', ), {}, r"'label_list' must be a list \(got dict\)"),
    (('label_list', ), ..., "key 'label_list' is missing"),
    (('token', ), 'Porto', "'token' must be a list of words"),
    (('token', ), ..., "key 'token' is missing"),
    (('img_id', ), ..., "key 'img_id' is missing"),
    ((), 'Porto', r'a record must be a dict \(got str\)'),
])
def test_bad_records(tmp_path, cache_dir, path, value, message):
    file = tmp_path / 'train.json'
    file.write_text(change(path, value))
    with pytest.raises(InputError, match=message) as caught:
        JMERE(tmp_path, variant='published', graph='none')
    text = str(caught.value)
    assert text.startswith(f'{file}: record 1: ') and '\n' not in text
    if path not in ((), ('img_id', )):
        assert text.endswith("(post 'a.jpg')")
    assert not list(cache_dir.rglob('*.*'))  # nothing half-written


@pytest.mark.parametrize('data, message', [
    (b'[{"token":\n', r'train\.json:2: not JSON'),
    (b'["\xff"]', 'not JSON'),
    (b'[' * 100_000, 'not JSON'),
    (b'{}', r'must be a JSON list of records \(got dict\)'),
    (b'[]', 'the file holds no relation'),
])
def test_no_records(tmp_path, data, message):
    (tmp_path / 'train.json').write_bytes(data)
    with pytest.raises(InputError, match=message):
        JMERE(tmp_path, variant='published', graph='none')


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r'no such folder; .* train\.json'):
        JMERE(tmp_path / 'x', variant='published')
    with pytest.raises(InputError, match=r'no file val\.json .*rebuilt from'):
        JMERE(tmp_path, 'val', 'published')


def rebuilt(text):
    """The rows of the table of what is rebuilt, without the header."""
    _, _, table = text.partition('JMERE, rebuilt from version 2\n\n')
    return [row.split() for row in table.split('\n\n')[0].splitlines()[2:]]


def test_check_and_stats(write, monkeypatch):
    # What is invented here is shorter than what was published.
    monkeypatch.setattr(integrity, '_PUBLISHED_LINES',
                        dict.fromkeys(integrity._PUBLISHED_LINES, 0))
    write(MEMBER, NOTHING, LOCATED, LIVES)
    root = write(LIVES, split='test')
    expected = [
        ['merged', 'train', '2', '3', '5', '8', '5.50', 'differs'],
        ['merged', 'test', '1', '1', '2', '4', '4.00', 'differs'],
        ['v1', 'train', '3', '3', '6', '8', '6.00', 'differs'],
        ['v1', 'test', '1', '1', '2', '4', '4.00', 'differs']]
    assert rebuilt(data_stats(root)[0]) == expected
    text, _ = data_check(root)
    assert rebuilt(text) == expected
    assert 'are missing or damaged' in text.splitlines()[-1]
    # Nothing is told of a text that is damaged, or has no relation.
    write('{\n', split='test')
    write(NOTHING)
    assert 'JMERE' not in data_check(root)[0]
    write(NOTHING, split='test')
    assert 'JMERE' not in data_stats(root)[0]


# Posts, relations, mentions, distinct words, mean length.
REAL = {
    'merged train': ['3,468', '4,503', '7,566', '15,981', '16.05'],
    'merged val': ['473', '624', '1,039', '3,535', '16.21'],
    'merged test': ['460', '640', '1,026', '3,402', '16.16'],
    'v1 train': ['3,618', '4,503', '7,765', '15,981', '16.14'],
    'v1 val': ['496', '624', '1,069', '3,535', '16.28'],
    'v1 test': ['475', '640', '1,041', '3,402', '16.28'],
}
SHA256 = {
    'v1 train':
    '5a68c12ed94532a254623ce69f51d224b82e6f28d561c749eb2284164588861a',
    'v1 val':
    '3e2a9a54b93e766007e65282d0cd921eb8c59eef8b7c9e776834b64c8e0413b0',
    'v1 test':
    'c0559fac1f8b6db924e8a29cd5393662292a262cad588c9e9f5a2e2938a8ad05',
    'merged train':
    'e01fdad702632d3f6b9f37b092c0be3594efa1dc9f9d9dd54bd5d1295bbca176',
    'merged val':
    '3a50a3515e9c1f7c63e7a80d98d50477101596b584b5e7251d1a0e6c11853ee1',
    'merged test':
    'c58959009a82f3ec4d213699d6accc3a329244b1cd70966eb8f5feb83f95f236',
}


@pytest.fixture(scope='module')
def real(data_root, tmp_path_factory):
    """The real corpus, read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMGRAPH_CACHE', str(tmp_path_factory.mktemp('cache')))

        @cache
        def load(name):
            variant, split = name.split()
            return JMERE(data_root / 'mnre', split, variant, 'none')

        for name in REAL:
            load(name)
    return load


@pytest.mark.real_data
@pytest.mark.parametrize('name', REAL)
def test_real_counts(real, name):
    dataset = real(name)
    posts = list(dataset)
    entities = [set(post.entities) for post in posts]
    relations = [set(post.relations) for post in posts]
    words = [word for post in posts for word in post.words]
    assert [f'{len(posts):,}', f'{sum(map(len, relations)):,}',
            f'{sum(map(len, entities)):,}', f'{len(set(words)):,}',
            f'{len(words) / len(posts):.2f}'] == REAL[name]
    # Distinct, and each mention is in a relation.
    for post, mentions, found in zip(posts, entities, relations, strict=True):
        assert len(post.entities) == len(mentions)
        assert len(post.relations) == len(found)
        assert {i for h, t, _ in found for i in (h, t)} == set(
            range(len(mentions)))
    assert len({post.post_id for post in posts}) == len(posts)
    text = dataset.canonical_text()
    assert dataset.fingerprint() == SHA256[name]
    assert JMERE_MANIFEST.status(name, text.encode()) == 'published'
    assert len(dataset.vocabularies['relation']) == 21


@pytest.mark.real_data
def test_real_check(data_root):
    report = check(data_root / 'mnre')
    rows = rebuilt(str(report))
    assert report.ok
    assert rows == [[*name.split(), *counts, 'agrees']
                    for name, counts in REAL.items()]


# In the order of the specification: the most frequent first.
TRAIN_RELATIONS = dict(
    peer=960, member_of=872, contain=629, present_in=427, locate_at=316,
    place_of_residence=231, alternate_names=224, held_on=192, subsidiary=152,
    couple=115, nationality=98, part_of=81, place_of_birth=69, awarded=57,
    charges=24, parent=14, siblings=14, neighbor=8, alumi=8, religion=6,
    race=6)


@pytest.mark.real_data
def test_real_relations(real):
    dataset = real('merged train')
    found = Counter(label for post in dataset for label in
                    [JMERE_LABELS[r] for _, _, r in post.relations])
    assert found == TRAIN_RELATIONS
    slots = Counter(post.entities[i][2] for post in dataset
                    for h, t, _ in post.relations for i in (h, t))
    assert slots == {PER: 4344, LOC: 2066, ORG: 1648, MISC: 948}


SIGNATURES = {
    (PER, PER): 'parent siblings couple neighbor peer charges alumi '
                'alternate_names',
    (ORG, ORG): 'subsidiary alternate_names', (LOC, LOC): 'contain',
    (MISC, MISC): 'part_of', (PER, ORG): 'member_of',
    (PER, LOC): 'place_of_residence place_of_birth',
    (PER, MISC): 'present_in awarded race religion nationality',
    (ORG, LOC): 'locate_at', (MISC, LOC): 'held_on',
}


# How often the head stands before the tail, and how often it does not, for
# the relations that join mentions of one type and have a direction.
TRAIN_ORDER = dict(contain=(142, 487), subsidiary=(84, 68), part_of=(46, 35),
                   parent=(8, 6), charges=(15, 9))


@pytest.mark.real_data
@pytest.mark.parametrize('split, head_last, same_start', [
    ('train', 1375, 13), ('val', 196, 1), ('test', 211, 1)])
def test_real_signatures(real, split, head_last, same_start):
    dataset = real(f'merged {split}')
    found = dataset.signatures
    assert found == sorted(found)
    allowed = {(JMERE_LABELS.index(label), *types)
               for types, labels in SIGNATURES.items()
               for label in labels.split()}
    occurring = {tuple(row[:3]) for row in found}
    assert occurring <= allowed and len(occurring) == len(found)
    # The same from the graphs; the specification looks at the starts alone.
    rows, starts = Counter(), Counter()
    for post in dataset:
        for head, tail, relation in quintuples(post):
            assert head[:2] != tail[:2]
            key = relation, head[2], tail[2]
            rows[key, head[:2] < tail[:2]] += 1
            starts[key, head[0] < tail[0]] += 1
            starts['after'] += head[0] > tail[0]
    assert found == [[*key, rows[key, True], rows[key, False]]
                     for key in sorted(occurring)]
    assert sum(sum(row[3:]) for row in found) == sum(rows.values())
    assert starts['after'] == head_last
    assert sum(row[4] for row in found) == head_last + same_start
    # The variants have the same lines.
    assert real(f'v1 {split}').signatures == found
    if split == 'train':
        assert occurring == allowed
        same = [tuple(row[:3]) for row in found if row[1] == row[2]
                and JMERE_LABELS[row[0]] not in dataset.symmetric]
        assert {JMERE_LABELS[key[0]]: (starts[key, True], starts[key, False])
                for key in same} == TRAIN_ORDER
        # Three places that contain another start with it and are shorter.
        assert {JMERE_LABELS[key[0]]: (rows[key, True], rows[key, False])
                for key in same} == TRAIN_ORDER | dict(contain=(145, 484))


def overlap(a, b):
    return max(a[0], b[0]) < min(a[1], b[1])


@pytest.mark.real_data
@pytest.mark.parametrize('split, overlapping, touching, joined, share, most', [
    ('train', 35, 16, 31, 85, 10), ('val', 1, 5, 1, 82, 6),
    ('test', 2, 1, 2, 81, 21)])
def test_real_spans(real, split, overlapping, touching, joined, share, most):
    posts = list(real(f'merged {split}'))
    pairs = [pair for post in posts for pair in combinations(post.entities, 2)]
    assert sum(overlap(a, b) for a, b in pairs) == overlapping
    assert sum(a[1] == b[0] or b[1] == a[0] for a, b in pairs) == touching
    assert all(a[:2] != b[:2] for a, b in pairs)
    found = [(head, tail) for post in posts
             for head, tail, _ in quintuples(post)]
    assert sum(overlap(head, tail) for head, tail in found) == joined
    # No pair of mentions has two relations.
    assert all(len({frozenset(pair[:2]) for pair in post.relations})
               == len(post.relations) for post in posts)
    sizes = [len(post.relations) for post in posts]
    assert round(100 * sizes.count(1) / len(sizes)) == share
    assert max(sizes) == most
    assert max(len(post.words) for post in posts) <= 32


@pytest.mark.real_data
def test_real_splits(real):
    images, texts = [], []
    for split in 'train', 'val', 'test':
        dataset = real(f'merged {split}')
        images.append(set(dataset.images))
        texts.append({tuple(words) for words in dataset.texts()})
    # (train, val), (train, test), (val, test)
    assert [len(a & b) for a, b in combinations(images, 2)][:2] == [0, 0]
    assert [len(a & b) for a, b in combinations(texts, 2)][:2] == [2, 0]


@pytest.mark.real_data
@pytest.mark.parametrize('variant', ['merged', 'v1'])
def test_real_trees(data_root, variant):
    dataset = JMERE(data_root / 'mnre', 'test', variant)
    for post in dataset[::20]:
        assert post.validate()
        assert post['word', 'governs', 'word'].num_edges > 0
    assert dataset.fingerprint() == SHA256[f'{variant} test']
