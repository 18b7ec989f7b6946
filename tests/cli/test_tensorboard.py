"""``import tensorboard``: all points, and of a file that grows what is new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from neptune_async import Experiment, list_experiments

from .conftest import CommandLine

STORE = 'runs.db'


def write(path: Path, *events: Any, began: float = 1.0) -> None:
    """Append events to a file; begin it as writers do if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open('ab') as file:
        writer = RecordWriter(file)
        if is_new:
            first = event_pb2.Event(wall_time=began, file_version='brain.Event:2')
            writer.write(first.SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())


def scalar(tag: str, step: int, value: float) -> Any:
    """Return an event as torch.utils.tensorboard writes it."""
    event = event_pb2.Event(wall_time=1_700_000_000.25 + step, step=step)
    event.summary.value.add(tag=tag, simple_value=value)
    return event


def text(tag: str, step: int, value: str) -> Any:
    event = event_pb2.Event(wall_time=1_700_000_000.25, step=step)
    tensor = tensor_util.make_tensor_proto([value.encode()])
    metadata = texts.create_summary_metadata('', '')
    event.summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
    return event


def image(tag: str) -> Any:
    event = event_pb2.Event(wall_time=1.0, step=0)
    event.summary.value.add(tag=tag).image.encoded_image_string = b'...'
    return event


def points(storage: Path, name: str, path: str) -> list[Any]:
    with Experiment(name, storage=storage, mode='read') as exp:
        return exp[path].all(with_steps=True, with_timestamps=True)


def test_scalars_and_texts_of_several_runs_are_taken_in(run: CommandLine) -> None:
    logs = run.folder / 'logs'
    many = [scalar('train/loss', step, step / 2) for step in range(12_000)]
    write(logs / 'a' / 'events.out.tfevents.1.host', *many, text('notes', 3, 'ünïcode'))
    write(logs / 'b' / 'c' / 'events.out.tfevents.2.host', scalar('loss', 5, 0.5), image('x'))
    write(logs / 'events.out.tfevents.3.host', scalar('loss', 0, float('nan')))

    done = run('import', 'tensorboard', 'logs', '--storage', STORE, '--json')
    assert done.code == 0
    assert done.json['kinds'] == {'scalars': 12_002, 'text': 1, 'images': 1}
    store = run.folder / STORE
    assert sorted(list_experiments(store)) == ['a', 'b/c', 'logs']
    loss = points(store, 'a', 'train/loss')
    assert loss == [(step, 1_700_000_000.25 + step, step / 2) for step in range(12_000)]
    assert points(store, 'a', 'notes') == [(3, 1_700_000_000.25, 'ünïcode')]
    assert points(store, 'b/c', 'loss') == [(5, 1_700_000_005.25, 0.5)]


def test_what_has_no_form_is_left_out_and_counted_apart_each_time(run: CommandLine) -> None:
    file = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(file, scalar('loss', 0, 0.5), image('x'), image('x'))
    command = ['import', 'tensorboard', 'logs', '--storage', STORE, '--json']
    for stored, known in ((1, 0), (0, 1)):
        done = run(*command)
        counts = [done.json[what] for what in ('read', 'stored', 'known', 'refused', 'notes')]
        assert (done.code, counts) == (0, [3, stored, known, 0, {}])
        assert done.json['left_out'] == {'values of images: only scalars and texts are kept': 2}
    told = run(*command[:-1])
    assert 'left out: 2\n' in told.err


