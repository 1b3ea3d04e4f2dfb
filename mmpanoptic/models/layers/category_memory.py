"""Category queries that are kept and updated over the iterations."""

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MessageHub
from torch import Tensor, nn


def scheduled_momentum(momentum: float, iteration: int, max_iters: int) -> float:
    """1 - (1 - ``momentum``) (1 - t / T)^3, which rises from ``momentum`` at t = 0 to 1 at t = T.

    Source: CIAE, equation 13, https://arxiv.org/abs/2009.13342

    Args:
        momentum: The value at t = 0.
        iteration: t; beyond T it counts as T.
        max_iters: T.
    """
    return 1 - (1 - momentum) * (1 - min(iteration / max_iters, 1)) ** 3


class CategoryMemory(nn.Module):
    """One unit vector for each category, initialised at random, that follows the category's mean embedding.

    If category c is present in a batch, row c becomes L2norm(λ row + (1 - λ) mean), with the mean a unit vector;
    otherwise it stays. λ is :func:`scheduled_momentum` of the runner's iteration and number of iterations.

    ``embeddings`` of shape (C, D) is a buffer: saved with the model, never touched by the optimizer. Processes with
    different random generators draw different rows, so the first update in training broadcasts those of process 0.

    Source: CIAE, section III, https://arxiv.org/abs/2009.13342

    Args:
        num_categories: Number of categories C.
        dims: Length D of an embedding.
        momentum: λ at the first iteration.
        max_iters: Number of iterations if there is no runner. If None, λ stays at ``momentum`` without a runner.
    """

    embeddings: Tensor

    def __init__(self, num_categories: int, dims: int, momentum: float = 0.9999, max_iters: int | None = None) -> None:
        super().__init__()
        self.momentum = momentum
        self.max_iters = max_iters
        self._is_shared = False
        self.register_buffer('embeddings', F.normalize(torch.randn(num_categories, dims), dim=1))

    def current_momentum(self) -> float:
        """λ of the runner's current iteration, or of the first iteration if there is no runner."""
        hub = MessageHub.get_current_instance()
        max_iters = hub.get_info('max_iters', self.max_iters)
        if not max_iters:
            return self.momentum
        return scheduled_momentum(self.momentum, hub.get_info('iter', 0), max_iters)

    @torch.no_grad()
    def update(self, sums: Tensor, present: Tensor) -> None:
        """Update the rows with a batch; do nothing in eval mode.

        All processes must call it: the categories' means are taken over the batches of all processes. Means that are
        zero or not finite (as when half precision overflows) are skipped, because a row could not recover from them.

        Args:
            sums: Sum of each category's embeddings on this process, of shape (C, D).
            present: Which categories this process has seen, bool of shape (C,).
        """
        if not self.training:
            return
        if not self._is_shared:
            dist.broadcast(self.embeddings)
            self._is_shared = True
        sums_and_counts = torch.cat([sums, present[:, None].to(sums.dtype)], dim=1)
        dist.all_reduce(sums_and_counts)
        means = F.normalize(sums_and_counts[:, :-1], dim=1).to(self.embeddings.dtype)
        changes = (sums_and_counts[:, -1] > 0) & means.isfinite().all(1) & means.any(1)
        momentum = self.current_momentum()
        updated = F.normalize(momentum * self.embeddings + (1 - momentum) * means, dim=1)
        self.embeddings.copy_(torch.where(changes[:, None], updated, self.embeddings))
