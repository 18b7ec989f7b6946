"""What is exported and imported again reads the same."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neptune_async import Experiment
from neptune_async._engine.store import Store, opened
from neptune_async._transfer import (
    files,
    neptune_export,
    neptune_export_writing,
    parquet,
    tensorboard,
)
from neptune_async._transfer.experiment_contents import holdings
from neptune_async._transfer.importing import Importer, Report
from neptune_async._transfer.long_rows import COLUMNS, rows_of
from neptune_async._transfer.neptune_export_writing import ExportWriter
from neptune_async._transfer.tensorboard import EventWriter

from .conftest import CommandLine
from .contents import NO_FILES, contents

# Parquet has no form for lone surrogates, and csv of Python 3.10 reads no NUL.
ANY_TEXT = st.text(st.characters(exclude_characters='\0' if sys.version_info < (3, 11) else ''))
TEXT = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20)
ZONES = st.sampled_from([None, timezone.utc, timezone(timedelta(hours=-3, minutes=-30))])
DATETIMES = st.datetimes(timezones=ZONES, allow_imaginary=True)
FLOATS = st.floats()
TIMES = st.floats(min_value=-1e10, max_value=1e10)
STEPS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))

Filled = dict[str, Callable[[Any], None]]


def scalars(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(2**62, 2**80), FLOATS, text, DATETIMES
    )


def atoms(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(scalars(text), st.lists(scalars(text), max_size=3))


def members(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    kinds = (text, st.integers(), st.booleans(), st.floats(allow_nan=False))
    return st.one_of(*(st.lists(kind, min_size=1, max_size=3) for kind in kinds))


def series(
    text: st.SearchStrategy[str], steps: st.SearchStrategy[float], times: st.SearchStrategy[float]
) -> st.SearchStrategy[Any]:
    kinds = (FLOATS, text, DATETIMES)
    return st.one_of(
        *(st.lists(st.tuples(steps, times, kind), min_size=1, max_size=5) for kind in kinds)
    )


def experiments(
    text: st.SearchStrategy[str] = TEXT,
    steps: st.SearchStrategy[float] = STEPS,
    times: st.SearchStrategy[float] = TIMES,
) -> st.SearchStrategy[Any]:
    """What to log to an experiment: atoms, members of sets, and points, by path."""
    paths = st.from_regex(r'\A[a-c é]/[a-z",;\\]{1,3}\Z')
    held = st.one_of(
        st.tuples(st.just('atom'), atoms(text)),
        st.tuples(st.just('set'), members(text)),
        st.tuples(st.just('series'), series(text, steps, times)),
    )
    return st.dictionaries(st.sampled_from(['EXP-1', 'a/b', 'ü "x",y']),
                           st.dictionaries(paths, held, max_size=4), min_size=1)  # fmt: skip


def fill(storage: Path, wanted: Any) -> None:
    for name, variables in wanted.items():
        with Experiment(name, storage=storage, echo=False) as exp:
            for path, (container, value) in variables.items():
                if container == 'atom':
                    exp[path].assign(value)
                elif container == 'set':
                    exp[path].add(*value)
                else:
                    steps, times, values = zip(*value, strict=True)
                    exp[path].extend(values, steps=steps, timestamps=times)


@contextmanager
def taken_in(storage: Path, name_of: Callable[[Any], str]) -> Iterator[Importer[Any]]:
    with opened(storage) as store:
        yield Importer(store, name_of, lambda _: None)


@pytest.fixture(scope='module')
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return what makes a folder for each example."""
    return lambda: tmp_path_factory.mktemp('example')


LONG = {
    'jsonl': (files.write_jsonl, files.JsonLines),
    'csv': (files.write_csv, files.Csv),
    'parquet': (parquet.write_parquet, parquet.Parquet),
}


def long_round_trip(form: str, folder: Path, wanted: Any) -> None:
    fill(folder / 'from.db', wanted)
    write, read = LONG[form]
    with opened(folder / 'from.db') as store, (folder / 'file').open('wb') as file:
        found = store.ask(lambda storage: storage.find_experiments())
        write(
            (row for e, held in holdings(store, found, Counter()) for row in rows_of(e.name, held)),
            file,
        )
    with taken_in(folder / 'to.db', str) as importer:
        importer.take([read(folder / 'file')])
    require_all(importer.report)
    assert contents(folder / 'to.db') == contents(folder / 'from.db')


