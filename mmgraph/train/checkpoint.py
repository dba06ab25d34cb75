"""Trained models as folders."""
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError
from mmgraph.models import TaskModel
from mmgraph.nn import build_from_config
from mmgraph.typing import PathLike
from mmgraph.utils import atomic_path

__all__ = ['from_pretrained', 'save_pretrained']

_CONFIG, _WEIGHTS = 'config.json', 'model.safetensors'
_VOCABULARIES, _TOKENIZER = 'vocabularies.json', 'tokenizer'


def save_pretrained(
    model: TaskModel,
    folder: PathLike,
    vocabularies: dict[str, Vocabulary] | None = None,
    tokenizer: Any = None,
) -> None:
    r"""Writes a model as a folder: :obj:`config.json`,
    :obj:`model.safetensors`, :obj:`vocabularies.json` and
    :obj:`tokenizer/`. It holds all that :func:`from_pretrained` needs; no path
    of this machine is in it.

    Args:
        model (TaskModel): The model.
        folder (str): Made if it is not there.
        vocabularies (dict, optional): The vocabularies of its labels.
            (default: :obj:`None`)
        tokenizer (optional): The tokenizer of its encoder.
            (default: :obj:`None`)

    Raises:
        InputError: If the folder cannot be written.
    """
    import mmgraph
    folder = Path(folder)
    config = dict(mmgraph=mmgraph.__version__, **model.get_config())
    labels = {name: vocabulary.to_dict()
              for name, vocabulary in (vocabularies or {}).items()}
    for name, value in (_CONFIG, config), (_VOCABULARIES, labels):
        with atomic_path(folder / name) as part:
            part.write_text(json.dumps(value, indent=1, ensure_ascii=False),
                            encoding='utf-8')
    if tokenizer is not None:
        tokenizer.save_pretrained(folder / _TOKENIZER)
    with atomic_path(folder / _WEIGHTS) as part:
        save_model(model, str(part))


def from_pretrained(
    folder: PathLike,
) -> tuple[TaskModel, dict[str, Vocabulary]]:
    r"""Reads what :func:`save_pretrained` wrote.

    Args:
        folder (str): The folder. Its tokenizer, if any, is in
            :obj:`tokenizer/`.

    Returns:
        The model, in evaluation mode, and its vocabularies.

    Raises:
        InputError: If a file is missing, damaged or of another model.
    """
    folder = Path(folder)
    config, labels = (_read(folder / name)
                      for name in (_CONFIG, _VOCABULARIES))
    config.pop('mmgraph', None)
    try:
        model = build_from_config(config)
    except ValueError as error:
        raise InputError(str(error), folder / _CONFIG) from error
    if not isinstance(model, TaskModel):
        raise InputError('does not describe a task model', folder / _CONFIG)
    try:
        vocabularies = {name: Vocabulary.from_dict(state)
                        for name, state in labels.items()}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError('does not hold vocabularies',
                         folder / _VOCABULARIES) from error
    try:
        load_model(model, str(folder / _WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f'weights do not fit ({reason})',
                         folder / _WEIGHTS) from error
    return model.eval(), vocabularies


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'cannot be read ({error.strerror}); give a folder '
                         f'that save_pretrained wrote', path) from error
    except ValueError as error:
        raise InputError(f'is not JSON ({error})', path) from error
    if not isinstance(value, dict):
        raise InputError('must be a JSON object', path)
    return value
