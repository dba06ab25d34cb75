"""The ``mmgraph`` command, from its arguments to files and exit codes."""
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from mmgraph.cli import main
from mmgraph.train import from_pretrained

TESTS = Path(__file__).resolve().parent
MNRE = TESTS / 'resources' / 'mnre'
CONFIGS = sorted((TESTS.parent / 'configs').glob('*.yaml'))

SYNTHETIC = dict(
    trainer=dict(max_epochs=2, accelerator='cpu', logger=False),
    model=dict(lr=4e-3, model=dict(
        class_path='MEGA', init_args=dict(
            object_channels=8, hidden_channels=16,
            aligner=dict(class_path='StructuralAligner'),
            encoder=dict(class_path='CharWordEncoder', init_args=dict(
                word_dim=8, hidden_channels=8))))),
    data=dict(batch_size=16, dataset=dict(
        class_path='SyntheticPosts',
        init_args=dict(num_posts=40, object_dim=8))))

WORD_PIECES = dict(
    trainer=dict(max_epochs=1, accelerator='cpu', logger=False),
    model=dict(lr=1e-3, encoder_lr=1e-4, model=dict(
        class_path='mmgraph.models.mre.MEGA', init_args=dict(
            use_semantic=False, encoder=dict(
                class_path='mmgraph.nn.encoders.TransformerTextEncoder')))),
    data=dict(batch_size=4, dataset=dict(
        class_path='mmgraph.datasets.MNRE', init_args=dict(
            version='v2', graph='none', transform=dict(
                class_path='mmgraph.transforms.WordPieces')))))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configurations, a small encoder with a real tokenizer, a corpus."""
    return tmp_path_factory.mktemp('cli')


@pytest.fixture(scope='module')
def synthetic(folder):
    path = folder / 'synthetic.yaml'
    path.write_text(yaml.safe_dump(SYNTHETIC))
    return ['--config', str(path)]


@pytest.fixture(scope='module')
def encoder(folder, minilm):
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    path = folder / 'encoder'
    AutoTokenizer.from_pretrained(minilm).save_pretrained(path)
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(
        minilm, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16)).save_pretrained(path)
    return path


@pytest.fixture(scope='module')
def mnre(folder, encoder):
    path = folder / 'mnre.yaml'
    path.write_text(yaml.safe_dump(WORD_PIECES))
    shutil.copytree(MNRE, folder / 'mnre')
    return ['--config', str(path), '--encoder', str(encoder),
            '--data.dataset.root', str(folder / 'mnre')]


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder."""
    work = tmp_path / 'work'
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, 'argv', ['mmgraph'])

    def call(*argv):
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as caught:
            # As outside of the tests: a user sees all but these.
            warnings.resetwarnings()
            for hidden in (DeprecationWarning, PendingDeprecationWarning,
                           ImportWarning, ResourceWarning):
                warnings.simplefilter('ignore', hidden)
            status = main([str(arg) for arg in argv])
        out, err = capfd.readouterr()
        return status, out, err + ''.join(f'{w.message}\n' for w in caught)
    return call


@pytest.fixture
def refuse(call, tmp_path, monkeypatch):
    """Runs the command on something unusable: one line, status 2, no file."""
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))

    def refuse(*argv):
        status, out, err = call(*argv)
        assert (status, out) == (2, ''), err
        assert re.fullmatch(r'mmgraph: error: [^\n]+\n', err), err
        assert not list(Path.cwd().iterdir())
        return err.removeprefix('mmgraph: error: ').rstrip('\n')
    return refuse


SCRIPT = """
import os, sys
from mmgraph.cli import main
args, sys.argv = sys.argv[1:], ['mmgraph']
assert main(['fit', *args, '--data.eval_batch_size=0']) == 2
assert not os.listdir()
print('--')
print('--', file=sys.stderr)
sys.exit(main(['fit', *args]))
"""


