import hashlib
import itertools
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, batch_view
from mmgraph.datasets import _grammar as grammar
from mmgraph.datasets.synthetic import SyntheticPosts
from mmgraph.nn.align import StructuralAligner
from mmgraph.parse.bio import bio_vocabulary, spans_of_tags

MATCHES = ('word', 'matches', 'object')
INTER = ('text', 'matches', 'image')
SHOWN_AS = {'PER': {'man', 'woman'}, 'ORG': {'logo', 'banner'},
            'LOC': {'skyline', 'tower'}, 'MISC': {'poster', 'screen'}}
TYPE_OF = {label: kind for kind, labels in SHOWN_AS.items()
           for label in labels}


@pytest.fixture(scope='module')
def dataset():
    return SyntheticPosts(num_posts=1000, irrelevant=0.2, seed=3)


@pytest.fixture(scope='module')
def clean():
    return SyntheticPosts(num_posts=300, detector_noise=0.0, distractors=0)


def relation(dataset, post):
    (_, _, index), = post.relations
    return dataset.vocabularies['relation'].to_label(index)


def lookup_accuracy(dataset):
    # The best that any function of the text can do: the majority a text.
    seen = defaultdict(Counter)
    for post in dataset:
        seen[tuple(post.words)][relation(dataset, post)] += 1
    return sum(max(c.values()) for c in seen.values()) / len(dataset)


def same(first, second):
    if len(first) != len(second):
        return False
    for a, b in zip(first, second):
        a, b = a.to_dict(), b.to_dict()
        for name, store in a.items():
            if not isinstance(store, dict):
                if store != b[name]:
                    return False
                continue
            for key, value in store.items():
                other = b[name][key]
                if isinstance(value, torch.Tensor):
                    if not torch.equal(value, other):
                        return False
                elif value != other:
                    return False
    return True


def test_repr_and_numbers(dataset):
    assert repr(dataset) == ('SyntheticPosts(train: 1000 posts, 500 visual, '
                             'text-only ceiling 0.75)')
    assert dataset.visual_share == 0.5
    assert dataset.chance == 0.1
    assert 0.25 < dataset.majority < 0.37
    counts = dataset.relation_ids.bincount(minlength=10)
    assert dataset.majority == counts.max() / 1000
    assert dataset.negative == 'None' and counts.argmax() == 0
    assert counts[1:].min() > 40 and counts[1:].max() < 140


def test_same_seed_same_posts_and_no_global_state():
    before = (random.getstate(), _numpy_state(), torch.get_rng_state())
    kwargs = dict(num_posts=60, seed=7, irrelevant=0.2)
    first, second = SyntheticPosts(**kwargs), SyntheticPosts(**kwargs)
    assert same(list(first), list(second))
    assert random.getstate() == before[0]
    assert _numpy_state() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    other = SyntheticPosts(**{**kwargs, 'seed': 8})
    assert not same(list(first), list(other))


def _numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_splits_are_draws_from_one_world():
    sets = {split: SyntheticPosts(split, num_posts=400, detector_noise=0.0)
            for split in ('train', 'val', 'test')}
    texts = {split: {' '.join(post.words) for post in part}
             for split, part in sets.items()}
    assert not texts['train'] & texts['test']
    assert not texts['train'] & texts['val']
    rows = defaultdict(set)
    for part in sets.values():
        for post in part:
            for label, x in zip(post['object'].label_id.tolist(),
                                post['object'].x):
                rows[label].add(tuple(x.tolist()))
    # Without noise every object of a class has the class's one prototype.
    assert all(len(found) == 1 for found in rows.values())
    assert len(rows) == len(sets['train'].vocabularies['object'])
    x = torch.tensor([next(iter(found)) for found in rows.values()])
    assert torch.allclose(x.norm(dim=1), torch.tensor(8.0))
    other = SyntheticPosts(num_posts=5, detector_noise=0.0, seed=1)[0]
    label = int(other['object'].label_id[0])
    assert tuple(other['object'].x[0].tolist()) not in rows[label]


def test_image_settings_do_not_change_texts():
    first = SyntheticPosts(num_posts=80)
    second = SyntheticPosts(num_posts=80, detector_noise=0.4, distractors=3,
                            object_dim=8, irrelevant=0.3)
    assert [p.words for p in first] == [p.words for p in second]
    assert torch.equal(first.relation_ids, second.relation_ids)
    assert second[0]['object'].x.size(1) == 8


