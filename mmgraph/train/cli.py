"""Training from the command line: one YAML file is one experiment."""
import json
import logging
import os
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import (
    BasePredictionWriter,
    EarlyStopping,
    ModelCheckpoint,
    ProgressBar,
)
from pytorch_lightning.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from torch import nn
from torch_geometric.data import Dataset
from torch_geometric.transforms import BaseTransform

# Parts that can be named on the command line have to be loaded.
import mmgraph.datasets
import mmgraph.models.jmere
import mmgraph.models.mner
import mmgraph.models.mre
import mmgraph.transforms  # noqa: F401
from mmgraph.errors import InputError
from mmgraph.train.checkpoint import save_pretrained
from mmgraph.train.data_module import PostDataModule
from mmgraph.train.module import PostModule
from mmgraph.train.progress import EpochReport
from mmgraph.utils import atomic_path, suggest

__all__ = ['JsonLinesWriter', 'LastCheckpoint', 'PostCLI', 'run']

# Where a model's part needs something of the data, it is filled in; a part
# that does not have the argument is left alone.
_LINKS = {
    'data.vocabularies': ['model.vocabularies'],
    'data.negative': ['model.negative'],
    'data.symmetric': ['model.symmetric'],
    'data.num_relations': ['model.model.init_args.num_relations'],
    'data.num_types': ['model.model.init_args.num_types'],
    'data.num_dependencies': ['model.model.init_args.num_dependencies'],
    'data.num_predicates': ['model.model.init_args.num_predicates'],
    'data.num_pos': ['model.model.init_args.num_pos'],
    'data.max_distance': ['model.model.init_args.max_distance'],
    'data.signatures': ['model.model.init_args.signatures'],
    'data.words': ['model.model.init_args.words',
                   'model.model.init_args.encoder.init_args.words'],
}


# What Lightning itself looks up.
_CHECKPOINTS = ('best', 'last', 'hpc', 'registry')

_DESCRIPTIONS = {
    'fit': 'Trains a model and keeps the checkpoint that is best on '
    'validation. Example: mmgraph fit --config configs/mtb_mnre_v2.yaml '
    '--encoder bert-base-uncased; to go on: --ckpt_path last.ckpt',
    'validate': 'Scores a checkpoint on the validation split. Example: '
    'mmgraph validate --config FILE --ckpt_path best.ckpt',
    'test': 'Scores a checkpoint on the test split. Example: mmgraph test '
    '--config FILE --ckpt_path best.ckpt',
    'predict': 'Writes what a checkpoint predicts as JSON lines. Example: '
    'mmgraph predict --config FILE --ckpt_path best.ckpt '
    '--predictions.output predictions.jsonl',
}

_NEEDS_TRANSFORMERS = 'TransformerTextEncoder'

# One ``--encoder`` serves the model and the tokenizer of the data.
_ENCODER = ['model.model.init_args.encoder.init_args.model',
            'data.dataset.init_args.transform.init_args.tokenizer']


class JsonLinesWriter(BasePredictionWriter):
    r"""Writes predictions as JSON lines, with :obj:`post_id` and
    :obj:`words`:

    - relation extraction: a line a relation, with :obj:`head` and
      :obj:`tail` (:obj:`text`, :obj:`start`, :obj:`end`), :obj:`relation`
      and :obj:`score`;
    - named entities: a line a mention, with :obj:`text`, :obj:`start`,
      :obj:`end` and :obj:`type`;
    - joint extraction: a line a post, with the lists :obj:`entities` and
      :obj:`relations` of the same; :obj:`head` and :obj:`tail` have a
      :obj:`type`, too, so that each relation is a whole quintuple.

    Args:
        output (str, optional): The file; it appears only when all is written.
            (default: :obj:`'predictions.jsonl'`)
    """
    def __init__(self, output: str = 'predictions.jsonl') -> None:
        super().__init__('epoch')
        self.output = output

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Any,
        batch_indices: Any,
    ) -> None:
        parts = [predictions]
        if trainer.world_size > 1:
            from torch import distributed
            parts = [None] * trainer.world_size
            distributed.all_gather_object(parts, predictions)
        if not trainer.is_global_zero:
            return
        # Process r had batches r, r + world_size, …: deal them back.
        longest = max(len(part) for part in parts)
        batches = [part[i] for i in range(longest) for part in parts
                   if i < len(part)]
        with atomic_path(self.output) as part_path:
            with part_path.open('w', encoding='utf-8') as file:
                for batch in batches:
                    for row in batch:
                        file.write(json.dumps(row, ensure_ascii=False) + '\n')
        print(f'wrote {Path(self.output)}')  # noqa: T201


class LastCheckpoint(ModelCheckpoint):
    r"""Keeps :obj:`last.ckpt`, to go on from: what
    :class:`~pytorch_lightning.callbacks.ModelCheckpoint` calls the last
    (:obj:`save_last`) is the last one that was *kept*, the best so far.

    Args:
        dirpath (str, optional): The folder; by default that of the run.
            (default: :obj:`None`)
    """
    def __init__(self, dirpath: str | None = None) -> None:
        super().__init__(dirpath, filename='last',
                         enable_version_counter=False)


