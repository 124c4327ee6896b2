-- The accounts of this server. A row is never deleted: a user ID is not given out twice.
CREATE TABLE users (
    nid         INTEGER PRIMARY KEY,        -- names.nid of the user ID
    password    TEXT,                       -- PHC string; null: no login by password
    admin       INTEGER NOT NULL DEFAULT 0,
    guest       INTEGER NOT NULL DEFAULT 0,
    deactivated INTEGER NOT NULL DEFAULT 0,
    erased      INTEGER NOT NULL DEFAULT 0, -- the user wants old events redacted for newcomers
    locked      INTEGER NOT NULL DEFAULT 0,
    suspended   INTEGER NOT NULL DEFAULT 0,
    created     INTEGER NOT NULL            -- ms
) STRICT;
CREATE INDEX users_deactivated ON users (nid) WHERE deactivated = 1;
CREATE INDEX users_people ON users (nid) WHERE password IS NOT NULL;
CREATE INDEX users_admins ON users (nid) WHERE admin = 1;

-- Profiles: all fields of a user as one JSON object of at most 64 KiB.
CREATE TABLE profiles (
    user   INTEGER PRIMARY KEY,             -- names.nid
    fields TEXT NOT NULL,
    untold INTEGER NOT NULL DEFAULT 0,      -- 1: rooms may still show the name or the avatar of before
    changes TEXT NOT NULL,                  -- JSON object: when the fields that changed last became what they are
    position INTEGER NOT NULL               -- ... and the newest of that
) STRICT;
CREATE INDEX profiles_by_position ON profiles (position);
CREATE INDEX profiles_untold ON profiles (user) WHERE untold = 1;

CREATE TABLE registration_tokens (
    token        TEXT PRIMARY KEY,
    uses_allowed INTEGER,                   -- null: any number
    uses         INTEGER NOT NULL DEFAULT 0,
    expires      INTEGER,                   -- ms; null: never
    makes_admin  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
