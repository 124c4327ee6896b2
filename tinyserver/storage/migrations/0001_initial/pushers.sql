-- Where users want to be told of events. A pusher has dealt with everything up to the position `sent`.
CREATE TABLE pushers (
    nid                 INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: what is under way names it
    user                INTEGER NOT NULL,   -- names.nid
    device              INTEGER,            -- devices.nid that it goes with; null: none
    app_id              TEXT NOT NULL,
    pushkey             TEXT NOT NULL,
    kind                TEXT NOT NULL,
    app_display_name    TEXT NOT NULL,
    device_display_name TEXT NOT NULL,
    profile_tag         TEXT,
    lang                TEXT NOT NULL,
    data                TEXT NOT NULL,      -- JSON object
    enabled             INTEGER NOT NULL,
    set_ts              INTEGER NOT NULL,   -- ms: when a client set it last
    sent                INTEGER NOT NULL,
    badge               INTEGER NOT NULL,   -- the unread count that was told last
    failing_since       INTEGER,            -- ms; null: it works
    retry_at            INTEGER NOT NULL,   -- ms
    pause               INTEGER NOT NULL,   -- ms: how long the present back-off is
    UNIQUE (user, app_id, pushkey)
) STRICT;
CREATE INDEX pushers_by_pushkey ON pushers (pushkey, app_id);
CREATE INDEX pushers_by_device ON pushers (device) WHERE device IS NOT NULL;
