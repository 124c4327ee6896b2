-- Rooms that were joined without the list of their members, and from when on all of it was here. The roots in these two
-- tables are in use like those of events.
CREATE TABLE partial_rooms (
    room     INTEGER PRIMARY KEY,        -- rooms.nid
    join_nid INTEGER NOT NULL,           -- events.nid of the join before which the state is not known whole
    base     INTEGER NOT NULL,           -- root of that state as far as it was told with the join
    told     INTEGER NOT NULL DEFAULT 0, -- root of all of that state: as much of it as has been put together
    servers  TEXT NOT NULL,              -- JSON: whom to ask for it, the server that let us in first
    whole_at INTEGER                     -- the position from which on everything is known; null: it is not yet
) STRICT;
CREATE INDEX partial_rooms_whole ON partial_rooms (whole_at) WHERE whole_at IS NOT NULL;
CREATE INDEX partial_rooms_now ON partial_rooms (room) WHERE whole_at IS NULL;

-- Events of such rooms that were stored meanwhile, and what becomes of each when everything is known.
CREATE TABLE partial_events (
    room     INTEGER NOT NULL,
    event    INTEGER NOT NULL,           -- events.nid
    position INTEGER NOT NULL,           -- when it was stored: parents come before their children
    told     INTEGER NOT NULL DEFAULT 0, -- root of the state before it, as told where its parents are not here; 0: unasked
    state    INTEGER,                    -- root of the state after it, as it really was; null: not looked at yet
    replaces INTEGER,                    -- events.replaces, as it should be
    rejected INTEGER NOT NULL DEFAULT 0, -- 1: with everything known, the rules do not allow it
    PRIMARY KEY (room, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX partial_events_left ON partial_events (room, position) WHERE state IS NULL;
