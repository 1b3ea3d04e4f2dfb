"""Build mmcv's operators from their source distribution, for ``make install``. Standard library only.

A compiler takes half a minute to parse torch's headers, which 78 files of mmcv include. Here most host files become one
translation unit, and most CPU kernels another. This takes an eighth of the CPU time and gives the same operators.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import resource
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from install_plan import MMCV, InstallError, cache_dir, find_compiler

# Files that share names with other files of their folder, or compile slowly, stay translation units.
ALONE = {
    'pytorch': ('pybind',),
    'cpu': (
        'deform_conv',
        'modulated_deform_conv',
        'psamask',
        'roi_align',
        'roi_align_rotated',
        'rotated_feature_align',
    ),
}
CPU_MINUTES = 6  # CPU time of a build without CUDA
PLAIN_CPU_MINUTES = 40  # the same, file by file


def build_operators(
    folder: Path, plan: str, found: dict, env: dict[str, str], pip: Callable[..., None], say: Callable[[str], None]
) -> None:
    """Build the wheel of operators beside its folder and move it there when it is complete.

    Args:
        folder: Folder of the wheel. If another installation makes it meanwhile, nothing is done.
        plan: Target of the build, see :func:`~install_plan.cuda_plan`.
        found: Facts about the venv's Python: ``tag``, ``include``, ``cflags``.
        env: Environment variables.
        pip: Runs pip, given a title, its arguments, and the environment as ``env``.
        say: Prints one line.

    Raises:
        InstallError: If there is no compiler or no ``Python.h``, the folder cannot be written to, or both builds fail.
    """
    jobs, build_env = _build_environment(plan, found, env)
    cache = cache_dir(env)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as e:
        raise InstallError(
            f'cannot write to {folder.parent} ({e.strerror}); name a folder: MMPANOPTIC_CACHE=...'
        ) from e
    with only_builder(cache, say):
        if folder.exists():
            return
        for stale in folder.parent.glob('.building-*'):  # left by killed builds: this process holds the lock
            shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix='.building-', dir=folder.parent))
        scratch = temporary / 'scratch'
        scratch.mkdir()
        build_env['TMPDIR'] = str(scratch)
        start, used_before = time.time(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        title = f'Building the operators of mmcv {MMCV} for {plan} on {jobs} cores'
        more = '' if plan == 'cpu' else ', with CUDA several times that'
        try:
            archive = download_sources(cache, temporary, pip)
            try:
                source = unpack(archive, temporary / 'united')
                unite(source)
                minutes = f'about {math.ceil(CPU_MINUTES / jobs)} minutes{more}'
                whole = build_wheel(f'{title}, once ({minutes})', source, build_env, pip)
            except InstallError as error:
                say(f'The fast way failed ({error}): building file by file')
                source = unpack(archive, temporary / 'plain')
                minutes = f'about {math.ceil(PLAIN_CPU_MINUTES / jobs)} minutes{more}'
                whole = build_wheel(f'{title} ({minutes})', source, build_env, pip)
            whole.rename(folder)
            used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used_before
            say(f'Built in {(time.time() - start) / 60:.1f} minutes, with {used / 60:.1f} minutes of CPU')
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _build_environment(plan: str, found: dict, env: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Number of compiler processes, and environment variables of the build."""
    compiler = find_compiler(env)
    if not Path(found['include'], 'Python.h').exists():
        name = 'python{}.{}-dev'.format(*re.match(r'cp(\d)(\d+)', found['tag']).groups())
        raise InstallError(
            f'no Python.h in {found["include"]} to build the operators with; install the headers of this Python '
            f'(Debian, Ubuntu: apt install {name}) or use another: make install PYTHON=...'
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    jobs = int(env.get('MAX_JOBS') or max(1, min(cores, int(memory // 2))))
    flags = compiler_flags(f'{found.get("cflags", "")} {env.get("CFLAGS", "")}')
    build_env = {
        **env,
        'MMCV_WITH_OPS': '1',
        'MAX_JOBS': str(jobs),
        'CXX': compiler,
        'CFLAGS': flags,
        'CXXFLAGS': flags,
    }
    # mmcv builds for the CPU if it sees no GPU; FORCE_CUDA overrides this.
    build_env.update({'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''} if plan == 'cpu' else {'FORCE_CUDA': '1'})
    return jobs, build_env


def download_sources(cache: Path, temporary: Path, pip: Callable[..., None]) -> Path:
    """Path of the source distribution of mmcv, which is downloaded once and kept."""
    kept = cache / 'sources' / f'onedl_mmcv-{MMCV}.tar.gz'
    if not kept.exists():
        options = ['--no-deps', '--no-build-isolation', '--no-binary', 'onedl-mmcv', '--dest', str(temporary)]
        pip(f'Downloading the sources of mmcv {MMCV}', 'download', *options, f'onedl-mmcv=={MMCV}')
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(next(temporary.glob('*.tar.gz')), kept)
    return kept


def build_wheel(title: str, source: Path, env: dict[str, str], pip: Callable[..., None]) -> Path:
    """Build a wheel from unpacked sources and return its folder, which holds no other files."""
    whole = source.parent / 'whole'
    # Without pip's cache, which ignores the torch that a wheel was built against.
    options = ['-v', '--no-cache-dir', '--no-deps', '--no-build-isolation', '--wheel-dir', str(whole)]
    pip(title, 'wheel', *options, str(source), env=env)
    return whole


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution and return the only folder in it."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, 'data_filter'):
            tar.extractall(folder, filter='data')
        else:  # Python 3.10 before 3.10.12
            tar.extractall(folder)
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    return source


def unite(source: Path) -> int:
    """Merge mmcv's files into few translation units, in place. Its ``setup.py`` compiles all ``*.cpp`` files.

    Args:
        source: The unpacked source distribution.

    Returns:
        Number of files that became parts of larger ones.
    """
    root, united = source / 'mmcv' / 'ops' / 'csrc' / 'pytorch', 0
    for folder in (root, root / 'cpu'):
        parts = sorted(
            file
            for file in folder.glob('*.cpp')
            if file.stem not in ALONE[folder.name] and not file.stem.startswith('sparse_')
        )
        for part in parts:
            part.rename(part.with_suffix('.inc'))
        unit = ''.join(f'#include "{part.stem}.inc"\n' for part in parts)
        (folder / f'all_of_{folder.name}.cpp').write_text(unit)
        united += len(parts)
    return united


def compiler_flags(flags: str) -> str:
    """Python's compiler flags without warnings and debug information, which takes half of the time."""
    return ' '.join([*(flag for flag in flags.split() if not flag.startswith(('-g', '-W'))), '-g0'])


def copy_whole(source: Path, target: Path) -> None:
    """Copy a folder; the copy appears when it is complete.

    Raises:
        InstallError: If the folder cannot be read, or the copy cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix='.copying-', dir=target.parent))
        try:
            shutil.copytree(source, half / target.name)
            (half / target.name).rename(target)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        raise InstallError(f'{source} cannot be copied to {target}: {error.strerror or error}') from error


@contextlib.contextmanager
def only_builder(cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process builds for this cache; the lock is released when its process ends in any way."""
    with open(cache / 'building.lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say('Another installation is building the operators: waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
