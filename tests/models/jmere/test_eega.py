from collections.abc import Iterator

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.data import batch_view
from mmgraph.datasets import SyntheticPosts
from mmgraph.errors import ShapeError
from mmgraph.metrics import QuintupleMetric
from mmgraph.models import TaskModel
from mmgraph.models.jmere import EEGA
from mmgraph.nn.align import (
    EdgeEnhancedAligner,
    StructuralAligner,
    TransportAligner,
)
from mmgraph.nn.encoders import CharWordEncoder
from mmgraph.parse.word_pairs import pair_index
from mmgraph.train import PostDataModule
from mmgraph.transforms import WordPairs
from tests.models.jmere.posts import (
    LABELS,
    NUM_POS,
    NUM_PREDICATES,
    NUM_RELATIONS,
    NUM_TYPES,
    OBJECT,
    GivenStates,
    batch_of,
    posts,
)

SETTINGS = {
    'default': {},
    'text only': dict(object_channels=None),
    'nodes': dict(alignment='node'),
    'edges': dict(alignment='edge'),
    'no alignment': dict(alignment='none'),
    'no channels': dict(channels=()),
    'pos only': dict(channels=('pos', )),
    'transformer': dict(graph_layer='transformer'),
    'two blocks': dict(num_layers=2, update_image=True),
    'directed': dict(directed=True),
    'carried': dict(fusion='alignment'),
    'wide heads': dict(attention_channels=12),
    'no pair features': dict(pair_features=False),
    'other width': dict(hidden_channels=8),
}


