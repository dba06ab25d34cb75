import json

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary, batch_view
from mmgraph.errors import ShapeError
from mmgraph.models import Entity, Relation
from mmgraph.models.mre import MEGA
from mmgraph.nn.align import StructuralAligner
from mmgraph.nn.encoders import (
    CharEmbedding,
    CharWordEncoder,
    TransformerTextEncoder,
)
from mmgraph.testing import mega_oracle
from mmgraph.transforms import Align, WordPieces
from tests.data.cases import make_scene, make_text
from tests.models.mre.cases import OBJECT_DIM, Planted, make_posts, planted
from tests.nn.align.test_structural import oracle as structural_oracle
from tests.nn.encoders.cases import BERT

WORDS = Vocabulary(['<unk>', 'mira', 'lake', 'one'], unknown='<unk>')
TOP_1 = dict(aligner=StructuralAligner(top_k=1))
SETTINGS = {
    'MTB': dict(use_semantic=False, object_channels=None),
    'BERT+SG': dict(use_semantic=False, use_objects=True),
    'BERT+SG+Att': dict(),
    'MEGA (Top-1)': TOP_1,
    'MEGA Top-5': dict(aligner=StructuralAligner(top_k=5)),
    'MEGA Top-10': dict(aligner=StructuralAligner(top_k=10)),
    'paper': dict(TOP_1, fusion='sum'),
    'sum, sigmoid': dict(TOP_1, fusion='sum', semantic_sigmoid=True),
    'concat, no sigmoid': dict(TOP_1, semantic_sigmoid=False),
    'first piece': dict(aligner=Planted(), pieces='first'),
    'planted': dict(aligner=Planted()),
    'alpha alone': dict(aligner=Planted(), use_semantic=False,
                        object_channels=None),
    'alpha alone, sum': dict(aligner=Planted(), use_semantic=False,
                             object_channels=None, fusion='sum'),
    'everything': dict(aligner=Planted(), use_objects=True),
    'everything, sum': dict(aligner=Planted(), use_objects=True,
                            fusion='sum'),
}
every_setting = pytest.mark.parametrize('name', SETTINGS)
some_settings = pytest.mark.parametrize(
    'name', ['BERT+SG', 'MEGA (Top-1)', 'paper', 'everything'])


def make_encoder(kind='token'):
    if kind == 'token':
        return TransformerTextEncoder(BERT)
    return CharWordEncoder(WORDS, 4, CharEmbedding(dim=2, out_channels=4),
                           hidden_channels=4)


def make(name='MEGA (Top-1)', kind='token', dtype=torch.double, **kwargs):
    kwargs = dict(object_channels=OBJECT_DIM) | SETTINGS[name] | kwargs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = MEGA(make_encoder(kind), 5, hidden_channels=8, **kwargs)
    return model.to(dtype).eval()


def parts(post):
    """What the oracle needs to know of one post."""
    n = len(post.words)
    return n, post['object'].num_nodes


def expected(model, post, **kwargs):
    """The oracle on one post; α is read from the aligner, one post alone."""
    kind = model.encoder.node_type
    states = model.encoder(post).detach()
    n, m = parts(post)
    if kind == 'word':
        owner, first = list(range(n)), [min(span) for span in spans(post)]
    else:
        owner = [None] * post['token'].num_nodes
        for piece, word in post['token', 'part_of', 'word'].edge_index.t():
            owner[int(piece)] = int(word)
        entity, token = post['entity', 'marked_by',
                             'token'].edge_index.tolist()
        first = [token[entity.index(e)] for e in sorted(set(entity))]
    alpha = None
    if model.aligner is not None and n and m:
        alpha = model(post).alignment.dense(n, m)[0]
    elif model.aligner is not None:
        alpha = torch.zeros(n, m)
    objects = post['object'].x.double().numpy()
    weights = {key: value.double().numpy()
               for key, value in model.state_dict().items()}
    return torch.from_numpy(mega_oracle(
        weights, states.double().numpy(),
        None if model.object is None else objects, m,
        [(first[h], first[t]) for h, t, _ in post.relations],
        None if alpha is None else alpha.double().numpy(), owner,
        use_semantic=model.semantic is not None,
        use_objects=model.use_objects, fusion=model.fusion,
        sigmoid=model.sigmoid, pieces=model.pieces, **kwargs)).view(-1, 5)


def spans(post):
    return [range(start, end) for start, end, _ in post.entities]


