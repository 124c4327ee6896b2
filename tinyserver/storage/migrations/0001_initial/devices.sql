CREATE TABLE devices (
    nid          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: transaction IDs of events hang on it
    user         INTEGER NOT NULL,          -- names.nid
    device_id    TEXT NOT NULL,
    display_name TEXT,
    seen_ts      INTEGER,                   -- ms; written rarely
    seen_ip      TEXT,
    seen_agent   TEXT,
    oauth_client INTEGER,                   -- oauth_clients.nid where the device was signed in that way
    oauth_scope  TEXT,                      -- what it was granted then
    oauth_family BLOB,                      -- SHA-256 of what all its refresh tokens have in common
    UNIQUE (user, device_id)
) STRICT;
CREATE INDEX devices_by_oauth_client ON devices (oauth_client) WHERE oauth_client IS NOT NULL;
CREATE UNIQUE INDEX devices_by_oauth_family ON devices (oauth_family) WHERE oauth_family IS NOT NULL;

-- What a client presents to act for a user: an access token, and for clients that refresh it a refresh token. Both only
-- as SHA-256. A refresh makes a new row that replaces the old one as soon as one of its tokens is used.
CREATE TABLE sessions (
    nid             INTEGER PRIMARY KEY,
    user            INTEGER NOT NULL,       -- names.nid
    device          INTEGER NOT NULL,       -- devices.nid
    access_hash     BLOB NOT NULL UNIQUE,
    access_expires  INTEGER,                -- ms; null: never
    refresh_hash    BLOB UNIQUE,
    refresh_expires INTEGER,                -- ms; null: never
    replaces        INTEGER                 -- sessions.nid that is still valid, as this one was not used yet
) STRICT;
CREATE INDEX sessions_by_device ON sessions (device);
