import itertools
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, batch_view
from mmgraph.datasets.synthetic import SyntheticPosts
from mmgraph.nn.align import StructuralAligner

MATCHES = ('word', 'matches', 'object')


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
    shown_as = {'PER': {'man', 'woman'}, 'ORG': {'logo', 'banner'},
                'LOC': {'skyline', 'tower'}, 'MISC': {'poster', 'screen'}}
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
                assert found in shown_as[last[w]]
            elif post.words[w] in class_of_word:
                assert class_of_word[post.words[w]] == found
            else:  # a place beside the relation
                assert found in shown_as['LOC']


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
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SyntheticPosts(**kwargs)