def test_a_value_whose_time_is_none_is_refused(run: CommandLine) -> None:
    odd = [scalar('loss', 0, 0.5), scalar('loss', 1, 0.25), text('notes', 0, 'x')]
    for event, time in zip(odd, ('inf', 'nan', 'nan'), strict=True):
        event.wall_time = float(time)
    write(run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host', *odd, scalar('loss', 2, 0.125))
    done = run('import', 'tensorboard', 'logs', '--storage', STORE, '--json')
    assert (done.code, done.json['stored'], done.json['refused']) == (1, 1, 3)
    assert points(run.folder / STORE, 'a', 'loss') == [(2, 1_700_000_002.25, 0.125)]


def test_of_a_run_that_goes_on_only_what_is_new_is_taken_in(run: CommandLine) -> None:
    file = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(file, scalar('loss', 0, 0.5), scalar('loss', 1, 0.25))
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])  # the last one is still being written
    command = ['import', 'tensorboard', 'logs', '--storage', STORE, '--json']
    assert run(*command).json['stored'] == 1

    file.write_bytes(whole)
    write(file, scalar('loss', 2, 0.125))
    write(file.with_name('events.out.tfevents.2.host'), scalar('loss', 3, 0.0625), began=2.0)
    grown = run(*command).json
    assert (grown['stored'], grown['known']) == (3, 1)
    assert run(*command).json['stored'] == 0
    losses = [value for _, _, value in points(run.folder / STORE, 'a', 'loss')]
    assert losses == [0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize(
    ('began', 'created'), [(1_600_000_000.5, 1_600_000_000.5), (1.8e9, 1_700_000_000.25)]
)
def test_an_experiment_was_made_when_its_run_was_begun(
    run: CommandLine, began: float, created: float
) -> None:
    folder = run.folder / 'logs' / 'a'
    write(folder / 'events.out.tfevents.1.host', scalar('loss', 0, 0.5), began=began)
    write(folder / 'events.out.tfevents.2.host', scalar('loss', 1, 0.5), began=1.0)
    write(folder / 'b' / 'events.out.tfevents.3.host', began=-1.0)
    write(folder / 'b' / 'events.out.tfevents.4.host', scalar('loss', 1, 0.5))
    assert run('import', 'tensorboard', 'logs', '--storage', STORE).code == 0
    a, b = run('list', '--json', '--storage', STORE).json
    assert a['created'] == created
    assert b['created'] > 1.75e9  # now: there is no such time


@pytest.mark.parametrize(('place', 'kept'), [('value', 1), ('length', 1), ('beginning', 0)])
def test_a_damaged_file_is_told_with_the_place_and_what_is_whole_is_taken_in(
    run: CommandLine, place: str, kept: int
) -> None:
    damaged = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(damaged, scalar('loss', 0, 0.5))
    whole = damaged.stat().st_size if kept else 0
    write(damaged, scalar('loss', 1, 0.25), scalar('loss', 2, 0.125))
    content = damaged.read_bytes()
    where = {'value': whole + 20, 'length': whole + 1, 'beginning': 13}[place]
    damaged.write_bytes(content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :])
    write(damaged.parent.with_name('b') / 'events.out.tfevents.2.host', scalar('loss', 3, 1.0))
    command = ['import', 'tensorboard', 'logs', '--storage', STORE, '--json']
    told = f'logs/a/{damaged.name} is damaged at byte {whole:,} of {len(content):,}'
    for stored in (kept + 1, 0):  # told again, as long as it is so
        done = run(*command)
        assert (done.code, done.json['stored']) == (1, stored)
        assert [one[: len(told)] for one in done.json['damaged']] == [told]
        assert told in done.err
    assert [value for _, _, value in points(run.folder / STORE, 'b', 'loss')] == [1.0]


def test_a_folder_without_event_files_is_one_line(run: CommandLine) -> None:
    refused = run('import', 'tensorboard', '.', '--storage', STORE)
    assert (refused.code, refused.err.count('\n')) == (2, 1)


def test_an_extra_that_is_missing_is_named(run: CommandLine, store: Path) -> None:
    for name in ('tensorboard', 'pyarrow'):
        blocked = run.folder / 'blocked' / name
        blocked.mkdir(parents=True)
        (blocked / '__init__.py').write_text(f'raise ModuleNotFoundError(name="{name}")')
    env = {'PYTHONPATH': str(run.folder / 'blocked')}
    (run.folder / 'x.parquet').touch()
    for extra, arguments in [
        ('tensorboard', ['import', 'tensorboard', '.']),
        ('tensorboard', ['export', '--format', 'tensorboard', '-o', 'runs']),
        ('arrow', ['import', 'neptune-export', '.']),
        ('arrow', ['import', 'file', 'x.parquet']),
        ('arrow', ['export', '--format', 'parquet', '-o', 'y.parquet']),
        ('arrow', ['export', '--format', 'neptune-export', '-o', 'export']),
    ]:
        refused = run(*arguments, **env)
        assert (refused.code, refused.out, refused.err.count('\n')) == (2, '', 1), refused.err
        assert f"pip install 'neptune-async[{extra}]'" in refused.err
    assert run('export', '--format', 'csv', **env).code == 0
