-- What accounts can be reached by elsewhere, in canonical form. An address belongs to one account.
CREATE TABLE threepids (
    medium    TEXT NOT NULL,               -- 'email'
    address   TEXT NOT NULL,
    user      INTEGER NOT NULL,            -- users.nid
    validated INTEGER NOT NULL,            -- ms
    added     INTEGER NOT NULL,            -- ms
    PRIMARY KEY (medium, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX threepids_by_user ON threepids (user);

-- Mail addresses of which somebody is proving to read their mails.
CREATE TABLE email_sessions (
    nid       INTEGER PRIMARY KEY AUTOINCREMENT,
    sid       TEXT NOT NULL UNIQUE,
    purpose   TEXT NOT NULL,               -- 'register', 'password', 'add', 'recover'
    address   TEXT NOT NULL,
    secret    BLOB NOT NULL,               -- SHA-256 of the client's secret
    attempt   INTEGER NOT NULL,            -- the last one for which a mail was sent
    token     BLOB,                        -- SHA-256 of what stands in the last mail; null: a mail without a link
    next_link TEXT,
    validated INTEGER,                     -- ms
    expires   INTEGER NOT NULL,            -- ms
    UNIQUE (address, secret, purpose)
) STRICT;
CREATE UNIQUE INDEX email_sessions_by_token ON email_sessions (token) WHERE token IS NOT NULL;
CREATE INDEX email_sessions_by_expiry ON email_sessions (expires);

-- At which identity servers addresses were bound to users.
CREATE TABLE threepid_bindings (
    user      INTEGER NOT NULL,            -- users.nid
    medium    TEXT NOT NULL,
    address   TEXT NOT NULL,
    id_server TEXT NOT NULL,
    PRIMARY KEY (user, medium, address, id_server)
) STRICT, WITHOUT ROWID;
