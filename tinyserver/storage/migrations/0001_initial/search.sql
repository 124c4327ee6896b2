-- The words of messages, room names and topics; rowid: events.nid. Neither the text nor where the words stand in it is
-- stored: a quarter to a third of the size of the text.
CREATE VIRTUAL TABLE search_index USING fts5(
    words, content = '', detail = none, columnsize = 0, tokenize = 'ascii'
);
-- Blocks that fit into a page of the database.
INSERT INTO search_index (search_index, rank) VALUES ('pgsz', 900);
-- Events up to this nid are in the index.
INSERT INTO counters VALUES ('search', 0);
