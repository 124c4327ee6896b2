-- The threads that users have subscribed to, or are not subscribed to any more.
CREATE TABLE thread_subscriptions (
    user      INTEGER NOT NULL,             -- names.nid
    root      INTEGER NOT NULL,             -- events.nid of the thread's root
    room      INTEGER NOT NULL,             -- rooms.nid
    automatic INTEGER,                      -- 1: the client did it by itself; null: unsubscribed
    position  INTEGER NOT NULL,             -- when it became so
    PRIMARY KEY (user, root)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_subscriptions_by_position ON thread_subscriptions (user, position);
