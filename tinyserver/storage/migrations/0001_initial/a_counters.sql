-- The one order: every stored change takes its position from this counter. The value on disk is a
-- reservation ahead of everything given out, so that a commit need not write it.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('position', 0);

-- Random keys of this database: 'trie' keys the hashes of the state trie.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Interned strings: user IDs, event types, state keys, server names. One number space, so the state key of
-- a member event is the number of the user.
CREATE TABLE names (
    nid  INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