class _Parser(LightningArgumentParser):
    r"""Says what is wrong in one line, without the whole usage."""
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_one_line(message)) from ex


def _one_line(message: str) -> str:
    r"""What jsonargparse found wrong, without its echo of types."""
    lines = [line.strip(' -') for line in message.splitlines()]
    text = ' '.join(line for line in lines if line and not line.startswith(
        ('Given value', 'Subtypes', 'Errors:', 'Does not validate',
         "Expected a <class 'NoneType'>")))
    value = re.search(r'Given value: (?!Namespace)(.*)', message)
    if value and 'Got value' not in text:
        text += f'. Got value: {value[1]}'
    unknown = (re.search(r'dot import path string: ([\w.]*\w)', text)
               or re.search(r"class_path '([^']+)'", text))
    key = ''
    while match := re.match(r'Parser key "([^"]*)":\s*', text):
        key += ('.' if key else '') + match[1]
        text = text[match.end():]
    if key and (match := re.match(r"'([\w.]+)': ", text)):
        key += '.' + match[1]  # What the parser of a part found wrong.
        text = text[match.end():]
    if unknown:
        names = [cls.__name__ for root in (nn.Module, BaseTransform, Dataset)
                 for cls in _subclasses(root)]
        near = suggest(unknown[1].rpartition('.')[2], names)
        text = f'no class {unknown[1]!r} fits here'
        if 'Did you mean' in near:
            text += '. Did you mean' + near.rpartition('Did you mean')[2]
    text = re.sub(r"Expected a <class '([^']+)'>", r'must be of type \1', text)
    text = re.sub(r'Expected a typing\.Literal\[(.*?)\]', r'must be one of \1',
                  text)
    text = re.sub(r'\.? *Got value: (.*)', r' (got \1)', text)
    text = re.sub(r'\b(fit|validate|test|predict)\.(?=model|data)', '', text)
    if 'arguments are required' in text:
        text += '; a file may give them: --config FILE'
    return f"'{key}': {text}" if key else text


def _subclasses(root: type) -> set[type]:
    r"""The public classes of mmgraph that derive from another."""
    found: set[type] = set()
    cls: type
    for cls in root.__subclasses__():
        if cls.__module__.startswith('mmgraph.') and cls.__name__[0] != '_':
            found.add(cls)
        found |= _subclasses(cls)
    return found


class _SaveConfig(SaveConfigCallback):
    r"""Writes the resolved configuration when training really starts, so that
    a run which cannot start leaves nothing behind.
    """
    def setup(self, *args: Any, **kwargs: Any) -> None:
        pass

    def on_train_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
    ) -> None:
        super().setup(trainer, pl_module, 'fit')


