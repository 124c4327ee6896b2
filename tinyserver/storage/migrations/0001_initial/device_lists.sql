-- When the devices or cross-signing keys of a user last changed.
CREATE TABLE device_list_changes (
    user     INTEGER PRIMARY KEY,           -- names.nid
    position INTEGER NOT NULL
) STRICT;
CREATE INDEX device_list_changes_by_position ON device_list_changes (position);
