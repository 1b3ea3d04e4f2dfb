"""Fully-connected layer with norm and ReLU."""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine import dist
from mmengine.model import BaseModule, caffe2_xavier_init, constant_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class FCModule(BaseModule):
    """Linear layer (with bias), norm and ReLU: for vectors what mmcv's ConvModule is for maps.

    The norm sees maps of one pixel, so that every type in mmcv's registry that norms channels fits. A batch norm that
    is given a single vector in training has no variance to estimate: it then uses its running statistics.

    Args:
        in_features: Size of the input once it is flattened.
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
            # By name: mmengine swaps SyncBN modules for BN when there is nothing to sync with.
            x = normalize(getattr(self, self.norm_name), x[..., None, None]).flatten(1)
        return F.relu(x)


def normalize(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm to (R, C, 1, 1), in training with running statistics if a batch norm would see one value a channel.

    A synchronized norm counts the values of all processes, which have to take part in any case.
    """
    alone = isinstance(norm, _BatchNorm) and norm.training and len(x) == 1
    if not alone or (isinstance(norm, nn.SyncBatchNorm) and dist.get_world_size() > 1):
        return norm(x)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps)
