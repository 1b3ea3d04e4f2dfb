"""A training of milliseconds that uses every random generator, in the runner and the loops that the tools use."""

import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmpanoptic.engine.checkpoint_files import use_strict_loading
from mmpanoptic.engine.runner import ToolRunner
from mmpanoptic.registry import DATASETS, METRICS, MODELS

NUM, BATCH = 10, 2  # samples, so that an epoch has 5 batches, an odd number for two workers
PER_EPOCH = NUM // BATCH


@DATASETS.register_module()
class Noisy(torch.utils.data.Dataset):
    """Samples with noise of every generator, as augmentations add it."""

    metainfo = dict(classes=('a',))

    def __init__(self, num=NUM):
        self.num = num

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(()).item() + np.random.normal()
        return dict(x=torch.tensor([index, noise]))

    def get_data_info(self, index):
        return dict(width=1 + index % 2, height=1.5)


@MODELS.register_module()
class DropoutLine(BaseModel):
    """A line with dropout, as RoI heads draw their samples from the generator of the process."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, x, mode):
        x = torch.stack(x)
        assert len(x)
        if mode == 'loss':
            return dict(loss=nn.functional.dropout(self.line(x), 0.5, self.training).square().mean() * 1e-2)
        return [torch.rand(())]  # a validation that uses the generator


@METRICS.register_module()
class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(n=len(results))


KINDS = {
    'no workers': dict(),
    'workers': dict(workers=2),
    'persistent workers': dict(workers=2, persistent=True),
    'by iterations': dict(by_epoch=False, sampler='InfiniteSampler', workers=2, persistent=True),
    'by iterations, epochs': dict(by_epoch=False, workers=2),
    'aspect ratios': dict(batch_sampler=dict(type='AspectRatioBatchSampler'), workers=2),
}


def toy_runner(
    work_dir: Path,
    resume: str | None = None,
    workers: int = 0,
    persistent: bool = False,
    by_epoch: bool = True,
    sampler: str = 'DefaultSampler',
    num: int = NUM,
    **options,
) -> Runner:
    """The runner of a training, see :data:`KINDS`.

    Args:
        work_dir: Where it writes checkpoints.
        resume: A checkpoint to go on from.
        workers: Of both data loaders.
        persistent: Whether they live longer than a pass.
        by_epoch: Whether epochs are counted, or iterations.
        sampler: Of the training.
        num: Samples.
        options: ``batch_sampler``, ``checkpoint_by_epoch`` if other than ``by_epoch``, and what else goes to the hook
            that writes checkpoints.
    """
    loading = dict(num_workers=workers, persistent_workers=persistent)
    batch_sampler = options.pop('batch_sampler', None)
    checkpoint = dict(
        type='CheckpointHook',
        by_epoch=options.pop('checkpoint_by_epoch', by_epoch),
        interval=options.pop('interval', 1 if by_epoch else 4),
        max_keep_ckpts=1,
    )
    length = dict(max_epochs=3, val_interval=1) if by_epoch else dict(max_iters=3 * PER_EPOCH, val_interval=4)
    cfg = Config(
        dict(
            default_scope='mmpanoptic',
            model=dict(type='DropoutLine'),
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=dict(type='Noisy', num=num),
                sampler=dict(type=sampler, shuffle=True),
                batch_sampler=batch_sampler,
                batch_size=BATCH,
                **loading,
            ),
            train_cfg=dict(type='EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop', **length),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9)),
            param_scheduler=dict(
                type='LinearLR', start_factor=0.1, by_epoch=by_epoch, begin=0, end=3 if by_epoch else 9
            ),
            val_dataloader=dict(
                dataset=dict(type='Noisy', num=3),
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=1,
                **loading,
            ),
            val_cfg=dict(),
            val_evaluator=dict(type='Count'),
            default_hooks=dict(checkpoint=checkpoint | options, stop=dict(type='StopHook'), logger=None),
            randomness=dict(seed=3),
            log_level='ERROR',
            experiment_name=f'{work_dir.name}{random.getrandbits(64)}',
            resume=bool(resume),
            load_from=resume,
        )
    )
    use_strict_loading()
    return ToolRunner.from_cfg(cfg)


def weights(runner):
    state = runner.model.state_dict()
    return torch.cat([state[name].flatten() for name in sorted(state)])
