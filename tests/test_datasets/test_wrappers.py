"""Datasets in wrappers: what is inside, whatever the depth, and what wrappers do with classes and ids."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.wrappers import inner_datasets, with_changes
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.evaluators import evaluators
from mmpanoptic.engine.hooks.check_hook import check_ids
from mmpanoptic.registry import DATASETS
from mmpanoptic.utils import DatasetError, UserError

A, B = (dict(type='CocoPanopticDataset', data_root=root) for root in 'ab')


def concat(*datasets, **options) -> dict:
    return dict(type='ConcatDataset', datasets=list(datasets), **options)


def repeat(dataset) -> dict:
    return dict(type='RepeatDataset', times=2, dataset=dataset)


def balance(dataset) -> dict:
    return dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=dataset)


def mix(dataset, pipeline=()) -> dict:
    return dict(type='MultiImageMixDataset', dataset=dataset, pipeline=list(pipeline))


WRAPPED = [
    (A, [A]),
    (repeat(A), [A]),
    (balance(repeat(A)), [A]),
    (mix(A), [A]),
    (concat(A, B), [A, B]),
    (concat(A, concat(B)), [A, B]),
    (repeat(concat(balance(A), mix(B))), [A, B]),
]


@pytest.mark.parametrize(('wrapped', 'inside'), WRAPPED)
@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_configs_inside(wrapped: dict, inside: list[dict], kind: type):
    assert [dict(one) for one in inner_datasets(kind(wrapped))] == inside
    changed = with_changes(kind(wrapped), dict(indices=3))
    assert [dict(one) for one in inner_datasets(changed)] == [one | dict(indices=3) for one in inside]
    assert [dict(one) for one in inner_datasets(kind(wrapped))] == inside  # the same as before


def test_a_pipeline_takes_the_place_of_that_of_mixed_images():
    """Which would be applied to what comes out of the new one."""
    new = dict(pipeline=[1])
    assert with_changes(repeat(mix(A, [2])), new) == repeat(A | new)
    assert with_changes(mix(A, [2]), dict(indices=3)) == mix(A | dict(indices=3), [2])


@pytest.fixture(scope='module')
def roots(tiny_shapes: Path, tmp_path_factory) -> tuple[Path, Path]:
    """A dataset, and the same with ids that are 100 more, categories with other ids, and another colour."""
    init_default_scope('mmpanoptic')
    other = tmp_path_factory.mktemp('other') / 'shapes'
    shutil.copytree(tiny_shapes, other)
    for path in (other / 'annotations').glob('*.json'):
        data = json.loads(path.read_text())
        for image in data['images']:
            image['id'] += 100
        for category in data['categories']:
            category.update(id=category['id'] + 50, color=[1, 2, 3])
        for annotation in data['annotations']:
            annotation['image_id'] += 100
            for segment in annotation.get('segments_info', [annotation]):
                segment['category_id'] += 50
        path.write_text(json.dumps(data))
    return tiny_shapes, other


def val(root: Path, **options) -> dict:
    files = dict(ann_file='annotations/panoptic_val.json', data_prefix=dict(img='val/'))
    return dict(type='CocoPanopticDataset', data_root=f'{root}/', test_mode=True, **files, **options)


def test_one_metainfo_whatever_the_files_say_of_ids_and_colours(roots: tuple[Path, Path]):
    """mmdet makes a list of metainfo of it, and an outer one of cumulative sizes, which no metric and no hook takes."""
    first, other = map(val, roots)
    for wrapped in (concat(first, other), concat(concat(first), concat(other)), concat(first, concat(first, other))):
        dataset = DATASETS.build(repeat(wrapped))
        alone = DATASETS.build(first).metainfo
        assert {key: dataset.metainfo[key] for key in alone} == alone
    assert len(DATASETS.build(balance(concat(first, repeat(other))))) == 3 * len(DATASETS.build(first))
    with pytest.raises(DatasetError, match='datasets is empty'):
        DATASETS.build(concat())


def test_other_classes_are_refused(roots: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(roots[0] / 'annotations', tmp_path / 'annotations')
    (tmp_path / 'val').symlink_to(roots[0] / 'val')
    path = tmp_path / 'annotations/panoptic_val.json'
    data = json.loads(path.read_text())
    data['categories'].reverse()
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match='differ in class 0'):
        DATASETS.build(concat(val(roots[0]), repeat(val(tmp_path)), ignore_keys=['classes']))


def test_tools_change_what_is_inside(roots: tuple[Path, Path]):
    config = Config(dict(test_dataloader=dict(dataset=balance(concat(*map(val, roots))))))
    dataset = build_dataset(config, 'test_dataloader', pipeline=[dict(type='LoadPanopticAnnotations')], indices=1)
    assert [dataset[i]['img_id'] for i in range(len(dataset))] == [1, 101]
    assert dataset[1]['gt_panoptic_map'].shape == (96, 128)
    for wrong in (dict(), dict(test_dataloader=dict())):
        with pytest.raises(UserError, match=r'no test_dataloader\.dataset'):
            build_dataset(Config(wrong), 'test_dataloader')


def test_instances_of_each_dataset(roots: tuple[Path, Path]):
    def metric(*datasets) -> dict:
        config = Config(dict(test_dataloader=dict(dataset=repeat(concat(*datasets)))))
        return evaluators(config, ['segm', 'BBOX'])[0]

    files = [str(root / 'annotations/instances_val.json') for root in roots]
    first, other = (val(root, inst_ann_file='annotations/instances_val.json') for root in roots)
    assert metric(first, other) == dict(type='InstanceMetric', metric=['bbox', 'segm'], ann_file=files)
    assert metric(first, first)['ann_file'] == files[0]
    assert metric(val(roots[0]), val(roots[1]))['ann_file'] is None
    with pytest.raises(UserError, match='and another has none'):
        metric(first, val(roots[1]))


def test_options_of_metrics_that_are_not_scored(roots: tuple[Path, Path]):
    own = dict(type='InstanceMetric', proposal_nums=(1, 2, 3))
    config = Config(
        dict(test_dataloader=dict(dataset=val(roots[0])), test_evaluator=[dict(type='PanopticMetric'), own])
    )
    (metric,) = evaluators(config, ['bbox'], ['test_evaluator.1.proposal_nums'])
    assert metric['proposal_nums'] == (1, 2, 3) and metric['metric'] == ['bbox']
    with pytest.raises(UserError, match=r'option test_evaluator\.0\.classwise is of PanopticMetric, which --eval bbox'):
        evaluators(config, ['bbox'], ['test_evaluator.0.classwise'])


def test_ids_that_repeat(roots: tuple[Path, Path]):
    first, other = map(val, roots)
    for fine in (first, concat(first, other), mix(first), balance(concat(other, first))):
        check_ids(DATASETS.build(fine))
    for wrong in (concat(first, first), repeat(first), repeat(concat(first, other))):
        with pytest.raises(UserError, match='have the image id 1, and are scored by their ids'):
            check_ids(DATASETS.build(wrong))