@pytest.fixture(scope='module')
def trained(folder, synthetic):
    """A training run on synthetic posts after one that cannot start, in a
    process of its own, where libraries write to the real stderr.
    """
    work = folder / 'trained'
    work.mkdir()
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, *synthetic], cwd=work,
        # As many threads as here: the last bits of a sum depend on it.
        env={**os.environ, 'OMP_NUM_THREADS': str(torch.get_num_threads()),
             'PYTHONPATH': str(TESTS.parent)},
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return work, done.stdout, done.stderr


@pytest.fixture(scope='module')
def checkpoint(trained):
    return trained[0] / 'runs' / 'checkpoints' / 'best.ckpt'


def test_fit_says_little_and_leaves_what_it_says(trained):
    work, out, err = trained
    refused, bar, first, *epochs = err.splitlines()
    assert (refused, bar) == ("mmgraph: error: 'eval_batch_size' must be at "
                              'least 1 (got 0)', '--')
    assert re.fullmatch(r'MEGA: [\d,]+ parameters to train, on cpu', first)
    assert len(epochs) == 2  # seen even where there is no terminal
    for i, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf'epoch {i}/2  train_loss \d\.\d+  val_loss \d\.\d+  '
            r'val_accuracy [01]\.\d+  val_f1 [01]\.\d+  [\d.]+ s', line)
    bar, best, same = out.splitlines()
    assert bar == '--'
    assert best == 'best checkpoint: runs/checkpoints/best.ckpt'
    model, vocabularies = from_pretrained(
        work / same.removeprefix('the same as a folder: '))
    assert model.num_relations == len(vocabularies['relation']) == 10
    assert sorted(p.name for p in (work / 'runs').rglob('*')) == [
        'best.ckpt', 'checkpoints', 'config.json', 'config.yaml', 'last.ckpt',
        'model.safetensors', 'pretrained', 'vocabularies.json']


def test_the_saved_configuration_is_the_run_again(trained, call):
    work, _, err = trained
    status, out, again = call('fit', '--config',
                              work / 'runs' / 'config.yaml')
    assert status == 0
    seconds = re.compile(r'[\d.]+ s$', re.MULTILINE)
    assert seconds.sub('', again) == seconds.sub('', err.split('--\n')[1])
    a, b = (torch.load(path / 'runs/checkpoints/last.ckpt', weights_only=True)
            for path in (work, Path.cwd()))
    for key, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][key])


def test_resume(trained, synthetic, call):
    work, _, _ = trained
    last = work / 'runs' / 'checkpoints' / 'last.ckpt'
    state = torch.load(last, weights_only=True)
    assert state['epoch'] == 1 and state['global_step'] == 6
    status, out, err = call('fit', *synthetic, '--ckpt_path', last,
                            '--trainer.max_epochs', 3)
    assert status == 0
    assert 'going on after step 6\nepoch 3/3' in err
    # The score may not have got better in this folder.
    best = Path(out.splitlines()[0].removeprefix('best checkpoint: '))
    assert best.is_file() and best.name == 'best.ckpt'
    assert Path('runs/checkpoints/pretrained/config.json').is_file()


def test_resume_without_the_best(trained, synthetic, call, tmp_path):
    last = shutil.copy(trained[0] / 'runs/checkpoints/last.ckpt', tmp_path)
    state = torch.load(last, weights_only=True)
    for name, callback in state['callbacks'].items():
        if name.startswith('ModelCheckpoint'):
            callback['best_model_score'] = torch.tensor(2.)
            callback['best_k_models'] = {
                callback['best_model_path']: torch.tensor(2.)}
            callback['kth_value'] = torch.tensor(2.)
    torch.save(state, last)
    status, _, err = call('fit', *synthetic, '--ckpt_path', last,
                          '--trainer.max_epochs', 3)
    assert status == 2
    assert err.endswith('mmgraph: error: runs/checkpoints/best.ckpt: the best '
                        'checkpoint of the run that was gone on with is not '
                        'there\n')


