"""The relations of the two versions of MNRE, in the order of their ids.

Validation and test lack classes, so the ids are never derived from a split.
Version 2 has the ids that public follow-up code uses; version 1 has no
published ids: ours are :obj:`none`, then the alphabet.
"""
from mmgraph.data import Vocabulary

__all__ = ['RELATIONS']

_V1 = [
    'none',
    '/loc/loc/administration_divisions',
    '/loc/loc/capital',
    '/loc/loc/contain',
    '/misc/loc/held_on',
    '/misc/misc/part_of',
    '/org/loc/locate_at',
    '/org/org/alternate_names',
    '/org/org/subsidiary',
    '/per/loc/place_of_birth',
    '/per/loc/place_of_death',
    '/per/loc/place_of_residence',
    '/per/misc/awarded',
    '/per/misc/creat',
    '/per/misc/nationality',
    '/per/misc/present_in',
    '/per/misc/race',
    '/per/misc/religion',
    '/per/org/founder_of',
    '/per/org/leader',
    '/per/org/member_of',
    '/per/per/alternate_names',
    '/per/per/charges',
    '/per/per/classmate',
    '/per/per/colleague',
    '/per/per/couple',
    '/per/per/neighbor',
    '/per/per/parent',
    '/per/per/peer',
    '/per/per/relative',
    '/per/per/siblings',
]

_V2 = [
    'None',
    '/per/per/parent',
    '/per/per/siblings',
    '/per/per/couple',
    '/per/per/neighbor',
    '/per/per/peer',
    '/per/per/charges',
    '/per/per/alumi',
    '/per/per/alternate_names',
    '/per/org/member_of',
    '/per/loc/place_of_residence',
    '/per/loc/place_of_birth',
    '/org/org/alternate_names',
    '/org/org/subsidiary',
    '/org/loc/locate_at',
    '/loc/loc/contain',
    '/per/misc/present_in',
    '/per/misc/awarded',
    '/per/misc/race',
    '/per/misc/religion',
    '/per/misc/nationality',
    '/misc/misc/part_of',
    '/misc/loc/held_on',
]

#: Relation vocabulary by version of the corpus.
RELATIONS = {
    'v1': Vocabulary(_V1, scheme='MNRE v1'),
    'v2': Vocabulary(_V2, scheme='MNRE v2'),
}
