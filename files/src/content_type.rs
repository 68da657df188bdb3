//! What a file is: what its sender says, what its first bytes say, and whether both may be here.
//!
//! A sender that says nothing (or `application/octet-stream`) gets what the bytes say. Whoever says something else than
//! the bytes is refused: a page that pretends to be a picture must not reach a browser as either.

use veche_doors::{Error, ErrorKind};

/// How many first bytes are looked at.
pub(crate) const HEAD_BYTES: usize = 1024;

/// What is said when nothing is known.
const UNKNOWN: &str = "application/octet-stream";

/// The longest content type that is taken, in bytes.
const MAX_TYPE_BYTES: usize = 127;

/// How a format begins.
struct Signature {
    /// Where the mark stands.
    at: usize,
    mark: &'static [u8],
    /// What the format is called.
    content_type: &'static str,
    /// Other names under which it is sent, with `*` at one end for families.
    also: &'static [&'static str],
}

const MP4: &[&str] = &[
    "audio/mp4",
    "audio/x-m4a",
    "audio/aac",
    "video/3gpp*",
    "audio/3gpp*",
    "video/quicktime",
    "video/x-m4v",
];
const ZIP: &[&str] = &[
    "application/x-zip*",
    "application/vnd.*",
    "application/epub+zip",
    "application/java-archive",
    "application/x-xpinstall",
    "model/3mf",
    "*+zip",
];
const OLE: &[&str] =
    &["application/msword", "application/vnd.ms-*", "application/x-msi", "application/x-ole-storage"];
const OGG: &[&str] = &["video/ogg", "application/ogg", "audio/opus", "audio/vorbis", "audio/x-*"];
const MATROSKA: &[&str] =
    &["audio/webm", "video/x-matroska", "audio/x-matroska", "video/matroska", "audio/matroska"];
const MP3: &[&str] = &["audio/mp3", "audio/x-mp3", "audio/x-mpeg", "audio/mpeg3", "audio/aac", "audio/flac"];
const MARKUP: &[&str] = &[
    "text/*",
    "application/xml",
    "application/xhtml+xml",
    "*+xml",
    "application/javascript",
    "application/x-*script",
];

const fn signature(
    at: usize,
    mark: &'static [u8],
    content_type: &'static str,
    also: &'static [&'static str],
) -> Signature {
    Signature { at, mark, content_type, also }
}

