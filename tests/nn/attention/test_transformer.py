import json
import math
import pickle

import numpy as np
import pytest
import torch

from mmgraph.errors import ShapeError
from mmgraph.nn.attention import MultiHeadAttention, TransformerLayer
from tests.nn.attention.cases import randomised, slow_attention, slow_layer

SIZES = [4, 0, 1, 5]  # rows of the memory of each post


def make_input(memory_channels=8, length=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(SIZES), length, 8, generator=generator,
                    dtype=torch.double)
    memory = torch.randn(len(SIZES), max(SIZES), memory_channels,
                         generator=generator, dtype=torch.double)
    mask = torch.arange(max(SIZES)) < torch.tensor(SIZES).unsqueeze(1)
    return x, memory, mask


@pytest.mark.parametrize('kwargs', [
    dict(), dict(memory_channels=6), dict(activation='relu', ff_channels=5)])
def test_cross_attention_is_the_formula(kwargs):
    layer = randomised(TransformerLayer(8, 2, **kwargs))
    x, memory, mask = make_input(kwargs.get('memory_channels', 8))
    out = layer(x, memory=memory, memory_mask=mask).detach().numpy()
    for i, size in enumerate(SIZES):
        expected = slow_layer(layer, x[i].numpy(), memory[i, :size].numpy())
        np.testing.assert_allclose(out[i], expected, atol=1e-10)


def test_self_attention_is_the_formula():
    layer = randomised(TransformerLayer(8, 4))
    _, x, mask = make_input()
    out = layer(x, mask)
    for i, size in enumerate(SIZES):
        rows = x[i, :size].numpy()
        np.testing.assert_allclose(out[i, :size].detach().numpy(),
                                   slow_layer(layer, rows, rows), atol=1e-10)
    assert out.isfinite().all()


def test_unprojected_values():
    module = randomised(MultiHeadAttention(8, 2, project_values=False))
    x, memory, mask = make_input()
    out = module(x, mask, memory).detach().numpy()
    for i, size in enumerate(SIZES):
        np.testing.assert_allclose(out[i], slow_attention(
            module, x[i].numpy(), memory[i, :size].numpy()), atol=1e-10)
    assert {name.split('.')[0] for name, _ in module.named_parameters()} \
        == {'lin_query', 'lin_key'}


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('heads, size', [(2, 8), (3, 5), (2, 1)])
def test_size_of_heads(heads, size, bias):
    """One post and one head at a time; width and heads need not divide."""
    module = randomised(MultiHeadAttention(
        8, heads, memory_channels=6, head_channels=size, bias=bias))
    assert module.lin_query.weight.shape == (heads * size, 8)
    assert module.lin_value.weight.shape == (heads * size, 6)
    assert module.lin_out.weight.shape == (8, heads * size)
    assert len(module.state_dict()) == (8 if bias else 4)
    x, memory, mask = make_input(6)
    out = module(x, mask, memory)
    for i, count in enumerate(SIZES):
        query = module.lin_query(x[i])
        key, value = (lin(memory[i, :count])
                      for lin in (module.lin_key, module.lin_value))
        parts = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weight = (query[:, part] @ key[:, part].t()
                      / math.sqrt(size)).exp()
            parts.append(weight / weight.sum(1, keepdim=True)
                         @ value[:, part])
        expected = module.lin_out(torch.cat(parts, 1)) if count else 0 * x[i]
        torch.testing.assert_close(out[i], expected)
    config = json.loads(json.dumps(module.get_config()))
    again = MultiHeadAttention.from_config(config).double()
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x, mask, memory), out)


def test_size_of_heads_by_default():
    """The same parameters as before there was a choice."""
    module = MultiHeadAttention(8, 2)
    again = MultiHeadAttention(8, 2, head_channels=4)
    again.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 8)
    assert torch.equal(module(x), again(x))
    unprojected = MultiHeadAttention(8, 2, project_values=False,
                                     head_channels=3)
    assert unprojected(x).shape == x.shape
    bare = MultiHeadAttention(8, 2, bias=False)
    bare.reset_parameters()
    assert all(name.endswith('weight') for name in bare.state_dict())


