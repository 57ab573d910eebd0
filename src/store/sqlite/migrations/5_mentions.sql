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

CREATE INDEX memberships_by_room ON memberships (room);