/// Formats by their marks; the first that fits counts.
const SIGNATURES: &[Signature] = &[
    signature(0, b"\x89PNG\r\n\x1a\n", "image/png", &["image/apng", "image/x-png"]),
    signature(0, b"\xff\xd8\xff", "image/jpeg", &["image/jpg", "image/pjpeg"]),
    signature(0, b"GIF87a", "image/gif", &[]),
    signature(0, b"GIF89a", "image/gif", &[]),
    signature(8, b"WEBP", "image/webp", &[]),
    signature(8, b"WAVE", "audio/wav", &["audio/x-wav", "audio/wave", "audio/vnd.wave"]),
    signature(8, b"AVI ", "video/x-msvideo", &["video/avi", "video/msvideo", "video/vnd.avi"]),
    signature(8, b"AIFF", "audio/aiff", &["audio/x-aiff"]),
    signature(4, b"ftypavif", "image/avif", &["image/heif"]),
    signature(4, b"ftypavis", "image/avif", &["image/avif-sequence"]),
    signature(4, b"ftypheic", "image/heic", &["image/heif"]),
    signature(4, b"ftypheix", "image/heic", &["image/heif"]),
    signature(4, b"ftypmif1", "image/heif", &["image/heic", "image/avif"]),
    signature(4, b"ftypqt", "video/quicktime", &["video/mp4"]),
    signature(4, b"ftyp", "video/mp4", MP4),
    signature(0, b"\x1a\x45\xdf\xa3", "video/webm", MATROSKA),
    signature(0, b"OggS", "audio/ogg", OGG),
    signature(0, b"ID3", "audio/mpeg", MP3),
    signature(0, b"\xff\xfb", "audio/mpeg", MP3),
    signature(0, b"\xff\xf3", "audio/mpeg", MP3),
    signature(0, b"\xff\xf2", "audio/mpeg", MP3),
    signature(0, b"\xff\xf1", "audio/aac", &["audio/aacp", "audio/x-aac"]),
    signature(0, b"\xff\xf9", "audio/aac", &["audio/aacp", "audio/x-aac"]),
    signature(0, b"fLaC", "audio/flac", &["audio/x-flac"]),
    signature(0, b"MThd", "audio/midi", &["audio/x-midi", "audio/mid"]),
    signature(0, b"#!AMR", "audio/amr", &["audio/amr-wb"]),
    signature(0, b"FLV\x01", "video/x-flv", &["video/flv"]),
    signature(0, b"\x00\x00\x01\xba", "video/mpeg", &["video/mp2p"]),
    signature(0, b"\x00\x00\x01\xb3", "video/mpeg", &[]),
    signature(0, b"II*\0", "image/tiff", &["image/x-*"]),
    signature(0, b"MM\0*", "image/tiff", &["image/x-*"]),
    signature(0, b"\0\0\x01\0", "image/x-icon", &["image/vnd.microsoft.icon", "image/ico"]),
    signature(0, b"%PDF-", "application/pdf", &["application/x-pdf", "application/illustrator"]),
    signature(0, b"PK\x03\x04", "application/zip", ZIP),
    signature(0, b"PK\x05\x06", "application/zip", ZIP),
    signature(0, b"\x1f\x8b", "application/gzip", &["application/x-*", "application/tar+gzip"]),
    signature(0, b"BZh", "application/x-bzip2", &["application/x-*", "application/bzip2"]),
    signature(0, b"\xfd7zXZ\0", "application/x-xz", &["application/x-*"]),
    signature(0, b"\x28\xb5\x2f\xfd", "application/zstd", &["application/x-*"]),
    signature(0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", &[]),
    signature(0, b"Rar!\x1a\x07", "application/vnd.rar", &["application/x-rar*"]),
    signature(257, b"ustar", "application/x-tar", &[]),
    signature(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage", OLE),
    signature(0, b"SQLite format 3\0", "application/vnd.sqlite3", &["application/x-sqlite3"]),
    signature(0, b"{\\rtf", "text/rtf", &["application/rtf", "text/*"]),
    signature(0, b"%!PS", "application/postscript", &["text/*"]),
    signature(0, b"wOFF", "font/woff", &["application/font-woff"]),
    signature(0, b"wOF2", "font/woff2", &[]),
    signature(0, b"\x7fELF", "application/x-executable", &["application/x-elf", "application/x-sharedlib"]),
    signature(
        0,
        b"MZ\x90\0",
        "application/x-msdownload",
        &["application/vnd.microsoft.portable-executable", "application/x-dosexec"],
    ),
    signature(0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary", &[]),
    signature(0, b"\xca\xfe\xba\xbe", "application/java-vm", &["application/x-mach-binary"]),
    signature(0, b"\0asm", "application/wasm", &[]),
];

/// Formats that always bear their mark: without it, what is said is not true.
const ALWAYS_MARKED: [&str; 15] = [
    "image/png",
    "image/jpeg",
    "image/jpg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/heic",
    "audio/wav",
    "audio/ogg",
    "audio/flac",
    "video/webm",
    "video/mp4",
    "video/x-matroska",
    "application/pdf",
    "application/zip",
];

/// Markup that browsers run or draw, wherever it stands behind white space.
const MARKUP_BEGINNINGS: [(&str, &str); 8] = [
    ("<!doctype html", "text/html"),
    ("<html", "text/html"),
    ("<head", "text/html"),
    ("<body", "text/html"),
    ("<script", "text/html"),
    ("<iframe", "text/html"),
    ("<svg", "image/svg+xml"),
    ("<?xml", "text/xml"),
];

/// Why a type was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What is said is no content type.
    Malformed,
    /// What is said is not what the bytes are, as far as they tell.
    Untrue { declared: String, found: Option<&'static str> },
    /// It is not among the allowed types.
    NotAllowed(String),
}

impl Refusal {
    /// The error for a client; `allowed` are the types that would be right.
    pub(crate) fn into_error(self, allowed: &[String]) -> Error {
        match self {
            Self::Malformed => {
                Error::new(ErrorKind::BadRequest, "content_type: something like `image/png`, or nothing")
            }
            Self::Untrue { declared, found } => {
                let found = found.unwrap_or("something else");
                let message = format!(
                    "the file is said to be `{declared}`, but begins like {found}; send the right type, or none"
                );
                Error::new(ErrorKind::TypeMismatch, message)
            }
            Self::NotAllowed(content_type) => {
                let allowed = allowed.join(", ");
                let message = format!(
                    "`{content_type}` is not allowed here; allowed are {allowed} (BINARY_ALLOWED_TYPES)"
                );
                Error::new(ErrorKind::TypeNotAllowed, message)
            }
        }
    }
}

/// The type of a file that begins with `head`, if it is true and allowed. `declared` is what its sender says.
pub(crate) fn check(declared: Option<&str>, head: &[u8], allowed: &[String]) -> Result<String, Refusal> {
    let content_type = match said(declared)? {
        Some(declared) => agreed(declared, head)?,
        None => sniff(head).map_or_else(|| guess(head), |(found, _)| found).to_owned(),
    };
    allow(&content_type, allowed)?;
    Ok(content_type)
}

/// Whether what the sender says can stand, before there are bytes.
pub(crate) fn check_declared(declared: Option<&str>, allowed: &[String]) -> Result<(), Refusal> {
    said(declared)?.map_or(Ok(()), |declared| allow(&declared, allowed))
}

/// Whether `pattern` (`image/*`, `*+xml`, `application/pdf`, `*/*`) fits a type.
pub(crate) fn matches(pattern: &str, content_type: &str) -> bool {
    let pattern = pattern.trim();
    if pattern == "*/*" {
        return true;
    }
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(beginning), _) => has_prefix(content_type, beginning),
        (None, Some(end)) => has_suffix(content_type, end),
        (None, None) => pattern.eq_ignore_ascii_case(content_type),
    }
}

/// Whether it can be a pattern of allowed types.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    let pattern = pattern.trim();
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_token);
    pattern == "*"
        || pattern.split_once('/').is_some_and(|(kind, name)| is_part(kind) && is_part(name))
        || pattern.strip_prefix('*').is_some_and(is_part)
}

