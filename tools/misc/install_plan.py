"""Decisions of ``make install``, without side effects: versions, keys, checks. Standard library only."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from pathlib import Path

# Versions of the packages that requirements.txt does not list.
TORCH, TORCH_MIN, TORCH_END = '2.13.0', (2, 4), (2, 14)  # the end is the first version with which mmcv does not compile
MMCV = '2.3.6'
PYTHON_MIN, PYTHON_MAX = (3, 10), (3, 12)
BUILD_TOOLS = ('pip>=23.1', 'setuptools>=80', 'wheel', 'ninja', 'psutil', 'packaging>=24.2')


# Runs in the venv's Python. `_ext` is loaded as a file: `import mmcv` needs mmengine, which is installed later.
PROBE = """
import glob, importlib.util, json, os, sys, sysconfig
found = dict(tag=f'cp{sys.version_info[0]}{sys.version_info[1]}', include=sysconfig.get_paths()['include'],
             cflags=sysconfig.get_config_var('CFLAGS') or '')
try:
    import torch
    from torch.utils import cpp_extension
    found.update(torch=torch.__version__, cuda=torch.version.cuda, cuda_home=cpp_extension.CUDA_HOME)
    caps = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    found['gpus'] = sorted('%d.%d' % c for c in caps)
    spec = importlib.util.find_spec('mmcv')
    if spec:
        files = glob.glob(os.path.join(os.path.dirname(spec.origin), '_ext*'))
        if not files:
            raise ImportError('mmcv has no compiled operators')
        ext = importlib.util.spec_from_file_location('mmcv._ext', files[0])
        module = importlib.util.module_from_spec(ext)
        ext.loader.exec_module(module)
        found['ops_cuda'] = module.get_compiling_cuda_version()
except Exception as e:
    found['error'] = f'{type(e).__name__}: {e}'
