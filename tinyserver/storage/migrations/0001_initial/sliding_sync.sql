-- What clients of sliding sync have been sent, by connection: enough to go on after a restart.
CREATE TABLE sliding_connections (
    device  INTEGER NOT NULL,               -- devices.nid
    conn_id TEXT NOT NULL,                  -- '': the connection without a name
    written INTEGER NOT NULL,               -- position: the order of writing
    sent    BLOB NOT NULL,                  -- see sync/sliding/sent.py
    PRIMARY KEY (device, conn_id)
) STRICT, WITHOUT ROWID;