def check(model, posts, tolerance, **kwargs):
    with torch.no_grad():
        out = model(Batch.from_data_list(posts)).logits
        for post in posts:
            size = len(post.relations)
            torch.testing.assert_close(
                out[:size].double(), expected(model, post, **kwargs),
                atol=tolerance, rtol=0)
            out = out[size:]
    assert out.shape == (0, 5)


@pytest.mark.parametrize('kind', ['token', 'word'])
@every_setting
def test_oracle(name, kind):
    check(make(name, kind), make_posts(), 1e-10)


@every_setting
def test_oracle_in_single_precision(name):
    check(make(name, dtype=torch.float), make_posts(), 1e-5)


@pytest.mark.parametrize('top_k', [1, 5, 10])
def test_alpha_is_the_structural_alignment(top_k):
    model = make(aligner=StructuralAligner(top_k=top_k))
    posts = make_posts()
    found = model(Batch.from_data_list(posts)).alignment.dense()
    for i, post in enumerate(posts):
        alpha = structural_oracle(batch_view(post, 'word'),
                                  batch_view(post, 'object'), top_k)
        n, m = alpha.shape
        torch.testing.assert_close(found[i, :n, :m], alpha, atol=1e-7, rtol=0,
                                   check_dtype=False)
        assert found[i].count_nonzero() == alpha.count_nonzero()


@pytest.mark.parametrize('kind', ['token', 'word'])
@every_setting
def test_alone_is_in_a_batch(name, kind):
    """So padding, by longer posts or by more objects, changes nothing."""
    model, posts = make(name, kind), make_posts()
    with torch.no_grad():
        alone = [model(post).logits for post in posts]
        for order in (range(7), range(6, -1, -1), [1, 0], [2, 4, 2], [3, 6]):
            batch = Batch.from_data_list([posts[i] for i in order])
            torch.testing.assert_close(
                model(batch).logits, torch.cat([alone[i] for i in order]),
                atol=1e-10, rtol=0)


@pytest.mark.parametrize('name', ['planted', 'everything, sum'])
def test_alpha_is_transposed_and_not_reshaped(name):
    model, post = make(name, 'word'), make_posts()[0]
    n, m = parts(post)
    alpha = planted(*torch.meshgrid(torch.arange(n), torch.arange(m),
                                    indexing='ij'))
    x = model.encoder(post)
    carried = model._carry(post, x, model(post).alignment)
    torch.testing.assert_close(carried[0], (alpha.t() @ model.text(x)).sum(0))
    reshaped = (alpha.reshape(m, n) @ model.text(x)).sum(0)
    assert (carried[0] - reshaped).abs().max() > 1e-3


def test_stored_alignment_is_taken():
    posts = [Align(Planted())(_featured(post)) for post in make_posts()]
    model = make('MEGA (Top-1)')
    batch = Batch.from_data_list(posts)
    out = model(batch)
    assert torch.equal(out.alignment.match_index,
                       batch['word', 'aligns', 'object'].edge_index)
    live = make('planted')
    live.load_state_dict(model.state_dict())
    plain = Batch.from_data_list(make_posts())
    torch.testing.assert_close(out.logits, live(plain).logits, atol=1e-6,
                               rtol=0)
    assert not torch.allclose(out.logits, model(plain).logits)
    check(model, posts, 1e-10)
    without = make('BERT+SG+Att')  # It has no use for an alignment.
    torch.testing.assert_close(without(batch).logits, without(plain).logits)


def _featured(post):
    post['word'].x = torch.zeros(len(post.words), 1)
    return post


