"""Memory of a training step of the full PANet."""

import pytest
from helpers.process_memory import needs_linux, printed_alone

LIMIT_GIB = 16

STEP = """
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmdet.testing import demo_mm_inputs
from mmpanoptic.registry import MODELS
from helpers.process_memory import peak_bytes

init_default_scope('mmpanoptic')
config = Config.fromfile('configs/panet/panet_r50_fpn_syncbn_160k_coco.py')
model = MODELS.build(config.model).train()
optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
data = demo_mm_inputs(1, image_shapes=[(3, 800, 1333)], num_items=[10], num_classes=80, with_mask=True)
losses = model.train_step(data, optim_wrapper)
assert losses['loss'].isfinite(), losses
print(peak_bytes() / 2**30)
"""


@pytest.mark.slow
@needs_linux
def test_training_step_of_panet_fits():
    """One image of 800x1333, R50, masks and heavier head, nothing frozen, optimizer included."""
    peak = printed_alone(STEP)
    print(f'peak memory of the process: {peak:.1f} GiB')
    assert peak <= LIMIT_GIB