def _read_checkpoint(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise InputError('no such checkpoint', path)
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch checks no sums.
            if archive.testzip() is not None:
                raise EOFError
        checkpoint = torch.load(path, weights_only=True, map_location='cpu')
    except (AttributeError, EOFError, LookupError, OSError, RuntimeError,
            TypeError, ValueError, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:
        # What a damaged file raises depends on the damaged byte.
        raise InputError('cannot be read as a checkpoint; is it whole?',
                         path) from error
    if not isinstance(checkpoint, dict) or not {
            'state_dict', 'mmgraph'} <= set(checkpoint):
        raise InputError('is not a checkpoint of mmgraph', path)
    return checkpoint


class PostCLI(LightningCLI):
    r"""``mmgraph fit|validate|test|predict``: every argument of every part is
    a flag; parts are chosen by class name. ``--seed_everything`` also seeds
    the order of the batches.

    Raises:
        InputError: If an argument, the data or the checkpoint cannot be used.
    """
    def __init__(self, args: Any = None, run: bool = True) -> None:
        super().__init__(
            PostModule, PostDataModule,
            save_config_callback=_SaveConfig,
            save_config_kwargs=dict(overwrite=True),
            seed_everything_default=0,
            trainer_defaults=dict(
                use_distributed_sampler=False,  # The data module shards.
                enable_model_summary=False,  # EpochReport says what matters.
                default_root_dir='runs'),
            parser_kwargs=dict(parser_mode='yaml', **{
                name: dict(description=text)
                for name, text in _DESCRIPTIONS.items()}),
            args=args, run=run,
            auto_configure_optimizers=False,
            # It wants every part to have every argument that is filled in.
            load_from_checkpoint_support=False,
            parser_class=_Parser,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            '--encoder', type=str, default='bert-base-uncased',
            help='Pretrained encoder and its tokenizer: a hub id or a folder.')
        parser.add_lightning_class_args(ModelCheckpoint, 'checkpoint')
        parser.add_lightning_class_args(EarlyStopping, 'early_stopping')
        parser.add_lightning_class_args(JsonLinesWriter, 'predictions')
        parser.set_defaults({
            'checkpoint.monitor': 'val_f1', 'checkpoint.mode': 'max',
            'checkpoint.filename': 'best',
            'early_stopping.monitor': 'val_f1', 'early_stopping.mode': 'max',
            'early_stopping.patience': 5,
            'early_stopping.check_on_train_epoch_end': False,
        })
        for source, targets in _LINKS.items():
            for target in targets:
                parser.link_arguments(source, target, apply_on='instantiate')
        parser.link_arguments('seed_everything', 'data.seed')
        for target in _ENCODER:
            parser.link_arguments('encoder', target)

    def parse_arguments(
        self,
        parser: LightningArgumentParser,
        args: Any,
    ) -> None:
        try:
            super().parse_arguments(parser, args)
        except InputError as error:
            if '<unicode string>' not in str(error):
                raise
            # The YAML reader knows the line, not the file.
            words = ' '.join(map(str, sys.argv[1:] if args is None else args))
            files = re.findall(r'(?:--config|-c)[ =](\S+)', words)
            raise InputError(str(error).replace(
                '"<unicode string>"', ' or '.join(files))) from error

    def _parse_ckpt_path(self) -> None:
        r"""Nothing: our checkpoints hold no arguments of the command line."""

    def before_instantiate_classes(self) -> None:
        path = self._get(self.config, 'ckpt_path')
        self._saved: dict[str, Any] | None = None
        if self.subcommand in ('validate', 'test', 'predict'):
            if not path:
                raise InputError('give a trained model: --ckpt_path FILE')
            if path == 'best':
                raise InputError("'best' is known while training only; give "
                                 'the file: --ckpt_path FILE')
        if path and str(path).split(':')[0] not in _CHECKPOINTS:
            self._saved = _read_checkpoint(path)
        if _NEEDS_TRANSFORMERS in str(self.config):
            from transformers.utils.logging import disable_progress_bar
            disable_progress_bar()  # "Loading weights", a tenth of a second

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except (ValueError, MisconfigurationException) as error:
            # Constructors tell what is wrong with their arguments.
            raise InputError(_one_line(str(error))) from error

    def after_instantiate_classes(self) -> None:
        if self._saved is not None:
            try:  # Before anything is written.
                self.model.on_load_checkpoint(self._saved)
            except InputError as error:
                path = self._get(self.config, 'ckpt_path')
                raise InputError(str(error), path) from error
            self._saved = None
        if self.subcommand == 'fit':
            self.model.check_schedule(self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        config = self._get(self.config_init, 'trainer')
        callbacks = config.get('callbacks') or []
        if not isinstance(callbacks, list):
            callbacks = [callbacks]
        if config.get('enable_progress_bar') is not False and not any(
                isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks = [*callbacks, EpochReport()]
        if self.subcommand != 'fit' and config.get('logger') is None:
            kwargs['logger'] = False  # It would open a folder for nothing.
        trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        # The first of several is the trainer's own, the one that is the best.
        last = LastCheckpoint(self._get(self.config_init,
                                        'checkpoint').dirpath)
        trainer.callbacks.append(last)  # type: ignore[attr-defined]
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            raise InputError(_one_line(str(error))) from error

    def after_fit(self) -> None:
        r"""Leaves the best model as a folder that
        :func:`~mmgraph.train.from_pretrained` reads.
        """
        callback = self.trainer.checkpoint_callback
        if not isinstance(callback, ModelCheckpoint) \
                or not callback.best_model_path \
                or not self.trainer.is_global_zero:
            return
        best = Path(callback.best_model_path)
        if not best.is_file():  # Of a run that was begun in another folder.
            best = Path(self._get(self.config, 'ckpt_path') or '').parent / (
                best.name)
        if not best.is_file():
            raise InputError('the best checkpoint of the run that was gone on '
                             'with is not there', callback.best_model_path)
        state = torch.load(best, weights_only=True, map_location='cpu')
        self.model.load_state_dict(state['state_dict'])
        folder = Path(callback.dirpath or best.parent) / 'pretrained'
        save_pretrained(self.model.model, folder, self.datamodule.vocabularies,
                        self.datamodule.tokenizer)
        print(f'best checkpoint: {best}\n'  # noqa: T201
              f'the same as a folder: {folder}')


@contextmanager
def _quiet() -> Iterator[None]:
    r"""Lightning's notes and advice for other machines are left out, unless
    :obj:`MMGRAPH_DEBUG` is set; :class:`EpochReport` says what matters.
    """
    if os.environ.get('MMGRAPH_DEBUG'):
        yield
        return
    loggers = [logging.getLogger(name)
               for name in ('pytorch_lightning', 'lightning_fabric')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', category=PossibleUserWarning)
        warnings.filterwarnings('ignore', message='.*(LeafSpec|custom batch '
                                'sampler `LengthBatchSampler`|The dirpath has '
                                'changed)')
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def run(args: Any = None) -> None:
    r"""What ``mmgraph fit|validate|test|predict`` does.

    Args:
        args (sequence of str, optional): Takes the place of
            :obj:`sys.argv[1:]`. (default: :obj:`None`)
    """
    with _quiet():
        PostCLI(args)
