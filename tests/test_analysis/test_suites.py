"""Suites: what their files may say, trainings that go on where they were, tables of all seeds."""

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fixtures.tiny_run import run_tool, tool_env, write_config
from helpers.repo import ROOT, load_tool, run_main

from mmpanoptic.analysis.suite_runs import Machine, check, claim, jobs_of, keep, rows_of
from mmpanoptic.analysis.suite_tables import draw, markdown, table_rows, write_page
from mmpanoptic.analysis.suites import read_suite
from mmpanoptic.utils import UserError

CONFIG = ROOT / 'configs' / 'oanet' / 'oanet_r18_fpn_shapes.py'
SUITE = f"""
title: A comparison
seeds: [0, 1]
scores: {{PQ: panoptic/PQ}}
runs:
  - name: Base
    config: {CONFIG}
  - name: With more
    config: {CONFIG}
    options: [train_cfg.max_epochs=9]
    versus: Base
"""
# Stands in for the package's tools: it notes its arguments, and a training of 'slow' ends by SIGTERM, as a real one.
TOOL = """
import json, os, signal, sys, time, zipfile
from pathlib import Path
with open('calls.txt', 'a') as file:
    places = [os.environ.get(name) for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')]
    file.write(json.dumps([*sys.argv[1:], *places]) + '\\n')
if sys.argv[1] == 'train':
    folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
    seed = int(sys.argv[-1].rpartition('=')[2])
    with zipfile.ZipFile(folder / 'epoch_1.pth', 'w') as file:
        file.writestr('weights', 'x')
    if Path('meet').exists():
        while sum('train' in line for line in open('calls.txt')) < 2:
            time.sleep(0.05)
    if Path('slow').exists():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        Path('waiting').touch()
        time.sleep(60)
    if Path('broken').exists() and seed == 1:
        sys.exit('error: out of luck')
    log = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'panoptic/PQ': 50.0 + seed, 'step': 1}))
else:
    Path(sys.argv[-1]).write_text(json.dumps({'first': {'panoptic/PQ': 60.0}, 'second': {'panoptic/PQ': 61.5}}))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the suite and the tool's stand-in."""
    (tmp_path / 'my.yml').write_text(SUITE)
    (tmp_path / 'tool.py').write_text(TOOL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return tmp_path


def machine(places: list[int | None] = (None,)) -> Machine:
    return Machine(places, [sys.executable, 'tool.py'])


def calls(place: Path) -> list[list[str]]:
    return [json.loads(line) for line in (place / 'calls.txt').read_text().splitlines()]


def do(suite_file: str, places: list[int | None] = (None,)) -> list:
    """Do what is left of a suite, as the tool does."""
    jobs = jobs_of(read_suite(suite_file), 'runs')
    for job in jobs:
        claim(job)
    return machine(places).do([job for job in jobs if rows_of(job) is None], lambda job, seconds: None)


def test_all_seeds_and_differences(place):
    assert do('my.yml') == []
    text = markdown(suite := read_suite('my.yml'), table_rows(suite, jobs_of(suite, 'runs')), 'my.svg')
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if '|' in line]
    assert lines[0] == ['PQ', 'seed 0', 'seed 1', 'mean', 'against', 'Δ seed 0', 'Δ seed 1', 'Δ mean']
    assert lines[2] == ['Base', '50.00', '51.00', '**50.50**', '', '', '', '']
    assert lines[3] == ['With more', '50.00', '51.00', '**50.50**', 'Base', '+0.00', '+0.00', '**+0.00**']
    first = calls(place)[1]
    assert first[:2] == ['train', str(CONFIG)] and first[-4:-2] == ['train_cfg.max_epochs=9', 'randomness.seed=0']
    assert first[-2:] == ['1', None]  # one thread on a CPU


def test_what_is_done_is_not_done_again(place):
    do('my.yml')
    number = len(calls(place))
    assert do('my.yml') == [] and len(calls(place)) == number == 4


def test_trainings_of_other_settings_are_not_taken_for_these(place):
    do('my.yml')
    (place / 'my.yml').write_text(SUITE.replace('max_epochs=9', 'max_epochs=10'))
    with pytest.raises(
        UserError, match=r'with-more/seed_0 is of other settings: train_cfg.max_epochs was 9, and is 10'
    ):
        do('my.yml')


