"""The types and relations of JMERE, in the order of their published ids."""
from mmgraph.data import Vocabulary
from mmgraph.datasets.mnre_relations import RELATIONS

__all__ = ['JMERE_RELATIONS', 'JMERE_TYPES', 'SYMMETRIC', 'split_label']

#: The types of mentions.
JMERE_TYPES = Vocabulary(['per', 'org', 'misc', 'loc'], scheme='JMERE')

#: The relations; :obj:`alumi` is spelled as the corpus does.
JMERE_RELATIONS = Vocabulary([
    'parent', 'siblings', 'couple', 'neighbor', 'peer', 'charges', 'alumi',
    'alternate_names', 'place_of_residence', 'place_of_birth', 'member_of',
    'subsidiary', 'locate_at', 'contain', 'present_in', 'awarded', 'race',
    'religion', 'nationality', 'part_of', 'held_on'
], scheme='JMERE')

#: The relations without direction. The corpus does not say which they are;
#: these are the ones that mean the same both ways.
SYMMETRIC = ('siblings', 'couple', 'neighbor', 'peer', 'alumi',
             'alternate_names')


def split_label(relation_id: int) -> tuple[int, int, int] | None:
    r"""Type of the head, type of the tail and relation of a label of version
    2 of MNRE, such as :obj:`'/per/org/member_of'`; nothing for "none".

    Example:
        >>> split_label(9)
        (0, 1, 10)
    """
    label = RELATIONS['v2'].to_label(relation_id).lower()
    if '/' not in label:
        return None
    head, tail, relation = label.strip('/').split('/')
    return (JMERE_TYPES.to_id(head), JMERE_TYPES.to_id(tail),
            JMERE_RELATIONS.to_id(relation))
