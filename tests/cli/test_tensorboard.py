"""``import tensorboard``: all points, and of a file that grows what is new."""

from __future__ import annotations

import itertools
import os
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c
from tensorboard.util import tensor_util

from neptune_async import Experiment, list_experiments
from neptune_async._transfer import tensorboard
from neptune_async._transfer.importing import Rows
from neptune_async._transfer.row_operations import Draft

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
    assert done.code == 1  # not all is there
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
        assert (done.code, counts) == (1, [3, stored, known, 0, {}])
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


def tensor_event(tag: str, metadata: Any, dtype: int, shape: Sequence[int], **values: Any) -> Any:
    event = event_pb2.Event(wall_time=2.0, step=1)
    dimensions = tensor_shape_pb2.TensorShapeProto(dim=[{'size': size} for size in shape])
    tensor = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=dimensions, **values)
    summary = metadata.create_summary_metadata('', '')
    event.summary.value.add(tag=tag, tensor=tensor, metadata=summary)
    return event


STRING, FLOAT, DOUBLE = types_pb2.DT_STRING, types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE
ODD = {
    'a text of floats': tensor_event('x', texts, FLOAT, [], float_val=[1.0]),
    'a text of no type': tensor_event('x', texts, 999, [3], string_val=[b'a']),
    'a text of another shape': tensor_event('x', texts, STRING, [3], string_val=[b'a', b'b']),
    'a text many times': tensor_event('x', texts, STRING, [2**40], string_val=[b'a']),
    'a scalar many times': tensor_event('x', scalars, DOUBLE, [2**40], double_val=[1.0]),
    'a scalar in a shape that turns over': tensor_event(
        'x', scalars, DOUBLE, [2**32, 2**32], double_val=[1.0]
    ),
    'a scalar of a negative shape': tensor_event('x', scalars, DOUBLE, [-1], double_val=[1.0]),
    'a scalar of no type': tensor_event('x', scalars, 999, [], double_val=[1.0]),
    'a scalar of no value': tensor_event('x', scalars, DOUBLE, []),
    'a scalar of half a value': tensor_event('x', scalars, DOUBLE, [], tensor_content=b'abcd'),
    'a scalar that is a text': tensor_event('x', scalars, STRING, [], string_val=[b'0.5']),
    'a scalar that no float equals': tensor_event(
        'x', scalars, types_pb2.DT_INT64, [], int64_val=[2**53 + 1]
    ),
    'no event': b'\xff\xff\xff garbage',
}


@pytest.mark.parametrize('odd', ODD)
def test_an_odd_record_is_refused_and_counted_and_what_follows_is_taken_in(
    run: CommandLine, odd: str
) -> None:
    record = ODD[odd]
    file = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(file, scalar('loss', 0, 0.5))
    with file.open('ab') as events:
        RecordWriter(events).write(record if isinstance(record, bytes) else serialised(record))
    write(file, scalar('loss', 1, 0.25))
    write(run.folder / 'logs' / 'z' / 'events.out.tfevents.2.host', scalar('loss', 2, 0.125))
    command = ['import', 'tensorboard', 'logs', '--storage', STORE, '--json']
    for stored, known in ((3, 0), (0, 3)):
        done = run(*command)
        counts = [done.json[what] for what in ('read', 'stored', 'known', 'refused')]
        assert (done.code, counts, done.err) == (1, [4, stored, known, 1], '')
    (reason,) = done.json['reasons']
    assert 'the record at byte' in reason if odd == 'no event' else reason.startswith("a: 'x': it")
    assert [step for step, _, _ in points(run.folder / STORE, 'a', 'loss')] == [0, 1]
    assert [step for step, _, _ in points(run.folder / STORE, 'z', 'loss')] == [2]


def serialised(event: Any) -> bytes:
    return bytes(event.SerializeToString())


def test_what_is_not_kept_is_told_whatever_its_form_is(run: CommandLine) -> None:
    histogram = event_pb2.Event(wall_time=1.0)
    histo = summary_pb2.HistogramProto(min=0, max=1, bucket=[1.0] * 3, bucket_limit=[1.0])
    histogram.summary.value.add(tag='v', histo=histo)
    audio = event_pb2.Event(wall_time=1.0)
    audio.summary.value.add(tag='v').audio.encoded_audio_string = b'...'
    events = [
        image('x'), histogram, audio,
        event_pb2.Event(wall_time=1.0, graph_def=b'...'),
        event_pb2.Event(wall_time=1.0, tagged_run_metadata={'tag': 'x', 'run_metadata': b'...'}),
        event_pb2.Event(wall_time=1.0, meta_graph_def=b'...'),
        event_pb2.Event(wall_time=1.0, log_message={'message': 'x'}),
        event_pb2.Event(wall_time=1.0, session_log={'status': 1}),  # says that it was begun
    ]  # fmt: skip
    write(run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host', scalar('x', 0, 0.5), *events)
    done = run('import', 'tensorboard', 'logs', '--storage', STORE, '--json')
    assert (done.code, done.json['stored'], done.json['refused']) == (1, 1, 0)
    kept = 'only scalars and texts are kept'
    assert done.json['left_out'] == {
        **{f'values of {kind}: {kept}': 1 for kind in (
            'images', 'histograms', 'audio', 'graphs', 'graph_tagged_run_metadata',
        )},
        f'a meta_graph_def: {kept}': 1,
        f'a log_message: {kept}': 1,
    }  # fmt: skip


def test_a_length_is_not_believed(run: CommandLine) -> None:
    file = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(file, scalar('loss', 0, 0.5))
    length = (2**62).to_bytes(8, 'little')
    with file.open('ab') as events:
        events.write(length + masked_crc32c(length).to_bytes(4, 'little') + b'...')
    done = run('import', 'tensorboard', 'logs', '--storage', STORE, '--json')
    assert (done.code, done.json['stored']) == (0, 1)  # it may still be being written


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read_keeps_no_other_from_being_taken_in(run: CommandLine) -> None:
    file = run.folder / 'logs' / 'a' / 'events.out.tfevents.1.host'
    write(file, scalar('loss', 0, 0.5))
    write(run.folder / 'logs' / 'b' / 'events.out.tfevents.2.host', scalar('loss', 0, 0.5))
    file.chmod(0)
    done = run('import', 'tensorboard', 'logs', '--storage', STORE, '--json')
    assert (done.code, done.json['stored']) == (1, 1)
    assert 'cannot be read: Permission denied' in done.err


def test_no_mutation_of_a_file_ends_the_import_or_fills_memory(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    mutated = random.Random(seed)
    records = [serialised(scalar('loss', step, 0.5)) for step in range(5)]
    records += [serialised(text('x', 0, 'abc')), serialised(image('i'))]
    records += [one if isinstance(one, bytes) else serialised(one) for one in ODD.values()]
    tracemalloc.start()
    for _ in range(300):
        folder = tmp_path / str(mutated.random())
        file = folder / 'a' / 'events.out.tfevents.1.host'
        write(file)
        with file.open('ab') as events:
            writer = RecordWriter(events)
            for record in mutated.sample(records, 5):
                changed = bytearray(record)
                for _ in range(mutated.randrange(4)):
                    changed[mutated.randrange(len(changed))] = mutated.randrange(256)
                writer.write(bytes(changed))
        [[found]] = tensorboard.find_files(folder)
        found.creation_time()
        for rows in found.read():
            if isinstance(rows, Rows):
                draft = Draft(1, 'a', {}, itertools.count(1).__next__, pytest.fail)
                rows.fill(draft, 0, rows.count)
                assert draft.part().count + draft.refused.total() + draft.left_out.total(), seed
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25, seed
