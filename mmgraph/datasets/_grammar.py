"""The words, object classes and sentence patterns of ``SyntheticPosts``.

All names are invented; posts about them mean nobody.
"""
from mmgraph.data import Vocabulary
from mmgraph.parse.bio import bio_vocabulary
from mmgraph.parse.labels import CLEAR, UPOS

#: Relations by the types of head and tail, named in the style of MNRE.
RELATIONS_OF_TYPES: dict[tuple[str, str], tuple[str, ...]] = {
    ('PER', 'PER'): ('/per/per/couple', '/per/per/parent', '/per/per/peer'),
    ('PER', 'ORG'): ('/per/org/member_of', '/per/org/employee_of'),
    ('PER', 'LOC'): ('/per/loc/place_of_residence',
                     '/per/loc/place_of_birth'),
    ('PER', 'MISC'): ('/per/misc/present_in', '/per/misc/awarded'),
}
NEGATIVE = 'None'
#: The relations without direction.
SYMMETRIC = ('/per/per/couple', '/per/per/peer')

#: Cue words: relation → object class → the nouns that name it.
CUES: dict[str, dict[str, tuple[str, ...]]] = {
    NEGATIVE: {
        'coffee': ('coffee', 'latte'),
        'umbrella': ('umbrella', 'parasol'),
        'sandwich': ('sandwich', 'burger'),
        'bicycle': ('bicycle', 'bike'),
    },
    '/per/per/couple': {
        'ring': ('ring', 'diamond'),
        'bouquet': ('bouquet', 'rose'),
        'veil': ('veil', 'gown'),
    },
    '/per/per/parent': {
        'stroller': ('stroller', 'pram'),
        'crib': ('crib', 'cradle'),
        'rattle': ('rattle', 'pacifier'),
    },
    '/per/per/peer': {
        'chessboard': ('chessboard', 'checkerboard'),
        'blueprint': ('blueprint', 'sketch'),
        'racket': ('racket', 'paddle'),
    },
    '/per/org/member_of': {
        'jersey': ('jersey', 'kit'),
        'helmet': ('helmet', 'visor'),
        'scarf': ('scarf', 'pennant'),
    },
    '/per/org/employee_of': {
        'badge': ('badge', 'lanyard'),
        'laptop': ('laptop', 'monitor'),
        'briefcase': ('briefcase', 'folder'),
    },
    '/per/loc/place_of_residence': {
        'sofa': ('sofa', 'couch'),
        'mailbox': ('mailbox', 'letterbox'),
        'key': ('key', 'keyring'),
    },
    '/per/loc/place_of_birth': {
        'cottage': ('cottage', 'farmhouse'),
        'statue': ('statue', 'monument'),
        'chapel': ('chapel', 'steeple'),
    },
    '/per/misc/present_in': {
        'microphone': ('microphone', 'mic'),
        'guitar': ('guitar', 'bass'),
        'camera': ('camera', 'clapperboard'),
    },
    '/per/misc/awarded': {
        'trophy': ('trophy', 'cup'),
        'medal': ('medal', 'ribbon'),
        'plaque': ('plaque', 'certificate'),
    },
}

#: Nouns that say nothing on any relation, by their object class.
CONTEXT: dict[str, tuple[str, ...]] = {
    'dog': ('dog', 'puppy'),
    'cat': ('cat', 'kitten'),
    'tree': ('tree', 'oak'),
    'car': ('car', 'van'),
    'bench': ('bench', 'seat'),
    'table': ('table', 'counter'),
    'window': ('window', 'pane'),
    'lamp': ('lamp', 'lantern'),
    'balloon': ('balloon', 'kite'),
    'boat': ('boat', 'canoe'),
    'fence': ('fence', 'gate'),
    'clock': ('clock', 'watch'),
}

#: The classes that a mention of each type may show as: drawn anew for every
#: image, so that what a detector sees of a person never tells the name.
SHOWN_AS: dict[str, tuple[str, ...]] = {
    'PER': ('man', 'woman'),
    'ORG': ('logo', 'banner'),
    'LOC': ('skyline', 'tower'),
    'MISC': ('poster', 'screen'),
}

