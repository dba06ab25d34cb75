"""Fixed label sets of parsers.

The ids are part of every trained model, so the sets are written down here and
never collected from a data split. Id 0 stands for any label that is not in the
set.
"""
from mmgraph.data import Vocabulary

__all__ = ['CLEAR', 'UD', 'UPOS', 'fold_label']

_CLEAR = """
acl acomp advcl advmod agent amod appos attr aux auxpass case cc ccomp complm
compound conj csubj csubjpass dative dep det dobj expl hmod hyph infmod intj
iobj mark meta neg nmod nn npadvmod nsubj nsubjpass num number nummod oprd
parataxis partmod pcomp pobj poss possessive preconj predet prep prt punct
quantmod rcmod relcl root xcomp
"""

_UD = """
acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep
det discourse dislocated expl fixed flat goeswith iobj list mark nmod nsubj
nummod obj obl orphan parataxis punct reparandum root vocative xcomp
acl:relcl advcl:relcl advmod:emph advmod:lmod aux:pass cc:preconj compound:lvc
compound:prt compound:redup compound:svc csubj:outer csubj:pass det:numgov
det:nummod det:poss det:predet expl:impers expl:pass expl:pv flat:foreign
flat:name nmod:desc nmod:npmod nmod:poss nmod:tmod nmod:unmarked nsubj:outer
nsubj:pass nummod:gov obl:agent obl:arg obl:lmod obl:npmod obl:tmod
obl:unmarked
"""

_UPOS = """
ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X
SPACE
"""

#: The dependency labels of spaCy's English pipelines (ClearNLP style), from
#: the glossary of spaCy, obsolete ones included.
CLEAR = Vocabulary(['unk', *_CLEAR.split()], scheme='CLEAR', unknown='unk')

#: The 37 relations of Universal Dependencies, version 2, and the subtypes
#: that its documentation lists for more than one language.
UD = Vocabulary(['unk', *_UD.split()], scheme='UD', unknown='unk')

#: The universal part-of-speech tags, and spaCy's tag for white space.
UPOS = Vocabulary(['unk', *_UPOS.split()], scheme='UPOS', unknown='unk')


def fold_label(label: str, vocabulary: Vocabulary) -> str:
    r"""The label itself if the vocabulary has it, else without its subtype.

    Example:
        >>> fold_label('nsubj:pass', UD), fold_label('obj:caus', UD)
        ('nsubj:pass', 'obj')
    """
    if label in vocabulary or ':' not in label:
        return label
    return label.split(':', 1)[0]
