"""Tiny models on tiny posts."""
import logging
import warnings

import pytest
import pytorch_lightning as pl
import torch

from mmgraph.datasets import SyntheticPosts
from mmgraph.models.mre import MEGA
from mmgraph.nn.align import StructuralAligner
from mmgraph.nn.encoders import CharWordEncoder
from mmgraph.train import PostDataModule, PostModule


@pytest.fixture(autouse=True)
def quiet():
    """Lightning's advice for other machines."""
    logger = logging.getLogger('pytorch_lightning')
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module='pytorch_lightning')
        yield
    logger.setLevel(level)


def _tiny_run(seed=0, num_posts=60, **kwargs):
    """A module with dropout in encoder and classifier, and its data."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        data = PostDataModule(SyntheticPosts(num_posts=num_posts,
                                             object_dim=8),
                              **{'batch_size': 16, **kwargs})
        encoder = CharWordEncoder(data.words, word_dim=8, hidden_channels=8)
        model = MEGA(encoder, data.num_relations, object_channels=8,
                     hidden_channels=16, aligner=StructuralAligner())
        module = PostModule(model, data.vocabularies, data.negative, lr=4e-3,
                            warmup_steps=3)
    return module, data


def _tiny_trainer(callbacks=(), **kwargs):
    return pl.Trainer(**{**dict(
        accelerator='cpu', logger=False, callbacks=list(callbacks),
        enable_checkpointing=any(
            isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0), **kwargs})


@pytest.fixture
def tiny_run():
    return _tiny_run


@pytest.fixture
def tiny_trainer():
    return _tiny_trainer
