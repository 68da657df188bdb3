//! A parser of `multipart/form-data` (RFC 7578) that holds no more than it must: headers of a part, and as many bytes of its
//! content as may be the beginning of a boundary.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// The longest headers of one part, in bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// How many parts a form may have.
const MAX_PARTS: usize = 32;
/// The longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;
/// White space that may stand behind a boundary.
const MAX_PADDING_BYTES: usize = 64;

/// What comes next in a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins.
    Part(Part),
    /// Bytes of it.
    Data(Bytes),
    /// It ends.
    PartEnd,
    /// The form ends; what follows is no concern of anybody's.
    End,
}

/// What a part is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The field.
    pub(crate) name: String,
    /// The name of the file in it.
    pub(crate) filename: Option<String>,
    /// Its type, as the sender says.
    pub(crate) content_type: Option<String>,
}

/// Takes bytes and gives pieces.
pub(crate) struct Parser {
    buffer: BytesMut,
    /// Line break, two hyphens, boundary.
    delimiter: Finder<'static>,
    state: State,
    parts: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary.
    Boundary,
    Headers,
    Data,
    End,
}

impl Parser {
    /// For a body of this content type; the error says what would be right.
    pub(crate) fn new(content_type: &str) -> Result<Self, &'static str> {
        let boundary = boundary(content_type).ok_or(
            "the content type must be `multipart/form-data` with a `boundary` of 1 to 70 characters",
        )?;
        let delimiter = format!("\r\n--{boundary}");
        // The first boundary need not stand behind a line break: with one in front of all it is like the others.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let delimiter = Finder::new(delimiter.as_bytes()).into_owned();
        Ok(Self { buffer, delimiter, state: State::Preamble, parts: 0 })
    }

    /// Takes more bytes; `next` must have returned `None` before.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next piece; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, &'static str> {
        loop {
            match self.state {
                State::Preamble => {
                    let Some(at) = self.delimiter.find(&self.buffer) else {
                        let keep = self.tail();
                        let _ = self.buffer.split_to(keep);
                        return Ok(None);
                    };
                    self.pass_delimiter(at);
                }
                State::Boundary => match self.behind_boundary()? {
                    Some(State::End) => {
                        self.state = State::End;
                        return Ok(Some(Piece::End));
                    }
                    Some(state) => self.state = state,
                    None => return Ok(None),
                },
                State::Headers => {
                    let part = self.headers()?;
                    if part.is_some() {
                        self.state = State::Data;
                    }
                    return Ok(part.map(Piece::Part));
                }
                State::Data => return Ok(self.data()),
                State::End => return Ok(None),
            }
        }
    }

    /// How much of the buffer cannot be the beginning of a delimiter.
    fn tail(&self) -> usize {
        self.buffer.len().saturating_sub(self.delimiter.needle().len() - 1)
    }

    fn pass_delimiter(&mut self, at: usize) {
        let _ = self.buffer.split_to(at + self.delimiter.needle().len());
        self.state = State::Boundary;
    }

    /// White space, then two hyphens at the end of the form, or a line break.
    fn behind_boundary(&mut self) -> Result<Option<State>, &'static str> {
        let padding = self.buffer.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
        let state = match self.buffer.get(padding..padding + 2) {
            _ if padding > MAX_PADDING_BYTES => return Err("too much white space behind a boundary"),
            None => return Ok(None),
            Some(b"--") => return Ok(Some(State::End)),
            Some(b"\r\n") => State::Headers,
            Some(_) => return Err("a boundary must be followed by a line break or two hyphens"),
        };
        // The line break stays: headers begin behind one, so that none at all are found as well.
        let _ = self.buffer.split_to(padding);
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err("a form may have 32 parts");
        }
        Ok(Some(state))
    }

    fn headers(&mut self) -> Result<Option<Part>, &'static str> {
        let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > MAX_HEADER_BYTES {
                Err("the headers of a part are too long")
            } else {
                Ok(None)
            };
        };
        if end > MAX_HEADER_BYTES {
            return Err("the headers of a part are too long");
        }
        let headers = self.buffer.split_to(end + 4);
        // Its last line break is that of a delimiter that follows at once.
        let text = std::str::from_utf8(&headers[..end]).map_err(|_| "the headers of a part must be UTF-8")?;
        part(text).map(Some)
    }

    fn data(&mut self) -> Option<Piece> {
        if let Some(at) = self.delimiter.find(&self.buffer) {
            if at > 0 {
                return Some(Piece::Data(self.buffer.split_to(at).freeze()));
            }
            self.pass_delimiter(0);
            return Some(Piece::PartEnd);
        }
        let ready = self.tail();
        (ready > 0).then(|| Piece::Data(self.buffer.split_to(ready).freeze()))
    }
}

/// The boundary that a content type names.
fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = Parameters(parameters).find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?.1;
    let is_fine = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    ((1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) && boundary.bytes().all(is_fine)).then_some(boundary)
}

/// What the headers of a part say.
fn part(headers: &str) -> Result<Part, &'static str> {
    let mut part = Part::default();
    let mut has_name = false;
    for line in headers.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or("a header of a part has no colon")?;
        if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            let (_, parameters) = value.split_once(';').unwrap_or((value, ""));
            let mut extended = None;
            for (name, value) in Parameters(parameters) {
                match name.to_ascii_lowercase().as_str() {
                    "name" => {
                        has_name = true;
                        part.name = value;
                    }
                    "filename" => part.filename = Some(unescaped(&value)),
                    "filename*" => extended = extended_value(&value),
                    _ => {}
                }
            }
            part.filename = extended.or(part.filename);
        }
    }
    has_name.then_some(part).ok_or("a part must have a `Content-Disposition` with a `name`")
}

