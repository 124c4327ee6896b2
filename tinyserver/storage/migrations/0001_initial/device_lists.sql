-- When the devices or cross-signing keys of a user last changed.
CREATE TABLE device_list_changes (
    user     INTEGER PRIMARY KEY,           -- names.nid
    position INTEGER NOT NULL
) STRICT;
CREATE INDEX device_list_changes_by_position ON device_list_changes (position);

-- What other servers are told of the devices of local users, as long as one of them may still need it; of each user
-- at least the newest change of a device. The position is the stream_id.
CREATE TABLE device_list_log (
    position INTEGER PRIMARY KEY,
    user     INTEGER NOT NULL,              -- names.nid
    device   TEXT NOT NULL,                 -- the device that changed; '': the cross-signing keys
    prev     INTEGER,                       -- position of the user's change of a device before this one
    room     INTEGER                        -- null, or the room that the user joined: its servers learn of the newest
                                            -- change, unless they follow the user already
) STRICT;
CREATE INDEX device_list_log_by_user ON device_list_log (user, position, device, prev, room);

-- The devices of users of other servers, as their servers told us.
CREATE TABLE remote_device_lists (
    user     INTEGER PRIMARY KEY,           -- names.nid
    server   INTEGER NOT NULL,              -- names.nid
    position INTEGER NOT NULL,              -- when the whole list was fetched
    stream   INTEGER,                       -- stream_id of the newest change; null: unknown
    stale    INTEGER NOT NULL DEFAULT 0     -- changes were missed: the list must be fetched again
) STRICT;
CREATE INDEX remote_device_lists_stale ON remote_device_lists (server, user) WHERE stale = 1;
CREATE INDEX remote_device_lists_by_position ON remote_device_lists (position);

CREATE TABLE remote_devices (
    user         INTEGER NOT NULL,          -- names.nid
    device_id    TEXT NOT NULL,
    display_name TEXT,
    keys         BLOB NOT NULL,             -- JSON object without "unsigned"
    PRIMARY KEY (user, device_id)
) STRICT, WITHOUT ROWID;
