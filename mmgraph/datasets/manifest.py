"""What the published files of a corpus are, byte by byte."""
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmgraph.errors import InputError
from mmgraph.typing import PathLike
from mmgraph.utils import atomic_path

__all__ = ['JMERE_MANIFEST', 'MNRE_MANIFEST', 'TWITTER_MANIFEST', 'FileEntry',
           'Manifest']


@dataclass(frozen=True)
class FileEntry:
    r"""One file.

    Args:
        num_bytes (int): Its size.
        sha256 (str): Its SHA-256, in hexadecimal.
        version (str, optional): The version of the corpus: figures on two
            versions cannot be compared. (default: :obj:`''`)
        licence (str, optional): The licence that its authors state.
            (default: :obj:`''`)
        source (str, optional): Where it comes from. (default: :obj:`''`)
    """
    num_bytes: int
    sha256: str
    version: str = ''
    licence: str = ''
    source: str = ''

    @classmethod
    def of(cls, data: bytes, **fields: str) -> 'FileEntry':
        r"""The entry of a file's content."""
        return cls(len(data), hashlib.sha256(data).hexdigest(), **fields)


class Manifest(dict[str, FileEntry]):
    r"""Files by name.

    Example:
        >>> manifest = Manifest({'a.txt': FileEntry.of(b'abc')})
        >>> manifest.status('a.txt', b'abc'), manifest.status('a.txt', b'x')
        ('published', 'differs')
    """
    def status(self, name: str, data: bytes) -> str:
        r""":obj:`'published'` if the content is the one listed,
        :obj:`'differs'` if not, :obj:`'unlisted'` if the name is not listed.
        """
        entry = self.get(name)
        if entry is None:
            return 'unlisted'
        found = FileEntry.of(data)
        same = (found.num_bytes, found.sha256) == (entry.num_bytes,
                                                   entry.sha256)
        return 'published' if same else 'differs'

    def write(self, path: PathLike, **more: Any) -> None:
        r"""Writes the manifest as JSON.

        Args:
            path (str): The file.
            **more: Further plain values, *e.g.* how the files were made.
        """
        files = {name: asdict(entry) for name, entry in self.items()}
        with atomic_path(path) as part:
            part.write_text(json.dumps({**more, 'files': files}, indent=1)
                            + '\n', encoding='utf-8')

    @classmethod
    def read(cls, path: PathLike) -> 'Manifest':
        r"""Reads what :meth:`write` wrote.

        Raises:
            InputError: If the file is not a manifest.
        """
        try:
            files: Mapping[str, Any] = json.loads(
                Path(path).read_text(encoding='utf-8'))['files']
            return cls({name: FileEntry(**entry)
                        for name, entry in files.items()})
        except (OSError, ValueError, KeyError, TypeError,
                AttributeError) as error:
            raise InputError(f'not a manifest ({error})', path) from error


_TEXT = dict(licence='none stated', source='thecharm/MNRE at 354211e')
_SCENE = dict(version='v1', licence='MIT (code; nothing said of the data)',
              source='thecharm/Mega at e5638f2')
_TREE = dict(licence='derived from the text',
             source='spaCy 3.8, small English pipeline')

