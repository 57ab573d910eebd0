-- Version 2: how far each member has read. Those who are there already have read everything.

ALTER TABLE memberships ADD COLUMN read_seq INTEGER NOT NULL DEFAULT 0;

UPDATE memberships
SET read_seq = coalesce((SELECT max(seq) FROM events WHERE events.room = memberships.room), 0);
