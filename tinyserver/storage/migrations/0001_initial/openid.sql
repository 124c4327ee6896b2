-- Tokens by which users prove to other services who they are.
CREATE TABLE openid_tokens (
    digest  BLOB PRIMARY KEY,            -- SHA-256 of the token
    user    INTEGER NOT NULL,            -- users.nid
    expires INTEGER NOT NULL             -- ms since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX openid_tokens_by_expiry ON openid_tokens (expires);