def model(seed: int = 0, **options: object) -> EEGA:
    torch.manual_seed(seed)
    settings: dict[str, object] = dict(
        object_channels=OBJECT, num_dependencies=len(LABELS),
        num_predicates=NUM_PREDICATES, num_pos=NUM_POS, edge_dim=5,
        num_heads=2)
    return EEGA(GivenStates(), NUM_TYPES, NUM_RELATIONS,
                **{**settings, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize('name', SETTINGS)
def test_a_post_is_read_alike_alone_and_in_a_batch(name: str) -> None:
    eega, items = model(**SETTINGS[name]).eval(), posts()
    together = eega(batch_of(items))
    ptr = batch_of(items)['word'].ptr
    start = 0
    for one in items:
        alone = eega(batch_of([one]))
        rows = together.logits[start:start + alone.logits.size(0)]
        torch.testing.assert_close(alone.logits, rows, atol=1e-5, rtol=1e-5)
        start += alone.logits.size(0)
    assert start == together.logits.size(0)
    directed = bool(SETTINGS[name].get('directed'))
    assert together.pair_index.equal(pair_index(ptr, directed))
    assert eega(items[0]).logits.equal(eega(batch_of(items[:1])).logits)


@pytest.mark.parametrize('name', SETTINGS)
def test_every_parameter_learns(name: str) -> None:
    eega, batch = model(**SETTINGS[name]), batch_of(posts())
    eega.loss(eega(batch), batch).backward()
    still = [key for key, value in eega.named_parameters()
             if value.grad is None or not value.grad.isfinite().all()]
    assert still == []
    assert any(value.grad.abs().max() > 0 for key, value
               in eega.named_parameters() if 'text_layers' in key)


@pytest.mark.parametrize('name', SETTINGS)
def test_a_configuration_gives_the_model_back(name: str) -> None:
    eega, batch = model(**SETTINGS[name]).eval(), batch_of(posts())
    other = TaskModel.from_config(eega.get_config()).eval()
    other.load_state_dict(eega.state_dict())
    assert other(batch).logits.equal(eega(batch).logits)


def test_the_loss_is_the_papers() -> None:
    batch = batch_of(posts())
    pairs = model(alignment='none').eval()
    plain = float(pairs.loss(pairs(batch), batch))
    loss = {}
    for terms in ('node', 'edge', 'both'):
        eega = model(alignment=terms, align_weight=0.6, alpha=0.4).eval()
        eega.load_state_dict(pairs.state_dict())
        loss[terms] = (float(eega.loss(eega(batch), batch)) - plain) / 0.6
    assert loss['node'] > 0 and loss['edge'] > 0
    assert loss['both'] == pytest.approx(
        0.4 * loss['node'] + 0.6 * loss['edge'], rel=1e-4)
    # The same aligner on the same words and objects.
    eega = model().eval()
    eega.load_state_dict(pairs.state_dict())
    seen = []
    eega.aligner.register_forward_pre_hook(
        lambda module, views: seen.append(views))
    eega(batch)
    wd = EdgeEnhancedAligner.eega(alpha=1.)(*seen[0]).loss
    assert float(wd) == pytest.approx(loss['node'], rel=1e-4)


def test_blocks_add_their_losses() -> None:
    batch = batch_of(posts())
    eega = model(num_layers=2).eval()
    losses = []
    eega.aligner.register_forward_hook(
        lambda module, views, out: losses.append(float(out.loss)))
    total = eega(batch).loss
    assert len(losses) == 2
    assert float(total) == pytest.approx(0.6 * sum(losses), rel=1e-5)


def test_only_a_model_with_an_image_reads_objects() -> None:
    batch = batch_of(posts())
    changed = batch.clone()
    changed['object'].x = batch['object'].x + 1
    for options, equal in ((dict(object_channels=None), True),
                           (dict(alignment='none'), False),
                           (dict(fusion='alignment'), False)):
        eega = model(**options).eval()
        before, after = eega(batch).logits, eega(changed).logits
        assert before.equal(after) is equal
        # A post without image has nothing to read.
        first = 21
        torch.testing.assert_close(before[first:first + 6],
                                   after[first:first + 6])


def test_the_order_of_objects_does_not_matter() -> None:
    item = posts()[0]
    order = torch.tensor([2, 0, 3, 1])
    place = order.argsort()
    other = item.clone()
    other['object'].x = item['object'].x[order]
    relates = ('object', 'relates', 'object')
    other[relates].edge_index = place[item[relates].edge_index]
    eega = model(alignment='none').eval()
    torch.testing.assert_close(eega(other).logits, eega(item).logits)


def test_any_aligner_may_take_its_place() -> None:
    batch = batch_of(posts())
    out = model(aligner=TransportAligner()).eval()(batch)
    assert out.loss is not None and out.loss > 0
    carried = model(aligner=StructuralAligner(top_k=1), fusion='alignment')
    out = carried.eval()(batch)
    assert out.loss is None and out.alignment is not None
    with pytest.raises(ValueError, match="'StructuralAligner' has no loss"):
        model(aligner=StructuralAligner())(batch)


def test_words_that_the_encoder_did_not_see_are_words() -> None:
    class Short(GivenStates):
        node_type = 'token'

        def __init__(self) -> None:
            super().__init__()
            self.node_type = 'token'

        def forward(self, batch):  # type: ignore[no-untyped-def]
            return batch['token'].x

    items = posts()
    for item in items:  # All but the last word of each post.
        n = item['word'].num_nodes
        kept = max(n - 1, 0)
        item['token'].x = item['word'].x[:kept]
        item['token'].input_id = torch.zeros(kept, dtype=torch.long)
        item['token'].num_nodes = kept
        item['token', 'part_of', 'word'].edge_index = torch.arange(
            kept).repeat(2, 1)
    eega = model()
    eega.encoder = Short()
    batch = batch_of(items)
    out = eega.eval()(batch)
    assert out.logits.size(0) == pair_index(batch['word'].ptr).size(1)
    assert len(eega.decode(out, batch)) == len(items)


def test_what_is_missing_is_said() -> None:
    items = posts()
    bare = items[0].clone()
    del bare['word', 'pairs', 'word']
    with pytest.raises(ValueError, match=r'pairs=WordPairs\(\)'):
        model()(batch_of([bare]))
    model(channels=('pos', ))(batch_of([bare]))
    untagged = items[0].clone()
    del untagged['word'].pos_id
    with pytest.raises(ValueError, match="'pos_id'.*graph='dependency'"):
        model()(batch_of([untagged]))
    with pytest.raises(ValueError, match=r"'pos_id' must be in \[0, 2\)"):
        model(num_pos=2)(batch_of(items))
    with pytest.raises(ShapeError, match="'object_channels' = 4"):
        model(object_channels=4)(batch_of(items))
    with pytest.raises(ValueError, match="'alignment' must not be 'none'"):
        model(alignment='none', fusion='alignment')
    for name, value in (('alignment', 'nodes'), ('fusion', 'sum'),
                        ('graph_layer', 'gat')):
        with pytest.raises(ValueError, match=f"'{name}'"):
            model(**{name: value})
    with pytest.raises(ValueError, match="'channels'"):
        model(channels=('pos', 'tree'))
    with pytest.raises(ValueError, match="'align_weight'"):
        model(align_weight=-1.)
    other = EEGA(GivenStates(), 1, NUM_RELATIONS, num_pos=NUM_POS,
                 num_dependencies=len(LABELS), num_heads=2)
    batch = batch_of(items)
    with pytest.raises(ValueError, match="'type_id'"):
        other.loss(other(batch), batch)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Operations are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures('one_thread')
def test_sixteen_posts_can_be_learned_by_heart() -> None:
    torch.manual_seed(0)
    posts = SyntheticPosts(num_posts=16, clauses=1, object_dim=16)
    data = PostDataModule(posts, batch_size=16, cache=True, pairs=WordPairs())
    kinds = data.vocabularies
    encoder = CharWordEncoder(data.words, word_dim=16, hidden_channels=16,
                              dropout=0.)
    eega = EEGA(
        encoder, data.num_types, data.num_relations, data.signatures,
        object_channels=16, num_dependencies=len(kinds['dependency']),
        num_predicates=len(kinds['predicate']), num_pos=len(kinds['pos']),
        edge_dim=16, num_heads=2, align_weight=0.01, dropout=0.,
        graph_dropout=0., image_dropout=0.)
    items = data.items('train')
    batch = Batch.from_data_list([items[i] for i in range(len(items))])
    optimizer = torch.optim.AdamW(eega.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        eega.loss(eega(batch), batch).backward()
        optimizer.step()
    eega.eval()
    metric = QuintupleMetric(kinds['entity'], kinds['relation'],
                             data.symmetric)
    metric.update(eega.decode(eega(batch), batch), batch)
    assert metric.compute()['f1'] >= 0.95


def test_aligned_views_are_words_and_objects() -> None:
    batch = batch_of(posts())
    out = model().eval()(batch)
    words, objects = batch_view(batch, 'word'), batch_view(batch, 'object')
    assert out.alignment.dense().shape == (
        len(posts()), int(words.sizes.max()), int(objects.sizes.max()))
