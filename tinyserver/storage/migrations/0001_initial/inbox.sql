-- Checked events of other servers that cannot be placed before others have come.
CREATE TABLE waiting_events (
    nid      INTEGER PRIMARY KEY,          -- order of arrival
    room     INTEGER NOT NULL,
    event_id ANY NOT NULL,                 -- as in events
    origin   INTEGER NOT NULL,             -- names.nid of the server that sent it
    lacks    ANY,                          -- event_id of something that it refers to
    tries    INTEGER NOT NULL DEFAULT 0,
    due      INTEGER NOT NULL DEFAULT 0,   -- ms: not tried again before
    body     BLOB                          -- the PDU, see event_codec; NULL: only its name was kept, as one too many
) STRICT;
CREATE UNIQUE INDEX waiting_events_by_room ON waiting_events (room, event_id);
CREATE INDEX waiting_events_kept ON waiting_events (room, due) WHERE body IS NOT NULL;
CREATE INDEX waiting_events_named ON waiting_events (room) WHERE body IS NULL;
