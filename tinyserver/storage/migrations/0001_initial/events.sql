-- Events. nid is the event's place in the one order: an event is always stored after its auth events.
CREATE TABLE events (
    nid       INTEGER PRIMARY KEY,
    room      INTEGER NOT NULL,          -- rooms.nid
    event_id  ANY NOT NULL,              -- 32 raw bytes of the reference hash; text in room versions 1 and 2
    type      INTEGER NOT NULL,          -- names.nid
    sender    INTEGER NOT NULL,          -- names.nid
    state_key INTEGER,                   -- names.nid; null: not a state event
    place     INTEGER,                   -- order within the room: nid for live events, negative for history
                                         -- fetched later; null: not part of the timeline (outlier, rejected, soft-failed)
    depth     INTEGER NOT NULL,
    ts        INTEGER NOT NULL,          -- origin_server_ts, ms
    flags     INTEGER NOT NULL,          -- see stored_event.Flag
    state     INTEGER,                   -- root of the room state after the event; null: unknown (outlier)
    replaces  INTEGER,                   -- events.nid that held the same state key before
    redacted_by INTEGER,                 -- events.nid of the redaction that was applied
    notify    INTEGER NOT NULL DEFAULT 0, -- notification class under the default push rules
    thread    INTEGER,                   -- events.nid of the thread's root
    device    INTEGER,                   -- devices.nid of the local sender (or minus names.nid)
    txn_id    TEXT,                      -- ... and its transaction ID
    auth      BLOB NOT NULL,             -- nids of the auth events, packed
    body      BLOB NOT NULL              -- the PDU, see event_codec
) STRICT;
-- The first bytes of a hash suffice to find the row; the row holds the whole.
CREATE INDEX events_by_id ON events (substr(event_id, 1, 7));
-- The timeline of a room; the columns beyond place answer unread counts from the index alone.
CREATE INDEX events_by_room ON events (room, place, notify, thread, sender) WHERE place IS NOT NULL;
CREATE INDEX events_by_txn ON events (device, substr(txn_id, -8)) WHERE txn_id IS NOT NULL;

CREATE TABLE rooms (
    nid           INTEGER PRIMARY KEY,
    room_id       TEXT NOT NULL UNIQUE,
    version       TEXT NOT NULL,
    state         INTEGER NOT NULL DEFAULT 0,   -- root of the current (resolved) state
    extremities   TEXT,                         -- forward extremities: JSON array of events.nid; null: the newest
                                                -- event of the timeline is the only one
    first_place   INTEGER NOT NULL DEFAULT 0,   -- place of the oldest event fetched from history (0: none)
    joined        INTEGER NOT NULL DEFAULT 0,   -- members by membership, kept with the current state
    invited       INTEGER NOT NULL DEFAULT 0,
    is_public     INTEGER NOT NULL DEFAULT 0,   -- listed in the room directory
    is_local      INTEGER NOT NULL DEFAULT 1    -- 0: no local user is joined
) STRICT;
CREATE INDEX rooms_public ON rooms (joined DESC, nid, is_public) WHERE is_public = 1;

-- What the current state of a room was, from each position on. A row per change of state.
CREATE TABLE room_states (
    room     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    PRIMARY KEY (room, position)
) STRICT, WITHOUT ROWID;

-- Events that relate to another one (m.relates_to), also to events that are not here yet.
CREATE TABLE relations (
    room     INTEGER NOT NULL,
    target   ANY NOT NULL,               -- event_id as in events
    place    INTEGER NOT NULL,           -- events.place of the child
    child    INTEGER NOT NULL,           -- events.nid
    rel_type INTEGER NOT NULL,           -- names.nid
    type     INTEGER NOT NULL,           -- events.type, sender and ts of the child: aggregations are answered
    sender   INTEGER NOT NULL,           -- from here alone
    ts       INTEGER NOT NULL,
    PRIMARY KEY (room, target, place)
) STRICT, WITHOUT ROWID;

-- The threads of a room by their latest event.
CREATE TABLE threads (
    room   INTEGER NOT NULL,
    latest INTEGER NOT NULL,             -- events.place
    root   ANY NOT NULL,                 -- event_id as in events; it need not be here
    PRIMARY KEY (room, latest)
) STRICT, WITHOUT ROWID;

-- Redactions that came before their event.
CREATE TABLE pending_redactions (
    room      INTEGER NOT NULL,
    target    ANY NOT NULL,
    redaction INTEGER NOT NULL,          -- events.nid
    PRIMARY KEY (room, target, redaction)
) STRICT, WITHOUT ROWID;

-- Parents of stored events that are missing here: where history ends (backward extremities).
CREATE TABLE missing_parents (
    room   INTEGER NOT NULL,
    parent ANY NOT NULL,
    child  INTEGER NOT NULL,
    PRIMARY KEY (room, parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX missing_parents_by_child ON missing_parents (room, child);

-- Current membership of every user the room's state names; local users are also found from the user's side.
CREATE TABLE memberships (
    room       INTEGER NOT NULL,
    user       INTEGER NOT NULL,
    membership INTEGER NOT NULL,         -- see memberships.Membership
    event      INTEGER NOT NULL,         -- events.nid of the member event
    position   INTEGER NOT NULL,         -- when the membership became this
    is_local   INTEGER NOT NULL,
    forgotten  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (room, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_of_local_users ON memberships (user, membership, room) WHERE is_local = 1;
CREATE INDEX memberships_local_in_room ON memberships (room, membership) WHERE is_local = 1;

-- Events that concern one local user by their content (a mention, a keyword), kept for that user. Their thread, class
-- and sender stand in the index events_by_room; a redacted event has no class and counts no more.
CREATE TABLE highlights (
    user  INTEGER NOT NULL,
    room  INTEGER NOT NULL,
    place INTEGER NOT NULL,              -- events.place
    kind  INTEGER NOT NULL,              -- bit 1: notifies, bit 2: highlight
    PRIMARY KEY (user, room, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (
    room     INTEGER NOT NULL,
    user     INTEGER NOT NULL,
    kind     INTEGER NOT NULL,           -- see receipts.ReceiptKind
    thread   TEXT NOT NULL,              -- '' unthreaded, 'main', or the root's event ID
    event    INTEGER NOT NULL,           -- events.nid
    ts       INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (room, user, kind, thread)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    alias   TEXT PRIMARY KEY,
    room    INTEGER NOT NULL,
    creator INTEGER NOT NULL             -- names.nid
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_room ON aliases (room);
