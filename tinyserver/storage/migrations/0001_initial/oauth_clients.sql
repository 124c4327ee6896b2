-- Clients that registered themselves for signing in with a web browser. Equal ones share a row; one that no device
-- uses goes after a while.
CREATE TABLE oauth_clients (
    nid        INTEGER PRIMARY KEY,
    client_id  TEXT NOT NULL UNIQUE,
    metadata   TEXT NOT NULL,                -- JSON
    registered INTEGER NOT NULL              -- ms: the last registration, or when it was last found in use
) STRICT;
CREATE INDEX oauth_clients_by_age ON oauth_clients (registered);
