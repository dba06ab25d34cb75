import itertools
import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, HeteroData

from mmgraph.data import Post, RelationGraph, Vocabulary
from mmgraph.data.relation_graph import MATCHES, RESEMBLES
from mmgraph.errors import ShapeError
from mmgraph.models.mner import CrossSampleNER
from mmgraph.nn.encoders import (
    CharEmbedding,
    CharWordEncoder,
    TransformerTextEncoder,
)
from mmgraph.testing.cross_sample import (
    cross_sample_oracle,
    published_image_oracle,
    published_star_oracle,
    published_text_oracle,
)
from tests.data.cases import make_text
from tests.nn.encoders.cases import BERT, with_tokens

WORDS = Vocabulary(['<unk>', 'ann', 'met', 'bob', 'one'], unknown='<unk>')
D, R, K = 6, 49, 5
PUBLISHED = CrossSampleNER.PUBLISHED
SETTINGS = {
    'default': {},
    'mean of nodes': dict(readout='mean_nodes', temperature=None),
    'not normalised': dict(norm='none', temperature=0.5),
    'position': dict(fusion='position'),
    'published': PUBLISHED,
    'published, broadcast': {**PUBLISHED, 'fusion': 'broadcast'},
    'w/o gate': dict(use_gate=False),
    'w/o inter': dict(use_inter=False),
    'w/o intra': dict(use_intra=False),
    'w/o both': dict(use_inter=False, use_intra=False),
    'published w/o gate': {**PUBLISHED, 'use_gate': False},
}
every_setting = pytest.mark.parametrize('name', SETTINGS)
some_settings = pytest.mark.parametrize(
    'name', ['default', 'published', 'w/o gate'])
both_encoders = pytest.mark.parametrize('kind', ['token', 'word'])
every_case = pytest.mark.parametrize(
    'name, kind', [(name, 'word') for name in SETTINGS]
    + [('default', 'token'), ('published', 'token')])


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def post_of(text, spans=(), image=None, regions=True):
    """With the features of ``image`` as its regions (none without one)."""
    x = torch.empty(0, D)
    if image is not None:
        x = IMAGES[image].float()
    post = Post.build(make_text(text), None, spans, post_id=text or 'none',
                      region_x=x if regions else None,
                      has_image=image is not None)
    tags = torch.zeros(len(post.words), dtype=torch.long)
    for start, end, kind in spans:
        tags[start:end] = 2 + 2 * kind
        tags[start] = 1 + 2 * kind
    post['word'].tag_id = tags
    return with_tokens(post, seed=len(text))


IMAGES = draw(9, R, D).float().double()
# Text: own image, neighbours of the text; what is left out has none.
TEXTS = [('Ann met Bob Ray there', [(0, 1, 0), (2, 4, 1)], 0),
         ('no image here', [(1, 2, 0)], None),
         ('one', [(0, 1, 1)], 2),
         ('', [], 3),
         ('nobody resembles it', [], 4),
         ('nor matches this', [], 1),
         ('two posts with one image Bob', [(5, 6, 1)], 0),
         (' '.join(f'word{i}' for i in range(19)), [], 5),
         ('nothing but zeros', [(0, 1, 0)], 6)]
MATCH = {0: [3, 8, 1, 4, 7], 1: [2, 0, 5, 6, 1], 2: [5], 3: [1, 2],
         4: [8, 0, 1, 2, 3], 6: [7, 8, 1, 2, 3], 7: [0, 1, 2, 3, 4],
         8: [7, 8]}
SCORE = {i: [.9, .85, .8, .74, .7] for i in MATCH} | {8: [0.] * 5}
RESEMBLE = {0: [5, 4, 7, 1, 8], 1: [0, 2, 3, 4, 5], 2: [8, 7], 5: [0],
            6: [1, 2], 8: [2, 1]}
LIKENESS = {i: [1., 1., .99, .985, .98] for i in RESEMBLE} | {6: [0.] * 5}


def make_posts(regions=True):
    return [post_of(*text, regions) for text in TEXTS]


