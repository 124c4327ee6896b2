-- The cross-signing keys of users.
CREATE TABLE cross_signing_keys (
    user  INTEGER NOT NULL,                 -- names.nid
    usage INTEGER NOT NULL,                 -- see cross_signing.Usage
    keys  BLOB NOT NULL,                    -- JSON object, with the signatures that everybody may see
    PRIMARY KEY (user, usage)
) STRICT, WITHOUT ROWID;

-- Signatures of local users on the master keys of others, shown to nobody but the signer.
CREATE TABLE user_signatures (
    signer     INTEGER NOT NULL,            -- names.nid
    target     INTEGER NOT NULL,            -- names.nid: whose master key is signed
    signed_key TEXT NOT NULL,               -- that master key
    key_id     TEXT NOT NULL,               -- the user-signing key that made the signature
    signature  TEXT NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (signer, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_signatures_by_target ON user_signatures (target);
