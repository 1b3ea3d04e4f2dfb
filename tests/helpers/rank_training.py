"""Two iterations of every system on the built-in dataset, by one process or as one of two.

``python -m helpers.rank_training DATA RANK WORLD_SIZE FOLDER``, which :func:`helpers.ranks.run_one_and_two` runs.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
from helpers.models import dicts_in, load_config, with_few_rois
from helpers.ranks import join, leave
from mmdet.models.task_modules.samplers import RandomSampler
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from torch import Tensor

from mmpanoptic.engine.runner import ToolRunner, build_runner
from mmpanoptic.registry import DATASETS, HOOKS, TASK_UTILS

SYSTEMS = {
    'Panoptic FPN': 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes',
    'PANet': 'panet/panet_r18_fpn_shapes',
    'SpatialFlow': 'spatialflow/spatialflow_r18_fpn_shapes',
    'OANet': 'oanet/oanet_r18_fpn_shapes',
    'CIAE': 'ciae/ciae_r18_fpn_shapes',
}
# 'own': each image has its own ground truth. 'shared': an image of one rank and one of the other have the same, so that
# every normaliser is the same on both.
TRUTHS = ('own', 'shared')
BATCH_SIZE = 4  # of all processes
# Those of the tiny dataset in which every object is large enough for an anchor: mmdet counts an image none of whose
# anchors is positive as if it had one.
IMAGES = dict(own=[0, 1, 2, 4, 5, 6, 7, 0], shared=[0, 1, 2, 4])


class Training(NamedTuple):
    """What a training gave: the losses of each iteration, and the weights and buffers after the last one."""

    losses: list[dict[str, float]]
    weights: dict[str, Tensor]


@TASK_UTILS.register_module()
class EvenSampler(RandomSampler):
    """mmdet's sampler, which takes evenly spaced ones of what it might take."""

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """``num`` of the gallery."""
        return gallery[torch.arange(num) * len(gallery) // num]


@DATASETS.register_module()
class Twins:
    """Each sample of a dataset twice, the second time with its colours inverted."""

    def __init__(self, dataset: dict) -> None:
        self.dataset = DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo

    def full_init(self) -> None:
        """As mmengine wants it."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return 2 * len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        sample = self.dataset[index // 2]
        if index % 2:
            sample['inputs'] = 255 - sample['inputs']
        return sample


@RUNNERS.register_module()
class TerseRunner(ToolRunner):
    """The tools' runner, which writes no config: to lay that out takes longer than to train."""

    def dump_config(self) -> None:
        """Nothing."""

    def _log_env(self, env_cfg: dict) -> None:
        pass


@HOOKS.register_module()
class KeepLosses(Hook):
    """Keeps what would be logged."""

    def __init__(self) -> None:
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Take the losses of this process."""
        self.losses.append({name: torch.as_tensor(value).item() for name, value in outputs.items()})


def rank_config(name: str, data: str, truths: str, world_size: int, work_dir: str) -> Config:
    """The config of a system for two iterations in which nothing is left to chance, nor to batch norm."""
    config = with_few_rois(load_config(name))
    config.runner_type = 'TerseRunner'
    config.work_dir = work_dir
    config.experiment_name = f'{name}-{truths}'
    config.launcher = 'pytorch' if world_size > 1 else 'none'
    loader = config.train_dataloader
    # Images go to the ranks in turn.
    loader.update(batch_size=BATCH_SIZE // world_size, num_workers=0, persistent_workers=False)
    loader.sampler.shuffle = False
    loader.dataset.update(data_root=data, indices=IMAGES[truths])
    loader.dataset.pipeline.flip.prob = 0.0
    loader.dataset.pipeline.resize.scale = (128, 96)
    if truths == 'shared':
        loader.dataset = dict(type='Twins', dataset=loader.dataset)
    for part in ('cfg', 'dataloader', 'evaluator'):
        config[f'val_{part}'] = config[f'test_{part}'] = None
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    # Not AdamW, whose step has the same length whether a gradient is large or nothing but rounding.
    config.optim_wrapper.optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
    config.param_scheduler = None
    config.default_hooks = dict(timer=None, logger=None, checkpoint=None, param_scheduler=None)
    config.custom_hooks = [dict(type='KeepLosses')]
    config.visualizer = dict(type='Visualizer', vis_backends=[])
    config.log_level = 'ERROR'
    _leave_nothing_to_chance(config, truths)
    return config


def _leave_nothing_to_chance(config: Config, truths: str) -> None:
    model = config.model
    model.backbone.norm_eval = True
    for node in dicts_in(config._cfg_dict.model):
        if node.get('type') == 'RandomSampler':
            # All images have as many. RoIs of 'own' may all be positive, so that images have more or fewer of these.
            node.type = 'EvenSampler'
            if node.add_gt_as_proposals and truths == 'own':
                node.pos_fraction = 1.0
    if truths == 'shared' and 'proposal' in model.get('train_cfg', {}):
        model.train_cfg.proposal.score_thr = 1.0  # detections depend on pixels; masks of annotated boxes alone do not


def trainings(data: str, rank: int, world_size: int, folder: str) -> Iterator[tuple[tuple[str, str], Training]]:
    """Each system with each kind of ground truth."""
    for system, name in SYSTEMS.items():
        for truths in TRUTHS:
            work_dir = f'{folder}/{world_size}_{rank}'
            runner = build_runner(rank_config(name, data, truths, world_size, work_dir))
            runner.train()
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            losses = next(hook.losses for hook in runner.hooks if isinstance(hook, KeepLosses))
            yield (system, truths), Training(losses, model.state_dict())


def main() -> None:
    rank, world_size = join()
    found = trainings(f'{sys.argv[1]}/', rank, world_size, sys.argv[-1])
    leave({key: training._asdict() for key, training in found})


if __name__ == '__main__':
    main()
