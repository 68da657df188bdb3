//! veche-sfu
