//! A certificate from an authority that speaks ACME (RFC 8555), proved by TLS-ALPN-01 (RFC 8737) on the HTTPS port itself.
//!
//! Until the first one has come, handshakes get the self-signed one. Account and certificate are kept in the data folder,
//! since authorities count what they are asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use x509_cert::der::Decode;

use super::{Certificates, PrivateKeyDer, aws_lc_rs, certified, write};
use crate::config::{Acme, Config};

const ACCOUNT: &str = "acme-account.json";
const CERTIFICATE: &str = "acme-certificate.pem";
const KEY: &str = "acme-key.pem";
/// What the certificate was asked for.
const ORDER: &str = "acme-order.json";

/// How long asking for a certificate may take in all.
const ORDER_WAIT: Duration = Duration::from_mins(5);

/// How often the authority is asked whether it has come to a result.
const RETRIES: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_mins(2));

/// How often it is looked whether the certificate grows old: the clock may have been set meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_hours(6);

/// How long after the first failure it is tried again; twice as long after each further one, up to [`LOOK_INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_mins(1);

/// Keeps the certificate fresh.
#[derive(Debug)]
pub(super) struct Renewal {
    acme: Acme,
    folder: PathBuf,
    certificates: Certificates,
}

/// What a certificate was asked for, and of whom.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    domains: Vec<String>,
    directory: String,
}

/// The certificate of before, while it lasts and is for the names that are asked for now.
pub(super) fn kept(config: &Config) -> Option<CertifiedKey> {
    if config.acme.domains.is_empty() {
        return None;
    }
    let folder = &config.http.data_dir;
    let is_the_same = read_order(folder).is_some_and(|asked| asked == Asked::of(&config.acme));
    let certificate = read(folder).ok().filter(|_| is_the_same)?;
    let [_, ends] = validity(&certificate).ok()?;
    (ends > SystemTime::now()).then_some(certificate)
}

impl Renewal {
    /// Fails where the directory's own certificates cannot be read.
    pub(super) fn new(config: &Config, certificates: Certificates) -> Result<Self> {
        check(&config.acme)?;
        Ok(Self { acme: config.acme.clone(), folder: config.http.data_dir.clone(), certificates })
    }

    /// Asks for a certificate whenever one is due, for ever.
    pub(super) async fn run(self) -> anyhow::Error {
        let mut retry = FIRST_RETRY;
        loop {
            let wait = self.until_due(SystemTime::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(LOOK_INTERVAL)).await;
                continue;
            }
            let obtained = tokio::time::timeout(ORDER_WAIT, self.obtain()).await;
            self.certificates.shared.proofs.lock().clear();
            match obtained.unwrap_or_else(|_| Err(anyhow!("the authority did not come to a result in time")))
            {
                Ok(()) => {
                    tracing::info!(domains = self.acme.domains.join(", "), "got a certificate");
                    retry = FIRST_RETRY;
                    // One that is old already, by the clock of this machine, is not asked for again at once.
                    tokio::time::sleep(FIRST_RETRY).await;
                }
                Err(error) => {
                    let (domains, minutes) = (self.acme.domains.join(", "), retry.as_secs() / 60);
                    tracing::error!(domains, "no certificate: {error:#}; trying again in {minutes} minutes");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LOOK_INTERVAL);
                }
            }
        }
    }

    /// A certificate is renewed when two thirds of its time are over.
    fn until_due(&self, now: SystemTime) -> Duration {
        if read_order(&self.folder).is_none_or(|asked| asked != Asked::of(&self.acme)) {
            return Duration::ZERO;
        }
        let Ok([begins, ends]) = read(&self.folder).and_then(|certificate| validity(&certificate)) else {
            return Duration::ZERO;
        };
        let lifetime = ends.duration_since(begins).unwrap_or_default();
        (begins + lifetime * 2 / 3).duration_since(now).unwrap_or_default()
    }

    async fn obtain(&self) -> Result<()> {
        let account = self.account().await.context("the account")?;
        let identifiers: Vec<_> = self.acme.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await.context("the order")?;
        self.prove(&mut order).await?;
        if order.poll_ready(&RETRIES).await? != OrderStatus::Ready {
            bail!("{}", refusal(&mut order).await);
        }
        let key = order.finalize().await.context("the key")?;
        let chain = order.poll_certificate(&RETRIES).await.context("the certificate")?;
        let certificate = certified(chain.as_bytes(), key.as_bytes())?;
        // The note of what they are comes last: without it they count for nothing.
        let _ = fs::remove_file(self.folder.join(ORDER));
        write(&self.folder.join(KEY), &key, 0o600)?;
        write(&self.folder.join(CERTIFICATE), &chain, 0o644)?;
        write(&self.folder.join(ORDER), &serde_json::to_string(&Asked::of(&self.acme))?, 0o644)?;
        self.certificates.set(certificate);
        Ok(())
    }

    /// The account of before with this authority, or a new one.
    async fn account(&self) -> Result<Account> {
        let file = self.folder.join(ACCOUNT);
        let kept = fs::read(&file).ok();
        // The directory is in it: an account with one authority is none with another.
        let names = |text: &[u8]| {
            let json: Option<serde_json::Value> = serde_json::from_slice(text).ok();
            json.is_some_and(|json| json["directory"] == self.acme.directory)
        };
        if let Some(text) = kept.filter(|text| names(text)) {
            let credentials: AccountCredentials = serde_json::from_slice(&text)?;
            return Ok(builder(&self.acme)?.from_credentials(credentials).await?);
        }
        let contact = format!("mailto:{}", self.acme.email);
        let contact = [contact.as_str()];
        let new = NewAccount {
            contact: if self.acme.email.is_empty() { &[] } else { &contact },
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) =
            builder(&self.acme)?.create(&new, self.acme.directory.clone(), None).await?;
        fs::create_dir_all(&self.folder)?;
        write(&file, &serde_json::to_string(&credentials)?, 0o600)?;
        Ok(account)
    }

    /// From now on the authority finds its proof; then it is told so.
    async fn prove(&self, order: &mut Order) -> Result<()> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => bail!("an authorization is {other:?}"),
            }
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .context("the authority does not offer TLS-ALPN-01")?;
            let name = challenge.identifier().to_string();
            let proof = proof(&name, challenge.key_authorization().digest().as_ref())?;
            self.certificates.shared.proofs.lock().insert(name, Arc::new(proof));
            challenge.set_ready().await?;
        }
        Ok(())
    }
}

