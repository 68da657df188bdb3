//! veche-signaling