def corpus(images=IMAGES):
    """All posts and images as one graph."""
    graph = RelationGraph()
    graph['text'].num_nodes = len(TEXTS)
    graph['text'].post_id = [str(i) for i in range(len(TEXTS))]
    graph['text'].image_index = torch.tensor(
        [-1 if own is None else own for *_, own in TEXTS])
    graph['image'].num_nodes = len(images)
    graph['image'].post_id = [str(i) for i in range(len(images))]
    graph['image'].x = images.float()
    for relation, table, score in ((MATCHES, MATCH, SCORE),
                                   (RESEMBLES, RESEMBLE, LIKENESS)):
        edges = [(i, j, w) for i in sorted(table)
                 for j, w in zip(table[i], score[i])]
        row, col, weight = zip(*edges)
        graph[relation].edge_index = torch.tensor([row, col])
        graph[relation].edge_weight = torch.tensor(weight)
    return graph


def gather(rows, images=IMAGES, num_hops=1):
    return corpus(images).gather(torch.tensor(list(rows)), num_hops)


def make_batch(rows=None, graph=None, regions=True, **kwargs):
    rows = range(len(TEXTS)) if rows is None else rows
    posts = make_posts(regions)
    batch = Batch.from_data_list([posts[i] for i in rows])
    batch.neighbours = gather(rows, **kwargs) if graph is None else graph
    return batch


def make_encoder(kind='token'):
    if kind == 'token':
        return TransformerTextEncoder({**BERT, 'max_position_embeddings': 64})
    return CharWordEncoder(WORDS, 4, CharEmbedding(dim=2, out_channels=4),
                           hidden_channels=4)


def make(name='default', kind='token', dtype=torch.double, **kwargs):
    kwargs = dict(region_channels=D, num_heads=2) | SETTINGS[name] | kwargs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = CrossSampleNER(make_encoder(kind), 2, **kwargs)
        for key, value in model.named_parameters():
            if not key.startswith('encoder'):  # Nothing is near zero.
                torch.nn.init.normal_(value, std=0.4)
    return model.to(dtype).eval()


def inputs(model, batch):
    """What enters the attention: T' on real rows, and V' with its mask."""
    seen = {}

    def keep(name):
        return lambda _, args: seen.update({name: args})

    handles = [getattr(model, name).register_forward_pre_hook(keep(name))
               for name in ('text_layer', 'image_layer')]
    with torch.no_grad():
        model(batch)
        x = model.encoder(batch)
    for handle in handles:
        handle.remove()
    text, mask = seen['text_layer']
    image, real = seen.get('image_layer', (None, None))
    return x, text[mask], image, real


def sizes_of(batch, node_type):
    return batch[node_type].ptr.diff().tolist()


def weights_of(model):
    return {key: value.double().numpy()
            for key, value in model.state_dict().items()}


# Against the oracles


@both_encoders
def test_published_states(kind):
    """T' and V' are those of the published code, five neighbours each."""
    model, rows = make('published', kind), [0, 1, 4, 6, 7, 5]
    batch, w = make_batch(rows), weights_of(model)
    x, text, image, _ = inputs(model, batch)
    sizes = sizes_of(batch, model.encoder.node_type)
    assert max(sizes) > 10
    images, checked = IMAGES.numpy(), 0
    for b, (old, new) in enumerate(zip(x.split(sizes), text.split(sizes))):
        own = TEXTS[rows[b]][2]
        for table, score, key in ((MATCH, SCORE, rows[b]),
                                  (RESEMBLE, LIKENESS, own)):
            if len(table.get(key, [])) != K:
                continue
            kind = 'inter' if table is MATCH else 'intra'
            star = published_star_oracle(
                np.float32(score[key]).astype(float), images[table[key]],
                w[f'{kind}.lin.weight'].T, w[f'{kind}.bias'])
            if kind == 'inter':
                exact, out = published_text_oracle(
                    old.numpy(), star, w['lin_inter.weight'].T,
                    w['text_gate.lin.weight'].T), new
            else:
                exact, out = published_image_oracle(
                    images[own], star, w['image_gate.lin.weight'].T), image[b]
            torch.testing.assert_close(out, torch.from_numpy(exact),
                                       atol=1e-10, rtol=0)
            checked += 1
    assert checked == 8