def test_best_and_last(synthetic, call):
    # The score goes down: the first epoch is the best.
    status, _, err = call(
        'fit', *synthetic, '--trainer.max_epochs=4', '--checkpoint.mode=min',
        '--checkpoint.monitor=epoch')
    assert status == 0 and len(err.splitlines()) == 5
    folder = Path('runs/checkpoints')
    best, last = (torch.load(folder / f'{name}.ckpt', weights_only=True)
                  for name in ('best', 'last'))
    assert (best['epoch'], last['epoch']) == (0, 3)
    model, _ = from_pretrained(folder / 'pretrained')
    for key, value in model.state_dict().items():
        assert torch.equal(value, best['state_dict'][f'model.{key}'])
    status, _, err = call('fit', *synthetic, '--trainer.max_epochs=5',
                          '--ckpt_path=last')
    assert status == 0 and 'epoch 5/5' in err and 'epoch 4' not in err


def test_validate_and_test(checkpoint, synthetic, call):
    model = torch.load(checkpoint, weights_only=True)['state_dict']
    assert all(key.startswith('model.') for key in model)
    for command, prefix in ('validate', 'val'), ('test', 'test'):
        status, out, err = call(command, *synthetic, '--ckpt_path',
                                checkpoint)
        assert (status, err) == (0, '')
        for name in 'loss', 'accuracy', 'precision', 'recall', 'f1':
            assert re.search(rf'{prefix}_{name}\W+\d\.\d+', out)
        assert not list(Path.cwd().iterdir())


def test_predict(checkpoint, synthetic, call):
    status, out, err = call('predict', *synthetic, '--ckpt_path', checkpoint)
    assert (status, out, err) == (0, 'wrote predictions.jsonl\n', '')
    assert [p.name for p in Path.cwd().iterdir()] == ['predictions.jsonl']
    rows = [json.loads(line) for line in
            Path('predictions.jsonl').read_text().splitlines()]
    assert [row['post_id'] for row in rows] == [f'test-{i}' for i in range(40)]
    _, vocabularies = from_pretrained(checkpoint.parent / 'pretrained')
    for row in rows:
        assert list(row) == ['post_id', 'words', 'head', 'tail', 'relation',
                             'score']
        for mention in row['head'], row['tail']:
            assert mention['text'] == ' '.join(
                row['words'][mention['start']:mention['end']])
        assert row['relation'] in vocabularies['relation']
        assert 0 < row['score'] <= 1
    call('predict', *synthetic, '--ckpt_path', checkpoint,
         '--data.predict_split=val', '--predictions.output=a/b.jsonl')
    assert Path('a/b.jsonl').read_text().startswith('{"post_id": "val-0"')


def test_mnre_from_text_to_predictions(mnre, call, folder):
    status, out, err = call('fit', *mnre)
    assert status == 0 and len(err.splitlines()) == 2, err
    best = Path('runs/checkpoints/best.ckpt')
    pretrained = best.parent / 'pretrained'
    model, vocabularies = from_pretrained(pretrained)
    assert model.num_relations == 23
    assert vocabularies['relation'].to_label(0) == 'None'
    assert str(folder) not in (pretrained / 'config.json').read_text()
    assert (pretrained / 'tokenizer').is_dir()
    # The tokenizer that was saved serves as well as the one given.
    status, out, err = call(
        'test', *mnre, '--ckpt_path', best,
        '--data.dataset.transform.tokenizer', pretrained / 'tokenizer')
    assert (status, err) == (0, '') and 'test_f1' in out
    status, out, err = call('predict', *mnre, '--ckpt_path', best)
    assert (status, err) == (0, '')
    rows = [json.loads(line) for line in
            Path('predictions.jsonl').read_text().splitlines()]
    source = [eval(line) for line in  # noqa: S307
              (MNRE / 'v2_test.txt').read_text().splitlines()]
    assert [(row['post_id'], row['words']) for row in rows] == [
        (line['img_id'], line['token']) for line in source]
    for row, line in zip(rows, source, strict=True):
        for name, key in ('head', 'h'), ('tail', 't'):
            assert row[name] == dict(text=line[key]['name'],
                                     start=line[key]['pos'][0],
                                     end=line[key]['pos'][1])


