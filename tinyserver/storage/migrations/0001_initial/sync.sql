-- What changed for a user since a position: memberships, newest last.
CREATE INDEX memberships_by_position ON memberships (user, position) WHERE is_local = 1;