def gated(x, context, weight, use_gate):
    g = 1 / (1 + np.exp(-(x + context) @ weight.T)) if use_gate else 1
    return x + g * context


@both_encoders
@pytest.mark.parametrize(
    'name', ['default', 'mean of nodes', 'not normalised', 'w/o gate',
             'position'])
def test_states(name, kind):
    model = make(name, kind)
    batch, w = make_batch(), weights_of(model)
    x, text, image, real = inputs(model, batch)
    images, options = IMAGES.numpy(), {
        key: getattr(model.inter, key)
        for key in ('center', 'readout', 'norm', 'temperature')}
    use_gate = model.text_gate is not None
    sizes = sizes_of(batch, model.encoder.node_type)
    for b, (old, new) in enumerate(zip(x.split(sizes), text.split(sizes))):
        own = TEXTS[b][2]
        table, key = MATCH.get(b, []), min(len(old), 1)
        mean = old.numpy().sum(0) / max(len(old), 1)
        query = mean @ w['lin_text.weight'].T + w['lin_text.bias']
        regions = R if name == 'position' else 1
        star = cross_sample_oracle(
            np.stack([query] * regions),
            images[table] if name == 'position' else
            images[table].mean(1, keepdims=True),
            np.float32(SCORE.get(b, [])).astype(float)[:len(table)],
            w['inter.lin.weight'].T, w['inter.bias'], **options)
        slots = star.reshape(-1, w['lin_inter.weight'].shape[1])
        context = slots @ w['lin_inter.weight'].T
        if name == 'position':
            context = context[:len(old)]
        exact = old.numpy()
        if key:
            exact = gated(exact, context, w.get('text_gate.lin.weight'),
                          use_gate)
        torch.testing.assert_close(new, torch.from_numpy(exact), atol=1e-10,
                                   rtol=0)
        if own is None:
            assert not real[b].any()
            continue
        table = RESEMBLE.get(own, [])
        star = cross_sample_oracle(
            images[own], images[table],
            np.float32(LIKENESS.get(own, [])).astype(float)[:len(table)],
            w['intra.lin.weight'].T, w['intra.bias'], **options)
        exact = gated(images[own], star, w.get('image_gate.lin.weight'),
                      use_gate)
        torch.testing.assert_close(image[b], torch.from_numpy(exact),
                                   atol=1e-10, rtol=0)


def test_later_positions_take_nothing():
    """The published code has two positions a region and no more."""
    model, rows = make('position'), [7]
    batch = make_batch(rows, images=IMAGES[:, :5])
    batch['region'].x = batch['region'].x[:5]
    batch['region'].ptr = torch.tensor([0, 5])
    batch['region'].batch = torch.zeros(5).long()
    x, text, _, _ = inputs(model, batch)
    assert x.size(0) > 11
    changed = (text != x).any(dim=1)
    assert changed[:10].sum() > 5 and not changed[10:].any()


# Batches


@every_case
def test_alone_is_in_a_batch(name, kind):
    """Whoever else is there, in whatever order, and however much more of the
    corpus.
    """
    model, posts = make(name, kind), range(len(TEXTS))
    with torch.no_grad():
        alone = [model(make_batch([i])).emissions for i in posts]
        for rows in (posts[::-1], [3], [2, 7, 2, 6], [5, 0]):
            for num_hops in 1, 2:
                batch = make_batch(rows, num_hops=num_hops)
                out = model(batch)
                torch.testing.assert_close(
                    out.emissions, torch.cat([alone[i] for i in rows]),
                    atol=1e-9, rtol=0)
                assert torch.equal(out.ptr, batch['word'].ptr)
        found = model.decode(model(make_batch()), make_batch())
        batch = make_batch(posts[::-1])
        assert model.decode(model(batch), batch) == found[::-1]