def require_all(report: Report) -> None:
    assert not report.refused and not report.notes
    assert report.read == report.stored


@pytest.mark.parametrize('form', ['jsonl', 'csv'])
@settings(max_examples=15)
@given(wanted=experiments(text=ANY_TEXT))
def test_a_text_file_reads_the_same(form: str, fresh: Callable[[], Path], wanted: Any) -> None:
    long_round_trip(form, fresh(), wanted)


@settings(max_examples=15)
@given(wanted=experiments())
def test_a_parquet_file_reads_the_same(fresh: Callable[[], Path], wanted: Any) -> None:
    long_round_trip('parquet', fresh(), wanted)


MICROS = st.integers(-(10**15), 10**15).map(lambda n: n / 1_000_000)
MILLIS = st.integers(-(10**12), 10**13).map(lambda n: n / 1000)


@settings(max_examples=15)
@given(wanted=experiments(steps=MICROS, times=MILLIS))
def test_neptunes_form_reads_the_same(fresh: Callable[[], Path], wanted: Any) -> None:
    folder = fresh()
    filled = {name: variables for name, variables in wanted.items() if variables}
    fill(folder / 'from.db', filled)
    if not filled:
        return
    writer = ExportWriter(folder / 'export', 'ws/proj', NO_FILES)
    write_all(folder / 'from.db', writer.write)
    assert not writer.notes.total() and not writer.missing.total()

    found = neptune_export.find_files(folder / 'export')
    names = neptune_export.names_of(found)
    with taken_in(folder / 'to.db', names.__getitem__) as importer:
        for group in neptune_export.grouped(found):
            importer.take(group)
    require_all(importer.report)
    assert contents(folder / 'to.db') == contents(folder / 'from.db')


def write_all(storage: Path, write: Callable[[str, Any], None]) -> None:
    with opened(storage) as store:
        for experiment, held in holdings(store, all_of(store), Counter()):
            write(experiment.name, held)


def all_of(store: Store) -> list[Any]:
    return [*store.ask(lambda storage: storage.find_experiments())]


WHOLE = st.integers(-(2**53), 2**53)
POINTS = st.one_of(
    *(
        st.tuples(
            st.just('series'), st.lists(st.tuples(WHOLE, TIMES, kind), min_size=1, max_size=5)
        )
        for kind in (FLOATS, TEXT)
    )
)


@settings(max_examples=15)
@given(variables=st.dictionaries(st.sampled_from(['loss', 'a/b', 'é']), POINTS, min_size=1))
def test_event_files_read_the_same(fresh: Callable[[], Path], variables: Any) -> None:
    folder = fresh()
    fill(folder / 'from.db', {'a': variables, 'b/c': variables})
    writer = EventWriter(folder / 'runs', NO_FILES)
    write_all(folder / 'from.db', writer.write)
    assert not writer.notes.total() and not writer.missing.total()

    with taken_in(folder / 'to.db', str) as importer:
        for group in tensorboard.find_files(folder / 'runs'):
            importer.take(group)
    require_all(importer.report)
    assert contents(folder / 'to.db') == contents(folder / 'from.db')


