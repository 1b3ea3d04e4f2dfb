"""The Crop/Weed Field Image Dataset, of which a small one is written as its YAMLs are."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import read_imported, save_image
from helpers.repo import load_tool

from mmpanoptic.utils import UserError

TOOL = load_tool('dataset_converters/import')
WEED = """
- type: weed
  points:
    x: [2.0, 10.0, 10.0,
      2.0]
    y: [3.0, 3.0, 9.0, 9.0]
"""
CROP = """
- type: crop
  points:
    x: [8.0, 12.0, 12.0, 8.0]
    y: [5.0, 5.0, 8.0, 8.0]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images for training, one for testing, one in both lists and one in none."""
    root = tmp_path / 'cwfid'
    (root / 'annotations').mkdir(parents=True)
    for number in range(1, 6):
        save_image(root / 'images' / f'{number:03}_image.png')
        text = f'filename: {number:03}_image.png\nannotation:{WEED}{CROP.lstrip()}'
        (root / 'annotations' / f'{number:03}_annotation.yaml').write_text(text)
        (root / 'annotations' / f'{number:03}_annotation.png').write_bytes(b'a picture of it')
    (root / 'train_test_split.yaml').write_text('train: [1, 2, 4]\ntest: [3, 4]\n')
    return root


def imported(source: Path, out: Path, *more: str) -> dict:
    TOOL.main(['cwfid', str(source), str(out), '--background', 'soil', '--workers', '1', *more])
    return json.loads((out / 'import_report.json').read_text())


def test_plants_and_splits(source, tmp_path):
    imported(source, tmp_path / 'out')
    assert sorted(read_imported(tmp_path / 'out')) == ['001_image.png', '002_image.png', '005_image.png']
    val = read_imported(tmp_path / 'out', 'val')
    assert sorted(val) == ['003_image.png', '004_image.png']
    seen = val['003_image.png'].seen
    weed, crop = (np.zeros((20, 30), bool) for _ in range(2))
    weed[3:9, 2:10] = True
    crop[5:8, 8:12] = True  # the smaller one lies on top
    np.testing.assert_array_equal(seen['crop'][0], crop)
    np.testing.assert_array_equal(seen['weed'][0], weed & ~crop)
    np.testing.assert_array_equal(seen['soil'][0], ~(weed | crop))


def test_a_damaged_file_costs_its_image(source, tmp_path):
    file = source / 'annotations' / '001_annotation.yaml'
    file.write_text(file.read_text().replace('y: [3.0, ', 'y: ['))
    (source / 'annotations' / '002_annotation.yaml').write_text('filename: [')
    report = imported(source, tmp_path / 'out', '--split', '0.5')
    reasons = [entry['reason'] for entry in report['left_out']]
    assert len(reasons) == 2 and str(file) in reasons[0] and '002_annotation.yaml is not valid YAML' in reasons[1]


def test_no_code_is_run(source, tmp_path):
    mark = tmp_path / 'ran'
    (source / 'annotations' / '001_annotation.yaml').write_text(
        f'filename: !!python/object/apply:os.system ["touch {mark}"]\n'
    )
    imported(source, tmp_path / 'out', '--split', '0.5')
    assert not mark.exists()


def test_a_folder_without_annotations(tmp_path):
    with pytest.raises(UserError, match=r'holds no annotations: name the folder with annotations/\*.yaml'):
        TOOL.main(['cwfid', str(tmp_path), str(tmp_path / 'out')])
