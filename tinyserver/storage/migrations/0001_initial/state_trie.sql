-- The persistent trie that holds the state of every room; see tinyserver/storage/state_trie.py.

-- One immutable node. Its id is a function of its content: the newest event nid below it (upper bits) and a hash
-- (lower 24 bits). Equal subtrees are therefore one row, and the nodes that one state change writes lie side by side
-- at the end of the table.
CREATE TABLE state_trie_node (
    id      INTEGER PRIMARY KEY,
    content BLOB    NOT NULL
) STRICT;

-- The garbage collection that is under way: no row when there is none.
CREATE TABLE state_trie_collection (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    swept_up_to INTEGER NOT NULL            -- every node with an id up to this has been kept or deleted
) STRICT;

-- Nodes that the collection has found to be reachable, with all that is below them.
CREATE TABLE state_trie_mark (
    id INTEGER PRIMARY KEY
) STRICT;

-- Nodes written, or written again, since the collection began. What is below them is marked before anything is swept.
CREATE TABLE state_trie_fresh (
    id INTEGER PRIMARY KEY
) STRICT;
