"""What every graph class must do."""
import copy
import io
import warnings
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary

LABELS = Vocabulary(['root', 'dep', 'obj'], scheme='UD', unknown='root')


def make_text(words: str, heads: list[int] | None = None) -> TextGraph:
    """A chain, unless governors are given."""
    names = words.split()
    heads = list(range(-1, len(names) - 1)) if heads is None else heads
    return TextGraph.from_heads(names, heads, ['dep'] * len(names), LABELS)


def make_scene(m: int, dim: int = 3) -> SceneGraph:
    """Objects that all look at the first one."""
    corner = torch.linspace(0, 0.5, m).unsqueeze(1)
    return SceneGraph.build(
        torch.tensor([[0] * (m - 1), range(1, m)], dtype=torch.long)
        if m else torch.empty(2, 0, dtype=torch.long), m,
        edge_type=torch.arange(max(m - 1, 0)), x=torch.randn(m, dim),
        box=torch.cat([corner, corner, corner + 0.5, corner + 0.5], dim=1),
        label_id=torch.arange(m), score=torch.rand(m),
        edge_score=torch.rand(max(m - 1, 0)))


def plain(value: Any) -> Any:
    """A graph as plain Python values, so that == compares all of it."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.tolist()
    if hasattr(value, 'to_dict'):
        value = value.to_dict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def saved(graph: Any) -> Any:
    """Through a file, by the safe loader, with warnings as errors."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        torch.save(graph, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)


def check_graphs(graphs: list[Any]) -> Batch:
    """Batches and back, moves, saves, copies; returns the batch."""
    loader = DataLoader(graphs, batch_size=len(graphs))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        batch = next(iter(loader))
        repr(batch)
    assert isinstance(batch, Batch) and isinstance(batch, type(graphs[0]))
    assert batch.num_graphs == len(graphs)
    again = Batch.from_data_list(batch.to_data_list())
    assert plain(again) == plain(batch)
    for i, graph in enumerate(graphs):
        for other in (batch[i], again[i], saved(graph), copy.copy(graph),
                      copy.deepcopy(graph), graph.clone().to('cpu'),
                      type(graph).from_dict(saved(graph.to_dict()))):
            assert type(other) is type(graph)
            assert repr(other) == repr(graph)
            assert other.validate()
        for other in copy.deepcopy(graph), saved(graph):
            assert plain(other) == plain(graph)
    for store in batch.clone().to('meta').stores:
        for key, value in store.items():
            assert not isinstance(value, Tensor) or value.is_meta, key
    return batch


def parts(post: Post) -> Any:
    """A post taken apart into plain values."""
    return dict(
        text=plain(post.text), scene=plain(post.scene),
        entities=post.entities, relations=post.relations,
        post_id=post.post_id, image_path=post.image_path,
        image=plain(post['image'].x), words=post.words)


@st.composite
def posts(draw: Any) -> dict[str, Any]:
    """Arguments of :meth:`Post.build`."""
    n = draw(st.integers(0, 6))
    heads = [draw(st.integers(-1, n - 1).filter(lambda h, i=i: h != i))
             for i in range(n)]
    labels = draw(st.lists(st.sampled_from(['root', 'dep', 'obj']),
                           min_size=n, max_size=n))
    words = draw(st.lists(st.text(max_size=4), min_size=n, max_size=n))
    spans = []
    if n:
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, n - 1))
            spans.append((start, draw(st.integers(start + 1, n)),
                          draw(st.integers(0, 3))))
    relations = []
    if spans:
        end = st.integers(0, len(spans) - 1)
        relations = draw(st.lists(st.tuples(end, end, st.integers(0, 22)),
                                  max_size=3))
    has_image = draw(st.booleans())
    return dict(
        text=TextGraph.from_heads(words, heads, labels, LABELS),
        scene=make_scene(draw(st.integers(0, 4)) if has_image else 0),
        entities=spans, relations=relations, has_image=has_image,
        post_id=draw(st.text(max_size=3)),
        image_path=draw(st.sampled_from([None, 'a.jpg'])))
