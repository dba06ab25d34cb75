"""Scene graphs as other tools write them."""
import json
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmgraph.data import SceneGraph, Vocabulary
from mmgraph.errors import InputError
from mmgraph.typing import PathLike

__all__ = [
    'Detections', 'SLOT_PREDICATES', 'read_detections', 'read_slot_relations'
]

#: Slot relations have no names: one predicate for all.
SLOT_PREDICATES = Vocabulary(['unk'], scheme='MEGA', unknown='unk')


def _load_json(path: PathLike) -> Any:
    try:
        with open(path, encoding='utf-8-sig') as file:
            return json.load(file)
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         path) from error
    except json.JSONDecodeError as error:
        raise InputError(f'not JSON ({error.msg})', path,
                         error.lineno) from error
    except UnicodeDecodeError as error:
        raise InputError(f'not UTF-8 text ({error.reason})', path) from error


def read_slot_relations(path: PathLike) -> dict[str, SceneGraph]:
    r"""Reads the scene graphs that were published with the `"Multimodal
    Relation Extraction with Efficient Graph Alignment"
    <https://doi.org/10.1145/3474085.3476968>`_ paper
    (:obj:`graph_of_image_*.json`): relations between numbered object slots,
    without names, boxes or scores.

    The objects of a graph are the slots that some relation uses, in the order
    of the slots; :obj:`slot_id` keeps their numbers. Whether an unused slot
    held an object is not in the file. An image without relations has no
    object.

    Args:
        path (str): The file.

    Returns:
        The graph of each image, by the image's file name.

    Raises:
        InputError: If the file is not in this format; the message names the
            image.
    """
    content = _load_json(path)
    if not isinstance(content, dict):
        raise InputError(f'must hold an object, image name → relations (got '
                         f'{type(content).__name__})', path)
    graphs = {}
    for image, entry in content.items():
        pairs = entry.get('rel') if isinstance(entry, dict) else None
        if not isinstance(pairs, list):
            raise InputError(f"image {image!r} must have a list 'rel'", path)
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == 2
                    and all(type(i) is int and i >= 0 for i in pair)):
                raise InputError(
                    f"image {image!r}: 'rel' must hold pairs of object slots "
                    f'(got {pair!r:.60})', path)
        slots = sorted({slot for pair in pairs for slot in pair})
        position = {slot: i for i, slot in enumerate(slots)}
        edges = [[position[a] for a, _ in pairs],
                 [position[b] for _, b in pairs]]
        graphs[image] = SceneGraph.build(
            torch.tensor(edges, dtype=torch.long), len(slots),
            slot_id=torch.tensor(slots, dtype=torch.long))
    return graphs


class Detections(NamedTuple):
    r"""What :func:`read_detections` gives.

    Args:
        graphs (dict): :class:`~mmgraph.data.SceneGraph` by image file name.
        objects (Vocabulary): The object classes, ids of :obj:`label_id`.
        predicates (Vocabulary): The predicates, ids of :obj:`edge_type`.
    """
    graphs: dict[str, SceneGraph]
    objects: Vocabulary
    predicates: Vocabulary


