import copy
import pickle
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from mmgraph.data import RelationGraph, neighbours
from mmgraph.data.relation_graph import MATCHES, RESEMBLES
from mmgraph.errors import MissingExtraError, ShapeError
from mmgraph.parse.neighbour_lists import read_neighbour_lists
from tests.data.cases import plain, saved
from tests.data.test_neighbours import clustered, oracle

SPLITS = ('train', 'val', 'test')


def features(n_text, n_image, dim=8, seed=0, lattice=False):
    rng = np.random.default_rng(seed)
    if lattice:
        draw = [rng.integers(3, size=(n, dim)).astype('f')
                for n in (n_text, n_image)]
    else:
        draw = [rng.normal(size=(n, dim)).astype('f')
                for n in (n_text, n_image)]
    return [torch.from_numpy(x) for x in draw]


def corpus(seed, lattice=False, **options: Any):
    """A random corpus: posts without image, images without post, splits."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(5, 40), rng.integers(5, 40)
    text, image = features(n, m, 6, seed, lattice)
    own = np.full(n, -1)
    size = rng.integers(1, min(n, m) + 1)
    own[rng.permutation(n)[:size]] = rng.permutation(m)[:size]
    options = dict(k=int(rng.integers(1, 6)), text_image=own.tolist(),
                   text_split=rng.integers(-1, 3, n).tolist()) | options
    return text, image, options


def edges(graph, relation):
    """A list of (neighbour, weight) for each query."""
    store = graph[relation]
    out = [[] for _ in range(graph[relation[0]].num_nodes)]
    for q, i, w in zip(*store.edge_index.tolist(),
                       store.edge_weight.tolist()):
        out[q].append((i, w))
    return out


def same(found, expected):
    assert [[i for i, _ in f] for f in found] == [
        [i for i, _ in e] for e in expected]
    for f, e in zip(found, expected):
        assert np.allclose([w for _, w in f], [w for _, w in e], atol=1e-6)


def reached(graph, rows, hops):
    """Plain walks: the images within some hops of texts, and the edges."""
    inter, intra = edges(graph, MATCHES), edges(graph, RESEMBLES)
    own = graph['text'].image_index.tolist()
    frontier = {own[t] for t in rows if own[t] >= 0}
    found = frontier | {i for t in rows for i, _ in inter[t]}
    expanded: set = set()
    for _ in range(hops):
        expanded |= frontier
        found |= {j for i in frontier for j, _ in intra[i]}
        frontier = found - expanded
    return found, expanded


# Construction ################################################################


@pytest.mark.parametrize('lattice', [False, True])
@pytest.mark.parametrize('seed', range(6))
def test_neighbours(seed, lattice):
    text, image, options = corpus(seed, lattice)
    graph = RelationGraph.from_features(text, image, drop_zero=False,
                                        **options)
    assert graph.validate()
    k, own = options['k'], options['text_image']
    q, p = text.numpy(), image.numpy()
    same(edges(graph, MATCHES), oracle(q, p, k, own))
    same(edges(graph, RESEMBLES), oracle(p, p, k, np.arange(len(p))))
    assert graph['image'].x is not None and graph.k == k
    for i, split in enumerate(SPLITS):
        mask = graph['text'][f'{split}_mask']
        assert mask.tolist() == [s == i for s in options['text_split']]
        images = {o for o, s in zip(own, options['text_split'])
                  if s == i and o >= 0}
        assert set(graph['image'][f'{split}_mask'].nonzero().view(-1)
                   .tolist()) == images


@pytest.mark.parametrize('seed', range(4))
def test_options(seed):
    text, image, options = corpus(seed, True, threshold=.5)
    q, p, k = text.numpy(), image.numpy(), options['k']
    expected = [[(i, w) for i, w in e if w >= .5]
                for e in oracle(q, p, k, options['text_image'])]
    graph = RelationGraph.from_features(text, image, **options)
    same(edges(graph, MATCHES), expected)
    options.pop('threshold')
    graph = RelationGraph.from_features(text, image, exclude_own=False,
                                        **options)
    expected = [[(i, w) for i, w in e if w != 0] for e in oracle(q, p, k)]
    same(edges(graph, MATCHES), expected)
    pooled = RelationGraph.from_features(text, image, pool='train', **options)
    outside = {(i, j) for i in range(len(q)) for j in
               (~graph['image'].train_mask).nonzero().view(-1).tolist()}
    expected = [[(i, w) for i, w in e if w != 0] for e in oracle(
        q, p, k, options['text_image'], outside)]
    same(edges(pooled, MATCHES), expected)
    assert plain(pooled.inductive('train')[MATCHES]) == plain(pooled[MATCHES])


@pytest.mark.parametrize('seed', range(4))
def test_hub_correction(seed):
    text, image, options = corpus(seed)
    q, p, k, own = (text.numpy(), image.numpy(), options['k'],
                    options['text_image'])
    nearest_texts = oracle(p, q, k)
    offset = [np.mean([w for _, w in near]) for near in nearest_texts]
    graph = RelationGraph.from_features(text, image, hub_correction='csls',
                                        drop_zero=False, **options)
    same(edges(graph, MATCHES), oracle(q, p, k, own, offset=offset))
    graph = RelationGraph.from_features(text, image, hub_correction='mutual',
                                        drop_zero=False, **options)
    same(edges(graph, MATCHES), [
        [(i, w) for i, w in found if t in [x for x, _ in nearest_texts[i]]]
        for t, found in enumerate(oracle(q, p, k, own))])
    # The other relation has no hubs to correct.
    same(edges(graph, RESEMBLES), oracle(p, p, k, np.arange(len(p))))


def test_hub_correction_helps():
    """A few images are near to every text; correction finds the others."""
    rng = np.random.default_rng(0)
    text, image = clustered(400, 32, 40, 0)
    common = np.eye(1, 32, dtype='f') * 5
    text += common
    image[:5] = common + .2 * rng.normal(size=(5, 32))
    top = {}
    for name in (None, 'mutual', 'csls'):
        graph = RelationGraph.from_features(text, image, hub_correction=name)
        top[name] = graph.report().matches.top_10
    assert top['csls'] < .6 * top[None] and top['mutual'] < .6 * top[None]


@pytest.mark.parametrize('tie_break', ['index', 'visual'])
@pytest.mark.parametrize('duplicates', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_object_types(tie_break, duplicates, seed):
    text, image, options = corpus(seed)
    rng = np.random.default_rng(seed)
    m = len(image)
    image[m // 2:] = image[:m - m // 2].clone()  # the same pictures again
    types = torch.from_numpy(rng.integers(2, size=(m, 3)).astype('f'))
    types[rng.random(m) < .3] *= 2  # parallel, not equal
    graph = RelationGraph.from_features(
        text, image, types, tie_break=tie_break, drop_zero=False,
        exclude_duplicates=duplicates, **options)
    looks = [dict(f) for f in oracle(image.numpy(), image.numpy(), m)]
    expected = []
    for i, found in enumerate(oracle(types.numpy(), types.numpy(), m)):
        ranked = [(-w, -looks[i][j] if tie_break == 'visual' else 0., j)
                  for j, w in found if j != i and not (
                      duplicates and torch.equal(image[i], image[j]))]
        expected.append([(j, -w) for w, _, j in
                         sorted(ranked)[:options['k']]])
    same(edges(graph, RESEMBLES), expected)


@pytest.mark.parametrize('seed', range(4))
def test_duplicates(seed):
    text, image, options = corpus(seed, lattice=True)
    rng = np.random.default_rng(seed)
    text = text[rng.integers(len(text) // 2, size=len(text))]
    image = image[rng.integers(len(image) // 2, size=len(image))]
    graph = RelationGraph.from_features(
        text, image, exclude_duplicates=True, **options)
    own = options['text_image']
    twins = (image[:, None] == image).all(2)
    barred = set()
    for t in range(len(text)):
        for u in range(len(text)):
            equal = torch.equal(text[t], text[u]) and bool(text[t].any())
            if own[u] >= 0 and (t == u or equal):
                barred |= {(t, j) for j in range(len(image))
                           if twins[own[u], j]}
    expected = oracle(text.numpy(), image.numpy(), options['k'], own, barred)
    same(edges(graph, MATCHES), [[e for e in f if e[1]] for f in expected])
    barred = {(i, j) for i, j in twins.nonzero().tolist()}
    expected = oracle(image.numpy(), image.numpy(), options['k'], None,
                      barred)
    same(edges(graph, RESEMBLES), [[e for e in f if e[1]] for f in expected])


@pytest.mark.parametrize('hub_correction', [None, 'csls', 'mutual'])
def test_blocks_threads_and_files_change_nothing(tmp_path, monkeypatch,
                                                 hub_correction):
    text, image, options = corpus(1)
    types = (image > .5).float()
    options |= dict(hub_correction=hub_correction, tie_break='visual')
    one = RelationGraph.from_features(text, image, types, **options)
    del one.bank
    for name, x in (('text', text), ('image', image), ('types', types)):
        np.save(tmp_path / f'{name}.npy', x.numpy())
    mapped = [np.load(tmp_path / f'{name}.npy', mmap_mode='r')
              for name in ('text', 'image', 'types')]
    monkeypatch.setattr(neighbours, '_GATHER', 40)
    for size in (1, 7):
        for inputs in (mapped, [text, image, types],
                       [x.numpy() for x in (text, image, types)]):
            other = RelationGraph.from_features(*inputs, block_size=size,
                                                **options)
            del other.bank
            assert plain(other) == plain(one)


def test_texts_do_not_disturb_each_other():
    text, image, options = corpus(2)
    own, split = options['text_image'], options['text_split']
    before = edges(RelationGraph.from_features(text, image, **options),
                   MATCHES)
    order = torch.randperm(len(text), generator=torch.Generator()
                           .manual_seed(0))
    options.update(text_image=[own[i] for i in order],
                   text_split=[split[i] for i in order])
    after = edges(RelationGraph.from_features(text[order], image, **options),
                  MATCHES)
    assert after == [before[i] for i in order]
    half = len(text) // 2
    options.update(text_image=own[:half], text_split=split[:half])
    assert edges(RelationGraph.from_features(text[:half], image, **options),
                 MATCHES) == before[:half]


def test_index():
    pytest.importorskip('faiss')
    text, image = clustered(3000, 24, 60, 0)
    exact, flat, lists = (RelationGraph.from_features(
        text, image, index=index)
        for index in ('exact', 'faiss:Flat', 'faiss'))
    for relation in (MATCHES, RESEMBLES):
        assert plain(exact[relation]) == plain(flat[relation])
        pairs = [{(a, b) for a, b in graph[relation].edge_index.t().tolist()}
                 for graph in (exact, lists)]
        assert len(pairs[0] & pairs[1]) > .95 * len(pairs[0])
        weight = dict(zip(map(tuple, exact[relation].edge_index.t().tolist()),
                          exact[relation].edge_weight.tolist()))
        for pair, value in zip(lists[relation].edge_index.t().tolist(),
                               lists[relation].edge_weight.tolist()):
            assert weight.get(tuple(pair), value) == value
    assert lists.insert(text[:3], image[:3]).validate()
    assert saved(lists).insert(text[:3], image[:3]).validate()


def test_index_without_faiss(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'faiss', None)
    with pytest.raises(MissingExtraError, match='faiss'):
        RelationGraph.from_features(torch.eye(3), torch.eye(3), index='faiss')


@pytest.mark.parametrize('n,m', [(0, 0), (0, 4), (4, 0), (1, 1), (3, 1),
                                 (1, 3)])
@pytest.mark.parametrize('options', [
    {}, dict(hub_correction='csls'), dict(hub_correction='mutual'),
    dict(exclude_duplicates=True), dict(pool='train'), dict(types=True),
    dict(types=True, tie_break='visual', exclude_duplicates=True)])
def test_small(n, m, options):
    options = dict(options)
    types = torch.ones(m, 2) if options.pop('types', False) else None
    text, image = features(n, m)
    graph = RelationGraph.from_features(text, image, types, k=9, **options)
    assert graph.validate()
    assert graph['text'].image_index.tolist() == (
        list(range(n)) if n == m else [-1] * n)
    if not options and types is None:
        found = edges(graph, MATCHES)
        assert all(len(f) == (m - 1 if n == m else m) for f in found)
    for rows in ([], list(range(n))):
        assert graph.gather(torch.tensor(rows, dtype=torch.long)).validate()
    assert graph.inductive('train').validate()
    assert graph.shuffled().validate()
    assert graph.insert(*features(2, 2), None if types is None
                        else torch.ones(2, 2)).validate()
    str(graph.report())
    assert saved(graph).validate()
    assert graph.to_messages().validate()


def test_zero_rows_have_no_edges():
    text, image = features(5, 5)
    text[1] = image[2] = 0
    graph = RelationGraph.from_features(text, image, k=3)
    assert edges(graph, MATCHES)[1] == [] == edges(graph, RESEMBLES)[2]
    assert all(i != 2 for f in edges(graph, MATCHES) for i, _ in f)
    kept = RelationGraph.from_features(text, image, k=4, drop_zero=False)
    assert edges(kept, MATCHES)[1] == [(i, 0.) for i in (0, 2, 3, 4)]


@pytest.mark.parametrize('change,error,message', [
    (dict(k=0), ValueError, r"'k' must be at least 1 \(got 0\)"),
    (dict(text_x=torch.full((4, 3), float('nan'))), ValueError,
     r"'text_x' must be finite \(got nan at row 0\)"),
    (dict(image_x=torch.ones(4, 5)), ShapeError,
     r'must be in one space \(got 3 and 5 channels\)'),
    (dict(object_types=torch.ones(2, 5)), ShapeError,
     r"'object_types' must have 4 rows \(got 2\)"),
    (dict(image_features=torch.ones(2, 5)), ShapeError,
     r"'image_features' must have 4 rows \(got 2\)"),
    (dict(text_split=['train', 'tset', 'val', 'val']), ValueError,
     r"'text_split' must name splits \(got 'tset'\); .* Did you mean 'test'"),
    (dict(text_split=[0]), ShapeError, r"'text_split' must have 4 rows"),
    (dict(text_image=[0, 1, 2, 4]), ValueError,
     r"'text_image' must hold rows in \[0, 4\), or -1 .*\(got 4 at row 3\)"),
    (dict(text_id=list('abca')), ValueError,
     r"'text_id' must hold an id once \(got 'a' again\)"),
    (dict(image_id=list('abc')), ShapeError,
     r"'image_id' must hold 4 ids \(got 3\)"),
    (dict(hub_correction='clss'), ValueError, "Did you mean 'csls'"),
    (dict(tie_break='looks'), ValueError, "'tie_break' must be one of"),
    (dict(pool='dev'), ValueError, "'pool' must be one of"),
    (dict(metric='l2'), ValueError, "'metric' must be one of"),
    (dict(index='hnsw'), ValueError, "'index' must name a search"),
])
def test_arguments_that_are_refused(change, error, message):
    text, image = features(4, 4, 3)
    with pytest.raises(error, match=message) as caught:
        RelationGraph.from_features(
            **dict(text_x=text, image_x=image) | change)
    assert '\n' not in str(caught.value)


def test_ids_join_texts_and_images():
    text, image = features(3, 4)
    graph = RelationGraph.from_features(
        text, image, text_id=['a', 'b', 'c'], image_id=['c', 'x', 'a', 'y'],
        text_split=['train', None, 'test'], text_features=torch.ones(3, 2),
        image_features=torch.ones(4, 5, 2))
    assert graph['text'].image_index.tolist() == [2, -1, 0]
    assert graph['image'].train_mask.tolist() == [0, 0, 1, 0]
    assert graph['image'].test_mask.tolist() == [1, 0, 0, 0]
    assert graph['text'].x.shape == (3, 2)
    part = graph.gather(['c', 'b'])
    assert part['text'].post_id == ['c', 'b']
    assert part['image'].x.shape[1:] == (5, 2)
    assert part['image'].post_id == [
        graph['image'].post_id[i] for i in part['image'].n_id]


# Neighbour lists #############################################################


class Record(NamedTuple):
    post_id: str
    split: str
    inter_ids: list
    inter_scores: list
    intra_ids: list
    intra_scores: list


RECORDS = [
    Record('a', 'train', ['b', 'z', 'c'], [.9, .8, .7], ['c', 'b'], [1., 0.]),
    Record('b', 'val', ['a', 'c'], [.9, .9], ['y', 'a'], [0., 0.]),
    Record('c', 'test', [], [], ['a'], [.5]),
]


def test_lists():
    graph = RelationGraph.from_neighbour_lists(RECORDS, k=2,
                                               posts=[('d', 'train'),
                                                      ('a', 'test')])
    assert graph.validate()
    assert graph['text'].post_id == list('abcd')
    assert graph['image'].post_id == list('abcdzy')
    assert graph['text'].image_index.tolist() == [0, 1, 2, 3]
    assert graph['text'].train_mask.tolist() == [1, 0, 0, 1]
    assert graph['image'].train_mask.tolist() == [1, 0, 0, 1, 0, 0]
    assert graph['image'].test_mask.tolist() == [0, 0, 1, 0, 0, 0]
    same(edges(graph, MATCHES), [[(1, .9), (4, .8)], [(0, .9), (2, .9)], [],
                                 []])
    same(edges(graph, RESEMBLES), [[(2, 1.)], [], [(0, .5)], [], [], []])
    graph = RelationGraph.from_neighbour_lists(RECORDS, k=2, drop_zero=False,
                                               pool='test')
    same(edges(graph, MATCHES), [[(2, .7)], [(2, .9)], []])
    graph = RelationGraph.from_neighbour_lists(RECORDS, threshold=.85)
    same(edges(graph, MATCHES), [[(1, .9)], [(0, .9), (2, .9)], []])
    assert 'x' not in graph['image']
    assert graph.gather(['b', 'c']).validate()
    with pytest.raises(ValueError, match='built by from_features'):
        graph.insert(torch.ones(1, 1))


def test_lists_with_features():
    order = list('zyxcba')
    x = torch.arange(6.).view(6, 1, 1)
    graph = RelationGraph.from_neighbour_lists(
        RECORDS, image_id=order, image_features=x)
    part = graph.gather(['c'])
    assert {n: float(v) for n, v in zip(part['image'].post_id,
                                        part['image'].x)} == {'c': 3, 'a': 5}


@pytest.mark.parametrize('records,options,message', [
    (RECORDS + RECORDS[:1], {}, r'one record a post \(got 4 for 3 posts\)'),
    ([RECORDS[0]._replace(inter_scores=[1.])], {},
     r"post 'a': 'inter_ids' and 'inter_scores' must be equally long "
     r'\(got 3 and 1\)'),
    ([RECORDS[2]._replace(intra_scores=[float('nan')])], {},
     r"scores of 'resembles' must be finite \(got nan\)"),
    (RECORDS, dict(image_id=['a', 'b', 'c', 'z']),
     r"post 'b': image 'y' must be in 'image_id'"),
    (RECORDS[:1], dict(image_id=['b', 'c', 'z']),
     r"post 'a' must have its own image in 'image_id'"),
    (RECORDS, dict(image_features=torch.ones(5, 1)), "need 'image_id'"),
    ([RECORDS[0]._replace(split='dev')], {}, r"must name splits \(got 'dev'"),
])
def test_lists_that_are_refused(records, options, message):
    with pytest.raises(ValueError, match=message):
        RelationGraph.from_neighbour_lists(records, **options)


@pytest.mark.real_data
@pytest.mark.parametrize('year,queries,images,matches,leakage', [
    ('2015', (3999, 999, 3256), 8286, (779, .444, .425, .858, 2),
     (.497, .121, .291, .090)),
    ('2017', (3373, 723, 723), 4819, (659, .335, .318, .812, 1),
     (.749, .144, .107, 0)),
])
def test_real_lists(data_root, year, queries, images, matches, leakage):
    """The facts that the specification of the corpora lists."""
    path = next(data_root.rglob(f'twitter{year}/train_2.txt')).parent
    records = [
        record for split, name in zip(SPLITS, ('train', 'valid', 'test'))
        for record in read_neighbour_lists(path / f'{name}_2.txt', split)]
    graph = RelationGraph.from_neighbour_lists(records, drop_zero=False)
    assert graph['image'].num_nodes == images
    assert [int(graph['text'][f'{s}_mask'].sum()) for s in SPLITS] == [
        *queries]
    train = graph.report('train')
    found = train.matches
    assert (found.distinct, *(round(x, 3) for x in (
        found.most_frequent, found.top_10, found.top_100))) == matches[:4]
    assert np.allclose(found.leakage[0], leakage, atol=6e-4)
    assert graph.report().matches.components == matches[4]
    intra = train.resembles
    assert (intra.num_queries, intra.distinct) == (
        (3999, 6844) if year == '2015' else (3373, 4247))
    assert round(intra.zero_lists * intra.num_queries) == (
        622 if year == '2015' else 548)
    assert graph.report().resembles.largest == (
        4469 if year == '2015' else 2404)
    control = graph.shuffled(0)
    assert control.validate()
    assert control.report('train').matches.leakage == found.leakage
    for relation in (MATCHES, RESEMBLES):
        kept = (control[relation].edge_index == graph[relation].edge_index)
        assert kept[0].all() and kept[1].float().mean() < .2


# Leakage #####################################################################


@pytest.mark.parametrize('seed', range(8))
def test_nothing_leaks(seed):
    text, image, options = corpus(seed)
    graph = RelationGraph.from_features(text, image, **options)
    control = graph.shuffled(seed)
    for split in SPLITS:
        for whole in (graph, control):
            part = whole.inductive(split)
            assert part.validate()
            allowed = part['image'][f'{split}_mask']
            for relation in (MATCHES, RESEMBLES):
                # All edges into images of the split remain, in order.
                kept = [[e for e in f if allowed[e[0]]]
                        for f in edges(whole, relation)]
                assert edges(part, relation) == kept
            rows = part['text'][f'{split}_mask'].nonzero().view(-1)
            if rows.numel() == 0:
                continue
            for hops in (1, 2, 5, 40):
                found = part.gather(rows, hops)['image']
                assert found[f'{split}_mask'].all()
            assert allowed[list(reached(part, rows.tolist(), 40)[0])].all()
    # The test would notice: the whole graph does leak.
    rows = graph['text'].train_mask.nonzero().view(-1)
    if rows.numel() > 2:
        assert not graph.gather(rows, 2)['image'].train_mask.all()


def test_inserted_posts_look_up_the_split_only():
    text, image, options = corpus(4)
    for correction in (None, 'csls', 'mutual'):
        graph = RelationGraph.from_features(
            text, image, hub_correction=correction, **options)
        more = features(4, 4, 6, 9)
        new = graph.inductive('train').insert(*more, text_split=['train'] * 4)
        old = graph['image'].num_nodes
        targets = new[MATCHES].edge_index[1]
        assert new['image'].train_mask[targets].all() and (targets < old).all()
        assert (new[MATCHES].edge_index[0] >= len(text)).any() \
            or correction == 'mutual'


# Insertion ###################################################################


@pytest.mark.parametrize('options', [
    {}, dict(hub_correction='csls'), dict(hub_correction='mutual'),
    dict(exclude_duplicates=True), dict(pool='train'),
    dict(types=True), dict(types=True, tie_break='visual'),
    dict(types=True, exclude_duplicates=True),
    dict(types=True, tie_break='visual', exclude_duplicates=True)])
@pytest.mark.parametrize('seed', range(2))
def test_insert(options, seed):
    options = dict(options)
    text, image, more = corpus(seed, lattice=True)
    with_types = options.pop('types', False)
    types = (image > 1).float() if with_types else None
    graph = RelationGraph.from_features(text, image, types, **more, **options)
    before = plain(graph.to_dict() | dict(bank=None))
    n, m = len(text), len(image)
    # Posts that are there already, and new ones.
    new_text = torch.cat([text[:4], features(3, 1, 6, 50)[0]])
    new_image = torch.cat([image[:4], features(3, 1, 6, 51)[0]])
    new_types = (new_image > 1).float() if with_types else None
    for base in (graph, saved(graph), copy.deepcopy(graph)):
        out = base.insert(new_text, new_image, new_types)
        assert out.validate() and out['text'].num_nodes == n + 7
        for relation, number in ((MATCHES, n), (RESEMBLES, m)):
            found = edges(out, relation)
            # What was there stays as it was, and nothing finds what is new.
            assert found[:number] == edges(graph, relation)
            assert all(i < m for f in found for i, _ in f)
        assert out['text'].image_index[n:].tolist() == list(range(m, m + 7))
        assert torch.equal(out['image'].x[m:], new_image)
        assert not out['text'].train_mask[n:].any()
    assert plain(graph.to_dict() | dict(bank=None)) == before

    def tail(graph, relation, number):
        return edges(graph, relation)[number:]

    # In any order, and one by one, with the same result.
    order = [5, 2, 0, 6, 1, 4, 3]
    turned = graph.insert(new_text[order], new_image[order],
                          None if types is None else new_types[order])
    one = graph
    for i in range(7):
        one = one.insert(new_text[[i]], new_image[[i]],
                         None if types is None else new_types[[i]])
    for relation, number in ((MATCHES, n), (RESEMBLES, m)):
        expected = tail(out, relation, number)
        assert tail(turned, relation, number) == [expected[i] for i in order]
        assert tail(one, relation, number) == expected
    # As if it had been there: an old text without an own image finds the
    # same again.
    if not options.get('exclude_duplicates'):
        graph = RelationGraph.from_features(text, image, types, **options,
                                            exclude_own=False, k=3,
                                            text_split=more['text_split'],
                                            text_image=more['text_image'])
        out = graph.insert(text)
        assert tail(out, MATCHES, n) == edges(graph, MATCHES)


def test_insert_excludes_duplicates():
    text, image, options = corpus(1)
    graph = RelationGraph.from_features(text, image, exclude_duplicates=True,
                                        **options)
    own = options['text_image']
    post = next(t for t in range(len(text)) if own[t] >= 0)
    out = graph.insert(text[[post]], image[[own[post]]] * 1)
    old, new = (edges(out, MATCHES)[i] for i in (post, -1))
    assert old == new
    old, new = (edges(out, RESEMBLES)[i] for i in (own[post], -1))
    assert old == new


def test_insert_is_refused():
    text, image, options = corpus(0)
    graph = RelationGraph.from_features(text, image, **options)
    for args, kwargs, message in [
            ((text[:, :2], ), {}, r"'text_x' must have 6 channels \(got 2"),
            ((text[:1], image[:1], image[:1]), {}, "'object_types' must be"),
            ((text[:1], ), dict(text_id=['0']), "'text_id' must hold an id"),
            ((text[:1] * float('nan'), ), {}, "'text_x' must be finite"),
            ((None, image[:2]), dict(image_features=torch.ones(1, 6)),
             r"'image_features' must have shape \[2, 6\] \(got \[1, 6\]\)")]:
        with pytest.raises(ValueError, match=message):
            graph.insert(*args, **kwargs)
    with pytest.raises(ValueError, match='shuffled'):
        graph.shuffled().insert(text[:1])
    graph = RelationGraph.from_features(text, image, image > 0, **options)
    with pytest.raises(ValueError, match="'object_types' must be given"):
        graph.insert(text[:1], image[:1])
    graph['text'].x = text
    with pytest.raises(ValueError, match="'text_features' must be given"):
        graph.insert(text[:1])


# Gathering ###################################################################


@pytest.mark.parametrize('hops', [1, 2, 3])
@pytest.mark.parametrize('seed', range(5))
def test_gather(seed, hops):
    text, image, options = corpus(seed)
    graph = RelationGraph.from_features(
        text, image, text_features=text,
        image_features=torch.randn(len(image), 3, 2), **options)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(text))[:rng.integers(1, 6)].tolist()
    part = graph.gather(torch.tensor(rows), hops)
    assert isinstance(part, RelationGraph) and part.validate()
    found, expanded = reached(graph, rows, hops)
    n_id = part['image'].n_id.tolist()
    assert n_id == sorted(found)
    assert part['text'].n_id.tolist() == rows
    for kind in ('text', 'image'):
        ids = part[kind].n_id
        for key in ('x', 'train_mask', 'val_mask', 'test_mask'):
            assert torch.equal(part[kind][key], graph[kind][key][ids])
        assert part[kind].post_id == [graph[kind].post_id[i] for i in ids]
    own = graph['text'].image_index[rows].tolist()
    assert [i if i < 0 else n_id[i]
            for i in part['text'].image_index.tolist()] == own
    whole = edges(graph, MATCHES)
    assert [[(n_id[i], w) for i, w in f] for f in edges(part, MATCHES)] == [
        whole[t] for t in rows]
    whole = edges(graph, RESEMBLES)
    assert [[(n_id[i], w) for i, w in f]
            for f in edges(part, RESEMBLES)] == [
        whole[i] if i in expanded else [] for i in n_id]
    by_id = graph.gather([graph['text'].post_id[t] for t in rows], hops)
    assert plain(by_id) == plain(part)
    # A part of it is a part of the whole.
    again = part.gather(torch.tensor([0]), hops)
    alone = graph.gather(torch.tensor(rows[:1]), hops)
    assert part['image'].n_id[again['image'].n_id].tolist() \
        == alone['image'].n_id.tolist()


def test_gather_a_query_twice():
    graph = RelationGraph.from_features(*features(6, 6), k=2)
    part = graph.gather(torch.tensor([3, 3]))
    assert edges(part, MATCHES)[0] == edges(part, MATCHES)[1]
    assert part['text'].post_id == ['3', '3'] and part.validate()


def test_gather_is_refused():
    graph = RelationGraph.from_features(*features(6, 6))
    for queries, message in [
            (torch.tensor([6]), r'rows in \[0, 6\) \(got 6\)'),
            (torch.tensor([-1]), r'\(got -1\)'),
            (torch.tensor([1.]), 'int64 tensor'),
            (torch.tensor([[1]]), 'int64 tensor'),
            (['7'], r"ids of this graph's 6 posts \(got '7'\)")]:
        with pytest.raises(ValueError, match=message):
            graph.gather(queries)
    with pytest.raises(ValueError, match="'num_hops' must be at least 1"):
        graph.gather(['1'], 0)


def test_tables_follow_the_edges():
    """What is cached is made anew where edges or ids have changed."""
    graph = RelationGraph.from_features(*features(6, 6), k=2)
    before = plain(graph.gather(['0']))
    other = copy.copy(graph)
    store = other[MATCHES]
    store.edge_index = store.edge_index[:, 1:]
    store.edge_weight = store.edge_weight[1:]
    assert len(other.gather(['0'])[MATCHES].edge_weight) == 1
    assert plain(graph.gather(['0'])) == before
    graph[MATCHES].edge_index[0, :2] = 1  # in place
    assert len(graph.gather(['0'])[MATCHES].edge_weight) == 0
    graph['text'].post_id = list('abcdef')
    assert len(graph.gather(['b'])[MATCHES].edge_weight) == 4
    graph[MATCHES].edge_index[0, 0] = 5
    with pytest.raises(ValueError, match="'matches' must be sorted by query"):
        graph.gather(['b'])


# The control #################################################################


@pytest.mark.parametrize('seed', range(6))
def test_shuffled(seed):
    text, image, options = corpus(seed)
    graph = RelationGraph.from_features(text, image, **options)
    state = torch.random.get_rng_state()
    control = graph.shuffled(seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert control.validate()
    assert plain(graph.shuffled(seed)) == plain(control)
    for relation in (MATCHES, RESEMBLES):
        old, new = graph[relation], control[relation]
        assert torch.equal(old.edge_index[0], new.edge_index[0])
        assert torch.equal(old.edge_weight, new.edge_weight)
        assert torch.equal(old.edge_index[1].bincount(minlength=len(image)),
                           new.edge_index[1].bincount(minlength=len(image)))
    before, after = graph.report(), control.report()
    assert after.matches.leakage == before.matches.leakage
    assert after.resembles.leakage == before.resembles.leakage
    own = torch.tensor(options['text_image'])
    row, col = control[MATCHES].edge_index
    assert (own[row] != col).all()


def test_shuffled_takes_the_signal_away():
    text, image = clustered(600, 32, 20, 0)
    graph = RelationGraph.from_features(text, image)
    index, weight = graph[MATCHES].edge_index, graph[MATCHES].edge_weight
    x = [torch.nn.functional.normalize(torch.from_numpy(y), dim=1)
         for y in (text, image)]

    def agreement(index):
        return float((x[0][index[0]] * x[1][index[1]]).sum(1).mean())

    assert abs(agreement(index) - float(weight.mean())) < 1e-5
    assert agreement(graph.shuffled()[MATCHES].edge_index) \
        < .2 * agreement(index)


# Report, checks, storage #####################################################


def test_report():
    graph = RelationGraph.from_neighbour_lists(RECORDS, drop_zero=False)
    report = graph.report()
    m, r = report.matches, report.resembles
    assert (m.num_queries, m.num_edges, m.num_without) == (3, 5, 1)
    assert (m.mean_degree, m.max_degree, m.distinct) == (5 / 3, 3, 4)
    assert m.most_frequent == 2 / 3 and m.top_10 == m.top_100 == 1
    assert m.leakage[0] == (0, 1 / 3, 1 / 3, 1 / 3)
    assert m.leakage[1] == (.5, 0, .5, 0) and m.leakage[2] == (0, 0, 0, 0)
    count = np.array([1, 1, 2, 1, 0])
    center = count - count.mean()
    assert m.skewness == pytest.approx(
        (center**3).mean() / (center**2).mean()**1.5)
    assert (m.zero, m.tied, m.zero_lists) == (0, 2 / 5, 0)
    # Texts a, b and images a, b, c, z hang together; text c finds nothing.
    assert (m.components, m.isolated, m.largest) == (2, 1, 6)
    assert (r.num_queries, r.num_edges, r.num_without) == (5, 5, 2)
    assert (r.zero, r.tied, r.zero_lists) == (3 / 5, 2 / 5, 1 / 3)
    assert (r.components, r.isolated, r.largest) == (4, 3, 2)
    part = graph.report('train')
    assert (part.matches.num_queries, part.matches.num_edges) == (1, 3)
    assert part.resembles.zero == .5
    assert 'edges into the 10 most frequent' in str(report)
    with pytest.raises(ValueError, match="'split' must be one of"):
        graph.report('dev')


@pytest.mark.parametrize('change,message', [
    (lambda g: g[MATCHES].edge_index.__setitem__((1, 0), 6),
     r"'text matches image': target positions must be in \[0, 6\) \(got 6"),
    (lambda g: g[MATCHES].edge_index.__setitem__((0, 0), 5),
     "edges of 'matches' must be sorted by query"),
    (lambda g: g[RESEMBLES].edge_index.__setitem__((1, 0), 0),
     r"'resembles' must not join an image to itself \(got 0\)"),
    (lambda g: g[MATCHES].edge_index.__setitem__(
        (1, 0), g[MATCHES].edge_index[1, 1].clone()),
     "'matches' must not join two nodes twice"),
    (lambda g: g[MATCHES].edge_weight.fill_(float('nan')),
     "'matches.edge_weight' must be finite"),
    (lambda g: g['text'].image_index.fill_(6),
     r"'text.image_index' must be in \[-1, 6\) \(got 6 at row 0\)"),
    (lambda g: g['text'].post_id.append('x'),
     "'text.post_id' must hold one id a node"),
    (lambda g: g['text'].post_id.__setitem__(0, '1'),
     "'text.post_id' must not hold an id twice"),
    (lambda g: g['image'].update({'val_mask': torch.ones(2)}),
     r"'image.val_mask' must have one row a node \(got 2 for 6\)"),
])
def test_validate(change, message):
    graph = RelationGraph.from_features(*features(6, 6), k=2)
    assert graph.validate()
    change(graph)
    with pytest.raises(ValueError, match=f'^RelationGraph: .*{message}'):
        graph.validate()
    assert not graph.validate(raise_on_error=False)


@pytest.mark.parametrize('options', [
    {}, dict(hub_correction='csls'), dict(hub_correction='mutual'),
    dict(exclude_duplicates=True)])
def test_storage(options, tmp_path):
    graph = RelationGraph.from_features(*features(7, 7), **options)
    expected = plain(graph.gather(['3', '1'], 2))
    torch.save(graph, tmp_path / 'graph.pt')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loaded = torch.load(tmp_path / 'graph.pt', weights_only=True)
    for other in (loaded, saved(graph), copy.copy(graph),
                  copy.deepcopy(graph), graph.clone(), graph.to('cpu'),
                  pickle.loads(pickle.dumps(graph))):
        assert type(other) is RelationGraph and repr(other) == repr(graph)
        assert other.validate()
        assert plain(other.gather(['3', '1'], 2)) == expected
        assert edges(other.insert(features(1, 1)[0]), MATCHES) == edges(
            graph.insert(features(1, 1)[0]), MATCHES)
    for store in copy.copy(graph).to('meta').stores:
        for key, value in store.items():
            assert not isinstance(value, torch.Tensor) or value.is_meta, key


def test_repr():
    assert repr(RelationGraph()) == 'RelationGraph()'
    graph = RelationGraph.from_neighbour_lists(RECORDS)
    assert repr(graph) == ('RelationGraph(3 texts, 5 images | 5 matches, '
                           '2 resembles | k=5)')


def test_progress(capsys):
    RelationGraph.from_features(*features(3, 3), hub_correction='csls',
                                log=True)
    shown = capsys.readouterr().err
    for label in ('hubs', 'matches', 'resembles'):
        assert label in shown
    RelationGraph.from_features(*features(3, 3))
    assert capsys.readouterr().err == ''


# PyG #########################################################################


def test_messages():
    text, image, options = corpus(3)
    graph = RelationGraph.from_features(text, image, **options)
    out = graph.to_messages()
    assert type(out) is HeteroData and out.validate()
    assert torch.equal(out['image', 'matches', 'text'].edge_index,
                       graph[MATCHES].edge_index.flip(0))
    assert torch.equal(out['image', 'resembles', 'image'].edge_weight,
                       graph[RESEMBLES].edge_weight)
    pairs = out['image', 'pairs', 'text'].edge_index.t().tolist()
    assert pairs == [[i, t] for t, i in enumerate(options['text_image'])
                     if i >= 0]


def test_neighbor_loader():
    """PyG's own sampler takes the graph where its extensions are."""
    try:
        import pyg_lib  # noqa: F401
    except ImportError:
        pytest.importorskip('torch_sparse')
    from torch_geometric.loader import NeighborLoader
    text, image, options = corpus(3)
    graph = RelationGraph.from_features(text, image, **options)
    data = graph.to_messages()
    loader = NeighborLoader(
        data, num_neighbors={kind: [-1, -1] for kind in data.edge_types},
        input_nodes=('text', torch.arange(len(text))), batch_size=2)
    own = options['text_image']
    inter, intra = edges(graph, MATCHES), edges(graph, RESEMBLES)
    seen = 0
    for batch in loader:
        rows = batch['text'].n_id[:batch['text'].batch_size].tolist()
        seen += len(rows)
        first = {own[t] for t in rows if own[t] >= 0} | {
            i for t in rows for i, _ in inter[t]}
        second = first | {j for i in first for j, _ in intra[i]}
        n_id = batch['image'].n_id.tolist()
        assert set(n_id) == second
        assert torch.equal(batch['image'].x, graph['image'].x[n_id])
        store = batch['image', 'matches', 'text']
        found = [[] for _ in rows]
        for (i, t), w in zip(store.edge_index.t().tolist(),
                             store.edge_weight.tolist()):
            found[t].append((n_id[i], w))
        assert [sorted(f) for f in found] == [sorted(inter[t]) for t in rows]
        # Two of its hops begin at the text: ours of one is inside.
        assert set(graph.gather(torch.tensor(rows))['image'].n_id
                   .tolist()) <= second
    assert seen == len(text)
