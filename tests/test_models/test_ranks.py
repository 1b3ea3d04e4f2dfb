"""One process and two: losses and weights, as docs/ranks.md says."""

import re

import pytest
import torch
from helpers.rank_training import SYSTEMS, Training
from helpers.ranks import run_one_and_two
from helpers.repo import ROOT

pytestmark = pytest.mark.slow
RTOL = 2e-6  # of a loss, whose pixels all cost about the same at first: other normalisers may change it by 1e-5
ATOL = 1e-5  # of a weight
NO_LOSSES = ('loss', 'acc', 'conflict_pixels')


@pytest.fixture(scope='module')
def runs(tiny_shapes, tmp_path_factory) -> tuple[dict, list[dict]]:
    """Trainings of one process, and of each of two."""
    folder = tmp_path_factory.mktemp('ranks')
    one, two = run_one_and_two(folder, '-m', 'helpers.rank_training', tiny_shapes)
    return as_trainings(one), [as_trainings(rank) for rank in two]


def as_trainings(result: dict) -> dict[tuple[str, str], Training]:
    return {key: Training(**value) for key, value in result.items()}


def documented() -> dict[str, dict[str, bool]]:
    """Of each system, whether a loss is the same on several processes, by the table."""
    found = {system: {} for system in SYSTEMS}
    for row in re.findall(r'^\| (`.*) \|$', (ROOT / 'docs/ranks.md').read_text(), re.MULTILINE):
        losses, systems, _, verdict, _ = row.split(' | ')
        assert verdict.startswith(('yes', 'no'))
        for system in systems.split(', '):
            for name in re.findall(r'`(\w+)`', losses):
                assert name not in found[system]
                found[system][name] = verdict.startswith('yes')
    return found


def relative_differences(one: dict[str, float], two: list[dict[str, float]]) -> dict[str, float]:
    """Of each loss, between the one process and the mean of the two."""
    assert all(rank.keys() == one.keys() for rank in two)
    return {name: abs(sum(rank[name] for rank in two) / len(two) - value) / value for name, value in one.items()}


def assert_same_weights(one: Training, two: list[Training]) -> None:
    for rank in two:
        assert rank.weights.keys() == one.weights.keys()
        for name, weight in one.weights.items():
            torch.testing.assert_close(rank.weights[name], weight, rtol=0, atol=ATOL, msg=name)


@pytest.mark.parametrize('system', SYSTEMS)
def test_losses_are_those_of_one_process_where_the_page_says_so(runs, system):
    """Each image has its own ground truth, so that processes have unequal numbers of positives and of labels."""
    one, *two = (run[system, 'own'] for run in (runs[0], *runs[1]))
    differences = relative_differences(one.losses[0], [rank.losses[0] for rank in two])
    verdicts = documented()[system]
    assert verdicts.keys() == differences.keys() - set(NO_LOSSES)
    for name, is_same in verdicts.items():
        assert (differences[name] <= RTOL) == is_same, f'{name}: {differences[name]:.1e}'
        ranks = [rank.losses[0][name] for rank in two]
        assert ranks[0] != pytest.approx(ranks[1], rel=RTOL), f'{name}: both ranks have the same by themselves'


@pytest.mark.parametrize('system', SYSTEMS)
def test_with_equal_normalisers_everything_is_that_of_one_process(runs, system):
    """Images of the two have the same ground truth and different pixels."""
    one, *two = (run[system, 'shared'] for run in (runs[0], *runs[1]))
    assert two[0].losses != two[1].losses
    for iteration, losses in enumerate(one.losses):
        differences = relative_differences(losses, [rank.losses[iteration] for rank in two])
        assert max(differences.values()) <= RTOL, differences
    assert_same_weights(one, two)


def test_what_divides_by_numbers_of_all_processes_needs_no_equal_ones(runs):
    """A system all of whose losses are the same stays the same over the iterations, with any images."""
    equal = [system for system, verdicts in documented().items() if all(verdicts.values())]
    assert equal == ['CIAE']
    for system in equal:
        one, *two = (run[system, 'own'] for run in (runs[0], *runs[1]))
        assert max(relative_differences(one.losses[1], [rank.losses[1] for rank in two]).values()) <= RTOL
        assert_same_weights(one, two)


@pytest.mark.parametrize('system', SYSTEMS)
def test_weights_move(runs, system):
    """Or else their being equal would say nothing."""
    own, shared = (runs[0][system, truths].weights for truths in ('own', 'shared'))
    moved = [name for name in own if not torch.allclose(own[name], shared[name], rtol=0, atol=10 * ATOL)]
    assert len(moved) > 10