def read_detections(
    path: PathLike,
    info_path: PathLike,
    image_sizes: Mapping[str, tuple[float, float]] | None = None,
    features: Mapping[str, Tensor] | None = None,
    topk_objects: int = 10,
    topk_relations: int = 20,
    min_score: float = 0.0,
    min_rel_score: float = 0.0,
    resize: tuple[int, int] | None = (600, 1000),
) -> Detections:
    r"""Reads what the tool of the `"Unbiased Scene Graph Generation from
    Biased Training" <https://arxiv.org/abs/2002.11949>`_ paper writes for
    one's own images: :obj:`custom_prediction.json` and
    :obj:`custom_data_info.json`.

    The objects kept are those with the highest scores; of the relations among
    them those with the highest scores, subject → object. The background
    predicate is left out.

    Args:
        path (str): The predictions: an image's :obj:`bbox`,
            :obj:`bbox_labels`, :obj:`bbox_scores`, :obj:`rel_pairs`, and
            :obj:`rel_labels` with :obj:`rel_scores` or else
            :obj:`rel_all_scores`.
        info_path (str): :obj:`idx_to_files`, :obj:`ind_to_classes`,
            :obj:`ind_to_predicates`.
        image_sizes (mapping, optional): Width and height in pixels of each
            image, by file name. The predictions do not hold them; without
            them the graphs have no :obj:`box`. (default: :obj:`None`)
        features (mapping, optional): Feature rows of each image, by file
            name, one a box in the order of the file. (default: :obj:`None`)
        topk_objects (int, optional): Most objects an image.
            (default: :obj:`10`)
        topk_relations (int, optional): Most relations an image.
            (default: :obj:`20`)
        min_score (float, optional): Least score of an object, in
            :math:`[0, 1]`. (default: :obj:`0.0`)
        min_rel_score (float, optional): Least score of a relation, in
            :math:`[0, 1]`. (default: :obj:`0.0`)
        resize (tuple, optional): The tool measures boxes in the image as the
            network sees it: shorter side scaled to the first value unless
            the longer then exceeds the second. :obj:`None` if the boxes are
            in the image's own pixels. (default: :obj:`(600, 1000)`)

    Raises:
        InputError: If a file is not in this format, or an image has no size
            or no features; the message names the image.
    """
    info, content = _load_json(info_path), _load_json(path)
    names, objects, predicates = _read_info(info, info_path)
    if not isinstance(content, dict):
        raise InputError(f'must hold an object, image number → prediction '
                         f'(got {type(content).__name__})', path)
    graphs: dict[str, SceneGraph] = {}
    for key, entry in content.items():
        if not key.isdigit() or int(key) >= len(names):
            raise InputError(f"image number {key!r} is not in 'idx_to_files' "
                             f'of {info_path}', path)
        name = names[int(key)]
        try:
            found = _Detection(entry, len(objects), len(predicates))
            graphs[name] = found.graph(
                topk_objects, topk_relations, min_score, min_rel_score,
                _look_up(image_sizes, name, 'image_sizes'),
                _look_up(features, name, 'features'), resize)
        except ValueError as error:
            raise InputError(f'image {name!r} (number {key}): {error}',
                             path) from error
    return Detections(graphs, objects, predicates)


def _read_info(
    info: Any,
    path: PathLike,
) -> tuple[list[str], Vocabulary, Vocabulary]:
    columns = []
    for key in ('idx_to_files', 'ind_to_classes', 'ind_to_predicates'):
        value = info.get(key) if isinstance(info, dict) else None
        if not (isinstance(value, list)
                and all(isinstance(item, str) for item in value)):
            raise InputError(f"must hold a list of names '{key}'", path)
        columns.append(value)
    names = [PurePosixPath(file.replace('\\', '/')).name
             for file in columns[0]]
    if len(set(names)) != len(names):
        twice = next(a for i, a in enumerate(names) if a in names[:i])
        raise InputError(f"'idx_to_files': two images are called {twice!r}",
                         path)
    try:
        objects, predicates = (
            Vocabulary(labels, scheme='SGG', unknown=labels[0])
            for labels in columns[1:])
    except (ValueError, IndexError) as error:
        raise InputError(f'class or predicate names: {error}',
                         path) from error
    return names, objects, predicates


def _look_up(
    table: Mapping[str, Any] | None,
    name: str,
    argument: str,
) -> Any:
    if table is None:
        return None
    if name not in table:
        raise ValueError(f"'{argument}' has no entry for it")
    return table[name]


