"""Fully-connected layer with norm and ReLU."""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine import dist
from mmengine.model import BaseModule, caffe2_xavier_init, constant_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class FCModule(BaseModule):
    """Linear layer (with bias), norm and ReLU: the counterpart of mmcv's ConvModule for vectors.

    The norm is applied to maps of one pixel, so every norm over channels in mmcv's registry can be used. A batch norm
    that is given a single vector in training has no variance to estimate: it then uses its running statistics.

    Args:
        in_features: Size of the flattened input.
        out_features: Size of the output.
        norm_cfg: Norm over ``out_features``, or None.
    """

    def __init__(self, in_features: int, out_features: int, norm_cfg: dict | None = None) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features)
        self.norm_name = None
        if norm_cfg is not None:
            self.norm_name, norm = build_norm_layer(norm_cfg, out_features)
            self.add_module(self.norm_name, norm)
        self.init_weights()

    def init_weights(self) -> None:
        """Caffe2's Xavier, as in PANet's released code."""
        caffe2_xavier_init(self.fc)
        if self.norm_name is not None:
            constant_init(getattr(self, self.norm_name), 1, bias=0)

    def forward(self, x: Tensor) -> Tensor:
        """(R, ...), flattened to (R, ``in_features``), to (R, ``out_features``)."""
        x = self.fc(x.flatten(1))
        if self.norm_name is not None:
            # By name, because mmengine replaces SyncBN modules by BN when there is a single process.
            x = normalize(getattr(self, self.norm_name), x[..., None, None]).flatten(1)
        return F.relu(x)


def normalize(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm to (R, C, 1, 1); a batch norm in training with R = 1 uses its running statistics.

    A synchronized norm counts the values of all processes, and every process has to take part in any case.
    """
    is_synchronized = isinstance(norm, nn.SyncBatchNorm) and dist.get_world_size() > 1
    if not (isinstance(norm, _BatchNorm) and norm.training and len(x) == 1) or is_synchronized:
        return norm(x)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps)