def test_folders_of_something_else_stay(place):
    (place / 'runs' / 'base' / 'seed_0').mkdir(parents=True)
    (place / 'runs' / 'base' / 'seed_0' / 'thesis.tex').touch()
    with pytest.raises(UserError, match='runs/base/seed_0 holds other files: move them away'):
        do('my.yml')


def test_records_stand_for_trainings_whose_work_dir_is_gone(place):
    do('my.yml')
    suite = read_suite('my.yml')
    done = jobs_of(suite, 'runs', 'records')
    for job in done[:2]:
        keep(job)
    assert [job.record.exists() for job in done] == [True, True, False, False]
    elsewhere = jobs_of(suite, 'other', 'records')
    assert [check(job) for job in elsewhere] == [True, True, False, False]
    assert [rows_of(job) for job in elsewhere] == [*map(rows_of, done[:2]), None, None]
    claim(elsewhere[0])
    assert not elsewhere[0].folder.exists()


def test_records_of_other_settings_are_refused(place):
    do('my.yml')
    for job in jobs_of(read_suite('my.yml'), 'runs', 'records'):
        keep(job)
    (place / 'my.yml').write_text(SUITE.replace('max_epochs=9', 'max_epochs=8'))
    base, changed = jobs_of(read_suite('my.yml'), 'other', 'records')[:2]
    assert check(base)
    with pytest.raises(UserError, match=r'with-more/seed_0.json is of other settings: remove it'):
        check(changed)
    base.record.write_text('{"settings": "x"}')
    with pytest.raises(UserError, match=r'seed_0.json holds no scores of a training'):
        rows_of(base)


def test_suites_share_records_as_they_share_trainings(place):
    """Of commands that another suite has; and a name in other letters is the same run."""
    text = SUITE.replace('name: Base', 'name: Base\n    after: ["orders {json}"]')
    (place / 'with.yml').write_text(text.replace('[0, 1]', '[0]'))
    (place / 'more.yml').write_text(text.replace('[0, 1]', '[0]').replace('orders', 'others').replace('Base', 'base'))
    suites = [read_suite(place / name) for name in ('my.yml', 'with.yml', 'more.yml')]
    for suite, number in zip(suites, (4, 5, 6), strict=True):
        jobs = jobs_of(suite, 'runs', 'records')
        for job in jobs:
            claim(job)
        assert not machine().do([job for job in jobs if rows_of(job) is None], lambda job, seconds: None)
        for job in jobs:
            keep(job)
        assert len(calls(place)) == number  # no training twice
    for suite, names in zip(suites, (['Base'], ['Base', 'Base: first', 'Base: second'], None), strict=True):
        rows = rows_of(jobs_of(suite, 'other', 'records')[0])
        assert list(rows) == (names or ['base', 'base: first', 'base: second'])


def test_records_that_cannot_be_written_are_told_before_a_training(place, monkeypatch):
    (place / 'file').touch()
    with pytest.raises(UserError, match='--records'):
        run_main(load_tool('analysis_tools/benchmark_suite'), monkeypatch, 'my.yml', '--records', 'file')
    assert not (place / 'calls.txt').exists()


def test_a_failure_leaves_the_others(place):
    (place / 'broken').touch()
    failed = do('my.yml')
    assert [str(job) for job, _ in failed] == ['Base, seed 1', 'With more, seed 1']
    assert 'error: out of luck (exit status 1; all of it is in runs/base/seed_1/train.out)' in str(failed[0][1])
    rows = table_rows(suite := read_suite('my.yml'), jobs_of(suite, 'runs'))
    assert rows[0].values == {'PQ': [50.0, None]}
    assert '| Base | 50.00 | not run | **50.00** |' in markdown(suite, rows, 'my.svg')
    (place / 'broken').unlink()
    assert do('my.yml') == []
    assert '--resume' in calls(place)[-1]  # it had left a checkpoint


