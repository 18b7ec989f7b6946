"""The verbs that look: ``list``, ``show`` and ``tail``. None of them changes a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import click

from neptune_async import Experiment
from neptune_async._engine.reading.descriptions import descriptions
from neptune_async._engine.reading.queries import Query, satisfying
from neptune_async._engine.reading.states import states
from neptune_async._engine.store import Store, opened
from neptune_async._model import messages
from neptune_async._model.operations import Variable
from neptune_async._model.showing import harmless, on_one_line
from neptune_async._model.states import State
from neptune_async._model.values import shown_step
from neptune_async._storage.base import Damaged, ExperimentSummary, LastPoint, Window
from neptune_async._storage.points import Points
from neptune_async._transfer.texts import json_members, jsonable
from neptune_async.cli.exit_codes import told_damaged
from neptune_async.cli.options import (
    json_option,
    name_argument,
    path_argument,
    query_options,
    storage_option,
    verb,
)
from neptune_async.cli.output import (
    DAMAGED,
    json_point,
    print_json,
    print_table,
    shown_members,
    shown_time,
    shown_value,
    sparkline,
)
from neptune_async.exceptions import StorageFormatError
from neptune_async.variable import Point

_MOST_LOOKED_AT = 100_000
"""Variables beyond which ``list`` does not look for the last points: a million take two seconds."""
_SPARK_POINTS = 1000
"""Points at the end of a series that its sparkline is made from."""
_SPARK_SERIES = 500
"""Series beyond which none gets a sparkline: nobody looks at them all."""


@verb('list')
@query_options
@json_option
@storage_option
def list_verb(query: Query, as_json: bool, storage: str | None) -> int:
    """List the experiments in a store, in the order in which they were made.

    An experiment is running, closed, or lost: a process that had it open has died without closing
    it. On another machine a process counts as dead after two minutes without a sign of life.

    What is assigned to the path 'description' stands in a column of its own.

    The time of the last point is left out of a store with more than 100,000 variables.
    """
    with opened(storage) as store:
        experiments = store.ask(lambda s: s.find_experiments())
        is_empty = not experiments
        experiments = store.call(satisfying, query, experiments)
        ids = [experiment.id for experiment in experiments]
        known = store.call(states, ids)
        counts = store.ask(lambda s: s.count_variables(ids))
        texts, damaged = store.call(descriptions, experiments)
        location = store.location
        last: Mapping[int, float | Damaged] | None = None
        if sum(counts.values()) <= _MOST_LOOKED_AT:
            last = store.ask(lambda s: s.last_points(ids))
            damaged += [
                messages.damaged_points_of(e.name, location, why.why)
                for e in experiments
                if isinstance(why := last.get(e.id), Damaged)
            ]
    if as_json:
        print_json(
            [
                _json_summary(e, known[e.id], texts.get(e.id), counts.get(e.id, 0), last)
                for e in experiments
            ]
        )
    elif not experiments:
        which = 'no experiment is in' if is_empty else 'no experiment is meant of those in'
        click.echo(f'{which} {harmless(location)}', err=True)
    else:
        _print_experiments(experiments, known, counts, last, texts)
    return told_damaged(damaged)


def _print_experiments(
    experiments: Sequence[ExperimentSummary],
    known: Mapping[int, State],
    counts: Mapping[int, int],
    last: Mapping[int, float | Damaged] | None,
    texts: Mapping[int, str],
) -> None:
    columns = ['name', 'state', 'created', *([] if last is None else ['last point']), 'variables']
    columns += ['description'] if texts else []
    rows = []
    for e in experiments:
        times = [shown_time(e.created)]
        if last is not None:
            when = last.get(e.id)
            if isinstance(when, Damaged):
                times.append(DAMAGED)
            else:
                times.append('' if when is None else shown_time(when))
        row = [on_one_line(e.name), known[e.id], *times, f'{counts.get(e.id, 0):,}']
        # What is written on several lines is on one here.
        rows.append([*row, shown_value(' '.join(texts.get(e.id, '').split()))] if texts else row)
    print_table(columns, rows, right=['variables'])


def _json_summary(
    experiment: ExperimentSummary,
    state: State,
    description: str | None,
    variables: int,
    last: Mapping[int, float | Damaged] | None,
) -> dict[str, Any]:
    summary = {**_summary(experiment, state, description), 'variables': variables}
    if last is None:
        return summary
    when = last.get(experiment.id)
    return {**summary, 'last_point': None if isinstance(when, Damaged) else when}


def _summary(
    experiment: ExperimentSummary, state: State, description: str | None
) -> dict[str, Any]:
    return {
        'name': experiment.name,
        'description': description,
        'state': state,
        'created': experiment.created,
    }


@dataclass(frozen=True, slots=True)
class _Contents:
    """What ``show`` found.

    :ivar values: of atoms, and the members of sets, by the variable's id.
    :ivar last: the last points of series.
    :ivar recent: the last values of series of floats.
    :ivar damaged: what is to be said of variables whose value, or last point, cannot be read.
    """

    variables: list[Variable]
    values: dict[int, Any]
    last: dict[int, LastPoint]
    recent: dict[int, list[float]]
    damaged: dict[int, StorageFormatError]


@verb()
@name_argument()
@path_argument(required=False)
@json_option
@storage_option
def show(name: str, path: str | None, as_json: bool, storage: str | None) -> int:
    """Show the variables of an experiment as a tree, or those at and below PATH.

    A series shows its last value, how many points it has, and the course of the last thousand.
    What is assigned to the path 'description' stands above the tree.
    """
    with opened(storage) as store:
        experiment = store.find(name)
        variables = store.variables(experiment, path)
        state = store.call(states, [experiment.id])[experiment.id]
        texts, _ = store.call(descriptions, [experiment])
        contents = _contents(store, experiment, variables, with_recent=not as_json)
    description = texts.get(experiment.id)
    if as_json:
        listed = [_json_variable(variable, contents) for variable in variables]
        print_json({**_summary(experiment, state, description), 'variables': listed})
        return told_damaged(contents.damaged.values())
    last = max((point.timestamp for point in contents.last.values()), default=None)
    active = '' if last is None else f', last point {shown_time(last)}'
    click.echo(f'{on_one_line(name)}: {state}, made {shown_time(experiment.created)}{active}')
    for line in (description or '').splitlines():
        click.echo(f'  {on_one_line(line)}')
    columns = ('variable', 'type', 'value', 'points', 'course')
    print_table(columns, [*_tree(contents)], right=['points'])
    return told_damaged(contents.damaged.values())


def _contents(
    store: Store, experiment: ExperimentSummary, variables: list[Variable], *, with_recent: bool
) -> _Contents:
    latest = store.ask(lambda s: s.read_latest({experiment.id: variables}))
    values: dict[int, Any] = {}
    last: dict[int, LastPoint] = {}
    damaged: dict[int, StorageFormatError] = {}
    for variable in variables:
        decoded = partial(store.decoded, experiment.name, variable.path)
        point = latest.series.get(variable.id)
        if isinstance(point, Damaged):
            damaged[variable.id] = messages.damaged_value(
                experiment.name, variable.path, store.location, point.why
            )
        elif point is not None:
            last[variable.id] = point
        try:
            if variable.id in latest.damaged:
                raise messages.damaged_content(
                    experiment.name,
                    variable.path,
                    store.location,
                    latest.damaged[variable.id].why,
                )
            if variable.id in latest.atoms:
                values[variable.id] = decoded(latest.atoms[variable.id])
            elif variable.container == 'set':
                values[variable.id] = sorted(map(decoded, latest.sets.get(variable.id, ())))
        except StorageFormatError as error:
            damaged[variable.id] = error
    recent = _recent(store, experiment, variables) if with_recent else {}
    return _Contents(variables, values, last, recent, damaged)


def _recent(
    store: Store, experiment: ExperimentSummary, variables: list[Variable]
) -> dict[int, list[float]]:
    """Return the last values of series of floats, unless there are too many."""
    series = [v for v in variables if v.container == 'series' and v.content == 'float']
    if len(series) > _SPARK_SERIES:
        return {}
    window = Window(last=_SPARK_POINTS)
    readings = store.ask(
        lambda storage: storage.read_many_series({experiment.id: series}, window, False, False)
    )
    values = {
        # Of what is damaged nothing is drawn.
        i: [v for run in r.runs if isinstance(run, Points) for v in run.values]
        for i, r in readings.items()
    }
    return {i: some[-_SPARK_POINTS:] for i, some in values.items()}


def _json_variable(variable: Variable, contents: _Contents) -> dict[str, Any]:
    shown: dict[str, Any] = {
        'path': variable.path,
        'container': variable.container,
        'content': variable.content,
    }
    if variable.id in contents.damaged:
        shown['damaged'] = True
    elif variable.container == 'atom':
        shown['value'] = jsonable(contents.values.get(variable.id))
    elif variable.container == 'set':
        shown['members'] = json_members(contents.values[variable.id])
    else:
        last = contents.last.get(variable.id)
        shown['count'] = last.count if last else 0
        shown['last'] = last and json_point(shown_step(last.step), last.timestamp, last.value)
    return shown


def _tree(contents: _Contents) -> Iterator[tuple[str, str, str, str, str]]:
    above: list[str] = []
    for variable in contents.variables:
        *namespaces, name = variable.path.split('/')
        for depth in range(_common(above, namespaces), len(namespaces)):
            yield f'{"  " * depth}{on_one_line(namespaces[depth])}/', '', '', '', ''
        above = namespaces
        yield f'{"  " * len(namespaces)}{on_one_line(name)}', *_cells(variable, contents)


def _common(above: list[str], namespaces: list[str]) -> int:
    """Return how many namespaces at the front are those of the row above."""
    count = 0
    while count < min(len(above), len(namespaces)) and above[count] == namespaces[count]:
        count += 1
    return count


def _cells(variable: Variable, contents: _Contents) -> tuple[str, str, str, str]:
    kind = (
        variable.content
        if variable.container == 'atom'
        else (f'{variable.container} of {variable.content}')
    )
    if variable.id in contents.damaged:
        return kind, DAMAGED, '', ''
    if variable.container == 'atom':
        return kind, shown_value(contents.values.get(variable.id)), '', ''
    if variable.container == 'set':
        return kind, shown_members(contents.values[variable.id]), '', ''
    last = contents.last.get(variable.id)
    if last is None:
        return kind, '', '0', ''
    course = sparkline(contents.recent.get(variable.id, ()))
    return kind, shown_value(last.value), f'{last.count:,}', course


@verb()
@name_argument()
@path_argument()
@click.option('-n', '--last', type=click.IntRange(min=0), default=10, show_default=True,
              help='How many points to print.')  # fmt: skip
@click.option('-f', '--follow', is_flag=True, help='Go on with those to come, until Ctrl-C.')
@json_option
@storage_option
def tail(name: str, path: str, last: int, follow: bool, as_json: bool, storage: str | None) -> None:
    """Print the last points of a series: step, time and value.

    A text is put on one line, with its line breaks and control characters escaped; with --json, a
    line of JSON a point, it is what it is.
    """
    with Experiment(name, storage=storage, mode='read', echo=False) as experiment:
        view = experiment[path]
        points = view.tail(last, with_steps=True, with_timestamps=True)
        for point in view.follow(last) if follow else map(Point._make, points):
            _print_point(point, as_json)


def _print_point(point: Point, as_json: bool) -> None:
    if as_json:
        print_json(json_point(*point), indent=None)
        return
    value = point.value.isoformat() if isinstance(point.value, datetime) else str(point.value)
    print(f'{point.step:>10}  {shown_time(point.timestamp)}  {on_one_line(value)}', flush=True)


VERBS = (list_verb, show, tail)
