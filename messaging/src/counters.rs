//! What the doors count.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// What the doors have counted since they were opened, and what is open now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            /// WebSockets that are open.
            pub websocket_connections: u64,
            /// Event streams that are open.
            pub sse_connections: u64,
            /// Streams of gRPC that are open.
            pub grpc_connections: u64,
            $($(#[$doc])* pub $name: u64),+
        }

        #[derive(Debug, Default)]
        pub(crate) struct Tally { $(pub(crate) $name: Count),+ }

        impl Tally {
            pub(crate) fn read(&self, [websocket_connections, sse_connections, grpc_connections]: [u64; 3]) -> Counters {
                Counters { websocket_connections, sse_connections, grpc_connections, $($name: self.$name.get()),+ }
            }
        }
    };
}

counters! {
    /// Connections that were refused because there were as many as there may be.
    refused_connections
    /// Messages that clients sent.
    messages_in
    /// What they took, in bytes.
    bytes_in
    /// Messages, answers too, that were written to clients.
    messages_out
    /// What they took, in bytes.
    bytes_out
    /// Messages and requests dropped since there were too many.
    rate_limited
    /// Messages that could not be understood.
    bad_messages
    /// Credentials that were missing, wrong or late.
    authentication_failures
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
