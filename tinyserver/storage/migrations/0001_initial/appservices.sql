-- Application services. Those of the configuration have no registration here: it stands in their file.
CREATE TABLE appservices (
    nid          INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id   TEXT NOT NULL UNIQUE,
    token_hash   BLOB NOT NULL,             -- SHA-256 of the as_token that an administrator handed in
    registration TEXT,                      -- JSON: the rest of it
    lists_until  INTEGER NOT NULL           -- up to this position the service was told whose devices changed
) STRICT;

-- What services are owed, the oldest first, as long as it is in no transaction.
CREATE TABLE appservice_queue (
    service  INTEGER NOT NULL,              -- appservices.nid
    position INTEGER NOT NULL,
    kind     INTEGER NOT NULL,              -- see appservices.Kind
    ref      INTEGER NOT NULL,              -- of what: an event, a room, a device
    PRIMARY KEY (service, position)
) STRICT, WITHOUT ROWID;
-- What is read from the store when it is sent is owed once, however much there is of it.
CREATE UNIQUE INDEX appservice_queue_once ON appservice_queue (service, kind, ref) WHERE kind > 1;

-- The transaction that is being sent to a service, until it is acknowledged: every try says the same.
CREATE TABLE appservice_transactions (
    service INTEGER PRIMARY KEY,            -- appservices.nid
    txn_id  TEXT NOT NULL,
    body    BLOB NOT NULL                   -- JSON
) STRICT;

-- The lists of rooms that services keep for their networks.
CREATE TABLE appservice_rooms (
    service INTEGER NOT NULL,               -- appservices.nid
    network TEXT NOT NULL,
    room    INTEGER NOT NULL,               -- rooms.nid
    PRIMARY KEY (service, network, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX appservice_rooms_by_room ON appservice_rooms (room);
