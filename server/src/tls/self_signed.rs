//! A certificate that the server signs itself, made once and kept, for trying out.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::{certified, write};

const CERTIFICATE: &str = "https-certificate.pem";
const KEY: &str = "https-key.pem";
/// What the certificate was made for: read instead of the certificate itself.
const NAMES: &str = "https-names.json";

/// How long a self-signed certificate lasts. Browsers take no more than 825 days, and Apple's no more than 398.
const LIFETIME: Duration = Duration::from_hours(397 * 24);

/// How long before its end it is made anew.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// Names of one certificate. A machine that moves between networks gathers addresses.
const MAX_NAMES: usize = 100;

/// What a self-signed certificate was made for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    names: BTreeSet<String>,
    /// In seconds since 1970.
    expires: u64,
}

/// The one that is kept in the folder, made where there is none that serves.
pub(super) fn load(folder: &Path) -> Result<CertifiedKey> {
    let certificate = || {
        renew(folder, names(), SystemTime::now())?;
        certified(&fs::read(folder.join(CERTIFICATE))?, &fs::read(folder.join(KEY))?)
    };
    certificate().with_context(|| {
        format!(
            "http.data_dir = \"{}\": cannot keep a certificate there; name a folder that can be written to",
            folder.display()
        )
    })
}

/// Whether it is time to make the one that is kept anew.
pub(super) fn ends_soon(folder: &Path, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    kept(folder).is_some_and(|kept| !kept.lasts(now))
}

/// The addresses of this machine.
pub(crate) fn machine_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    interfaces.iter().map(if_addrs::Interface::ip).filter(is_usable).collect()
}

/// Makes the certificate where there is none, where it lacks one of the names, or where it ends soon. A new one for a
/// new name keeps the names of before, so that a machine that comes back to a network need not make yet another, which
/// every browser would have to accept again.
pub(super) fn renew(folder: &Path, mut names: BTreeSet<String>, now: SystemTime) -> Result<()> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_there = folder.join(CERTIFICATE).exists() && folder.join(KEY).exists();
    if let Some(kept) = kept(folder).filter(|kept| is_there && kept.lasts(now)) {
        if names.is_subset(&kept.names) {
            return Ok(());
        }
        let room = MAX_NAMES.saturating_sub(names.len());
        names.extend(kept.names.into_iter().take(room));
    }
    let expires = now + LIFETIME;
    let mut parameters = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    parameters.not_before = (UNIX_EPOCH + now.saturating_sub(Duration::from_hours(24))).into();
    parameters.not_after = (UNIX_EPOCH + expires).into();
    parameters.distinguished_name.push(DnType::CommonName, "Veche (self-signed)");
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    fs::create_dir_all(folder)?;
    write(&folder.join(KEY), &key.serialize_pem(), 0o600)?;
    write(&folder.join(CERTIFICATE), &certificate.pem(), 0o644)?;
    let names = Names { names, expires: expires.as_secs() };
    write(&folder.join(NAMES), &serde_json::to_string_pretty(&names)?, 0o644)?;
    tracing::info!(folder = %folder.display(), "made a self-signed certificate");
    Ok(())
}

impl Names {
    /// Whether the certificate need not be made anew.
    fn lasts(&self, now: Duration) -> bool {
        self.expires > (now + RENEWAL).as_secs()
    }
}

fn kept(folder: &Path) -> Option<Names> {
    serde_json::from_slice(&fs::read(folder.join(NAMES)).ok()?).ok()
}

/// What browsers may call this machine.
fn names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = machine_addresses().iter().map(ToString::to_string).collect();
    names.extend([Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string(), "localhost".to_owned()]);
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) {
        names.insert(host);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::tests::Folder;

    fn text(folder: &Folder) -> String {
        fs::read_to_string(folder.0.join(CERTIFICATE)).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_it_ends_or_the_machine_has_a_new_name() {
        let folder = Folder::new("tls");
        let now = SystemTime::now();
        let some = BTreeSet::from(["localhost".to_owned(), "192.0.2.1".to_owned()]);
        renew(&folder.0, some.clone(), now).unwrap();
        let mode = fs::metadata(folder.0.join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // It may add the names of this machine.
        load(&folder.0).unwrap();
        let first = text(&folder);

        renew(&folder.0, some.clone(), now + Duration::from_hours(300 * 24)).unwrap();
        assert_eq!(text(&folder), first);
        renew(&folder.0, some.clone(), now + Duration::from_hours(380 * 24)).unwrap();
        let second = text(&folder);
        assert_ne!(second, first);
        let fewer = BTreeSet::from(["localhost".to_owned()]);
        renew(&folder.0, fewer, now).unwrap();
        assert_eq!(text(&folder), second);
        renew(&folder.0, BTreeSet::from(["192.0.2.2".to_owned()]), now).unwrap();
        let third = text(&folder);
        assert_ne!(third, second);
        renew(&folder.0, some, now).unwrap();
        assert_eq!(text(&folder), third, "it has the names of before too");
    }

    #[test]
    fn the_machine_is_at_least_localhost() {
        let names = names();
        assert!(["localhost", "127.0.0.1", "::1"].iter().all(|name| names.contains(*name)));
    }

    #[test]
    fn one_that_ends_soon_is_due() {
        let folder = Folder::new("ends-soon");
        let now = SystemTime::now();
        assert!(!ends_soon(&folder.0, now), "there is none");
        folder.self_signed("veche.example");
        assert!(!ends_soon(&folder.0, now));
        assert!(ends_soon(&folder.0, now + LIFETIME - RENEWAL / 2));
    }
}
