"""A store in a schema of a PostgreSQL database, and what a stranger needs to read it.

The schema is ``neptune_async``, or what ``?schema=`` in the URL says. The view ``points`` shows a
row a point: ``SELECT step, value FROM neptune_async.points WHERE experiment = 'EXP-1' AND path =
'train/loss' ORDER BY index``. Below it, each key but those of files begins with the
experiment's id:

``experiments``, ``epochs``
    One row an experiment each: its id and name; how often variables were deleted from it.
``variables``, ``atoms``, ``members``
    As in a store in SQLite. ``digest`` tells members of a set apart.
``series``
    Where a series stands: how many points it has, its largest step, its last timestamp. A batch
    that appends to it holds this row.
``chunks``
    Points of one series, a row a batch until rows are merged, in the order in which they were
    logged: ``first`` counts the points before. Without ``steps`` step i is ``first_step +
    stride * i``. A series of floats has ``values``, any other one ``texts`` (datetimes in ISO
    8601); where a value is a file or a histogram, or a text
    that PostgreSQL cannot hold, it is null, and ``encoded`` has it
    as ``neptune_async._model.values`` tells. Once a row has 512 points and is not written to any
    more, it gets its least and greatest step and timestamp, and a ``summary`` as
    ``neptune_async._storage.summaries`` tells; what that says of the series so far is of this
    row alone.
``files``, ``file_pieces``
    The content of files by its SHA-256, in pieces of 1 MiB, numbered from 0; once however often it
    is referred to.
``writers``
    The last batch of each process that wrote to an experiment, so that a batch that is sent twice
    is stored once.
``sessions``
    As in a store in SQLite; the times are by the clock of the server.
``rejected``
    Operations that were accepted by a process and could not be stored.
``store``
    The version of the schema.

``functions.sql`` holds what a batch calls. A batch is one statement, and so one round trip: whether
it is the next one of its writer, its operations, and its points, whose automatic steps get their
numbers there, while the rows of their series are held.
"""

from neptune_async._storage.postgres.opening import SCHEMA_VERSION
from neptune_async._storage.postgres.storage import PostgresStorage

__all__ = ['SCHEMA_VERSION', 'PostgresStorage']
