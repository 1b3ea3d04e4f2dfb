"""The tool that draws figure 5 of OANet."""

import csv
from pathlib import Path

import cv2
import pytest
import torch
from fixtures.tiny_run import ITERS_PER_EPOCH
from helpers.repo import load_tool, run_main
from mmengine.config import Config

from mmpanoptic.apis import load_model
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/branch_gradients')


def rows_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / 'branch_gradients.csv', newline='') as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_an_epoch(tiny_config, monkeypatch, capsys, tmp_path):
    run_main(TOOL, monkeypatch, tiny_config, '--out', tmp_path, '--interval', '3')
    rows = rows_of(tmp_path)
    assert [row['iteration'] for row in rows] == [1, ITERS_PER_EPOCH]
    assert all(row['stuff'] > 0 and row['instance'] > 0 for row in rows)
    assert cv2.imread(str(tmp_path / 'branch_gradients.png')).std() > 0
    assert 'stuff: ' in (printed := capsys.readouterr().out) and 'on average of 2 measurements' in printed
    assert not list(tmp_path.rglob('*.pth'))


def test_from_a_checkpoint(tiny_config, monkeypatch, tmp_path):
    """Nothing comes back through weights that are all 0."""
    model, _ = load_model(Config.fromfile(tiny_config), device='cpu')
    weights = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'zero.pth')
    run_main(TOOL, monkeypatch, tiny_config, tmp_path / 'zero.pth', '--out', tmp_path / 'out', '--iters', '1')
    assert rows_of(tmp_path / 'out') == [dict(iteration=1, stuff=0, instance=0)]


def test_refusals(tiny_config, monkeypatch, tmp_path):
    for args, message in (
        (('--iters', '0'), '--iters 0: at least 1'),
        (('--interval', '0'), '--interval 0: at least 1'),
        (('--iters', '1', '--stuff', 'loss_sem'), 'no loss has a name with loss_sem in it: the losses are'),
    ):
        with pytest.raises(UserError, match=message):
            run_main(TOOL, monkeypatch, tiny_config, '--out', tmp_path / 'out', *args)
    with pytest.raises(UserError, match='does not exist'):
        run_main(TOOL, monkeypatch, tiny_config, 'nowhere.pth', '--out', tmp_path / 'out')