#: Verbs that decide a relation on their own, with the preposition they take
#: (empty: a direct object).
VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    '/per/per/couple': (('married', ''), ('wed', '')),
    '/per/per/parent': (('raised', ''), ('adopted', '')),
    '/per/per/peer': (('teamed', 'with'), ('collaborates', 'with')),
    '/per/org/member_of': (('joined', ''), ('plays', 'for')),
    '/per/org/employee_of': (('works', 'for'), ('interns', 'at')),
    '/per/loc/place_of_residence': (('lives', 'in'), ('resides', 'in')),
    '/per/loc/place_of_birth': (('hails', 'from'), ('originates', 'from')),
    '/per/misc/present_in': (('stars', 'in'), ('appears', 'in')),
    '/per/misc/awarded': (('won', ''), ('received', '')),
}

#: Sentence patterns. ``[label … word … ]`` is a phrase headed by its one bare
#: word; ``word/POS`` gives the word's part of speech. Capitals are slots: P
#: is the person mention, O the other one, N a noun phrase (cue or context),
#: L a place that takes no part in the relation, V the deciding verb with O.
#: ``a|b`` are alternatives, ``?`` opens a phrase that may be left out.
PATTERNS: tuple[str, ...] = (
    '[root [nsubj P] posted|shared/VERB [dobj [det a/DET] '
    'photo|picture/NOUN [prep with/ADP [pobj N]]] [prep about/ADP [pobj O]] '
    '[?prep from/ADP [pobj N]]]',
    '[root [nsubj P] brought|carried/VERB [dobj N [prep near/ADP [pobj N]]] '
    '[prep to/ADP [pobj O]] [?npadvmod today|tonight/NOUN]]',
    '[root P [prep with/ADP [pobj N]] [cc and/CCONJ] '
    '[conj O [prep beside|near/ADP [pobj N]]] [?prep in/ADP [pobj L]]]',
    '[root [prep about/ADP [pobj O]] [punct ,/PUNCT] [nsubj P] found|saw/VERB '
    '[dobj N] [prep behind|near/ADP [pobj N [?prep in/ADP [pobj L]]]]]',
    '[root [nsubj N [prep of/ADP [pobj P]]] sits|stands/VERB '
    '[prep by/ADP [pobj N [prep of/ADP [pobj O]]]] [?advmod again/ADV]]',
    '[root [nsubj N [prep of/ADP [pobj O]]] is/AUX [prep on/ADP [pobj '
    'page/NOUN [nummod one/NUM]]] [cc and/CCONJ] [conj [nsubj P] has/VERB '
    '[dobj N]]]',
    '[root O [punct :/PUNCT] [appos P [acl holding|hugging/VERB [dobj N '
    '[prep by/ADP [pobj N]]]]] [?npadvmod today/NOUN]]',
    '[root look/VERB [prep at/ADP [pobj P [prep with/ADP [pobj N [?prep '
    'under/ADP [pobj N]]]]]] [punct ,/PUNCT] [npadvmod '
    '[det another/DET] story/NOUN [prep on/ADP [pobj O [prep with/ADP '
    '[pobj N]]]]]]',
    '[root N [prep next/ADP [prep to/ADP [pobj N]]] [punct ,/PUNCT] '
    '[conj P [cc and/CCONJ] [conj O] [?prep in/ADP [pobj L]]]]',
    '[root [advmod when/ADV] [nsubj P] talks|talked/VERB [prep about/ADP '
    '[pobj O [prep with/ADP [pobj N]]]] [?prep over/ADP [pobj N [prep '
    'beside/ADP [pobj N]]]]]',
    '[root [expl there/PRON] is/VERB [attr N [prep for/ADP [pobj O]]] '
    '[cc and/CCONJ] [conj N [prep for/ADP [pobj P]]] [?advmod here/ADV]]',
    '[root [nsubj O [prep behind/ADP [pobj N]]] made/VERB [ccomp [nsubj P '
    '[prep with/ADP [pobj N]]] smile|laugh/VERB]]',
)

#: The same for posts whose verb decides.
VERB_PATTERNS: tuple[str, ...] = (
    '[root [nsubj P] V [prep near/ADP [pobj N]] '
    '[?npadvmod today|tonight/NOUN]]',
    '[root [nsubj P [prep with/ADP [pobj N]]] V [?prep by/ADP [pobj N]]]',
    '[root says/VERB [nsubj everyone/PRON] [punct :/PUNCT] [ccomp [nsubj P] V '
    '[punct ,/PUNCT] [npadvmod N [prep beside/ADP [pobj N]]]]]',
    '[root [prep behind/ADP [pobj N]] [punct ,/PUNCT] [nsubj P] V '
    '[?advmod again/ADV]]',
)

