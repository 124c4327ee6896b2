-- What users have changed in their push rules; those who changed nothing have no row.
CREATE TABLE push_rules (
    user     INTEGER PRIMARY KEY,        -- names.nid
    changes  BLOB NOT NULL,              -- protocol.push_rules.RuleChanges as JSON, UTF-8
    exact    INTEGER NOT NULL,           -- 0: the class of an event does not tell what the rules say of it
    position INTEGER NOT NULL
) STRICT;
