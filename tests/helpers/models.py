"""Building, counting and training models of any system."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from helpers.repo import CONFIGS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmpanoptic.registry import MODELS

T = TypeVar('T')


def load_config(name: str) -> Config:
    """``configs/<name>.py``, whose type names mean what they mean to the tools."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(config.default_scope)
    return config


def on_meta(build: Callable[..., T], *args, **kwargs) -> T:
    """What ``build`` makes, without memory: tensors have shapes alone."""
    with torch.device('meta'):
        return build(*args, **kwargs)


def empty_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes, without memory."""
    return {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def giga_multiply_adds(module: nn.Module, *args) -> float:
    """Multiply-adds in 10^9 as torch counts them, without computing anything; the module loses its weights."""
    with FlopCounterMode(display=False) as counter:
        module.to('meta')(*args)
    return counter.get_total_flops() / 2e9


def train_step(model: nn.Module, data: dict) -> dict[str, float]:
    """Losses of a training step, after which every parameter has a finite gradient."""
    model.train()
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    total, values = model.parse_losses(losses)
    assert torch.isfinite(total)
    model.zero_grad()
    total.backward()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in learned.items() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in learned.values())
    return values


def with_few_rois(config: Config) -> Config:
    """The same with so few proposals that heads take seconds, not a minute, on a CPU; no layer changes."""
    for node in dicts_in(config._cfg_dict.model):
        for key, limit in (('nms_pre', 100), ('max_per_img', 20)):
            if key in node:
                node[key] = min(node[key], limit)
        if node.get('type') == 'RandomSampler':
            node['num'] = 16
    return config


def build_model(config: Config) -> nn.Module:
    """The model of a config with weights of seed 0."""
    set_random_seed(0)
    return MODELS.build(config.model)


def dicts_in(node):
    """All dicts nested in a config."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from dicts_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from dicts_in(value)


def demo_batch(config: Config) -> dict:
    """Two random images with boxes, masks and a semantic map in the classes of the model, of different sizes."""
    model = config.model
    fusion = model.get('panoptic_fusion_head') or ConfigDict(
        num_things_classes=(model.get('roi_head') or model).bbox_head.num_classes, num_stuff_classes=2
    )
    data = demo_mm_inputs(
        image_shapes=[(3, 128, 160), (3, 96, 128)],
        num_items=[4, 1],
        num_classes=fusion.num_things_classes + fusion.num_stuff_classes,
        with_mask=True,
        with_semantic=True,
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels %= fusion.num_things_classes
        height, width = sample.img_shape
        sample.set_metainfo(dict(ori_shape=(2 * height, 2 * width), scale_factor=(0.5, 0.5)))
        # What an oracle looks at: one thing, at the original size.
        ids = torch.zeros((1, 2 * height, 2 * width), dtype=torch.int32)
        ids[:, 20:60, 20:80] = 1
        thing = dict(id=1, label=0, is_thing=True, iscrowd=0, bbox=[20, 20, 60, 40])
        sample.gt_panoptic_seg = PixelData(sem_seg=ids, metainfo=dict(segments_info=[thing]))
    return data
