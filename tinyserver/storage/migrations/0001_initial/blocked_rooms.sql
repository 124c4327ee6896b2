-- Rooms that administrators have closed to the users of this server.
CREATE TABLE blocked_rooms (
    room_id  TEXT PRIMARY KEY,
    ts       INTEGER NOT NULL,              -- ms
    reason   TEXT,                          -- what those hear who had to leave
    position INTEGER NOT NULL DEFAULT 0,    -- in the one order: who left later had to
    emptying INTEGER NOT NULL DEFAULT 0     -- 1: there may still be users of this server in it
) STRICT, WITHOUT ROWID;
CREATE INDEX blocked_rooms_emptying ON blocked_rooms (room_id) WHERE emptying = 1;