@pytest.mark.parametrize('visual,num_choices,num_posts', [
    (0.5, 2, 200), (0.5, 3, 200), (1.0, 2, 101), (1.0, 3, 50), (0.0, 2, 40),
    (0.37, 2, 77), (0.5, 2, 1),
])
def test_text_only_ceiling_is_exact(visual, num_choices, num_posts):
    dataset = SyntheticPosts(num_posts=num_posts, visual=visual,
                             num_choices=num_choices)
    assert len(dataset) == num_posts
    decides = [bool(post['image'].decides) for post in dataset]
    groups, rest = divmod(sum(decides), num_choices)
    assert rest == 0
    assert abs(sum(decides) - visual * num_posts) <= num_choices
    ceiling = (num_posts - sum(decides) + groups) / num_posts
    assert dataset.text_only_ceiling == pytest.approx(ceiling)
    assert lookup_accuracy(dataset) == pytest.approx(ceiling)
    assert dataset.visual_share == sum(decides) / num_posts


def test_twins(dataset):
    twins = defaultdict(list)
    for post in dataset:
        twins[tuple(post.words)].append(post)
    for group in twins.values():
        if len(group) == 1:
            assert not group[0]['image'].decides
            continue
        first, second = group
        assert first['image'].decides and second['image'].decides
        assert relation(dataset, first) != relation(dataset, second)
        assert first.entities == second.entities
        assert torch.equal(first['word'].head, second['word'].head)
        assert torch.equal(first['word'].pos_id, second['word'].pos_id)


def test_ceiling_of_a_slice(dataset):
    part = dataset[:300]
    assert part.text_only_ceiling == pytest.approx(lookup_accuracy(part))
    assert len(part.relation_ids) == 300
    assert '300 posts' in repr(part)


@pytest.mark.parametrize('kwargs', [
    dict(), dict(num_choices=3, distractors=3, detector_noise=0.5),
])
def test_text_and_objects_tell_every_relation(kwargs):
    dataset = SyntheticPosts(num_posts=600, **kwargs)
    cues = dataset.cue_relations
    for post in dataset:
        if not post['image'].decides:
            continue
        named = {i: cues[word] for i, word in enumerate(post.words)
                 if word in cues}
        assert len(set(named.values())) == dataset.num_choices
        word, shown = post[MATCHES].edge_index.tolist()
        answer = {named[w] for w in word if w in named}
        assert answer == {relation(dataset, post)}
        decides = post['object'].decides
        assert decides.sum() == 1
        assert int(decides.nonzero()) == next(
            o for w, o in zip(word, shown) if w in named)
        # No other object is of the class of a word that the image leaves out.
        label = post['object'].label_id
        assert (label == label[decides]).sum() == 1


def test_distractors_make_the_image_alone_ambiguous(dataset):
    relation_of = {dataset.word_objects[word]: name
                   for word, name in dataset.cue_relations.items()}
    names = list(dataset.vocabularies['object'])
    for post in dataset:
        if post['image'].decides:
            found = {names[i] for i in post['object'].label_id.tolist()}
            assert len({relation_of[n] for n in found
                        if n in relation_of}) >= 2


def test_nothing_else_tells_the_answer():
    dataset = SyntheticPosts(num_posts=2000, visual=1.0)
    cues, rows = dataset.cue_relations, []
    for post in dataset:
        decides = int(post['object'].decides.nonzero())
        box = post['object'].box[decides]
        named = [cues[word] for word in post.words if word in cues]
        size = post['object'].num_nodes
        rows.append([
            named.index(relation(dataset, post)),  # first or second cue
            relation(dataset, post) == 'None', size,
            (decides + 0.5) / size, float(box[0] + box[2]) / 2,
            float(box[1] + box[3]) / 2,
            float((box[2] - box[0]) * (box[3] - box[1])),
            float(post['object'].score[decides]),
            post['object', 'relates', 'object'].num_edges])
    table = torch.tensor(rows, dtype=torch.float)
    assert table[:, 0].mean() == 0.5
    assert abs(table[:, 3].mean() - 0.5) < 0.02
    # Three standard errors of a correlation of independent columns.
    correlation = torch.corrcoef(table[:, 1:].t())[0, 1:]
    assert correlation.abs().max() < 3 / 2000 ** 0.5
    # Every name is equally likely with every relation: the ten most frequent
    # first names are within chance of the base rate of None.
    seen = defaultdict(list)
    for post in dataset:
        for start, _, _ in post.entities:
            seen[post.words[start]].append(relation(dataset, post) == 'None')
    base = table[:, 1].mean()
    for found in sorted(seen.values(), key=len)[-10:]:
        error = (base * (1 - base) / len(found)) ** 0.5
        assert abs(sum(found) / len(found) - base) < 4 * error


