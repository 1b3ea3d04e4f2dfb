"""Install everything into ``.venv`` (``make install``); operators of mmcv are built once per kind of machine.

It needs only the standard library and runs on the Python that the venv will use. Failures print one line with a way out
and exit with status 1. The output of pip is in ``.venv/install.log``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from install_operators import build_operators, copy_whole
from install_plan import (
    BUILD_TOOLS,
    MMCV,
    PROBE,
    TORCH,
    TORCH_END,
    TORCH_MIN,
    InstallError,
    cache_dir,
    check_python,
    cuda_plan,
    failure_reason,
    last_progress,
    nvcc_version,
    stamp,
    way_out_of_downloads,
    wheel_key,
)

ROOT = Path(__file__).resolve().parents[2]


class Installer:
    """One run of the installation into ``venv``; ``say`` prints everything that the user sees.

    Args:
        root: The checkout.
        venv: The venv to make or to complete.
        env: Environment variables.
        wheels: Folder that :meth:`save` filled; pip searches it as well.
        offline: Whether pip must not search anywhere else.
    """

    def __init__(
        self, root: Path, venv: Path, env: dict[str, str], wheels: Path | None = None, offline: bool = False
    ) -> None:
        self.root, self.venv, self.log = root, venv, venv / 'install.log'
        self.python = venv / 'bin' / 'python'
        self.env = {**env, 'PYTHONUNBUFFERED': '1', 'PIP_NO_INPUT': '1', 'PIP_ROOT_USER_ACTION': 'ignore'}
        self.env.pop('PYTHONHOME', None)
        self.wheels, self.offline = wheels, offline
        if wheels:
            self.env['PIP_FIND_LINKS'] = f'{wheels.resolve().as_uri()} {env.get("PIP_FIND_LINKS", "")}'.strip()
        if offline:
            self.env['PIP_NO_INDEX'] = '1'

    def say(self, text: str) -> None:
        """Print one line at once."""
        print(text, flush=True)

    def step(self, title: str, command: list[str], env: dict[str, str] | None = None) -> None:
        """Run a command with its output in the log; show the time and the progress of ninja.

        Raises:
            InstallError: The command failed.
        """
        tty, start, shown, progress = sys.stdout.isatty(), time.time(), time.time(), ''
        self.say(f'{title} ...') if not tty else None
        with open(self.log, 'a+', encoding='utf-8', errors='replace') as log:
            log.write(f'\n$ {" ".join(command)}\n')
            log.flush()
            begin = read = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=env or self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    time.sleep(0.2)
                    with open(self.log, 'rb') as tail:
                        tail.seek(read)
                        progress = last_progress(tail.read().decode(errors='replace')) or progress
                        read = max(begin, tail.tell() - 100)  # the last line may be incomplete
                    seconds = int(time.time() - start)
                    if tty:
                        print(f'\r{title} ... {progress} {seconds // 60}:{seconds % 60:02d} ', end='', flush=True)
                    elif time.time() - shown >= 30:
                        shown = time.time()
                        self.say('   ' + f'{progress} {seconds // 60}:{seconds % 60:02d} minutes so far'.strip())
            except BaseException:
                with contextlib.suppress(ProcessLookupError):  # the process may have ended just now
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
            finally:
                print() if tty else None
            if process.returncode:
                log.seek(begin)
                raise InstallError(f'{title} failed: {failure_reason(log.read())} (all of it: {self.log})')

    def pip(self, title: str, *args: str, env: dict[str, str] | None = None) -> None:
        """Run pip of the venv as one step."""
        try:
            self.step(title, [str(self.python), '-m', 'pip', '--disable-pip-version-check', *args], env)
        except InstallError as error:
            raise InstallError(f'{error}{way_out_of_downloads(str(error), self.offline, self.wheels)}') from None

    def probe(self) -> dict:
        """Facts about the venv's Python: tag, include, torch, cuda, cuda_home, gpus, ops_cuda, error."""
        run = subprocess.run(
            [str(self.python), '-c', PROBE],
            env=self.env,
            cwd=self.venv,
            capture_output=True,
            text=True,
        )
        match = re.search(r'^PROBE(.*)$', run.stdout, re.MULTILINE)
        if not match:
            raise InstallError(
                f'{self.python} does not run: {failure_reason(run.stderr)}; remove {self.venv} and try again'
            )
        return json.loads(match.group(1))

    def make_venv(self) -> None:
        """Make the venv or use the existing one, and check that it has pip."""
        if self.python.is_symlink() or self.python.exists():
            run = (
                subprocess.run(
                    [str(self.python), '-c', 'import sys; print(*sys.version_info[:2])'],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                if self.python.exists()
                else None
            )
            if run is None or run.returncode:
                raise InstallError(f'{self.venv} is broken, its Python is gone; remove it and run make install again')
            check_python(tuple(map(int, run.stdout.split())), f'{self.python} (remove {self.venv} to make it anew)')
        else:
            check_python(sys.version_info, sys.executable)
            try:
                import ensurepip  # noqa: F401
                import venv  # noqa: F401
            except ImportError:
                name = 'python{}.{}-venv'.format(*sys.version_info)
                raise InstallError(
                    f'{sys.executable} cannot make a venv; install its venv module (Debian, Ubuntu: apt install {name})'
                ) from None
            self.venv.mkdir(parents=True, exist_ok=True)
            self.step(
                f'Making {self.venv} with Python {platform.python_version()}',
                [sys.executable, '-m', 'venv', str(self.venv)],
            )
        if subprocess.run([str(self.python), '-c', 'import pip'], stderr=subprocess.DEVNULL).returncode:
            self.step('Adding pip', [str(self.python), '-m', 'ensurepip', '--upgrade'])

    def torch(self) -> dict:
        """Keep the torch that is there if it will do, else install it; returns the probe."""
        found = self.probe()
        version = re.match(r'(\d+)\.(\d+)', found.get('torch', ''))
        if version and TORCH_MIN <= tuple(map(int, version.groups())) < TORCH_END:
            self.say(f'Keeping torch {found["torch"]}')
            return found
        self.pip(f'Installing torch {TORCH} (the download is large: some minutes)', 'install', f'torch=={TORCH}')
        found = self.probe()
        if 'torch' not in found:
            raise InstallError(f'torch {TORCH} is installed, but does not import: {found["error"]}')
        return found

    def operators(self, found: dict) -> None:
        """Install the wheel of operators that fits this torch, Python and CUDA; build it if there is none yet."""
        plan = cuda_plan(found['cuda'], nvcc_version(found['cuda_home']), found['gpus'], self.env)
        key = wheel_key(found['torch'], found['tag'], plan)
        note = self.venv / 'operators.key'
        fits = 'ops_cuda' in found and (plan == 'cpu' or found['ops_cuda'] not in ('', 'not available'))
        version = bool(list(self.venv.glob(f'lib/python3.*/site-packages/onedl_mmcv-{MMCV}.dist-info')))
        if fits and version and (not note.exists() or note.read_text() == key):
            self.say(f'Keeping the operators of mmcv {MMCV} ({plan})')
            return
        folder = cache_dir(self.env) / 'wheels' / key
        given = self.wheels and self.wheels / 'operators' / key
        if given and given.is_dir() and not folder.is_dir():
            copy_whole(given, folder)
        for _ in range(2):
            wheels = sorted(folder.glob('*.whl'))
            if not wheels:
                build_operators(folder, plan, found, self.env, self.pip, self.say)
                wheels = sorted(folder.glob('*.whl'))
            else:
                self.say(f'Reusing the operators built before: {wheels[0]}')
            self.pip('Installing the operators', 'install', '--force-reinstall', '--no-deps', str(wheels[0]))
            state = self.probe()
            if 'ops_cuda' in state:
                note.write_text(key)
                return
            self.say(f'That build does not fit torch {found["torch"]} ({state.get("error")}): it is removed')
            shutil.rmtree(folder)
        raise InstallError(
            f'the operators of mmcv {MMCV}, built just now, do not load with torch {found["torch"]}: '
            f'{state.get("error")}; try {self.python} -m pip install torch=={TORCH}, then make install'
        )

    def run(self) -> None:
        """Run all steps in order, unless the stamp says that the installation is complete."""
        done = self.venv / 'installed'
        if self.python.exists() and done.exists() and done.read_text() == stamp(self.root, self.venv):
            self.say(f'Installed already in {self.venv} (remove it to start anew).')
            return
        done.unlink() if done.exists() else None
        self.make_venv()
        self.say(f'Installing into {self.venv}; what pip says goes to {self.log}')
        self.pip('Installing the build tools', 'install', *BUILD_TOOLS)
        found = self.torch()
        self.operators(found)
        constraints = self.venv / 'constraints.txt'  # no requirement may replace the torch that the operators fit
        # Without the local version after a +, which torch reports but the installed package may lack.
        constraints.write_text(f'torch=={found["torch"].partition("+")[0]}\nonedl-mmcv=={MMCV}\n')
        self.pip(
            'Installing the requirements (a minute or two)', 'install', '-c', str(constraints), '-r', 'requirements.txt'
        )
        self.pip('Installing mmpanoptic itself, editable', 'install', '--no-deps', '--no-build-isolation', '-e', '.')
        self.step('Trying it out', [str(self.python), '-c', 'import mmcv.ops, mmpanoptic'])
        done.write_text(stamp(self.root, self.venv))
        self.say('Installed. Next: make demo')

    def save(self, folder: Path) -> None:
        """Fill a folder with everything that an installation needs, for machines without a network.

        The folder gets wheels of torch, the build tools and the requirements, and ``operators/<key>``. Existing files
        are kept.
        """
        key = (self.venv / 'operators.key').read_text()
        operators = folder / 'operators' / key
        if not operators.is_dir():
            copy_whole(cache_dir(self.env) / 'wheels' / key, operators)
        links = f'{operators.resolve().as_uri()} {self.env.get("PIP_FIND_LINKS", "")}'.strip()
        self.pip(
            f'Saving all of it to {folder}',
            *('wheel', '--wheel-dir', str(folder), '-c', str(self.venv / 'constraints.txt'), *BUILD_TOOLS),
            *('-r', 'requirements.txt'),
            env={**self.env, 'PIP_FIND_LINKS': links},
        )
        self.say(f'Saved. On a machine of the same kind: make install OFFLINE=1 WHEELS={folder}')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Arguments of the command line, passed on by ``make``."""
    parser = argparse.ArgumentParser(description='Install everything into .venv of this checkout (make install)')
    parser.add_argument('--wheels', type=Path, metavar='DIR', help='folder of files to install from (make: WHEELS=DIR)')
    parser.add_argument('--offline', action='store_true', help='download nothing (make: OFFLINE=1)')
    parser.add_argument(
        '--save', type=Path, metavar='DIR', help='after installing, fill DIR for --wheels (make wheels WHEELS=DIR)'
    )
    args = parser.parse_args(argv)
    if args.wheels and not args.wheels.is_dir():
        parser.error(f'--wheels {args.wheels} is no folder')
    return args


def main(argv: list[str] | None = None) -> int:
    """Install and return the exit status: 0, 1 after an error, 130 after an interruption."""
    args = parse_args(argv)
    try:
        installer = Installer(ROOT, ROOT / '.venv', dict(os.environ), args.wheels, args.offline)
        installer.run()
        if args.save:
            installer.save(args.save)
    except (InstallError, OSError) as e:
        print(f'make install: {e}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('make install: interrupted; run it again to go on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    # make sends SIGTERM when it is stopped; treat it as Ctrl-C, so that unfinished work is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
