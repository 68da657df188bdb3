//! Frames as parts of one endless request (`multipart/x-mixed-replace`), as web cameras and ffmpeg send them. Cameras differ in
//! how they write it: with a length or without, with line feeds alone, with dashes in the boundary that are those before it.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// The longest head of a part, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// The longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// A request of parts, read as it comes.
#[derive(Debug)]
pub struct Parts {
    /// Two dashes, and the boundary without its own at the beginning.
    delimiter: Box<[u8]>,
    max_part: usize,
    buffer: BytesMut,
    /// Up to where it was looked for the end of what is being read.
    searched: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a delimiter.
    Between,
    Head,
    /// In a part of this length, or one that ends with the next delimiter.
    Body(Option<usize>),
    End,
}

/// Why a request of parts cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head of a part has no end.
    #[error("the head of a part is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// The length of a part is no number.
    #[error("the Content-Length of a part is not a number")]
    BadLength,
    /// A part is larger than pictures may be.
    #[error("a part is larger than pictures may be")]
    TooLarge,
}

impl Parts {
    /// Of a request with this `Content-Type`, whose parts may have so many bytes; `None`: it is of another type, or names no
    /// boundary.
    pub fn of(content_type: &str, max_part: usize) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/x-mixed-replace") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        })?;
        let boundary = boundary.trim_start_matches('-');
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return None;
        }
        Some(Self {
            delimiter: [b"--", boundary.as_bytes()].concat().into(),
            max_part,
            buffer: BytesMut::new(),
            searched: 0,
            state: State::Between,
        })
    }

    /// Takes what came; [`next_part`](Self::next_part) is to be called until it finds nothing before more is given.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state != State::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The content of the next part, where all of it is there.
    pub fn next_part(&mut self) -> Result<Option<Bytes>, Malformed> {
        loop {
            let advanced = match self.state {
                State::Between => self.find_part(),
                State::Head => self.read_head()?,
                State::Body(Some(length)) => match self.take_known(length) {
                    None => false,
                    part => return Ok(part),
                },
                State::Body(None) => match self.take_delimited()? {
                    None => false,
                    part => return Ok(part),
                },
                State::End => false,
            };
            if !advanced {
                return Ok(None);
            }
        }
    }

    /// Whether the last part was read.
    pub fn is_over(&self) -> bool {
        self.state == State::End
    }

    /// To behind the next delimiter. What stands before it is passed over.
    fn find_part(&mut self) -> bool {
        let Some(at) = memmem::find(&self.buffer, &self.delimiter) else {
            let rest = self.delimiter.len() - 1;
            self.buffer.advance(self.buffer.len().saturating_sub(rest));
            return false;
        };
        let behind = at + self.delimiter.len();
        if self.buffer.len() < behind + 2 {
            self.buffer.advance(at);
            return false;
        }
        self.state = if self.buffer[behind..].starts_with(b"--") { State::End } else { State::Head };
        self.buffer.advance(behind);
        self.searched = 0;
        true
    }

    /// The lines up to an empty one. The first is what is left of the delimiter's.
    fn read_head(&mut self) -> Result<bool, Malformed> {
        let from = self.searched.saturating_sub(3);
        let ends =
            |pattern: &[u8]| memmem::find(&self.buffer[from..], pattern).map(|at| from + at + pattern.len());
        let Some(end) = [ends(b"\n\r\n"), ends(b"\n\n")].into_iter().flatten().min() else {
            self.searched = self.buffer.len();
            return if self.buffer.len() > MAX_HEAD { Err(Malformed::HeadTooLong) } else { Ok(false) };
        };
        if end > MAX_HEAD {
            return Err(Malformed::HeadTooLong);
        }
        let length = length_in(&self.buffer[..end])?;
        if length.is_some_and(|length| length > self.max_part) {
            return Err(Malformed::TooLarge);
        }
        self.buffer.advance(end);
        self.searched = 0;
        self.state = State::Body(length);
        Ok(true)
    }

    fn take_known(&mut self, length: usize) -> Option<Bytes> {
        let part = Bytes::copy_from_slice(self.buffer.get(..length)?);
        self.buffer.advance(length);
        self.state = State::Between;
        Some(part)
    }

    /// Up to the next delimiter at the beginning of a line, without that line's break.
    fn take_delimited(&mut self) -> Result<Option<Bytes>, Malformed> {
        loop {
            let from = self.searched.saturating_sub(self.delimiter.len() - 1);
            let Some(found) = memmem::find(&self.buffer[from..], &self.delimiter) else {
                self.searched = self.buffer.len();
                let longest = self.max_part + MAX_BOUNDARY;
                return if self.buffer.len() > longest { Err(Malformed::TooLarge) } else { Ok(None) };
            };
            let at = from + found;
            let line = self.buffer[..at].iter().rposition(|&byte| byte != b'-').map_or(0, |last| last + 1);
            let Some(content) = self.buffer[..line].strip_suffix(b"\n") else {
                // The content has the same bytes by chance.
                self.searched = at + self.delimiter.len();
                continue;
            };
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            if content.len() > self.max_part {
                return Err(Malformed::TooLarge);
            }
            let part = Bytes::copy_from_slice(content);
            self.buffer.advance(at);
            self.state = State::Between;
            return Ok(Some(part));
        }
    }
}

