import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.errors import ShapeError
from mmgraph.models.mner.umgf import UMGF
from tests.models.mner.pictures import (
    NUM_TYPES,
    OBJECT_DIM,
    REGION_DIM,
    PictureCase,
    encoder,
    first_pieces,
    make_posts,
)
from tests.nn.attention.cases import linear, norm, randomised, slow_attention


def make(**kwargs):
    options = dict(object_channels=OBJECT_DIM, hidden_channels=8,
                   num_layers=2, num_heads=2, ff_channels=6) | kwargs
    return UMGF(encoder(), NUM_TYPES, **options)


def slow_message(gate, node, others):
    """sum_j sigmoid(W [x_i; y_j] + b) * y_j"""
    weight = torch.cat([gate.lin_dst.weight, gate.lin_src.weight],
                       dim=1).detach().numpy()
    bias = gate.lin_dst.bias.detach().numpy()
    out = np.zeros_like(node)
    for other in others:
        score = weight @ np.concatenate([node, other]) + bias
        out += other / (1 + np.exp(-score))
    return out


def slow_ff(half, x):
    return linear(half.ff[2], np.maximum(linear(half.ff[0], x), 0))


def slow_umgf(model, post):
    """One post, node by node."""
    states = model.encoder(post).detach().numpy()
    x = linear(model.text, states)
    o = post[model.image_nodes].x.numpy()
    o = np.maximum(linear(model.object[0], o), 0)
    o = np.maximum(linear(model.object[3], o), 0)
    for k in range(len(model.layers)):
        text, image = model.layers[k].text, model.layers[k].object
        x = norm(text.norm_1, x + slow_attention(text.attention, x, x))
        o = norm(image.norm_1, o + slow_attention(image.attention, o, o))
        to_text = np.array([slow_message(text.gate, row, o) for row in x])
        if k + 1 < len(model.layers):
            to_object = np.array([slow_message(image.gate, row, x)
                                  for row in o]).reshape(o.shape)
            o = norm(image.norm_2, o + to_object)
            o = norm(image.norm_3, o + slow_ff(image, o))
        x = norm(text.norm_2, x + to_text)
        x = norm(text.norm_3, x + slow_ff(text, x))
    rows = first_pieces(post)
    return linear(model.head.classifier,
                  np.concatenate([states, x], axis=1))[rows]


class TestUMGF(PictureCase):
    make = staticmethod(make)


class TestUMGFOverRegions(PictureCase):
    @staticmethod
    def make():
        return make(object_channels=REGION_DIM, image_nodes='region')


@pytest.mark.parametrize('kwargs', [
    dict(), dict(num_layers=1), dict(num_layers=3),
    dict(object_channels=REGION_DIM, image_nodes='region')], ids=str)
def test_is_the_formula(kwargs):
    model = randomised(make(**kwargs))
    posts = make_posts()
    out = model(Batch.from_data_list(posts)).emissions.detach().numpy()
    expected = np.concatenate([slow_umgf(model, post) for post in posts
                               if post.words])
    np.testing.assert_allclose(out, expected, atol=1e-9)


def test_loss_is_a_mean_over_posts():
    model = randomised(make())
    posts = [make_posts()[0], make_posts()[4]]
    batch = Batch.from_data_list(posts)
    total = sum(model.head.crf(model(post).emissions, post['word'].tag_id,
                               model(post).ptr).sum() for post in posts)
    torch.testing.assert_close(model.loss(model(batch), batch), total / 2)


def test_objects_without_a_reader_are_not_built():
    """The last layer's objects change nothing any more."""
    layers = torch.nn.ModuleList(
        layer.object for layer in make(num_layers=2).layers)
    names = [{name.split('.')[0] for name, _ in layer.named_parameters()}
             for layer in layers]
    assert names[0] == {'attention', 'norm_1', 'gate', 'ff', 'norm_2',
                        'norm_3'}
    assert names[1] == {'attention', 'norm_1'}
    assert not any('lin_value' in name or 'lin_out' in name
                   for name, _ in layers.named_parameters())


def test_as_published():
    model = UMGF(encoder(), 4)
    assert len(model.layers) == 6
    text = model.layers[0].text
    assert (text.attention.channels, text.attention.num_heads) == (512, 8)
    assert text.ff[0].out_features == 256
    assert model.object[0].in_features == 2048
    assert model.head.classifier.in_features == 16 + 512
    assert all(module.p == 0.4 for part in (model.layers, model.object)
               for module in part.modules()
               if isinstance(module, torch.nn.Dropout))


def test_errors():
    post = make_posts()[0]
    post['object'].x = post['object'].x[:, :4]
    with pytest.raises(ShapeError, match=r"'object.x' must have "
                       r"'object_channels' = 5 columns \(got 4\)"):
        make()(post)
    del post['object'].x
    with pytest.raises(ValueError, match='objects have no features'):
        make()(post)
    with pytest.raises(ValueError, match="'image_nodes' must be one of its "
                       r"choices \(got 'regions'\).*Did you mean 'region'"):
        make(image_nodes='regions')
    with pytest.raises(ValueError, match="'num_layers' must be at least 1"):
        make(num_layers=0)
    with pytest.raises(ValueError, match="'hidden_channels' must be positive"):
        make(hidden_channels=0)
    with pytest.raises(ValueError, match="'channels' must be divisible by "
                       "'num_heads'"):
        make(num_heads=3)


def test_posts_without_such_a_store_have_no_image():
    model = make(image_nodes='region').eval()
    post = make_posts()[0]
    del post['region']
    found = model(post)
    post['region'].x = torch.empty(0, 5)
    post['region'].num_nodes = 0
    assert torch.equal(found.emissions, model(post).emissions)
