-- The server's own account, and the room where administrators give it commands: one row, once there is such an account.
CREATE TABLE own_account (
    account  INTEGER PRIMARY KEY,           -- users.nid
    room     INTEGER,                       -- rooms.nid; null: none yet
    place    INTEGER NOT NULL DEFAULT 0,    -- events.place up to which messages in the room were taken
    running  INTEGER,                       -- events.nid of the message whose command is being done
    reported INTEGER NOT NULL DEFAULT 0     -- reports.nid up to which the administrators were told
) STRICT;

-- When the administrators were warned of something last.
CREATE TABLE warnings (
    kind TEXT PRIMARY KEY,
    ts   INTEGER NOT NULL                   -- ms
) STRICT, WITHOUT ROWID;
