//! Stories in virtual time about the media core; they are in `tests/`.
