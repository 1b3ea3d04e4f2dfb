"""Zips with faults that a prediction cannot cause."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.submission.reading_back import check_listed_zip, check_panoptic_zip
from mmpanoptic.utils import DatasetError

IMAGES = [dict(id=5, file_name='a.jpg', height=24, width=32)]
CATEGORIES = [dict(id=3, name='cat', isthing=1)]


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_a_json_without_annotations(tmp_path: Path):
    content = json.dumps(dict(images=IMAGES, annotations=[], categories=CATEGORIES))
    path = zipped(tmp_path / 'x.zip', {'x.json': content})
    with pytest.raises(DatasetError, match=r'x\.zip/x\.json holds no annotations: every image needs one'):
        check_panoptic_zip(path, 'x', IMAGES, CATEGORIES)


def test_a_mask_that_cannot_be_decoded(tmp_path: Path):
    """Its header is whole, so its size is right, but pixels are missing."""
    png = cv2.imencode('.png', np.zeros((24, 32), np.uint8))[1].tobytes()
    files = {'a_0.png': png, 'a.txt': 'a_0.png 3 0.5\n'}
    check_listed_zip(zipped(tmp_path / 'whole.zip', files), IMAGES, '.txt', [3])
    path = zipped(tmp_path / 'cut.zip', files | {'a_0.png': png[:-20]})
    with pytest.raises(DatasetError, match=r'cut\.zip/a_0\.png cannot be decoded: write it again$'):
        check_listed_zip(path, IMAGES, '.txt', [3])
