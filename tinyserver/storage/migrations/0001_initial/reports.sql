-- What users have reported to the administrators: a room, an event in it, or a user. One row for each reporter and
-- subject.
CREATE TABLE reports (
    nid      INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given out again: who was told of reports remembers a number
    reporter INTEGER NOT NULL,           -- names.nid
    subject  TEXT NOT NULL,              -- ID of the event, else of the room, else of the user
    room     TEXT,                       -- ID of the room, for rooms and events
    reason   TEXT,
    ts       INTEGER NOT NULL,           -- ms since 1970
    UNIQUE (reporter, subject)
) STRICT;
