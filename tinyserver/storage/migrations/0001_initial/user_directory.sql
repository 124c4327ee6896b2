-- The words by which users are found: of the local part of their ID and of the name in their newest member event.
-- rowid: names.nid of the user ID.
CREATE VIRTUAL TABLE user_words USING fts5(words, detail = none, columnsize = 0, tokenize = 'ascii', prefix = '2');
INSERT INTO user_words (user_words, rank) VALUES ('pgsz', 900);
-- Rooms that everybody may join or read: who is in them may be found by everybody.
CREATE TABLE open_rooms (
    room INTEGER PRIMARY KEY             -- rooms.nid
) STRICT;
