//! The operator's certificate, read again when its files change, as they do when it is renewed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use super::{Certificates, certified, self_signed};
use crate::config::Config;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The files that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    certificate: PathBuf,
    key: PathBuf,
}

/// Which files were read, and when they had been changed.
#[derive(Debug)]
pub(super) struct Seen(Mutex<Option<(Named, Times)>>);

/// What the files had in them, and when they had been changed.
pub(crate) struct Read {
    certificate: CertifiedKey,
    named: Named,
    times: Times,
}

type Times = [Option<SystemTime>; 2];

impl Named {
    pub(super) fn of(config: &Config) -> Option<Self> {
        let http = &config.http;
        Some(Self { certificate: http.certificate_file.clone()?.0, key: http.key_file.clone()?.0 })
    }

    pub(super) fn read(&self) -> Result<CertifiedKey> {
        let read = |file: &PathBuf| fs::read(file).with_context(|| file.display().to_string());
        let both = || certified(&read(&self.certificate)?, &read(&self.key)?);
        both().with_context(|| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            format!("http.certificate_file = \"{certificate}\", http.key_file = \"{key}\": cannot be used")
        })
    }

    pub(super) fn read_now(self) -> Result<Read> {
        let times = self.changed_at();
        Ok(Read { certificate: self.read()?, named: self, times })
    }

    fn changed_at(&self) -> Times {
        [&self.certificate, &self.key]
            .map(|file| fs::metadata(file).and_then(|metadata| metadata.modified()).ok())
    }
}

impl Seen {
    /// These have just been read.
    pub(super) fn new(named: Option<Named>) -> Self {
        Self(Mutex::new(named.map(|named| {
            let times = named.changed_at();
            (named, times)
        })))
    }

    /// Looks at these from now on.
    pub(super) fn replace(&self, read: Read, certificates: &Certificates) {
        let Read { certificate, named, times } = read;
        certificates.set(certificate);
        *self.0.lock() = Some((named, times));
    }

    /// Files that cannot be used, perhaps because only one of them is there yet, are tried again; what was read before
    /// stays meanwhile.
    fn look(&self, certificates: &Certificates) {
        let Some((named, times)) = self.0.lock().clone() else { return };
        if named.changed_at() == times {
            return;
        }
        let certificate = named.certificate.display().to_string();
        match named.read_now() {
            Ok(read) => {
                self.replace(read, certificates);
                tracing::info!(certificate, "read the renewed certificate");
            }
            Err(error) => tracing::warn!("{error:#}; the certificate of before is used"),
        }
    }
}

/// Looks at the files for ever, and makes a self-signed certificate anew in time.
pub(super) async fn watch(certificates: Certificates) -> anyhow::Error {
    let shared = &certificates.shared;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        shared.files.look(&certificates);
        let is_named = shared.files.0.lock().is_some();
        if !is_named
            && let Some(folder) = shared.self_signed.as_deref()
            && self_signed::ends_soon(folder, SystemTime::now())
        {
            match self_signed::load(folder) {
                Ok(certificate) => certificates.set(certificate),
                Err(error) => tracing::error!("{error:#}; the certificate of before is used"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::tls::tests::{Folder, certificates};

    #[test]
    fn a_certificate_whose_files_change_is_read_again() {
        let folder = Folder::new("reload");
        let [certificate, key] = folder.self_signed("a.example");
        let certificates = certificates(&certificate, &key);
        let seen = Seen::new(Some(Named { certificate: certificate.clone(), key }));
        let set_time = |seconds| {
            let file = fs::OpenOptions::new().write(true).open(&certificate).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let first = certificates.shared.current.load_full();
        let is_first = || std::sync::Arc::ptr_eq(&first, &certificates.shared.current.load_full());
        seen.look(&certificates);
        assert!(is_first(), "unchanged");
        let good = fs::read(&certificate).unwrap();
        fs::write(&certificate, "not yet whole").unwrap();
        set_time(1000);
        seen.look(&certificates);
        assert!(is_first(), "unusable");
        fs::write(&certificate, good).unwrap();
        set_time(1000);
        seen.look(&certificates);
        assert!(!is_first());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (Folder::new("pair-one"), Folder::new("pair-other"));
        let [certificate, _] = one.self_signed("a.example");
        let [_, key] = other.self_signed("a.example");
        let error = format!("{:#}", Named { certificate, key }.read().unwrap_err());
        assert!(error.contains("http.certificate_file") && error.contains("http.key_file"), "{error}");
    }
}
