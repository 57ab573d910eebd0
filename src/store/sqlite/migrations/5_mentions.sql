-- Version 5: whom messages are for.

ALTER TABLE events ADD COLUMN mentions TEXT; -- ids of users, and 'room', with spaces between them

-- The same, to be found by whom.
CREATE TABLE mentions (
    user   TEXT NOT NULL, -- 'room' for everybody in it
    room   TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (user, room, seq),
    FOREIGN KEY (room, seq) REFERENCES events (room, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX mentions_newest ON mentions (user, at, room, seq);

-- The number of the 'joined' with which it began. Before there were mentions nobody had to know.
ALTER TABLE memberships ADD COLUMN joined_seq INTEGER NOT NULL DEFAULT 0;

CREATE INDEX memberships_by_room ON memberships (room);
