"""Queries of categories that are remembered over the iterations."""

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MessageHub
from torch import Tensor, nn


def scheduled_momentum(momentum: float, iteration: int, max_iters: int) -> float:
    """1 - (1 - ``momentum``) (1 - t / T)^3: rises from ``momentum`` at first to 1 at last.

    Source: CIAE, equation 13, https://arxiv.org/abs/2009.13342

    Args:
        momentum: The value at t = 0.
        iteration: t; beyond T it counts as T.
        max_iters: T.
    """
    return 1 - (1 - momentum) * (1 - min(iteration / max_iters, 1)) ** 3


class CategoryMemory(nn.Module):
    """A unit vector for each category, at first a random one, that follows the category's mean embedding.

    Row c becomes L2norm(λ row + (1 - λ) mean), with the mean a unit vector, where c is present, and stays otherwise.
    λ is :func:`scheduled_momentum` of the iteration and the number of iterations that the runner tells.

    ``embeddings`` of shape (C, D) is a buffer: saved with the model, never touched by the optimizer. Processes whose
    random generators differ draw other rows each: the first update in training hands all of them those of the first.

    Source: CIAE, section III, https://arxiv.org/abs/2009.13342

    Args:
        num_categories: Number of categories C.
        dims: Length D of an embedding.
        momentum: λ at the first iteration.
        max_iters: Number of iterations where no runner tells one. If that is None, λ stays at ``momentum`` there.
    """

    embeddings: Tensor

    def __init__(self, num_categories: int, dims: int, momentum: float = 0.9999, max_iters: int | None = None) -> None:
        super().__init__()
        self.momentum = momentum
        self.max_iters = max_iters
        self._is_shared = False
        self.register_buffer('embeddings', F.normalize(torch.randn(num_categories, dims), dim=1))

    def current_momentum(self) -> float:
        """λ of the iteration that the runner is at, the first if there is no runner."""
        hub = MessageHub.get_current_instance()
        max_iters = hub.get_info('max_iters', self.max_iters)
        if not max_iters:
            return self.momentum
        return scheduled_momentum(self.momentum, hub.get_info('iter', 0), max_iters)

    @torch.no_grad()
    def update(self, sums: Tensor, present: Tensor) -> None:
        """Take in a batch; in evaluation, nothing.

        All processes must call it: the categories' means are those of the batch over all of them. Means without a
        direction, zero or, as when half precision overflows, not finite, are left out, as the rows could not recover
        from them.

        Args:
            sums: Sum of each category's embeddings on this process, of shape (C, D).
            present: Which categories this process has seen, bool of shape (C,).
        """
        if not self.training:
            return
        if not self._is_shared:
            dist.broadcast(self.embeddings)
            self._is_shared = True
        everything = torch.cat([sums, present[:, None].to(sums.dtype)], dim=1)
        dist.all_reduce(everything)
        means = F.normalize(everything[:, :-1], dim=1).to(self.embeddings.dtype)
        changes = (everything[:, -1] > 0) & means.isfinite().all(1) & means.any(1)
        momentum = self.current_momentum()
        updated = F.normalize(momentum * self.embeddings + (1 - momentum) * means, dim=1)
        self.embeddings.copy_(torch.where(changes[:, None], updated, self.embeddings))
