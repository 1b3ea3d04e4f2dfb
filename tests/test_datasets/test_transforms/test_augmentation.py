"""Augmentation as configs have it: image, instances and semantic map stay those of one picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import load_config
from helpers.repo import CONFIGS
from mmengine.config import Config

from mmpanoptic.datasets import steps_of
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.registry import DATASETS, MODELS

NUM_THINGS = 7
SIZE = (192, 288)
MEAN = (104, 116, 124)  # blue first, as pixels


def train_dataset(name: str, root: Path):
    """The training set of a config of Shapes, of the images at ``root``."""
    config = load_config(f'panoptic_fpn/panoptic-fpn_r18_fpn_{name}_shapes')
    dataset = config.train_dataloader.dataset
    dataset.get('dataset', dataset).data_root = f'{root}/'
    return DATASETS.build(dataset), config


def test_large_scale_jitter(tiny_shapes):
    dataset, config = train_dataset('lsj', tiny_shapes)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    np.random.seed(0)
    filled, scales, without = 0, [], 0
    for place in [*range(8)] * 5:
        packed = dataset[place]
        sample, image = packed['data_samples'], packed['inputs'].permute(1, 2, 0).numpy()
        instances, semantic = sample.gt_instances, sample.gt_sem_seg.sem_seg[0].numpy()
        masks = instances.masks.masks.astype(bool)
        assert image.shape == (*SIZE, 3) and semantic.shape == masks.shape[1:] == sample.img_shape == SIZE
        for mask, label, box in zip(masks, instances.labels, instances.bboxes.tensor.tolist(), strict=True):
            assert (semantic[mask] == int(label)).all() and mask.any()
            rows, columns = np.nonzero(mask)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # What no pixel of the image is at: the mean, which is 0 when it is normalised, and void.
        height, width = (
            min(side, round(scale * of))
            for side, scale, of in zip(SIZE, sample.scale_factor[::-1], (96, 128), strict=True)
        )
        outside = np.ones(SIZE, bool)
        outside[:height, :width] = False
        assert (image[outside] == MEAN).all() and (semantic[outside] == 255).all() and not masks[:, outside].any()
        assert (semantic[:height, :width] != 255).mean() > 0.5
        batch = preprocessor(dict(inputs=[packed['inputs']], data_samples=[sample]), training=True)
        assert (batch['inputs'][0][:, torch.from_numpy(outside)].abs() < 0.01).all()
        filled += outside.any()
        without += not len(masks)
        scales.append(sample.scale_factor[0] / (SIZE[0] / 96))
    assert min(scales) < 0.3 and max(scales) > 1.6 and 10 < filled < 35 and without < 10


def test_photometric_distortion(tiny_shapes):
    """Pixels alone change; they are no whole numbers any more, and stay finite when they are normalised."""
    dataset, config = train_dataset('photometric', tiny_shapes)
    steps = steps_of(config.train_dataloader.dataset.pipeline)
    steps = [step for step in steps if step['type'] != 'PhotoMetricDistortion']
    plain = build_dataset(config, 'train_dataloader', data_root=f'{tiny_shapes}/', pipeline=steps)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    changed = 0
    for place in range(8):
        np.random.seed(place)
        packed = dataset[place]
        np.random.seed(place)
        other = plain[place]
        assert packed['inputs'].dtype == torch.float32 and other['inputs'].dtype == torch.uint8
        for key in ('bboxes', 'labels'):
            one, two = (getattr(sample['data_samples'].gt_instances, key) for sample in (packed, other))
            assert torch.equal(getattr(one, 'tensor', one), getattr(two, 'tensor', two))
        assert torch.equal(*(sample['data_samples'].gt_sem_seg.sem_seg for sample in (packed, other)))
        assert packed['inputs'].min() > -64 and packed['inputs'].max() < 1.5 * (255 + 32) + 1
        batch = preprocessor(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]), training=True)
        assert torch.isfinite(batch['inputs']).all()
        changed += (packed['inputs'] - other['inputs']).abs().mean() > 2
    assert changed >= 5


@pytest.mark.parametrize(
    ('small', 'large'), [('lsj', 'lsj-3x'), ('photometric', 'photometric-1x'), ('copy-paste', 'lsj-copy-paste-3x')]
)
def test_both_configs_have_the_same_steps(small, large):
    """They are written twice, at two sizes."""
    steps = []
    for name in (f'panoptic-fpn_r18_fpn_{small}_shapes', f'panoptic-fpn_r50_fpn_{large}_coco'):
        dataset = Config.fromfile(CONFIGS / f'panoptic_fpn/{name}.py').train_dataloader.dataset
        steps.append(
            [{k: v for k, v in step.items() if 'size' not in k and k != 'scale'} for step in steps_of(dataset.pipeline)]
        )
    assert steps[0] == steps[1]
