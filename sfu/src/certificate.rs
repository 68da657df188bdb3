//! The server's DTLS certificate: one per process, kept in a file so that it survives restarts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use veche_sfu_core::dtls::Certificate;
use x509_cert::der::Decode;

use crate::handle::StartError;

/// How long a new certificate is valid. Clients know it by its fingerprint (RFC 8122), so that a longer time would
/// harm nobody; but some refuse certificates that are valid for years.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// How long before its end a certificate is replaced.
const MARGIN: Duration = Duration::from_hours(7 * 24);

/// Clients whose clocks are late accept a new certificate too.
const BACKDATED: Duration = Duration::from_hours(24);

/// The certificate in `file`; a new one when there is none or it expires soon. Without a file: a new one.
pub(crate) fn load_or_make(file: Option<&Path>, now: SystemTime) -> Result<Certificate, StartError> {
    let Some(file) = file else { return Ok(Pair::make(now)?.certificate) };
    match load(file)? {
        Some(pair) if pair.not_after > now + MARGIN => return Ok(pair.certificate),
        Some(_) => tracing::info!(file = %file.display(), "the DTLS certificate expires; it is replaced"),
        None => tracing::info!(file = %file.display(), "a DTLS certificate is made"),
    }
    let pair = Pair::make(now)?;
    save(file, &pair.pem).map_err(|error| {
        failure(format!(
            "{} cannot be written ({error}); set media.certificate_file (VECHE_MEDIA_CERTIFICATE_FILE) to a file in \
             a directory that the server may write, for example /var/lib/veche/dtls.pem, or unset it for a new \
             certificate at each start",
            file.display()
        ))
    })?;
    Ok(pair.certificate)
}

/// A certificate with its key.
struct Pair {
    certificate: Certificate,
    not_after: SystemTime,
    pem: String,
}

impl Pair {
    fn make(now: SystemTime) -> Result<Self, StartError> {
        let impossible = |error: rcgen::Error| failure(format!("a certificate cannot be made: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(impossible)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "veche");
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(now + LIFETIME);
        let certificate = params.self_signed(&key).map_err(impossible)?;
        Ok(Self {
            certificate: Certificate::new(certificate.der().to_vec(), key.serialize_der())
                .map_err(|e| failure(format!("a certificate cannot be made: {e}")))?,
            not_after: now + LIFETIME,
            pem: key.serialize_pem() + &certificate.pem(),
        })
    }

    /// `Err` says what is wrong with the text.
    fn parse(pem: String) -> Result<Self, String> {
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| format!("no private key: {e}"))?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| format!("no certificate: {e}"))?;
        let parsed =
            x509_cert::Certificate::from_der(&certificate).map_err(|e| format!("not a certificate: {e}"))?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|e| format!("the private key is not one for ECDSA P-256: {e}"))?;
        let contents = parsed.tbs_certificate();
        if contents.subject_public_key_info().subject_public_key.raw_bytes() != pair.public_key_raw() {
            return Err("the private key is not that of the certificate".to_owned());
        }
        Ok(Self {
            certificate: Certificate::new(certificate.to_vec(), key.secret_pkcs8_der().to_vec())
                .map_err(|e| format!("not usable: {e}"))?,
            not_after: contents.validity().not_after.to_system_time(),
            pem,
        })
    }
}

fn load(file: &Path) -> Result<Option<Pair>, StartError> {
    let pem = match fs::read_to_string(file) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(failure(format!(
                "{} cannot be read ({error}); let the server's user read it, or set media.certificate_file \
                 (VECHE_MEDIA_CERTIFICATE_FILE) to another file, which the server will make",
                file.display()
            )));
        }
    };
    if fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(file = %file.display(), "others may read the private key; chmod 600 it");
    }
    Pair::parse(pem).map(Some).map_err(|reason| {
        failure(format!(
            "{}: {reason}; remove the file, and the server makes a new one, or put a PEM certificate and its PKCS#8 \
             key (ECDSA P-256) there",
            file.display()
        ))
    })
}

/// Writes a file that only its owner may read, either all of it or nothing.
fn save(file: &Path, pem: &str) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let temporary = temporary_name(file);
    let written = write_private(&temporary, pem).and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The name too is on the disk only when the directory is.
    File::open(directory)?.sync_all()
}

fn temporary_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    name.into()
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    // One that a crash has left would have its own mode.
    let _ = fs::remove_file(file);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn failure(reason: String) -> StartError {
    StartError { setting: "media.certificate_file", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for one test, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("veche-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("kept/dtls.pem")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn load_der(file: &Path, now: SystemTime) -> Vec<u8> {
        load_or_make(Some(file), now).unwrap().certificate().to_vec()
    }

    #[test]
    fn a_certificate_is_kept_over_restarts_for_its_owner_only() {
        let directory = Directory::new("kept");
        let now = SystemTime::now();
        let made = load_or_make(Some(&directory.file()), now).unwrap();
        let loaded = load_or_make(Some(&directory.file()), now).unwrap();
        assert_eq!(made.certificate(), loaded.certificate());
        assert_eq!(made.private_key(), loaded.private_key());
        assert_eq!(fs::metadata(directory.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.0.join("kept")).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_certificate_is_replaced_a_week_before_its_end() {
        let directory = Directory::new("replaced");
        let now = SystemTime::now();
        let first = load_der(&directory.file(), now);
        let day = Duration::from_hours(24);
        assert_eq!(load_der(&directory.file(), now + LIFETIME - MARGIN - day), first);
        let second = load_der(&directory.file(), now + LIFETIME - MARGIN + day);
        assert_ne!(second, first);
        assert_eq!(load_der(&directory.file(), now + LIFETIME), second);
    }

    #[test]
    fn without_a_file_each_start_has_its_own() {
        let now = SystemTime::now();
        assert_ne!(
            load_or_make(None, now).unwrap().certificate().to_vec(),
            load_or_make(None, now).unwrap().certificate().to_vec()
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_and_the_file_is_left_alone() {
        let directory = Directory::new("wrong");
        let file = directory.0.join("dtls.pem");
        let now = SystemTime::now();
        let (one, other) = (Pair::make(now).unwrap().pem, Pair::make(now).unwrap().pem);
        let begin = one.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = one[..begin].to_owned() + &other[begin..];
        let cases = [
            ("rubbish", "no private key"),
            (&one[..begin], "no certificate"),
            (&one[begin..], "no private key"),
            (&mixed, "not that of the certificate"),
        ];
        for (text, reason) in cases {
            fs::write(&file, text).unwrap();
            let error = load_or_make(Some(&file), now).unwrap_err();
            assert_eq!(error.setting, "media.certificate_file");
            assert!(error.reason.contains(reason) && error.reason.contains("remove the file"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let error = load_or_make(Some(&file.join("below/a/file")), now).unwrap_err();
        assert!(error.reason.contains("cannot be"), "{error}");
    }
}
