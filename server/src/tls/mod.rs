//! The certificate for HTTPS: the operator's, one that an authority gives, or a self-signed one.
//!
//! Whatever it is, it can be replaced while the server runs: each handshake takes the one that is current.

mod acme;
mod files;
mod self_signed;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;

use crate::config::Config;

pub(crate) use self_signed::machine_addresses;

/// By which an authority asks for its proof (RFC 8737).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// HTTPS, ready to be served.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Certificates,
}

/// What handshakes are answered with. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<CertifiedKey>,
    /// Proofs for an authority, by name, while they are asked for.
    proofs: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    files: files::Seen,
    /// Where the self-signed certificate is kept, where no other is to come.
    self_signed: Option<PathBuf>,
}

impl Tls {
    /// Finds or makes the certificate, and keeps it fresh in the background.
    pub(crate) fn start(config: &Config, tasks: &mut JoinSet<anyhow::Error>) -> Result<Self> {
        let folder = &config.http.data_dir;
        let mut self_signed = None;
        let current = if let Some(named) = files::Named::of(config) {
            named.read()?
        } else if let Some(kept) = acme::kept(config) {
            kept
        } else {
            self_signed = config.acme.domains.is_empty().then(|| folder.clone());
            self_signed::load(folder)?
        };
        let shared = Shared {
            current: ArcSwap::from_pointee(current),
            proofs: Mutex::default(),
            files: files::Seen::new(files::Named::of(config)),
            self_signed,
        };
        let certificates = Certificates { shared: Arc::new(shared) };
        tasks.spawn(files::watch(certificates.clone()));
        if !config.acme.domains.is_empty() {
            tasks.spawn(acme::Renewal::new(config, certificates.clone())?.run());
        }
        let mut tls =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates.shared.clone());
        tls.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_PROTOCOL].map(<[u8]>::to_vec).into();
        Ok(Self { config: Arc::new(tls), certificates })
    }
}

/// Whether the files that the configuration names can be used, and an authority be asked.
pub(crate) fn check(config: &Config) -> Result<()> {
    if let Some(named) = files::Named::of(config) {
        named.read()?;
    }
    if !config.acme.domains.is_empty() {
        acme::check(&config.acme)?;
    }
    Ok(())
}

impl Certificates {
    /// Reads the operator's files, where the configuration names some.
    pub(crate) fn read(config: &Config) -> Result<Option<files::Read>> {
        files::Named::of(config).map(files::Named::read_now).transpose()
    }

    /// Uses these from now on, and reads them again when they change.
    pub(crate) fn replace(&self, read: files::Read) {
        self.shared.files.replace(read, self);
    }

    fn set(&self, certificate: CertifiedKey) {
        self.shared.current.store(Arc::new(certificate));
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wants_proof =
            hello.alpn().is_some_and(|mut protocols| protocols.any(|name| name == ACME_PROTOCOL));
        if wants_proof {
            return self.proofs.lock().get(hello.server_name()?).cloned();
        }
        Some(self.current.load_full())
    }
}

/// A chain and its key (PEM), which must belong together.
fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().context("the certificate")?;
    anyhow::ensure!(!chain.is_empty(), "the certificate: there is none in the file");
    let key = PrivateKeyDer::from_pem_slice(key).context("the private key")?;
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
}

/// By another name first: a crash leaves the old file or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::SystemTime;

    use super::*;

    /// A folder of a test, removed at its end.
    pub(super) struct Folder(pub(super) PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("veche-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        /// A certificate for a name, and its key.
        pub(super) fn self_signed(&self, name: &str) -> [PathBuf; 2] {
            self_signed::renew(&self.0, BTreeSet::from([name.to_owned()]), SystemTime::now()).unwrap();
            ["https-certificate.pem", "https-key.pem"].map(|file| self.0.join(file))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(super) fn certificates(certificate: &Path, key: &Path) -> Certificates {
        let current = certified(&fs::read(certificate).unwrap(), &fs::read(key).unwrap()).unwrap();
        let current = ArcSwap::from_pointee(current);
        let files = files::Seen::new(None);
        let shared = Shared { current, proofs: Mutex::default(), files, self_signed: None };
        Certificates { shared: Arc::new(shared) }
    }
}
