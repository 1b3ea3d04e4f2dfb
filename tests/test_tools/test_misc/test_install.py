import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest
from helpers.repo import ROOT

import mmpanoptic

sys.path.insert(0, str(ROOT / 'tools' / 'misc'))

import install
import install_operators as operators
import install_plan as plan

FOUND = {
    'tag': 'cp311',
    'include': '',
    'cflags': '-Wall -g -O3',
    'torch': '2.13.0',
    'cuda': None,
    'cuda_home': None,
    'gpus': [],
}
KEY = plan.wheel_key('2.13.0', 'cp311', 'cpu')


class Installer(install.Installer):
    """With pip and the venv's Python played by the test: ``works`` says after how many builds the operators load."""

    def __init__(self, tmp_path, works=0, installed=False):
        super().__init__(ROOT, tmp_path / 'venv', {'MMPANOPTIC_CACHE': str(tmp_path / 'cache'), 'CXX': sys.executable})
        self.folder = tmp_path / 'cache' / 'wheels' / KEY
        self.lib = self.venv / 'lib' / 'python3.11' / 'site-packages'
        self.lib.mkdir(parents=True)
        self.works, self.builds, self.installs, self.downloads, self.built = works, 0, 0, 0, []
        (tmp_path / 'Python.h').touch()
        self.found = FOUND | {'include': str(tmp_path)} | ({'ops_cuda': 'not available'} if installed else {})
        if installed:
            (self.lib / f'onedl_mmcv-{plan.MMCV}.dist-info').mkdir()

    def pip(self, title, *args, env=None):
        if args[0] == 'download':
            self.downloads += 1
            write_sources(Path(args[args.index('--dest') + 1]) / f'onedl_mmcv-{plan.MMCV}.tar.gz')
        elif args[0] == 'wheel':
            self.builds += 1
            self.built.append(sorted(path.name for path in Path(args[-1]).rglob('*.cpp')))
            self.env_of_build = env
            folder = Path(args[args.index('--wheel-dir') + 1])
            folder.mkdir()
            (folder / 'half.whl').touch()
            (folder / 'half.whl').rename(folder / f'onedl_mmcv-{self.builds}.whl')
        else:
            self.installs += 1

    def probe(self):
        ok = self.builds >= self.works
        return self.found | ({'ops_cuda': 'not available'} if ok else {'error': 'ImportError: undefined symbol'})

    def put_wheel(self):
        self.folder.mkdir(parents=True)
        (self.folder / 'onedl_mmcv-old.whl').touch()
        return self


HOST = ('assign_score_withk', 'nms', 'pybind', 'roi_align', 'sparse_pool_ops')
CPU = ('nms', 'pixel_group', 'psamask', 'roi_align', 'sparse_indice')