def test_early_stopping_is_told(synthetic, call):
    status, _, err = call('fit', *synthetic, '--early_stopping.patience=1',
                          '--early_stopping.min_delta=1',
                          '--trainer.max_epochs=9')
    assert status == 0
    assert err.endswith('stopped: val_f1 has not got better for 1 '
                        'validations\n')
    assert len(err.splitlines()) == 4


def test_parts_by_their_short_names(call):
    status, _, err = call(
        'fit', '--model.model=PCNN', '--data.dataset=SyntheticPosts',
        '--data.dataset.num_posts=20', '--trainer.fast_dev_run=true',
        '--trainer.accelerator=cpu')
    assert status == 0
    assert err.startswith('PCNN: ')


# --- what cannot be used ----------------------------------------------------


def test_missing_folder(refuse, mnre, tmp_path):
    nowhere = tmp_path / 'nowhere'
    assert refuse('fit', *mnre, '--data.dataset.root', nowhere).startswith(
        f'{nowhere}: no such folder')


def test_wrong_version(refuse, mnre):
    assert refuse('fit', *mnre, '--data.dataset.version', 'v3') == (
        "'data.dataset.version': must be one of 'v1', 'v2' (got v3)")


@pytest.fixture
def corpus(tmp_path):
    return Path(shutil.copytree(MNRE, tmp_path / 'corpus'))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_unknown_relation(refuse, mnre, corpus, split):
    path = corpus / f'v2_{split}.txt'
    lines = (MNRE / 'v2_train.txt').read_text().splitlines()
    lines[2] = lines[2].replace('/org/loc/locate_at', '/org/loc/locate')
    path.write_text('\n'.join(lines))
    message = refuse('fit', *mnre, '--data.dataset.root', corpus)
    assert message.startswith(f"{path}:3: '/org/loc/locate' is not a relation")
    assert "Did you mean '/org/loc/locate_at'? (post '" in message


def test_broken_line(refuse, mnre, corpus):
    path = corpus / 'v2_test.txt'
    path.write_text(path.read_text() + "{'token': ['a', \n")
    for command in ['test', '--ckpt_path', 'none'], ['predict']:
        # The checkpoint comes first: nothing is read for nothing.
        refuse(*command, *mnre, '--data.dataset.root', corpus)
    message = refuse('fit', *mnre, '--data.dataset.root', corpus,
                     '--data.dataset.split', 'test')
    assert message.startswith(f'{path}:3: not a Python dict literal')


def test_checkpoint_of_other_relations(refuse, mnre, checkpoint):
    for command in 'fit', 'test':
        message = refuse(command, *mnre, '--ckpt_path', checkpoint)
        assert message.startswith(
            f'{checkpoint}: the checkpoint was trained on other labels')


