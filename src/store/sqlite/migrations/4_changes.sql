-- Version 4: messages have a state, and changes to them are events with a target.
--
-- Texts stand in a table of their own, each appended at its end: SQLite copies a row that it moves from
-- page to page and leaves the first copy in the file, but never moves one of these. What is deleted is
-- overwritten where it stands by as many bytes. See `states.rs`.

CREATE TABLE texts (
    id   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

ALTER TABLE events ADD COLUMN text INTEGER REFERENCES texts (id);

INSERT INTO texts (body) SELECT body FROM events WHERE body IS NOT NULL ORDER BY room, seq;

UPDATE events SET text = numbered.id
FROM (SELECT room, seq, row_number() OVER (ORDER BY room, seq) AS id
      FROM events WHERE body IS NOT NULL) AS numbered
WHERE events.room = numbered.room AND events.seq = numbered.seq;

ALTER TABLE events DROP COLUMN body;

ALTER TABLE events ADD COLUMN target INTEGER; -- the message that this event changes
ALTER TABLE events ADD COLUMN emoji TEXT; -- of a 'reacted'
ALTER TABLE events ADD COLUMN is_on INTEGER;
ALTER TABLE events ADD COLUMN reply_to INTEGER; -- of a message, from here on
ALTER TABLE events ADD COLUMN changed INTEGER; -- its newest change
ALTER TABLE events ADD COLUMN rev INTEGER; -- its newest edit
ALTER TABLE events ADD COLUMN edited_at INTEGER;
ALTER TABLE events ADD COLUMN deleted_at INTEGER;

-- Entries of a history are found without looking through the changes between them.
CREATE INDEX events_entries ON events (room, seq) WHERE target IS NULL;

CREATE TABLE reactions (
    room    TEXT NOT NULL,
    message INTEGER NOT NULL,
    seq     INTEGER NOT NULL, -- of the event that put it there
    emoji   TEXT NOT NULL,
    user    TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (room, message, seq),
    FOREIGN KEY (room, message) REFERENCES events (room, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX reactions_once ON reactions (room, message, emoji, user);

-- The pages still hold what stood in them.
INSERT INTO meta (key, value) VALUES ('to be vacuumed', 1);
