"""The tour for a first visit: the built-in dataset, a small panoptic model, its PQ, pictures. What `make demo` runs.

python tools/misc/demo.py [--data DIR] [--work-dir DIR] [--seed N]

Each step is a command of this project, printed before it runs; nothing here does what the tools cannot do. A GPU is
used if there is one.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, write_whole

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/panoptic_fpn/panoptic-fpn_r18_fpn_demo.py'
LONGER = 'configs/panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'
NUM_IMAGES = {'train': 500, 'val': 100}
SIZE = (128, 192)  # height and width, the config's
EPOCHS = 4  # of the config
NUM_PICTURES = 12
MEASURED_STEPS = 20  # after which the estimate is made: the first steps are slower than the others
TEST_SHARE = 0.15  # of the time of the training, what follows it takes: two starts of Python, 100 images, 12 pictures
PROGRESS = re.compile(r'Epoch\((train|test)\) *(?:\[ *(\d+)\])?\[ *(\d+)/ *(\d+)\]')
VALIDATION = re.compile(r'Validation after epoch (\d+): (.*)')

# What tools print goes through it with markup=False: it may hold brackets.
console = Console(highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make a dataset, train a small panoptic model, print its PQ, draw pictures: minutes without a GPU'
    )
    parser.add_argument('--data', default='data/demo', metavar='DIR', help='dataset to make (default: %(default)s)')
    parser.add_argument('--work-dir', default='work_dirs/demo', metavar='DIR', help='results (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='of the training (default: %(default)s)')
    return parser.parse_args()


def here(path: str) -> str:
    """A file of this project, as a user in the current folder calls it."""
    file = ROOT / path
    return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)


def run(title: str, command: list[str], log: Path | None = None, see: Callable[[str], None] | None = None) -> str:
    """Run one step and return what it printed.

    Args:
        title: What to call it.
        command: Arguments of this Python.
        log: Where the whole output goes; the terminal then gets the progress lines only. None: the terminal gets all.
        see: Is given every line of the output that goes to ``log``.
    """
    console.print(f'\n[bold]{title}[/bold]')
    console.print(f'$ python {" ".join(command)}', markup=False, soft_wrap=True)
    start = time.monotonic()
    if log is None:
        if subprocess.run([sys.executable, *command]).returncode:
            sys.exit('error: this step failed, for the reason above')
        output = ''
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = stream([sys.executable, *command], log, see)
    console.print(f'({time.monotonic() - start:.0f} s)')
    return output


def stream(command: list[str], log: Path, see: Callable[[str], None] | None = None) -> str:
    """Run a command, writing its output to ``log`` and its progress lines and tables to the terminal."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        for line in process.stdout:
            lines.append(line)
            if found := PROGRESS.search(line) or VALIDATION.search(line):
                console.print('  ' + line[found.start() :].strip(), overflow='ellipsis', no_wrap=True, markup=False)
            elif line[0] in '┏┃┡│├└':
                console.print('  ' + line.rstrip(), markup=False)
            if see is not None:
                see(line)
    write_whole(log, ''.join(lines))
    if process.returncode:
        console.print(''.join(lines[-15:]), markup=False)
        sys.exit(f'error: this step failed; its whole output is in {log}')
    return ''.join(lines)


class Training:
    """What is told of a training while it runs: how long it will take, and its first picture.

    Args:
        work_dir: Its work dir.
        epochs: How many epochs it has.
        now: Gives the time in seconds.
    """

    def __init__(self, work_dir: Path, epochs: int, now: Callable[[], float] = time.monotonic) -> None:
        self.work_dir, self.epochs, self.now = work_dir, epochs, now
        self._first: tuple[int, float] | None = None
        self._said = self._drawn = False

    def see(self, line: str) -> None:
        """Look at a line of the output."""
        if (found := PROGRESS.search(line)) and found[1] == 'train' and not self._said:
            step, per_epoch = int(found[3]), int(found[4])
            if self._first is None:
                self._first = step, self.now()
            elif step >= MEASURED_STEPS:
                seconds = (self.now() - self._first[1]) / (step - self._first[0])
                left = seconds * (per_epoch * self.epochs - step)
                self._said = True
                self.tell(
                    f'{seconds:.2f} s a step on this machine: training has {minutes(left)} to go, the whole demo '
                    f'{minutes(left * (1 + TEST_SHARE))}'
                )
        elif VALIDATION.search(line) and not self._drawn:
            pictures = sorted(self.work_dir.glob('*/vis_data/vis_image/*.png'), key=os.path.getmtime)
            if pictures:
                self._drawn = True
                self.tell(f'first picture (image, ground truth, prediction): {pictures[-1]}')

    def tell(self, text: str) -> None:
        """Print a line."""
        console.print(f'  [bold]>[/bold] {text}', soft_wrap=True)


