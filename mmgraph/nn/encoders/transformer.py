"""Pretrained transformers as text encoders."""
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmgraph.data import Post
from mmgraph.errors import InputError
from mmgraph.nn.encoders.base import TextEncoder
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.utils import checks_enabled

__all__ = ['TransformerTextEncoder']


class TransformerTextEncoder(TextEncoder):
    r"""Any :class:`transformers.AutoModel` over the word pieces of a post.

    Reads the :obj:`token` store that
    :class:`~mmgraph.transforms.WordPieces` writes. Rows go in and come out
    ragged; inside, a batch is padded to its own longest post.

    Args:
        model (str or dict): A hub id, a local folder, or the dictionary of a
            :class:`transformers.PretrainedConfig` (with its
            :obj:`model_type`), which gives fresh weights.
        trainable (bool, optional): If :obj:`False`, the weights are frozen
            and the encoder runs without dropout. (default: :obj:`True`)

    Shapes:
        - **input:** :obj:`batch['token'].input_id` :math:`(N)`
        - **output:** states :math:`(N, F)`

    Raises:
        InputError: If the folder or id holds no model, or the dictionary no
            :obj:`model_type`.
        ValueError: If a post is longer than the model's positions, or an
            input id is outside its vocabulary.
    """
    def __init__(
        self,
        model: str | dict[str, Any],
        trainable: bool = True,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel
        self.node_type = 'token'
        if isinstance(model, dict):
            if 'model_type' not in model:
                raise InputError("'model' must have a 'model_type', such as "
                                 f"'bert' (got the keys {sorted(model)})")
            values = dict(model)
            config = AutoConfig.for_model(values.pop('model_type'), **values)
            self.model = AutoModel.from_config(config)
        else:
            if ('/' in model or model.startswith('.')) \
                    and Path(model).is_absolute() and not Path(model).is_dir():
                raise InputError('no such folder; give the folder of a '
                                 'transformers model or a hub id', model)
            try:
                self.model = AutoModel.from_pretrained(model)
            except (OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise InputError(f'no transformers model here ({reason})',
                                 model) from error
        self.model.float()
        self.trainable = trainable
        if hasattr(self.model, 'pooler'):
            self.model.pooler = None  # Never used; would never get gradients.
        if not trainable:
            self.model.requires_grad_(False)
        self.out_channels = int(self.model.config.hidden_size)
        # Loaded models come in evaluation mode, which a trainer would keep:
        # they would be fine-tuned without dropout.
        self.train()

    def get_config(self) -> dict[str, Any]:
        r"""Holds the model's own configuration instead of a path, so that a
        saved model does not depend on where its encoder came from.
        """
        config = super().get_config()
        model = self.model.config.to_dict()
        model.pop('_name_or_path', None)
        config['args']['model'] = model
        return config

    @property
    def max_length(self) -> int:
        r"""The longest input, in word pieces."""
        config = self.model.config
        length = int(getattr(config, 'max_position_embeddings', 512))
        # RoBERTa's positions start behind its padding id.
        offset = (config.pad_token_id or 0) + 1
        return length - offset if 'roberta' in config.model_type else length

    def train(self, mode: bool = True) -> 'TransformerTextEncoder':
        super().train(mode)
        if not self.trainable:
            self.model.eval()
        return self

    def forward(self, batch: Post) -> Tensor:
        if 'token' not in batch.node_types:
            raise ValueError("the posts have no 'token' store: give the data "
                             'set transform=WordPieces(tokenizer)')
        graph, ptr = rows_of(batch, 'token')
        input_id = batch['token'].input_id
        if input_id.numel() == 0:
            return next(self.model.parameters()).new_empty(
                0, self.out_channels)
        longest = int(ptr.diff().max())
        if longest > self.max_length:
            raise ValueError(
                f'a post must have at most {self.max_length} word pieces '
                f'(got {longest}); lower max_length of WordPieces')
        size = self.model.get_input_embeddings().num_embeddings
        if checks_enabled():
            wrong = ((input_id < 0) | (input_id >= size)).nonzero()
            if wrong.numel():
                i = int(wrong[0])
                raise ValueError(
                    f"'input_id' must be in [0, {size}) (got "
                    f'{int(input_id[i])} at row {i}). Do the tokenizer of '
                    f'WordPieces and the model belong together?')
        padding = self.model.config.pad_token_id or 0
        ids, mask = pad_rows(input_id, graph, ptr, value=padding)
        with torch.set_grad_enabled(torch.is_grad_enabled()
                                    and self.trainable):
            states = self.model(input_ids=ids, attention_mask=mask.long())
        return states.last_hidden_state[mask]