/// What the head of a part says of its length.
fn length_in(head: &[u8]) -> Result<Option<usize>, Malformed> {
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        if line[..colon].trim_ascii().eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(line[colon + 1..].trim_ascii()).ok();
            let length = value.and_then(|value| value.parse::<u32>().ok()).ok_or(Malformed::BadLength)?;
            return Ok(Some(length as usize));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/x-mixed-replace;boundary=ffmpeg";

    /// All parts of a request that comes in pieces of so many bytes.
    fn read(content_type: &str, body: &[u8], piece: usize) -> Result<Vec<Bytes>, Malformed> {
        let mut parts = Parts::of(content_type, 100).unwrap();
        let mut found = Vec::new();
        for piece in body.chunks(piece) {
            parts.push(piece);
            while let Some(part) = parts.next_part()? {
                found.push(part);
            }
        }
        Ok(found)
    }

    #[test]
    fn parts_are_found_whoever_wrote_them_and_however_they_come() {
        let with_length =
            b"--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: 5\r\n\r\n12345\r\n--ffmpeg\r\n\
            Content-length: 8\r\n\r\n--ffmpeg\r\n--ffmpeg--\r\n";
        let without = b"pre\r\n--ffmpeg\r\nContent-Type: image/jpeg\r\n\r\n12345\r\n--ffmpeg\r\n\r\n\
            67-- --ffmpegx-8\n\r\n--ffmpeg--\r\n--ffmpeg\r\n\r\nno more\r\n--ffmpeg";
        let feeds =
            b"--ffmpeg\nContent-Type: image/jpeg\n\n12345\n----ffmpeg\nContent-Length:1\n\n9\n----ffmpeg";
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(read(TYPE, with_length, piece).unwrap(), [&b"12345"[..], b"--ffmpeg"], "{piece}");
            assert_eq!(
                read(TYPE, without, piece).unwrap(),
                [&b"12345"[..], b"67-- --ffmpegx-8\n"],
                "{piece}"
            );
            assert_eq!(read(TYPE, feeds, piece).unwrap(), [&b"12345"[..], b"9"], "{piece}");
            let dashes = "multipart/x-mixed-replace; a=b; Boundary=\"--ffmpeg\"";
            assert_eq!(read(dashes, with_length, piece).unwrap().len(), 2);
        }
        let mut parts = Parts::of(TYPE, 100).unwrap();
        parts.push(b"--ffmpeg--");
        assert_eq!((parts.next_part(), parts.is_over()), (Ok(None), true));
    }

    #[test]
    fn other_types_are_not_read() {
        for other in
            ["image/jpeg", "multipart/form-data; boundary=x", "multipart/x-mixed-replace; boundary=--"]
        {
            assert!(Parts::of(other, 100).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_nothing_grows_without_end() {
        let large = [&b"--ffmpeg\r\n\r\n"[..], &[7; 300]].concat();
        assert_eq!(read(TYPE, &large, 50), Err(Malformed::TooLarge));
        assert_eq!(read(TYPE, b"--ffmpeg\r\nContent-Length: 101\r\n\r\n", 50), Err(Malformed::TooLarge));
        assert_eq!(read(TYPE, b"--ffmpeg\r\nContent-Length: -1\r\n\r\n", 50), Err(Malformed::BadLength));
        let head = [&b"--ffmpeg\r\n"[..], &[b'a'; MAX_HEAD + 1]].concat();
        assert_eq!(read(TYPE, &head, 50), Err(Malformed::HeadTooLong));
        let mut parts = Parts::of(TYPE, 100).unwrap();
        for _ in 0..1000 {
            parts.push(&[b'-'; 100]);
            assert_eq!(parts.next_part(), Ok(None));
            assert!(parts.buffer.len() < 200);
        }
    }
}
