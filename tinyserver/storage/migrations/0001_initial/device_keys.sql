-- What devices publish for end-to-end encryption. Keys are JSON objects as their devices uploaded them.
CREATE TABLE device_keys (
    device INTEGER PRIMARY KEY,             -- devices.nid
    keys   BLOB NOT NULL                    -- with the signatures that others may see, without "unsigned"
) STRICT;

-- Keys that are given out once, the oldest upload first.
CREATE TABLE one_time_keys (
    device    INTEGER NOT NULL,             -- devices.nid
    algorithm TEXT NOT NULL,
    position  INTEGER NOT NULL,             -- of the upload in the one order
    key_id    TEXT NOT NULL,
    key       BLOB NOT NULL,
    PRIMARY KEY (device, algorithm, position, key_id)
) STRICT, WITHOUT ROWID;

-- The IDs of the keys given out last: an upload that is sent again does not bring them back.
CREATE TABLE claimed_keys (
    device    INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    position  INTEGER NOT NULL,             -- of the claim
    PRIMARY KEY (device, algorithm, key_id)
) STRICT, WITHOUT ROWID;

-- Keys that are given out when there is no other, again and again until they are replaced.
CREATE TABLE fallback_keys (
    device    INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    key       BLOB NOT NULL,
    used      INTEGER,                      -- position of the first claim; null: not used yet
    PRIMARY KEY (device, algorithm)
) STRICT, WITHOUT ROWID;
