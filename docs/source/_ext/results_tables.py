"""The directive ``results-tables``: result files of benchmarks as tables.

A result file is JSON with ``title``, ``columns``, ``rows`` (lists, or objects
keyed by column) and, optionally, ``notes`` (a string or a list of strings).
Other files in the folder are passed over; no file, no table.
"""
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


def escape(value: Any) -> str:
    if value is None:
        return '–'
    if isinstance(value, float):
        value = f'{value:.4g}' if abs(value) < 1000 else f'{value:,.0f}'
    text = ' '.join(str(value).split())
    return re.sub(r'([\\*`|_])', r'\\\1', text)


def render(result: dict[str, Any]) -> str:
    """One result as reStructuredText."""
    columns = [str(column) for column in result['columns']]
    lines = [f'.. list-table:: {escape(result["title"])}',
             '   :header-rows: 1', '']
    rows: list[list[Any]] = [columns]
    for row in result['rows']:
        rows.append([row.get(column) for column in columns]
                    if isinstance(row, dict) else list(row))
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f'a row has {len(row)} cells, '
                             f'the table {len(columns)} columns')
        lines += [f'   {"* -" if i == 0 else "  -"} {escape(cell)}'
                  for i, cell in enumerate(row)]
    lines.append('')
    notes = result.get('notes') or []
    for note in [notes] if isinstance(notes, str) else notes:
        lines += [f'- {escape(note)}']
    return '\n'.join([*lines, ''])


class ResultsTables(SphinxDirective):
    """``.. results-tables:: pattern`` (default: every file)."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        folder = Path(self.config.results_folder)
        pattern = self.arguments[0] if self.arguments else '**/*.json'
        found: list[nodes.Node] = []
        for path in sorted(folder.glob(pattern)):
            self.env.note_dependency(str(path))
            try:
                result = json.loads(path.read_text('utf-8'))
                if not (isinstance(result, dict)
                        and {'title', 'columns', 'rows'} <= result.keys()):
                    continue
                text = render(result)
            except ValueError as error:
                logger.warning('%s: %s', path, error,
                               location=self.get_location())
                continue
            name = path.relative_to(folder).as_posix()
            found += self.parse_text_to_nodes(f'``{name}``\n\n{text}')
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value('results_folder', '', 'env')
    app.add_directive('results-tables', ResultsTables)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
