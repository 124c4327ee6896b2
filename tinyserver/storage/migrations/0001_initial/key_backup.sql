-- Key backups. A row stays when its backup is deleted, so that its version is not given out again.
CREATE TABLE key_backups (
    nid       INTEGER PRIMARY KEY,
    user      INTEGER NOT NULL,             -- names.nid
    version   INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data BLOB NOT NULL,                -- JSON object
    etag      INTEGER NOT NULL DEFAULT 0,   -- grows with every change of what is kept
    count     INTEGER NOT NULL DEFAULT 0,   -- sessions that are kept
    deleted   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, version)
) STRICT;

CREATE TABLE backed_up_sessions (
    backup              INTEGER NOT NULL,   -- key_backups.nid
    room                INTEGER NOT NULL,   -- names.nid of the room ID
    session             TEXT NOT NULL,
    first_message_index INTEGER NOT NULL,
    forwarded_count     INTEGER NOT NULL,
    is_verified         INTEGER NOT NULL,
    session_data        BLOB NOT NULL,      -- JSON object
    PRIMARY KEY (backup, room, session)
) STRICT, WITHOUT ROWID;
