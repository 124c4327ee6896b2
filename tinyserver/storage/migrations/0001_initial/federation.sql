-- Keys of other servers. They are kept after a server has dropped them: old events are signed with them.
CREATE TABLE server_keys (
    server      TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    public_key  BLOB NOT NULL,              -- 32 bytes
    valid_until INTEGER NOT NULL,           -- ms: events up to here may be signed with it
    expired     INTEGER,                    -- ms; null: the server uses it
    fetched     INTEGER NOT NULL,           -- ms
    PRIMARY KEY (server, key_id)
) STRICT, WITHOUT ROWID;

-- The last list of keys that a server gave, as it signed it, for those who ask us about it.
CREATE TABLE server_key_documents (
    server      TEXT PRIMARY KEY,
    document    TEXT NOT NULL,              -- JSON
    valid_until INTEGER NOT NULL,           -- ms
    fetched     INTEGER NOT NULL            -- ms
) STRICT, WITHOUT ROWID;
CREATE INDEX server_key_documents_by_age ON server_key_documents (fetched);

-- Servers that could not be reached, and when they are tried again. A server that answers has no row.
CREATE TABLE failing_destinations (
    server        TEXT PRIMARY KEY,
    failing_since INTEGER NOT NULL,         -- ms
    retry_at      INTEGER NOT NULL,         -- ms
    pause         INTEGER NOT NULL,         -- ms: how long the present back-off is
    reason        TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX failing_destinations_by_retry ON failing_destinations (retry_at);
