"""A store in one SQLite file, and what a stranger needs to read it.

The file has ``application_id`` 0x4E415379 ('NASy') and its schema's version in
``user_version``; it is in WAL mode, so copy it together with its ``-wal`` file. It has the tables
of ``schema.sql``, as they are there, and no others: a file with more is refused.

``experiments``
    One row an experiment. ``epoch`` counts how often variables were deleted. ``crc32`` is that
    of the id and the epoch as int64, ``created`` as float64, little endian, and the name in UTF-8.
``variables``
    One row a variable: the experiment, the path, the container (``atom``,
    ``series`` or ``set``) and the type of the content (``bool``, ``int``,
    ``float``, ``str``, ``datetime``, ``none``, ``list``, ``file`` or ``histogram``). ``crc32`` is
    that of the variable's and the experiment's id as int64, little endian, and of path, container
    and content in UTF-8 with a zero byte between them. Two indexes of the paths say the same, so
    that one that is damaged hides nothing.
``atoms``, ``members``
    The value of an atom, the members of a set: JSON in UTF-8, as
    ``neptune_async._model.values`` tells. A set has a row in ``atoms``, too: how many members
    it has; and so has a series that has chunks: how many points are in them. ``crc32`` is that of
    the variable's id as int64, little endian, and the value.
``chunks``
    Points of one series, up to 8,192 a row, in the order in which they were
    logged: ``first`` counts the points before. Columns are packed in the forms
    of ``neptune_async._storage.chunks``; without ``stride`` there is a column
    of steps, else step i is ``first_step + stride * i``. ``largest_step`` and
    ``last_time`` tell where the series stands at the end of the row. The least and greatest
    step and timestamp are those of the row's points; ``summary`` holds what else a reader has
    to know of them, as ``neptune_async._storage.summaries`` tells, and ``summary_crc32`` is
    its checksum. ``crc32`` is that of values, steps and times, one after the other;
    ``head_crc32`` is that of the columns before it: first the numbers with the variable's id
    before them, integers as int64, floats as float64 (NaN for no ``stride``), checksums as
    uint32, little endian; then the three forms with a zero byte between them.
``log``
    Points that were not made into chunks yet, of all series of an experiment,
    a row a flush. Form ``f8``: four float64 a point, little endian: twice the
    variable's id (plus one where the user gave the timestamp), the step (NaN:
    one more than the largest before it), the timestamp, the value. Form
    ``json``: a list of such points whose values are str, datetime, file or histogram. ``crc32``
    is that of the points and, behind them, of the JSON list, without spaces, of
    ``experiment_id``, ``form`` and ``count``.
``files``
    The content of files, by its SHA-256, once however often it is referred to. Where ``content``
    is NULL, it is in the folder with the name of the store and ``.files`` behind it, as
    ``ab/abcd...`` by the hexadecimal digits: copy the folder together with the store.
``writers``
    The last batch of each process that wrote, so that a batch that is sent
    twice is stored once; and of each fork the experiment that it made, likewise.
``sessions``
    One row a process that has an experiment open for writing, until it closes it: the host, what
    tells its machine or container from others, the pid, what tells the process from others that
    had this pid, and the first and the last sign of life, in seconds since the epoch. A process
    that died has left its row; the next one that closes the experiment removes it.
``rejected``
    Operations that were accepted by a process and could not be stored.

A chunk of floats in five lines, with NumPy::

    values, form = connection.execute('SELECT "values", values_form FROM chunks '
        'WHERE variable_id = ? AND first = ?', (variable_id, 0)).fetchone()
    values = numpy.frombuffer(zlib.decompress(values) if form == 'f8+zlib' else values, '<f8')
    raw = numpy.frombuffer(zlib.decompress(times), 'u1')    # of times_form 'ulp'
    times = raw.reshape(8, -1).T.copy().view('<i8').cumsum().view('<f8')
"""

from neptune_async._storage.sqlite.opening import APPLICATION_ID, SCHEMA_VERSION
from neptune_async._storage.sqlite.storage import SQLiteStorage

__all__ = ['APPLICATION_ID', 'SCHEMA_VERSION', 'SQLiteStorage']
