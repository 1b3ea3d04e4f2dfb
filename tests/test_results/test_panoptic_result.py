"""What a result gives, and that it needs neither torch nor mm*."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO

from mmpanoptic.drawing import draw
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.results.ids import id_to_rgb
from mmpanoptic.utils import UserError

CATEGORIES = [
    dict(id=7, name='nut', isthing=1, color=[200, 30, 30]),
    dict(id=3, name='sky', isthing=0, color=[30, 30, 200]),
]
BOXES = np.array([[1, 0, 3, 2], [0, 1, 2.5, 4]], np.float32)


def result(with_map: bool = True, **changes) -> PanopticResult:
    """A nut in front of the sky, a second one that is not in the map; 4 x 6 pixels."""
    ids = np.full((4, 6), 2, np.int32)
    ids[0:2, 1:3], ids[3] = 1001, 0
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 0:2, 1:3] = masks[1, 1:4, 0:2] = True
    segments = [
        Segment(1001, 0, 'nut', True, 0.75, 4, (1, 0, 2, 2), 0),
        Segment(2, 1, 'sky', False, None, 14, (0, 0, 6, 3), None),
    ]
    instances = Instances(BOXES, np.array([0, 0]), np.array([0.75, 0.25], np.float32), masks)
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    values = dict(path='folder/5.jpg', image=image, id_map=ids, segments=segments, instances=instances)
    values |= dict(categories=CATEGORIES) | ({} if with_map else dict(id_map=None, segments=[]))
    return PanopticResult(**values | changes)


SCRIPT = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in REFUSED:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

REFUSED = set('torch mmengine mmcv mmdet mmpretrain rich filelock pycocotools matplotlib cv2 PIL'.split())
sys.meta_path.insert(0, Refuse())
import numpy as np
from mmpanoptic.results import Instances, PanopticResult, Segment
third = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)
assert third <= {'mmpanoptic', 'numpy', '__main__', 'sitecustomize', 'usercustomize'} | {
    name for name in third if name.startswith(('_', 'distutils'))}, third
categories = [dict(id=1, name='a', isthing=0, color=[1, 2, 3])]
none = Instances(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, np.float32))
ids = np.ones((40, 60), np.int32)
segments = [Segment(1, 0, 'a', False, 0.5, 2400, (0, 0, 60, 40), None)]
result = PanopticResult(None, np.zeros((40, 60, 3), np.uint8), ids, segments, none, categories)
assert result.to_coco(3)['segments_info'][0]['area'] == 2400
REFUSED -= {'cv2', 'PIL'}
assert result.draw().shape == (360, 540, 3)
result.save(sys.argv[1])
"""


def test_ids_that_a_png_cannot_hold_are_refused():
    for ids in ([0, 2**24], [-1, 5]):
        with pytest.raises(ValueError, match='a PNG has room for 0 to 16777215'):
            id_to_rgb(np.array([ids]))


