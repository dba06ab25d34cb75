"""Training from the command line: one YAML file is one experiment."""
import json
import pickle
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BasePredictionWriter,
    EarlyStopping,
    ModelCheckpoint,
)
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from mmgraph.errors import InputError
from mmgraph.train.checkpoint import save_pretrained
from mmgraph.train.data_module import PostDataModule
from mmgraph.train.module import PostModule
from mmgraph.utils import atomic_path

__all__ = ['JsonLinesWriter', 'PostCLI']

# Where a model's part needs something of the data, it is filled in; a part
# that does not have the argument is left alone.
_LINKS = {
    'data.relations': ['model.relations'],
    'data.negative': ['model.negative'],
    'data.num_relations': ['model.model.init_args.num_relations'],
    'data.words': ['model.model.init_args.words',
                   'model.model.init_args.encoder.init_args.words'],
}


# What Lightning itself looks up.
_CHECKPOINTS = ('best', 'last', 'hpc', 'registry')

# One ``--encoder`` serves the model and the tokenizer of the data.
_ENCODER = ['model.model.init_args.encoder.init_args.model',
            'data.dataset.init_args.transform.init_args.tokenizer']


class JsonLinesWriter(BasePredictionWriter):
    r"""Writes predictions as JSON lines, one a relation: :obj:`post_id`,
    :obj:`words`, :obj:`head` and :obj:`tail` (:obj:`text`, :obj:`start`,
    :obj:`end`), :obj:`relation`, :obj:`score`.

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
        print(f'wrote {Path(self.output)}')


class _Parser(LightningArgumentParser):
    r"""Says what is wrong in one line, without the whole usage."""
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_one_line(message)) from ex


def _one_line(message: str) -> str:
    r"""What jsonargparse found wrong, without its echo of types and values."""
    lines = [line.strip(' -') for line in message.splitlines()]
    return ' '.join(line for line in lines if line and not line.startswith(
        ('Given value', 'Subtypes', 'Errors:', 'Does not validate',
         "Expected a <class 'NoneType'>")))


class PostCLI(LightningCLI):
    r"""``mmgraph fit|validate|test|predict``: every argument of every part is
    a flag; parts are chosen by class name. ``--seed_everything`` also seeds
    the order of the batches.
    """
    def __init__(self, args: Any = None, run: bool = True) -> None:
        warnings.filterwarnings('ignore', module='pytorch_lightning',
                                message='.*LeafSpec.*')
        super().__init__(
            PostModule, PostDataModule,
            save_config_kwargs=dict(overwrite=True),
            seed_everything_default=0,
            trainer_defaults=dict(
                use_distributed_sampler=False,  # The data module shards.
                default_root_dir='runs'),
            parser_kwargs=dict(parser_mode='yaml'),
            args=args, run=run,
            auto_configure_optimizers=False,
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
            'checkpoint.filename': 'best', 'checkpoint.save_last': True,
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

    def before_instantiate_classes(self) -> None:
        path = self._get(self.config, 'ckpt_path')
        if path and path not in _CHECKPOINTS and not Path(path).is_file():
            raise InputError('no such checkpoint', path)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            if not str(error).startswith('Does not validate'):
                raise
            # An error of ours, wrapped because the argument may be None.
            raise InputError(_one_line(str(error))) from error

    def _parse_ckpt_path(self) -> None:
        try:
            super()._parse_ckpt_path()
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            path = self._get(self.config, 'ckpt_path')
            raise InputError('cannot be read as a checkpoint; is it whole?',
                             path) from error

    def after_fit(self) -> None:
        r"""Leaves the best model as a folder that
        :func:`~mmgraph.train.from_pretrained` reads.
        """
        best = getattr(self.trainer.checkpoint_callback, 'best_model_path', '')
        if not best or not self.trainer.is_global_zero:
            return
        state = torch.load(best, weights_only=True, map_location='cpu')
        self.model.load_state_dict(state['state_dict'])
        folder = Path(best).parent / 'pretrained'
        save_pretrained(self.model.model, folder, self.datamodule.vocabularies,
                        self.datamodule.tokenizer)
        print(f'best checkpoint: {best}\nthe same as a folder: {folder}')