#: The files of MNRE as :class:`~mmgraph.datasets.MNRE` names them.
MNRE_MANIFEST = Manifest({
    'v2_train.txt': FileEntry(
        3883710,
        '1cc34438a00e2a2db73e4eba297820f926f62abd1fddc693caa13c58b62428b7',
        version='v2', **_TEXT),
    'v2_val.txt': FileEntry(
        514842,
        'c76865179b5678167b164c21fd25ed31f9a1416da393ac93ce70f32b00352b75',
        version='v2', **_TEXT),
    'v2_test.txt': FileEntry(
        512573,
        'f53c2f9b7739bea7d08aee4a91bfd6ec7432e1d0eeb83debf10f5d3291bc5215',
        version='v2', **_TEXT),
    'v1_train.txt': FileEntry(
        2304335,
        'ae0a5064731f5490954cb2ebff2071355066a7912ea1a89caa7ada6a351821ae',
        version='v1', **_TEXT),
    'v1_val.txt': FileEntry(
        286170,
        '630828449abf53a299f99fd4de62bc2d7dfda57fcc8da7579c2b97f52ed56619',
        version='v1', **_TEXT),
    'v1_test.txt': FileEntry(
        377276,
        'a449ab5b43a2be68900ca522fe05195f3454feedfd7c9531763f3c17eecc5df8',
        version='v1', **_TEXT),
    'v2_train.conllu': FileEntry(
        4231924,
        '72e2e65af914dcc80b5e99e5a39a36ece0758a20248587491dbb4f4113f449cb',
        version='v2', **_TREE),
    'v2_val.conllu': FileEntry(
        537887,
        '1ee504caf4176db397eab7e0f20c421f0528ed26b1b4d9954f8821a61fd9591a',
        version='v2', **_TREE),
    'v2_test.conllu': FileEntry(
        525359,
        '9a30bc3391f9bf3975951ec33a1126888aeee80fbe3f15be6b4513de823e361e',
        version='v2', **_TREE),
    'v1_train.conllu': FileEntry(
        2244480,
        '074a60f1c20beaaa34a3a80dcca72bdd821139c52b18109999e6a6e38329244f',
        version='v1', **_TREE),
    'v1_val.conllu': FileEntry(
        277849,
        'b1b99ec99c9d245bebdea49740ca39d8f4654d523fed2f852b2f99e81da668bb',
        version='v1', **_TREE),
    'v1_test.conllu': FileEntry(
        379470,
        '25563b1b9233f2183d2ade2caeb04dcc722fd27a8e10c3fd091e6d4db6d7ab7a',
        version='v1', **_TREE),
    'graph_of_image_train.json': FileEntry(
        467240,
        '98121709054eca6bb7cdaec5bd7d95527d7ef9da27fc4b1fef1745836b207d80',
        **_SCENE),
    'graph_of_image_val.json': FileEntry(
        60281,
        'ebcb1660e2043fdfaedee1bbfe99e31a9bc6ddc24eebc64f2c7b6ba25993384f',
        **_SCENE),
    'graph_of_image_test.json': FileEntry(
        75433,
        '66caf56dc6a7789dd7b236b75d466491344b0ff18fe09cacdfd5a087bbbc385d',
        **_SCENE),
})

_REBUILT = dict(licence='derived from the text',
                source='version 2 of thecharm/MNRE at 354211e')

#: The canonical text of what :class:`~mmgraph.datasets.JMERE` rebuilds, by
#: variant and split; see
#: :meth:`JMERE.canonical_text <mmgraph.datasets.JMERE.canonical_text>`.
JMERE_MANIFEST = Manifest({
    'merged train': FileEntry(
        558908,
        'e01fdad702632d3f6b9f37b092c0be3594efa1dc9f9d9dd54bd5d1295bbca176',
        version='merged', **_REBUILT),
    'merged val': FileEntry(
        77076,
        '3a50a3515e9c1f7c63e7a80d98d50477101596b584b5e7251d1a0e6c11853ee1',
        version='merged', **_REBUILT),
    'merged test': FileEntry(
        75459,
        'c58959009a82f3ec4d213699d6accc3a329244b1cd70966eb8f5feb83f95f236',
        version='merged', **_REBUILT),
    'v1 train': FileEntry(
        579476,
        '5a68c12ed94532a254623ce69f51d224b82e6f28d561c749eb2284164588861a',
        version='v1', **_REBUILT),
    'v1 val': FileEntry(
        80200,
        '3e2a9a54b93e766007e65282d0cd921eb8c59eef8b7c9e776834b64c8e0413b0',
        version='v1', **_REBUILT),
    'v1 test': FileEntry(
        77607,
        'c0559fac1f8b6db924e8a29cd5393662292a262cad588c9e9f5a2e2938a8ad05',
        version='v1', **_REBUILT),
})

_TWEETS = dict(licence='none stated', source='jefferyYu/UMT at f478ee6')
_LISTS = dict(licence='Apache-2.0 (code; nothing said of the data)',
              source='1429904852/R-GCN at f4cab8f')

