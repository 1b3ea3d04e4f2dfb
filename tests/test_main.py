"""The command ``mmpanoptic``, and what ``import mmpanoptic`` loads."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from fixtures.tiny_run import tool_env
from helpers.repo import ROOT

import mmpanoptic
from mmpanoptic.__main__ import DEVELOPERS, commands, main, summary

LIGHT = ('utils', 'structures', 'formats', 'evaluation', 'engine')  # what tools that read files alone go through
ROOMS = (*LIGHT, 'datasets', 'models', 'visualization', 'apis')


def run(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(args, capture_output=True, text=True, env=tool_env(), **kwargs)


def command(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return run(sys.executable, '-m', 'mmpanoptic', *args, **kwargs)


def test_every_tool_has_a_command():
    scripts = {*ROOT.glob('tools/*.*'), *ROOT.glob('tools/*/*.*')}
    found = commands()
    assert {script for script in scripts if script.stem not in DEVELOPERS} == {p.resolve() for p in found.values()}
    assert len(found) == len(scripts) - len(DEVELOPERS)  # no two of one name
    for name, script in {'train': 'train.py', 'dist-test': 'dist_test.sh', 'convert-panet': 'panet.py'}.items():
        assert found[name].name == script


def test_a_shell_script_without_a_comment_has_an_empty_summary(tmp_path):
    script = tmp_path / 'dist_score.sh'
    script.write_text('#!/usr/bin/env bash\n\ntorchrun "$@"\n')
    assert summary(script) == ''
    script.write_text('#!/usr/bin/env bash\n# Score on several machines.\ntorchrun "$@"\n')
    assert summary(script) == 'Score on several machines.'


def test_the_help_says_what_each_tool_does(capsys, monkeypatch):
    for arguments in ([], ['--help'], ['help']):
        monkeypatch.setattr(sys, 'argv', ['mmpanoptic', *arguments])
        main()
        text = capsys.readouterr().out
        for name, script in commands().items():
            assert summary(script)
            assert re.search(rf'^  {name} +{re.escape(summary(script))}$', text, re.MULTILINE)


@pytest.mark.parametrize(('name', 'hint'), [('trian', 'did you mean train?'), ('zzz', '--help'), ('install', '--help')])
def test_an_unknown_tool_is_one_line(name, hint, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['mmpanoptic', name])
    with pytest.raises(SystemExit) as error:
        main()
    assert name in str(error.value) and hint in str(error.value) and '\n' not in str(error.value)


def test_a_tool_sees_its_arguments_and_the_name_that_was_typed(tmp_path):
    text = command('shapes', '--help')
    assert text.returncode == 0 and text.stdout.startswith('usage: mmpanoptic shapes ') and text.stderr == ''
    made = command('shapes', 'out', '--train', '1', '--val', '1', '--size', '96', '96', cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / 'out' / 'annotations' / 'panoptic_val.json').is_file()
    refused = command('train', 'no-such-config.py', cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.startswith('error: config no-such-config.py does not exist')


def test_shell_scripts_run_this_python(tmp_path):
    environment = {key: value for key, value in tool_env().items() if key != 'PYTHON'}
    job = subprocess.run(
        [sys.executable, '-m', 'mmpanoptic', 'dist-train', 'no-such-config.py', '1'],
        capture_output=True,
        text=True,
        env=environment | {'PATH': '/usr/bin:/bin'},
        cwd=tmp_path,
    )
    assert job.returncode != 0 and 'error: config no-such-config.py does not exist' in job.stderr


@pytest.mark.parametrize(
    ('missing', 'name'),
    [('torch', 'torch'), ('mmcv', 'mmcv with its operators'), ('mmcv._ext', 'mmcv with its operators')],
)
def test_a_missing_package_is_one_line_with_the_command(missing, name):
    code = f'import sys; sys.modules[{missing!r}] = None; sys.argv = ["mmpanoptic", "train", "--help"]\n'
    ended = run(sys.executable, '-c', code + 'from mmpanoptic.__main__ import main; main()')
    assert ended.returncode == 1 and 'Traceback' not in ended.stdout + ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert missing == 'mmcv._ext' or ended.stderr.splitlines() == [line]  # mmdet has a word to say of operators
    assert line.startswith(f'error: {name} is not installed') and 'pip install' in line


@pytest.mark.parametrize('missing', ['torch', 'mmcv'])
def test_an_import_without_a_package_says_so_too(missing):
    code = f'import sys; sys.modules[{missing!r}] = None; import mmpanoptic; import mmpanoptic.models'
    line = run(sys.executable, '-c', code).stderr.splitlines()[-1]
    assert line.startswith(f'ModuleNotFoundError: {missing}') and 'pip install' in line


def test_importing_the_package_loads_torch_alone():
    code = 'import mmpanoptic, sys; print([n for n in ("torch", "mmdet", "mmcv", "mmengine") if n in sys.modules])'
    assert run(sys.executable, '-c', code).stdout == "['torch']\n"


def test_no_room_prints_when_it_is_imported_first():
    code = (
        'import os, sys, torch, mmpanoptic\n'
        f'for room in {ROOMS}:\n'
        '    if not os.fork():\n'
        '        __import__(f"mmpanoptic.{room}")\n'
        f'        assert ("mmdet" in sys.modules) == (room not in {LIGHT}), room\n'
        '        sys.exit()\n'
        '    assert os.wait()[1] == 0, room\n'
    )
    ended = run(sys.executable, '-c', code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, '', '')


def module_imports(path: Path) -> list[str]:
    """Modules that a file imports when it is imported itself, in their order."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    return names