@pytest.mark.parametrize('fusion', ['concat', 'sum'])
@pytest.mark.parametrize('which', [1, 2])
def test_post_without_objects_has_no_context(fusion, which):
    """Without objects or image nothing but the mentions is classified."""
    post = make_posts()[which]
    model = make('everything', fusion=fusion, use_objects=True)
    for batch in post, Batch.from_data_list([post] * 2), \
            Batch.from_data_list(make_posts()):
        out = model(batch)
        assert torch.isfinite(out.logits).all()
    x = model.encoder(post)
    head, tail = (post['entity', 'marked_by', 'token'].edge_index[1][e]
                  for e in post.relations[0][:2])
    pair = torch.cat([x[head], x[tail], x.new_zeros(8)])
    logits = model.head.classifier(model.head.merge(pair))
    torch.testing.assert_close(model(post).logits[0], logits, atol=1e-12,
                               rtol=0)
    loss = model.loss(model(post), post)
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize('name', ['MTB', 'MEGA (Top-1)', 'everything'])
def test_mention_swap_exchanges_markers(minilm, name):
    pieces = WordPieces(str(minilm))
    words, spans = 'Mira Vance joins Orbit Labs', [(0, 2), (3, 5)]

    def build(entities, relation):
        scene = make_scene(2, OBJECT_DIM)
        scene.x = torch.ones(2, OBJECT_DIM)
        return pieces(Post.build(make_text(words), scene, entities,
                                 [relation]))

    model = make(name)
    size = len(pieces.hf_tokenizer)
    model.encoder.model.resize_token_embeddings(size)
    model.double()
    forth = build(spans, (0, 1, 0))
    same = build(spans[::-1], (1, 0, 0))  # Listed in another order.
    back = build(spans, (1, 0, 0))
    assert torch.equal(forth['token'].input_id, same['token'].input_id)
    assert torch.equal(model(forth).logits, model(same).logits)
    ids = pieces.hf_tokenizer.convert_tokens_to_ids(
        [f'[unused{i}]' for i in range(4)])
    exchange = dict(zip(ids, ids[2:] + ids[:2]))
    assert back['token'].input_id.tolist() == [
        exchange.get(i, i) for i in forth['token'].input_id.tolist()]
    rows = [post['entity', 'marked_by', 'token'].edge_index
            for post in (forth, back)]
    assert rows[0].flip(1).tolist() == rows[1].tolist()
    assert not torch.allclose(model(forth).logits, model(back).logits)


@pytest.mark.parametrize('kind', ['token', 'word'])
@pytest.mark.parametrize('name', [
    'BERT+SG', 'BERT+SG+Att', 'MEGA (Top-1)', 'paper', 'concat, no sigmoid',
    'alpha alone', 'everything', 'everything, sum'
])
def test_padding_takes_part(name, kind):
    """128 text rows and ten objects, as the published code has."""
    posts = [post for i, post in enumerate(make_posts()) if i != 4]
    if name != 'everything':
        posts = posts[:3]  # The oracle is slow.
    model = make(name, kind, mask_padding=False)
    check(model, posts, 1e-10, num_text_slots=128, num_object_slots=10)
    masked = make(name, kind)
    batch = Batch.from_data_list(posts)
    assert not torch.allclose(model(batch).logits, masked(batch).logits)


@pytest.mark.parametrize('name', ['BERT+SG+Att', 'MEGA (Top-1)', 'paper',
                                  'everything'])
def test_gradients(name):
    model = make(name).train()
    batch = Batch.from_data_list(make_posts())
    out = model(batch)
    assert out.alignment is None or not out.alignment.match_score.requires_grad
    assert out.semantic.match_score.requires_grad
    model.loss(out, batch).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # A bias of all keys alike leaves the softmax as it is.
        if 'bias' not in key and 'embeddings' not in key:
            assert parameter.grad.count_nonzero() > 0, key


def test_aligner_sees_words_objects_and_their_graphs():
    for pieces in 'all', 'first':
        model = make('planted', pieces=pieces)
        batch = Batch.from_data_list(make_posts())
        model(batch)
        source, target = model.aligner.seen
        assert torch.equal(source.edge_index,
                           batch['word', 'governs', 'word'].edge_index)
        assert torch.equal(target.edge_index,
                           batch['object', 'relates', 'object'].edge_index)
        torch.testing.assert_close(
            target.x, model.object(batch['object'].x.double()))
        text = model.text(model.encoder(batch))
        piece, word = batch['token', 'part_of', 'word'].edge_index
        for w in range(source.num_nodes):
            rows = text[piece[word == w]]
            rows = rows[:1] if pieces == 'first' else rows
            torch.testing.assert_close(source.x[w], rows.mean(0))


def test_loss():
    batch = Batch.from_data_list(make_posts())
    model = make('planted')
    out = model(batch)
    gold = batch['entity', 'relation', 'entity'].relation_id
    by_hand = -torch.stack([
        out.logits[r].log_softmax(0)[y] for r, y in enumerate(gold)]).mean()
    torch.testing.assert_close(model.loss(out, batch), by_hand.float())
    assert out.alignment.loss is None
    other = make('planted', aligner=Planted(loss=2.5))
    torch.testing.assert_close(other.loss(other(batch), batch), by_hand + 2.5,
                               atol=1e-6, rtol=0)


def test_loss_without_any_pair():
    batch = Batch.from_data_list([make_posts()[5]] * 2)
    for name in 'MTB', 'everything':
        model = make(name)
        out = model(batch)
        loss = model.loss(out, batch)
        assert out.logits.shape == (0, 5) and loss.item() == 0
        loss.backward()
        assert model.decode(out, batch) == [[], []]


