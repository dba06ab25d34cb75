"""Tagged posts with objects and regions of an image, and what every tagger
that reads them must do.
"""
import json
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import Post, SceneGraph
from mmgraph.models import Entity
from mmgraph.nn import build_from_config
from mmgraph.nn.encoders import TransformerTextEncoder
from mmgraph.parse.bio import tags_of_spans
from tests.data.cases import make_scene, make_text
from tests.nn.attention.cases import randomised
from tests.nn.encoders.cases import BERT, with_tokens

OBJECT_DIM, REGION_DIM, NUM_TYPES = 5, 6, 2
#: Text, mentions, objects, regions.
POSTS: list[tuple[str, list[tuple[int, int, int]], int, int]] = [
    ('Ann met Bob Ray there', [(0, 1, 0), (2, 4, 1)], 3, 4),
    ('nor an image', [(2, 3, 1)], 0, 0),
    ('one', [(0, 1, 1)], 0, 2),
    ('', [], 2, 3),
    ('nothing to be found here', [], 1, 5),
    ('', [], 0, 0),
    ('two words', [(0, 2, 0)], 6, 1),
]


def pictured(text: str, spans: Any, objects: int, regions: int) -> Post:
    generator = torch.Generator().manual_seed(len(text) + objects)
    scene = make_scene(objects, OBJECT_DIM)
    scene.x = torch.randn(objects, OBJECT_DIM, generator=generator).double()
    post = Post.build(
        make_text(text), scene if objects else SceneGraph.empty(scene), spans,
        region_x=torch.randn(regions, REGION_DIM,
                             generator=generator).double(),
        post_id=text or 'none', has_image=objects + regions > 0)
    post['word'].tag_id = torch.tensor(
        tags_of_spans(spans, len(post.words)), dtype=torch.long)
    return with_tokens(post, seed=len(text))


def make_posts() -> list[Post]:
    return [pictured(*post) for post in POSTS]


def blind(post: Post) -> Post:
    """The post without its image."""
    text, spans, _, _ = next(p for p in POSTS
                             if p[0].split() == post.words)
    return pictured(text, spans, 0, 0)


def first_pieces(post: Post) -> list[int]:
    piece, word = post['token', 'part_of', 'word'].edge_index.tolist()
    return [piece[word.index(i)] for i in range(len(post.words))]


def encoder() -> TransformerTextEncoder:
    return TransformerTextEncoder(BERT)


class PictureCase:
    """Set :obj:`make`, the model."""
    make: Any
    # Without an influence on the output: they shift all keys of a query.
    no_gradient = ('attention.lin_key.bias', )
    lr = 0.01

    @pytest.fixture
    def model(self):
        return randomised(self.make(), seed=5)

    def test_alone_is_as_in_a_batch(self, model):
        posts = make_posts()
        batch = Batch.from_data_list(posts)
        out = model(batch)
        assert out.emissions.shape == (batch['word'].num_nodes,
                                       1 + 2 * NUM_TYPES)
        assert out.emissions.isfinite().all()
        assert out.word.tolist() == list(range(batch['word'].num_nodes))
        torch.testing.assert_close(out.emissions, torch.cat(
            [model(post).emissions for post in posts]))
        found = model.decode(out, batch)
        assert found == [model.decode(model(post), post)[0] for post in posts]
        losses = [model.loss(model(post), post) for post in posts if
                  post.words]
        torch.testing.assert_close(model.loss(out, batch),
                                   torch.stack(losses).mean())

    def test_order_of_a_batch(self, model):
        posts = make_posts()
        order = torch.randperm(
            len(posts), generator=torch.Generator().manual_seed(0)).tolist()
        out = model(Batch.from_data_list([posts[i] for i in order]))
        torch.testing.assert_close(out.emissions, torch.cat(
            [model(posts[i]).emissions for i in order]))

    def test_order_of_image_rows(self, model):
        posts = make_posts()
        expected = model(Batch.from_data_list(posts)).emissions
        for post in posts:
            for store in post['object'], post['region']:
                store.x = store.x.flip(0)
        torch.testing.assert_close(
            model(Batch.from_data_list(posts)).emissions, expected)

    def test_image_counts(self, model):
        post = make_posts()[0]
        seen, unseen = model(post).emissions, model(blind(post)).emissions
        assert not torch.isclose(seen, unseen).any()

    def test_no_image_in_the_batch(self, model):
        posts = [blind(post) for post in make_posts()]
        batch = Batch.from_data_list(posts)
        out = model.train()(batch)
        loss = model.loss(out, batch)
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_no_word_in_the_batch(self, model):
        posts = [make_posts()[3], make_posts()[5]]
        batch = Batch.from_data_list(posts)
        out = model(batch)
        assert out.emissions.shape == (0, 1 + 2 * NUM_TYPES)
        assert model.decode(out, batch) == [[], []]
        loss = model.loss(out, batch)
        loss.backward()
        assert loss == 0

    def test_gradient_reaches_every_parameter(self, model):
        batch = Batch.from_data_list(make_posts())
        model.loss(model(batch), batch).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if not name.startswith('encoder.') \
                    and not name.endswith(self.no_gradient):
                assert parameter.grad.abs().max() > 1e-12, name

    def test_learns(self):
        torch.manual_seed(0)
        model = self.make()
        batch = Batch.from_data_list(make_posts())
        for store in batch['object'], batch['region']:
            store.x = store.x.float()
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            losses.append(model.loss(model(batch), batch))
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.2 * losses[0]
        model.eval()
        words = [text.split() for text, *_ in POSTS]
        assert model.decode(model(batch), batch) == [
            [Entity(s, e, t, ' '.join(words[i][s:e])) for s, e, t in spans]
            for i, (_, spans, *_) in enumerate(POSTS)]

    def test_autocast(self):
        model, batch = self.make(), Batch.from_data_list(make_posts())
        with torch.autocast('cpu', torch.bfloat16):
            out = model(batch)
            loss = model.loss(out, batch)
        assert loss.isfinite()
        loss.backward()
        assert len(model.decode(out, batch)) == len(POSTS)

    def test_config_builds_the_same_model(self, model):
        config = json.loads(json.dumps(model.get_config()))
        again = build_from_config(config).double().eval()
        again.load_state_dict(model.state_dict())
        batch = Batch.from_data_list(make_posts())
        assert torch.equal(again(batch).emissions, model(batch).emissions)

    def test_words_without_a_state(self, model):
        posts = make_posts()
        whole = model(posts[0]).emissions
        store = posts[0]['token', 'part_of', 'word']
        store.edge_index = store.edge_index[:, store.edge_index[1] != 2]
        batch = Batch.from_data_list(posts)
        out = model(batch)
        assert out.word.tolist()[:5] == [0, 1, 3, 4, 5]
        torch.testing.assert_close(out.emissions[:4], whole[[0, 1, 3, 4]])
        assert model.loss(out, batch).isfinite()
        assert len(model.decode(out, batch)) == len(posts)