def test_every_post_is_valid(dataset):
    order = set()
    for post in dataset:
        assert isinstance(post, Post) and post.validate()
        assert post.text.validate() and post.scene.validate()
        assert 6 <= len(post.words) <= 25
        assert post['object'].num_nodes <= 10
        assert int((post['word'].head < 0).sum()) == 1
        score = post['object'].score
        assert (score[:-1] >= score[1:]).all()
        assert post['object'].slot_id.tolist() == list(range(len(score)))
        (head, tail), = post['entity', 'relation', 'entity'].edge_index.t()
        assert (int(head), int(tail)) == (0, 1)
        order.add(post.entities[0] < post.entities[1])
        word = dataset.vocabularies['word']
        assert all(w in word for w in post.words)
        _trees_have_no_cycle(post['word'].head.tolist())
    assert order == {True, False}  # Either mention comes first.


def _trees_have_no_cycle(heads):
    for i in range(len(heads)):
        for _ in heads:
            i = heads[i] if i >= 0 else i
        assert i == -1


def test_types_fit_relations(dataset):
    names = dataset.vocabularies['entity']
    for post in dataset:
        label = relation(dataset, post)
        if label != 'None':
            head, tail = label.split('/')[1:3]
            (_, _, s), (_, _, t) = post.entities
            assert names.to_label(s) == head.upper()
            assert names.to_label(t) == tail.upper()


def test_labels_are_known(dataset):
    for name, kind in (('dependency', ('word', 'governs', 'word')),
                       ('predicate', ('object', 'relates', 'object'))):
        vocabulary = dataset.vocabularies[name]
        used = {i for post in dataset for i in post[kind].edge_type.tolist()}
        assert max(used) < len(vocabulary)
        if vocabulary.unknown is not None:
            assert vocabulary.to_id(vocabulary.unknown) not in used
    pos = {i for post in dataset for i in post['word'].pos_id.tolist()}
    assert dataset.vocabularies['pos'].to_id('unk') not in pos


def test_gold_matches(dataset):
    label = dataset.vocabularies['object']
    class_of_word = dataset.word_objects
    kinds = dataset.vocabularies['entity']
    for post in dataset:
        word, shown = post[MATCHES].edge_index.tolist()
        assert len(set(word)) == len(word) and len(set(shown)) == len(shown)
        last = {end - 1: kinds.to_label(kind)
                for _, end, kind in post.entities}
        for w, o in zip(word, shown):
            found = label.to_label(int(post['object'].label_id[o]))
            if w in last:
                assert found in SHOWN_AS[last[w]]
            elif post.words[w] in class_of_word:
                assert class_of_word[post.words[w]] == found
            else:  # a place beside the relation
                assert found in SHOWN_AS['LOC']


def test_irrelevant_images(dataset):
    flags = [bool(post['image'].relevant) for post in dataset]
    assert flags.count(False) == 200
    for post in dataset:
        if not post['image'].relevant:
            assert post[MATCHES].num_edges == 0
            assert not post['image'].decides
            assert post['object'].num_nodes >= 3
            assert not post['object'].decides.any()
    assert dataset.text_only_ceiling == 0.75


def test_all_irrelevant():
    dataset = SyntheticPosts(num_posts=20, visual=0.0, irrelevant=1.0)
    assert dataset.text_only_ceiling == 1.0
    assert not any(post['image'].relevant for post in dataset)


def _path(head, a, b):
    up = {i: [i] for i in (a, b)}
    for path in up.values():
        while head[path[-1]] >= 0:
            path.append(head[path[-1]])
    common = next(word for word in up[a] if word in up[b])
    return {*up[a][:up[a].index(common)], common,
            *up[b][:up[b].index(common)]}


def test_scene_mirrors_the_tree(clean):
    count = 0
    for post in clean:
        word, shown = post[MATCHES].edge_index.tolist()
        place = dict(zip(shown, word))
        head = post['word'].head.tolist()
        joined = {(s, o) for s, o in post[
            'object', 'relates', 'object'].edge_index.t().tolist()
            if s in place and o in place}
        for a, b in itertools.combinations(shown, 2):
            path = _path(head, place[a], place[b])
            free = not (path - {place[a], place[b]}) & set(word)
            assert free == bool({(a, b), (b, a)} & joined)
            count += free
    assert count > 300


