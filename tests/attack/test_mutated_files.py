"""Damaged and forged ground truth and predictions: one line that names the file, or the right sample or score."""

import json
from pathlib import Path

import pytest
from helpers.attack import amount, try_files
from helpers.mutate_images import mutated_jpeg, mutated_png
from helpers.mutate_json import mutated_json
from helpers.panoptic_files import PanopticFiles
from helpers.pq_cases import random_case, write_files
from helpers.process_memory import needs_linux
from helpers.second_reading import check_instance_samples, check_samples, check_score

from mmpanoptic.datasets import CocoDataset, CocoInstanceDataset
from mmpanoptic.datasets.transforms import LoadAnnotations, LoadImageFromFile, LoadPanopticAnnotations
from mmpanoptic.datasets.validation import check_png
from mmpanoptic.evaluation.metrics import InstanceMetric
from mmpanoptic.evaluation.panoptic_files import evaluate_files

pytestmark = [pytest.mark.slow, needs_linux]

# Ground truth: (what is mutated, cases of 10 000).
GROUND_TRUTH = {
    'panoptic JSON': ('panoptic.json', 3500),
    'panoptic PNG': ('panoptic/10.png', 3000),
    'instances JSON': ('instances.json', 1500),
    'image, PNG': ('images/a.png', 500),
    'image, JPEG': ('images/b.jpg', 1000),
}
PREDICTIONS = {'panoptic JSON': ('pred.json', 4500), 'panoptic PNG': ('pred/0001.png', 4500)}
SCORED_TRUTH = {'ground-truth JSON': ('gt.json', 500), 'ground-truth PNG': ('gt/0001.png', 500)}


def mutation(root: Path, name: str):
    """Makes one mutated file below ``root``."""
    data = (root / name).read_bytes()
    content = json.loads(data) if name.endswith('.json') else None
    others = [path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file() and path.name != Path(name).name]

    def make(rng):
        other = rng.choice(others)
        if content is not None:
            return {name: mutated_json(content, rng, other)}
        return {name: (mutated_jpeg if name.endswith('.jpg') else mutated_png)(data, rng, other)}

    return make


@pytest.mark.parametrize('kind', GROUND_TRUTH)
def test_ground_truth(kind, tmp_path):
    """Read as a training does: the dataset is made, its PNGs are checked, its samples are loaded."""
    root = tmp_path / 'files'
    root.mkdir()
    files = PanopticFiles(root)
    name, count = GROUND_TRUTH[kind]
    with_instances = kind == 'instances JSON'
    load_image, load_annotations = LoadImageFromFile(), LoadPanopticAnnotations()

    def verdict(folder, _):
        dataset = files.dataset(inst_ann_file='instances.json' if with_instances else None)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        for info in infos:
            check_png(info)
        samples = [load_annotations(load_image(info)) for info in infos]
        check_samples(folder, samples, with_instances)
        return 'read'

    assert verdict(root, {}) == 'read'
    try_files(f'ground truth: {kind}', amount(count), root, mutation(root, name), verdict)


def test_instances_alone(tmp_path):
    """An instances JSON without a panoptic one: all that reads such a file."""
    root = tmp_path / 'files'
    root.mkdir()
    PanopticFiles(root)
    options = dict(data_root=str(root), ann_file='instances.json', data_prefix=dict(img='images'), serialize_data=False)
    load = LoadAnnotations(with_mask=True)

    def loaded(dataset):
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        return [load(info | dict(ori_shape=(info['height'], info['width']))) for info in infos]

    def verdict(folder, _):
        coco = InstanceMetric(ann_file=str(folder / 'instances.json'), metric='segm')._coco_api
        for annotation in coco.anns.values():
            coco.annToMask(annotation)
        loaded(CocoDataset(metainfo=dict(classes=('cat', 'dog')), **options))
        check_instance_samples(folder, loaded(CocoInstanceDataset(**options)))
        return 'read'

    assert verdict(root, {}) == 'read'
    try_files('ground truth: instances JSON alone', amount(500), root, mutation(root, 'instances.json'), verdict)


@pytest.mark.parametrize('kind', PREDICTIONS | SCORED_TRUTH)
def test_scoring(kind, tmp_path):
    root = tmp_path / 'files'
    root.mkdir()
    scored = write_files(root, [random_case(seed) for seed in (1, 2, 3)])
    name, count = (PREDICTIONS | SCORED_TRUTH)[kind]

    def verdict(folder, _):
        check_score(evaluate_files(*scored), *scored)
        return 'read'

    assert verdict(root, {}) == 'read'
    try_files(f'predictions: {kind}', amount(count), root, mutation(root, name), verdict)
