"""Mixed precision: the choice of the type, and an optimizer wrapper for bfloat16 that also runs on a CPU."""

from contextlib import AbstractContextManager

import torch
from mmengine import optim
from mmengine.config import Config

from mmpanoptic.registry import OPTIM_WRAPPERS
from mmpanoptic.utils import UserError, require_choice

DTYPES = ('float16', 'bfloat16')


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(optim.AmpOptimWrapper):
    """mmengine's wrapper, which also trains in bfloat16 on a CPU, and scales losses in float16 only.

    bfloat16 has the range of float32, so that gradients do not underflow and need no scaling. Trainings of either type
    can be resumed in the other.

    Args:
        loss_scale: See :class:`mmengine.optim.AmpOptimWrapper`; without effect in bfloat16.
        dtype: 'float16' or 'bfloat16'; None: float16 with a GPU, otherwise bfloat16.
        use_fsdp: See :class:`mmengine.optim.AmpOptimWrapper`; without effect on a CPU.
        kwargs: See :class:`mmengine.optim.AmpOptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is neither of the two, or float16 on a CPU.
    """

    def __init__(
        self, loss_scale: str | float | dict = 'dynamic', dtype: str | None = None, use_fsdp: bool = False, **kwargs
    ) -> None:
        has_gpu = torch.cuda.is_available()
        dtype = dtype or default_dtype()
        require_choice('dtype', dtype, DTYPES)
        if has_gpu:
            super().__init__(loss_scale, dtype, use_fsdp, **kwargs)
        else:
            if dtype == 'float16':
                raise ValueError("dtype 'float16' needs a GPU: take 'bfloat16'")
            optim.OptimWrapper.__init__(self, **kwargs)  # AmpOptimWrapper's own needs a GPU
            self.cast_dtype, self._scale_update_param = torch.bfloat16, None
        if dtype == 'bfloat16':
            self.loss_scaler = torch.amp.GradScaler('cuda' if has_gpu else 'cpu', enabled=False)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state; the state of the scaler only if both have a scaler."""
        if not state_dict.get('loss_scaler', True):  # from a training in bfloat16
            state_dict.pop('loss_scaler')
        super().load_state_dict(state_dict)


def default_dtype() -> str:
    """The default type of mixed precision on this machine."""
    return 'float16' if torch.cuda.is_available() else 'bfloat16'


def choose_precision(config: Config, amp: str | None) -> None:
    """Set the precision of a training in its config, from ``amp`` or the config itself.

    ``optim_wrapper=dict(type='AmpOptimWrapper', dtype='auto')`` in a config means float16 with a GPU and float32
    without.

    Args:
        config: The config, whose ``optim_wrapper`` is changed.
        amp: A type from ``DTYPES``, 'auto' for the device's default, or None: as the config says.

    Raises:
        UserError: If the device does not support the type.
    """
    wrapper = config.optim_wrapper
    if amp is not None:
        if wrapper.get('type') != 'AmpOptimWrapper':
            wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
        if amp != 'auto':
            wrapper.dtype = amp
    if wrapper.get('dtype') == 'auto':
        wrapper.dtype = None
        if amp is None and not torch.cuda.is_available():
            use_full_precision(config)
    kind = wrapper.get('type', 'OptimWrapper')  # mmengine's default
    if kind == 'OptimWrapper':
        for key in ('loss_scale', 'dtype'):  # left over if mixed precision was switched off
            wrapper.pop(key, None)
    elif kind == 'AmpOptimWrapper':
        said = wrapper.get('dtype')
        wrapper.dtype = said or default_dtype()
        if wrapper.dtype not in DTYPES:
            raise UserError(f'optim_wrapper.dtype is {wrapper.dtype!r}: mixed precision has {" and ".join(DTYPES)}')
        _require_dtype(wrapper.dtype, '--amp bfloat16' if amp else '--cfg-options optim_wrapper.dtype=bfloat16')
        if said is None and wrapper.dtype == 'bfloat16':
            print('mixed precision is bfloat16: this machine has no GPU for float16')


def use_full_precision(config: Config) -> None:
    """Train in float32, whatever the config says."""
    wrapper = config.optim_wrapper
    if wrapper.get('type') == 'AmpOptimWrapper':
        wrapper.update(type='OptimWrapper')
        for key in ('loss_scale', 'dtype'):
            wrapper.pop(key, None)


def precision_of(device: torch.device, dtype: str) -> AbstractContextManager:
    """Autocast on a device to a type from :data:`DTYPES`, or a context without effect for 'float32'."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != 'float32')


def require_precision(device: torch.device, dtype: str) -> None:
    """Refuse a precision for prediction that a device does not support.

    Raises:
        UserError: If the device does not support it, or there is no such precision.
    """
    if dtype not in ('float32', *DTYPES):
        raise UserError(f'dtype {dtype!r} is no precision: choose float32, {" or ".join(DTYPES)}', 'dtype')
    if dtype == 'float16' and device.type == 'cpu':
        raise UserError(f'dtype float16 is for GPUs, and the device is {device}: take bfloat16 or float32', 'dtype')
    if dtype == 'bfloat16' and device.type == 'cuda' and not torch.cuda.is_bf16_supported():
        raise UserError(f'{device} has no bfloat16: take dtype float16', 'dtype')


def _require_dtype(dtype: str, way_out: str) -> None:
    has_gpu = torch.cuda.is_available()
    if dtype == 'float16' and not has_gpu:
        raise UserError(f'mixed precision in float16 needs a GPU, and this machine has none: take {way_out}')
    if dtype == 'bfloat16' and has_gpu and not torch.cuda.is_bf16_supported():
        raise UserError('this GPU has no bfloat16: take --amp float16 (optim_wrapper.dtype=float16)')
