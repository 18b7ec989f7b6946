"""Writes files as neptune-exporter does; the schema is written down here once more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MILLIS = pa.timestamp('ms', tz='UTC')
SCHEMA = pa.schema({
    'project_id': pa.string(),
    'run_id': pa.string(),
    'attribute_path': pa.string(),
    'attribute_type': pa.string(),
    'step': pa.decimal128(18, 6),
    'timestamp': MILLIS,
    'int_value': pa.int64(),
    'float_value': pa.float64(),
    'string_value': pa.string(),
    'bool_value': pa.bool_(),
    'datetime_value': MILLIS,
    'string_set_value': pa.list_(pa.string()),
    'file_value': pa.struct({'path': pa.string()}),
    'histogram_value': pa.struct({
        'type': pa.string(),
        'edges': pa.list_(pa.float64()),
        'values': pa.list_(pa.float64()),
    }),
})  # fmt: skip

WHEN = datetime(2025, 3, 5, 10, 0, 0, 123000, tzinfo=timezone.utc)

Row = dict[str, Any]


def atom(path: str, kind: str, value: object) -> Row:
    column = 'string_set_value' if kind == 'string_set' else f'{kind}_value'
    return {'attribute_path': path, 'attribute_type': kind, column: value}


def points(path: str, kind: str, column: str, values: Sequence[Any], *steps: str) -> list[Row]:
    return [
        {
            'attribute_path': path,
            'attribute_type': f'{kind}_series',
            'step': Decimal(step),
            'timestamp': 1_741_168_800_000 + 250 * i,
            column: value,
        }
        for i, (value, step) in enumerate(zip(values, steps, strict=True))
    ]


def histogram(*values: float) -> dict[str, Any]:
    return {'type': 'COUNTING', 'edges': [0.0, 0.5, 1.0], 'values': list(values)}


EVERY_TYPE = [
    atom('sys/id', 'string', 'RUN-1'),
    atom('params/lr', 'float', 0.1),
    atom('params/nan', 'float', float('nan')),
    atom('params/big', 'int', 2**62),
    atom('params/amp', 'bool', False),
    atom('sys/creation_time', 'datetime', WHEN),
    atom('sys/tags', 'string_set', ['baseline', 'cnn']),
    atom('sys/group_tags', 'string_set', []),
    atom('model/weights', 'file', {'path': 'RUN-1/model/weights.pt'}),
    *points(
        'train/loss', 'float', 'float_value', [0.5, float('nan'), 0.25, float('inf'), -0.0],
        '0', '0.5', '0.5', '0.000001', '123456.654321',
    ),
    *points('logs/out', 'string', 'string_value', ['begun', 'ünïcode\n', ''], '0', '1', '1'),
    *points('samples', 'file', 'file_value', [{'path': 'a.png'}, {'path': 'b.png'}], '1', '2'),
    *points(
        'weights', 'histogram', 'histogram_value', [histogram(1, 2), histogram(3.5, 4)], '0', '1'
    ),
]  # fmt: skip


def write(
    folder: Path, rows: Sequence[Row], *, run: str = 'RUN-1', project: str = 'ws/proj',
    part: int = 0, row_group: int = 1000,
) -> Path:  # fmt: skip
    """Write a part of a run."""
    whole = [{'project_id': project, 'run_id': run, **row} for row in rows]
    path = folder / f'{project.replace("/", "_")}-0123' / f'{run}-4567_part_{part}.parquet'
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(whole, schema=SCHEMA)
    pq.write_table(table, path, compression='snappy', row_group_size=row_group)
    return path
