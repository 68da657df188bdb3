//! Requests that bring pictures as parts: however they come in pieces, the parts are the same, and none is larger than allowed.

use bytes::Bytes;
use veche_cameras::multipart::{Malformed, Parts};

const MAX_PART: usize = 512;

/// The first byte says in pieces of how many bytes the others come; up to the first line feed is the content type.
pub(crate) fn run(input: &[u8]) {
    let Some((&size, rest)) = input.split_first() else { return };
    let Some(end) = memchr::memchr(b'\n', rest) else { return };
    let Ok(kind) = std::str::from_utf8(&rest[..end]) else { return };
    let body = &rest[end + 1..];
    let Some(whole) = read(kind, body, body.len().max(1)) else { return };
    let pieces = read(kind, body, usize::from(size).max(1)).expect("the type is the same");
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
}

fn read(kind: &str, body: &[u8], piece: usize) -> Option<Result<Vec<Bytes>, Malformed>> {
    let mut parts = Parts::of(kind, MAX_PART)?;
    let mut found = Vec::new();
    for piece in body.chunks(piece) {
        parts.push(piece);
        loop {
            match parts.next_part() {
                Ok(Some(part)) => {
                    assert!(part.len() <= MAX_PART);
                    found.push(part);
                }
                Ok(None) => break,
                Err(malformed) => return Some(Err(malformed)),
            }
        }
    }
    Some(Ok(found))
}
