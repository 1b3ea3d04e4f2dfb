"""mmdet's anchors and locations, which are made once for each size of the input and then kept."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from mmdet.models.task_modules import prior_generators
from torch import Tensor

from mmpanoptic.registry import TASK_UTILS

#: How many results are kept, the latest ones; the anchors of an image of 800x1333 pixels take 4 MB.
KEPT = 16


class KeptPriors:
    """To be inherited before a generator of priors: they depend on sizes alone, and take 10 kernels a level to make.

    What is given is shared, and must not be changed.
    """

    def grid_priors(self, featmap_sizes: list[tuple], *args, **kwargs) -> list[Tensor]:
        """See the original."""
        return self._kept('grid_priors', super().grid_priors, featmap_sizes, *args, **kwargs)

    def valid_flags(self, featmap_sizes: list[tuple], *args, **kwargs) -> list[Tensor]:
        """See the original."""
        return self._kept('valid_flags', super().valid_flags, featmap_sizes, *args, **kwargs)

    def _kept(self, name: str, make: Callable, sizes: list[tuple], *args: Any, **kwargs: Any) -> list[Tensor]:
        """What ``make`` gives, or gave for the same arguments."""
        if torch.compiler.is_compiling():
            return make(sizes, *args, **kwargs)
        kept = self.__dict__.setdefault('_results', OrderedDict())
        key = (name, *map(tuple, sizes), *(tuple(arg) if isinstance(arg, (list, tuple)) else str(arg) for arg in args))
        key += tuple((keyword, str(kwargs[keyword])) for keyword in sorted(kwargs))
        if key not in kept:
            with torch.inference_mode(False):  # autograd may not keep what is made in inference mode
                kept[key] = make(sizes, *args, **kwargs)
            if len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return list(kept[key])


@TASK_UTILS.register_module()
class AnchorGenerator(KeptPriors, prior_generators.AnchorGenerator):
    """See :class:`mmdet.models.task_modules.AnchorGenerator`."""


@TASK_UTILS.register_module()
class MlvlPointGenerator(KeptPriors, prior_generators.MlvlPointGenerator):
    """See :class:`mmdet.models.task_modules.MlvlPointGenerator`."""