/// The type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim_end()
}

/// Whether a browser may show it within a page of ours: it runs nothing.
pub(crate) fn is_safe_to_show(content_type: &str) -> bool {
    const SAFE: [&str; 8] = [
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "application/pdf",
        "audio/*",
        "video/*",
    ];
    SAFE.iter().any(|pattern| matches(pattern, essence(content_type)))
}

/// Whether it is text, which shrinks.
pub(crate) fn is_text_like(content_type: &str) -> bool {
    const TEXT: [&str; 12] = [
        "text/*",
        "*+xml",
        "*+json",
        "application/json",
        "application/xml",
        "application/javascript",
        "application/x-ndjson",
        "application/yaml",
        "application/toml",
        "application/sql",
        "image/bmp",
        "image/svg+xml",
    ];
    TEXT.iter().any(|pattern| matches(pattern, essence(content_type)))
}

/// What the sender says, if anything.
fn said(declared: Option<&str>) -> Result<Option<String>, Refusal> {
    let declared = declared.map(str::trim).filter(|text| !text.is_empty());
    let declared = declared.map(|text| normalised(text).ok_or(Refusal::Malformed)).transpose()?;
    Ok(declared.filter(|declared| essence(declared) != UNKNOWN))
}

fn allow(content_type: &str, allowed: &[String]) -> Result<(), Refusal> {
    let name = essence(content_type);
    let is_allowed = allowed.iter().any(|pattern| matches(pattern, name));
    is_allowed.then_some(()).ok_or_else(|| Refusal::NotAllowed(name.to_owned()))
}

/// What is said, where the bytes do not say otherwise.
fn agreed(declared: String, head: &[u8]) -> Result<String, Refusal> {
    let name = essence(&declared);
    let is_true = match sniff(head) {
        Some((found, also)) => found == name || also.iter().any(|pattern| matches(pattern, name)),
        None if ALWAYS_MARKED.contains(&name) => false,
        None if name.starts_with("text/") => is_text(head),
        None => true,
    };
    if is_true {
        return Ok(declared);
    }
    let found = sniff(head).map(|(found, _)| found);
    Err(Refusal::Untrue { declared: name.to_owned(), found })
}