def test_checkpoint_of_another_model(refuse, synthetic, checkpoint):
    message = refuse('test', *synthetic, '--ckpt_path', checkpoint,
                     '--model.model.hidden_channels=24')
    assert message.startswith(f'{checkpoint}: the checkpoint is of another ')
    message = refuse('test', *synthetic, '--ckpt_path', checkpoint,
                     '--data.dataset.seed=3')
    assert message.startswith(f'{checkpoint}: the model of the checkpoint '
                              f'knows other words')


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: b'hello', lambda data: data[:3000],
    lambda data: data[:len(data) // 2] + bytes(200)
    + data[len(data) // 2 + 200:]], ids=['empty', 'text', 'cut', 'zeros'])
def test_damaged_checkpoint(refuse, synthetic, checkpoint, tmp_path, damage):
    path = tmp_path / 'damaged.ckpt'
    path.write_bytes(damage(checkpoint.read_bytes()))
    for command in 'fit', 'validate':
        assert refuse(command, *synthetic, '--ckpt_path', path) == (
            f'{path}: cannot be read as a checkpoint; is it whole?')


@pytest.mark.parametrize('value', [[1], {'state_dict': {}}])
def test_foreign_checkpoint(refuse, synthetic, tmp_path, value):
    path = tmp_path / 'foreign.ckpt'
    torch.save(value, path)
    assert refuse('predict', *synthetic, '--ckpt_path', path) == (
        f'{path}: is not a checkpoint of mmgraph')


def test_missing_checkpoint(refuse, synthetic):
    assert refuse('fit', *synthetic, '--ckpt_path', 'no.ckpt') == (
        'no.ckpt: no such checkpoint')
    # An untrained model is never what was meant.
    for args in ['validate'], ['test', '--ckpt_path', 'best'], ['predict']:
        assert '--ckpt_path FILE' in refuse(args[0], *synthetic, *args[1:])


@pytest.mark.parametrize('args, message', [
    (['--model.lrr=1'], 'unrecognized arguments: --model.lrr=1'),
    (['--model.model=MEGAA'],
     "'model.model': no class 'MEGAA' fits here. Did you mean 'MEGA'?"),
    (['--model.model=mmgraph.models.mre.MEGAA'], "no class 'mmgraph.models."
     "mre.MEGAA' fits here. Did you mean 'MEGA'?"),
    (['--model.model.aligner=StructuralAlign'],
     "'model.model.aligner': no class 'StructuralAlign' fits here. Did you "
     "mean 'StructuralAligner'?"),
    (['--data.dataset=MNREE'], "'data.dataset': no class 'MNREE' fits here"),
    (['--model.lr=fast'], "'model.lr': must be of type float (got fast)"),
    (['--trainer.max_epochs=x'],
     "'trainer.max_epochs': must be of type int (got x)"),
    (['--data.dataset.num_posts=x'],
     "'data.dataset.num_posts': must be of type int (got x)"),
    (['--data.dataset.num_posts=0'], "'num_posts' must be at least 1 (got 0)"),
    (['--data.batch_size=0'], "'batch_size' must be at least 1 (got 0)"),
    (['--model.schedule=cosine'],
     "'model.schedule': must be one of 'linear', 'constant' (got cosine)"),
    (['--model.model.colour=3'], "'model.model': Option 'colour' is not"),
    (['--trainer.max_epochs=-1'], "schedule 'linear' needs an end"),
    (['--trainer.accelerator=abacus'], 'invalid accelerator name'),
    (['--config=none.yaml'], 'none.yaml'),
])
def test_bad_arguments(refuse, synthetic, args, message):
    assert message in refuse('fit', *synthetic, *args)


def test_bad_configuration(refuse, tmp_path):
    path = tmp_path / 'bad.yaml'
    path.write_text('trainer: {max_epochs: [\n')
    message = refuse('fit', '--config', path)
    assert f'{path}, line 2' in message
    path.write_text('modle: 3\n')
    assert 'modle' in refuse('fit', '--config', path)
    assert refuse('fit') == ('the following arguments are required: '
                             'model.model, data.dataset; a file may give '
                             'them: --config FILE')


def test_unknown_encoder(refuse, mnre, tmp_path):
    nowhere = tmp_path / 'nowhere'
    message = refuse('fit', *mnre, '--encoder', nowhere)
    assert message.startswith(f'{nowhere}: no tokenizer can be loaded from ')
    nowhere.mkdir()
    refuse('fit', *mnre, '--encoder', nowhere)


def test_a_folder_that_cannot_be_written(call, synthetic, tmp_path,
                                         checkpoint):
    (tmp_path / 'file').touch()
    status, out, err = call('predict', *synthetic, '--ckpt_path', checkpoint,
                            '--predictions.output', tmp_path / 'file' / 'x')
    assert (status, out) == (2, '')
    assert err.startswith(f'mmgraph: error: {tmp_path / "file" / "x"}: cannot')
    status, out, err = call('fit', *synthetic, '--trainer.default_root_dir',
                            tmp_path / 'file')
    assert (status, out) == (2, '')
    assert err.splitlines()[-1].startswith(
        f'mmgraph: error: {tmp_path / "file"}')


def test_mistakes_of_ours_are_not_hidden(synthetic, call, monkeypatch):
    from mmgraph.models.mre import MEGA

    def forward(self, batch):
        return int('x')

    monkeypatch.setattr(MEGA, 'forward', forward)
    with pytest.raises(ValueError, match='invalid literal'):
        call('fit', *synthetic)


def test_debug_shows_where(synthetic, call, monkeypatch):
    monkeypatch.setenv('MMGRAPH_DEBUG', '1')
    with pytest.raises(ValueError, match='no such checkpoint'):
        call('fit', *synthetic, '--ckpt_path', 'no.ckpt')


# --- help, data, show -------------------------------------------------------


def help_of(capfd, monkeypatch, *argv):
    monkeypatch.setattr(sys, 'argv', ['mmgraph'])
    with pytest.raises(SystemExit) as caught:
        main([*argv, '--help'])
    assert caught.value.code == 0
    out, err = capfd.readouterr()
    assert err == ''
    return ' '.join(out.split())


@pytest.mark.parametrize('command', ['fit', 'validate', 'test', 'predict'])
def test_help_of_training(capfd, monkeypatch, command):
    text = help_of(capfd, monkeypatch, command)
    assert f'Example: mmgraph {command} --config ' in text
    for flag in ('--model.lr', '--model.model', '--data.dataset', '--encoder',
                 '--trainer.max_epochs', '--predictions.output'):
        assert flag in text
    assert 'Learning rate of pretrained encoders' in text
    assert 'Posts a training batch.' in text


@pytest.mark.parametrize('argv, words', [
    ([], 'mmgraph demo mmgraph data check'), (['demo'], '--quick'),
    (['data'], 'check'), (['data', 'check'], '--images'),
    (['data', 'stats'], 'folder of the corpus'), (['show'], '--mnre')])
def test_help(capfd, monkeypatch, argv, words):
    assert words in help_of(capfd, monkeypatch, *argv)


def test_version(capfd):
    import mmgraph
    with pytest.raises(SystemExit) as caught:
        main(['--version'])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f'mmgraph {mmgraph.__version__}\n'


@pytest.mark.parametrize('argv, message', [
    ([], 'the following arguments are required: COMMAND'),
    (['fitt'], "invalid choice: 'fitt'"),
    (['data'], 'arguments are required: ACTION'),
    (['show', 'x'], "invalid int value: 'x'"),
    (['show', '99999'], r"'index' must be in [0, 2000) (got 99999)"),
    (['show', '--output', 'a.txt'],
     "a.txt: 'output' must end in .png, .svg, .pdf"),
    (['demo', '--visual', '2'], "'visual' must be in [0, 1] (got 2.0)"),
    (['data', 'check', 'nowhere'], 'nowhere: no such folder'),
    (['data', 'stats', 'nowhere'], 'nowhere: no such folder'),
    (['show', '--mnre', 'nowhere'], 'nowhere: no such folder'),
])
def test_other_bad_arguments(refuse, argv, message):
    assert message in refuse(*argv)


def test_data_check(call, corpus):
    # An invented corpus is not the published one; a broken line says where.
    (corpus / 'v2_val.txt').write_text('{\n')
    for more in [], ['--images', corpus]:
        status, out, err = call('data', 'check', corpus, *more)
        assert (status, err) == (1, '')
        assert f'{corpus / "v2_val.txt"}:1: not a Python dict literal' in out


@pytest.mark.real_data
def test_data_check_of_the_real_corpus(call, data_root):
    status, out, err = call('data', 'check', data_root / 'mnre')
    assert (status, err) == (0, ''), out
    for name in 'v1', 'v2', 'train', 'val', 'test':
        assert name in out


def test_data_stats(call, corpus):
    status, out, err = call('data', 'stats', corpus)
    assert (status, err) == (0, '')
    assert re.search(r'\b5\b', out) and re.search(r'\b3\b', out)


def test_data_of_tweets(call, tmp_path):
    root = Path(shutil.copytree(MNRE.parent / 'twitter2015', tmp_path / 'x'))
    status, out, err = call('data', 'stats', root)
    assert (status, err) == (0, '')
    assert re.search(r'^mentions, lenient +7 +3 +7$', out, re.MULTILINE)
    assert 'Whose images fill the slots' in out
    # Invented posts are fewer than the published ones; a broken record says
    # where.
    path = root / 'test_2.txt'
    path.write_text(path.read_text().replace('0.74', '0.99', 1))
    status, out, err = call('data', 'check', root)
    assert (status, err) == (1, '')
    assert 'the published file has 4000' in out
    assert f'{path}:4: scores must not rise' in out


@pytest.mark.real_data
@pytest.mark.parametrize('year', ['2015', '2017'])
def test_data_of_real_tweets(call, data_root, year):
    status, out, err = call('data', 'check', data_root / f'twitter{year}')
    assert (status, err) == (0, ''), out
    assert out.count(' published ') == 9
    status, out, err = call('data', 'stats', data_root / f'twitter{year}')
    assert (status, err) == (0, '')
    share = {'2015': '49.7%  12.1%  29.2%  8.9%',
             '2017': '74.9%  14.4%  10.7%  0.0%'}[year]
    assert re.search(rf'^inter +train +3,\d+ +{share}$', out, re.MULTILINE)


@pytest.mark.parametrize('args, name', [
    ([], 'post.png'), (['3', '--split', 'val', '--output', 'a/b.svg'],
                       'a/b.svg'),
    (['2', '--mnre', str(MNRE), '--split', 'train'], 'post.png'),
    (['--mnre', str(MNRE), '--version', 'v2', '--output', 'c.pdf'], 'c.pdf')])
def test_show(call, args, name):
    pytest.importorskip('matplotlib')
    status, out, err = call('show', *args)
    assert (status, err) == (0, '')
    assert out.endswith(f'wrote {name}\n') and out.startswith('Post(')
    start = Path(name).read_bytes()[:100]
    assert {'.png': b'\x89PNG', '.svg': b'<?xml', '.pdf': b'%PDF'}[
        Path(name).suffix] in start


def test_a_missing_extra(refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_lightning', None)
    assert refuse('fit') == (
        "'pytorch_lightning' is not installed. Install it with: pip install "
        "'mmgraph[train]'")


def test_interrupted(call, monkeypatch):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmgraph.cli._stats', stop)
    assert call('data', 'stats', 'x') == (130, '', 'mmgraph: stopped\n')


# --- the configurations that are published ----------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs(path, minilm, monkeypatch, tmp_path, data_root):
    from mmgraph.errors import InputError
    from mmgraph.train.cli import PostCLI
    monkeypatch.setattr(sys, 'argv', ['mmgraph'])
    monkeypatch.chdir(tmp_path)
    args = ['--config', str(path), '--encoder', str(minilm),
            '--trainer.accelerator=cpu', '--trainer.logger=false']
    if path.stem == 'mega_mnre_v2':
        # Its scene graphs and features are not published.
        with pytest.raises(InputError, match='scene_dir'):
            PostCLI(args, run=False)
        return
    cli = PostCLI([*args, '--data.eval_batch_size=3'], run=False)
    batch = next(iter(cli.datamodule.val_dataloader()))
    model = cli.model.model
    output = model(batch)
    if model.task == 'relation':
        relations = cli.datamodule.vocabularies['relation']
        assert output.logits.shape == (3, len(relations))
    elif model.task == 'joint':
        n = batch['word'].ptr.diff()
        data = cli.datamodule
        assert output.logits.shape == (
            int((n * (n + 1)).sum()) // 2,
            1 + data.num_types + data.num_relations)
    else:
        types = cli.datamodule.vocabularies['entity']
        assert output.emissions.shape == (batch['word'].num_nodes,
                                          1 + 2 * len(types))
    assert len(model.decode(output, batch)) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_say_how_to_run_them(path):
    text = path.read_text()
    assert f'mmgraph fit --config configs/{path.name}' in text
    assert {'seed_everything', 'trainer', 'model', 'data'} <= set(
        yaml.safe_load(text))