/// Whether an authority can be asked at all: fails where the directory's own certificates cannot be read.
pub(super) fn check(acme: &Acme) -> Result<()> {
    builder(acme).map(drop)
}

fn builder(acme: &Acme) -> Result<AccountBuilder> {
    match &acme.directory_ca_file {
        Some(file) => Account::builder_with_root(&file.0)
            .with_context(|| format!("acme.directory_ca_file = \"{file}\": cannot be used")),
        None => Ok(Account::builder()?),
    }
}

impl Asked {
    fn of(acme: &Acme) -> Self {
        Self { domains: acme.domains.clone(), directory: acme.directory.clone() }
    }
}

fn read_order(folder: &Path) -> Option<Asked> {
    serde_json::from_slice(&fs::read(folder.join(ORDER)).ok()?).ok()
}

fn read(folder: &Path) -> Result<CertifiedKey> {
    certified(&fs::read(folder.join(CERTIFICATE))?, &fs::read(folder.join(KEY))?)
}

/// When it begins and when it ends.
fn validity(certificate: &CertifiedKey) -> Result<[SystemTime; 2]> {
    let first = certificate.cert.first().context("an empty chain")?;
    let parsed = x509_cert::Certificate::from_der(first)?;
    let validity = parsed.tbs_certificate().validity();
    Ok([validity.not_before, validity.not_after].map(|time| UNIX_EPOCH + time.to_unix_duration()))
}

/// A certificate that nobody signs, with the digest that the authority looks for.
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey> {
    ensure!(digest.len() == 32, "a digest of {} bytes", digest.len());
    let mut parameters = CertificateParams::new([name.to_owned()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    // Not read again: a critical extension, which RFC 8737 wants here, is refused wherever a certificate is checked.
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!("the private key: {error}"))?;
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Why the authority was not convinced.
async fn refusal(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(problems.map(|problem| format!("{name}: {problem}")));
    }
    if reasons.is_empty() { "the authority refused the order".to_owned() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{Folder, certificates};

    const DAY: Duration = Duration::from_hours(24);

    fn renewal(folder: &Folder, domains: &[&str]) -> (Renewal, Config) {
        let mut config = Config::default();
        config.acme.domains = domains.iter().map(ToString::to_string).collect();
        config.http.data_dir.clone_from(&folder.0);
        let [certificate, key] = folder.self_signed("veche.example");
        (Renewal::new(&config, certificates(&certificate, &key)).unwrap(), config)
    }

    #[test]
    fn a_certificate_is_due_after_two_thirds_of_its_time_and_when_the_names_are_others() {
        let folder = Folder::new("acme-due");
        let (renewal, config) = renewal(&folder, &["veche.example"]);
        let now = SystemTime::now();
        assert_eq!(renewal.until_due(now), Duration::ZERO, "there is none yet");
        assert!(kept(&config).is_none());

        let [certificate, key] = folder.self_signed("veche.example");
        fs::copy(certificate, folder.0.join(CERTIFICATE)).unwrap();
        fs::copy(key, folder.0.join(KEY)).unwrap();
        write(&folder.0.join(ORDER), &serde_json::to_string(&Asked::of(&config.acme)).unwrap(), 0o644)
            .unwrap();
        // It is from yesterday and lasts for 397 days.
        let wait = renewal.until_due(now);
        assert!(wait > DAY * 263 && wait < DAY * 265, "{wait:?}");
        assert_eq!(renewal.until_due(now + DAY * 266), Duration::ZERO);
        assert!(kept(&config).is_some());

        let (other, config) = super::tests::renewal(&folder, &["veche.example", "www.veche.example"]);
        assert_eq!(other.until_due(now), Duration::ZERO);
        assert!(kept(&config).is_none());
    }

    #[test]
    fn a_proof_has_the_digest_in_a_critical_extension() {
        let proof = proof("veche.example", &[7; 32]).unwrap();
        let parsed = x509_cert::Certificate::from_der(proof.cert.first().unwrap()).unwrap();
        let extensions = parsed.tbs_certificate().extensions().unwrap();
        let found = extensions
            .iter()
            .find(|extension| extension.extn_id.to_string() == "1.3.6.1.5.5.7.1.31")
            .unwrap();
        assert!(found.critical);
        assert_eq!(found.extn_value.as_bytes(), [&[0x04, 32][..], &[7; 32]].concat());
    }
}
