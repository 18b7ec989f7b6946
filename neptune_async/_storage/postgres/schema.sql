-- The schema of a store, version 1. What the columns hold is told in __init__.py.
--
-- Every key begins with the id of an experiment, but for those of the list of experiments: the
-- rows of one experiment can be kept on one machine of a cluster. Files have none: experiments share
-- them. There is no sequence, and no lock
-- that all experiments share. Arrays are kept out of pglz, which takes longer than it saves.

CREATE TABLE store (version integer NOT NULL);

CREATE TABLE experiments (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE epochs (
    experiment_id bigint PRIMARY KEY,
    epoch integer NOT NULL DEFAULT 0
);

CREATE TABLE writers (
    experiment_id bigint NOT NULL,
    id bytea NOT NULL,
    last_batch bigint NOT NULL,
    PRIMARY KEY (experiment_id, id)
) WITH (fillfactor = 50);

CREATE TABLE variables (
    experiment_id bigint NOT NULL,
    id bigint NOT NULL,
    path text COLLATE "C" NOT NULL,
    container text NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (experiment_id, id),
    UNIQUE (experiment_id, path)
);

CREATE TABLE atoms (
    experiment_id bigint NOT NULL,
    variable_id bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (experiment_id, variable_id)
);

CREATE TABLE members (
    experiment_id bigint NOT NULL,
    variable_id bigint NOT NULL,
    digest bytea NOT NULL,
    member bytea NOT NULL,
    PRIMARY KEY (experiment_id, variable_id, digest)
);

CREATE TABLE series (
    experiment_id bigint NOT NULL,
    variable_id bigint NOT NULL,
    count bigint NOT NULL DEFAULT 0,
    largest_step double precision NOT NULL DEFAULT '-Infinity',
    last_time double precision NOT NULL DEFAULT '-Infinity',
    PRIMARY KEY (experiment_id, variable_id)
) WITH (fillfactor = 50);

CREATE TABLE chunks (
    experiment_id bigint NOT NULL,
    variable_id bigint NOT NULL,
    first bigint NOT NULL,
    count integer NOT NULL,
    first_step double precision,
    stride double precision,
    steps double precision[],
    times double precision[] NOT NULL,
    "values" double precision[],
    texts text[],
    encoded bytea[],
    least_step double precision,
    greatest_step double precision,
    least_time double precision,
    greatest_time double precision,
    summary bytea,
    PRIMARY KEY (experiment_id, variable_id, first)
);

ALTER TABLE chunks
    ALTER COLUMN steps SET STORAGE EXTERNAL,
    ALTER COLUMN times SET STORAGE EXTERNAL,
    ALTER COLUMN "values" SET STORAGE EXTERNAL;

CREATE TABLE files (
    sha256 bytea PRIMARY KEY,
    size bigint NOT NULL
);

CREATE TABLE file_pieces (
    sha256 bytea NOT NULL,
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (sha256, number)
);

ALTER TABLE file_pieces ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE sessions (
    experiment_id bigint NOT NULL,
    id bytea NOT NULL,
    host text NOT NULL,
    machine text NOT NULL,
    pid bigint NOT NULL,
    started text NOT NULL,
    began timestamptz NOT NULL DEFAULT statement_timestamp(),
    seen timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (experiment_id, id)
) WITH (fillfactor = 50);

CREATE TABLE rejected (
    experiment_id bigint NOT NULL,
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    experiment text NOT NULL,
    path text NOT NULL,
    operation text NOT NULL,
    count bigint NOT NULL,
    reason text NOT NULL
);

CREATE INDEX rejected_by_experiment ON rejected (experiment_id);

CREATE VIEW points AS
SELECT
    experiments.name AS experiment,
    variables.path,
    chunks.first + point.place - 1 AS index,
    coalesce(point.step, chunks.first_step + chunks.stride * (point.place - 1)) AS step,
    point.time,
    point.value,
    point.text
FROM chunks
JOIN experiments ON experiments.id = chunks.experiment_id
JOIN variables
    ON variables.experiment_id = chunks.experiment_id AND variables.id = chunks.variable_id
CROSS JOIN LATERAL unnest(chunks.steps, chunks.times, chunks."values", chunks.texts)
    WITH ORDINALITY AS point (step, time, value, text, place);