@some_settings
def test_single_post_needs_no_batch(name):
    model = make(name)
    post = make_posts()[0]
    post.neighbours = gather([0])
    out, batch = model(post), make_batch([0])
    torch.testing.assert_close(out.emissions, model(batch).emissions)
    torch.testing.assert_close(model.loss(out, post),
                               model.loss(model(batch), batch))


# What the graph adds


@some_settings
def test_no_neighbours_add_nothing(name):
    """No graph, no relation, no edge, no image: the states stay as they are,
    to the last bit.
    """
    model, posts = make(name), range(len(TEXTS))
    plain = Batch.from_data_list(make_posts())
    assert 'neighbours' not in plain
    graphs = [gather(posts) for _ in range(3)]
    for relation in MATCHES, RESEMBLES:
        graphs[0][relation].edge_index = torch.empty(2, 0, dtype=torch.long)
        graphs[0][relation].edge_weight = torch.empty(0)
        del graphs[1][relation]
        graphs[2][relation].edge_index = torch.empty(2, 0, dtype=torch.long)
        graphs[2][relation].edge_weight = torch.empty(0)
    graphs[2]['image'].x = torch.empty(0, R, D)
    graphs[2]['text'].image_index = torch.full((len(TEXTS), ), -1)
    for batch in plain, *(make_batch(graph=graph) for graph in graphs):
        x, text, image, real = inputs(model, batch)
        assert torch.equal(x, text)
        assert torch.equal(image[real], batch['region'].x.double())
    full = model(make_batch()).emissions.split([len(p.words)
                                                for p in make_posts()])
    none = model(plain).emissions.split([len(p.words) for p in make_posts()])
    assert not torch.allclose(full[0], none[0], atol=1e-3)
    assert torch.equal(full[3], none[3])  # It has no word.


def test_zero_scores_add_nothing():
    model = make()
    x, text, image, _ = inputs(model, make_batch())
    sizes = sizes_of(make_batch(), 'token')
    same = [torch.equal(a, b) for a, b in zip(x.split(sizes),
                                              text.split(sizes))]
    assert [i for i, value in enumerate(same) if value] == [5, 8]
    own = [0, None, 2, 3, 4, 1, 0, 5, 6]
    same = [i for i, o in enumerate(own) if o is not None
            and torch.equal(image[i], IMAGES[o])]
    assert same == [3, 4, 8]


def test_only_neighbours_are_heard():
    """An image changes the posts that it is a neighbour of, or whose own
    image it is, and no other.
    """
    model = make()
    before = model(make_batch())
    sizes = before.ptr.diff().tolist()
    for image in range(9):
        images = IMAGES.clone()
        images[image] += 1
        after = model(make_batch(images=images)).emissions
        for i, (a, b) in enumerate(zip(before.emissions.split(sizes),
                                       after.split(sizes))):
            own = TEXTS[i][2]
            heard = sum(SCORE.get(i, [])) > 0 and image in MATCH.get(i, [])
            if own is not None and own in RESEMBLE and LIKENESS[own][0]:
                heard |= image in RESEMBLE[own] or image == own
            assert torch.equal(a, b) == (not heard or not len(a)), (image, i)


@pytest.mark.parametrize('name, relations, gone', [
    ('w/o inter', [MATCHES], {'inter', 'lin_text', 'lin_inter', 'text_gate'}),
    ('w/o intra', [RESEMBLES], {'intra', 'image_gate'}),
    ('w/o both', [MATCHES, RESEMBLES],
     {'inter', 'lin_text', 'lin_inter', 'text_gate', 'intra', 'image_gate'}),
])
def test_ablations_remove_their_branch(name, relations, gone):
    """Nothing else: the whole model without these edges is the same."""
    full, less = make(), make(name)
    parts = {key.split('.')[0] for key in full.state_dict()}
    assert parts - {key.split('.')[0] for key in less.state_dict()} == gone
    less.load_state_dict({key: value for key, value
                          in full.state_dict().items()
                          if key.split('.')[0] not in gone})
    out = less(make_batch()).emissions
    assert not torch.allclose(full(make_batch()).emissions, out, atol=1e-3)
    graph = gather(range(len(TEXTS)))
    for relation in relations:
        del graph[relation]
    torch.testing.assert_close(full(make_batch(graph=graph)).emissions, out)


