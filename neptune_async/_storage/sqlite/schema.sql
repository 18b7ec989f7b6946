-- The schema of a store, version 1. What the columns hold is told in __init__.py.

CREATE TABLE experiments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    crc32 INTEGER NOT NULL
);

CREATE TABLE variables (
    id INTEGER PRIMARY KEY,
    experiment_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    container TEXT NOT NULL,
    content TEXT NOT NULL,
    crc32 INTEGER NOT NULL,
    UNIQUE (experiment_id, path)
);

CREATE UNIQUE INDEX variables_again ON variables (experiment_id, path);

CREATE TABLE atoms (
    variable_id INTEGER PRIMARY KEY,
    value BLOB NOT NULL,
    crc32 INTEGER NOT NULL
);

CREATE TABLE members (
    variable_id INTEGER NOT NULL,
    member BLOB NOT NULL,
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (variable_id, member)
) WITHOUT ROWID;

CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    experiment_id INTEGER NOT NULL,
    form TEXT NOT NULL,
    count INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    points BLOB NOT NULL
);

CREATE INDEX log_by_experiment ON log (experiment_id);

CREATE TABLE chunks (
    variable_id INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    first_step REAL NOT NULL,
    stride REAL,
    largest_step REAL NOT NULL,
    last_time REAL NOT NULL,
    least_step REAL NOT NULL,
    greatest_step REAL NOT NULL,
    least_time REAL NOT NULL,
    greatest_time REAL NOT NULL,
    values_form TEXT NOT NULL,
    steps_form TEXT,
    times_form TEXT NOT NULL,
    summary_crc32 INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    head_crc32 INTEGER NOT NULL,
    summary BLOB NOT NULL,
    "values" BLOB NOT NULL,
    steps BLOB,
    times BLOB NOT NULL,
    UNIQUE (variable_id, first)
);

CREATE TABLE files (
    sha256 BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    content BLOB
);

CREATE TABLE writers (
    id BLOB PRIMARY KEY,
    last_batch INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
    experiment_id INTEGER NOT NULL,
    id BLOB NOT NULL,
    host TEXT NOT NULL,
    machine TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    began REAL NOT NULL,
    seen REAL NOT NULL,
    PRIMARY KEY (experiment_id, id)
) WITHOUT ROWID;

CREATE TABLE rejected (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    experiment TEXT NOT NULL,
    path TEXT NOT NULL,
    operation TEXT NOT NULL,
    count INTEGER NOT NULL,
    reason TEXT NOT NULL
);
