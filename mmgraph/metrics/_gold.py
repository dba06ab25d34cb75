"""The annotation of a batch of posts, post by post."""
from mmgraph.data import Post
from mmgraph.nn.ragged import range_of_group, rows_of
from mmgraph.parse.bio import Span

__all__ = ['gold_quintuples', 'gold_spans']


def gold_spans(batch: Post) -> list[list[Span]]:
    r"""The annotated mentions of each post, on its own words."""
    spans: list[list[Span]] = [[] for _ in range(_num_posts(batch))]
    for post, span in _spans(batch):
        spans[post].append(span)
    return spans


def gold_quintuples(batch: Post) -> list[list[tuple[Span, Span, int]]]:
    r"""The annotated relations of each post as head, tail and relation."""
    spans = _spans(batch)
    out: list[list[tuple[Span, Span, int]]] = [
        [] for _ in range(_num_posts(batch))]
    store = batch['entity', 'relation', 'entity']
    for head, tail, relation_id in zip(
            *store.edge_index.tolist(), store.relation_id.tolist(),
            strict=True):
        post, span = spans[head]
        out[post].append((span, spans[tail][1], relation_id))
    return out


def _num_posts(batch: Post) -> int:
    return rows_of(batch, 'word')[1].numel() - 1


def _spans(batch: Post) -> list[tuple[int, Span]]:
    r"""The post and the span of each mention."""
    entity, word = batch['entity', 'covers', 'word'].edge_index
    graph, ptr = rows_of(batch, 'word')
    place = word - ptr[graph[word]]
    start, end = range_of_group(entity, place, int(batch['entity'].num_nodes))
    return [(post, (s, e, kind)) for post, s, e, kind in zip(
        rows_of(batch, 'entity')[0].tolist(), start.tolist(), end.tolist(),
        batch['entity'].type_id.tolist(), strict=True)]
