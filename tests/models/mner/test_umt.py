import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import Vocabulary
from mmgraph.errors import ShapeError
from mmgraph.models.mner import TagOutput
from mmgraph.models.mner.umt import UMT, span_conversion, span_tags
from mmgraph.nn.encoders import CharWordEncoder
from tests.models.mner.pictures import (
    NUM_TYPES,
    REGION_DIM,
    PictureCase,
    encoder,
    first_pieces,
    make_posts,
)
from tests.nn.attention.cases import linear, randomised, slow_layer

SWITCHES = [
    dict(), dict(use_auxiliary=False), dict(conversion_weight=0.0),
    dict(use_gate=False), dict(use_image=False),
    dict(use_image=False, use_auxiliary=False),
    dict(conversion_weight=0.25, auxiliary_weight=2.0),
]


def make(**kwargs):
    return UMT(encoder(), NUM_TYPES, REGION_DIM, num_heads=4, ff_channels=24,
               **kwargs)


def slow_umt(model, post, gate=True, alpha=0.5):
    """One post, from Section 12 of the equations, with regions as they are."""
    states = model.encoder(post).detach().numpy()
    regions = post['region'].x.numpy()
    text = slow_layer(model.text_layer, states, states)
    fused = text
    if model.use_image:
        visual = np.zeros_like(text)
        if len(regions):
            visual = slow_layer(model.visual_layer, text,
                                linear(model.lin_key, regions))
        asked = linear(model.lin_query, regions)
        asked = slow_layer(model.region_layer, asked, text)
        words = slow_layer(model.word_layer, text, asked)
        if gate:
            joined = np.concatenate([words, visual], axis=1)
            visual = visual / (1 + np.exp(-linear(model.gate.lin, joined)))
        fused = np.concatenate([words, visual], axis=1)
    rows = first_pieces(post)
    emissions = linear(model.head.classifier, fused)[rows]
    if not model.use_auxiliary:
        return emissions, None
    spans = slow_layer(model.span_layer, states, states)
    spans = linear(model.span_head.classifier, spans)[rows]
    out = np.empty_like(emissions)
    for i, row in enumerate(spans):
        carried = [row[0]]  # O; then B and I of each type
        for _ in range(NUM_TYPES):
            carried += [row[1] / NUM_TYPES, row[2] / NUM_TYPES]
        for tag, score in enumerate(carried):
            out[i, tag] = (1 - alpha) * emissions[i, tag] + alpha * score
    return out, spans


class TestUMT(PictureCase):
    make = staticmethod(make)


@pytest.mark.parametrize('kwargs', SWITCHES, ids=str)
def test_is_the_formula(kwargs):
    model = randomised(make(**kwargs))
    posts = make_posts()
    out = model(Batch.from_data_list(posts))
    gate, alpha = (kwargs.get('use_gate', True),
                   kwargs.get('conversion_weight', 0.5))
    slow = [slow_umt(model, post, gate, alpha) for post in posts if post.words]
    np.testing.assert_allclose(out.emissions.detach().numpy(),
                               np.concatenate([e for e, _ in slow]),
                               atol=1e-9)
    if model.use_auxiliary:
        np.testing.assert_allclose(out.span_emissions.detach().numpy(),
                                   np.concatenate([s for _, s in slow]),
                                   atol=1e-9)
    else:
        assert out.span_emissions is None


@pytest.mark.parametrize('kwargs', SWITCHES, ids=str)
def test_loss_is_the_sum_of_both_tasks(kwargs):
    model = randomised(make(**kwargs))
    batch = Batch.from_data_list(make_posts())
    out = model(batch)
    expected = model.head.loss(out.emissions, batch['word'].tag_id, out.ptr)
    if model.use_auxiliary:
        gold = torch.tensor([1, 0, 1, 2, 0] + [0, 0, 1] + [1] + 5 * [0]
                            + [1, 2])
        expected = expected + kwargs.get('auxiliary_weight', 0.5) \
            * model.span_head.loss(out.span_emissions, gold, out.ptr)
    torch.testing.assert_close(model.loss(out, batch), expected)
    model.loss(out, batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    # What another model computed has no spans.
    plain = TagOutput(out.emissions, out.word, out.ptr)
    torch.testing.assert_close(
        model.loss(plain, batch),
        model.head.loss(out.emissions, batch['word'].tag_id, out.ptr))


def test_switches_have_no_more_parameters_than_they_use():
    names = {str(kwargs): {name.split('.')[0] for name, _
                           in make(**kwargs).named_parameters()}
             for kwargs in SWITCHES}
    whole = names['{}']
    assert whole - names[str(SWITCHES[1])] == {'span_layer', 'span_head'}
    assert whole - names[str(SWITCHES[3])] == {'gate'}
    assert whole - names[str(SWITCHES[4])] == {
        'gate', 'lin_key', 'lin_query', 'visual_layer', 'region_layer',
        'word_layer'}


def test_text_only_needs_no_regions():
    model = randomised(make(use_image=False))
    posts = make_posts()
    expected = model(Batch.from_data_list(posts)).emissions
    for post in posts:
        del post['region']
    batch = Batch.from_data_list(posts)
    torch.testing.assert_close(model(batch).emissions, expected)
    assert randomised(make())(batch).emissions.isfinite().all()


def test_words_without_pieces():
    """An encoder of words."""
    words = Vocabulary(['<unk>', 'one'], unknown='<unk>')
    torch.manual_seed(0)
    model = UMT(CharWordEncoder(words, 6, None, 4), NUM_TYPES, REGION_DIM,
                num_heads=2).double().eval()
    posts = make_posts()
    torch.testing.assert_close(
        model(Batch.from_data_list(posts)).emissions,
        torch.cat([model(post).emissions for post in posts]))


def test_span_tags():
    assert span_tags(torch.tensor([0, 1, 2, 7, 8])).tolist() == [0, 1, 2, 1, 2]
    assert span_tags(torch.empty(0, dtype=torch.long)).shape == (0, )
    matrix = span_conversion(4)
    assert matrix.shape == (3, 9)
    assert matrix[0].tolist() == [1.0] + 8 * [0.0]
    assert matrix[1].tolist() == [0.0] + 4 * [0.25, 0.0]
    assert matrix[2].tolist() == [0.0] + 4 * [0.0, 0.25]


def test_conversion_is_no_weight():
    """As in the code; and it depends on the number of types only."""
    model = make()
    assert not any('conversion' in name for name in model.state_dict())


def test_errors():
    post = make_posts()[0]
    post['region'].x = post['region'].x[:, :4]
    with pytest.raises(ShapeError, match=r"'region.x' must have "
                       r"'region_channels' = 6 columns \(got 4\)"):
        make()(post)
    with pytest.raises(ValueError, match=r"'conversion_weight' must be in "
                       r'\[0, 1\] \(got 1.5\)'):
        make(conversion_weight=1.5)
    with pytest.raises(ValueError, match="'auxiliary_weight' must not be neg"):
        make(auxiliary_weight=-1.0)
    with pytest.raises(ValueError, match="'num_types' must be positive"):
        UMT(encoder(), 0)
    with pytest.raises(ValueError, match="'channels' must be divisible by "
                       "'num_heads'"):
        UMT(encoder(), 2, num_heads=12)


def test_posts_without_regions_have_no_image():
    model = make().eval()
    post = make_posts()[0]
    del post['region']
    found = model(post)
    post['region'].x = torch.empty(0, 6)
    post['region'].num_nodes = 0
    assert torch.equal(found.emissions, model(post).emissions)
