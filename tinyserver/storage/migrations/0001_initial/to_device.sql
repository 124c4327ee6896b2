-- Messages that wait for their device, until it says that it has them.
CREATE TABLE to_device (
    position INTEGER PRIMARY KEY,           -- the order of delivery
    device   INTEGER NOT NULL,              -- devices.nid of the receiver
    sender   INTEGER NOT NULL,              -- names.nid
    type     TEXT NOT NULL,
    content  BLOB,                          -- JSON object; null: the one of to_device_contents
    shared   INTEGER                        -- to_device_contents.nid
) STRICT;
CREATE INDEX to_device_by_device ON to_device (device);
CREATE INDEX to_device_by_shared ON to_device (shared) WHERE shared IS NOT NULL;

-- A content that several devices got with one request.
CREATE TABLE to_device_contents (
    nid     INTEGER PRIMARY KEY,            -- position of the request
    content BLOB NOT NULL
) STRICT;

-- How much waits for each device.
CREATE TABLE to_device_queues (
    device   INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;

-- The requests of a sending device that were carried out, so that one which is sent again does nothing.
CREATE TABLE to_device_requests (
    device   INTEGER NOT NULL,              -- devices.nid of the sender, or minus names.nid of one without device
    digest   BLOB NOT NULL,                 -- of the event type and the transaction ID
    position INTEGER NOT NULL,
    PRIMARY KEY (device, digest)
) STRICT, WITHOUT ROWID;

-- The messages of other servers that were taken, so that one which is sent again does nothing.
CREATE TABLE received_messages (
    server   INTEGER NOT NULL,              -- names.nid
    digest   BLOB NOT NULL,                 -- of the message_id
    position INTEGER NOT NULL,
    PRIMARY KEY (server, digest)
) STRICT, WITHOUT ROWID;