def test_structure_tells_something():
    dataset = SyntheticPosts('test', num_posts=400)
    hits = chance = 0.0
    for post in dataset:
        source, target = batch_view(post, 'word'), batch_view(post, 'object')
        if target.num_nodes == 0:
            continue
        score = StructuralAligner(top_k=None)(source, target).dense()[0]
        best = score >= score.max(1, keepdim=True).values - 1e-6
        word, shown = post[MATCHES].edge_index
        hits += (best[word, shown] / best[word].sum(1)).sum().item()
        chance += len(word) / target.num_nodes
    assert hits > 1.4 * chance


def test_detector_noise():
    calm = SyntheticPosts(num_posts=400, detector_noise=0.0)
    wild = SyntheticPosts(num_posts=400, detector_noise=0.5)

    def gold(dataset):
        return sum(post[MATCHES].num_edges for post in dataset)
    assert gold(wild) < 0.8 * gold(calm)
    x = torch.cat([post['object'].x for post in wild])
    label = torch.cat([post['object'].label_id for post in wild])
    means = torch.stack([x[label == i].mean(0) for i in label.unique()])
    spread = (x - means[label.unique(return_inverse=True)[1]]).std()
    assert 0.45 < spread < 0.5


def test_loader_batches(dataset):
    batch = next(iter(DataLoader(dataset, batch_size=16)))
    assert batch['image'].decides.shape == (16, )
    assert batch[MATCHES].edge_index[0].max() < batch['word'].num_nodes
    batch.validate()
    assert same(batch.to_data_list(), [dataset[i] for i in range(16)])


def test_transform():
    def rename(post):
        post.post_id = 'renamed'
        return post
    dataset = SyntheticPosts(num_posts=4, transform=rename)
    assert dataset[0].post_id == 'renamed'
    assert dataset.post(0).post_id == 'train-0'


def test_draw(dataset):
    pytest.importorskip('PIL')
    picture = dataset.draw(0, size=(200, 150))
    assert picture.size == (200, 150)
    assert len(picture.getcolors(200 * 150)) > 50
    assert picture.tobytes() == dataset.draw(0, size=(200, 150)).tobytes()
    bare = dataset.draw(0, size=(200, 150), names=False)
    assert bare.tobytes() != picture.tobytes()
    for i in range(60):  # Every class is drawn.
        dataset.draw(i, size=(40, 30))


