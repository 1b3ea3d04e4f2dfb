"""Checkpoints that were made to do harm: one line that names the file, or plain data, and nothing is run."""

import contextlib
import io
import numbers
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.attack import WrongError, amount, try_files
from helpers.mutate_bytes import damaged
from helpers.mutate_pickles import archive, attack_pickle, hostile_pickle, lying_safetensors, old_file
from helpers.process_memory import needs_linux
from mmengine.logging import HistoryBuffer

from mmpanoptic.engine.checkpoint_files import read_checkpoint

pytestmark = [pytest.mark.slow, needs_linux]
_PLAIN = (str, bytes, numbers.Number, type(None), torch.dtype, torch.device, np.dtype, np.generic)


def check_plain(value: object) -> None:
    """Refuse anything that is not data; only what has exactly the type of a container is looked into."""
    if type(value).__name__ in ('dict', 'OrderedDict', 'Counter') and isinstance(value, dict):
        for pair in dict.items(value):
            check_plain(pair)
    elif type(value) in (list, tuple, set, frozenset, torch.Size):
        for item in value:
            check_plain(item)
    elif type(value) is torch.Tensor:
        value.sum() if value.dtype.is_floating_point and value.dtype.itemsize > 1 else value.shape  # it can be read
    elif type(value) is np.ndarray:
        if value.dtype.hasobject:
            raise WrongError(f'an array of {value.dtype}')
    elif type(value) is HistoryBuffer:
        check_plain([value._log_history, value._count_history])
    elif not isinstance(value, _PLAIN):
        raise WrongError(f'a {type(value)} came out')


def good_checkpoint() -> bytes:
    buffer = io.BytesIO()
    weights = dict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.ones(2))
    history = HistoryBuffer(np.arange(4.0), np.ones(4, int), 10)
    meta = dict(epoch=1, dataset_meta=dict(classes=('a',)), config='raise SystemExit')
    torch.save(dict(state_dict=weights, meta=meta, message_hub=dict(log_scalars=dict(loss=history))), buffer)
    return buffer.getvalue()


def same_weights(content: object, good: dict) -> bool:
    """Whether what was read, in spite of some damage, is what was written: archives have checksums."""
    weights = content.get('state_dict') if isinstance(content, dict) else None
    return weights is not None and all(torch.equal(weights[key], value) for key, value in good['state_dict'].items())


def kinds(marker: str) -> dict:
    """By attack: how many cases of 7500, the file's name, and what makes its bytes."""
    good = good_checkpoint()
    old = io.BytesIO()
    torch.save(dict(state_dict=torch.nn.Linear(3, 2).state_dict()), old, _use_new_zipfile_serialization=False)
    return {
        'random pickles': (3000, 'x.pth', lambda rng: archive(rng, hostile_pickle(rng, marker))),
        'random pickles, old format': (1000, 'x.pth', lambda rng: old_file(rng, hostile_pickle(rng, marker))),
        'payloads': (500, 'x.pth', lambda rng: archive(rng, attack_pickle(rng, marker))),
        'payloads, old format': (500, 'x.pth', lambda rng: old_file(rng, attack_pickle(rng, marker))),
        'damaged archives': (1000, 'x.pth', lambda rng: damaged(good, rng, good)),
        'damaged old files': (500, 'x.pth', lambda rng: damaged(old.getvalue(), rng, good)),
        'safetensors': (1000, 'x.safetensors', lying_safetensors),
    }


@pytest.mark.parametrize('kind', kinds(''))
def test_hostile_checkpoints(kind, tmp_path):
    marker, root = tmp_path / 'ran', tmp_path / 'files'
    root.mkdir()
    count, name, make = kinds(str(marker))[kind]
    (root / name).write_bytes(good_checkpoint())

    good = read_checkpoint(root / name) if name.endswith('.pth') else None

    def verdict(folder: Path, _) -> str:
        try:
            content = read_checkpoint(folder / name)
        finally:
            if marker.exists():
                marker.rmdir()
                raise WrongError('a payload was run')
        check_plain(content)
        if kind == 'damaged archives' and not same_weights(content, good):
            raise WrongError('read with other weights')
        return 'read'

    try_files(f'checkpoint: {kind}', amount(count), root, lambda rng: {name: make(rng)}, verdict)
    assert not marker.exists() and sorted(path.name for path in root.iterdir()) == [name]


def test_the_payloads_are_real(tmp_path):
    """A loader that allows every name runs each of them."""
    for number in range(20):
        marker = tmp_path / str(number)
        with contextlib.suppress(Exception):  # what comes out does not fit
            pickle.loads(attack_pickle(random.Random(number), str(marker)))
        assert marker.exists(), number