def test_without_torch_and_mm(tmp_path: Path):
    """Importing takes numpy; drawing and saving take OpenCV and Pillow as well."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith('COVERAGE')}
    command = [sys.executable, '-c', SCRIPT, tmp_path / 'a.json']
    run = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.json', 'a.png']


def test_as_coco_has_it():
    found = result().to_coco(image_id=5)
    assert found['image'] == dict(id=5, file_name='5.jpg', width=6, height=4)
    assert found['segments_info'] == [
        dict(id=1001, category_id=7, area=4, bbox=[1, 0, 2, 2], iscrowd=0, score=0.75),
        dict(id=2, category_id=3, area=14, bbox=[0, 0, 6, 3], iscrowd=0),
    ]
    assert [one['bbox'] for one in found['instances']] == [[1, 0, 2, 2], [0, 1, 2.5, 3]]
    coco = COCO()
    coco.dataset = dict(images=[found['image']], annotations=[], categories=CATEGORIES)
    coco.createIndex()
    loaded = coco.loadRes(found['instances'])
    for one, mask in zip(loaded.loadAnns(loaded.getAnnIds()), result().instances.masks, strict=True):
        np.testing.assert_array_equal(loaded.annToMask(one), mask)
    assert result(with_map=False).to_coco()['segments_info'] is None
    unmasked = Instances(BOXES, np.array([0, 0]), np.array([0.75, 0.25], np.float32))
    assert 'segmentation' not in result(instances=unmasked).to_coco()['instances'][0]


def test_without_what_is_less_sure():
    less = result().above(0.8)
    assert [segment.name for segment in less.segments] == ['sky'] and len(less.instances) == 2
    np.testing.assert_array_equal(less.id_map, np.where(result().id_map == 1001, 0, result().id_map))
    assert result().above(0.75).segments == result().segments and less.id_map.dtype == np.int32
    alone = result(with_map=False).above(0.5)
    assert alone.instances.scores.tolist() == [0.75] and alone.instances.masks.shape == (1, 4, 6)


def test_other_ratings_are_written_where_there_are_such():
    rated = [replace(one, ranking_score=0.5, similarity=-0.25) for one in result().segments]
    nut, sky = result(segments=rated).coco_segments()
    assert (nut['score'], nut['ranking_score'], nut['similarity']) == (0.75, 0.5, -0.25)
    assert 'score' not in sky and sky['similarity'] == -0.25


def test_ids_that_nobody_knows():
    unknown = result(categories=[category | dict(id=None) for category in CATEGORIES])
    for call in (unknown.to_coco, unknown.coco_segments, lambda: unknown.coco_instances(1)):
        with pytest.raises(UserError, match=r'by name only.*test_dataloader\.dataset\.ann_file'):
            call()
    assert unknown.draw().any()


def test_saving_a_map(tmp_path: Path):
    for _ in range(2):  # the second one replaces the first
        result().save(tmp_path / 'a.json', image_id=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.json', 'a.png']
    content = json.loads((tmp_path / 'a.json').read_text())
    assert content['images'] == [dict(id=9, file_name='5.jpg', width=6, height=4)]
    (annotation,) = content['annotations']
    assert (annotation['image_id'], annotation['file_name']) == (9, 'a.png')
    assert annotation['segments_info'] == result().coco_segments() and content['categories'] == CATEGORIES
    ids = decode_panoptic_png((tmp_path / 'a.png').read_bytes(), 'a.png')
    np.testing.assert_array_equal(ids, result().id_map)
    with pytest.raises(UserError, match=r'a\.png does not end in \.json'):
        result().save(tmp_path / 'a.png')


def test_saving_instances(tmp_path: Path):
    result(with_map=False).save(tmp_path / 'b.json')
    assert [path.name for path in tmp_path.iterdir()] == ['b.json']
    coco = COCO(tmp_path / 'b.json')  # a dataset of itself: images, categories, annotations with ids
    assert [one['id'] for one in coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=[7]))] == [1, 2]


def test_drawing():
    drawn = result().draw()
    assert drawn.shape == (360, 540, 3) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, result().draw(score_thr=1.0))  # of a map, the fusion has decided
    alone = result(with_map=False)
    assert (alone.draw(score_thr=0.5) != alone.draw(score_thr=0.1)).any()
    nothing = Instances(BOXES[:0], np.zeros(0, int), np.zeros(0, np.float32))
    assert (result(with_map=False, instances=nothing).draw() != alone.draw()).any()


def written(monkeypatch: pytest.MonkeyPatch, drawn: PanopticResult, **options) -> list[str]:
    """The texts in a picture."""
    texts = []
    monkeypatch.setattr(draw, 'put_text', lambda picture, text, *args: texts.append(text))
    drawn.draw(**options)
    monkeypatch.undo()
    return sorted(texts)


def test_which_number_stands_beside_a_name(monkeypatch: pytest.MonkeyPatch):
    large = np.zeros((200, 300), np.int32)
    large[:, :150], large[:, 150:] = 1001, 2
    nut, sky = result().segments
    segments = [replace(nut, ranking_score=0.00126, similarity=-0.25), replace(sky, score=0.5, similarity=0.75)]
    rated = result(segments=segments, id_map=large, image=np.zeros((200, 300, 3), np.uint8))
    for number, texts in (
        ('score', ['nut 0.75', 'sky 0.50']),
        ('ranking_score', ['nut 0.0013', 'sky']),
        ('similarity', ['nut -0.25', 'sky 0.75']),
        (None, ['nut', 'sky']),
    ):
        assert written(monkeypatch, rated, number=number) == texts
    np.testing.assert_array_equal(rated.draw(number='score'), rated.draw())
    alone = result(with_map=False)
    for number, texts in (('score', ['nut 0.75']), ('similarity', ['nut']), (None, ['nut'])):
        assert written(monkeypatch, alone, number=number) == texts
    with pytest.raises(ValueError, match="number 'area' is none of score, ranking_score, similarity, None"):
        rated.draw(number='area')


def test_supervision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(UserError, match='pip install supervision'):
        result().to_supervision()

    class Detections(SimpleNamespace):
        """Takes what supervision's takes, by its names."""

        def __init__(self, xyxy, mask=None, confidence=None, class_id=None, tracker_id=None, data=None):
            super().__init__(xyxy=xyxy, mask=mask, confidence=confidence, class_id=class_id, data=data)

    monkeypatch.setitem(sys.modules, 'supervision', SimpleNamespace(Detections=Detections))
    found = result().to_supervision()
    np.testing.assert_array_equal(found.xyxy, [[1, 0, 3, 2], [0, 0, 6, 3]])
    np.testing.assert_array_equal(found.mask, [result().id_map == 1001, result().id_map == 2])
    np.testing.assert_array_equal(found.confidence, np.array([0.75, np.nan], np.float32))
    assert found.class_id.tolist() == [0, 1] and found.data['class_name'].tolist() == ['nut', 'sky']
    assert found.data['segment_id'].tolist() == [1001, 2]
    assert len(result(segments=[]).to_supervision().mask) == 0
    alone = result(with_map=False).to_supervision()
    np.testing.assert_array_equal(alone.xyxy, BOXES)
    np.testing.assert_array_equal(alone.mask, result().instances.masks)
