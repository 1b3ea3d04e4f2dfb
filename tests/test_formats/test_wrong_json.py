"""Any value of a JSON file replaced by any other one: a sample as before, or an error of one line."""

import json

import pytest
from helpers.mutate_json import VALUES, places, replaced
from helpers.panoptic_files import PanopticFiles
from helpers.pq_cases import random_case, write_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from mmpanoptic.datasets import CocoDataset, CocoInstanceDataset
from mmpanoptic.datasets.transforms import LoadAnnotations
from mmpanoptic.evaluation.metrics import InstanceMetric
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.utils import UserError

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> PanopticFiles:
    return PanopticFiles(tmp_path_factory.mktemp('files'))


@FUZZ
@given(data=st.data(), value=st.sampled_from((*VALUES, 'DROP')), kind=st.sampled_from(['panoptic', 'instances']))
def test_annotations(files, data, value, kind):
    content = json.loads(json.dumps(getattr(files, kind)))
    place = data.draw(st.sampled_from(list(places(content))))
    (files.root / f'{kind}.json').write_text(json.dumps(replaced(content, place, value)))
    root = str(files.root)
    instances = dict(data_root=root, ann_file='instances.json', data_prefix=dict(img='images'), serialize_data=False)
    try:
        for make in (
            lambda: files.dataset(inst_ann_file='instances.json'),
            lambda: CocoInstanceDataset(**instances),
            lambda: CocoDataset(metainfo=dict(classes=('cat', 'dog')), **instances),
            lambda: InstanceMetric(ann_file=f'{root}/instances.json', metric='segm')._coco_api,
        ):
            try:
                made = make()
                if isinstance(made, COCO):
                    for annotation in made.anns.values():
                        made.annToMask(annotation)
                else:
                    for index in range(len(made)):
                        LoadAnnotations(with_mask=True)(made.get_data_info(index) | dict(ori_shape=(32, 40)))
            except UserError as error:
                assert '\n' not in str(error)
    finally:
        files.save()


@pytest.fixture(scope='module')
def scored(tmp_path_factory) -> tuple:
    return write_files(tmp_path_factory.mktemp('scored'), [random_case(seed) for seed in (1, 2, 3)])


@FUZZ
@given(data=st.data(), value=st.sampled_from((*VALUES, 'DROP')), side=st.sampled_from([0, 2]))
def test_scoring(scored, data, value, side):
    """Ground truth and predictions; nothing scores above 1."""
    text = scored[side].read_text()
    content = json.loads(text)
    place = data.draw(st.sampled_from(list(places(content))))
    scored[side].write_text(json.dumps(replaced(content, place, value)))
    try:
        result = evaluate_files(*scored)
        assert all(0 <= quality['pq'] <= 1 for quality in result['per_class'].values())
    except UserError as error:
        assert '\n' not in str(error)
    finally:
        scored[side].write_text(text)
