-- Application services. Those of the configuration have no registration here: it stands in their file.
CREATE TABLE appservices (
    nid          INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id   TEXT NOT NULL UNIQUE,
    registration TEXT                        -- the YAML that an administrator handed in
) STRICT;
