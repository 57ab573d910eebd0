-- Version 3: rate limits and known networks outlive a restart. `full_at` is when a bucket is full again,
-- or a fact forgotten; from then on the row says nothing. Addresses are found by a key that is one for
-- all spellings of a domain: it is written anew for those beyond ASCII (`users::renew_email_keys`).

CREATE TABLE limits (
    key     TEXT PRIMARY KEY,
    full_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX limits_expiry ON limits (full_at);
