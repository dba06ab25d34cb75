import json

import pytest
import torch

from mmgraph.nn.configurable import build_from_config
from mmgraph.nn.heads import SoftmaxHead

PTR = torch.tensor([0, 3, 3, 4, 9])
TAGS = torch.tensor([1, 2, 0, 3, 0, 3, 4, 4, 1])
X = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))


def test_formula():
    head = SoftmaxHead(6, 2)
    emissions = head(X)
    torch.testing.assert_close(
        emissions, X @ head.classifier.weight.T + head.classifier.bias)
    log_p = emissions - emissions.exp().sum(1, keepdim=True).log()
    expected = -sum(log_p[i, tag] for i, tag in enumerate(TAGS)) / 9
    torch.testing.assert_close(head.loss(emissions, TAGS, PTR), expected)


def test_decodes_word_by_word():
    head = SoftmaxHead(6, 2)
    tags = [2, 0, 4, 1, 3, 0, 0, 2, 1]  # ill-formed, and kept
    emissions = torch.eye(5)[tags]
    assert head.decode(emissions, PTR) == [[2, 0, 4], [], [1],
                                           [3, 0, 0, 2, 1]]


@pytest.mark.parametrize('ptr', [[0], [0, 0, 0]])
def test_no_words(ptr):
    head, ptr = SoftmaxHead(6, 2), torch.tensor(ptr)
    emissions = head(X[:0])
    loss = head.loss(emissions, TAGS[:0], ptr)
    assert loss == 0
    loss.backward()
    assert not head.classifier.weight.grad.any()
    assert head.decode(emissions, ptr) == [[]] * (len(ptr) - 1)


def test_half_precision():
    head = SoftmaxHead(6, 2)
    low = head(X).bfloat16()
    loss = head.loss(low, TAGS, PTR)
    assert loss.dtype == torch.float
    torch.testing.assert_close(loss, head.loss(low.float(), TAGS, PTR))


def test_configuration():
    head = SoftmaxHead(6, 2)
    again = build_from_config(json.loads(json.dumps(head.get_config())))
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again(X), head(X))
    before = head.classifier.weight.clone()
    head.reset_parameters()
    assert not torch.equal(before, head.classifier.weight)
    with pytest.raises(ValueError, match="'num_types' must be at least 1"):
        SoftmaxHead(6, 0)