def test_the_verbs_move_a_store_through_every_form(run: CommandLine, store: Path) -> None:
    for form in ('jsonl', 'csv', 'parquet'):
        moved = run('export', '--format', form, '--out', f'all.{form}')
        assert (moved.code, moved.out, moved.err) == (0, '', '')
        again = run('export', '--format', form, '--out', f'all.{form}')
        assert again.code == 2 and '--force' in again.err
        done = run('import', 'file', f'all.{form}', '--storage', f'{form}.db', '--json').json
        assert done['read'] == done['stored'] == 11 and done['refused'] == 0
        assert contents(run.folder / f'{form}.db') == contents(store)
        repeated = run('import', 'file', f'all.{form}', '--storage', f'{form}.db', '--json').json
        assert (repeated['stored'], repeated['known']) == (0, 11)
    printed = run('export', 'digits-2', '--format', 'jsonl').lines
    assert printed == [
        {'experiment': 'digits-2', 'path': 'params/lr', 'container': 'atom', 'content': 'float',
         'value': 0.2}
    ]  # fmt: skip
    matched = run('export', '*-2', 'digits-1', '--format', 'jsonl').lines
    assert {line['experiment'] for line in matched} == {'digits-1', 'digits-2'}
    assert not [*run.folder.glob('*.tmp')]

    exported = run('export', '--format', 'neptune-export', '--out', 'export')
    assert exported.code == 0
    (part,) = run.folder.glob('export/*/digits-1-*_part_0.parquet')
    stale = part.with_name(part.name.replace('_part_0', '_part_7'))
    stale.write_bytes(b'of an export before')
    assert run('export', '--format', 'neptune-export', '--out', 'export', '--force').code == 0
    assert not stale.exists()
    back = run('import', 'neptune-export', 'export', '--storage', 'n.db', '--prefix', 'x-')
    assert back.code == 0
    assert {f'x-{name}': found for name, found in contents(store).items()} == contents(
        run.folder / 'n.db'
    )


FAILING = """
import sqlite3
from neptune_async._storage.sqlite import series

whole = series.unpack_chunk

def unpack_chunk(chunk, *columns):
    if chunk.first == 8192:
        raise sqlite3.OperationalError('integer overflow')
    return whole(chunk, *columns)

series.unpack_chunk = unpack_chunk
"""


@pytest.mark.parametrize('form', ['neptune-export', 'csv', 'parquet', 'tensorboard'])
def test_an_export_that_fails_leaves_the_one_before_as_it_was(
    run: CommandLine, store: Path, form: str
) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['train/long'].extend([0.5] * 20_000)
    command = ['export', 'digits-1', '--format', form, '--out', 'export', '--force']
    assert run(*command).code == (form == 'tensorboard')
    out = run.folder / 'export'

    def there() -> dict[Path, bytes]:
        files = [out] if out.is_file() else [file for file in out.rglob('*') if file.is_file()]
        return {file: file.read_bytes() for file in files}

    before = there()
    # What is read of the last points first still works: the export has begun when it fails.
    (run.folder / 'fails').mkdir()
    (run.folder / 'fails' / 'sitecustomize.py').write_text(FAILING)
    path = os.pathsep.join([str(run.folder / 'fails'), *sys.path])
    failed = run(*command, PYTHONPATH=path)
    assert failed.code and 'overflow' in failed.err
    assert there() == before and not [*run.folder.glob('export.*')]


@pytest.mark.parametrize('form', ['jsonl', 'csv', 'parquet', 'neptune-export'])
def test_a_text_that_a_format_cannot_hold_keeps_nothing_else_from_being_written(
    run: CommandLine, store: Path, form: str
) -> None:
    before = contents(store)
    with Experiment('a', storage=store, echo=False) as exp:
        exp['odd/atom'].assign('img_\udcff.png')
        exp['odd/list'].assign(['\udcff'])
        exp['odd/set'].add('\udcff', 'b')
        exp['odd/series'].extend(['a', '\udcff', 'c'])
        exp['x'].log(0.5)
    done = run('export', '--format', form, '--out', 'out')
    moved = run.folder / 'moved.db'
    if form == 'neptune-export':
        assert run('import', form, 'out', '--storage', moved).code == 0
    else:
        (run.folder / 'out').rename(run.folder / f'out.{form}')
        assert run('import', 'file', f'out.{form}', '--storage', moved).code == 0
    if form in ('jsonl', 'csv'):
        assert (done.code, done.err) == (0, '')
        assert contents(moved) == contents(store)
        return
    assert done.code == 1 and 'not written: 4\n' in done.err
    for path in ('atom', 'list', 'set', 'series'):
        assert f"1  a: 'odd/{path}': a text holds a lone surrogate" in done.err
    there = contents(moved)
    assert [*there.pop('a')] == ['odd/series', 'x'] and there == before
    with Experiment('a', storage=moved, mode='read') as exp:
        assert exp['odd/series'].all(with_steps=True) == [(0, 'a'), (2, 'c')]


