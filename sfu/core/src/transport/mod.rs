//! One participant's transport.

pub mod send_buffer;
