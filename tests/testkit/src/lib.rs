//! veche-testkit
