from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmpanoptic.apis.load import prediction_transforms
from mmpanoptic.utils import UserError


def config_of(*steps: Any) -> Config:
    return Config(dict(test_dataloader=dict(dataset=dict(pipeline=list(steps)))))


def inverted(results: dict) -> dict:
    return results | dict(img=255 - results['img'])


def test_steps_may_be_functions(tmp_path: Path):
    """mmengine's Compose takes them, and so does ``steps_of``."""
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    config = config_of(dict(type='LoadImageFromFile'), inverted, dict(type='LoadPanopticAnnotations'))
    with DefaultScope.overwrite_default_scope('mmpanoptic'):
        load_file, load_array, rest = prediction_transforms(config)
    for read in (load_file(dict(img_path=str(tmp_path / 'a.png'))), load_array(dict(img=image))):
        np.testing.assert_array_equal(rest(read)['img'], 255 - image)


@pytest.mark.parametrize('steps', [[], [inverted], [dict(type='Resize'), dict(type='LoadImageFromFile')]])
def test_a_pipeline_that_loads_no_file_first(steps: list):
    with pytest.raises(UserError, match='the config: the test pipeline does not begin with LoadImageFromFile: put'):
        prediction_transforms(config_of(*steps))