def test_an_export_in_several_parts_replaces_one_in_more(
    fresh: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fresh()
    writer = ExportWriter(folder / 'export', 'ws/proj', NO_FILES)
    monkeypatch.setattr(neptune_export_writing, '_GROUP_ROWS', 1)
    monkeypatch.setattr(neptune_export_writing, 'PART_BYTES', 5)  # one more than it begins with
    for paths in ('abc', 'de'):
        storage = folder / f'{paths}.db'
        fill(storage, {'EXP-1': dict.fromkeys(paths, ('atom', 1))})
        write_all(storage, writer.write)
        found = neptune_export.find_files(folder / 'export')
        assert len(found) == len(paths) == len([*folder.glob('export/*/*')])
    with taken_in(folder / 'to.db', neptune_export.names_of(found).__getitem__) as importer:
        importer.take(found)
    assert contents(folder / 'to.db') == contents(storage)


@pytest.mark.parametrize('name', ['L' * 256, 'ü' * 128], ids=['ascii', 'utf-8'])
def test_an_experiment_of_the_longest_name_is_exported(
    fresh: Callable[[], Path], name: str
) -> None:
    folder = fresh()
    fill(folder / 'from.db', {name: {'x': ('series', [(0, 1.0, 0.5)])}})
    write_all(folder / 'from.db', ExportWriter(folder / 'export', 'p' * 256, NO_FILES).write)
    (file,) = neptune_export.find_files(folder / 'export')
    assert [run.id for run in file.runs] == [name]
    events = EventWriter(folder / 'runs', NO_FILES)
    write_all(folder / 'from.db', events.write)
    assert len(tensorboard.find_files(folder / 'runs')) == 1
    assert +events.notes == {'names that no folder can have became others': 1}


def test_export_says_what_is_wrong_or_left_out(run: CommandLine, store: Path) -> None:
    unknown = run('export', 'digits-3', '--format', 'csv')
    assert unknown.code == 2 and "did you mean 'digits-2'" in unknown.err
    assert run('export', 'nothing-*', '--format', 'csv').code == 2
    nowhere = run('export', '--format', 'parquet')
    assert nowhere.code == 2 and '--out' in nowhere.err
    folder = run('export', '--format', 'csv', '--out', 'no/folder/x.csv')
    assert folder.code == 2
    assert folder.err == (
        'neptune-async: no/folder/x.csv cannot be written: there is no folder no/folder\n'
    )
    run.folder.joinpath('there').mkdir()
    failed = run('export', '--format', 'csv', '--out', 'there', '--force')
    assert (failed.code, failed.err) == (
        1, 'neptune-async: there cannot be written: Is a directory\n'
    )  # fmt: skip

    partly = run('export', '--format', 'tensorboard', '--out', 'runs')
    assert partly.code == 1
    assert '5  atoms have no form in TensorBoard' in partly.err
    assert '2  steps were rounded to whole numbers' in partly.err
    for form, content in {
        'csv': 'a,b\n1,2\n', 'jsonl': '{"experiment": 1}\n', 'parquet': 'PAR1', 'txt': ''
    }.items():  # fmt: skip
        (run.folder / f'bad.{form}').write_text(content)
        refused = run('import', 'file', f'bad.{form}', '--storage', 'bad.db')
        assert refused.code in (1, 2), form
        assert refused.err.count('\n') == (2 if form == 'jsonl' else 1)


@pytest.mark.parametrize(
    ('line', 'why'),
    [
        ('{"a": 1}', "there is no column 'a'"),
        ('{"path": "x"}', 'it has no experiment'),
        ('[1]', 'it is a JSON list, and no object'),
        ('{"experiment": ', 'it is no JSON: Expecting value'),
        ('a,x,series,float,0', 'it has 5 fields, not 7'),
        ('a,x,series,float,0,1,0.5,7', 'it has 8 fields, not 7'),
        ('a,x,series,float,now,1,0.5', "could not convert string to float: 'now'"),
    ],
)
def test_a_line_that_is_no_row_is_told_in_words_of_the_file(
    run: CommandLine, line: str, why: str
) -> None:
    is_csv = line.startswith('a,')
    name, place = ('x.csv', 2) if is_csv else ('x.jsonl', 1)
    (run.folder / name).write_text(is_csv * f'{",".join(COLUMNS)}\n' + f'{line}\n')
    refused = run('import', 'file', name, '--storage', 'bad.db')
    assert refused.code == 1
    told = f'not stored: 1\n             1  {name}: line {place} is no row of an export: {why}'
    assert refused.err.startswith(told)


def test_a_long_table_with_rows_that_fit_nothing_says_so(run: CommandLine) -> None:
    with closing((run.folder / 'odd.csv').open('w', newline='')) as file:
        file.write('experiment,path,container,content,step,timestamp,value\n')
        file.write('a,x,series,float,0,1,0.5\na,x,series,float,1,2,high\na,y,atom,int,,,none\n')
        file.write('a,z,heap,int,,,1\na,x,series,float,2,,0.25\n')
    done = run('import', 'file', 'odd.csv', '--storage', 'odd.db', '--json')
    assert done.code == 1
    assert (done.json['stored'], done.json['refused']) == (2, 3)
    with Experiment('a', storage=run.folder / 'odd.db', mode='read') as exp:
        points = exp['x'].all(with_steps=True, with_timestamps=True)
    assert points == [(0, 1.0, 0.5), (2, 1.0, 0.25)]


DEEP = {depth: '[' * depth + ']' * depth for depth in (600, 100_000)}
"""Lists that are too deep for us, and for the decoder."""
HEADER = ','.join(COLUMNS) + '\r\n'


def json_row(container: str, content: str, value: str) -> str:
    head = f'{{"experiment":"a","path":"x","container":"{container}","content":"{content}"'
    step = ',"step":1' if container == 'series' else ''
    return f'{head}{step},"value":{value}}}\n'


@pytest.mark.parametrize(
    ('name', 'text', 'why'),
    [
        ('x.jsonl', json_row('set', 'str', '"abc"'), 'a set is a list'),
        ('x.jsonl', json_row('atom', 'list', DEEP[100_000]), ''),
        ('x.jsonl', '[]\n', 'and no object'),
        ('x.csv', HEADER + 'a,x,set,str,,,5\r\n', 'a set is a list'),
        ('x.csv', HEADER + 'a,x,set,str,,,[[1]]\r\n', 'a set is a list'),
    ],
    ids=range(5),
)
def test_a_line_that_is_no_row_is_told_with_its_number(
    run: CommandLine, name: str, text: str, why: str
) -> None:
    (run.folder / name).write_text(text, newline='')
    failed = run('import', 'file', name, '--storage', 'odd.db')
    assert (failed.code, failed.err.count('\n')) == (1, 2)
    assert f'{name}: line {text.count(chr(10))} is no row' in failed.err and why in failed.err


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('x.jsonl', json_row('series', 'float', '1' + '0' * 400)),
        ('x.jsonl', json_row('atom', 'float', '1' + '0' * 400)),
        ('x.jsonl', json_row('atom', 'list', DEEP[600])),
        ('x.csv', HEADER + 'a,x,series,str,nan,1,text\r\n'),
    ],
    ids=range(4),
)
def test_a_row_whose_value_is_none_is_counted(run: CommandLine, name: str, text: str) -> None:
    (run.folder / name).write_text(text, newline='')
    done = run('import', 'file', name, '--storage', 'odd.db', '--json')
    assert (done.code, done.err) == (1, '')
    assert (done.json['stored'], done.json['refused']) == (0, 1)


@pytest.mark.parametrize('form', LONG)
def test_a_series_without_points_is_kept(form: str, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    with Experiment('a', storage=folder / 'from.db', echo=False) as exp:
        exp['x'].log(0.5)
        exp['texts'].log('lost')
        exp.rewind(-1)
    long_round_trip(form, folder, {'without variables': {}})
    assert [*contents(folder / 'to.db')['a']] == ['texts', 'x']
    writer = ExportWriter(folder / 'export', 'ws/proj', NO_FILES)
    write_all(folder / 'to.db', writer.write)
    assert writer.missing.total() == 2


def test_a_time_without_a_zone_is_kept(fresh: Callable[[], Path]) -> None:
    naive = datetime(2026, 10, 25, 2, 30, fold=1)
    long_round_trip('csv', fresh(), {'a': {'b/c': ('atom', naive), 'b/d': ('atom', [naive])}})
