"""Memory of CIAE's loss for one large image."""

import pytest
from helpers.process_memory import needs_linux, printed_alone

HEIGHT, WIDTH, NUM_INSTANCES, NUM_STUFF = 800, 1344, 20, 53
SIMILARITIES = HEIGHT * WIDTH * (NUM_STUFF + 1 + NUM_STUFF + NUM_INSTANCES) * 4  # bytes, float32
LIMIT = 3

STEP = f"""
import torch
from mmpanoptic.models import CategoryMemory, CIAELoss
from mmpanoptic.models.losses import EmbeddingTargets
from helpers.process_memory import peak_bytes, resident_bytes

torch.manual_seed(0)
categories = torch.randint(0, {NUM_STUFF}, ({HEIGHT}, {WIDTH}))
instances = torch.full(({HEIGHT}, {WIDTH}), -1)
boxes = []
for index in range({NUM_INSTANCES}):
    x, y = 60 * index, 30 * index
    instances[y : y + 200, x : x + 150] = index
    boxes.append([x, y, x + 150, y + 200])
categories[instances >= 0] = {NUM_STUFF}
targets = [EmbeddingTargets(categories, instances, torch.tensor(boxes).float())]
memory, loss = CategoryMemory({NUM_STUFF} + 1, 32), CIAELoss()
# Threads and the first convolutions of autograd take memory of their own: not the loss's.
small = [EmbeddingTargets(categories[:64, :64].clone(), instances[:64, :64].clone() % 2, targets[0].boxes)]
sum(loss(torch.randn(1, 32, 16, 16, requires_grad=True), small, memory, {NUM_STUFF}).values()).backward()
raw = torch.randn(1, 32, {HEIGHT} // 4, {WIDTH} // 4, requires_grad=True)
before = resident_bytes()
sum(loss(raw, targets, memory, {NUM_STUFF}).values()).backward()
assert raw.grad.abs().sum() > 0
print(peak_bytes() - before)
"""


@pytest.mark.slow
@needs_linux
def test_loss_takes_little_more_than_its_similarities():
    """Forward and backward at 800x1344, 54 categories, 20 instances, against the two similarity matrices."""
    peak = printed_alone(STEP)
    print(f'peak of the loss: {peak / 2**20:.0f} MiB, {peak / SIMILARITIES:.2f} of its similarities')
    assert peak <= LIMIT * SIMILARITIES
