"""What README and docs point to exists, and their code runs."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / 'docs' / 'source'
TEXTS = [ROOT / 'README.md', ROOT / 'CHANGELOG.md']
PAGES = [path for path in sorted(DOCS.rglob('*.rst'))
         if 'generated' not in path.relative_to(DOCS).parts]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r'^```python\n(.*?)^```', path.read_text('utf-8'),
                      flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.name)
def test_relative_links(path):
    text = re.sub(r'^```.*?^```', '', path.read_text('utf-8'),
                  flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    if path.name == 'README.md':
        assert links
    for link in links:
        if not re.match(r'[a-z]+:|#', link):
            target = path.parent / link.split('#')[0]
            assert target.exists(), f'{path.name} links to {link}'


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_docs_point_to_files(path):
    text = path.read_text('utf-8')
    pages = re.findall(r':doc:`(?:[^<`]*<)?([^>`]+)>?`', text)
    files = re.findall(
        r'^\s*\.\. (?:literalinclude|include|image|figure):: (\S+)', text,
        flags=re.MULTILINE)
    for link in [f'{page}.rst' for page in pages] + files:
        if 'generated/' in link:
            continue  # written by the build
        base = DOCS if link.startswith('/') else path.parent
        assert (base / link.lstrip('/')).exists(), f'{path.name}: {link}'


def test_readme_runs(tmp_path):
    blocks = python_blocks(ROOT / 'README.md')
    assert blocks
    environment = os.environ | {
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
    }
    for block in blocks:
        done = subprocess.run([sys.executable, '-c', block], cwd=tmp_path,
                              env=environment, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert not list(tmp_path.iterdir())  # leaves nothing behind


def test_version_is_one():
    version = re.search(r"^__version__ = '([^']+)'",
                        (ROOT / 'mmgraph' / '__init__.py').read_text('utf-8'),
                        flags=re.MULTILINE)
    if version is not None:  # else it is read from the metadata
        project = (ROOT / 'pyproject.toml').read_text('utf-8')
        assert f'\nversion = "{version[1]}"\n' in project
