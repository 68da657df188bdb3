-- Everything that veche keeps. {bytes} and {sequence} are what each database calls them.
-- Times are milliseconds since 1970; all numbers are BIGINT, so that one driver reads both databases alike.

CREATE TABLE channels (
    name TEXT PRIMARY KEY,
    highest_offset BIGINT NOT NULL,
    kept_messages BIGINT NOT NULL,
    kept_bytes BIGINT NOT NULL,
    updated BIGINT NOT NULL
);

CREATE TABLE kept (
    channel TEXT NOT NULL,
    message_offset BIGINT NOT NULL,
    epoch TEXT NOT NULL,
    message_id TEXT NOT NULL,
    time BIGINT NOT NULL,
    user_id TEXT,
    size BIGINT NOT NULL,
    body {bytes} NOT NULL,
    PRIMARY KEY (channel, message_offset)
);
CREATE INDEX kept_by_time ON kept (time);

CREATE TABLE snapshots (
    channel TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    newest_offset BIGINT NOT NULL,
    body {bytes} NOT NULL
);

CREATE TABLE events (
    sequence {sequence},
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    room TEXT,
    channel TEXT,
    user_id TEXT,
    data TEXT NOT NULL
);
CREATE INDEX events_by_time ON events (time);
CREATE INDEX events_by_room ON events (room, sequence) WHERE room IS NOT NULL;
CREATE INDEX events_by_channel ON events (channel, sequence) WHERE channel IS NOT NULL;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    user_id TEXT,
    grants TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    last_used BIGINT
);

CREATE TABLE files (
    id TEXT PRIMARY KEY,
    channel TEXT,
    room TEXT,
    owner TEXT,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    object_key TEXT NOT NULL,
    details TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    deleted BIGINT
);
CREATE INDEX files_by_channel ON files (channel, created) WHERE deleted IS NULL;
CREATE INDEX files_by_room ON files (room, created) WHERE deleted IS NULL;
CREATE INDEX files_by_owner ON files (owner, created) WHERE deleted IS NULL;
CREATE INDEX files_by_expiry ON files (expires) WHERE deleted IS NULL;
CREATE INDEX files_by_deletion ON files (deleted) WHERE deleted IS NOT NULL;
CREATE INDEX files_by_object ON files (object_key);

CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL,
    updated BIGINT NOT NULL
);
