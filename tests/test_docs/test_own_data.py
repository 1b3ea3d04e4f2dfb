"""The way of docs/own_data.md, from labels to predictions and back, is walked by its own commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.tiny_run import tool_env
from helpers.repo import ROOT

from mmpanoptic.engine.configs import load_config

PAGE = (ROOT / 'docs/own_data.md').read_text(encoding='utf-8')
# What makes minutes seconds: fewer images, iterations and pixels.
EVERY = 12
SHORTER = [('=200', '=2'), ('=20', '=1'), ('--number 8', '--number 2')]
SMALL = """
for part in ('train', 'val', 'test'):
    globals()[f'{part}_dataloader'] = dict(
        num_workers=0, persistent_workers=False, dataset=dict(pipeline=dict(resize=dict(scale=(64, 64))))
    )
del part
"""


def run(command: str, folder: Path) -> str:
    """Run a command of the page, and return what it prints."""
    program, *arguments = command.split()
    assert program == 'mmpanoptic'
    done = subprocess.run(
        [sys.executable, '-m', 'mmpanoptic', *arguments],
        cwd=folder, env=tool_env(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f'{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}'
    return done.stdout


@pytest.fixture
def labels(shared_data: Path, tmp_path: Path) -> Path:
    """Some of the nuclei as CVAT exports them."""
    for kind in ('images', 'labels'):
        (tmp_path / 'nuclei' / kind).mkdir(parents=True)
        for path in sorted((shared_data / 'nuclei/val' / kind).iterdir())[::EVERY]:
            (tmp_path / 'nuclei' / kind / path.name).symlink_to(path)
    categories = ROOT / 'configs/_base_/datasets/nuclei_categories.json'
    run(f'mmpanoptic label-maps nuclei/images nuclei/labels panoptic.json --categories {categories}', tmp_path)
    run('mmpanoptic export cvat panoptic.json panoptic nuclei/images labels', tmp_path)
    return tmp_path / 'labels'


def test_a_config_that_names_files(tmp_path: Path):
    (config,) = re.findall(r'```python\n(.*?)```', PAGE.partition("\n## In COCO's panoptic format")[2], re.DOTALL)
    (tmp_path / 'mine.py').write_text(config)
    loaded = load_config(str(tmp_path / 'mine.py'))
    files = {'train': ('labels.json', 'pngs/'), 'val': ('labels_val.json', 'pngs_val/')}
    for split, (ann_file, pngs) in (files | {'test': files['val']}).items():
        dataset = loaded[f'{split}_dataloader'].dataset
        assert (dataset.data_root, dataset.ann_file) == ('data/mine/', ann_file)
        assert dataset.data_prefix == dict(img='photos/', seg=pngs)


@pytest.mark.slow
def test_from_labels_to_predictions_and_back(labels: Path):
    folder = labels.parent
    section = PAGE.partition('## From an export of CVAT')[2].partition('\n## ')[0]
    (config,) = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    assert len(config.splitlines()) == 2
    (folder / 'mine.py').write_text(config + SMALL)
    printed = {}
    for block in re.findall(r'```bash\n(.*?)```', section, re.DOTALL):
        for command in block.splitlines():
            for long, short in SHORTER:
                command = command.replace(long, short)
            printed[command.split()[1]] = run(command, folder)
    assert list(printed) == ['import', 'check', 'browse', 'train', 'test', 'predict', 'export']
    assert 'no fault was found' in printed['check']
    assert re.search(r'│ PQ │ +[0-9.]+', printed['test'])
    assert (folder / 'pictures/index.html').is_file()
    corrections = (folder / 'corrections/annotations.xml').read_text()
    images = [path.name for path in (folder / 'data/nuclei/val').iterdir()]
    assert images and all(f'name="{name}"' in corrections for name in images)