#: What joins the sentences of a post: words with their parts of speech and
#: labels, and the label of the sentence that follows.
LINKS: tuple[tuple[tuple[tuple[str, str, str], ...], str], ...] = (
    ((('and', 'CCONJ', 'cc'), ), 'conj'),
    (((',', 'PUNCT', 'punct'), ('and', 'CCONJ', 'cc')), 'conj'),
    (((',', 'PUNCT', 'punct'), ), 'parataxis'),
    ((('.', 'PUNCT', 'punct'), ), 'parataxis'),
    ((('!', 'PUNCT', 'punct'), ), 'parataxis'),
    ((('...', 'PUNCT', 'punct'), ), 'parataxis'),
)

ADJECTIVES = ('old', 'new', 'tiny', 'huge', 'lovely', 'red', 'blue', 'green',
              'shiny', 'dusty', 'fancy', 'quiet')
DETERMINERS = ('a', 'the', 'that', 'this')
OPENERS = ('wow', 'rt', 'omg', 'ok', 'yes', 'finally')
HASHTAGS = ('#weekend', '#goodvibes', '#throwback', '#nofilter', '#mondaymood',
            '#smallworld', '#snapped', '#sunnyday')
ENDINGS = ('.', '!', '...', '!!')

FIRST_NAMES = tuple("""
    Ada Alba Alma Amos Anya Arlo Asa Bea Beck Bram Cara Celia Clem Cleo Cora
    Dario Della Demi Desi Dora Edda Eli Elka Elmo Ema Enzo Esme Eva Ezra Faye
    Fern Finn Flora Gia Gideon Greta Gus Hal Hana Hazel Hugo Ida Igor Ines
    Ira Iris Ivo Jana Jude Juno Kai Kira Kit Lana Leif Lena Leo Lidia Lior
    Lotte Luca Luz Mae Mara Milo Mina Mira Moe Nadia Neo Nell Nico Nina Noor
    Odin Olga Opal Orla Oskar Otis Otto Pia Quinn Rafa Remy Rhea Rio Romy Rosa
    Rufus Runa Sami Sela Silas Stella Suki Tara Tess Theo Tilda Toby Uma Vera
    Vito Wanda Willa Xena Yara Yuri Zane Zara Zeno Zoe
""".split())
SURNAMES = tuple(
    start + end
    for start in ('Ald', 'Bran', 'Cor', 'Dun', 'Ever', 'Fal', 'Gar', 'Hol',
                  'Ing', 'Jar', 'Kel', 'Lin', 'Mor', 'Nor', 'Or', 'Pel',
                  'Quill', 'Rav', 'Sten', 'Thorn', 'Ul', 'Var', 'Wex', 'Yar')
    for end in ('beck', 'dane', 'ford', 'gate', 'ham', 'ley', 'mere', 'rick',
                'sby', 'ton', 'wick', 'worth'))
PLACE_NAMES = tuple(
    start + end
    for start in ('Ashen', 'Bell', 'Crane', 'Drift', 'Elder', 'Frost', 'Glen',
                  'Heron', 'Iron', 'Juniper', 'Kings', 'Lark', 'Maple', 'North',
                  'Oaken', 'Pine')
    for end in ('bay', 'bridge', 'burg', 'dale', 'field', 'haven', 'hollow',
                'mouth', 'port', 'stead', 'ville', 'water'))
ORGANISATION_NAMES = tuple(
    start + end
    for start in ('Acu', 'Bio', 'Cera', 'Dyna', 'Eco', 'Fero', 'Geo', 'Helio',
                  'Inno', 'Juvo', 'Kine', 'Lumi', 'Meta', 'Nova', 'Opti',
                  'Poly')
    for end in ('cast', 'core', 'dex', 'flux', 'grid', 'lane', 'mark', 'nix',
                'plex', 'sphere', 'tron', 'vex'))
ORGANISATION_ENDINGS = ('United', 'Labs', 'Group', 'Rovers', 'Media', 'Union')
WORK_FIRST = ('Amber', 'Broken', 'Crimson', 'Distant', 'Electric', 'Falling',
              'Golden', 'Hidden', 'Ivory', 'Jade', 'Last', 'Midnight',
              'Neon', 'Open', 'Paper', 'Silver', 'Velvet', 'Winter')
