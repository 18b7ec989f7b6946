"""The benchmark runs, and its arithmetic says what it is said to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import __main__ as benchmark
from .figures import GOALS, US, Results
from .peers import PEERS
from .systems import FLOOR
from .workloads import WORKLOADS

PEER, SLOWER_PEER = PEERS[0].name, PEERS[1].name


def reached(title: str, results: Results) -> tuple[float, bool]:
    (goal,) = (goal for goal in GOALS if goal.title == title)
    value = goal.of(results)
    return value, goal.is_reached(value)


def test_a_share_of_the_workloads_runs_on_floors_and_ourselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'results.md'
    code = benchmark.main(
        ['--runs', '1', '--share', '0.005', '--workloads', 'W1', 'W4', '--output', str(output)]
    )
    report = output.read_text()
    assert code == 0
    assert 'What failed' not in report
    assert report in capsys.readouterr().out
    assert '0.005 of the points' in report
    assert f'| {US} |' in report
    assert '| W2 batch of 50, floors a value | <= 0.8 | not measured | |' in report
    lines = report.splitlines()
    (bytes_a_point,) = (line for line in lines if line.startswith('| W1 bytes a point'))
    assert bytes_a_point.endswith(('yes |', 'no |'))


def test_what_several_workloads_read_is_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'results.md'
    options = ['--runs', '1', '--share', '0.001', '--output', str(output)]
    assert benchmark.main([*options, '--workloads', 'W12', 'W13']) == 0
    assert capsys.readouterr().err.count('lengthen:') == 1
    report = output.read_text()
    assert 'What failed' not in report
    for goal in ('W12 10^7 points, with NumPy, ms', 'W13 any 10,000 of 10^7 points, ms'):
        (line,) = (line for line in report.splitlines() if goal in line)
        assert line.endswith(('yes |', 'no |'))
    assert (tmp_path / 'growth_reading.svg').is_file()


def test_what_many_experiments_take_is_measured(tmp_path: Path) -> None:
    output = tmp_path / 'results.md'
    options = ['--runs', '1', '--share', '0.01', '--output', str(output)]
    assert benchmark.main([*options, '--workloads', 'W10', 'W14']) == 0
    assert 'What failed' not in output.read_text()


def test_tables_are_measured_beside_duckdb(tmp_path: Path) -> None:
    pytest.importorskip('duckdb')  # only the benchmark needs it
    output = tmp_path / 'results.md'
    options = ['--runs', '1', '--share', '0.001', '--output', str(output)]
    assert benchmark.main([*options, '--workloads', 'W15']) == 0
    assert 'What failed' not in output.read_text()


def test_files_and_images_are_kept(tmp_path: Path) -> None:
    output = tmp_path / 'results.md'
    options = ['--runs', '1', '--share', '0.002', '--output', str(output)]
    assert benchmark.main([*options, '--workloads', 'W16', 'W17']) == 0
    report = output.read_text()
    assert 'What failed' not in report
    assert '| W16 images until durable, x tensorboardX | >= 10 | not measured | |' in report
    for goal in ('W16 1 GB file until durable, x cp', 'W16 training with images, % longer'):
        (line,) = (line for line in report.splitlines() if goal in line)
        assert line.endswith(('yes |', 'no |'))


def test_what_fails_is_named_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(system: object, folder: Path, share: float) -> dict[str, float]:
        raise AssertionError  # it is run by name, in a child, where there is no such stage

    broken = type(WORKLOADS['W1'])('Broken', [fails])
    monkeypatch.setitem(benchmark.WORKLOADS, 'W1', broken)
    output = tmp_path / 'results.md'
    code = benchmark.main(['--runs', '1', '--workloads', 'W1', '--output', str(output)])
    assert code == 1
    assert f"- {US} failed in fails: KeyError: 'fails'" in output.read_text()


@pytest.mark.parametrize(
    ('title', 'results', 'expected'),
    [
        (
            'W1 caller, floors',
            {'W1': {US: {'call_ns': 900.0}, FLOOR: {'call_ns': 600.0}}},
            (1.5, True),
        ),
        (
            'W1 until durable, floors',
            {'W1': {US: {'durable_rate': 1e6}, FLOOR: {'call_ns': 400.0}}},
            (2.5, False),
        ),
        (
            'W1 until durable, x best peer',
            {
                'W1': {
                    US: {'durable_rate': 1e6},
                    FLOOR: {'durable_rate': 1e7},
                    PEER: {'durable_rate': 4e4},
                    SLOWER_PEER: {'durable_rate': 1e3},
                }
            },
            (25.0, True),
        ),
        (
            'W4 last 10, x best peer',
            {'W4': {US: {'tail': 1e-3}, PEER: {'tail': 3e-3}, SLOWER_PEER: {'tail': 1.0}}},
            (3.0, False),
        ),
        (
            'W7 10^7 points to 10^4',
            {'W7': {US: {'points_10000': 4, 'points_10000000': 5}}},
            (1.25, True),
        ),
        (
            'W16 images until durable, x wandb and trackio',
            {
                'W16': {
                    US: {'images_rate': 900.0},
                    'wandb offline': {'images_rate': 90.0},
                    'trackio': {'images_rate': 200.0},
                }
            },
            (4.5, False),
        ),
        ('W8 x the idle rate', {'W8': {US: {'other': 0.5, 'main': 0.25}}}, (0.25, False)),
    ],
)
def test_a_figure_is_what_its_title_says(
    title: str, results: Results, expected: tuple[float, bool]
) -> None:
    assert reached(title, results) == expected


def test_a_figure_of_what_was_not_measured_is_not_made_up() -> None:
    ours: Results = {name: {US: {}} for name in WORKLOADS}
    for goal in GOALS:
        with pytest.raises(KeyError):
            goal.of(ours)


def test_runs_come_to_their_median() -> None:
    runs = [{'a': 1.0, 'b': 5.0}, {'a': 9.0}, {'a': 2.0, 'b': 7.0}]
    assert benchmark._medians(runs) == {'a': 2.0, 'b': 6.0}
