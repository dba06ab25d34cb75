"""Configuration of Sphinx."""
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / '_ext'))

import mmgraph  # noqa: E402

project = 'mmgraph'
author = 'the mmgraph authors'
copyright = f'2026, {author}'
release = version = mmgraph.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'api_pages',
    'results_tables',
]

results_folder = str(HERE.parents[1] / 'benchmarks' / 'results')

autosummary_generate = False  # api_pages writes the pages
autodoc_inherit_docstrings = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
add_module_names = False
python_use_unqualified_type_names = True

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ['Complexity', 'Shapes']

exclude_patterns = ['_ext']
html_theme = 'furo' if importlib.util.find_spec('furo') else 'alabaster'
html_title = f'mmgraph {release}'
html_show_sourcelink = False
