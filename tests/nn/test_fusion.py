import json

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmgraph.nn.fusion import ConcatGate, EdgeGate, GatedResidual

GATES = [GatedResidual(4), GatedResidual(4, tied=False), ConcatGate(4),
         ConcatGate(4, 3, bias=False), EdgeGate(4),
         EdgeGate((4, 3), bias=False)]
every_gate = pytest.mark.parametrize('gate', GATES, ids=lambda gate: repr(
    gate.get_config()['args']))


def draw(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double,
                       **kwargs)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numbers(module):
    return {name: value.detach().double().numpy()
            for name, value in module.named_parameters()}


@pytest.mark.parametrize('tied', [True, False])
def test_gated_residual(tied):
    gate = GatedResidual(4, tied).double()
    x, context = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    w = numbers(gate)
    assert len(w) == (1 if tied else 2)
    second = w['lin.weight' if tied else 'lin_context.weight']
    out = gate(x, context).detach().numpy()
    for place in np.ndindex(2, 3):
        h, p = x[place].numpy(), context[place].numpy()
        g = sigmoid(w['lin.weight'] @ h + second @ p)
        np.testing.assert_allclose(out[place], h + g * p, atol=1e-12)
    one = context[:, :1]
    torch.testing.assert_close(gate(x, one), gate(x, one.expand(2, 3, 4)))
    assert torch.equal(gate(x, torch.zeros(2, 1, 4).double()), x)


@pytest.mark.parametrize('width', [4, 3])
def test_concat_gate(width):
    gate = ConcatGate(4, width).double()
    x, context = draw(2, 3, 4), draw(2, 3, width, seed=1)
    w, out = numbers(gate), gate(x, context).detach().numpy()
    assert out.shape == (2, 3, gate.out_channels) == (2, 3, 4 + width)
    for place in np.ndindex(2, 3):
        h, p = x[place].numpy(), context[place].numpy()
        g = sigmoid(w['lin.weight'] @ np.concatenate([h, p]) + w['lin.bias'])
        np.testing.assert_allclose(out[place], np.concatenate([h, g * p]),
                                   atol=1e-12)


def edge_gate_oracle(gate, source, target, edges):
    w = numbers(gate)
    both = np.concatenate([w['lin_dst.weight'], w['lin_src.weight']], axis=1)
    out = np.zeros((len(target), source.shape[1]))
    for j, i in edges.t().tolist():
        pair = np.concatenate([target[i].numpy(), source[j].numpy()])
        out[i] += (sigmoid(both @ pair + w.get('lin_dst.bias', 0))
                   * source[j].numpy())
    return torch.from_numpy(out)


@pytest.mark.parametrize('edges', [
    [[0, 1, 1, 2, 1, 1], [0, 0, 3, 3, 4, 4]],  # One edge twice.
    [[], []], [[2], [4]]])
@pytest.mark.parametrize('bias', [True, False])
def test_edge_gate(edges, bias):
    gate = EdgeGate((4, 3), bias).double()
    source, target = draw(3, 4), draw(5, 3, seed=1)
    edges = torch.tensor(edges, dtype=torch.long)
    out = gate((source, target), edges)
    torch.testing.assert_close(
        out, edge_gate_oracle(gate, source, target, edges), atol=1e-12, rtol=0)
    reached = set(edges[1].tolist())
    for i in range(5):
        assert bool((out[i] != 0).all()) == (i in reached)


def test_edge_gate_on_one_kind_of_node():
    gate, x = EdgeGate(4).double(), draw(3, 4)
    edges = torch.tensor([[0, 0, 2], [0, 1, 1]])
    torch.testing.assert_close(gate(x, edges),
                               edge_gate_oracle(gate, x, x, edges))
    empty = torch.empty(2, 0, dtype=torch.long)
    assert gate(x[:0], empty).shape == (0, 4)
    assert gate((x, x[:0]), empty).shape == (0, 4)
    order = torch.tensor([2, 0, 1])
    place = torch.empty_like(order)
    place[order] = torch.arange(3)
    torch.testing.assert_close(gate(x[order], place[edges.flip(1)]),
                               gate(x, edges)[order])


def test_edge_gate_runs_generated_code():
    assert EdgeGate.propagate.__module__.startswith('mmgraph.nn.fusion')


def inputs(gate, dtype=torch.double):
    if isinstance(gate, EdgeGate):
        source, target = gate.in_channels
        return ((draw(3, source).to(dtype), draw(2, target, seed=1).to(dtype)),
                torch.tensor([[0, 1, 2], [0, 0, 1]]))
    return (draw(3, gate.channels).to(dtype),
            draw(3, getattr(gate, 'context_channels', gate.channels),
                 seed=1).to(dtype))


@every_gate
def test_gradients(gate):
    gate = type(gate).from_config(gate.get_config()).double()
    args = inputs(gate)
    names, values = zip(*gate.named_parameters())

    def run(a, b, *values):
        args = ((a, b), inputs(gate)[1]) if isinstance(gate, EdgeGate) \
            else (a, b)
        return torch.func.functional_call(gate, dict(zip(names, values)), args)

    a, b = args[0] if isinstance(gate, EdgeGate) else args
    assert gradcheck(run, (a.requires_grad_(), b.requires_grad_(), *values))


@every_gate
@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_dtype(gate, dtype):
    gate = type(gate).from_config(gate.get_config())
    wide = gate(*inputs(gate, torch.float))
    out = gate.to(dtype)(*inputs(gate, dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), wide, atol=0.05, rtol=0.05)


@every_gate
def test_config(gate):
    config = json.loads(json.dumps(gate.get_config()))
    again = type(gate).from_config(config)
    assert again.get_config() == gate.get_config()
    again.load_state_dict(gate.state_dict())
    args = inputs(gate, torch.float)
    assert torch.equal(again(*args), gate(*args))
    before = [value.clone() for value in again.parameters()]
    again.reset_parameters()
    for old, new in zip(before, again.parameters()):
        assert not torch.equal(old, new)


@pytest.mark.parametrize('make, name', [
    (lambda: GatedResidual(0), 'channels'),
    (lambda: ConcatGate(3, -1), 'context_channels'),
    (lambda: EdgeGate((3, 0)), 'in_channels')])
def test_sizes(make, name):
    with pytest.raises(ValueError, match=f"'{name}' must be positive"):
        make()
