r"""A slow oracle of MEGA, written from the formulas: one post, one object, one
text row and one number at a time.
"""
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ['mega_oracle']

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]


def _linear(weights: Weights, name: str, x: Array) -> Array:
    weight, bias = weights[f'{name}.weight'], weights[f'{name}.bias']
    return np.array([sum(w * v for w, v in zip(row, x, strict=True)) + b
                     for row, b in zip(weight, bias, strict=True)])


def _attend(weights: Weights, text: Sequence[Array], target: Array) -> Array:
    r"""One row of :math:`\mathbf{Y}_s` (Eq. 6-8)."""
    query = _linear(weights, 'semantic.lin_query', target)
    logits = [
        float(query @ _linear(weights, 'semantic.lin_key', row))
        / math.sqrt(len(query)) for row in text
    ]
    total = sum(math.exp(logit - max(logits)) for logit in logits)
    out = np.zeros(len(query))
    for row, logit in zip(text, logits, strict=True):
        beta = math.exp(logit - max(logits)) / total
        out += beta * _linear(weights, 'value', row)
    return out


def mega_oracle(
    weights: Weights,
    states: Array,
    objects: Array | None,
    num_objects: int,
    pairs: Sequence[tuple[int, int]],
    alpha: Array | None = None,
    word_of_row: Sequence[int | None] = (),
    use_semantic: bool = True,
    use_objects: bool = False,
    fusion: str = 'concat',
    sigmoid: bool = True,
    pieces: str = 'all',
    num_text_slots: int | None = None,
    num_object_slots: int | None = None,
) -> Array:
    r"""The logits of one post's marked pairs, :obj:`[R, num_relations]`.

    Args:
        weights: The model's parameters by name.
        states: The encoder's states of the post's own text rows, unpadded.
        objects: Its object features, unpadded; :obj:`None` where objects have
            none.
        num_objects: Number of objects.
        pairs: The text rows of head and tail of each relation.
        alpha: The alignment, words by objects; :obj:`None` without aligner.
        word_of_row: The word of each text row, if it has one.
        use_semantic: Whether objects query the text.
        use_objects: Whether objects add their own features.
        fusion: :obj:`'concat'` or :obj:`'sum'`.
        sigmoid: Whether :math:`\mathbf{Y}_s` goes through a sigmoid.
        pieces: Whether :obj:`'all'` rows of a word carry its alignment or
            the :obj:`'first'`.
        num_text_slots: Pads the text with zero states up to here.
        num_object_slots: Pads the objects with zero features up to here.
    """
    context: Array = np.zeros(0)
    if use_semantic or use_objects or alpha is not None:
        rows = [np.asarray(row) for row in states]
        if num_text_slots is not None:
            rows = rows[:num_text_slots]
            rows += [np.zeros(states.shape[1])] * (num_text_slots - len(rows))
        text = [_linear(weights, 'text', row) for row in rows]
        width = len(weights['text.bias'])
        context = np.zeros(width)
        for j in range(max(num_objects, num_object_slots or 0)):
            real = j < num_objects
            parts = []
            if objects is not None and (use_semantic or use_objects):
                feature = objects[j] if real else np.zeros(objects.shape[1])
                target = _linear(weights, 'object', feature)
                if use_semantic:
                    mixed = _attend(weights, text, target)
                    parts.append(1 / (1 + np.exp(-mixed)) if sigmoid
                                 else mixed)
            if alpha is not None:
                part, seen = np.zeros(width), set()
                for i, word in enumerate(word_of_row):
                    if real and word is not None \
                            and (pieces == 'all' or word not in seen):
                        # Row j of the transpose of alpha.
                        part += alpha[word, j] * text[i]
                        seen.add(word)
                parts.append(part)
            if use_objects:
                parts.append(target)
            if fusion == 'sum':
                for part in parts:
                    context += part
            else:
                context += _linear(weights, 'merge', np.concatenate(parts))
    logits = []
    for head, tail in pairs:
        pair = np.concatenate([states[head], states[tail], context])
        if 'head.merge.weight' in weights:
            pair = _linear(weights, 'head.merge', pair)
        logits.append(_linear(weights, 'head.classifier', pair))
    return np.array(logits)