@pytest.mark.parametrize('kwargs,message', [
    (dict(split='tset'),
     r"'split' must name a split \(got 'tset'\); .* Did you mean 'test'\?"),
    (dict(num_posts=0), r"'num_posts' must be at least 1 \(got 0\)"),
    (dict(object_dim=0), r"'object_dim' must be at least 1 \(got 0\)"),
    (dict(visual=1.5), r"'visual' must be in \[0, 1\] \(got 1.5\)"),
    (dict(detector_noise=-0.1),
     r"'detector_noise' must be in \[0, 1\] \(got -0.1\)"),
    (dict(visual=0.7, irrelevant=0.4),
     r"'visual' and 'irrelevant' must not exceed 1 together "
     r'\(got 0.7 \+ 0.4\)'),
    (dict(num_choices=4), r"'num_choices' must be 2 or 3 \(got 4\)"),
    (dict(distractors=4), r"'distractors' must be in \[0, 3\] \(got 4\)"),
    (dict(seed=-1), r"'seed' must not be negative \(got -1\)"),
    (dict(cross=-0.5), r"'cross' must be in \[0, 1\] \(got -0.5\)"),
    (dict(visual=0.5, irrelevant=0.2, cross=0.4),
     r"'visual', 'irrelevant' and 'cross' must not exceed 1 together "
     r'\(got 0.5 \+ 0.2 \+ 0.4\)'),
    (dict(num_events=10), r"'num_events' must be a multiple of 4, .* and at "
     r'least 8 \(got 10\)'),
    (dict(num_events=4), r"'num_events' .* at least 8 \(got 4\)"),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SyntheticPosts(**kwargs)


def discrete(dataset):
    # What is no float: floats may differ in the last bit between machines.
    digest = hashlib.sha256()
    for post in dataset:
        for name, store in sorted(post.to_dict().items(), key=str):
            for key, value in sorted(store.items() if isinstance(store, dict)
                                     else [('', store)]):
                if isinstance(value, torch.Tensor):
                    if value.is_floating_point() or key == 'tag_id':
                        continue
                    value = value.tolist()
                digest.update(repr((name, key, value)).encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize('kwargs,digest,total', [
    (dict(num_posts=60), '45f4c7541b924bde', 17442.62965),
    (dict(split='test', num_posts=40, irrelevant=0.2, seed=3),
     'f982b62a6c191cd0', 12293.80778),
    (dict(split='val', num_posts=30, visual=0.3, num_choices=3,
          distractors=3, detector_noise=0.5, object_dim=8, seed=7),
     '67ead6db3a433d19', 2089.31303),
])
def test_draws_are_those_of_the_first_release(kwargs, digest, total):
    dataset = SyntheticPosts(**kwargs)
    assert discrete(dataset) == digest
    x = torch.cat([torch.cat([post['object'].x.flatten(),
                              post['object'].box.flatten()])
                   for post in dataset]).double()
    assert float(x.abs().sum()) == pytest.approx(total, rel=1e-5)


CROSS = dict(num_posts=320, visual=0.2, cross=0.5, num_events=16, seed=5)


@pytest.fixture(scope='module')
def crossed():
    return {split: SyntheticPosts(split, **CROSS)
            for split in ('train', 'val', 'test')}


@pytest.mark.parametrize('name', ['plain', 'cross'])
def test_tags_are_those_of_the_mentions(name, dataset, crossed):
    dataset = dataset if name == 'plain' else crossed['test']
    types = dataset.vocabularies['entity']
    assert dataset.vocabularies['tag'] == bio_vocabulary(types)
    for i, post in enumerate(dataset):
        tags = post['word'].tag_id.tolist()
        assert spans_of_tags(tags, 'strict') == sorted(post.entities)
        assert len(tags) == len(post.words)
        assert 'unknown' not in {types.to_label(kind)
                                 for _, _, kind in post.entities}
        assert torch.equal(dataset.post(i)['word'].tag_id, post['word'].tag_id)


def aliases(dataset):
    r"""Instance → (alias, its type, the text without it)."""
    found = {}
    for i in (dataset.text_events >= 0).nonzero().view(-1).tolist():
        post = dataset[i]
        at, = post['word'].cross.nonzero().view(-1).tolist()
        kind, = [kind for start, end, kind in post.entities
                 if (start, end) == (at, at + 1)]
        words = tuple(post.words)
        found[i] = (words[at], dataset.vocabularies['entity'].to_label(kind),
                    words[:at] + ('<unk>', ) + words[at + 1:])
    return found


def shown_type(post, dataset):
    r"""The one type that an image's objects show."""
    names = dataset.vocabularies['object']
    found = {TYPE_OF[label] for label in map(
        names.to_label, post['object'].label_id.tolist()) if label in TYPE_OF}
    return found.pop() if len(found) == 1 else None


@pytest.mark.parametrize('cross,num_posts', [
    (0.5, 800), (1.0, 803), (0.1, 57), (0.01, 50), (0.0, 10)])
def test_cross_share(cross, num_posts):
    dataset = SyntheticPosts(num_posts=num_posts, visual=0.0, cross=cross)
    assert len(dataset) == num_posts
    count = int((dataset.text_events >= 0).sum())
    assert count % 4 == 0 and abs(count - cross * num_posts) < 4
    assert dataset.cross_share == count / num_posts
    if cross:
        assert torch.equal(dataset.text_events >= 0, torch.tensor(
            [bool(post['word'].cross.any()) for post in dataset]))
        assert dataset[0]['region'].x.shape == (4, 64)
    else:
        assert 'region' not in dataset[0].node_types
    assert torch.equal(dataset.image_events >= 0, dataset.text_events >= 0)


def test_cross_twins(crossed):
    dataset = crossed['train']
    found, types = aliases(dataset), dataset.event_types
    twins = defaultdict(list)
    for i, (_, kind, rest) in found.items():
        twins[rest].append(i)
        assert types[dataset.text_events[i]] == kind
        assert relation(dataset, dataset[i]) == 'None'
        assert dataset.text_events[i] != dataset.image_events[i]
    shown = Counter()
    for group in twins.values():
        assert len(group) == 4
        assert sorted(found[i][1] for i in group) == sorted(set(types))
        kind, = {types[dataset.image_events[i]] for i in group}
        shown[kind] += 1
        tags = [dataset[i]['word'] for i in group]
        assert all(torch.equal(a.cross, tags[0].cross) for a in tags)
        assert all(torch.equal(a.head, tags[0].head) for a in tags)
    assert set(shown.values()) == {10}  # Balanced: 40 groups of 4 types.
    for event in (dataset.text_events, dataset.image_events):
        assert set(event[event >= 0].bincount().tolist()) == {10}


@pytest.mark.parametrize('num_events', [8, 12, 16, 20])
def test_no_image_shows_the_event_of_its_text(num_events):
    dataset = SyntheticPosts(num_posts=400, visual=0.0, cross=1.0,
                             num_events=num_events)
    assert (dataset.text_events != dataset.image_events).all()
    for event in (dataset.text_events, dataset.image_events):
        count = event.bincount()
        assert len(count) == num_events
        assert count.max() - count.min() <= 4
    # An image's event says nothing on the type of its text.
    pair = dataset.image_events * 4 + dataset.text_events % 4
    assert len(pair.unique()) > 3 * num_events


def test_no_alias_occurs_twice(crossed):
    words = {split: [word for word, _, _ in aliases(dataset).values()]
             for split, dataset in crossed.items()}
    every = sum(words.values(), [])
    assert len(set(every)) == len(every) == 480
    known = crossed['train'].vocabularies['word']
    assert not any(word in known for word in every)
    # Nor does one of a split of another size.
    larger = SyntheticPosts('test', 400, visual=0.0, cross=1.0, seed=5)
    assert not ({word for word, _, _ in aliases(larger).values()}
                & {*words['train'], *words['val']})


def test_aliases_of_a_small_alphabet(monkeypatch):
    # 256 words for 192 aliases: without care, some would be drawn twice.
    monkeypatch.setattr(grammar, 'ALIAS_CONSONANTS', 'bd')
    monkeypatch.setattr(grammar, 'ALIAS_VOWELS', 'ai')
    found = [word for split in ('train', 'val', 'test') for word, _, _
             in aliases(SyntheticPosts(split, 64, visual=0.0,
                                       cross=1.0)).values()]
    assert len(set(found)) == len(found) == 192


def test_text_and_own_image_tell_no_type(crossed):
    dataset = crossed['test']
    found = aliases(dataset)
    # Any function that knows the best answer to each text, or to each text
    # together with what its own image shows, is right on a quarter, exactly.
    for image in (False, True):
        seen = defaultdict(Counter)
        for i, (_, kind, rest) in found.items():
            shown = shown_type(dataset[i], dataset) if image else None
            assert not image or shown is not None
            seen[rest, shown][kind] += 1
        assert sum(max(c.values()) for c in seen.values()) == len(found) / 4
    # And so is one that was fitted to the aliases of another split.
    learned = {word: kind for word, kind, _
               in aliases(crossed['train']).values()}
    for kind in set(learned.values()):
        right = sum(learned.get(word, kind) == gold
                    for word, gold, _ in found.values())
        assert right == len(found) / 4


def test_letters_of_aliases_tell_no_type(crossed):
    # Naive Bayes over letter pairs and places, fitted to two splits.
    count = defaultdict(Counter)
    for split in ('train', 'val'):
        for word, kind, _ in aliases(crossed[split]).values():
            count[kind].update(_letters(word))
    found = aliases(crossed['test'])
    right = sum(kind == max(count, key=lambda k: sum(
        math.log(1 + count[k][feature]) for feature in _letters(word)))
        for word, kind, _ in found.values())
    error = (0.25 * 0.75 / len(found)) ** 0.5
    assert abs(right / len(found) - 0.25) < 3 * error


def _letters(word):
    return [(i, word[i:i + 2]) for i in range(0, len(word), 2)] + [
        (i, c) for i, c in enumerate(word)]


def best_span_f1(dataset):
    # Every subset size of groups of equal texts, by counting mentions.
    plain, groups = 0, defaultdict(list)
    found = aliases(dataset)
    for i, post in enumerate(dataset):
        plain += len(post.entities) - (i in found)
        if i in found:
            groups[found[i][2]].append(found[i][1])
    gold = plain + sum(map(len, groups.values()))
    answers = [sorted(((max(Counter(g).values()), len(g))
                       for g in groups.values()), key=lambda p: p[1])]
    best = 0.0
    for m in range(len(groups) + 1):
        hits = plain + sum(hit for hit, _ in answers[0][:m])
        said = plain + sum(size for _, size in answers[0][:m])
        precision, recall = hits / said, hits / gold
        best = max(best, 2 * precision * recall / (precision + recall))
    return best


def test_text_only_span_ceiling(crossed):
    dataset = crossed['test']
    assert dataset.text_only_span_ceiling == pytest.approx(6 / 7)
    assert dataset.text_only_span_ceiling == pytest.approx(
        best_span_f1(dataset))
    for size in (40, 160, 280):  # Groups of one to four twins.
        part = dataset[:size]
        assert part.cross_share != 0.5
        assert part.text_only_span_ceiling == pytest.approx(
            best_span_f1(part))
    every = SyntheticPosts(num_posts=40, visual=0.0, cross=1.0)
    assert every.text_only_span_ceiling == pytest.approx(best_span_f1(every))
    assert every.text_only_span_ceiling == pytest.approx(2 / 3)
    assert SyntheticPosts(num_posts=10).text_only_span_ceiling == 1.0
    # The relation of a cross post is told by its text.
    assert dataset.text_only_ceiling == pytest.approx(1 - 0.2 / 2)


def test_cross_posts_are_valid(crossed):
    for post in crossed['train']:
        post.validate()
        assert 6 <= len(post.words) <= 25
        _trees_have_no_cycle(post['word'].head.tolist())
        if post['word'].cross.any():
            assert not post['image'].relevant and not post['image'].decides
            assert post[MATCHES].num_edges == 0
    assert '160 cross' in repr(crossed['train'])
    batch = next(iter(DataLoader(crossed['train'], batch_size=16)))
    assert batch['region'].x.shape == (64, 64)
    assert same(batch.to_data_list(), list(crossed['train'][:16]))


def prototypes(dataset):
    r"""The classes of objects and what each looks like without noise."""
    labels = dataset.vocabularies['object']
    clean = SyntheticPosts(num_posts=300, detector_noise=0.0,
                           seed=dataset.seed, object_dim=dataset.object_dim)
    found = {int(i): x for post in clean
             for i, x in zip(post['object'].label_id, post['object'].x)}
    assert len(found) == len(labels)
    return list(labels), torch.stack([found[i] for i in range(len(labels))])


def decode(x, labels, table):
    r"""The class that each region shows, :obj:`None` for nothing."""
    nearest = torch.cdist(x, table).argmin(1).tolist()
    return [None if float(row.norm()) < 4 else labels[i]
            for row, i in zip(x, nearest)]


@pytest.mark.parametrize('noise', [0.0, 0.3])
def test_regions_show_objects(noise):
    dataset = SyntheticPosts(num_posts=200, visual=0.2, cross=0.5,
                             detector_noise=noise)
    labels, table = prototypes(dataset)
    more = 0
    for i, post in enumerate(dataset):
        own = [labels[j] for j in post['object'].label_id.tolist()]
        cells = [cell for cell in decode(post['region'].x, labels, table)
                 if cell is not None]
        assert len(cells) == min(4, len(own))
        assert not Counter(cells) - Counter(own)
        if dataset.text_events[i] >= 0:
            kind = dataset.event_types[dataset.image_events[i]]
            assert shown_type(post, dataset) == kind
            assert sum(cell in SHOWN_AS[kind] for cell in cells) == 2
            more += len(own) > 4
    assert (more > 0) == (noise > 0)


def test_cross_does_not_depend_on_the_image():
    first = SyntheticPosts(num_posts=80, visual=0.2, cross=0.5)
    second = SyntheticPosts(num_posts=80, visual=0.2, cross=0.5,
                            detector_noise=0.4, distractors=3, object_dim=8)
    assert [p.words for p in first] == [p.words for p in second]
    assert torch.equal(first.text_events, second.text_events)
    assert torch.equal(first.image_events, second.image_events)


def events_of(crossed):
    parts = [crossed[split] for split in ('train', 'val', 'test')]
    return (torch.cat([part.text_events for part in parts]),
            torch.cat([part.image_events for part in parts]))


def votes(graph, crossed):
    r"""Share of aliases whose type most regions of the neighbours show."""
    dataset = crossed['train']
    labels, table = prototypes(dataset)
    x = graph['image'].x
    cells = decode(x.view(-1, x.size(-1)), labels, table)
    shown = [Counter(TYPE_OF[c] for c in cells[i:i + x.size(1)]
                     if c in TYPE_OF) for i in range(0, len(cells), x.size(1))]
    event, _ = events_of(crossed)
    vote = defaultdict(Counter)
    for query, image in graph[INTER].edge_index.t().tolist():
        vote[query].update(shown[image])
    right = total = 0
    for query in (event >= 0).nonzero().view(-1).tolist():
        total += 1
        gold = dataset.event_types[event[query]]
        right += bool(vote[query]) and vote[query].most_common(
            1)[0][0] == gold
    return right / total, total


@pytest.mark.parametrize('pool', ['all', 'train'])
def test_neighbours_tell_every_type(pool, crossed):
    graph = crossed['test'].relation_graph(pool=pool)
    graph.validate()
    assert graph[INTER].num_edges == 5 * 960  # Enough for everybody.
    assert votes(graph, crossed) == (1.0, 480)
    query, image = graph[INTER].edge_index
    assert not (query == image).any()  # Own images
    assert (graph['image'].train_mask[image].all()) == (pool == 'train')
    # Anybody else's neighbours tell nothing.
    right, total = votes(graph.shuffled(seed=0), crossed)
    error = (0.25 * 0.75 / total) ** 0.5
    assert abs(right - 0.25) < 4 * error


def test_relation_graph(crossed):
    graph = crossed['val'].relation_graph(k=3, threshold=0.7)
    posts = [post for part in crossed.values() for post in part]
    for kind in ('text', 'image'):
        assert graph[kind].post_id == [post.post_id for post in posts]
        for i, split in enumerate(crossed):
            mask = torch.zeros(960, dtype=torch.bool)
            mask[320 * i:320 * (i + 1)] = True
            assert torch.equal(graph[kind][f'{split}_mask'], mask)
    assert torch.equal(graph['text'].image_index, torch.arange(960))
    assert 'x' not in graph['text']
    assert torch.equal(graph['image'].x, torch.stack(
        [post['region'].x for post in posts]))
    # Only texts about an event have anything in common with an image.
    event, shown = events_of(crossed)
    query, image = graph[INTER].edge_index
    assert torch.equal(query.bincount(minlength=960) == 3, event >= 0)
    assert torch.equal(event[query], shown[image])
    # Images are compared by the scores of their objects.
    scores = torch.zeros(960, len(crossed['val'].vocabularies['object']))
    for i, post in enumerate(posts):
        for j, s in zip(post['object'].label_id, post['object'].score):
            scores[i, j] = max(scores[i, j], s)
    intra = graph['image', 'resembles', 'image']
    row, col = intra.edge_index
    assert torch.allclose(intra.edge_weight, torch.cosine_similarity(
        scores[row], scores[col]), atol=1e-5)
    # A slice knows the whole corpus, and so does every split.
    # A post about no event has a topic, which its own image shares.
    other = crossed['val'].relation_graph(k=1, exclude_own=False)
    query, image = other[INTER].edge_index
    assert torch.equal(query == image, event < 0)
    other = crossed['train'][:7].relation_graph(k=3, threshold=0.7)
    assert torch.equal(other[INTER].edge_index, graph[INTER].edge_index)
    assert torch.equal(other['image'].x, graph['image'].x)


def test_noise_on_keys():
    kwargs = dict(num_posts=120, visual=0.0, cross=1.0, num_events=12)
    event, shown = events_of({split: SyntheticPosts(split, **kwargs)
                              for split in ('train', 'val', 'test')})
    dataset = SyntheticPosts(**kwargs)
    before = (_numpy_state(), torch.get_rng_state())
    share = []
    for noise in (0.0, 1.5, 3.0, 50.0):
        query, image = dataset.relation_graph(noise=noise)[INTER].edge_index
        right = (event[query] == shown[image])[event[query] >= 0]
        share.append(float(right.float().mean()))
    assert share[0] == 1.0 and share[3] < 0.15
    assert share == sorted(share, reverse=True) and len(set(share)) == 4
    assert _numpy_state() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_wrong_relation_graph(dataset, crossed):
    with pytest.raises(ValueError, match=r"'cross' must be positive.*0.0\)"):
        dataset.relation_graph()
    with pytest.raises(ValueError, match="'noise' must not be negative"):
        crossed['val'].relation_graph(noise=-1.0)
    with pytest.raises(ValueError, match="'pool' must be one of"):
        crossed['val'].relation_graph(pool='tset')
