import json

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.models.mre import PCNN, GloveCNN
from tests.data.cases import make_text
from tests.models.mre.cases import make_posts as more_posts

WORDS = Vocabulary(['<unk>', 'ann', 'met', 'bob', 'again'], unknown='<unk>')
both = pytest.mark.parametrize('cls', [GloveCNN, PCNN])


def build(text, entities, relations):
    return Post.build(make_text(text), entities=entities, relations=relations)


def make_posts():
    """Mentions at both ends; adjacent; the tail first; nested; one word; no
    word; several pairs.
    """
    return [
        build('Ann met and never left Bob', [(0, 1), (5, 6)], [(0, 1, 1)]),
        build('then Ann Bob met', [(1, 2), (2, 3)], [(0, 1, 2)]),
        build('a Bob met again and again Ann', [(1, 2), (6, 7)], [(1, 0, 0)]),
        build('Bob Ann Bob', [(0, 3), (0, 2)], [(0, 1, 3)]),
        build('met', [(0, 1), (0, 1)], [(0, 1, 1)]),
        build('', [], []),
        build('Ann met Bob', [(0, 1), (2, 3), (1, 2)],
              [(0, 1, 1), (1, 2, 2), (2, 2, 0)]),
    ]


def make(cls, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = cls(WORDS, 4, word_dim=3, position_dim=2, hidden_channels=6,
                    **kwargs)
    return model.double().eval()


def oracle(model, post, num_pieces):
    """One pair, one word and one filter at a time."""
    words, far = post.words, model.max_length
    kernel, bias = model.conv.weight, model.conv.bias
    width = kernel.size(2)
    logits = []
    for h, t, _ in post.relations:
        head, tail = post.entities[h][0], post.entities[t][0]
        rows = []
        for i, word in enumerate(words):
            known = word if word in WORDS else word.lower()
            away = [max(-far, min(far, i - place)) for place in (head, tail)]
            rows.append(torch.cat([
                model.word.embedding.weight[WORDS.to_id(known)],
                model.head_position.weight[away[0] + far],
                model.tail_position.weight[away[1] + far]]))
        first, second = min(head, tail), max(head, tail)
        pieces = [range(len(words))] if num_pieces == 1 else [
            range(first + 1), range(first + 1, second + 1),
            range(second + 1, len(words))]
        pooled = []
        for piece in pieces:
            for f in range(kernel.size(0)):
                best = None
                for i in piece:
                    value = bias[f]
                    for k in range(width):
                        j = i + k - width // 2
                        if 0 <= j < len(words):
                            value = value + kernel[f, :, k] @ rows[j]
                    best = value if best is None or value > best else best
                zero = torch.zeros((), dtype=torch.double)
                pooled.append(zero if best is None else max(best, zero))
        logits.append(model.classifier.weight @ torch.stack(pooled)
                      + model.classifier.bias)
    return torch.stack(logits) if logits else torch.empty(0, 4).double()


@pytest.mark.parametrize('kwargs', [
    dict(), dict(kernel_size=1), dict(kernel_size=5), dict(max_length=2)])
@both
@torch.no_grad()
def test_oracle(cls, kwargs):
    model, posts = make(cls, **kwargs), make_posts()
    out = model(Batch.from_data_list(posts)).logits
    pieces = 3 if cls is PCNN else 1
    expected = [oracle(model, post, pieces) for post in posts]
    torch.testing.assert_close(out, torch.cat(expected), atol=1e-10, rtol=0)
    single = model.float()(Batch.from_data_list(posts)).logits
    torch.testing.assert_close(single.double(), torch.cat(expected),
                               atol=1e-5, rtol=0)


@both
@torch.no_grad()
def test_alone_is_in_a_batch(cls):
    """So padding changes nothing."""
    model, posts = make(cls), make_posts()
    alone = [model(post).logits for post in posts]
    for order in range(7), range(6, -1, -1), [4, 0], [3, 2], [5, 4], [5, 5]:
        batch = Batch.from_data_list([posts[i] for i in order])
        torch.testing.assert_close(model(batch).logits,
                                   torch.cat([alone[i] for i in order]),
                                   atol=1e-12, rtol=0)


@both
def test_mention_order_matters(cls):
    text, spans = 'Ann met Bob again', [(0, 1), (2, 3)]
    model = make(cls)
    forth, back, listed = (model(build(text, *rest)).logits for rest in (
        (spans, [(0, 1, 0)]), (spans, [(1, 0, 0)]),
        (spans[::-1], [(1, 0, 0)])))
    assert not torch.allclose(forth, back)
    assert torch.equal(forth, listed)


@both
def test_image_plays_no_part(cls):
    model, posts = make(cls), more_posts()
    bare = [Post.build(post.text, entities=post.entities,
                       relations=post.relations) for post in posts]
    assert torch.equal(model(Batch.from_data_list(posts)).logits,
                       model(Batch.from_data_list(bare)).logits)


@both
def test_loss_gradients_and_decode(cls):
    model, batch = make(cls).train(), Batch.from_data_list(make_posts())
    out = model(batch)
    model.loss(out, batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name
    found = model.decode(out, batch)
    assert [len(row) for row in found] == [1, 1, 1, 1, 1, 0, 3]
    assert found[2][0].head.text == 'Ann' and found[2][0].tail.start == 1
    assert found[4][0].head.text == 'met'


@both
def test_no_pair(cls):
    model = make(cls)
    for post in build('', [], []), build('Ann met', [(0, 1)], []):
        batch = Batch.from_data_list([post, post])
        out = model(batch)
        assert out.logits.shape == (0, 4)
        loss = model.loss(out, batch)
        loss.backward()
        assert loss.item() == 0 and model.decode(out, batch) == [[], []]


@both
def test_config_round_trip(cls, tmp_path):
    path = tmp_path / 'vectors.txt'
    path.write_text('ann 1 2 3\n')
    model = make(cls, vectors=str(path), unknown_rate=0.5)
    assert model.word.embedding.weight[1].tolist() == [1, 2, 3]
    config = json.loads(json.dumps(model.get_config()))
    assert str(path) not in json.dumps(config)
    again = cls.from_config(config).double().eval()
    again.load_state_dict(model.state_dict())
    batch = Batch.from_data_list(make_posts())
    assert torch.equal(again(batch).logits, model(batch).logits)
    assert again.word.unknown_rate == 0.5


@both
def test_dropout(cls):
    model, batch = make(cls, dropout=0.5), Batch.from_data_list(make_posts())
    assert torch.equal(model(batch).logits, model(batch).logits)
    model.train()
    assert not torch.equal(model(batch).logits, model(batch).logits)


@both
def test_errors(cls):
    with pytest.raises(ValueError, match=r"'kernel_size' must be odd \(got 4"):
        make(cls, kernel_size=4)
    with pytest.raises(ValueError, match="'words' must have an unknown label"):
        cls(Vocabulary(['a']), 3)
    model, post = make(cls), make_posts()[0]
    post['entity', 'relation', 'entity'].relation_id += 3
    with pytest.raises(ValueError, match=r'in \[0, 4\) \(got 4\)'):
        model.loss(model(post), post)
