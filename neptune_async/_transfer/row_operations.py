"""Turns rows of a file into operations of one experiment."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from neptune_async._model.arguments import checked_members
from neptune_async._model.messages import CONTAINERS
from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    POINT_FIELDS,
    AddMembers,
    Assign,
    Container,
    CreateVariable,
    Operation,
    Part,
    Variable,
    point_key,
)
from neptune_async._model.paths import normalise
from neptune_async._model.values import (
    Content,
    atom_value,
    checked_step,
    checked_timestamp,
    content_of,
    encode,
    series_value,
)
from neptune_async._transfer.imported_files import FileBeside, Refused
from neptune_async.exceptions import NeptuneAsyncError, StorageError
from neptune_async.files import FileReference

NO_TIME = math.nan
"""The timestamp of a point without one. It gets the timestamp of the point before it, or 0."""


class Draft:
    """Rows of one experiment that go into one batch.

    A row whose path or value cannot be stored is left out and counted. Steps may be automatic, and
    timestamps may be ``NO_TIME``.

    :param known: the variables of the experiment by path. New variables are added to it.
    :param draw: returns the next id for a new variable.
    :param keep: lets the store have a file, and returns what refers to it.
    :ivar refused: how many rows cannot be stored, by the message that says why.
    :ivar left_out: how many rows are of a kind that cannot be stored here, by kind.
    :ivar notes: how many rows are stored in another form, by the message that says so.
    """

    def __init__(
        self,
        experiment_id: int,
        name: str,
        known: dict[str, Variable],
        draw: Callable[[], int],
        keep: Callable[[FileBeside], FileReference],
    ) -> None:
        self.refused: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._experiment_id = experiment_id
        self._name = name
        self._known = known
        self._draw = draw
        self._keep = keep
        self._named: dict[str, Variable] = {}
        self._operations: list[Operation] = []
        self._points = array('d')
        self._texts: list[tuple[float, float, float, Any]] = []
        self._files: dict[str, bytes | None] = {}
        self._count = 0

    def part(self) -> Part:
        """Return the operations. Those that create variables come first."""
        creations = [CreateVariable(variable) for variable in self._named.values()]
        return Part(
            self._experiment_id, self._name, None, [*creations, *self._operations],
            self._points, self._texts, self._count, files=self._files,
        )  # fmt: skip

    def floats(
        self,
        paths: Sequence[str],
        steps: Sequence[float],
        times: Sequence[float],
        values: Sequence[float],
    ) -> None:
        """Append points of float series, given as columns. Each row may have another path."""
        ids = {path: self._id_or_refusal(path, paths.count) for path in dict.fromkeys(paths)}
        if None in ids.values():
            kept = [i for i, path in enumerate(paths) if ids[path] is not None]
            paths = [paths[i] for i in kept]
            steps, times, values = ([column[i] for i in kept] for column in (steps, times, values))
        count = len(paths)
        keys = {path: point_key(found) for path, found in ids.items() if found is not None}
        block = array('d', bytes(8 * POINT_FIELDS * count))
        # Add one to the key if the timestamp is given. If it is NaN, it is not equal to itself.
        pairs = zip(paths, times, strict=True)
        block[0::POINT_FIELDS] = array('d', [keys[path] + (time == time) for path, time in pairs])
        block[1::POINT_FIELDS] = array('d', steps)
        block[2::POINT_FIELDS] = array('d', [t if t == t else 0.0 for t in times])
        block[3::POINT_FIELDS] = array('d', values)
        self._points += block
        self._count += count

    def point(self, path: str, content: Content, step: float, time: float, value: Any) -> None:
        """Append a point of a series of anything but floats; of files, as ``FileBeside``."""
        try:
            checked = self._file(value) or series_value(value)
            if content_of(checked) != content:
                raise Refused(f'it holds {content_of(checked)} in a series of {content}')
            at = checked_step(step) if step == step else AUTOMATIC_STEP
            when = checked_timestamp(time) if time == time else 0.0
            key = point_key(self._id(path, 'series', content), time == time)
            self._texts.append((key, at, when, checked))
            self._count += 1
        except StorageError:
            raise
        except (Refused, NeptuneAsyncError) as error:
            self.refuse(path, error)

    def assign(self, path: str, value: Any) -> None:
        """Assign a value to an atom; a file as ``FileBeside``."""
        try:
            checked = self._file(value) or atom_value(value)
            content = content_of(checked)
            encoded = encode(checked)
            self._operations.append(Assign(self._id(path, 'atom', content), content, encoded))
            self._count += 1
        except StorageError:
            raise
        except (Refused, NeptuneAsyncError) as error:
            self.refuse(path, error)

    def declare(self, path: str, content: Content) -> None:
        """Create a series, which may have no points."""
        try:
            self._id(path, 'series', content)
        except (Refused, NeptuneAsyncError) as error:
            self.refuse(path, error)

    def add(self, path: str, content: Content, members: Iterable[Any]) -> None:
        """Add members to a set. There may be none: this creates an empty set."""
        try:
            checked = checked_members(members)
            if {content_of(member) for member in checked} - {content}:
                raise Refused(f'its members are not all {content}')
            set_id = self._id(path, 'set', content)
            self._operations.append(AddMembers(set_id, tuple(map(encode, checked))))
            self._count += 1
        except (Refused, NeptuneAsyncError) as error:
            self.refuse(path, error)

    def refuse(self, path: str, why: object, rows: int = 1) -> None:
        """Leave rows out, and count them with the reason."""
        self.refused[f'{self._name}: {path!r}: {why}'] += rows

    def leave_out(self, kind: str) -> None:
        """Count a row of a kind that cannot be stored here."""
        self.left_out[kind] += 1

    def note(self, what: str, rows: int) -> None:
        """Count rows that need a message to the user."""
        self.notes[what] += rows

    def _file(self, value: object) -> FileReference | None:
        """Return what refers to a file, once the store has that; None if the value is none."""
        if not isinstance(value, FileBeside):
            return None
        reference = self._keep(value)
        self._files[reference.sha256] = None
        return reference

    def _id_or_refusal(self, path: str, count: Callable[[str], int]) -> int | None:
        try:
            return self._id(path, 'series', 'float')
        except (Refused, NeptuneAsyncError) as error:
            self.refuse(path, error, count(path))
            return None

    def _id(self, path: str, container: Container, content: Content) -> int:
        """Return the id of the variable at a path. Create the variable if there is none.

        :raises Refused: the variable there has another container or content.
        :raises InvalidPathError: no variable can have that path.
        """
        variable = self._named.get(path)
        if variable is None:
            normal = normalise(path)
            variable = self._known.get(normal)
            if variable is None:
                variable = Variable(self._draw(), normal, container, content)
                self._known[normal] = variable
            self._named[path] = variable
        is_same = container == 'atom' or variable.content == content
        if variable.container != container or not is_same:
            kind = CONTAINERS[variable.container].__name__
            raise Refused(f'the variable at that path is of type {kind} of {variable.content}')
        return variable.id
