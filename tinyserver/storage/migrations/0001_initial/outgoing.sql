-- When users of other servers were joined to rooms: after position `since`, up to `until` (null: they are).
CREATE TABLE server_stays (
    room    INTEGER NOT NULL,
    server  INTEGER NOT NULL,              -- names.nid
    since   INTEGER NOT NULL,
    until   INTEGER,
    members INTEGER NOT NULL,              -- how many users of the server are joined
    PRIMARY KEY (room, server, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX server_stays_now ON server_stays (server, room) WHERE until IS NULL;
CREATE INDEX server_stays_over ON server_stays (until) WHERE until IS NOT NULL;

-- Events that this server sends to the others in their rooms, as long as somebody may still need them.
CREATE TABLE outgoing_events (
    position INTEGER PRIMARY KEY,          -- events.place
    room     INTEGER NOT NULL,
    event    INTEGER NOT NULL              -- events.nid
) STRICT;

-- Up to which position each server has everything; the others have everything up to the counter outgoing_floor.
CREATE TABLE outgoing_cursors (
    server INTEGER PRIMARY KEY,            -- names.nid
    sent   INTEGER NOT NULL
) STRICT;
INSERT INTO counters VALUES ('outgoing_floor', 0), ('outgoing_alive', 0);

-- Messages to devices of users of other servers, until their servers have them.
CREATE TABLE outgoing_messages (
    position   INTEGER PRIMARY KEY,
    server     INTEGER NOT NULL,           -- names.nid
    sender     INTEGER NOT NULL,           -- names.nid
    type       TEXT NOT NULL,
    message_id TEXT NOT NULL,
    messages   BLOB NOT NULL               -- JSON object: contents by user and device ID
) STRICT;
CREATE INDEX outgoing_messages_by_server ON outgoing_messages (server, position);

-- How much waits for each server.
CREATE TABLE outgoing_message_queues (
    server   INTEGER PRIMARY KEY,          -- names.nid
    messages INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;
