-- One row: what was granted that this file does not know of, because it was restored from a backup. No token up
-- to token_floor is given, and nothing is granted until store time has come to closed_until_us. No longer ttl
-- than ttl_max_us, lock delay included, was ever granted.

CREATE TABLE berth_fence (
    one             INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    token_floor     INTEGER NOT NULL CHECK (token_floor BETWEEN 0 AND 2147483647),
    closed_until_us INTEGER NOT NULL,
    ttl_max_us      INTEGER NOT NULL
) STRICT;

INSERT INTO berth_fence VALUES (1, 0, 0, max(
    (SELECT coalesce(max(json_extract(t.value, '$.ttl_us') + l.lock_delay_us), 0)
        FROM berth_leases AS l, json_each(l.tenures) AS t),
    (SELECT coalesce(max(ttl_us), 0) FROM berth_sessions)));