#: The files of :class:`~mmgraph.datasets.Twitter2015` and
#: :class:`~mmgraph.datasets.Twitter2017`, by folder and name.
TWITTER_MANIFEST = Manifest({
    'twitter2015/train.txt': FileEntry(
        670884,
        'a6246e37aa1c8acd738747fa8257e01775f2a1cc0d4f36f82f9d41d6246ad6fa',
        version='2015', **_TWEETS),
    'twitter2015/valid.txt': FileEntry(
        168308,
        '9dcc7f9df7331de3c9cdf67a3450e041c41c6254b5e43925c576e2dfaaabe2ad',
        version='2015', **_TWEETS),
    'twitter2015/test.txt': FileEntry(
        550697,
        'edb2665b89bfe58bca06a2c10b9b31cbfa95456135b6a4cbf55c872e48d9b8f9',
        version='2015', **_TWEETS),
    'twitter2015/train_2.txt': FileEntry(
        2597664,
        '2b8cea5dc4158ce308494349191021c710988fd8cf6cc7b37b0971fcd1f2f6d8',
        version='2015', **_LISTS),
    'twitter2015/valid_2.txt': FileEntry(
        646549,
        '5a36b5f2bd78075e66351dfe14299f940d381a49ecd17faed874ae64d6e26248',
        version='2015', **_LISTS),
    'twitter2015/test_2.txt': FileEntry(
        2105799,
        '25fab1abb622aa2ae70a70acadb21f233e642c0725238b72a83d01613320c773',
        version='2015', **_LISTS),
    'twitter2015/train.conllu': FileEntry(
        2284708,
        'aa4fc1169fd27f6dbd95ce82333f14443df36b6f78745b20cf3d035c9c6a962f',
        version='2015', **_TREE),
    'twitter2015/valid.conllu': FileEntry(
        573512,
        'a73d4ca7583e2eebaa99e5bdbedf7cebafa1ff595018a405d77730bb0f0b690a',
        version='2015', **_TREE),
    'twitter2015/test.conllu': FileEntry(
        1873138,
        '3c3c742bac070c4cd1b35a418f5b6a2703490f675253617fc73171e08ab5e85a',
        version='2015', **_TREE),
    'twitter2017/train.txt': FileEntry(
        474906,
        '801e149e8635b19d66b4ec1212c329be340ada501b35c5fa55455fb6f53633be',
        version='2017', **_TWEETS),
    'twitter2017/valid.txt': FileEntry(
        101346,
        '41b5db90cb32059c14c2c3ccd50845fb77f1e3d3e4f7d0c210a61bc507d8a73e',
        version='2017', **_TWEETS),
    'twitter2017/test.txt': FileEntry(
        102522,
        'a7d9e172ae85bd3e35276eb2b01ce223321bdc92a47b234e24305d72e7a05243',
        version='2017', **_TWEETS),
    'twitter2017/train_2.txt': FileEntry(
        2348251,
        '03f2aec8be719527040536e6e6636fdab3b392190a30d97990975e31900adf61',
        version='2017', **_LISTS),
    'twitter2017/valid_2.txt': FileEntry(
        500965,
        '81dd213703a3bc2b14165f57a572b50e3ab63cffa3526d2c87f885bfcaffe670',
        version='2017', **_LISTS),
    'twitter2017/test_2.txt': FileEntry(
        502913,
        '7ff73ee9b68d0e561c826b04fb3d7a327740cfb14f97834e2d8d0c8b01cc4e73',
        version='2017', **_LISTS),
    'twitter2017/train.conllu': FileEntry(
        1791567,
        '671835a94205daa27e77a8a730795192d835af7717e2f68c6c5d1383160a170c',
        version='2017', **_TREE),
    'twitter2017/valid.conllu': FileEntry(
        381960,
        '6d915d13d2a894c2c2fbe83759fc018eae67285395361d4331f30f13494376bc',
        version='2017', **_TREE),
    'twitter2017/test.conllu': FileEntry(
        383283,
        '68c8956aea362dbe105bd18374d93d233eaf46195a71e009e5d7249a9df06037',
        version='2017', **_TREE),
})
