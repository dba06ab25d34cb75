import json

import pytest
import torch
from torch import nn

from mmgraph.nn.configurable import build_from_config
from mmgraph.nn.crf import LinearChainCRF
from mmgraph.nn.heads import CRFHead
from mmgraph.parse.bio import bio_violations

PTR = torch.tensor([0, 3, 3, 4, 9])
TAGS = torch.tensor([1, 2, 0, 3, 0, 3, 4, 4, 1])
X = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('constraint', ['always', 'decoding', 'never'])
def test_is_a_layer_and_a_crf(constraint):
    head = CRFHead(6, 2, constraint)
    emissions = head(X)
    assert emissions.shape == (9, 5)
    torch.testing.assert_close(
        emissions, X @ head.classifier.weight.T + head.classifier.bias)
    crf = LinearChainCRF(5, 2, constraint)
    crf.load_state_dict(head.crf.state_dict())
    each = crf(emissions, TAGS, PTR)
    assert each[1] == 0 and each.count_nonzero() == 3
    torch.testing.assert_close(  # a mean over posts with words
        head.loss(emissions, TAGS, PTR), each.sum() / 3)
    tags = head.decode(emissions, PTR)
    assert tags == crf.decode(emissions, PTR)
    assert [len(path) for path in tags] == [3, 0, 1, 5]
    if constraint != 'never':
        assert not any(map(bio_violations, tags))


@pytest.mark.parametrize('ptr', [[0], [0, 0, 0]])
def test_no_words(ptr):
    head, ptr = CRFHead(6, 2), torch.tensor(ptr)
    emissions = head(X[:0])
    loss = head.loss(emissions, TAGS[:0], ptr)
    assert loss == 0
    loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None and not parameter.grad.any()
    assert head.decode(emissions, ptr) == [[]] * (len(ptr) - 1)


def test_learns_what_words_alone_cannot_tell():
    # Two words that look alike: the second continues the first.
    x = torch.zeros(4, 1)
    ptr, tags = torch.tensor([0, 2, 4]), torch.tensor([1, 2, 1, 2])
    torch.manual_seed(0)
    head = CRFHead(1, 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss = head.loss(head(x), tags, ptr)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert head.decode(head(x), ptr) == [[1, 2], [1, 2]]


def test_gradient_reaches_everything():
    head = CRFHead(6, 2)
    x = X.clone().requires_grad_()
    head.loss(head(x), TAGS, PTR).backward()
    assert x.grad.abs().sum(1).all()
    for parameter in head.parameters():
        assert parameter.grad.any()


def test_configuration():
    head = CRFHead(6, 2, 'decoding')
    again = build_from_config(json.loads(json.dumps(head.get_config())))
    again.load_state_dict(head.state_dict())
    assert again.crf.constraint == 'decoding' and again.num_types == 2
    torch.testing.assert_close(again(X), head(X))
    before = nn.utils.parameters_to_vector(head.parameters())
    head.reset_parameters()
    after = nn.utils.parameters_to_vector(head.parameters())
    assert (before != after).all()
    with pytest.raises(ValueError, match="'num_types' must be at least 1"):
        CRFHead(6, 0)