/// The parameters of a header, `; a=b; c="d"`.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([';', ' ', '\t']);
        let (name, rest) = rest.split_once('=')?;
        let (value, rest) = if let Some(quoted) = rest.trim_start().strip_prefix('"') {
            quoted_string(quoted)
        } else {
            let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
            (value.trim().to_owned(), rest)
        };
        self.0 = rest;
        Some((name.trim().to_owned(), value))
    }
}

/// A text up to its closing quote, and what follows. A backslash escapes a quote or a backslash; before anything else it
/// stands for itself, as in the paths that old browsers send.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next_if(|&(_, next)| next == '"' || next == '\\') {
                Some((_, next)) => value.push(next),
                None => value.push('\\'),
            },
            character => value.push(character),
        }
    }
    (value, "")
}

/// Browsers write quotes and line breaks in names as `%22`, `%0D` and `%0A`, and nothing else so (the HTML standard,
/// "multipart form data").
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// `UTF-8''%E2%82%AC` (RFC 8187): RFC 7578 does not want it, but clients send it.
fn extended_value(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let is_utf8 = parts.next()?.eq_ignore_ascii_case("utf-8");
    let text = parts.nth(1)?;
    let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    is_utf8.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    /// All pieces of a body that comes in chunks of one size; neighbouring data joined.
    fn pieces(body: &[u8], chunk: usize) -> Result<Vec<Piece>, &'static str> {
        let mut parser = Parser::new(TYPE)?;
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in body.chunks(chunk) {
            parser.feed(chunk);
            while let Some(piece) = parser.next()? {
                match (pieces.last_mut(), piece) {
                    (Some(Piece::Data(before)), Piece::Data(data)) => {
                        *before = [&before[..], &data[..]].concat().into();
                    }
                    (_, piece) => pieces.push(piece),
                }
            }
            assert!(parser.buffer.len() < MAX_HEADER_BYTES + chunk.len());
        }
        Ok(pieces)
    }

    fn file(filename: &str, content_type: Option<&str>) -> Piece {
        let content_type = content_type.map(str::to_owned);
        Piece::Part(Part { name: "file".into(), filename: Some(filename.into()), content_type })
    }

    #[test]
    fn forms_are_the_same_in_whatever_pieces_they_come() {
        let body = b"preamble\r\n--XX  \r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\
            \r\n--X not yet\r\n--XY\r\n\r\n--XX\r\ncontent-disposition: form-data; name=channel\r\n\r\ngeneral\r\n--XX\r\n\
            Content-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--XX--\r\nepilogue";
        let field = |name: &str| Piece::Part(Part { name: name.into(), ..Part::default() });
        let expected = vec![
            file("a.png", Some("image/png")),
            Piece::Data(Bytes::from_static(b"\r\n--X not yet\r\n--XY\r\n")),
            Piece::PartEnd,
            field("channel"),
            Piece::Data(Bytes::from_static(b"general")),
            Piece::PartEnd,
            field("empty"),
            Piece::PartEnd,
            Piece::End,
        ];
        for chunk in 1..body.len() {
            assert_eq!(pieces(body, chunk).unwrap(), expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn names_come_as_browsers_and_programs_write_them() {
        let name = |disposition: &str| {
            let body = format!(
                "--XX\r\nContent-Disposition: form-data; name=\"file\"; {disposition}\r\n\r\nx\r\n--XX--"
            );
            let mut pieces = pieces(body.as_bytes(), 1000).unwrap();
            let Piece::Part(part) = pieces.swap_remove(0) else { panic!("no part") };
            part.filename.unwrap()
        };
        assert_eq!(name("filename=\"a \\\"b\\\".txt\""), "a \"b\".txt");
        assert_eq!(name("filename=\"a %22b%22; c.txt\""), "a \"b\"; c.txt");
        assert_eq!(name("filename=\"C:\\dir\\f.txt\""), "C:\\dir\\f.txt");
        assert_eq!(name("filename=\"Отчёт.pdf\""), "Отчёт.pdf");
        assert_eq!(name("filename=x; filename*=UTF-8''%E2%82%AC.txt"), "€.txt");
        assert_eq!(name("filename=plain.txt"), "plain.txt");
    }

    #[test]
    fn what_is_no_form_is_refused_and_holds_no_memory() {
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=XX",
            "application/json; boundary=XX",
            &format!("multipart/form-data; boundary={}", "x".repeat(71)),
        ] {
            assert!(Parser::new(content_type).is_err(), "{content_type}");
        }
        assert!(Parser::new("Multipart/Form-Data; charset=x; Boundary=\"a b\"").is_ok());
        assert!(pieces(b"--XXno line break", 4).is_err());
        assert!(pieces(b"--XX\r\nContent-Type: a/b\r\n\r\n", 4).is_err(), "a part without a name");
        assert!(pieces(b"--XX\r\nno colon\r\n\r\n", 4).is_err());
        assert!(
            pieces(&[b"--XX\r\n".to_vec(), vec![b'a'; 20_000]].concat(), 100).is_err(),
            "endless headers"
        );
        assert!(pieces(&[b"--XX".to_vec(), vec![b' '; 20_000]].concat(), 100).is_err(), "endless padding");
        assert_eq!(pieces(&vec![b'-'; 100_000], 1000).unwrap(), [], "an endless preamble");
        let many = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(MAX_PARTS + 1);
        assert!(pieces(many.as_bytes(), 1000).is_err());
    }
}