@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_equals_transformers(activation):
    from transformers.models.bert.modeling_bert import BertConfig, BertLayer
    peer = BertLayer(BertConfig(
        hidden_size=8, num_attention_heads=2, intermediate_size=12,
        hidden_act=activation, attn_implementation='eager'))
    peer = randomised(peer, seed=3)
    layer = TransformerLayer(8, 2, 12, activation=activation).double().eval()
    names = {
        'attention.lin_query': 'attention.self.query',
        'attention.lin_key': 'attention.self.key',
        'attention.lin_value': 'attention.self.value',
        'attention.lin_out': 'attention.output.dense',
        'norm_1': 'attention.output.LayerNorm',
        'lin_1': 'intermediate.dense',
        'lin_2': 'output.dense',
        'norm_2': 'output.LayerNorm',
    }
    state = peer.state_dict()
    layer.load_state_dict({f'{ours}.{kind}': state[f'{theirs}.{kind}']
                           for ours, theirs in names.items()
                           for kind in ('weight', 'bias')})
    assert len(state) == len(layer.state_dict())
    x, mask = make_input(length=max(SIZES))[::2]
    hidden = torch.zeros(mask.shape, dtype=torch.double).masked_fill(
        ~mask, torch.finfo(torch.double).min)
    expected = peer(x, hidden[:, None, None])
    if isinstance(expected, tuple):  # By the version of transformers.
        expected = expected[0]
    torch.testing.assert_close(layer(x, mask)[mask], expected[mask])


def test_starts_as_bert_does():
    layer = TransformerLayer(64, 2)
    for name, parameter in layer.named_parameters():
        if name.endswith('bias'):
            assert not parameter.any(), name
        elif 'norm' in name:
            assert (parameter == 1).all(), name
        else:
            assert 0.018 < parameter.std() < 0.022, name


def test_what_is_masked_has_no_influence():
    layer = randomised(TransformerLayer(8, 2))
    x, memory, mask = make_input()
    out = layer(x, memory=memory, memory_mask=mask)
    memory = memory.masked_fill(~mask.unsqueeze(2), 1e3)
    torch.testing.assert_close(layer(x, memory=memory, memory_mask=mask), out)
    own = layer(memory, mask)
    short = layer(memory[:, :4], mask[:, :4])
    alone = [0, 1, 2]
    torch.testing.assert_close(own[alone, :4][mask[alone, :4]],
                               short[alone][mask[alone, :4]])


def test_nothing_to_attend_to_adds_nothing():
    layer = randomised(TransformerLayer(8, 2))
    x, memory, mask = make_input()
    none = torch.zeros_like(mask)
    expected = layer.norm_1(x)
    expected = layer.norm_2(expected + layer.lin_2(torch.nn.functional.gelu(
        layer.lin_1(expected))))
    for out in (layer(x, memory=memory, memory_mask=none),
                layer(x, memory=memory[:, :0], memory_mask=none[:, :0]),
                layer(x, memory=memory[:, :0])):
        torch.testing.assert_close(out, expected)
    out = layer(x, memory=memory, memory_mask=mask)
    torch.testing.assert_close(out[1], expected[1])
    assert not torch.isclose(out[0], expected[0]).all()


@pytest.mark.parametrize('size', [0, 4])
def test_gradients_where_all_is_masked(size):
    layer = randomised(TransformerLayer(8, 2)).train()
    x, memory, mask = make_input()
    x.requires_grad_()
    layer(x, memory=memory[:, :size],
          memory_mask=torch.zeros_like(mask[:, :size])).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert name.startswith('attention') == (not parameter.grad.any()), name
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(0, 3), (2, 0), (0, 0)])
def test_empty(shape):
    layer = TransformerLayer(8, 2)
    x, memory = torch.randn(*shape, 8), torch.randn(shape[0], 4, 8)
    for out in (layer(x), layer(x, torch.ones(shape, dtype=torch.bool)),
                layer(x, memory=memory)):
        assert out.shape == x.shape
        out.sum().backward()


