-- The dehydrated device of a user: it has no session, only messages that wait for whoever revives it.
CREATE TABLE dehydrated_devices (
    user   INTEGER PRIMARY KEY,             -- names.nid
    device INTEGER NOT NULL,                -- devices.nid
    data   BLOB NOT NULL                    -- JSON object, encrypted by the client
) STRICT;
