import json

import pytest
import torch
from torch_geometric.data import Batch

import mmgraph
from mmgraph.data import Post
from mmgraph.errors import InputError
from mmgraph.nn.encoders import TextEncoder, TransformerTextEncoder
from mmgraph.transforms import WordPieces
from tests.data.cases import make_text
from tests.nn.encoders.cases import BERT, with_tokens

TEXTS = ['Mira Vance joins Orbit Labs', '', 'zoologically',
         'a b c d e f g h i j k l']


@pytest.fixture(scope='module')
def real(minilm):
    return TransformerTextEncoder(str(minilm)).eval()


def make_posts():
    return [with_tokens(Post.build(make_text(text)), seed=i)
            for i, text in enumerate(TEXTS)]


def empty_post():
    post = with_tokens(Post.build(make_text('')))
    post['token'].input_id = torch.empty(0, dtype=torch.long)
    post['token'].num_nodes = 0
    return post


def tiny(**kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TransformerTextEncoder(BERT, **kwargs)


def test_ragged_is_padded_and_alone_is_in_a_batch(minilm, real):
    from transformers import AutoModel, AutoTokenizer
    pieces = WordPieces(str(minilm))
    posts = [pieces(Post.build(make_text(text))) for text in TEXTS]
    batch = Batch.from_data_list(posts)
    together = real(batch)
    assert together.shape == (batch['token'].num_nodes, real.out_channels)
    peer = AutoModel.from_pretrained(minilm).eval()
    encoded = AutoTokenizer.from_pretrained(minilm)(
        TEXTS, padding='max_length', max_length=30, return_tensors='pt')
    mask = encoded['attention_mask'].bool()
    assert torch.equal(encoded['input_ids'][mask], batch['token'].input_id)
    with torch.no_grad():
        expected = peer(**encoded).last_hidden_state[mask]
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)
    ptr = batch['token'].ptr
    for i, post in enumerate(posts):
        torch.testing.assert_close(together[ptr[i]:ptr[i + 1]], real(post),
                                   atol=1e-5, rtol=0)


def test_tiny_alone_is_in_a_batch():
    encoder, posts = tiny().eval(), [*make_posts(), empty_post()]
    batch = Batch.from_data_list(posts)
    together = encoder(batch)
    torch.testing.assert_close(together, torch.cat([
        encoder(post) for post in posts]), atol=1e-6, rtol=0)
    back = encoder(Batch.from_data_list(posts[::-1]))
    torch.testing.assert_close(
        back, torch.cat([encoder(post) for post in posts[::-1]]), atol=1e-6,
        rtol=0)


def test_no_tokens():
    encoder = tiny()
    for batch in empty_post(), Batch.from_data_list([empty_post()] * 2):
        assert encoder(batch).shape == (0, 16)
    batch = Batch.from_data_list([make_posts()[0], empty_post()])
    encoder(batch).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_training_mode_from_the_start(minilm):
    """Loaded models come in evaluation mode and would stay in it."""
    encoder = TransformerTextEncoder(str(minilm))
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    encoder = tiny()
    assert all(module.training for module in encoder.modules())
    batch = Batch.from_data_list(make_posts())
    assert not torch.equal(encoder(batch), encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))
    encoder.train()
    assert encoder.model.training


def test_frozen():
    encoder = tiny(trainable=False)
    assert encoder.training and not encoder.model.training
    assert not any(p.requires_grad for p in encoder.parameters())
    batch = Batch.from_data_list(make_posts())
    out = encoder.train()(batch)
    assert not out.requires_grad
    assert torch.equal(out, encoder(batch))
    assert torch.equal(out, tiny().eval()(batch))
    model = torch.nn.Sequential(encoder)
    assert not model.train()[0].model.training


def test_gradients_follow_the_caller():
    encoder, post = tiny(), make_posts()[0]
    assert encoder(post).requires_grad
    with torch.no_grad():
        assert not encoder(post).requires_grad


def test_config_needs_no_folder(minilm, real):
    config = json.loads(json.dumps(real.get_config()))
    assert str(minilm) not in json.dumps(config)
    again = TransformerTextEncoder.from_config(config).eval()
    again.load_state_dict(real.state_dict())
    batch = Batch.from_data_list([make_posts()[0], make_posts()[3]])
    assert torch.equal(again(batch), real(batch))
    assert again.max_length == real.max_length == 512
    assert not TextEncoder.from_config(
        tiny(trainable=False).get_config()).trainable


def test_double():
    encoder = tiny().eval().double()
    assert encoder(make_posts()[0]).dtype == torch.double


def test_too_long():
    encoder = tiny()
    assert encoder.max_length == 40
    fits = with_tokens(Post.build(make_text('a ' * 38)), pieces=1)
    assert encoder(fits).shape == (40, 16)
    with pytest.raises(ValueError, match=r'at most 40 word pieces '
                       r'\(got 41\); lower max_length of WordPieces'):
        encoder(Batch.from_data_list([fits, with_tokens(
            Post.build(make_text('a ' * 39)), pieces=1)]))


def test_positions_of_roberta():
    encoder = TransformerTextEncoder(BERT | dict(
        model_type='roberta', pad_token_id=1, max_position_embeddings=22))
    assert encoder.max_length == 20
    post = with_tokens(Post.build(make_text('a ' * 18)), pieces=1)
    post['token'].input_id += 1 - (post['token'].input_id > 57).long()
    assert encoder(post).shape == (20, 16)


def test_no_token_store():
    with pytest.raises(ValueError, match="no 'token' store: .*WordPieces"):
        tiny()(Post.build(make_text('a')))


@pytest.mark.parametrize('wrong', [60, -1])
def test_another_vocabulary(wrong):
    post = make_posts()[0]
    post['token'].input_id[3] = wrong
    with pytest.raises(ValueError, match=rf"'input_id' must be in \[0, 60\) "
                       rf'\(got {wrong} at row 3\)'):
        tiny()(post)
    with mmgraph.checks(False), pytest.raises(IndexError):
        tiny()(post)


def test_constructor_errors(tmp_path):
    gone = str(tmp_path / 'gone')
    with pytest.raises(InputError, match=f'{gone}: no such folder'):
        TransformerTextEncoder(gone)
    with pytest.raises(InputError, match='no transformers model here'):
        TransformerTextEncoder(str(tmp_path))
    with pytest.raises(InputError, match=r"'model_type', .*'hidden_size'"):
        TransformerTextEncoder({'hidden_size': 16})