class _Detection:
    r"""One image's prediction, checked."""
    def __init__(
        self,
        entry: Any,
        num_classes: int,
        num_predicates: int,
    ) -> None:
        if not isinstance(entry, dict):
            raise ValueError(f'a prediction must be an object (got '
                             f'{type(entry).__name__})')
        self.box = self._column(entry, 'bbox', 4)
        m = len(self.box)
        self.label = self._column(entry, 'bbox_labels', size=m).long()
        self.score = self._column(entry, 'bbox_scores', size=m)
        self.pair = self._column(entry, 'rel_pairs', 2).long()
        e = len(self.pair)
        if 'rel_labels' in entry and 'rel_scores' in entry:
            self.rel_label = self._column(entry, 'rel_labels', size=e).long()
            self.rel_score = self._column(entry, 'rel_scores', size=e)
        else:
            scores = self._column(entry, 'rel_all_scores', num_predicates, e)
            best = scores[:, 1:].max(dim=1)  # 0 is the background.
            self.rel_score, self.rel_label = best.values, best.indices + 1
        for key, value, limit in (('bbox_labels', self.label, num_classes),
                                  ('rel_pairs', self.pair, m),
                                  ('rel_labels', self.rel_label,
                                   num_predicates)):
            wrong = ((value < 0) | (value >= limit)).nonzero()
            if wrong.numel():
                raise ValueError(
                    f"'{key}' must be in [0, {limit}) (got "
                    f'{int(value[tuple(wrong[0])])} at row '
                    f'{int(wrong[0, 0])})')

    @staticmethod
    def _column(
        entry: dict[str, Any],
        key: str,
        width: int | None = None,
        size: int | None = None,
    ) -> Tensor:
        if key not in entry:
            raise ValueError(f"key '{key}' is missing")
        try:
            value = torch.tensor(entry[key], dtype=torch.float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{key}' must hold numbers, equally many a "
                             f'row') from error
        if width is not None and value.numel() == 0:
            value = value.view(0, width)
        shape = ('*' if size is None else size,
                 *([] if width is None else [width]))
        if value.dim() != len(shape) or any(
                want not in ('*', got)
                for want, got in zip(shape, value.shape, strict=True)):
            raise ValueError(f"'{key}' must have shape {list(shape)} (got "
                             f'{list(value.shape)})')
        if not torch.isfinite(value).all():
            raise ValueError(f"'{key}' must be finite")
        return value

    def graph(
        self,
        topk_objects: int,
        topk_relations: int,
        min_score: float,
        min_rel_score: float,
        image_size: tuple[float, float] | None,
        x: Tensor | None,
        resize: tuple[int, int] | None,
    ) -> SceneGraph:
        # The tool sorts by score; files that were edited may not be sorted.
        slots = self.score.argsort(descending=True, stable=True)
        slots = slots[self.score[slots] >= min_score][:topk_objects]
        position = torch.full((len(self.score),), -1)
        position[slots] = torch.arange(len(slots))
        edges = position[self.pair]
        keep = ((edges >= 0).all(dim=1) & (self.rel_label > 0)
                & (self.rel_score >= min_rel_score))
        order = self.rel_score.argsort(descending=True, stable=True)
        order = order[keep[order]][:topk_relations]
        box = None
        if image_size is not None:
            width, height = _network_size(image_size, resize)
            scale = torch.tensor([width, height, width, height])
            box = (self.box[slots] / scale).clamp(0, 1)
        if x is not None:
            if x.dim() != 2 or len(x) != len(self.box):
                raise ValueError(f"'features' must have one row a box (got "
                                 f'shape {list(x.shape)} for '
                                 f'{len(self.box)} boxes)')
            x = x[slots]
        return SceneGraph.build(
            edges[order].t().contiguous(), len(slots), self.rel_label[order],
            slot_id=slots, x=x, box=box, label_id=self.label[slots],
            score=self.score[slots], edge_score=self.rel_score[order])


def _network_size(
    size: tuple[float, float],
    resize: tuple[int, int] | None,
) -> tuple[float, float]:
    short, long = min(size), max(size)
    if not (short > 0 and math.isfinite(long)):
        raise ValueError(f"'image_sizes' must be positive (got {size})")
    if resize is None:
        return float(size[0]), float(size[1])
    scale = min(resize[0] / short, resize[1] / long)
    return size[0] * scale, size[1] * scale
