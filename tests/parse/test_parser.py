from mmgraph.data import TextGraph
from mmgraph.parse import UD, DependencyParser


class ChainParser:
    vocabulary = UD

    def parse(self, sentences):
        return [TextGraph.from_heads(words, range(-1, len(words) - 1),
                                     ['dep'] * len(words), UD)
                for words in sentences]


def test_protocol():
    assert isinstance(ChainParser(), DependencyParser)
    assert not isinstance(object(), DependencyParser)
