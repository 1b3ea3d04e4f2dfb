"""The tour for a first visit: the built-in dataset, a small panoptic model, its PQ, pictures. What `make demo` runs.

Each step is a command of this project, printed before it runs; nothing here does what the tools cannot do.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from mmpanoptic.engine import cli
from mmpanoptic.utils import write_whole

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'
DATA = 'data/shapes'
WORK_DIR = 'work_dirs/demo'
NUM_PICTURES = 12
PROGRESS = re.compile(r'Epoch\((train|test)\)')

# What tools print goes through it with markup=False: it may hold brackets.
console = Console(highlight=False)


def run(title: str, command: list[str], log: Path | None = None) -> str:
    """Run one step and return what it printed.

    Args:
        title: What to call it.
        command: Arguments of this Python.
        log: Where the whole output goes; the terminal then gets the progress lines only. None: the terminal gets all.
    """
    console.print(f'\n[bold]{title}[/bold]\n$ python {" ".join(command)}')
    start = time.monotonic()
    if log is None:
        if subprocess.run([sys.executable, *command], cwd=ROOT).returncode:
            sys.exit('error: this step failed, for the reason above')
        output = ''
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = stream([sys.executable, *command], log)
    console.print(f'({time.monotonic() - start:.0f} s)')
    return output


def stream(command: list[str], log: Path) -> str:
    """Run a command, writing its output to ``log`` and its progress lines and final table to the terminal."""
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if PROGRESS.search(line):
                shown = '  ' + line[line.index('Epoch(') :].strip()
                console.print(shown, overflow='ellipsis', no_wrap=True, markup=False)
            elif line[0] in '┏┃┡│├└':
                console.print('  ' + line.rstrip(), markup=False)
    write_whole(log, ''.join(lines))
    if process.returncode:
        console.print(''.join(lines[-15:]), markup=False)
        sys.exit(f'error: this step failed; its whole output is in {log}')
    return ''.join(lines)


def main() -> None:
    start = time.monotonic()
    if (ROOT / DATA / 'annotations' / 'panoptic_val.json').exists():
        console.print(f'[bold]1/3 Dataset[/bold]: {DATA} is there already')
    else:
        converter = 'tools/dataset_converters/shapes.py'
        run('1/3 Dataset: 1200 rendered street scenes', [converter, DATA, '--train', '1000', '--val', '200'])
    run(
        '2/3 Training: Panoptic FPN, from scratch, about 5 minutes on two cores',
        # The test below scores the val set, so training need not.
        ['tools/train.py', CONFIG, '--work-dir', WORK_DIR, '--cfg-options', 'train_cfg.val_interval=1000'],
        ROOT / WORK_DIR / 'train.log',
    )
    checkpoint = (ROOT / WORK_DIR / 'last_checkpoint').read_text().strip()
    checkpoint = str(Path(checkpoint).resolve().relative_to(ROOT))
    pictures = f'{WORK_DIR}/pictures'
    test = ['tools/test.py', CONFIG, checkpoint, '--eval', 'PQ', '--work-dir', WORK_DIR]
    output = run(
        '3/3 Test: panoptic quality on 200 images, and pictures',
        [*test, '--show-dir', pictures, '--cfg-options', f'default_hooks.visualization.max_images={NUM_PICTURES}'],
        ROOT / WORK_DIR / 'test.log',
    )
    scores = dict(re.findall(r'panoptic/(PQ\w*): ([\d.]+)', output))
    console.print(
        f'\n[bold]PQ {scores["PQ"]}[/bold] (things {scores["PQ_th"]}, stuff {scores["PQ_st"]}) '
        f'after {(time.monotonic() - start) / 60:.1f} minutes\n'
        f'  dataset     {DATA}\n'
        f'  checkpoint  {checkpoint}\n'
        f'  pictures    {pictures}/*.png ({len(list((ROOT / pictures).glob("*.png")))} images: input, ground truth, '
        'prediction)\n'
        f'  logs        {WORK_DIR}/*.log\n'
        'Next:\n'
        '  source .venv/bin/activate\n'
        f'  python {" ".join(test[:5])} bbox segm mIoU\n'
        '  README.md, "Train on your own data"',
        soft_wrap=True,
    )


if __name__ == '__main__':
    cli.run(main)
