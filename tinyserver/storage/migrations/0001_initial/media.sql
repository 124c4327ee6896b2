-- Files by content: what is sent twice is stored once. The file itself lies beside the database.
CREATE TABLE blobs (
    nid    INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,         -- SHA-256 of the content
    size   INTEGER NOT NULL,             -- bytes
    uses   INTEGER NOT NULL              -- rows of media and thumbnails that have it; with 0 the file can go
) STRICT;
CREATE INDEX blobs_unused ON blobs (nid) WHERE uses = 0;

-- Everything behind an mxc:// URI: uploads of this server's users, and copies of other servers' files.
CREATE TABLE media (
    nid          INTEGER PRIMARY KEY,
    origin       INTEGER NOT NULL,       -- names.nid of the server in the URI
    media_id     TEXT NOT NULL,
    blob         INTEGER,                -- blobs.nid; NULL: announced and not uploaded yet, or taken away
    content_type TEXT NOT NULL,
    file_name    TEXT,
    uploader     INTEGER,                -- users.nid; NULL: a copy of another server's file
    created      INTEGER NOT NULL,       -- ms since 1970
    used         INTEGER NOT NULL,       -- ms since 1970, not exact
    expires      INTEGER,                -- ms since 1970 until when an announced upload is waited for
    quarantined  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (origin, media_id)
) STRICT;
CREATE INDEX media_copies_by_use ON media (used) WHERE uploader IS NULL AND blob IS NOT NULL;
CREATE INDEX media_by_uploader ON media (uploader, nid) WHERE uploader IS NOT NULL;
CREATE INDEX media_announced ON media (uploader, expires) WHERE expires IS NOT NULL;
CREATE INDEX media_by_expiry ON media (expires) WHERE expires IS NOT NULL;
CREATE INDEX media_by_age ON media (created) WHERE uploader IS NOT NULL AND blob IS NOT NULL;

-- What must not be served under any URI, since a file that has it was taken out of circulation.
CREATE TABLE quarantined_contents (
    digest BLOB NOT NULL,                -- SHA-256 of the content
    media  INTEGER NOT NULL,             -- media.nid of that file
    PRIMARY KEY (digest, media)
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantined_contents_by_media ON quarantined_contents (media);

-- Smaller pictures made of blobs.
CREATE TABLE thumbnails (
    source       INTEGER NOT NULL,       -- blobs.nid
    width        INTEGER NOT NULL,
    height       INTEGER NOT NULL,
    crop         INTEGER NOT NULL,
    animated     INTEGER NOT NULL,
    blob         INTEGER NOT NULL,       -- blobs.nid
    content_type TEXT NOT NULL,
    used         INTEGER NOT NULL,       -- ms since 1970, not exact
    PRIMARY KEY (source, width, height, crop, animated)
) STRICT, WITHOUT ROWID;
CREATE INDEX thumbnails_by_use ON thumbnails (used);

-- Bytes in copies and thumbnails together (owner 0), and in the uploads of each user (users.nid).
CREATE TABLE media_bytes (
    owner INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX media_bytes_largest ON media_bytes (bytes);
