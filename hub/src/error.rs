//! Why the hub refuses something. Each has a word for programs and a sentence that says what would be right.

use crate::filters::BadFilters;

/// Why a client is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The bound of this door is reached.
    #[error("the server has {limit} connections at this door, which is its limit: try again later")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The server stops.
    #[error("the server is stopping: connect again in a moment")]
    Draining,
}

/// Why a subscription is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bound of one connection is reached.
    #[error("a connection may be subscribed to {limit} channels: unsubscribe from another one first")]
    TooManySubscriptions {
        /// The bound.
        limit: usize,
    },
    /// The bound of the server is reached.
    #[error("the server has {limit} channels, which is its limit: no further one can be made now")]
    TooManyChannels {
        /// The bound.
        limit: usize,
    },
    /// The filters are out of bounds.
    #[error(transparent)]
    BadFilters(#[from] BadFilters),
    /// Too many requests wait for the channel to be read from storage.
    #[error("storage is behind: try again in a moment")]
    Busy,
    /// The connection is being closed.
    #[error("the connection is being closed")]
    Closed,
    /// The server stops.
    #[error("the server is stopping: connect again in a moment")]
    Draining,
    /// Storage failed.
    #[error("the channel could not be read from storage: try again later")]
    Storage(String),
}

/// Why a message is not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bound of the server is reached.
    #[error("the server has {limit} channels, which is its limit: no further one can be made now")]
    TooManyChannels {
        /// The bound.
        limit: usize,
    },
    /// The message is too large.
    #[error("the message has {size} bytes, at most {limit} are possible: upload a file instead")]
    TooLarge {
        /// What it has.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// Storage is behind.
    #[error("storage is behind: try again in a moment")]
    Busy,
    /// The server stops.
    #[error("the server is stopping: try again in a moment")]
    Draining,
    /// Storage failed.
    #[error("the message could not be kept in storage, and was sent to nobody: try again later")]
    Storage(String),
    /// The idempotency key is too long, or empty.
    #[error("an idempotency key has 1 to 128 bytes")]
    BadKey,
    /// The idempotency key was used for something else.
    #[error("this idempotency key was used for another message in the last 10 minutes: choose a new one")]
    KeyReused,
}

/// Why a message to a user, a connection or everybody is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The user has no connection.
    #[error("this user is not connected: publish to a channel with persistent = true to reach them later")]
    NoSuchUser,
    /// There is no such connection.
    #[error("there is no such connection (any more)")]
    NoSuchConnection,
    /// The message is too large.
    #[error("the message has {size} bytes, at most {limit} are possible: upload a file instead")]
    TooLarge {
        /// What it has.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// The server stops.
    #[error("the server is stopping: try again in a moment")]
    Draining,
    /// The idempotency key is too long, or empty.
    #[error("an idempotency key has 1 to 128 bytes")]
    BadKey,
    /// The idempotency key was used for something else.
    #[error("this idempotency key was used for another message in the last 10 minutes: choose a new one")]
    KeyReused,
}

impl ConnectError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too_many_connections",
            Self::Draining => "stopping",
        }
    }
}

impl SubscribeError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::TooManyChannels { .. } => "too_many_channels",
            Self::BadFilters(_) => "bad_filters",
            Self::Busy => "storage_busy",
            Self::Closed => "connection_closed",
            Self::Draining => "stopping",
            Self::Storage(_) => "storage_unavailable",
        }
    }
}

impl PublishError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyChannels { .. } => "too_many_channels",
            Self::TooLarge { .. } => "message_too_large",
            Self::Busy => "storage_busy",
            Self::Draining => "stopping",
            Self::Storage(_) => "storage_unavailable",
            Self::BadKey => "bad_idempotency_key",
            Self::KeyReused => "idempotency_conflict",
        }
    }
}

impl SendError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchUser | Self::NoSuchConnection => "recipient_not_found",
            Self::TooLarge { .. } => "message_too_large",
            Self::Draining => "stopping",
            Self::BadKey => "bad_idempotency_key",
            Self::KeyReused => "idempotency_conflict",
        }
    }
}
