-- Events that are sticky: told to whoever comes into their room or follows it, until their time is over.
CREATE TABLE sticky_events (
    event    INTEGER PRIMARY KEY,        -- events.nid
    room     INTEGER NOT NULL,
    position INTEGER NOT NULL,           -- since when they are to be told; 0: not yet (soft-failed)
    until    INTEGER NOT NULL            -- ms since 1970
) STRICT;
CREATE INDEX sticky_events_by_room ON sticky_events (room, position);
CREATE INDEX sticky_events_by_position ON sticky_events (position, room);
CREATE INDEX sticky_events_by_end ON sticky_events (until);
