//! The certificate for HTTPS: the operator's, or a self-signed one that is made once and kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde::{Deserialize, Serialize};

use crate::config::Config;

const CERTIFICATE: &str = "https-certificate.pem";
const KEY: &str = "https-key.pem";
/// What the certificate was made for: read instead of the certificate itself.
const NAMES: &str = "https-names.json";

/// How long a self-signed certificate lasts. Browsers take no more than 825 days, and Apple's no more than 398.
const LIFETIME: Duration = Duration::from_hours(397 * 24);

/// How long before its end it is made anew.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// How often the operator's files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_mins(1);

/// Names of one certificate. A machine that moves between networks gathers addresses.
const MAX_NAMES: usize = 100;

/// What a self-signed certificate was made for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    names: BTreeSet<String>,
    /// In seconds since 1970.
    expires: u64,
}

/// The operator's certificate where there is one, otherwise the self-signed one in the data folder.
pub(crate) async fn load(config: &Config) -> Result<RustlsConfig> {
    let http = &config.http;
    if let (Some(certificate), Some(key)) = (&http.certificate_file, &http.key_file) {
        return RustlsConfig::from_pem_file(&certificate.0, &key.0).await.with_context(|| {
            format!("http.certificate_file = \"{certificate}\", http.key_file = \"{key}\": cannot be used")
        });
    }
    let folder = &http.data_dir;
    renew(folder, names(), SystemTime::now()).with_context(|| {
        format!(
            "http.data_dir = \"{}\": cannot keep a certificate there; name a folder that can be written to",
            folder.display()
        )
    })?;
    Ok(RustlsConfig::from_pem_file(folder.join(CERTIFICATE), folder.join(KEY)).await?)
}

/// Reads the operator's certificate again when its files change, as they do when it is renewed. Files that cannot be
/// used, perhaps because only one of them is there yet, are tried again; what was read before stays meanwhile.
pub(crate) fn spawn_reloader(config: &Config, tls: RustlsConfig) {
    let (Some(certificate), Some(key)) = (&config.http.certificate_file, &config.http.key_file) else {
        return;
    };
    let (certificate, key) = (certificate.0.clone(), key.0.clone());
    let mut read = changed_at(&certificate, &key);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            reload(&tls, &certificate, &key, &mut read).await;
        }
    });
}

async fn reload(tls: &RustlsConfig, certificate: &Path, key: &Path, read: &mut [Option<SystemTime>; 2]) {
    let now = changed_at(certificate, key);
    if now == *read {
        return;
    }
    match tls.reload_from_pem_file(certificate, key).await {
        Ok(()) => {
            *read = now;
            tracing::info!(certificate = %certificate.display(), "read the renewed certificate");
        }
        Err(error) => tracing::warn!(
            certificate = %certificate.display(), %error,
            "the renewed certificate cannot be used; the one before is"
        ),
    }
}

fn changed_at(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|file| fs::metadata(file).and_then(|metadata| metadata.modified()).ok())
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
fn renew(folder: &Path, mut names: BTreeSet<String>, now: SystemTime) -> Result<()> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = fs::read(folder.join(NAMES)).ok().and_then(|text| serde_json::from_slice::<Names>(&text).ok());
    let is_there = folder.join(CERTIFICATE).exists() && folder.join(KEY).exists();
    let lasts = |kept: &Names| is_there && kept.expires > (now + RENEWAL).as_secs();
    if let Some(kept) = kept.filter(lasts) {
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
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("veche-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn certificate(&self) -> String {
            fs::read_to_string(self.0.join(CERTIFICATE)).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_certificate_is_kept_until_it_ends_or_the_machine_has_a_new_name() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = Folder::new("tls");
        let now = SystemTime::now();
        let some = BTreeSet::from(["localhost".to_owned(), "192.0.2.1".to_owned()]);
        renew(&folder.0, some.clone(), now).unwrap();
        let first = folder.certificate();
        let mode = fs::metadata(folder.0.join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        RustlsConfig::from_pem_file(folder.0.join(CERTIFICATE), folder.0.join(KEY)).await.unwrap();

        renew(&folder.0, some.clone(), now + Duration::from_hours(300 * 24)).unwrap();
        assert_eq!(folder.certificate(), first);
        renew(&folder.0, some.clone(), now + Duration::from_hours(380 * 24)).unwrap();
        let second = folder.certificate();
        assert_ne!(second, first);
        let fewer = BTreeSet::from(["localhost".to_owned()]);
        renew(&folder.0, fewer, now).unwrap();
        assert_eq!(folder.certificate(), second);
        renew(&folder.0, BTreeSet::from(["192.0.2.2".to_owned()]), now).unwrap();
        let third = folder.certificate();
        assert_ne!(third, second);
        renew(&folder.0, some, now).unwrap();
        assert_eq!(folder.certificate(), third, "it has the names of before too");
    }

    #[tokio::test]
    async fn a_certificate_whose_files_change_is_read_again() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = Folder::new("reload");
        let name = |name: &str| BTreeSet::from([name.to_owned()]);
        renew(&folder.0, name("a.example"), SystemTime::now()).unwrap();
        let (certificate, key) = (folder.0.join(CERTIFICATE), folder.0.join(KEY));
        let tls = RustlsConfig::from_pem_file(&certificate, &key).await.unwrap();
        let mut read = changed_at(&certificate, &key);
        let first = tls.get_inner();
        reload(&tls, &certificate, &key, &mut read).await;
        assert!(std::sync::Arc::ptr_eq(&first, &tls.get_inner()), "unchanged");

        let set_time = |seconds| {
            let file = fs::OpenOptions::new().write(true).open(&certificate).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let good = fs::read(&certificate).unwrap();
        fs::write(&certificate, "not yet whole").unwrap();
        set_time(1000);
        reload(&tls, &certificate, &key, &mut read).await;
        assert!(std::sync::Arc::ptr_eq(&first, &tls.get_inner()), "unusable");
        fs::write(&certificate, good).unwrap();
        set_time(1000);
        reload(&tls, &certificate, &key, &mut read).await;
        assert!(!std::sync::Arc::ptr_eq(&first, &tls.get_inner()));
    }

    #[test]
    fn the_machine_is_at_least_localhost() {
        let names = names();
        assert!(["localhost", "127.0.0.1", "::1"].iter().all(|name| names.contains(*name)));
    }
}
