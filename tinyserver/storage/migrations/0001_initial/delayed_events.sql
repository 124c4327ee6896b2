-- Events that clients have scheduled, and for some days what became of them.
CREATE TABLE delayed_events (
    delay_id  TEXT PRIMARY KEY,          -- a secret: whoever knows it may act on the event
    user      INTEGER NOT NULL,          -- users.nid
    device    INTEGER,                   -- devices.nid of who scheduled it
    txn_id    TEXT,                      -- ... and the transaction ID
    room_id   TEXT NOT NULL,
    type      TEXT NOT NULL,
    state_key TEXT,                      -- NULL: no state event
    content   BLOB NOT NULL,             -- JSON
    delay     INTEGER NOT NULL,          -- ms
    ts        INTEGER,                   -- what an application service wants as origin_server_ts
    sticky    INTEGER,                   -- ms
    scheduled INTEGER NOT NULL,          -- ms since 1970
    restarted INTEGER NOT NULL DEFAULT 0,-- whether its delay has begun anew, when exactly is not written down
    finalised INTEGER,                   -- ms since 1970; NULL: still to be sent
    event_id  TEXT,                      -- what was sent
    error     BLOB                       -- JSON: why it was not sent
) STRICT, WITHOUT ROWID;
CREATE INDEX delayed_events_by_user ON delayed_events (user, finalised);
CREATE INDEX delayed_events_by_txn ON delayed_events (device, txn_id) WHERE txn_id IS NOT NULL;
CREATE INDEX delayed_events_scheduled ON delayed_events (scheduled) WHERE finalised IS NULL;
CREATE INDEX delayed_events_finalised ON delayed_events (finalised) WHERE finalised IS NOT NULL;
