"""The text-only taggers, and what all taggers share."""
import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.models import Entity, word_states
from mmgraph.models.mner import (
    BertCRF,
    BertSoftmax,
    BiLSTMCRF,
    TagOutput,
)
from mmgraph.models.mner.base import kept_tags
from mmgraph.nn import build_from_config
from mmgraph.nn.encoders import TransformerTextEncoder
from mmgraph.parse.bio import tags_of_spans
from tests.data.cases import make_text
from tests.nn.encoders.cases import BERT, with_tokens

WORDS = Vocabulary(['<unk>', 'ann', 'met', 'bob'], unknown='<unk>')


def tagged(text, spans=()):
    post = Post.build(make_text(text), entities=spans, post_id=text or 'none')
    post['word'].tag_id = torch.tensor(
        tags_of_spans(spans, len(post.words)), dtype=torch.long)
    return with_tokens(post, seed=len(text))


def make_posts():
    return [tagged('Ann met Bob Ray there', [(0, 1, 0), (2, 4, 1)]),
            tagged(''), tagged('one', [(0, 1, 1)]),
            tagged('nothing to be found here')]


def bilstm(chars='lstm', **kwargs):
    return BiLSTMCRF(WORDS, 2, chars, word_dim=6, char_dim=4, char_channels=4,
                     hidden_channels=5, **kwargs)


def bert(cls):
    return cls(TransformerTextEncoder(BERT), 2)


MODELS = {
    'words': lambda: bilstm(None), 'lstm': bilstm,
    'cnn': lambda: bilstm('cnn'), 'softmax': lambda: bert(BertSoftmax),
    'crf': lambda: bert(BertCRF),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    model = MODELS[request.param]().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    for module in model.modules():  # A padding row is and stays zero.
        if getattr(module, 'padding_idx', None) is not None:
            torch.nn.init.zeros_(module.weight[module.padding_idx])
    return model.eval()


def test_alone_is_as_in_a_batch(model):
    posts = make_posts()
    batch = Batch.from_data_list(posts)
    out = model(batch)
    assert out.emissions.shape == (batch['word'].num_nodes, 5)
    assert out.word.tolist() == list(range(batch['word'].num_nodes))
    found = model.decode(out, batch)
    assert len(found) == 4 and found[1] == []
    alone = [Batch.from_data_list([post]) for post in posts]
    assert torch.allclose(out.emissions, torch.cat(
        [model(post).emissions for post in alone]))
    assert found == [model.decode(model(post), post)[0] for post in alone]
    again = Batch.from_data_list(posts[::-1])
    assert model.decode(model(again), again) == found[::-1]


def test_a_single_post_needs_no_batch(model):
    post = make_posts()[0]
    batch = Batch.from_data_list([post])
    assert model.decode(model(post), post) == model.decode(model(batch), batch)
    assert torch.allclose(model.loss(model(post), post),
                          model.loss(model(batch), batch))


def test_learns(model):
    batch = Batch.from_data_list(make_posts())
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters()
               if p.requires_grad)
    model.eval()
    assert model.decode(model(batch), batch) == [
        [Entity(0, 1, 0, 'Ann'), Entity(2, 4, 1, 'Bob Ray')], [],
        [Entity(0, 1, 1, 'one')], []]


def test_config_builds_the_same_model(model):
    other = build_from_config(model.get_config()).double()
    other.load_state_dict(model.state_dict())
    batch = Batch.from_data_list(make_posts())
    assert torch.equal(other.eval()(batch).emissions, model(batch).emissions)


def test_settings_differ_in_their_characters():
    names = {chars: {name for name, _ in bilstm(chars).named_parameters()}
             for chars in (None, 'lstm', 'cnn')}
    assert not any('char' in name for name in names[None])
    assert any('reader.weight_ih' in name for name in names['lstm'])
    assert 'encoder.char.reader.weight' in names['cnn']
    with pytest.raises(ValueError, match="'lstm' or 'cnn'"):
        bilstm('gru')


def test_word_states_are_first_pieces():
    posts = make_posts()
    batch = Batch.from_data_list(posts)
    x = torch.arange(batch['token'].num_nodes).view(-1, 1).double()
    states, word, ptr = word_states(batch, x, 'token')
    first = {}
    piece, of = batch['token', 'part_of', 'word'].edge_index.tolist()
    for p, w in zip(piece, of):
        first[w] = min(p, first.get(w, p))
    assert word.tolist() == sorted(first)
    assert states.view(-1).tolist() == [first[w] for w in sorted(first)]
    assert torch.equal(ptr, batch['word'].ptr)
    x = torch.randn(batch['word'].num_nodes, 3)
    assert word_states(batch, x, 'word')[0] is x


def cut(post, words):
    """As an encoder's limit leaves it: later words have no piece."""
    store = post['token', 'part_of', 'word']
    store.edge_index = store.edge_index[:, store.edge_index[1] < words]
    return post


def test_words_that_were_cut_off_are_in_no_mention(model):
    if model.encoder.node_type == 'word':
        return
    post = cut(tagged('Ann met Bob Ray there', [(0, 1, 0), (2, 4, 1)]), 3)
    batch = Batch.from_data_list([tagged('one', [(0, 1, 1)]), post])
    out = model(batch)
    assert out.word.tolist() == [0, 1, 2, 3]
    assert out.ptr.tolist() == [0, 1, 4]
    # The mention that was cut goes on without its end.
    kept = Batch.from_data_list([tagged('one', [(0, 1, 1)]),
                                 cut(tagged('Ann met Bob Ray there',
                                            [(0, 1, 0), (2, 3, 1)]), 3)])
    assert torch.equal(model.loss(out, batch), model.loss(out, kept))
    # One that lost its beginning begins at its next word.
    torn = tagged('Ann met Bob Ray there', [(0, 1, 0), (2, 4, 1)])
    store = torn['token', 'part_of', 'word']
    store.edge_index = store.edge_index[:, store.edge_index[1] != 2]
    again = model(torn)
    assert again.word.tolist() == [0, 1, 3, 4]
    assert kept_tags(torn['word'].tag_id, again).tolist() == [1, 0, 3, 0]
    assert model.loss(again, torn).isfinite()
    sure = TagOutput(torch.full_like(out.emissions, -9.0), out.word, out.ptr)
    sure.emissions[:, 1] = 9  # B- of the first type everywhere
    assert [len(row) for row in model.decode(sure, batch)] == [1, 3]


def test_bad_input(model):
    post = make_posts()[0]
    out = model(post)
    post['word'].tag_id[1] = 5
    with pytest.raises(ValueError, match=r"'tag_id' must be in \[0, 5\) "
                                         r"\(got 5\)"):
        model.loss(out, post)
    del post['word'].tag_id
    with pytest.raises(ValueError, match='no gold tags'):
        model.loss(out, post)