print('PROBE' + json.dumps(found))
"""


class InstallError(Exception):
    """Ends the installation; its text is the only line that the user sees."""


def check_python(version: tuple[int, ...], name: str) -> None:
    """Raise ``InstallError`` unless the version (major, minor, ...) is supported."""
    if not PYTHON_MIN <= tuple(version[:2]) <= PYTHON_MAX:
        low, high = ('.'.join(map(str, v)) for v in (PYTHON_MIN, PYTHON_MAX))
        have = '.'.join(map(str, version[:2]))
        raise InstallError(
            f'{name} is Python {have}, but {low} to {high} is needed; install python{high} (with its venv module), or '
            'name another: make install PYTHON=/path/to/python3.11'
        )


def cache_dir(env: dict[str, str]) -> Path:
    """Cache outside of this clone: ``$MMPANOPTIC_CACHE``, or ``mmpanoptic`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if env.get('MMPANOPTIC_CACHE'):
        return Path(env['MMPANOPTIC_CACHE']).expanduser()
    return Path(env.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'mmpanoptic'


def nvcc_version(cuda_home: str | None) -> str | None:
    """Release of the CUDA toolkit, such as '12.8'; None if there is none or it does not run."""
    nvcc = Path(cuda_home, 'bin', 'nvcc') if cuda_home else None
    if not nvcc or not nvcc.exists():
        return None
    out = subprocess.run([str(nvcc), '--version'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    match = re.search(r'release (\d+\.\d+)', out)
    return match.group(1) if match else None


def cuda_plan(torch_cuda: str | None, toolkit: str | None, gpus: list[str], env: dict[str, str]) -> str:
    """Target of the build of the operators, part of the wheel's key: 'cpu' or, for instance, 'cuda12.8-sm9.0'.

    Args:
        torch_cuda: CUDA version of torch; None for a CPU build of torch.
        toolkit: Version of the CUDA toolkit (nvcc); None if there is none.
        gpus: Compute capabilities of the GPUs in the machine.
        env: Environment variables. ``MMPANOPTIC_CPU_OPS=1`` chooses operators without CUDA; ``TORCH_CUDA_ARCH_LIST`` is
            a variable of torch.

    Raises:
        InstallError: If torch can use a GPU and no toolkit fits torch.
    """
    if torch_cuda is None or env.get('MMPANOPTIC_CPU_OPS') == '1':
        return 'cpu'
    if toolkit is None or toolkit.split('.')[0] != torch_cuda.split('.')[0]:
        if not gpus:
            return 'cpu'
        have = f'the CUDA toolkit is {toolkit}' if toolkit else 'there is no CUDA toolkit (nvcc)'
        raise InstallError(
            f'torch uses CUDA {torch_cuda}, but {have}; install toolkit {torch_cuda} and set CUDA_HOME to it, or do '
            'without the GPU: MMPANOPTIC_CPU_OPS=1 make install'
        )
    archs = env.get('TORCH_CUDA_ARCH_LIST') or ','.join(gpus) or 'all'
    return f'cuda{torch_cuda}-sm' + re.sub(r'[^0-9A-Za-z.+]+', '_', archs)


def wheel_key(torch: str, tag: str, plan: str) -> str:
    """Name of the folder of a built wheel, which contains everything that decides whether the wheel fits."""
    return f'mmcv{MMCV}-torch{torch}-{tag}-{plan}-{platform.system().lower()}_{platform.machine()}'


def find_compiler(env: dict[str, str], find=shutil.which) -> str:
    """The C++ compiler for extensions of torch. Raises ``InstallError`` if there is none."""
    for name in filter(None, (env.get('CXX'), 'c++', 'g++', 'clang++')):
        if find(name.split()[0]):
            return name
    raise InstallError(
        'no C++ compiler (c++ or g++) to build the operators with; install one (Debian, Ubuntu: apt install g++; '
        'Fedora: dnf install gcc-c++; macOS: xcode-select --install) and run make install again'
    )


def failure_reason(log: str) -> str:
    """The most informative line of pip's output about a failure, at most 200 characters."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern in (
        r'No space left|Killed signal|MemoryError',
        r'\bfatal error:|: error:|^error: ',
        r'No matching distribution|ReadTimeout|Connection|Could not',
        r'^(ERROR|\w*Error:)',
    ):
        for line in lines:
            if re.search(pattern, line):
                return line[:200]
    return lines[-1][:200] if lines else 'it printed nothing'


def way_out_of_downloads(reason: str, offline: bool, wheels: Path | None) -> str:
    """End of an error's text with a way out if pip could not get a file; '' for other failures.

    Args:
        reason: Result of :func:`failure_reason`.
        offline: Whether downloads are forbidden.
        wheels: Folder of files to install from, if it was given.
    """
    unreachable = r'No matching distribution|Could not (find|fetch)|[Cc]onnection|Timeout|Name or service|SSLError'
    if not re.search(unreachable, reason):
        return ''
    fill = 'fill it on a machine of this kind that has a network, with this Python: make wheels WHEELS=DIR'
    if offline and wheels:
        return f'; {wheels} lacks it: {fill}'
    if offline:
        return f'; name a folder: make install OFFLINE=1 WHEELS=DIR, and {fill}'
    return (
        '; check the network and run make install again, which goes on where it was; pip takes a mirror from '
        f'PIP_INDEX_URL and a proxy from HTTPS_PROXY; without a network: make install OFFLINE=1 WHEELS=DIR, and {fill}'
    )


def last_progress(log: str) -> str:
    """The last '[n/N]' at the beginning of a line of ninja, or ''."""
    found = re.findall(r'^\s*(\[\d+/\d+\])', log, re.MULTILINE)
    return found[-1] if found else ''


def stamp(root: Path, venv: Path) -> str:
    """Hash of everything whose change requires a new installation. It only reads files and imports nothing."""
    digest = hashlib.sha256(f'{root}\n'.encode())
    for name in (
        'requirements.txt',
        'setup.py',
        *(f'tools/misc/{file}.py' for file in ('install', 'install_operators', 'install_plan')),
    ):
        digest.update((root / name).read_bytes())
    source = (root / 'mmpanoptic' / '__init__.py').read_text(encoding='utf-8')
    digest.update(''.join(re.findall(r'^__version__.*', source, re.MULTILINE)).encode())
    digest.update((venv / 'pyvenv.cfg').read_bytes() if (venv / 'pyvenv.cfg').exists() else b'')
    for pattern in ('torch-[0-9]*', 'onedl_*', 'mmpanoptic-*'):
        for info in sorted(venv.glob(f'lib/python3.*/site-packages/{pattern}.dist-info')):
            digest.update(info.name.encode())
    return digest.hexdigest()
