-- The room of each user in which the server sends its notices.
CREATE TABLE notice_rooms (
    user INTEGER PRIMARY KEY,               -- users.nid
    room INTEGER NOT NULL                   -- rooms.nid
) STRICT;

-- Notices that not everybody has yet whom they are for. They are sent one after the other, user by user.
CREATE TABLE notices (
    nid       INTEGER PRIMARY KEY AUTOINCREMENT,
    content   TEXT NOT NULL,                -- of the event: JSON
    recipient INTEGER,                      -- users.nid; null: everybody, or
    room      INTEGER,                      -- rooms.nid: those who have left it ...
    since     INTEGER,                      -- ... after this position
    sent_to   INTEGER NOT NULL DEFAULT 0,   -- users.nid up to which users have it
    sent      INTEGER NOT NULL DEFAULT 0,   -- how many have it
    failed    INTEGER NOT NULL DEFAULT 0    -- how many could not get it
) STRICT;
