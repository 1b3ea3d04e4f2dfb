"""Run the demo (`make demo`): make the built-in dataset, train a small panoptic model, print its PQ, draw pictures.

python tools/misc/demo.py [--data DIR] [--work-dir DIR] [--seed N]

Each step is a command of this project, which is printed before it runs. A GPU is used if there is one.
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
SIZE = (128, 192)  # height and width in the config
EPOCHS = 4  # in the config
NUM_PICTURES = 12
MEASURED_STEPS = 20  # steps before the estimate is made; the first ones are slower
TEST_SHARE = 0.15  # time of the steps after training, relative to it: two starts of Python, 100 images, 12 pictures
PROGRESS = re.compile(r'Epoch\((train|test)\) *(?:\[ *(\d+)\])?\[ *(\d+)/ *(\d+)\]')
VALIDATION = re.compile(r'Validation after epoch (\d+): (.*)')

# Output of tools is printed with markup=False, since it may hold brackets.
console = Console(highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make a dataset, train a small panoptic model, print its PQ, draw pictures; needs no GPU'
    )
    parser.add_argument(
        '--data', default='data/demo', metavar='DIR', help='folder of the dataset (default: %(default)s)'
    )
    parser.add_argument(
        '--work-dir', default='work_dirs/demo', metavar='DIR', help='folder of the results (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='seed of the training (default: %(default)s)')
    return parser.parse_args()


def here(path: str) -> str:
    """Path of a file of this project, relative to the current folder if it is below it."""
    file = ROOT / path
    return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)


def run(title: str, command: list[str], log: Path | None = None, see: Callable[[str], None] | None = None) -> str:
    """Run one step and return what it printed.

    Args:
        title: Title of the step.
        command: Arguments for Python.
        log: File for the whole output; the terminal then shows only progress lines. None: the terminal shows all.
        see: Called with every line of the output that goes to ``log``.
    """
    console.print(f'\n[bold]{title}[/bold]')
    console.print(f'$ python {" ".join(command)}', markup=False, soft_wrap=True)
    start = time.monotonic()
    if log is None:
        if subprocess.run([sys.executable, *command]).returncode:
            sys.exit('error: this step failed for the reason above')
        output = ''
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = stream([sys.executable, *command], log, see)
    console.print(f'({time.monotonic() - start:.0f} s)')
    return output


def stream(command: list[str], log: Path, see: Callable[[str], None] | None = None) -> str:
    """Run a command; write its output to ``log``, and its progress lines and tables to the terminal."""
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
    """Print the expected duration and the first picture of a training while it runs.

    Args:
        work_dir: Work dir of the training.
        epochs: Number of epochs.
        now: Returns the time in seconds.
    """

    def __init__(self, work_dir: Path, epochs: int, now: Callable[[], float] = time.monotonic) -> None:
        self.work_dir, self.epochs, self.now = work_dir, epochs, now
        self._first: tuple[int, float] | None = None
        self._said = self._drawn = False

    def see(self, line: str) -> None:
        """Read a line of the output of the training."""
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
    """Text of a duration."""
    return f'about {seconds:.0f} s' if seconds < 90 else f'about {seconds / 60:.1f} minutes'


def main() -> None:
    args = parse_args()
    # With small images, more threads are not faster, and much slower beside other work, since they wait by spinning.
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
    data_options = [f'{split}_dataloader.dataset.data_root={data}/' for split in ('train', 'val', 'test')]
    data_options = data_options if args.data != 'data/demo' else []
    train = [here('tools/train.py'), config, '--work-dir', str(work_dir)]
    options = [*data_options, *([f'randomness.seed={args.seed}'] if args.seed else [])]
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
        [*test, *made, '--cfg-options', *data_options, pictures],
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
    test += ['--cfg-options', *data_options] if data_options else []
    predict = [here('tools/predict.py'), config, str(checkpoint), f'{data}/val', '--out', f'{work_dir}/predictions']
    shapes, longer = here('tools/dataset_converters/shapes.py'), here(LONGER)
    for command in (test, predict, [shapes, 'data/shapes', '&&', 'python', here('tools/train.py'), longer]):
        console.print(f'  python {" ".join(command)}', markup=False, soft_wrap=True)


if __name__ == '__main__':
    cli.run(main)
