//! Forms with files: the content type on the first line, then the body. However the body is cut into pieces on its way, the
//! parser finds the same parts in it, and no more bytes than came.

use bytes::Bytes;

use crate::multipart::{Parser, Part, Piece};

/// What a form was, up to its end or to an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    parts: Vec<(Part, Vec<u8>)>,
    is_whole: bool,
    error: bool,
}

pub(crate) fn run(input: &[u8]) {
    let (first, body) = input
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or((input, &[][..]), |at| (&input[..at], &input[at + 1..]));
    let content_type = String::from_utf8_lossy(first);
    let at_once = parse(&content_type, std::iter::once(body));
    for size in [1, 7, 64] {
        let in_pieces = parse(&content_type, body.chunks(size));
        // What is too long is noticed as soon as it can be, which depends on the pieces.
        if at_once.as_ref().is_some_and(|seen| !seen.error) {
            assert_eq!(in_pieces, at_once, "in pieces of {size}");
        }
    }
}

/// `None`: no form.
fn parse<'a>(content_type: &str, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Seen> {
    let mut parser = Parser::new(content_type).inspect_err(|error| assert!(!error.is_empty())).ok()?;
    let (mut seen, mut fed, mut taken) = (Seen::default(), 0, 0);
    for piece in pieces {
        parser.feed(piece);
        fed += piece.len();
        loop {
            match parser.next() {
                Ok(Some(piece)) => taken += take(&mut seen, piece),
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.is_empty());
                    seen.error = true;
                    return Some(seen);
                }
            }
        }
        assert!(taken <= fed, "{taken} bytes of {fed}");
    }
    Some(seen)
}

fn take(seen: &mut Seen, piece: Piece) -> usize {
    assert!(!seen.is_whole, "nothing comes after the end");
    match piece {
        Piece::Part(part) => seen.parts.push((part, Vec::new())),
        Piece::Data(data) => {
            let data: Bytes = data;
            let (_, content) = seen.parts.last_mut().expect("data is in a part");
            content.extend_from_slice(&data);
            return data.len();
        }
        Piece::PartEnd => {}
        Piece::End => seen.is_whole = true,
    }
    0
}