def write_sources(archive):
    """What mmcv's source distribution looks like, in small."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f'onedl_mmcv-{plan.MMCV}' / 'mmcv' / 'ops' / 'csrc' / 'pytorch'
        (source / 'cpu').mkdir(parents=True)
        for where, names in ((source, HOST), (source / 'cpu', CPU)):
            for name in names:
                (where / f'{name}.cpp').write_text(f'int {name};\n')
        with tarfile.open(archive, 'w:gz') as tar:
            tar.add(source.parents[3], source.parents[3].name)


def one_line(error) -> str:
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('version', [(3, 9, 18), (3, 13, 0), (2, 7)])
def test_unsupported_python_names_the_way_out(version):
    with pytest.raises(plan.InstallError) as error:
        plan.check_python(version, '/usr/bin/python')
    message = one_line(error)
    assert f'Python {version[0]}.{version[1]}' in message and 'make install PYTHON=' in message and '3.12' in message


@pytest.mark.parametrize('version', [(3, 10), (3, 11, 2), (3, 12, 9)])
def test_supported_python(version):
    plan.check_python(version, 'python')


def test_compiler():
    assert plan.find_compiler({'CXX': 'clang++ -v'}, find=lambda name: name) == 'clang++ -v'
    assert plan.find_compiler({}, find=lambda name: name == 'g++') == 'g++'
    with pytest.raises(plan.InstallError) as error:
        plan.find_compiler({'CXX': 'icpc'}, find=lambda name: None)
    assert 'apt install g++' in one_line(error)


@pytest.mark.parametrize(
    ('torch_cuda', 'toolkit', 'gpus', 'env', 'expected'),
    [
        (None, '12.8', ['9.0'], {}, 'cpu'),
        ('12.8', None, [], {}, 'cpu'),
        ('13.0', '12.8', [], {}, 'cpu'),
        ('12.8', '12.6', ['8.6', '9.0'], {}, 'cuda12.8-sm8.6_9.0'),
        ('12.8', '12.8', [], {}, 'cuda12.8-small'),
        ('12.8', '12.8', ['9.0'], {'TORCH_CUDA_ARCH_LIST': '8.0 9.0+PTX'}, 'cuda12.8-sm8.0_9.0+PTX'),
        ('12.8', None, ['9.0'], {'MMPANOPTIC_CPU_OPS': '1'}, 'cpu'),
    ],
)
def test_cuda_plan(torch_cuda, toolkit, gpus, env, expected):
    assert plan.cuda_plan(torch_cuda, toolkit, gpus, env) == expected


@pytest.mark.parametrize('toolkit', [None, '12.8'])
def test_gpu_without_a_toolkit_that_fits_is_an_error(toolkit):
    with pytest.raises(plan.InstallError) as error:
        plan.cuda_plan('13.0', toolkit, ['9.0'], {})
    assert 'CUDA_HOME' in one_line(error) and 'MMPANOPTIC_CPU_OPS=1' in str(error.value)


def test_cache_dir(tmp_path):
    assert plan.cache_dir({'MMPANOPTIC_CACHE': str(tmp_path), 'XDG_CACHE_HOME': '/x'}) == tmp_path
    assert plan.cache_dir({'XDG_CACHE_HOME': '/x'}) == Path('/x/mmpanoptic')
    assert plan.cache_dir({}) == Path.home() / '.cache' / 'mmpanoptic'


def test_failure_reason_and_progress():
    log = 'ok\nCollecting a\n  x.cpp:3:1: error: no such thing\nERROR: Failed building wheel'
    assert plan.failure_reason(log) == 'x.cpp:3:1: error: no such thing'
    assert plan.failure_reason('a\nERROR: No matching distribution found for torch\nb').startswith('ERROR: No matching')
    assert plan.failure_reason('only this') == 'only this'
    assert plan.last_progress('  [1/78] c++\n  note [5/6]\n[12/78] c++ -x\nrest') == '[12/78]'
    assert plan.last_progress('nothing') == ''


def test_stamp_follows_requirements_and_installed_versions(tmp_path):
    installers = (f'tools/misc/install{part}.py' for part in ('', '_operators', '_plan'))
    for name in ('requirements.txt', 'setup.py', *installers):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('a')
    (tmp_path / 'mmpanoptic').mkdir()
    package = tmp_path / 'mmpanoptic' / '__init__.py'
    package.write_text("__version__ = '1'\n")
    lib = tmp_path / '.venv' / 'lib' / 'python3.11' / 'site-packages'
    lib.mkdir(parents=True)
    seen = [plan.stamp(tmp_path, tmp_path / '.venv')]
    package.write_text("__version__ = '1'\nother = 1\n")
    assert plan.stamp(tmp_path, tmp_path / '.venv') == seen[0]
    (lib / 'rich-1.dist-info').mkdir()
    assert plan.stamp(tmp_path, tmp_path / '.venv') == seen[0]
    for change in (
        lambda: (lib / 'torch-2.13.0.dist-info').mkdir(),
        lambda: (lib / 'torch-2.13.0.dist-info').rename(lib / 'torch-2.12.0.dist-info'),
        lambda: (tmp_path / 'requirements.txt').write_text('b'),
        lambda: package.write_text("__version__ = '2'\n"),
    ):
        change()
        seen.append(plan.stamp(tmp_path, tmp_path / '.venv'))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ('version', 'installs'), [('2.4.0', 0), ('2.13.0+cu130', 0), ('2.3.1', 1), ('2.14.0', 1), (None, 1)]
)
def test_torch_is_kept_where_it_will_do(tmp_path, version, installs):
    installer = Installer(tmp_path)
    installer.found = installer.found | {'torch': version} if version else {'error': 'no torch'}
    if version is None:
        with pytest.raises(plan.InstallError, match='does not import: no torch'):
            installer.torch()
    else:
        assert installer.torch()['torch'] == version
    assert installer.installs == installs


def test_operators_are_built_once_then_reused(tmp_path):
    first = Installer(tmp_path, works=1)
    first.operators(first.found)
    assert first.builds == 1 and [p.name for p in first.folder.iterdir()] == ['onedl_mmcv-1.whl']
    assert first.env_of_build['MMCV_WITH_OPS'] == '1' and first.env_of_build['FORCE_CUDA'] == '0'
    assert [p.name for p in first.folder.parent.iterdir()] == [KEY]  # nothing of the build is left beside it
    other = Installer(tmp_path / 'clone')
    other.env['MMPANOPTIC_CACHE'] = first.env['MMPANOPTIC_CACHE']
    other.operators(other.found)
    assert (other.builds, other.installs) == (0, 1)


def test_operators_are_built_of_few_files_and_the_sources_are_kept(tmp_path):
    first = Installer(tmp_path, works=1)
    first.operators(first.found)
    assert first.built == [
        ['all_of_cpu.cpp', 'all_of_pytorch.cpp', 'psamask.cpp', 'pybind.cpp', 'roi_align.cpp', 'sparse_indice.cpp',
         'sparse_pool_ops.cpp']
    ]  # fmt: skip
    assert first.env_of_build['CFLAGS'] == first.env_of_build['CXXFLAGS'] == '-O3 -g0'
    shutil.rmtree(first.folder)
    first.operators(first.found)
    assert (first.builds, first.downloads) == (2, 1)


def test_operators_of_a_folder_are_taken_and_kept(tmp_path):
    """`WHEELS=DIR`: the folder is left as it is, even where what it holds does not load."""
    for name, works, builds in (('fits', 0, 0), ('does not', 1, 1)):
        given = tmp_path / name / 'operators' / KEY
        given.mkdir(parents=True)
        (given / 'onedl_mmcv-given.whl').touch()
        installer = Installer(tmp_path / name / 'clone', works=works)
        installer.wheels = tmp_path / name
        installer.operators(installer.found)
        assert (installer.builds, [p.name for p in given.iterdir()]) == (builds, ['onedl_mmcv-given.whl'])
        assert [p.name for p in installer.folder.iterdir()] == [f'onedl_mmcv-{builds or "given"}.whl']
        assert sorted(p.name for p in installer.folder.parent.iterdir()) == [KEY]


def test_pip_is_told_of_the_folder_and_of_no_other_place(tmp_path):
    folder = tmp_path / 'a folder'
    installer = install.Installer(ROOT, tmp_path, {'PIP_FIND_LINKS': '/mine'}, folder, offline=True)
    assert (
        installer.env['PIP_FIND_LINKS'].split() == [folder.as_uri(), '/mine'] and installer.env['PIP_NO_INDEX'] == '1'
    )
    assert not {'PIP_FIND_LINKS', 'PIP_NO_INDEX'} & set(install.Installer(ROOT, tmp_path, {}).env)


def test_saving_holds_the_operators_once(tmp_path):
    installer = Installer(tmp_path).put_wheel()
    (installer.venv / 'operators.key').write_text(KEY)
    calls = []
    installer.pip = lambda title, *args, env: calls.append((args, env))
    for _ in range(2):
        installer.save(tmp_path / 'saved')
    assert [p.name for p in (tmp_path / 'saved/operators' / KEY).iterdir()] == ['onedl_mmcv-old.whl']
    assert [p.name for p in (tmp_path / 'saved/operators').iterdir()] == [KEY]
    (args, env), _ = calls
    assert args[:3] == ('wheel', '--wheel-dir', str(tmp_path / 'saved')) and 'requirements.txt' in args
    assert (tmp_path / 'saved/operators' / KEY).as_uri() in env['PIP_FIND_LINKS']


@pytest.mark.parametrize(
    'reason',
    [
        'ERROR: No matching distribution found for torch==2.13.0',
        'WARNING: Retrying after connection broken by NewConnectionError: Name or service not known',
        "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='x', port=443): Read timed out.",
        'pip._vendor.urllib3.exceptions.ReadTimeoutError',
    ],
)
def test_a_failed_download_says_what_to_do(reason, tmp_path):
    online = plan.way_out_of_downloads(reason, False, None)
    assert (
        'make install OFFLINE=1 WHEELS=DIR' in online
        and 'make wheels WHEELS=DIR' in online
        and 'PIP_INDEX_URL' in online
    )
    assert 'make install OFFLINE=1 WHEELS=DIR' in plan.way_out_of_downloads(reason, True, None)
    assert f'{tmp_path} lacks it' in plan.way_out_of_downloads(reason, True, tmp_path)
    assert plan.way_out_of_downloads('x.cpp: error: no such thing', False, None) == ''


def test_pip_without_a_network_is_one_line(tmp_path):
    installer = install.Installer(ROOT, tmp_path, dict(os.environ), tmp_path, offline=True)
    installer.python = Path(sys.executable)
    with pytest.raises(plan.InstallError) as error:
        installer.pip('Installing', 'install', 'no-such-package-at-all')
    assert f'{tmp_path} lacks it' in one_line(error) and 'no-such-package-at-all' in str(error.value)


def test_help_installs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, 'Installer', None)
    for arguments in (['--help'], ['--wheels', str(tmp_path / 'none')], ['--ofline']):
        with pytest.raises(SystemExit):
            install.main(arguments)
    assert '--offline' in capsys.readouterr().out


def test_united_files_include_each_part_once(tmp_path):
    write_sources(tmp_path / 'sources.tar.gz')
    source = operators.unpack(tmp_path / 'sources.tar.gz', tmp_path / 'unpacked')
    assert operators.unite(source) == 5
    folder = source / 'mmcv/ops/csrc/pytorch'
    assert (folder / 'all_of_pytorch.cpp').read_text() == (
        '#include "assign_score_withk.inc"\n#include "nms.inc"\n#include "roi_align.inc"\n'
    )
    assert (folder / 'cpu/all_of_cpu.cpp').read_text() == '#include "nms.inc"\n#include "pixel_group.inc"\n'
    assert all((folder / name).exists() for name in ('nms.inc', 'cpu/nms.inc'))


def test_plain_build_follows_where_the_fast_one_fails(tmp_path, capsys):
    installer = Installer(tmp_path, works=2)

    def fail_at_first(title, *args, env=None):
        Installer.pip(installer, title, *args, env=env)
        if args[0] == 'wheel' and installer.builds == 1:
            shutil.rmtree(args[args.index('--wheel-dir') + 1])
            raise plan.InstallError('x.inc: error: redefinition')

    installer.pip = fail_at_first
    installer.operators(installer.found)
    assert 'The fast way failed (x.inc: error: redefinition): building file by file' in capsys.readouterr().out
    assert len(installer.built[1]) == len(HOST) + len(CPU)
    assert [p.name for p in installer.folder.iterdir()] == ['onedl_mmcv-2.whl']


def test_second_builder_waits_for_the_first(tmp_path):
    """Two installations at once on one cache: the operators are built once."""
    first, second = Installer(tmp_path / 'a', works=1), Installer(tmp_path / 'b')
    second.env['MMPANOPTIC_CACHE'] = first.env['MMPANOPTIC_CACHE']
    second.folder = first.folder
    said, waiting = [], threading.Event()
    second.say = lambda text: (said.append(text), waiting.set())
    thread = threading.Thread(target=lambda: second.operators(second.found))

    def build_while_the_other_waits(title, *args, env=None):
        if args[0] == 'wheel':
            thread.start()
            assert waiting.wait(10)
        Installer.pip(first, title, *args, env=env)

    first.pip = build_while_the_other_waits
    first.operators(first.found)
    thread.join(10)
    assert (first.builds, second.builds, second.installs) == (1, 0, 1)
    assert said[0] == 'Another installation is building the operators: waiting for it'


def test_operators_that_fit_are_kept_and_others_are_not(tmp_path):
    kept = Installer(tmp_path / 'a', installed=True)
    kept.operators(kept.found)
    assert kept.builds == kept.installs == 0
    (kept.venv / 'operators.key').write_text(plan.wheel_key('2.12.0', 'cp311', 'cpu'))  # torch was exchanged since
    kept.operators(kept.found)
    assert (kept.builds, kept.installs) == (1, 1)
    assert (kept.venv / 'operators.key').read_text() == KEY


def test_wheel_that_does_not_load_is_removed_and_built_anew(tmp_path, capsys):
    installer = Installer(tmp_path, works=1).put_wheel()
    installer.operators(installer.found)
    assert [p.name for p in installer.folder.iterdir()] == ['onedl_mmcv-1.whl']
    assert 'does not fit torch 2.13.0' in capsys.readouterr().out
    never = Installer(tmp_path / 'never', works=9)
    with pytest.raises(plan.InstallError) as error:
        never.operators(never.found)
    assert never.builds == 2 and not never.folder.exists()
    assert 'undefined symbol' in one_line(error) and 'pip install torch==' in str(error.value)


@pytest.mark.parametrize('failure', [KeyboardInterrupt, plan.InstallError])
def test_interrupted_build_leaves_nothing_behind(tmp_path, failure):
    installer = Installer(tmp_path, works=1)

    def stop(title, *args, env=None):
        Installer.pip(installer, title, *args, env=env)
        raise failure

    installer.pip = stop
    with pytest.raises(failure):
        installer.operators(installer.found)
    assert list(installer.folder.parent.iterdir()) == []


def test_missing_headers_and_unwritable_cache(tmp_path):
    installer = Installer(tmp_path, works=1)
    (tmp_path / 'cache').write_text('a file where the folder should be')
    with pytest.raises(plan.InstallError, match='MMPANOPTIC_CACHE'):
        installer.operators(installer.found)
    (tmp_path / 'Python.h').unlink()
    with pytest.raises(plan.InstallError, match=r'apt install python3\.11-dev'):
        installer.operators(installer.found)


def test_step_reports_the_reason_and_the_log(tmp_path, capsys):
    installer = install.Installer(tmp_path, tmp_path, dict(os.environ))
    installer.step('Fine', [sys.executable, '-c', 'print("secret")'])
    with pytest.raises(plan.InstallError) as error:
        installer.step('Doing', [sys.executable, '-c', 'print("ERROR: it broke"); raise SystemExit(3)'])
    assert one_line(error) == f'Doing failed: ERROR: it broke (all of it: {tmp_path / "install.log"})'
    assert 'secret' in (tmp_path / 'install.log').read_text()
    assert 'secret' not in capsys.readouterr().out


def test_broken_venv(tmp_path):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').symlink_to(tmp_path / 'gone')
    with pytest.raises(plan.InstallError) as error:
        install.Installer(ROOT, tmp_path, {}).run()
    assert 'remove it and run make install again' in one_line(error)


def test_the_torch_that_is_there_stays(tmp_path):
    """Torch calls itself 2.4.1+cu121 where the package that pip knows of is 2.4.1."""
    installer = Installer(tmp_path, installed=True)
    installer.found |= {'torch': '2.4.1+cu121'}
    installer.make_venv = lambda: None
    installer.step = lambda *_: None
    installer.run()
    assert (installer.venv / 'constraints.txt').read_text().splitlines()[0] == 'torch==2.4.1'


def test_second_run_does_nothing(tmp_path, capsys):
    installer = Installer(tmp_path)
    (installer.venv / 'bin').mkdir()
    installer.python.symlink_to(sys.executable)
    (installer.venv / 'installed').write_text(plan.stamp(ROOT, installer.venv))
    installer.run()
    assert installer.installs == 0 and capsys.readouterr().out.startswith('Installed already')


def make(*args: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS', 'PYTHON'))}
    return subprocess.run(['make', *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_make_help_lists_every_target_and_ci_runs_make_test():
    source = (ROOT / 'Makefile').read_text()
    targets = re.search(r'^\.PHONY: (.*)', source, re.MULTILINE).group(1).split()
    out = make().stdout
    assert all(re.search(rf'^ +make {target} ', out, re.MULTILINE) for target in targets)
    ci = ROOT / '.ci' / 'run'
    assert os.access(ci, os.X_OK) and ci.read_text().rstrip().endswith('exec make test')


def test_make_install_with_a_python_that_does_not_exist():
    run = make('install', 'PYTHON=no-such-python')
    lines = [line for line in run.stderr.splitlines() if not line.startswith('make: ***')]
    assert run.returncode != 0 and len(lines) == 1 and 'PYTHON=' in lines[0] and 'no-such-python' in lines[0]


def test_setup_needs_no_torch_and_splits_the_requirements():
    code = (
        'import runpy, setuptools, sys, json\n'
        'sys.modules.update(torch=None, mmpanoptic=None)\n'
        'setuptools.setup = lambda **kw: print(json.dumps(kw, default=str))\n'
        "runpy.run_path('setup.py')\n"
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    setup = json.loads(run.stdout)
    assert setup['version'] == mmpanoptic.__version__ and 'mmpanoptic' in setup['packages']
    runtime, tests, docs = setup['install_requires'], *(setup['extras_require'][part] for part in ('tests', 'docs'))
    assert any(r.startswith('sphinx') for r in docs)
    assert any(r.startswith('onedl-mmengine') for r in runtime) and any(r.startswith('pytest') for r in tests)
    assert not any(re.match(r'torch|torchvision|panopticapi|onedl-mmcv|pytest|ruff', r) for r in runtime)
    everything = [line for line in (ROOT / 'requirements.txt').read_text().splitlines() if line and line[0] != '#']
    machine = [r for r in everything if r not in runtime + tests + docs]
    assert [re.match(r'[\w-]+', r).group() for r in machine] == ['onedl-mmcv', 'torch']
    low, end = ('.'.join(map(str, version)) for version in (plan.TORCH_MIN, plan.TORCH_END))
    assert machine == [f'onedl-mmcv>={plan.MMCV}', f'torch>={low},<{end}']


def test_import_prints_nothing_and_leaves_out_what_is_no_dependency():
    code = (
        'import sys, mmpanoptic.registry, mmdet.apis, mmdet.evaluation, mmdet.models\n'
        "sys.exit(bool({'torchvision', 'panopticapi'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, '', '')
