-- What clients keep for their user: account data, global and for single rooms, and filters.
CREATE TABLE account_data (
    user     INTEGER NOT NULL,              -- names.nid
    room     INTEGER NOT NULL,              -- names.nid of the room ID; 0: global
    type     TEXT NOT NULL,
    content  BLOB NOT NULL,                 -- JSON object, UTF-8; empty: it was deleted
    position INTEGER NOT NULL,
    PRIMARY KEY (user, room, type)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_data_by_position ON account_data (user, position);

CREATE TABLE filters (
    user    INTEGER NOT NULL,               -- names.nid
    number  INTEGER NOT NULL,               -- the filter ID
    content BLOB NOT NULL,                  -- JSON object, UTF-8
    PRIMARY KEY (user, number)
) STRICT, WITHOUT ROWID;