def minutes(seconds: float) -> str:
    """A time as one says it."""
    return f'about {seconds:.0f} s' if seconds < 90 else f'about {seconds / 60:.1f} minutes'


def main() -> None:
    args = parse_args()
    # As fast as several for images so small, and much faster beside other work: threads wait by spinning.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    start = time.monotonic()
    data, work_dir = Path(args.data), Path(args.work_dir)
    config = here(CONFIG)
    if (data / 'annotations' / 'panoptic_val.json').exists():
        console.print(f'[bold]1/3 Dataset[/bold]: {data} is there already')
    else:
        numbers = [text for split, number in NUM_IMAGES.items() for text in (f'--{split}', str(number))]
        size = ['--size', *map(str, SIZE)]
        title = f'1/3 Dataset: {sum(NUM_IMAGES.values())} rendered street scenes'
        run(title, [here('tools/dataset_converters/shapes.py'), str(data), *numbers, *size])
    console.print(f'  [bold]>[/bold] an image of it: {data}/train/000000.png', soft_wrap=True)
    of_data = [f'{split}_dataloader.dataset.data_root={data}/' for split in ('train', 'val', 'test')]
    of_data = of_data if args.data != 'data/demo' else []
    train = [here('tools/train.py'), config, '--work-dir', str(work_dir)]
    options = [*of_data, *([f'randomness.seed={args.seed}'] if args.seed else [])]
    train += ['--cfg-options', *options] if options else []
    output = run(
        '2/3 Training: Panoptic FPN, from scratch, on the GPU if there is one',
        train,
        work_dir / 'train.log',
        Training(work_dir, EPOCHS).see,
    )
    if not (checkpoint := work_dir / 'last.pth').exists():
        raise UserError(f'{checkpoint} is not there: links cannot be made in {work_dir}, choose another --work-dir')
    test = [here('tools/test.py'), config, str(checkpoint), '--eval', 'PQ', '--work-dir', str(work_dir)]
    made = ['--show-dir', f'{work_dir}/pictures', '--report', f'{work_dir}/report']
    pictures = f'default_hooks.visualization.max_images={NUM_PICTURES}'
    output = run(
        f'3/3 Test: panoptic quality on {NUM_IMAGES["val"]} images, pictures, and a report on where PQ is lost',
        [*test, *made, '--cfg-options', *of_data, pictures],
        work_dir / 'test.log',
    )
    pq, things, stuff = re.search(r'│ PQ +│ +([\d.]+) │ +([\d.]+) │ +([\d.]+) │', output).groups()
    console.print(
        f'\n[bold]PQ {pq}[/bold] (things {things}, stuff {stuff}) after {(time.monotonic() - start) / 60:.1f} minutes\n'
        f'  dataset     {data}\n'
        f'  checkpoint  {checkpoint}\n'
        f'  pictures    {work_dir}/pictures/*.png (image, ground truth, prediction)\n'
        f'  report      {work_dir}/report/report.html (open it in a browser)\n'
        f'  logs        {work_dir}/*.log\n'
        'Next: all scores of every class; predictions of images; a longer training on more of them',
        soft_wrap=True,
    )
    metrics = test.index('PQ') + 1
    test[metrics:metrics] = ['bbox', 'segm', 'mIoU', '--classwise']
    test += ['--cfg-options', *of_data] if of_data else []
    predict = [here('tools/predict.py'), config, str(checkpoint), f'{data}/val', '--out', f'{work_dir}/predictions']
    shapes, longer = here('tools/dataset_converters/shapes.py'), here(LONGER)
    for command in (test, predict, [shapes, 'data/shapes', '&&', 'python', here('tools/train.py'), longer]):
        console.print(f'  python {" ".join(command)}', markup=False, soft_wrap=True)


if __name__ == '__main__':
    cli.run(main)
