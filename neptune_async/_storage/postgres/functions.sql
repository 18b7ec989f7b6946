-- What a batch calls, so that it is one round trip. Whatever keeps a batch from being stored is
-- raised with a code of ours (see faults.py), which undoes all of it.

-- Whether a batch is the next one of its writer, for an experiment as its sender knows it.
--
-- named:    the experiment's id as the sender knows it, which may have been deleted and made anew
-- after:    a batch of the writer that is known to be stored for the experiment; 0 for none
-- expected: how often variables were deleted from it when the sender last looked
CREATE FUNCTION begin_part(
    named bigint, experiment bigint, expected integer, deletes boolean,
    writer bytea, number bigint, after bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_epoch integer;
BEGIN
    IF after > 0 AND NOT EXISTS (
        SELECT FROM writers WHERE experiment_id = named AND id = writer AND last_batch >= after
    ) THEN
        RAISE EXCEPTION 'batch % of a writer was stored, and is not there any more', after
        USING ERRCODE = 'NA004';
    END IF;
    -- A first attempt that is still going on holds the row: this waits until it has come to its
    -- end, and then finds the batch stored or not.
    INSERT INTO writers AS w (experiment_id, id, last_batch) VALUES (named, writer, number)
    ON CONFLICT (experiment_id, id) DO UPDATE SET last_batch = excluded.last_batch
    WHERE w.last_batch < excluded.last_batch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the batch is stored' USING ERRCODE = 'NA003';
    END IF;
    -- Batches hold the row together, a deletion holds it alone.
    IF deletes THEN
        SELECT epoch INTO found_epoch FROM epochs WHERE experiment_id = experiment FOR UPDATE;
    ELSE
        SELECT epoch INTO found_epoch FROM epochs WHERE experiment_id = experiment FOR SHARE;
    END IF;
    IF found_epoch IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'variables were deleted'
        USING ERRCODE = 'NA002', DETAIL = named::text;
    END IF;
END $$;

-- Make variables, unless equal ones are there.
CREATE FUNCTION create_variables(
    named bigint, experiment bigint, ids bigint[], paths text[], containers text[], contents text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    made integer;
    conflicts jsonb;
BEGIN
    -- In the order of the paths: of two that make the same variables none waits for the other.
    INSERT INTO variables (experiment_id, id, path, container, content)
    SELECT experiment, wanted.*
    FROM unnest(ids, paths, containers, contents) AS wanted (id, path, container, content)
    ORDER BY wanted.path
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS made = ROW_COUNT;
    IF made < cardinality(ids) THEN
        -- A path that has no variable now has an id that is taken, by chance: ids are drawn
        -- without asking the store.
        SELECT jsonb_agg(jsonb_build_array(
            wanted.id,
            coalesce(v.id, free.id),
            wanted.path,
            coalesce(v.container, wanted.container),
            coalesce(v.content, wanted.content)
        )) INTO conflicts
        FROM unnest(ids, paths, containers, contents) AS wanted (id, path, container, content)
        LEFT JOIN variables v ON v.experiment_id = experiment AND v.path = wanted.path
        CROSS JOIN (
            SELECT max(id) + 1 AS id FROM variables WHERE experiment_id = experiment
        ) AS free
        WHERE v.id IS DISTINCT FROM wanted.id;
        IF conflicts IS NOT NULL THEN
            RAISE EXCEPTION 'others made variables'
            USING ERRCODE = 'NA001', DETAIL = jsonb_build_array(named, conflicts)::text;
        END IF;
    END IF;
    INSERT INTO series (experiment_id, variable_id)
    SELECT experiment, wanted.id
    FROM unnest(ids, containers) AS wanted (id, container)
    WHERE wanted.container = 'series'
    ORDER BY wanted.id
    ON CONFLICT DO NOTHING;
END $$;

-- Delete the variable at a path and all below it.
CREATE FUNCTION delete_variables(experiment bigint, gone_path text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    gone bigint[];
BEGIN
    gone := ARRAY(
        SELECT id FROM variables
        WHERE experiment_id = experiment AND (
            path = gone_path
            -- '0' is the character after '/'.
            OR (path >= (gone_path || '/') COLLATE "C" AND path < (gone_path || '0') COLLATE "C")
        )
    );
    IF gone = '{}' THEN
        RETURN;
    END IF;
    DELETE FROM chunks WHERE experiment_id = experiment AND variable_id = ANY (gone);
    DELETE FROM series WHERE experiment_id = experiment AND variable_id = ANY (gone);
    DELETE FROM atoms WHERE experiment_id = experiment AND variable_id = ANY (gone);
    DELETE FROM members WHERE experiment_id = experiment AND variable_id = ANY (gone);
    DELETE FROM variables WHERE experiment_id = experiment AND id = ANY (gone);
    UPDATE epochs SET epoch = epoch + 1 WHERE experiment_id = experiment;
END $$;

-- What tells equal members of a set: 0.0 and -0.0 are equal, and not the same bytes.
CREATE FUNCTION digest_of(member bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(CASE WHEN member = '-0.0'::bytea THEN '0.0'::bytea ELSE member END)
$$;

-- Apply operations, one kind after the other.
--
-- kinds, ends: the kind of each run of rows, and its last row
-- The rows have what their kind needs: id, path, container, content, value, step.
CREATE FUNCTION apply_operations(
    named bigint, experiment bigint, kinds text[], ends integer[],
    ids bigint[], paths text[], containers text[], contents text[], payloads bytea[],
    steps double precision[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a integer := 1;
    z integer;
BEGIN
    FOR run IN 1 .. cardinality(kinds) LOOP
        z := ends[run];
        CASE kinds[run]
        WHEN 'CreateVariable' THEN
            PERFORM create_variables(
                named, experiment, ids[a:z], paths[a:z], containers[a:z], contents[a:z]
            );
        WHEN 'Assign' THEN
            INSERT INTO atoms (experiment_id, variable_id, value)
            SELECT experiment, given.*
            FROM unnest(ids[a:z], payloads[a:z]) AS given (id, value)
            ON CONFLICT (experiment_id, variable_id) DO UPDATE SET value = excluded.value;
            PERFORM set_contents(experiment, ids[a:z], contents[a:z]);
        WHEN 'AddMembers' THEN
            INSERT INTO members (experiment_id, variable_id, digest, member)
            SELECT experiment, given.id, digest_of(given.member), given.member
            FROM unnest(ids[a:z], payloads[a:z]) AS given (id, member)
            ON CONFLICT DO NOTHING;
        WHEN 'RemoveMembers' THEN
            DELETE FROM members USING unnest(ids[a:z], payloads[a:z]) AS given (id, member)
            WHERE experiment_id = experiment AND variable_id = given.id
            AND digest = digest_of(given.member);
        WHEN 'ResetMembers' THEN
            DELETE FROM members
            WHERE experiment_id = experiment AND variable_id = ANY (ids[a:z]);
            PERFORM set_contents(experiment, ids[a:z], contents[a:z]);
        WHEN 'Delete' THEN
            PERFORM delete_variables(experiment, path) FROM unnest(paths[a:z]) AS path;
        WHEN 'Rewind' THEN
            PERFORM rewind(experiment, given.path, given.step)
            FROM unnest(paths[a:z], steps[a:z]) AS given (path, step);
        END CASE;
        a := z + 1;
    END LOOP;
END $$;

CREATE FUNCTION set_contents(experiment bigint, ids bigint[], contents text[]) RETURNS void
LANGUAGE sql AS $$
    UPDATE variables SET content = given.content
    FROM unnest(ids, contents) AS given (id, content)
    WHERE experiment_id = experiment AND variables.id = given.id
    AND variables.content <> given.content
$$;

-- Lock where series stand, in the order of their ids, so that of two batches none waits for the
-- other. Tolerant: some may have been deleted by the same batch.
CREATE FUNCTION lock_series(experiment bigint, ids bigint[], tolerant boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    locked integer;
BEGIN
    PERFORM FROM series WHERE experiment_id = experiment AND variable_id = ANY (ids)
    ORDER BY variable_id FOR UPDATE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(ids) AND NOT tolerant THEN
        RAISE EXCEPTION 'points name % series that are not there', cardinality(ids) - locked
        USING ERRCODE = 'NA005';
    END IF;
END $$;

CREATE FUNCTION following(largest double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN largest = '-Infinity' THEN 0.0 ELSE largest + 1.0 END
$$;

-- Whether so many steps that follow are integral, and exact.
CREATE FUNCTION counts_up(largest double precision, count integer) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT largest = '-Infinity'
    -- Not a sum, which would be rounded.
    OR (largest = floor(largest) AND abs(largest) <= 9007199254740992 - count)
$$;

-- Give automatic steps, which are NaN, the number after the largest before them.
CREATE FUNCTION resolved_steps(steps double precision[], largest double precision)
RETURNS double precision[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF array_position(steps, 'NaN') IS NOT NULL THEN
        FOR i IN 1 .. cardinality(steps) LOOP
            IF steps[i] = 'NaN' THEN
                steps[i] := following(largest);
            END IF;
            largest := greatest(largest, steps[i]);
        END LOOP;
    END IF;
    RETURN steps;
END $$;

-- Let none of the first points, whose times are automatic and in order, be before the last.
CREATE FUNCTION resolved_times(
    times double precision[], floating_times integer, last_time double precision
) RETURNS double precision[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN floating_times = 0 OR times[1] >= last_time THEN times ELSE ARRAY(
        SELECT CASE WHEN place <= floating_times AND time < last_time THEN last_time ELSE time END
        FROM unnest(times) WITH ORDINALITY AS given (time, place) ORDER BY place
    ) END
$$;

-- Append a row to each of several series. In PL/pgSQL, which keeps the plan of a statement: to make
-- it takes two times as long as to store a point. But it copies a whole array that is a variable
-- whenever a piece is cut out of it, and not one that is a field of a record.
--
-- ids, counts:            a series, and how many points it gets
-- first_steps, strides:   of steps that are regular; without them and steps all are automatic
-- step_counts, steps:     how many of the steps are its own, and they; NaN is automatic
-- floating, times:         how many points come before the first whose time was given; all times
-- number_counts, numbers: how many of the numbers are its values, and they
-- texts:                  the values of other series; null where a text cannot hold it
-- encoded_counts, encoded: how many of the encoded are for its nulls, and they
CREATE FUNCTION append_points(
    experiment bigint, tolerant boolean, ids bigint[], counts integer[],
    first_steps double precision[], strides double precision[],
    step_counts integer[], steps double precision[],
    floating integer[], times double precision[],
    number_counts integer[], numbers double precision[],
    texts text[], encoded_counts integer[], encoded bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    whole record;
BEGIN
    PERFORM lock_series(experiment, ids, tolerant);
    SELECT steps, times, numbers, texts, encoded INTO whole;

    WITH given AS (
        SELECT
            g.*,
            sum(count) OVER before AS times_end,
            sum(step_count) OVER before AS steps_end,
            sum(number_count) OVER before AS numbers_end,
            sum(count - number_count) OVER before AS texts_end,
            sum(encoded_count) OVER before AS encoded_end
        FROM unnest(
            ids, counts, first_steps, strides, step_counts, floating, number_counts, encoded_counts
        ) WITH ORDINALITY AS g (
            id, count, first_step, stride, step_count, floating_times, number_count, encoded_count,
            place
        )
        WINDOW before AS (ORDER BY place)
    ), standing AS (
        SELECT
            given.*,
            series.count AS first, series.largest_step, series.last_time,
            stride IS NULL AND step_count = 0 AND counts_up(series.largest_step, given.count)
                AS follows
        FROM given JOIN series ON series.experiment_id = experiment AND variable_id = given.id
    ), resolved AS MATERIALIZED (
        SELECT
            id, count, first, largest_step, number_count, numbers_end, texts_end,
            encoded_count, encoded_end,
            CASE WHEN follows THEN following(largest_step) ELSE first_step END AS first_step,
            CASE WHEN follows THEN 1.0 ELSE stride END AS stride,
            CASE WHEN NOT follows AND stride IS NULL THEN resolved_steps(
                CASE
                    WHEN step_count > 0
                        THEN whole.steps[steps_end - step_count + 1 : steps_end]
                    ELSE array_fill('NaN'::double precision, ARRAY[count])
                END,
                largest_step
            ) END AS steps,
            resolved_times(
                whole.times[times_end - count + 1 : times_end], floating_times, last_time
            ) AS times
        FROM standing
    ), stored AS (
        INSERT INTO chunks (
            experiment_id, variable_id, first, count, first_step, stride, steps, times,
            "values", texts, encoded
        )
        SELECT
            experiment, id, first, count, first_step, stride, resolved.steps, resolved.times,
            CASE WHEN number_count > 0
                THEN whole.numbers[numbers_end - number_count + 1 : numbers_end] END,
            CASE WHEN number_count = 0 THEN whole.texts[texts_end - count + 1 : texts_end] END,
            CASE WHEN encoded_count > 0
                THEN whole.encoded[encoded_end - encoded_count + 1 : encoded_end] END
        FROM resolved
    )
    UPDATE series SET
        count = series.count + resolved.count,
        largest_step = greatest(
            resolved.largest_step,
            first_step,
            first_step + stride * (resolved.count - 1),
            (SELECT max(step) FROM unnest(resolved.steps) AS step)
        ),
        last_time = resolved.times[resolved.count]
    FROM resolved
    WHERE experiment_id = experiment AND variable_id = resolved.id;
END $$;

-- Tell those who watch an experiment that something is committed. Commits that notify wait for each
-- other, so this does only if somebody watches, and thereby holds the lock.
CREATE FUNCTION tell_watchers(experiment bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_lock(experiment) THEN
        PERFORM pg_advisory_unlock(experiment);
    ELSE
        PERFORM pg_notify('neptune_async_' || experiment, '');
    END IF;
END $$;

-- Store what a batch has of one experiment, and return its epoch then.
CREATE FUNCTION write_part(
    named bigint, experiment bigint, expected integer, deletes boolean,
    writer bytea, number bigint, after bigint,
    kinds text[], ends integer[],
    operation_ids bigint[], paths text[], containers text[], contents text[], payloads bytea[],
    rewind_steps double precision[],
    ids bigint[], counts integer[],
    first_steps double precision[], strides double precision[],
    step_counts integer[], steps double precision[],
    floating integer[], times double precision[],
    number_counts integer[], numbers double precision[],
    texts text[], encoded_counts integer[], encoded bytea[]
) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM begin_part(named, experiment, expected, deletes, writer, number, after);
    PERFORM apply_operations(
        named, experiment, kinds, ends, operation_ids, paths, containers, contents, payloads,
        rewind_steps
    );
    PERFORM append_points(
        experiment, deletes, ids, counts, first_steps, strides, step_counts, steps,
        floating, times, number_counts, numbers, texts, encoded_counts, encoded
    );
    PERFORM tell_watchers(experiment);
    RETURN (SELECT epoch FROM epochs WHERE experiment_id = experiment);
END $$;

-- Merge the small rows at the end of series, those after the last that has as many points as said.
CREATE FUNCTION merge_chunks(experiment bigint, ids bigint[], enough integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    merged bigint[];
    starts bigint[];
BEGIN
    PERFORM lock_series(experiment, ids, true);
    SELECT array_agg(variable_id), array_agg(start) INTO merged, starts
    FROM (
        SELECT
            variable_id,
            coalesce(max(first) FILTER (WHERE count >= enough), -1) + 1 AS start
        FROM chunks
        WHERE experiment_id = experiment AND variable_id = ANY (ids)
        GROUP BY variable_id HAVING count(*) FILTER (WHERE count < enough) > 1
    ) AS small;
    PERFORM rewrite_chunks(experiment, merged, starts, 'Infinity');
END $$;

-- Write the rows of series anew, from those on that begin at a position, without the points beyond
-- a step.
CREATE FUNCTION rewrite_chunks(
    experiment bigint, ids bigint[], starts bigint[], most double precision
) RETURNS void LANGUAGE sql AS $$
    WITH old AS (
        DELETE FROM chunks USING unnest(ids, starts) AS given (id, start)
        WHERE experiment_id = experiment AND variable_id = given.id AND first >= given.start
        RETURNING chunks.*
    ), points AS (
        SELECT
            old.variable_id,
            old.first + place - 1 AS index,
            coalesce(step, old.first_step + old.stride * (place - 1)) AS step,
            time, number, text, code
        FROM old
        CROSS JOIN LATERAL unnest(old.steps, old.times, old."values", old.texts, old.encoded)
            WITH ORDINALITY AS point (step, time, number, text, code, place)
    ), kept AS (
        SELECT
            points.*,
            min(begins.index) OVER w + row_number() OVER w - 1 AS new_index
        FROM points
        JOIN (SELECT variable_id, min(index) AS index FROM points GROUP BY variable_id) AS begins
            USING (variable_id)
        WHERE step <= most
        WINDOW w AS (PARTITION BY variable_id ORDER BY points.index)
    ), cut AS (
        SELECT
            *,
            (new_index - min(new_index) OVER (PARTITION BY variable_id)) / 8192 AS part,
            step - lag(step) OVER (PARTITION BY variable_id ORDER BY index) AS apart
        FROM kept
    ), merged AS (
        SELECT
            variable_id,
            min(new_index) AS first,
            count(*) AS count,
            array_agg(step ORDER BY index) AS steps,
            array_agg(time ORDER BY index) AS times,
            array_agg(number ORDER BY index) FILTER (WHERE number IS NOT NULL) AS numbers,
            array_agg(text ORDER BY index) AS texts,
            array_agg(code ORDER BY index) AS encoded,
            bool_or(code IS NOT NULL) AS has_encoded,
            bool_and(step = floor(step)) AS is_integral,
            -- Of the first point of a part, the step before is in another row.
            (array_agg(apart ORDER BY index))[2:] AS apart
        FROM cut GROUP BY variable_id, part
    ), judged AS (
        SELECT
            *,
            is_integral
            AND greatest(abs(steps[1]), abs(steps[count])) <= 9007199254740992
            -- What lies between two that are far apart is rounded.
            AND steps[1] + apart[1] * (count - 1) = steps[count]
            AND apart[1] = ALL (apart) AS is_regular
        FROM merged
    )
    INSERT INTO chunks (
        experiment_id, variable_id, first, count, first_step, stride, steps, times,
        "values", texts, encoded
    )
    SELECT
        experiment, variable_id, first, count,
        CASE WHEN is_regular THEN steps[1] END,
        CASE WHEN is_regular THEN apart[1] END,
        CASE WHEN is_regular IS NOT TRUE THEN steps END,
        times,
        numbers,
        CASE WHEN numbers IS NULL THEN texts END,
        CASE WHEN has_encoded THEN encoded END
    FROM judged;
$$;

-- Drop the points beyond a step from all series at a path and below it; all of them if it is empty.
--
-- Only the end of a series is written anew, from its first row on that has such a point, and from
-- the small rows right before that one, to be merged; of the rows before only the steps are read.
CREATE FUNCTION rewind(experiment bigint, top text, step double precision) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
    firsts bigint[];
    starts bigint[];
    largest_before double precision[];
BEGIN
    ids := ARRAY(
        SELECT id FROM variables
        WHERE experiment_id = experiment AND container = 'series' AND (
            top IN ('', path)
            -- '0' is the character after '/'.
            OR (path >= (top || '/') COLLATE "C" AND path < (top || '0') COLLATE "C")
        )
    );
    PERFORM lock_series(experiment, ids, true);
    SELECT array_agg(id), array_agg(first) INTO ids, firsts
    FROM (
        SELECT variable_id AS id, min(first) AS first
        FROM series JOIN chunks USING (experiment_id, variable_id)
        WHERE experiment_id = experiment AND variable_id = ANY (ids) AND largest_step > step
        AND largest_of(first_step, stride, chunks.count, steps) > step
        GROUP BY variable_id
    ) AS beyond;
    PERFORM cut_ends(experiment, ids, firsts, step);

    WITH measured AS MATERIALIZED (
        SELECT
            id, beyond.first AS beyond, chunks.first, chunks.count,
            largest_of(first_step, stride, chunks.count, steps) AS largest
        FROM unnest(ids, firsts) AS beyond (id, first)
        LEFT JOIN chunks ON experiment_id = experiment AND variable_id = id
    ), begins AS (
        SELECT id, coalesce(max(first + count), 0) AS start
        FROM unnest(ids) AS given (id) LEFT JOIN measured USING (id)
        -- Not more than fits into one row, lest a rewind be as long as the series.
        WHERE largest <= step AND first <= beyond AND (count >= 4096 OR first < beyond - 8192)
        GROUP BY id
    )
    SELECT array_agg(id), array_agg(start), array_agg(largest)
    INTO ids, starts, largest_before
    FROM (
        SELECT id, coalesce(start, 0) AS start, max(largest) FILTER (WHERE first < start) AS largest
        FROM measured LEFT JOIN begins USING (id)
        GROUP BY id, start
    ) AS cut;
    PERFORM rewrite_chunks(experiment, ids, starts, step);
    UPDATE series SET
        count = cut.start + left_over.count,
        largest_step = coalesce(greatest(cut.largest, left_over.largest), '-Infinity'),
        last_time = coalesce(
            (
                SELECT times[chunks.count] FROM chunks
                WHERE experiment_id = experiment AND variable_id = cut.id
                ORDER BY first DESC LIMIT 1
            ),
            '-Infinity'
        )
    FROM unnest(ids, starts, largest_before) AS cut (id, start, largest)
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(chunks.count), 0) AS count,
            max(largest_of(first_step, stride, chunks.count, steps)) AS largest
        FROM chunks
        WHERE experiment_id = experiment AND variable_id = cut.id AND first >= cut.start
    ) AS left_over
    WHERE experiment_id = experiment AND series.variable_id = cut.id;
END $$;

-- Cut off the end of series, from the first point on that is beyond a step, where all points after
-- it are, too. A row of a large batch is cut a hundred times faster than it is written anew.
--
-- firsts: where the first row begins that has such a point
CREATE FUNCTION cut_ends(
    experiment bigint, ids bigint[], firsts bigint[], most double precision
) RETURNS void LANGUAGE sql AS $$
    WITH cut AS MATERIALIZED (
        SELECT variable_id, chunks.first, kept.count
        FROM unnest(ids, firsts) AS given (id, first)
        JOIN chunks
            ON experiment_id = experiment AND variable_id = id AND chunks.first = given.first
        CROSS JOIN LATERAL (
            SELECT count(*)::integer AS count, coalesce(max(place), 0) AS last
            FROM ROWS FROM (unnest(steps), generate_series(1, chunks.count)) AS point (step, place)
            WHERE coalesce(step, first_step + stride * (place - 1)) <= most
        ) AS kept
        WHERE kept.count = kept.last AND NOT EXISTS (
            SELECT FROM chunks AS later
            CROSS JOIN ROWS FROM (unnest(later.steps), generate_series(1, later.count))
                AS point (step, place)
            WHERE later.experiment_id = experiment AND later.variable_id = id
            AND later.first > given.first
            AND coalesce(step, later.first_step + later.stride * (place - 1)) <= most
        )
    ), gone AS (
        DELETE FROM chunks USING cut
        WHERE experiment_id = experiment AND chunks.variable_id = cut.variable_id
        AND (chunks.first > cut.first OR (chunks.first = cut.first AND cut.count = 0))
    )
    UPDATE chunks SET
        count = cut.count,
        steps = steps[:cut.count],
        times = times[:cut.count],
        "values" = "values"[:cut.count],
        texts = texts[:cut.count],
        encoded = encoded[:cut.count],
        -- Of a row that has lost points, it says what is not so any more.
        summary = CASE WHEN cut.count = chunks.count THEN summary END
    FROM cut
    WHERE experiment_id = experiment AND chunks.variable_id = cut.variable_id
    AND chunks.first = cut.first AND cut.count > 0
$$;

-- The largest step of a row.
CREATE FUNCTION largest_of(
    first_step double precision, stride double precision, count integer, steps double precision[]
) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(
        first_step, first_step + stride * (count - 1), (SELECT max(s) FROM unnest(steps) AS s)
    )
$$;

-- Until the transaction ends, have no content of a file removed, or no experiment forked. The lock is
-- one of this schema's table of files.
CREATE FUNCTION keep_cleaning_out() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared(1312904057, 'files'::regclass::oid::integer)
$$;

CREATE FUNCTION keep_forks_out() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(1312904057, 'files'::regclass::oid::integer)
$$;

-- Make an experiment with a copy of variables of another, under other ids; false if the name is
-- taken.
CREATE FUNCTION fork_experiment(
    original bigint, fork bigint, fork_name text, old_ids bigint[], new_ids bigint[],
    step double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keep_cleaning_out();
    IF create_experiment(fork, fork_name) IS NULL THEN
        RETURN false;
    END IF;
    PERFORM FROM epochs WHERE experiment_id = original FOR SHARE;
    PERFORM lock_series(original, old_ids, true);
    INSERT INTO variables (experiment_id, id, path, container, content)
    SELECT fork, copy.new, path, container, content
    FROM variables JOIN unnest(old_ids, new_ids) AS copy (old, new) ON id = copy.old
    WHERE experiment_id = original;
    INSERT INTO atoms (experiment_id, variable_id, value)
    SELECT fork, copy.new, value
    FROM atoms JOIN unnest(old_ids, new_ids) AS copy (old, new) ON variable_id = copy.old
    WHERE experiment_id = original;
    INSERT INTO members (experiment_id, variable_id, digest, member)
    SELECT fork, copy.new, digest, member
    FROM members JOIN unnest(old_ids, new_ids) AS copy (old, new) ON variable_id = copy.old
    WHERE experiment_id = original;
    INSERT INTO series (experiment_id, variable_id, count, largest_step, last_time)
    SELECT fork, copy.new, count, largest_step, last_time
    FROM series JOIN unnest(old_ids, new_ids) AS copy (old, new) ON variable_id = copy.old
    WHERE experiment_id = original;
    INSERT INTO chunks (
        experiment_id, variable_id, first, count, first_step, stride, steps, times, "values",
        texts, encoded, least_step, greatest_step, least_time, greatest_time, summary
    )
    SELECT
        fork, copy.new, first, count, first_step, stride, steps, times, "values", texts, encoded,
        least_step, greatest_step, least_time, greatest_time, summary
    FROM chunks JOIN unnest(old_ids, new_ids) AS copy (old, new) ON variable_id = copy.old
    WHERE experiment_id = original;
    PERFORM rewind(fork, '', step);
    RETURN true;
END $$;

-- Make an experiment; null if the name is taken.
CREATE FUNCTION create_experiment(new_id bigint, new_name text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO experiments (id, name) VALUES (new_id, new_name) ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO epochs (experiment_id) VALUES (new_id);
    RETURN new_id;
END $$;

-- Delete an experiment with all that it holds; false if there is none. Its writers stay, so that
-- a batch that was stored before is known to have been.
CREATE FUNCTION delete_experiment(gone_name text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM experiments WHERE name = gone_name RETURNING id INTO gone;
    IF gone IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM epochs WHERE experiment_id = gone;
    DELETE FROM sessions WHERE experiment_id = gone;
    DELETE FROM chunks WHERE experiment_id = gone;
    DELETE FROM series WHERE experiment_id = gone;
    DELETE FROM atoms WHERE experiment_id = gone;
    DELETE FROM members WHERE experiment_id = gone;
    DELETE FROM variables WHERE experiment_id = gone;
    RETURN true;
END $$;
