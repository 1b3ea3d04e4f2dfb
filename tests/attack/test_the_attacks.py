"""The attacks see what they are made to see."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers.attack import SEED, TABLE, WrongError, try_files
from helpers.pq_cases import random_case, write_files
from helpers.process_memory import needs_linux
from helpers.second_reading import check_score

from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.utils import UserError

pytestmark = needs_linux


def test_what_is_no_survival(tmp_path, monkeypatch):
    monkeypatch.setenv('ATTACK_FAILURES', str(tmp_path / 'kept'))
    monkeypatch.setattr('helpers.attack.PATIENCE', 1)
    (tmp_path / 'files').mkdir()
    (tmp_path / 'files/a').write_bytes(b'good')

    def loop() -> None:
        while True:
            pass

    def refuse(text: str) -> None:
        raise UserError(text)

    outcomes = [
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        loop,
        lambda: np.ones(2**28),
        lambda: refuse('a: 1\n2'),
        lambda: refuse('b'),
        lambda: 1 / 0,
    ]

    order = [random.Random(f'{SEED}:self:{number}').random() for number in range(len(outcomes))]

    def make(rng: random.Random) -> dict[str, bytes]:
        return {'a': str(order.index(rng.random())).encode()}

    def verdict(folder: Path, files: dict) -> str:
        outcomes[int(files['a'])]()
        return 'read'

    with pytest.raises(pytest.fail.Exception):
        try_files('self', len(outcomes), tmp_path / 'files', make, verdict)
    tried = TABLE.pop()
    assert len(tried.failures) == len(outcomes)
    for failure, words in zip(
        tried.failures,
        ('ended with -9', 'TimeoutError', 'MemoryError', 'several lines', 'names no file', 'ZeroDivisionError'),
        strict=True,
    ):
        assert words in failure and 'kept in' in failure
    assert (tmp_path / 'files/a').read_bytes() == b'good'
    assert len(list((tmp_path / 'kept').iterdir())) == len(outcomes)


def test_a_wrong_score_is_noticed(tmp_path):
    scored = write_files(tmp_path, [random_case(seed) for seed in (1, 2, 3)])
    score = evaluate_files(*scored)
    check_score(score, *scored)
    score['All']['pq'] += 1e-15
    with pytest.raises(WrongError, match='where the official rules give'):
        check_score(score, *scored)
