"""Files that were exported, and that other programs have written over, are read.

What pandas does is done by pandas; what polars and DuckDB write is imitated with their types.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neptune_async import Experiment
from neptune_async._transfer.long_rows import COLUMNS

from . import exporter
from .conftest import CommandLine
from .contents import contents

HEADER = ','.join(COLUMNS)


@pytest.fixture
def filled(store: Path) -> Path:
    """Return a store that has what other programs change."""
    with Experiment('odd, "quoted"', storage=store, echo=False) as exp:
        exp['odd'].assign(float('nan'))
        exp['whole'].extend([1.0, 2.0, float('nan')], timestamps=[1.5, 2.5, 3.25])
        exp['texts'].extend(['', 'a\r\nb', 'x,"y"'], timestamps=[1.5, 2.5, 3.25])
        exp['int'].assign(2**62)
        exp['bool'].assign(True)
        exp['none'].assign(None)
        exp['empty'].assign('')
        exp['set'].add(1, 2)
    return store


# ── Parquet ──────────────────────────────────────────────────────────────────


def by_pandas(source: Path, target: Path) -> None:
    frame = pd.read_parquet(source)
    frame[frame.columns[::-1]].to_parquet(target)


def by_pandas_with_nullable_types(source: Path, target: Path) -> None:
    with warnings.catch_warnings():
        # Before pandas 3, it casts infinities to see whether they are ints.
        warnings.simplefilter('ignore', RuntimeWarning)
        pd.read_parquet(source).convert_dtypes().to_parquet(target)


def by_pandas_with_times(source: Path, target: Path) -> None:
    frame = pd.read_parquet(source)
    frame['timestamp'] = pd.to_datetime(frame['timestamp'], unit='s')
    frame.to_parquet(target, index=False)


def cast(types: dict[str, Any]) -> Callable[[Path, Path], None]:
    def rewrite(source: Path, target: Path) -> None:
        table = pq.read_table(source)
        for name, kind in types.items():
            place = table.schema.get_field_index(name)
            column = table[name]
            if pa.types.is_timestamp(kind) and pa.types.is_floating(column.type):
                nanoseconds = [t and round(t * 10**9) for t in column.to_pylist()]
                column = pa.array(nanoseconds, pa.timestamp('ns', kind.tz)).cast(kind)
            table = table.set_column(place, name, column.cast(kind, safe=False))
        pq.write_table(table.select(sorted(table.column_names)), target)

    return rewrite


POLARS = {
    **dict.fromkeys(('experiment', 'path', 'text'), pa.large_string()),
    **dict.fromkeys(('container', 'content'), pa.dictionary(pa.uint32(), pa.large_string())),
}
DUCKDB = {
    **dict.fromkeys(('experiment', 'path', 'container', 'content', 'text'), pa.string()),
    'step': pa.decimal128(18, 3),
    'timestamp': pa.timestamp('us', 'UTC'),
}
REWRITES = {
    'pandas': by_pandas,
    'pandas with nullable types': by_pandas_with_nullable_types,
    'pandas with times': by_pandas_with_times,
    'polars': cast(POLARS),
    'DuckDB': cast(DUCKDB),
    'milliseconds': cast({'timestamp': pa.timestamp('ms')}),
    'small floats': cast({'step': pa.float32()}),
}


@pytest.mark.parametrize('rewrite', REWRITES.values(), ids=REWRITES)
def test_a_parquet_file_that_others_wrote_over_reads_the_same(
    run: CommandLine, filled: Path, rewrite: Callable[[Path, Path], None]
) -> None:
    assert run('export', '--format', 'parquet', '--out', 'x.parquet').code == 0
    rewrite(run.folder / 'x.parquet', run.folder / 'y.parquet')
    done = run('import', 'file', 'y.parquet', '--storage', 'moved.db')
    assert (done.code, done.err) == (0, '')
    assert contents(run.folder / 'moved.db') == contents(filled)


def test_floats_that_are_ints_are_floats(run: CommandLine, store: Path) -> None:
    with Experiment('ints', storage=store, echo=False) as exp:
        exp['atom'].assign(5.0)
        exp['series'].extend([1.0, 2.0])
    assert run('export', 'ints', '--format', 'parquet', '--out', 'x.parquet').code == 0
    cast({'value': pa.int8(), 'step': pa.uint64()})(
        run.folder / 'x.parquet', run.folder / 'y.parquet'
    )
    assert run('import', 'file', 'y.parquet', '--storage', 'moved.db').code == 0
    assert contents(run.folder / 'moved.db') == {'ints': contents(store)['ints']}


GOOD = dict(zip(COLUMNS, ('a', 'x', 'series', 'float', 0.0, 1.0, 0.5), strict=True))
ODD_ROWS = {
    'it has no experiment': {'experiment': None},
    'it has no value': {'content': 'str'},
    'a set is a list of its members': {'container': 'set', 'content': 'str', 'text': '5'},
    'a point has no step': {'step': None},
}


def test_a_row_of_parquet_that_is_none_is_refused_by_its_number(run: CommandLine) -> None:
    rows = [GOOD, *({**GOOD, **odd} for odd in ODD_ROWS.values()), {**GOOD, 'step': 1.0}]
    pq.write_table(pa.Table.from_pylist([{'text': None, **row} for row in rows]),
                   run.folder / 'x.parquet')  # fmt: skip
    done = run('import', 'file', 'x.parquet', '--storage', 'x.db', '--json')
    assert (done.code, done.err) == (1, '')
    assert (done.json['read'], done.json['stored'], done.json['refused']) == (6, 2, 4)
    for number, why in enumerate(ODD_ROWS, start=2):
        told = [reason for reason in done.json['reasons'] if why in reason]
        assert len(told) == 1
        assert f'row {number} is no row' in told[0] or "'x': a point has no step" in told[0]
    with Experiment('a', storage=run.folder / 'x.db', mode='read') as exp:
        assert exp['x'].all(with_steps=True) == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ({'value': [['a']]}, 'the column value is of list'),
        ({'experiment': [1]}, 'the column experiment is of int64; it has to be of texts'),
        ({'step': [True]}, 'the column step is of bool; it has to be of numbers'),
        ({'path': None}, 'has no column path'),
    ],
)
def test_a_parquet_file_of_other_columns_is_one_line(
    run: CommandLine, change: dict[str, Any], why: str
) -> None:
    columns = {**{name: [value] for name, value in GOOD.items()}, 'text': [None], **change}
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    pq.write_table(table, run.folder / 'x.parquet')
    refused = run('import', 'file', 'x.parquet', '--storage', 'x.db')
    assert (refused.code, refused.err.count('\n')) == (2, 1) and why in refused.err


# ── The files of neptune-exporter ────────────────────────────────────────────


NUMBERS = {'step': pa.float64(), 'int_value': pa.float64()}
WIDER = {
    'timestamp': pa.timestamp('ns', 'UTC'),
    'datetime_value': pa.timestamp('us', 'UTC'),
    'attribute_path': pa.dictionary(pa.uint32(), pa.large_string()),
    'string_set_value': pa.large_list(pa.large_string()),
    'step': pa.decimal128(38, 9),
}


@pytest.mark.parametrize('types', [NUMBERS, WIDER, None], ids=['numbers', 'wider', 'pandas'])
def test_an_export_of_neptunes_that_others_wrote_over_reads_the_same(
    run: CommandLine, types: dict[str, Any] | None
) -> None:
    file = exporter.write(run.folder / 'export', exporter.EVERY_TYPE)
    before = run('import', 'neptune-export', 'export', '--storage', 'x.db')
    if types is None:
        pd.read_parquet(file).to_parquet(file)
    else:
        cast(types)(file, file)
    done = run('import', 'neptune-export', 'export', '--storage', 'y.db')
    assert (done.code, done.err) == (0, before.err)
    assert contents(run.folder / 'y.db') == contents(run.folder / 'x.db')


def test_a_row_of_neptunes_that_is_none_is_refused_by_its_number(run: CommandLine) -> None:
    rows = [exporter.atom('a', 'int', 1), exporter.atom('b', 'int', 1)]
    file = exporter.write(run.folder / 'export', rows)
    table = pq.read_table(file)
    place = table.schema.get_field_index('int_value')
    pq.write_table(table.set_column(place, 'int_value', pa.array([1.5, 2.0])), file)
    done = run('import', 'neptune-export', 'export', '--storage', 'x.db', '--json')
    assert (done.code, done.json['stored'], done.json['refused']) == (1, 1, 1)
    (reason,) = done.json['reasons']
    assert f'{file.name}: row 1 cannot be read: int_value: ' in reason
    assert contents(run.folder / 'x.db')['RUN-1'] == {'b': ('Atom', 'int', '2')}


def test_what_the_metadata_of_neptunes_says_is_not_trusted(run: CommandLine) -> None:
    rows = [exporter.atom('a', 'string', 'x'), exporter.atom('b', 'string_set', [])]
    file = exporter.write(run.folder / 'export', rows)
    table = pq.read_table(file)
    for metadata in (b'[1]', b'{"a": ["x"], "b": {}}', b'{"a": "heap"}', b'no JSON'):
        pq.write_table(table.replace_schema_metadata({b'neptune_async': metadata}), file)
        with pq.ParquetWriter(file, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({b'neptune_async': metadata})
        done = run('import', 'neptune-export', 'export', '--storage', f'{metadata.hex()}.db')
        assert 'Traceback' not in done.err
        assert done.code == (2 if metadata == b'no JSON' else 0), done.err


# ── CSV ──────────────────────────────────────────────────────────────────────


def csv_by_pandas(text: str) -> bytes:
    frame = pd.read_csv(io.StringIO(text, newline=''))
    return bytes(frame[frame.columns[::-1]].to_csv().encode())


def csv_by_excel(text: str) -> bytes:
    written = io.StringIO(newline='')
    rows = [[field.replace('true', 'TRUE') for field in row] for row in rows_of(text)]
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([*rows, []])
    return written.getvalue().encode('utf-8-sig')


def csv_by_duckdb(text: str) -> bytes:
    written = io.StringIO(newline='')
    csv.writer(written, lineterminator='\n').writerows(rows_of(text))
    return written.getvalue().replace('NaN', 'nan').encode()


def rows_of(text: str) -> list[list[str]]:
    return [*csv.reader(io.StringIO(text, newline=''))]


@pytest.mark.parametrize('rewrite', [csv_by_pandas, csv_by_excel, csv_by_duckdb])
def test_a_csv_file_that_others_wrote_over_reads_the_same(
    run: CommandLine, filled: Path, rewrite: Callable[[str], bytes]
) -> None:
    exported = run('export', '--format', 'csv', '--out', 'x.csv')
    assert exported.code == 0
    text = (run.folder / 'x.csv').read_bytes().decode()
    (run.folder / 'y.csv').write_bytes(rewrite(text))
    done = run('import', 'file', 'y.csv', '--storage', 'moved.db')
    assert (done.code, done.err) == (0, '')
    assert contents(run.folder / 'moved.db') == contents(filled)


def test_a_parquet_file_that_others_wrote_as_csv_reads_the_same(
    run: CommandLine, filled: Path
) -> None:
    assert run('export', '--format', 'parquet', '--out', 'x.parquet').code == 0
    frame = pd.read_parquet(run.folder / 'x.parquet')
    frame['timestamp'] = pd.to_datetime(frame['timestamp'], unit='s')
    frame.to_csv(run.folder / 'y.csv', index=False)
    done = run('import', 'file', 'y.csv', '--storage', 'moved.db')
    assert (done.code, done.err) == (0, '')
    assert contents(run.folder / 'moved.db') == contents(filled)


def test_what_a_program_makes_of_a_column_of_one_type_is_read(run: CommandLine) -> None:
    (run.folder / 'x.csv').write_text(
        f'{HEADER}\na,int,atom,int,,,5.0\na,no int,atom,int,,,5.5\na,bool,atom,bool,,,False\n'
        'a,nan,series,float,0.0,1.0,\na,none,atom,none,,,\na,none,atom,bool,,,1\n'
        'a,,atom,float,,,0.5\na,,series,float,0.0,1.0,0.5\n'
        'a,dated,series,float,0.0,19700101T000001.5Z,2.5\n'
    )
    done = run('import', 'file', 'x.csv', '--storage', 'x.db', '--json')
    assert (done.code, done.json['stored'], done.json['refused']) == (1, 5, 4)
    assert contents(run.folder / 'x.db')['a'] == {
        'int': ('Atom', 'int', '5'),
        'bool': ('Atom', 'bool', 'False'),
        'nan': ('Series', 'float', repr([(0, 1.0, math.nan)])),
        'none': ('Atom', 'NoneType', 'None'),
        'dated': ('Series', 'float', repr([(0, 1.5, 2.5)])),
    }


@pytest.mark.parametrize(
    ('header', 'why'),
    [
        (HEADER.replace(',', ';'), "separated by commas, not by ';'"),
        (HEADER.replace(',', '\t'), r"separated by commas, not by '\t'"),
        (HEADER.replace('path', 'paths'), 'it is not so of path'),
        (f'{HEADER},step', 'it is not so of step'),
        ('', 'it is not so of experiment, path'),
    ],
)
def test_a_csv_file_of_other_columns_says_what_is_wrong(
    run: CommandLine, header: str, why: str
) -> None:
    (run.folder / 'x.csv').write_text(f'{header}\n')
    refused = run('import', 'file', 'x.csv', '--storage', 'x.db')
    assert (refused.code, refused.err.count('\n')) == (2, 1) and why in refused.err


def test_a_line_that_is_no_row_keeps_no_other_from_being_taken_in(run: CommandLine) -> None:
    point = 'a,x,series,float,{},1,0.5\r\n'
    lines = [HEADER + '\r\n', point.format(0), 'a,größe,atom,int,,,1\r\n', 'a,b\r\n',
             ',x,atom,int,,,1\r\n', '\r\n', point.format(1)]  # fmt: skip
    (run.folder / 'x.csv').write_bytes(''.join(lines).encode('latin-1'))
    (run.folder / 'x.jsonl').write_bytes(
        b'\xef\xbb\xbf{"experiment":"b","path":"x","container":"atom","content":"int","value":1.0}\n'
        b'\n  \nno JSON\n{"experiment":"b","path":"\xff"}\n'
        b'{"experiment":"b","path":"y","container":"atom","content":"float","value":null}\n'
        b'{"experiment":"b","path":"z","container":"atom","content":"int","value":1.5}\n'
    )
    told = run('import', 'file', 'x.csv', '--storage', 'x.db')
    assert told.code == 1 and told.err.startswith('not stored: 3\n')
    for line, why in {3: 'it is no UTF-8', 4: 'it has 2 fields', 5: 'it has no experiment'}.items():
        assert f'x.csv: line {line} is no row of an export: {why}' in told.err
    told = run('import', 'file', 'x.jsonl', '--storage', 'x.db')
    assert told.code == 1 and told.err.startswith('not stored: 3\n')
    assert 'line 4' in told.err and 'line 5' in told.err
    there = contents(run.folder / 'x.db')
    assert there['a'] == {'x': ('Series', 'float', '[(0, 1.0, 0.5), (1, 1.0, 0.5)]')}
    assert there['b'] == {'x': ('Atom', 'int', '1'), 'y': ('Atom', 'float', 'nan')}


def test_json_lines_that_pandas_wrote_over_read_the_same(run: CommandLine, filled: Path) -> None:
    assert run('export', '--format', 'jsonl', '--out', 'x.jsonl').code == 0
    frame = pd.read_json(run.folder / 'x.jsonl', lines=True, dtype=False)
    frame['timestamp'] = pd.to_datetime(frame['timestamp'], unit='s')
    frame.to_json(
        run.folder / 'y.jsonl', orient='records', lines=True, double_precision=15,
        date_format='iso', date_unit='us',
    )  # fmt: skip
    done = run('import', 'file', 'y.jsonl', '--storage', 'moved.db')
    assert (done.code, done.err) == (0, '')
    assert contents(run.folder / 'moved.db') == contents(filled)


def test_of_many_rows_that_are_refused_not_each_is_kept_in_memory(run: CommandLine) -> None:
    (run.folder / 'x.csv').write_text(f'{HEADER}\n' + 'a,b\n' * 3000)
    done = run('import', 'file', 'x.csv', '--storage', 'x.db', '--json')
    assert (done.code, done.json['refused']) == (1, 3000)
    assert len(done.json['reasons']) <= 1001
