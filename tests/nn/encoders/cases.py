"""Small encoders and posts with word pieces, made by hand."""
from typing import Any

import torch

from mmgraph.data import Post

BERT = dict(model_type='bert', hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32, vocab_size=60,
            max_position_embeddings=40)


def with_tokens(
    post: Post,
    pieces: int = 2,
    markers: Any = (),
    seed: int = 0,
) -> Post:
    """A token store by hand: one special piece, then the pieces of each word
    (word i has 1 + i % pieces), then another special piece.

    ``markers`` holds (entity, token) pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    words = range(len(post.words))
    owner = [i for i in words for _ in range(1 + i % pieces)]
    n = len(owner) + 2
    token = post['token']
    token.input_id = torch.randint(1, 60, (n, ), generator=generator)
    token.num_nodes = n
    post['token', 'part_of', 'word'].edge_index = torch.tensor(
        [range(1, n - 1), owner], dtype=torch.long).view(2, -1)
    post['entity', 'marked_by', 'token'].edge_index = torch.tensor(
        list(markers), dtype=torch.long).view(-1, 2).t().contiguous()
    return post
