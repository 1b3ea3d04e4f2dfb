"""mmdet's generators of anchors and points, which make them once for each size of the input and then keep them."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from mmdet.models.task_modules import prior_generators
from torch import Tensor

from mmpanoptic.registry import TASK_UTILS

#: Number of results that are kept, the latest ones; the anchors of an image of 800x1333 pixels take 4 MB.
KEPT = 16


class KeptPriors:
    """Mixin that keeps the results of a prior generator. Inherit it before the generator.

    Priors depend on sizes alone, and making them takes 10 kernels a level. The tensors that are returned are shared and
    must not be changed.
    """

    def grid_priors(self, featmap_sizes: list[tuple], *args: Any, **kwargs: Any) -> list[Tensor]:
        """See the generator."""
        generator: Any = super()
        return self._kept('grid_priors', generator.grid_priors, featmap_sizes, *args, **kwargs)

    def valid_flags(self, featmap_sizes: list[tuple], *args: Any, **kwargs: Any) -> list[Tensor]:
        """See the generator."""
        generator: Any = super()
        return self._kept('valid_flags', generator.valid_flags, featmap_sizes, *args, **kwargs)

    def _kept(self, name: str, make: Callable, sizes: list[tuple], *args: Any, **kwargs: Any) -> list[Tensor]:
        """Result of ``make``, or the kept result of an earlier call with the same arguments."""
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
