"""Print facts for reports of problems: versions, compiler, devices, and whether the operators of mmcv load.

Usage: python tools/misc/collect_env.py

It works without any installed package; missing packages are reported.
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
# Packages to print, and distributions that may provide them; the first installed one counts.
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
    """Version of the first installed one of ``names``, as '1.2.3 (distribution)', or 'not installed'."""
    for name in names:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return f'{version} ({name})' if name != names[0] or len(names) > 1 else version
    return MISSING


def first_line(command: list[str], pick: str = '') -> str:
    """First line of a command's output that contains ``pick``, or 'not installed' if the command fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return MISSING
    lines = [line.strip() for line in run.stdout.splitlines() if pick in line]
    return lines[0] if run.returncode == 0 and lines else MISSING


def cpu() -> str:
    """Model of the CPU, number of cores that this process may use, and memory."""
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
    """Versions of CUDA and cuDNN that torch was built for, and its number of threads."""
    torch = importlib.import_module('torch')
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    return f'CUDA {torch.version.cuda or "none"}, cuDNN {cudnn or "none"}, {torch.get_num_threads()} threads'


def operators() -> str:
    """Whether the operators of mmcv load, and versions of the compiler and CUDA that built them."""
    ops = importlib.import_module('mmcv.ops')
    return f'loads; compiled with {ops.get_compiler_version()}, CUDA {ops.get_compiling_cuda_version()}'


def commit() -> str:
    """Commit of this checkout, with a mark if files differ from it."""
    head = first_line(['git', 'rev-parse', '--short=12', 'HEAD'])
    if head == MISSING:
        return 'none (no git checkout)'
    changed = first_line(['git', 'status', '--porcelain', '--untracked-files=no'])
    return head if changed == MISSING else f'{head}, with changes'


def safely(ask: Callable[[], str]) -> str:
    """The result of ``ask``, or the reason of its failure; its output is dropped."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            return ask()
    except ModuleNotFoundError as e:
        return f'{MISSING} (no module {e.name})'
    except Exception as e:  # broken installations need a report most
        return f'fails: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ""}'


def collect() -> dict[str, str]:
    """All facts by name, in the order in which they are printed. It never raises."""
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
