-- Checked events of other servers that cannot be placed before others have come.
CREATE TABLE waiting_events (
    nid      INTEGER PRIMARY KEY,          -- order of arrival
    room     INTEGER NOT NULL,
    event_id ANY NOT NULL,                 -- as in events
    origin   INTEGER NOT NULL,             -- names.nid of the server that sent it
    lacks    ANY,                          -- event_id of something that it refers to
    tries    INTEGER NOT NULL DEFAULT 0,
    due      INTEGER NOT NULL DEFAULT 0,   -- ms: not tried again before
    body     BLOB NOT NULL                 -- the PDU, see event_codec
) STRICT;
CREATE UNIQUE INDEX waiting_events_by_room ON waiting_events (room, event_id);
