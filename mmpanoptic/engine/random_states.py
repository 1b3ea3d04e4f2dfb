"""States of random number generators, as plain values that a checkpoint can hold."""

import random
from typing import Any, cast

import numpy as np
import torch

State = dict[str, Any]


def random_state() -> State:
    """The states of Python's, numpy's and torch's generators in this process, and of its GPU's."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    state = dict(
        python=(version, np.array(numbers, np.uint32).tobytes(), gauss),
        numpy=(keys.tobytes(), position, has_gauss, cached),
        torch=_as_bytes(torch.get_rng_state()),
    )
    if torch.cuda.is_initialized():  # never true in a worker
        state['cuda'] = _as_bytes(torch.cuda.get_rng_state())
    return state


def set_random_state(state: State) -> None:
    """Restore the generators from a state that :func:`random_state` gave."""
    version, numbers, gauss = state['python']
    random.setstate((version, tuple(np.frombuffer(numbers, np.uint32).tolist()), gauss))
    keys, position, has_gauss, cached = state['numpy']
    np.random.set_state(('MT19937', np.frombuffer(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_as_tensor(state['torch']))
    if 'cuda' in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(_as_tensor(state['cuda']))


def after_draws(state: State, draws: int) -> State:
    """The state after torch has drawn this number of seeds for data loaders on the CPU."""
    if not draws:
        return state
    generator = torch.Generator()
    generator.set_state(_as_tensor(state['torch']))
    for _ in range(draws):
        torch.empty((), dtype=torch.int64).random_(generator=generator)
    return dict(state, torch=_as_bytes(generator.get_state()))


def _as_bytes(state: torch.Tensor) -> bytes:
    return state.numpy().tobytes()


def _as_tensor(state: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
