import runpy
import subprocess
import sys

import pytest
import torch
from helpers.repo import ROOT

SCRIPT = ROOT / 'tools' / 'misc' / 'collect_env.py'


@pytest.fixture(scope='module')
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def test_reports_this_environment(script):
    report = script['collect']()
    assert report['torch'] == torch.__version__
    assert report['mmcv.ops'].startswith('loads; compiled with ')
    assert report['mmengine'].endswith('(onedl-mmengine)')
    assert report['python'].endswith(f'({sys.executable})')
    assert 'cores' in report['CPU'] and all(report.values())


def test_reports_an_empty_environment_without_failing():
    command = [sys.executable, '-I', '-S', str(SCRIPT)]  # without site-packages, and without anything on PATH
    run = subprocess.run(command, env={'PATH': '/nonexistent'}, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, '')
    report = dict(line.split(':', 1) for line in run.stdout.splitlines())
    for name in ('torch', 'mmengine', 'mmcv', 'mmdet', 'numpy', 'mmcv.ops', 'GPUs', 'C++ compiler', 'CUDA toolkit'):
        assert report[name].strip().startswith('not installed'), name


def test_a_part_that_breaks_says_why(script):
    def broken():
        print('noise')
        raise OSError('undefined symbol: x\nand more')

    assert script['safely'](broken) == 'fails: OSError: undefined symbol: x'
    assert script['safely'](lambda: __import__('no_such_module')) == 'not installed (no module no_such_module)'
