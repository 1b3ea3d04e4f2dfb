"""Print what a report of a problem should say: versions, compiler, devices, and whether the operators of mmcv load.

Usage: python tools/misc/collect_env.py

It needs nothing installed: what is missing is reported as such.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = 'not installed'
# What is printed, and the distributions that may provide it; the first one found counts.
PACKAGES = {
    'torch': ('torch',),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmpanoptic': ('mmpanoptic',),
    'numpy': ('numpy',),
    'opencv': ('opencv-python', 'opencv-python-headless'),
    'pycocotools': ('pycocotools',),
    'cityscapesscripts': ('cityscapesscripts',),
}


def package_version(names: tuple[str, ...]) -> str:
    """'1.2.3 (distribution)' of the first of ``names`` that is installed, else 'not installed'."""
    for name in names:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return f'{version} ({name})' if name != names[0] or len(names) > 1 else version
    return MISSING


def first_line(command: list[str], pick: str = '') -> str:
    """First line of what the command prints that contains ``pick``, or 'not installed' when it does not run."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return MISSING
    lines = [line.strip() for line in run.stdout.splitlines() if pick in line]
    return lines[0] if run.returncode == 0 and lines else MISSING


def cpu() -> str:
    """Model, cores that this process may use, and memory."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        model = next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return f'{model}, {cores} cores, {memory:.1f} GiB of memory'


def gpus() -> str:
    """Names and memory of the GPUs that torch sees."""
    torch = importlib.import_module('torch')
    if not torch.cuda.is_available():
        return 'none that torch can use'
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return '; '.join(f'{i}: {p.name}, {p.total_memory / 2**30:.1f} GiB' for i, p in enumerate(found))


def torch_build() -> str:
    """CUDA and cuDNN that torch was built for, and its threads."""
    torch = importlib.import_module('torch')
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    return f'CUDA {torch.version.cuda or "none"}, cuDNN {cudnn or "none"}, {torch.get_num_threads()} threads'


def operators() -> str:
    """Whether the compiled operators load, and what they were compiled with."""
    ops = importlib.import_module('mmcv.ops')
    return f'loads; compiled with {ops.get_compiler_version()}, CUDA {ops.get_compiling_cuda_version()}'


def commit() -> str:
    """Commit of this checkout, with a mark when files differ from it."""
    head = first_line(['git', 'rev-parse', '--short=12', 'HEAD'])
    if head == MISSING:
        return 'none (no git checkout)'
    changed = first_line(['git', 'status', '--porcelain', '--untracked-files=no'])
    return head if changed == MISSING else f'{head}, with changes'


def safely(ask: Callable[[], str]) -> str:
    """The answer, or the reason why there is none; whatever is printed on the way is dropped."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            return ask()
    except ModuleNotFoundError as e:
        return f'{MISSING} (no module {e.name})'
    except Exception as e:  # a report has to come out of a broken installation above all
        return f'fails: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ""}'


def collect() -> dict[str, str]:
    """All that is printed, from name to value, in order. Raises nothing."""
    report = {'system': platform.platform(), 'python': f'{platform.python_version()} ({sys.executable})'}
    report.update({name: package_version(names) for name, names in PACKAGES.items()})
    report['torch built for'] = safely(torch_build)
    report['mmcv.ops'] = safely(operators)
    report['C++ compiler'] = first_line([os.environ.get('CXX', 'c++').split()[0], '--version'])
    report['CUDA toolkit'] = first_line(['nvcc', '--version'], 'release')
    report['CPU'] = safely(cpu)
    report['GPUs'] = safely(gpus)
    report['git commit'] = safely(commit)
    return report


if __name__ == '__main__':
    for key, value in collect().items():
        print(f'{key + ":":20}{value}', flush=True)
