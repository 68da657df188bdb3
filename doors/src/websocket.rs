//! How WebSockets are spoken at every door.

use std::time::Duration;

pub use yawc::DeflatePool;
use yawc::Options;

/// How long a client may take to answer a close.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The longest close reason, in bytes (RFC 6455 section 5.5).
pub const MAX_CLOSE_REASON: usize = 123;

/// How long the fragments of one message may take to come.
const FRAGMENT_WAIT: Duration = Duration::from_secs(30);

/// Compressors that wait for their next message, shared by all connections of a door.
const POOLED_COMPRESSORS: usize = 32;

/// Messages below this many bytes are not worth compressing.
const COMPRESSION_THRESHOLD: usize = 1024;

/// What a connection's buffers begin with, in bytes; they grow while a larger message is in them.
const BUFFER_BYTES: usize = 1024;

/// Compressors for the connections of a door.
pub fn deflate_pool() -> DeflatePool {
    DeflatePool::new(POOLED_COMPRESSORS)
}

/// Options of a door that takes messages of up to `max_message` bytes; larger ones end the connection with 1009.
/// Compression keeps no state between messages, so that an idle client costs none.
pub fn options(max_message: usize, pool: DeflatePool) -> Options {
    Options::default()
        .with_limits(max_message, max_message)
        .with_low_latency_compression()
        .server_no_context_takeover()
        .client_no_context_takeover()
        .with_compression_threshold(COMPRESSION_THRESHOLD)
        .with_deflate_pool(pool)
        .with_read_buffer_capacity(BUFFER_BYTES)
        .with_write_buffer_capacity(BUFFER_BYTES)
        .with_fragment_timeout(FRAGMENT_WAIT)
        .with_no_delay()
}