/// What the first bytes say, and other names for it.
fn sniff(head: &[u8]) -> Option<(&'static str, &'static [&'static str])> {
    let bears = |signature: &&Signature| {
        head.get(signature.at..).is_some_and(|rest| rest.starts_with(signature.mark))
            && (signature.at != 8 || head.starts_with(b"RIFF") || head.starts_with(b"FORM"))
    };
    if let Some(signature) = SIGNATURES.iter().find(bears) {
        return Some((signature.content_type, signature.also));
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |beginning: &str| {
        text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    let markup = MARKUP_BEGINNINGS.iter().find(|(beginning, _)| begins(beginning));
    markup.map(|&(_, content_type)| (content_type, MARKUP))
}

/// What something without a mark is: text, or unknown.
fn guess(head: &[u8]) -> &'static str {
    if is_text(head) { "text/plain" } else { UNKNOWN }
}

/// Whether it can be text: without zeros, but in UTF-16, which says that it is.
fn is_text(head: &[u8]) -> bool {
    let is_utf16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    is_utf16 || !head.iter().any(|&byte| byte < b' ' && !b"\t\n\r\x0b\x0c\x1b\x08".contains(&byte))
}

/// In small letters, with no parameter but a `charset`; `None` when it is no content type.
fn normalised(text: &str) -> Option<String> {
    if text.len() > MAX_TYPE_BYTES {
        return None;
    }
    let name = essence(text).trim();
    let (kind, subtype) = name.split_once('/')?;
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| is_token(b) && b != b'*');
    if !is_part(kind) || !is_part(subtype) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let charset = text.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is_charset = key.trim().eq_ignore_ascii_case("charset");
        (is_charset && !value.is_empty() && value.bytes().all(is_token)).then_some(value)
    });
    Some(match charset {
        Some(charset) if name.starts_with("text/") => {
            format!("{name}; charset={}", charset.to_ascii_lowercase())
        }
        _ => name,
    })
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn has_prefix(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn has_suffix(text: &str, end: &str) -> bool {
    let at = text.len().checked_sub(end.len());
    at.and_then(|at| text.get(at..)).is_some_and(|rest| rest.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<String> {
        vec!["*/*".to_owned()]
    }

    fn by_default() -> Vec<String> {
        ["image/*", "video/*", "audio/*", "application/pdf", "text/*"].map(str::to_owned).to_vec()
    }

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    #[test]
    fn what_is_said_and_what_is_there_agree_or_it_is_refused() {
        assert_eq!(check(Some("image/png"), PNG, &by_default()).unwrap(), "image/png");
        assert_eq!(check(Some("IMAGE/PNG; a=b"), PNG, &by_default()).unwrap(), "image/png");
        assert_eq!(
            check(Some("text/plain; Charset=\"UTF-8\""), b"hello", &all()).unwrap(),
            "text/plain; charset=utf-8"
        );
        assert_eq!(check(Some("audio/mp4"), b"\0\0\0\x20ftypM4A \0\0", &all()).unwrap(), "audio/mp4");
        assert_eq!(check(Some("text/csv"), b"<b>,2\n", &all()).unwrap(), "text/csv");
        let office = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        assert_eq!(check(Some(office), b"PK\x03\x04...", &all()).unwrap(), office);

        let untrue = |declared: &str, head: &[u8]| {
            matches!(check(Some(declared), head, &all()), Err(Refusal::Untrue { .. }))
        };
        assert!(untrue("image/png", b"<html><script>alert(1)</script>"));
        assert!(untrue("image/png", b"MZ\x90\0\x03"));
        assert!(untrue("image/png", b"just words"));
        assert!(untrue("image/jpeg", PNG));
        assert!(untrue("application/pdf", b"PK\x03\x04"));
        assert!(untrue("text/plain", b"\x7fELF\x02"));
        assert!(untrue("text/plain", b"a\0b"));
        assert!(untrue("image/svg+xml", PNG));
        assert!(untrue("audio/mpeg", b"RIFF\0\0\0\0WAVEfmt "));
    }

    #[test]
    fn who_says_nothing_gets_what_the_bytes_say() {
        assert_eq!(check(None, PNG, &by_default()).unwrap(), "image/png");
        assert_eq!(check(Some(""), b"%PDF-1.7", &by_default()).unwrap(), "application/pdf");
        assert_eq!(
            check(Some("application/octet-stream"), "Привет".as_bytes(), &by_default()).unwrap(),
            "text/plain"
        );
        assert_eq!(check(None, b" \n<!DOCTYPE html>", &all()).unwrap(), "text/html");
        let unknown = check(None, b"\x01\x02\x03", &by_default());
        assert_eq!(unknown, Err(Refusal::NotAllowed(UNKNOWN.to_owned())));
        let archive = check(Some("application/octet-stream"), b"PK\x03\x04", &by_default());
        assert_eq!(archive, Err(Refusal::NotAllowed("application/zip".to_owned())));
    }

    #[test]
    fn patterns_fit_families_and_names() {
        assert!(matches("image/*", "image/png") && !matches("image/*", "imagex/png"));
        assert!(matches("*+xml", "image/svg+xml") && matches("*/*", "a/b") && matches("*", "a/b"));
        assert!(
            matches("Application/PDF", "application/pdf") && !matches("application/pdf", "application/pdfx")
        );
        assert!(!matches("image/*", "им") && !matches("*+xml", "é"));
        for pattern in ["image/*", "*/*", "*", "application/vnd.*", "*+json"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in ["", "image", "image/", "/png", "a b/c"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_content_type_is_refused() {
        for text in ["image", "image/", "/png", "a/b/c", "im age/png", "image/*", "image/png\r\nx: y", "é/è"]
        {
            assert_eq!(check(Some(text), PNG, &all()), Err(Refusal::Malformed), "{text}");
        }
        assert_eq!(check(Some(&format!("a/{}", "b".repeat(200))), PNG, &all()), Err(Refusal::Malformed));
    }
}
