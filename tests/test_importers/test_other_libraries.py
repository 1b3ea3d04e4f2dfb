"""Other libraries as writers and as readers: pycocotools here, and datumaro, labelme and label-studio-sdk elsewhere.

The latter need other versions of OpenCV and Pillow. ``MMPANOPTIC_FORMAT_JUDGE`` names the python of an environment
with them; without it, their tests are skipped.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled import BY_Z, SCENE, SMALL_ON_TOP, read_imported, same, save_image, write_panoptic_scene
from helpers.repo import ROOT, load_tool
from pycocotools.coco import COCO

IMPORT, EXPORT = load_tool('dataset_converters/import'), load_tool('dataset_converters/export')


def judge(action: str, folder: Path) -> None:
    python = os.environ.get('MMPANOPTIC_FORMAT_JUDGE')
    if not python:
        pytest.skip('MMPANOPTIC_FORMAT_JUDGE names no python with datumaro, labelme and label-studio-sdk')
    environment = {'PATH': os.environ['PATH'], 'HOME': str(folder), 'QT_QPA_PLATFORM': 'offscreen'}
    command = [python, str(ROOT / 'tests/helpers/format_judge.py'), action, str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_pycocotools_reads_what_is_exported_and_imported(tmp_path):
    EXPORT.main(['coco-instances', *map(str, write_panoptic_scene(tmp_path)), str(tmp_path / 'out'), '--workers', '1'])
    coco = COCO(str(tmp_path / 'out' / 'instances.json'))
    names = {one['id']: one['name'] for one in coco.dataset['categories']}
    found = {names[one['category_id']]: [coco.annToMask(one).astype(bool)] for one in coco.anns.values()}
    assert same(found, {name: SMALL_ON_TOP[name] for name in ('car', 'person')})


@pytest.fixture
def theirs(tmp_path) -> Path:
    """The scene as they write it."""
    save_image(tmp_path / 'a.png')
    masks, names, z = ([getattr(area, key) for area in SCENE] for key in ('mask', 'name', 'z'))
    np.savez(tmp_path / 'scene.npz', masks=np.stack(masks), names=names, z=z)
    judge('write', tmp_path)
    return tmp_path


WRITTEN = {
    'cvat': ('cvat', 'cvat', BY_Z),
    'coco-instances': ('coco_instances', 'coco-instances', SMALL_ON_TOP),
    'labelme': ('labelme', 'labelme', SMALL_ON_TOP),
    'label-studio': ('tasks.json', 'label-studio', SMALL_ON_TOP),
    'voc': ('voc_segmentation', 'voc', BY_Z),  # whose masks datumaro stacks by z
}


@pytest.mark.slow
def test_what_they_write_is_read(theirs):
    for name, (place, format_name, expected) in WRITTEN.items():
        out = theirs / f'imported-{name}'
        images = ['--images', str(theirs)] if name == 'label-studio' else []
        IMPORT.main([format_name, str(theirs / place), str(out), '--stuff', 'sky', '--workers', '1', *images])
        (image,) = read_imported(out).values()
        assert same(image.seen, expected), name
        if name != 'voc':
            assert same(image.drawn, {area.name: [area.mask] for area in SCENE if area.name != 'sky'}), name


@pytest.mark.slow
def test_what_is_exported_is_read_by_them(tmp_path):
    files = write_panoptic_scene(tmp_path / 'in')
    for name in ('cvat', 'label-studio', 'labelme'):
        EXPORT.main([name, *map(str, files), str(tmp_path / name), '--workers', '1', '--copy-images'])
    (tmp_path / 'cvat' / '.mmpanoptic').unlink()
    judge('read', tmp_path)
    found = np.load(tmp_path / 'read.npz')
    for name in ('cvat', 'label-studio'):
        masks = {key.split()[2]: [found[key]] for key in found if key.startswith(name + ' ')}
        assert same(masks, SMALL_ON_TOP), name
    shapes = dict(json.loads((tmp_path / 'read.json').read_text()))
    assert shapes.keys() == SMALL_ON_TOP.keys() and min(shapes.values()) >= 4
    shutil.rmtree(tmp_path / 'cvat')