WORK_LAST = ('Anthem', 'Bridge', 'Comet', 'Dream', 'Echo', 'Feather', 'Garden',
             'Harbor', 'Island', 'Journey', 'Kingdom', 'Lights', 'Mirror',
             'Night', 'Orbit', 'Prairie', 'River', 'Shadow', 'Tide', 'Voyage')
HANDLES = tuple('@' + (first + last).lower()
                for first in FIRST_NAMES[::4] for last in SURNAMES[::12])

#: What the names of mentions that tell nothing are made of.
ALIAS_CONSONANTS, ALIAS_VOWELS = 'bdfgjklmnprstvwz', 'aeiou'

#: Predicates by the kinds of subject and object: ``person``, ``thing`` or
#: ``place``.
PREDICATES: dict[tuple[str, str], tuple[str, ...]] = {
    ('person', 'person'): ('next to', 'looking at'),
    ('person', 'thing'): ('holding', 'with', 'looking at'),
    ('person', 'place'): ('in front of', 'in'),
    ('thing', 'person'): ('next to', 'behind'),
    ('thing', 'thing'): ('on', 'near', 'behind'),
    ('thing', 'place'): ('in front of', 'in'),
    ('place', 'person'): ('behind', 'above'),
    ('place', 'thing'): ('behind', 'above'),
    ('place', 'place'): ('near', 'above'),
}


def kind_of(label: str) -> str:
    r"""The kind of an object class, for predicates and box shapes."""
    if label in SHOWN_AS['PER']:
        return 'person'
    return 'place' if label in SHOWN_AS['LOC'] else 'thing'


#: Cue noun → relation, cue noun → class, deciding verb → relation.
CUE_RELATION = {word: relation for relation, classes in CUES.items()
                for words in classes.values() for word in words}
CLASS_OF_WORD = {word: label
                 for classes in (*CUES.values(), CONTEXT)
                 for label, words in classes.items() for word in words}
VERB_RELATION = {verb: relation for relation, verbs in VERBS.items()
                 for verb, _ in verbs}
CUE_CLASSES = {relation: tuple(classes) for relation, classes in CUES.items()}


def _pattern_words() -> set[str]:
    parts = ' '.join((*PATTERNS, *VERB_PATTERNS)).replace(']', ' ').split()
    return {form for part in parts if '/' in part
            for form in part.rpartition('/')[0].split('|')}


def make_vocabularies(joint: bool = False) -> dict[str, Vocabulary]:
    r"""The vocabularies of every split of every :obj:`SyntheticPosts`; those
    for joint extraction have no label that stands for none.
    """
    relations = [relation for group in RELATIONS_OF_TYPES.values()
                 for relation in group]
    kinds = ['PER', 'LOC', 'ORG', 'MISC']
    classes = [*CONTEXT, *(label for group in CUES.values()
                           for label in group)]
    classes += [label for group in SHOWN_AS.values() for label in group]
    words = {*CLASS_OF_WORD, *VERB_RELATION, *ADJECTIVES, *DETERMINERS,
             *OPENERS, *HASHTAGS, *ENDINGS, *FIRST_NAMES, *SURNAMES,
             *PLACE_NAMES, *ORGANISATION_NAMES, *ORGANISATION_ENDINGS,
             *WORK_FIRST, *WORK_LAST, *HANDLES, 'and', ',', *_pattern_words(),
             *(prep for verbs in VERBS.values() for _, prep in verbs if prep)}
    predicates = sorted({p for group in PREDICATES.values() for p in group})
    types = (Vocabulary(kinds) if joint else
             Vocabulary(['unknown', *kinds], unknown='unknown'))
    return {
        'relation': Vocabulary(relations if joint else [NEGATIVE, *relations],
                               scheme='MNRE'),
        'dependency': CLEAR,
        'pos': UPOS,
        'entity': types,
        'tag': bio_vocabulary(types),
        'object': Vocabulary(classes, scheme='SyntheticPosts'),
        'predicate': Vocabulary(predicates, scheme='SyntheticPosts'),
        'word': Vocabulary(['<unk>', *sorted(words)], unknown='<unk>'),
    }
