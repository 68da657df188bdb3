//! Links that carry their own permission: a time and a signature, for pictures in pages and programs without tokens.
//!
//! Signatures are HMAC-SHA256 with secrets of the server, kept in a file of its data folder. A new secret comes every
//! thirty days; one goes when no link can be left that it signed.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;

/// How long a secret signs, in milliseconds.
const SIGNS_FOR: i64 = 30 * 24 * 3600 * 1000;
/// Secrets that are kept at most, whatever the clock does.
const MAX_SECRETS: usize = 64;
const SECRET_BYTES: usize = 32;

/// Signs and checks links. Made once; shared by reference.
pub(crate) struct Links {
    path: PathBuf,
    /// How long links work, in milliseconds.
    lifetime: i64,
    /// The newest last; never empty.
    secrets: RwLock<Vec<Secret>>,
}

struct Secret {
    made_at: i64,
    bytes: [u8; SECRET_BYTES],
    key: Key,
}

impl Links {
    /// Reads the secrets from `path`, or makes the first.
    pub(crate) fn open(path: PathBuf, lifetime: i64, now: i64) -> io::Result<Self> {
        let secrets = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| damaged(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let links = Self { path, lifetime, secrets: RwLock::new(secrets) };
        links.rotate(now)?;
        Ok(links)
    }

    /// The path and query of a link to a file. It works for the usual time, or until the file itself goes at `file_expires`.
    pub(crate) fn sign(&self, file_id: &str, file_expires: Option<i64>, now: i64) -> String {
        let expires = file_expires.unwrap_or(i64::MAX).min(now + self.lifetime).div_euclid(1000);
        let secrets = self.secrets.read();
        let secret = secrets.last().expect("there is always a secret");
        let tag = hmac::sign(&secret.key, &signed_text(file_id, expires));
        let signature = URL_SAFE_NO_PAD.encode(tag.as_ref());
        format!("/realtime/files/{file_id}?expires={expires}&signature={signature}")
    }

    /// Whether the signature is one of ours, for this file and this time (in seconds), which is not over.
    pub(crate) fn is_valid(&self, file_id: &str, expires: i64, signature: &str, now: i64) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let text = signed_text(file_id, expires);
        let fits = |secret: &Secret| hmac::verify(&secret.key, &text, &signature).is_ok();
        expires.saturating_mul(1000) > now && self.secrets.read().iter().any(fits)
    }

    /// Makes a new secret when it is time, and drops those that no living link was signed with. Writes the file then.
    pub(crate) fn rotate(&self, now: i64) -> io::Result<()> {
        let mut secrets = self.secrets.write();
        let is_due = secrets.last().is_none_or(|newest| now - newest.made_at >= SIGNS_FOR);
        if !is_due {
            return Ok(());
        }
        let lifetime = self.lifetime;
        secrets.retain(|secret| now - secret.made_at < SIGNS_FOR + lifetime);
        let excess = (secrets.len() + 1).saturating_sub(MAX_SECRETS);
        secrets.drain(..excess);
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        secrets.push(Secret::new(now, bytes));
        write(&self.path, &secrets)
    }
}

impl Secret {
    fn new(made_at: i64, bytes: [u8; SECRET_BYTES]) -> Self {
        Self { made_at, bytes, key: Key::new(HMAC_SHA256, &bytes) }
    }
}

fn signed_text(file_id: &str, expires: i64) -> Vec<u8> {
    format!("veche file link\n{file_id}\n{expires}").into_bytes()
}

/// One secret a line: when it was made, and itself in base64.
fn parse(text: &str) -> Option<Vec<Secret>> {
    let line = |line: &str| {
        let (made_at, bytes) = line.split_once(' ')?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?.try_into().ok()?;
        Some(Secret::new(made_at.parse().ok()?, bytes))
    };
    text.lines().map(line).collect()
}

/// A new file that takes the old one's place: a crash leaves one of both whole. Only the server's user may read it.
fn write(path: &Path, secrets: &[Secret]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    for secret in secrets {
        writeln!(file, "{} {}", secret.made_at, URL_SAFE_NO_PAD.encode(secret.bytes))?;
    }
    file.sync_all()?;
    std::fs::rename(new, path)
}

fn damaged(path: &Path) -> io::Error {
    let message = format!("{} is damaged; remove it to have new link secrets made", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1000;
    const DAY: i64 = 24 * HOUR;

    fn parts(link: &str) -> (i64, String) {
        let query = link.split_once("?expires=").unwrap().1;
        let (expires, signature) = query.split_once("&signature=").unwrap();
        (expires.parse().unwrap(), signature.to_owned())
    }

    #[test]
    fn a_link_opens_its_file_until_its_time_is_over_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::open(folder.path().join("links"), DAY, 0).unwrap();
        let (expires, signature) = parts(&links.sign("file_a", None, 0));
        assert_eq!(expires, 24 * 3600);
        assert!(links.is_valid("file_a", expires, &signature, DAY - 1));
        assert!(!links.is_valid("file_a", expires, &signature, DAY));
        assert!(!links.is_valid("file_b", expires, &signature, 0));
        assert!(!links.is_valid("file_a", expires + 1, &signature, 0));
        assert!(!links.is_valid("file_a", i64::MAX, &signature, 0));
        assert!(!links.is_valid("file_a", expires, "", 0));
        assert!(!links.is_valid("file_a", expires, &signature[1..], 0));
        let (expires, _) = parts(&links.sign("file_a", Some(HOUR), 0));
        assert_eq!(expires, 3600, "a link does not outlive its file");
    }

    #[test]
    fn links_survive_a_restart_and_the_change_of_secrets_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links");
        let links = Links::open(path.clone(), DAY, 0).unwrap();
        let (expires, signature) = parts(&links.sign("file_a", None, SIGNS_FOR - 1));
        links.rotate(SIGNS_FOR - 1).unwrap();
        assert_eq!(links.secrets.read().len(), 1);
        links.rotate(SIGNS_FOR).unwrap();
        assert!(links.is_valid("file_a", expires, &signature, SIGNS_FOR));
        let again = Links::open(path.clone(), DAY, SIGNS_FOR).unwrap();
        assert!(again.is_valid("file_a", expires, &signature, SIGNS_FOR));
        again.rotate(2 * SIGNS_FOR).unwrap();
        assert_eq!(again.secrets.read().len(), 2, "the first secret is gone, the one before stays");
        assert!(!again.is_valid("file_a", i64::MAX / 1000, &signature, 0));

        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(Links::open(path, DAY, 0).is_err());
    }
}