def test_without_gate():
    full, less = make(), make('w/o gate')
    keys = set(full.state_dict()) - set(less.state_dict())
    assert keys == {'text_gate.lin.weight', 'image_gate.lin.weight'}
    assert set(less.state_dict()) < set(full.state_dict())


def test_graph_of_image_vectors():
    """Images of the graph may be one vector each: all regions hear it."""
    model, vectors = make(), IMAGES[:, 0]
    batch = make_batch(images=vectors)
    _, _, image, _ = inputs(model, batch)
    _, _, other, _ = inputs(model, make_batch(
        images=vectors.unsqueeze(1).expand(-1, R, -1)))
    torch.testing.assert_close(image, other)
    x, text, _, _ = inputs(make('published'), batch)
    changed = (x != text).any(dim=1).split(sizes_of(batch, 'token'))
    assert changed[0].tolist() == [True] * 2 + [False] * (len(changed[0]) - 2)


@some_settings
def test_without_regions(name):
    """No region store, or not one row in it: the graph still is heard."""
    model = make(name)
    batch = make_batch(regions=False)
    assert 'region' not in batch.node_types
    out = model(batch).emissions
    empty = make_batch()
    empty['region'].x = empty['region'].x[:0]
    empty['region'].batch = empty['region'].batch[:0]
    empty['region'].ptr = torch.zeros_like(empty['region'].ptr)
    torch.testing.assert_close(model(empty).emissions, out)
    sizes = model(batch).ptr.diff().tolist()
    full = model(make_batch()).emissions
    for i, (a, b) in enumerate(zip(out.split(sizes), full.split(sizes))):
        same = TEXTS[i][2] is None or not len(a)
        assert torch.allclose(a, b, atol=1e-9) == same
    assert torch.isfinite(model.loss(model(batch), batch))


# Training


@every_case
def test_gradient_reaches_all_parameters(name, kind):
    model, batch = make(name, kind), make_batch()
    model.loss(model(batch), batch).backward()
    for key, value in model.named_parameters():
        if key == 'encoder.bert.pooler.dense.weight' or 'pooler' in key:
            continue
        assert value.grad is not None and value.grad.isfinite().all(), key
        if 'lin_key.bias' not in key:  # The softmax does not see it.
            assert value.grad.any(), key


@some_settings
def test_loss_falls(name):
    model, batch = make(name, dtype=torch.float), make_batch()
    for module in model.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    model.train()
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize('relation', ['matches', 'resembles'])
@pytest.mark.parametrize('name', ['default', 'published, broadcast'])
def test_learns_what_only_neighbours_tell(relation, name):
    """All posts read alike and show the same image; images of other posts
    tell the type. Without the graph, at best half can be right.
    """
    size = 12
    own = torch.zeros(size).long()
    kind = (torch.arange(size) % 2 == 0).long()
    x = torch.cat([draw(size, 1, D), draw(20, 1, D, seed=1)]).float()
    x[:size] = x[0]
    x[size:, :, 0] = torch.tensor([1., -1.]).repeat(10).view(-1, 1) * 2
    posts = []
    for i in range(size):
        post = Post.build(make_text('Ann met'), None, [(0, 1, int(kind[i]))],
                          post_id=str(i), region_x=x[i], has_image=True)
        post['word'].tag_id = torch.tensor([1 + 2 * int(kind[i]), 0])
        posts.append(post)
    generator = torch.Generator().manual_seed(0)
    pick = size + 2 * torch.randint(10, (size, 3), generator=generator)
    pick = pick + kind.unsqueeze(1)
    row = torch.arange(size).repeat_interleave(3)
    graph = HeteroData()
    graph['text'].num_nodes = size
    graph['text'].image_index = torch.arange(size) if relation == 'resembles' \
        else own
    graph['image'].x = x
    for edge_type in MATCHES, RESEMBLES:
        graph[edge_type].edge_index = torch.empty(2, 0, dtype=torch.long)
        graph[edge_type].edge_weight = torch.empty(0)
    store = graph[MATCHES if relation == 'matches' else RESEMBLES]
    store.edge_index = torch.stack([row, pick.view(-1)])
    store.edge_weight = torch.full((row.numel(), ), 0.7)
    score = {}
    for heard in True, False:
        batch = Batch.from_data_list(posts)
        if heard:
            batch.neighbours = graph
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CrossSampleNER(make_encoder('word'), 2, D, num_heads=2,
                                   **SETTINGS[name])
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
            for _ in range(30):
                optimizer.zero_grad()
                model.loss(model(batch), batch).backward()
                optimizer.step()
        model.eval()
        found = model.decode(model(batch), batch)
        score[heard] = np.mean([[e.type_id for e in entities] == [k]
                                for entities, k in zip(found, kind.tolist())])
    assert score[True] == 1 and score[False] <= 0.5