def test_order():
    layer = randomised(TransformerLayer(8, 2))
    x, memory, mask = make_input()
    out = layer(x, memory=memory, memory_mask=mask)
    keys, rows = torch.randperm(5), torch.randperm(3)
    posts = torch.randperm(len(SIZES))
    again = layer(x[posts][:, rows], memory=memory[posts][:, keys],
                  memory_mask=mask[posts][:, keys])
    torch.testing.assert_close(again, out[posts][:, rows])


def test_gradcheck():
    layer = randomised(TransformerLayer(4, 2, 3, memory_channels=3))
    x = torch.randn(2, 2, 4, dtype=torch.double, requires_grad=True)
    memory = torch.randn(2, 3, 3, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False] * 3])
    assert torch.autograd.gradcheck(
        lambda x, memory: layer(x, memory=memory, memory_mask=mask),
        (x, memory))


def test_dropout_only_in_training():
    layer = TransformerLayer(8, 2, dropout=0.5)
    x = torch.randn(2, 3, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    module = MultiHeadAttention(8, 2, dropout=0.5)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_autocast():
    layer = TransformerLayer(8, 2)
    x, memory, mask = make_input()
    x, memory = x.float(), memory.float()
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x, memory=memory, memory_mask=mask)
        assert layer.attention(x).dtype == torch.bfloat16
    assert out.isfinite().all()
    out.sum().backward()


def test_config_and_pickle():
    layer = TransformerLayer(8, 2, 12, memory_channels=6, activation='relu')
    config = json.loads(json.dumps(layer.get_config()))
    again = TransformerLayer.from_config(config)
    again.load_state_dict(layer.state_dict())
    x, memory, mask = (t.float() for t in make_input(6))
    mask = mask.bool()
    layer.eval()
    for other in again.eval(), pickle.loads(pickle.dumps(layer)):
        assert torch.equal(other(x, memory=memory, memory_mask=mask),
                           layer(x, memory=memory, memory_mask=mask))
    module = MultiHeadAttention(8, 2, 0.1, project_values=False)
    assert MultiHeadAttention.from_config(module.get_config()).lin_out is None
    assert 'num_heads=2' in repr(module)


def test_errors():
    with pytest.raises(ValueError, match=r"'channels' must be divisible by "
                       r"'num_heads' \(got 8 and 3\)"):
        TransformerLayer(8, 3)
    with pytest.raises(ValueError, match=r"'ff_channels' must be positive "
                       r'\(got 0\)'):
        TransformerLayer(8, 2, 0)
    with pytest.raises(ValueError, match="'memory_channels' must be posit"):
        TransformerLayer(8, 2, memory_channels=-1)
    with pytest.raises(ValueError, match=r"'activation' .*Did you mean 'ge"):
        TransformerLayer(8, 2, activation='gelo')
    with pytest.raises(ValueError, match=r"'memory_channels' must be "
                       r"'channels' .* \(got 6 and 8\)"):
        MultiHeadAttention(8, 2, memory_channels=6, project_values=False)
    with pytest.raises(ValueError, match=r"'channels' must be divisible"):
        MultiHeadAttention(8, 3, project_values=False, head_channels=4)
    with pytest.raises(ValueError, match=r"'head_channels' must be positive"):
        MultiHeadAttention(8, 2, head_channels=0)
    layer = TransformerLayer(8, 2, memory_channels=6)
    x, memory, mask = (t.float() for t in make_input(6))
    with pytest.raises(ShapeError, match=r"'memory_channels' = 6 columns "
                       r'\(got 8\)'):
        layer(x)
    with pytest.raises(ShapeError, match=r'shape \[4, 5\], one a key '
                       r'\(got \[4, 3\]\)'):
        layer(x, memory=memory, memory_mask=mask[:, :3].bool())
