"""Models of other toolboxes, for comparisons."""

from pathlib import Path

import mmdet
import mmdet.models
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.utils import UserError

#: Configs in mmdet's folder of configs, by the name of the model here.
RIVALS = {'mmdet': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'}


def load_rival(name: str, device: str | None = None) -> tuple[nn.Module, Config]:
    """mmdet's own Panoptic FPN (R50, 80 things, 53 stuff) with random weights, in eval mode, and its config.

    Raises:
        UserError: If the installed mmdet has no configs.
    """
    path = Path(mmdet.__file__).parent / '.mim/configs' / RIVALS[name]
    if not path.is_file():
        raise UserError(f'{path} does not exist: install mmdet with its configs')
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None  # random weights, no download
    init_default_scope('mmdet')
    try:
        model = MODELS.build(config.model)
    finally:
        init_default_scope('mmpanoptic')
    return model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval(), config