@some_settings
def test_reduced_precision(name):
    model, batch = make(name), make_batch()
    exact = model(batch).emissions
    model = model.float()
    torch.testing.assert_close(model(batch).emissions.double(), exact,
                               atol=1e-4, rtol=0)
    with torch.autocast('cpu', torch.bfloat16):
        out = model(batch)
        loss = model.loss(out, batch)
    scale = exact.abs().max()
    assert (out.emissions.double() - exact).abs().mean() < 0.05 * scale
    loss.backward()
    assert torch.isfinite(loss)
    batch.neighbours['image'].x = batch.neighbours['image'].x.half()
    torch.testing.assert_close(model(batch).emissions.double(), exact,
                               atol=0.05, rtol=0)


# The rest


@every_setting
def test_config(name):
    model = make(name, 'word', dtype=torch.float)
    again = CrossSampleNER.from_config(
        json.loads(json.dumps(model.get_config()))).eval()
    assert again.get_config() == model.get_config()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(make_batch()).emissions,
                       model(make_batch()).emissions)


def test_settings_differ():
    batch = make_batch()
    outs = {name: make(name)(batch).emissions for name in SETTINGS}
    for a, b in itertools.combinations(outs, 2):
        assert (outs[a] - outs[b]).abs().max() > 1e-4, (a, b)


def test_cut_words_have_no_emission():
    """As in all taggers: words without a piece are left out."""
    batch = make_batch([0, 2])
    part = batch['token', 'part_of', 'word']
    part.edge_index = part.edge_index[:, part.edge_index[1] != 1]
    out = make()(batch)
    assert out.word.tolist() == [0, 2, 3, 4, 5]
    assert out.ptr.tolist() == [0, 4, 5]


@pytest.mark.parametrize('kwargs, message', [
    (dict(num_types=0), "'num_types' must be positive"),
    (dict(region_channels=0), "'region_channels' must be positive"),
    (dict(fusion='positions'), "'fusion' must be .* mean 'position'"),
    (dict(fusion='position', region_channels=5), "'region_channels' must be "
     'even'),
    (dict(num_heads=4), "'channels' must be divisible by 'num_heads'"),
    (dict(center='image'), "'center' must be one of"),
])
def test_arguments(kwargs, message):
    kwargs = dict(num_types=2, region_channels=D, num_heads=2) | kwargs
    with pytest.raises(ValueError, match=message):
        CrossSampleNER(make_encoder('word'), **kwargs)


def test_wrong_input():
    model = make()
    with pytest.raises(ValueError, match='one text a post .*got 2 for 3'):
        model(make_batch([0, 1, 2], graph=gather([0, 1])))
    graph = gather([0, 1])
    del graph['image'].x
    with pytest.raises(ValueError, match='have no features'):
        model(make_batch([0, 1], graph=graph))
    with pytest.raises(ShapeError, match="'region.x' must have .* .got 6"):
        make(region_channels=8)(make_batch())
    batch = make_batch(images=IMAGES[..., :4])
    with pytest.raises(ShapeError, match='neighbours.* = 6 columns .got 4'):
        model(batch)
    batch = make_batch(images=IMAGES[:, :7])
    with pytest.raises(ShapeError, match=r'regions .*got 49 and 7'):
        model(batch)