@pytest.mark.parametrize('wrong', [5, -1, -100])
def test_loss_of_another_vocabulary(wrong):
    batch = Batch.from_data_list(make_posts())
    model = make('MTB')
    batch['entity', 'relation', 'entity'].relation_id[2] = wrong
    with pytest.raises(ValueError, match=rf"'relation_id' must be in \[0, 5\) "
                       rf'\(got {wrong}\); was the model built for another'):
        model.loss(model(batch), batch)


def test_decode():
    posts, model = make_posts(), make()
    batch = Batch.from_data_list(posts)
    out = model(batch)
    found = model.decode(out, batch)
    assert [len(row) for row in found] == [1, 1, 1, 1, 2, 0, 1]
    probability = out.logits.softmax(-1)
    first = found[0][0]
    assert first == Relation(
        Entity(0, 2, 1, 'Mira Vance'), Entity(3, 4, 2, 'Orbit'),
        int(probability[0].argmax()), first.score)
    assert first.score == pytest.approx(probability[0].max().item())
    one, two = found[4]
    assert (one.head, one.tail) == (Entity(0, 3, 0, 'Lake Ola Band'),
                                    Entity(0, 2, 0, 'Lake Ola'))
    assert (two.head, two.tail) == (Entity(5, 6, 0, 'sings'), one.head)
    scores = [relation.score for row in found for relation in row]
    assert scores == pytest.approx(probability.amax(-1).tolist())
    assert found[1][0].head.text == 'here'  # The second mention is head.
    for post, row in zip(posts, found):
        alone = model.decode(model(post), post)
        assert [[(r.head, r.tail, r.relation_id) for r in a] for a in alone] \
            == [[(r.head, r.tail, r.relation_id) for r in row]]


@every_setting
@pytest.mark.parametrize('kwargs', [
    dict(), dict(mask_padding=False, dropout=0.1, pieces='first')])
def test_config_round_trip(name, kwargs):
    model = make(name, dtype=torch.float, **kwargs)
    config = json.loads(json.dumps(model.get_config()))
    again = MEGA.from_config(config).eval()
    again.load_state_dict(model.state_dict())
    assert again.get_config() == model.get_config()
    batch = Batch.from_data_list(make_posts())
    assert torch.equal(again(batch).logits, model(batch).logits)


def test_activation():
    model, post = make(activation=nn.Tanh()), make_posts()[0]
    plain = make()
    assert not torch.allclose(model(post).logits, plain(post).logits)
    again = MEGA.from_config(model.get_config())
    assert isinstance(again.head.activation, nn.Tanh)


def test_dropout():
    model, batch = make(dropout=0.5), Batch.from_data_list(make_posts())
    assert torch.equal(model(batch).logits, model(batch).logits)
    model.train()
    assert not torch.equal(model(batch).logits, model(batch).logits)


def test_sigmoid_goes_with_the_code():
    assert make().sigmoid and not make('paper').sigmoid
    assert make('sum, sigmoid').sigmoid


@pytest.mark.parametrize('kwargs, message', [
    (dict(fusion='mean'), r"'fusion' must be 'concat' or 'sum' \(got 'mean'"),
    (dict(pieces='last'), r"'pieces' must be 'all' or 'first' \(got 'last'"),
    (dict(object_channels=None), "give 'object_channels', their size"),
    (dict(object_channels=None, use_semantic=False, use_objects=True),
     "give 'object_channels', their size"),
])
def test_constructor_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MEGA(make_encoder(), 5, **(dict(object_channels=3) | kwargs))


@some_settings
def test_objects_without_features(name):
    post = make_posts()[0]
    del post['object'].x
    with pytest.raises(ValueError, match="objects have no features: give 'ob"):
        make(name)(post)
    model = make('MEGA (Top-1)', use_semantic=False, object_channels=None)
    assert model(post).logits.shape == (1, 5)


def test_objects_of_another_size():
    model = make('MEGA (Top-1)', object_channels=7)
    with pytest.raises(ShapeError, match=r"'object_channels' = 7 columns "):
        model(make_posts()[0])


def test_posts_without_markers(minilm):
    pieces = WordPieces(str(minilm), mark_entities=False)
    post = pieces(Post.build(make_text('a b'), entities=[(0, 1), (1, 2)],
                             relations=[(0, 1, 0)]))
    model = make('MTB')
    model.encoder.model.resize_token_embeddings(len(pieces.hf_tokenizer))
    with pytest.raises(ValueError, match='no opening marker.*mark_entities'):
        model.double()(post)
    with pytest.raises(ValueError, match="no 'token' store"):
        model(Post.build(make_text('a')))