def test_notices_of_mmdet_are_dropped_whatever_is_imported_first():
    """mmpanoptic.registry comes before what prints them, in each file or in the packages that it lies in."""
    printing = ('mmdet.datasets', 'mmdet.engine', 'mmdet.evaluation', 'mmdet.apis')
    package = ROOT / 'mmpanoptic'
    looked_at = 0
    for path in package.rglob('*.py'):
        names = module_imports(path)
        first = next((place for place, name in enumerate(names) if name.startswith(printing)), None)
        if first is None:
            continue
        above = [folder / '__init__.py' for folder in path.parents if package in folder.parents]
        before = [*names[:first], *(name for init in above if init != path for name in module_imports(init))]
        assert 'mmpanoptic.registry' in before, path
        looked_at += 1
    assert looked_at > 10


def without_checkout() -> dict[str, str]:
    return {key: value for key, value in tool_env().items() if key != 'PYTHONPATH'}


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> Path:
    """Folder of the programs of a venv that holds the wheel, made from the sdist, beside what the suite runs on."""
    folder = tmp_path_factory.mktemp('wheel')
    built = run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(folder), str(ROOT))
    assert built.returncode == 0, built.stdout + built.stderr
    venv = folder / 'venv'
    assert run(sys.executable, '-m', 'venv', '--without-pip', str(venv)).returncode == 0
    (site,) = venv.glob('lib/python3.*/site-packages')
    (site / 'dependencies.pth').write_text(str(Path(torch.__file__).parents[1]))
    (wheel,) = folder.glob('mmpanoptic-*.whl')
    pip = [sys.executable, '-m', 'pip', '--python', str(venv / 'bin/python'), 'install', '--no-deps', '--no-index']
    ended = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, env=without_checkout())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return venv / 'bin'


@pytest.mark.slow
def test_the_installed_package_works_from_an_empty_folder(installed, tmp_path):
    """Data, training, test and prediction by the installed command, with nothing of the checkout."""
    environment = without_checkout()

    def tool(*args: str) -> str:
        ended = subprocess.run(
            [installed / 'mmpanoptic', *args], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    where = subprocess.run(
        [installed / 'python', '-c', 'import mmpanoptic; print(mmpanoptic.__file__)'],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert str(installed.parent) in where.stdout
    tool('shapes', 'data/shapes', '--train', '6', '--val', '2', '--size', '96', '144')
    config = 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'
    few = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2', 'model.backbone.init_cfg=None']
    tool('train', config, '--work-dir', 'run', *few)
    (checkpoint,) = tmp_path.glob('run/epoch_1.pth')
    table = tool('test', config, str(checkpoint), '--eval', 'PQ')
    assert 'PQ' in table
    (image, *_) = tmp_path.glob('data/shapes/val/*')
    tool('predict', config, str(checkpoint), str(image), '--out', 'predictions')
    assert (tmp_path / 'predictions/panoptic.json').is_file()


def files_of(root: Path, kind: str) -> list[Path]:
    return [path.relative_to(root) for path in (root / kind).rglob('*') if path.is_file() and path.suffix != '.pyc']


@pytest.mark.slow
def test_the_wheel_holds_what_mim_looks_for(installed):
    """Configs by ``mmpanoptic::``, the index of models, and no more than belongs there."""
    (site,) = installed.parent.glob('lib/python3.*/site-packages')
    packed = site / 'mmpanoptic/.mim'
    assert sorted(path.name for path in packed.iterdir()) == ['configs', 'model-index.yml', 'tools']
    for kind in ('configs', 'tools'):
        assert set(files_of(packed, kind)) == set(files_of(ROOT, kind))
    code = (
        'from mmpanoptic.engine.configs import load_config; import tempfile, pathlib\n'
        'own = pathlib.Path(tempfile.mkdtemp(), "own.py")\n'
        'own.write_text("_base_ = \'mmpanoptic::ciae/ciae_r18_fpn_shapes.py\'")\n'
        'print(load_config(str(own)).model.type)'
    )
    ended = subprocess.run([installed / 'python', '-c', code], capture_output=True, text=True, env=without_checkout())
    assert ended.stdout == 'CIAE\n', ended.stderr
    (wheel,) = installed.parents[1].glob('*.whl')
    top = {name.partition('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert top == {'mmpanoptic', f'mmpanoptic-{mmpanoptic.__version__}.dist-info'}
