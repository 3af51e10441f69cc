-- Leases and sessions. The first eight columns of berth_leases are those of skaphos/berth, whose table is taken
-- over where it is found: they hold a lease of one tenure by ttl, or a free one, in full. Text is kept as bytes,
-- so that neither case nor accents nor trailing blanks make two keys one. Every instant is the database's own.
-- Statements end with a semicolon at the end of a line, and each may be found to have been carried out before.

CREATE TABLE berth_leases (
    namespace     varbinary(253) NOT NULL,
    name          varbinary(253) NOT NULL,
    holder        varbinary(1024) NOT NULL,
    ttl_ms        bigint NOT NULL,
    acquired_at   datetime(6) NOT NULL,
    renewed_at    datetime(6) NOT NULL,
    fencing_token int NOT NULL,
    version       bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (namespace, name)
) ENGINE = InnoDB;

ALTER TABLE berth_leases ADD COLUMN version bigint NOT NULL DEFAULT 1;

ALTER TABLE berth_leases CONVERT TO CHARACTER SET utf8mb4;

-- extra: what the columns above have no room for, of the version extra_version and of no other.
-- incarnation: that of the database when the token was issued. written_by: the call that wrote it last.
-- changed_at, changed_by: when it last changed hands, and on which server's behalf.
ALTER TABLE berth_leases
    MODIFY namespace varbinary(253) NOT NULL,
    MODIFY name varbinary(253) NOT NULL,
    MODIFY holder varbinary(1024) NOT NULL,
    ADD COLUMN extra longtext CHARACTER SET utf8mb4,
    ADD COLUMN extra_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN incarnation int NOT NULL DEFAULT 0,
    ADD COLUMN written_by bigint NOT NULL DEFAULT 0,
    ADD COLUMN changed_at datetime(6) NOT NULL DEFAULT '2000-01-01',
    ADD COLUMN changed_by bigint NOT NULL DEFAULT 0,
    ADD KEY (changed_at);

-- What was renewed by other clocks counts as renewed now: so none of it ends early.
UPDATE berth_leases SET renewed_at = UTC_TIMESTAMP(6), version = version + 1 WHERE holder <> '';

-- ended: clean, expired or forced.
CREATE TABLE berth_sessions (
    id         varbinary(1024) NOT NULL PRIMARY KEY,
    version    bigint NOT NULL,
    holder     varbinary(1024) NOT NULL,
    instance   varbinary(1024) NOT NULL,
    ttl_us     bigint NOT NULL,
    opened_at  datetime(6) NOT NULL,
    renewed_at datetime(6) NOT NULL,
    ended      varbinary(10),
    ended_at   datetime(6),
    written_by bigint NOT NULL,
    changed_at datetime(6) NOT NULL, -- when it was opened or ended
    changed_by bigint NOT NULL,
    KEY (changed_at)
) ENGINE = InnoDB;

-- One row: which server this is, as last seen, and how often it turned out to be another than before. The
-- incarnation grows by one where writes may have been lost, changed_at says when it last did. No longer ttl
-- than ttl_max_us, lock delay included, was ever granted.
CREATE TABLE berth_meta (
    one         int NOT NULL PRIMARY KEY,
    identity    varbinary(1024) NOT NULL DEFAULT '',
    incarnation int NOT NULL DEFAULT 0,
    changed_at  datetime(6),
    ttl_max_us  bigint NOT NULL DEFAULT 0,
    pinged_at   datetime(6)
) ENGINE = InnoDB;

INSERT IGNORE INTO berth_meta (one) VALUES (1);