def test_a_signal_reaches_the_trainings_and_they_go_on_later(place):
    (place / 'slow').touch()
    script = textwrap.dedent("""
        import sys
        from mmpanoptic.analysis.suite_runs import Machine, check, claim, jobs_of, keep, rows_of
        from mmpanoptic.analysis.suites import read_suite
        from mmpanoptic.engine import cli
        jobs = jobs_of(read_suite('my.yml'), 'runs')
        for job in jobs:
            claim(job)
        cli.run(lambda: Machine([None], [sys.executable, 'tool.py']).do(jobs, print))
    """)
    process = subprocess.Popen([sys.executable, '-c', script], env=tool_env(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (place / 'waiting').exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in errors
    assert len(calls(place)) == 1  # those that waited did not begin
    (place / 'slow').unlink()
    assert do('my.yml') == [] and '--resume' in calls(place)[1]


def test_each_training_has_a_gpu_of_its_own(place):
    (place / 'meet').touch()  # two trainings wait for each other
    do('my.yml', [0, 1])
    assert {call[-1] for call in calls(place)} == {'0', '1'} and calls(place)[0][-2] is None


def test_gpus_are_chosen_among_the_visible(place, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,7')
    do('my.yml', [1])
    assert {call[-1] for call in calls(place)} == {'7'}


def test_rows_of_what_is_done_with_a_checkpoint(place):
    (place / 'my.yml').write_text(SUITE + '    after: ["orders {config} {checkpoint} --out {json}"]\n')
    assert do('my.yml') == []
    rows = table_rows(suite := read_suite('my.yml'), jobs_of(suite, 'runs'))
    assert [row.name for row in rows] == ['Base', 'With more', 'With more: first', 'With more: second']
    assert rows[3].versus == 'With more: first' and rows[2].versus is None
    assert (
        '| With more: second | 61.50 | 61.50 | **61.50** | With more: first | +1.50 | +1.50 | **+1.50** |'
        in markdown(suite, rows, 'my.svg')
    )
    after = next(call for call in calls(place) if call[0] == 'orders')
    assert after[1:3] == [str(CONFIG), 'runs/with-more/seed_0/epoch_1.pth']


def test_other_commands_are_run_on_what_is_trained(place):
    do('my.yml')
    number = len(calls(place))
    (place / 'my.yml').write_text(SUITE + '    after: ["orders {config} --out {json}"]\n')
    suite = read_suite('my.yml')
    assert table_rows(suite, jobs_of(suite, 'runs'))[1].values == {'PQ': [None, None]}  # not done yet
    assert do('my.yml') == [] and [call[0] for call in calls(place)[number:]] == ['orders'] * 2
    (place / 'my.yml').write_text(SUITE)
    rows = table_rows(suite := read_suite('my.yml'), jobs_of(suite, 'runs'))
    assert [row.name for row in rows] == ['Base', 'With more']


def test_tables_of_other_settings_are_refused(place, monkeypatch):
    do('my.yml')
    (place / 'my.yml').write_text(SUITE.replace('max_epochs=9', 'max_epochs=10'))
    tool = load_tool('analysis_tools/benchmark_suite')
    with pytest.raises(UserError, match='seed_0 is of other settings'):
        run_main(tool, monkeypatch, 'my.yml', '--work-dir', 'runs', '--jobs', 0, '--out', 'page.md')
    assert not (place / 'page.md').exists()


def test_one_tells_at_a_time_and_what_fails_in_it_stops_nobody(place):
    jobs = jobs_of(read_suite('my.yml'), 'runs')
    for job in jobs:
        claim(job)
    telling = []

    def tell(job, seconds):
        telling.append(job)
        time.sleep(0.3)
        assert telling[-1] is job  # nobody else came in
        if len(telling) == 1:
            raise UserError('no room')

    failed = machine((None, None)).do(jobs, tell)
    assert len(telling) == 4 and [str(error) for _, error in failed] == ['no room']


def test_fractions_are_per_cent(place):
    do('my.yml')
    (place / 'runs/base/seed_0/trained.json').write_text('{"coco/bbox_mAP": 0.25}')
    suite = read_suite('my.yml')
    suite.scores.clear()
    suite.scores['box AP'] = 'coco/bbox_mAP'
    assert table_rows(suite, jobs_of(suite, 'runs')[:1])[0].values == {'box AP': [25.0, None]}


def test_a_plot_is_the_same_bytes(place):
    do('my.yml')
    rows = table_rows(suite := read_suite('my.yml'), jobs_of(suite, 'runs'))
    for name in 'ab':
        draw(suite, rows, f'{name}.svg')
    assert (place / 'a.svg').read_bytes() == (place / 'b.svg').read_bytes()
    assert 'With more' in (place / 'a.svg').read_text()


def test_a_page_keeps_its_words(place):
    suite = read_suite('my.yml')
    page = place / 'page.md'
    page.write_text('# Mine\n\n<!-- suite: my -->\nold\n<!-- end -->\nWords.\n')
    write_page(page, suite, r'new \1')
    assert page.read_text() == '# Mine\n\n<!-- suite: my -->\nnew \\1\n<!-- end -->\nWords.\n'
    page.write_text('no place\n')
    with pytest.raises(UserError, match=r'page\.md has no place for the suite: put the lines "<!-- suite: my -->"'):
        write_page(page, suite, 'new')
    assert page.read_text() == 'no place\n'


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('title: A comparison', '', 'title must be a str that is not empty'),
        ('seeds: [0, 1]', 'seeds: [a]', "seeds: 'a' is no int"),
        ('seeds: [0, 1]', 'seeds: [true]', 'seeds: True is no int'),
        ('name: Base', 'name: with more!', "name 'With more' cannot be told from 'with more!'"),
        ('name: Base', 'name: "?"', "runs\\[0\\]: name '\\?' has no letter or digit, which its folder is called by"),
        ('versus: Base', 'versus: Bass', "With more is compared with 'Bass', which is none of its runs"),
        (
            'options: [train',
            'option: [train',
            r'runs\[1\]: option is .*: known are name, config, options, ',
        ),
        ('options: [train_cfg.max_epochs=9]', 'options: [9]', r'runs\[1\].options: 9 is no str'),
        ('runs:', 'runs: 3\nx:', 'runs must be a list'),
        ('versus: Base', 'after: ["orders {model}"]', r"runs\[1\]\.after: 'orders \{model\}': .*known"),
        ('scores: {PQ', 'scores: {PQ: [', 'my.yml is no YAML'),
    ],
)
def test_wrong_suites(place, old, new, message):
    (place / 'my.yml').write_text(SUITE.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_suite('my.yml')


@pytest.mark.parametrize('path', sorted((ROOT / 'configs' / 'suites').glob('*.yml')), ids=lambda path: path.stem)
def test_shipped_suites_can_be_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    suite = read_suite(path)
    for job in jobs_of(suite, tmp_path)[: len(suite.runs)]:  # of the first seed
        claim(job)


def test_shipped_records_are_of_their_settings(tmp_path, monkeypatch):
    """A config that changes takes its records along: they are removed, or made again."""
    monkeypatch.chdir(ROOT)
    found = 0
    for path in sorted((ROOT / 'configs' / 'suites').glob('*.yml')):
        for job in jobs_of(read_suite(path), tmp_path, 'docs/results/runs'):
            found += check(job)
    assert found >= len(list((ROOT / 'docs' / 'results' / 'runs').rglob('*.json'))) > 0


def test_the_tool(place, tiny_shapes, monkeypatch, capsys):
    """A real training by the tool; then the page again without one; then wrong arguments."""
    write_config(place / 'tiny.py', tiny_shapes, epochs=1, extra="train_dataloader['batch_size'] = 8\n")
    text = re.sub(r'(  - name: With more.*)', '', SUITE, flags=re.DOTALL).replace(str(CONFIG), 'tiny.py')
    (place / 'my.yml').write_text(text)
    done = run_tool(
        'analysis_tools/benchmark_suite.py',
        'my.yml',
        '--seeds',
        '1',
        '--jobs',
        '1',
        '--out',
        'page.md',
        '--records',
        'kept',
        cwd=place,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'^Base, seed 1: PQ [\d.]+ \([\d.]+ minutes\)$', done.stdout, re.MULTILINE)
    page = (place / 'page.md').read_text()
    assert '| Base | not run | ' in page and '![A comparison](my.svg)' in page and (place / 'my.svg').exists()

    tool = load_tool('analysis_tools/benchmark_suite')
    (place / 'page.md').unlink()
    run_main(tool, monkeypatch, 'my.yml', '--jobs', 0, '--out', 'page.md')
    assert (place / 'page.md').read_text() == page
    run_main(tool, monkeypatch, 'my.yml', '--jobs', 0, '--out', 'again.md', '--work-dir', 'none', '--records', 'kept')
    assert (place / 'again.md').read_text() == page
    for flag, value in (('--seeds', 7), ('--only', 'Bass'), ('--jobs', -1)):
        with pytest.raises(UserError, match=f'{flag} {value}: '):
            run_main(tool, monkeypatch, 'my.yml', flag, value)
