//! A certificate as clients see it: whose it is, for how long, and whether its chain leads to somebody they trust.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::finding::{Finding, Level};

/// Whoever renews certificates does it earlier: an authority's last 90 days, and are renewed after 60.
const RENEWAL: Duration = Duration::from_hours(14 * 24);

/// Names that are shown of a certificate.
const NAMES_SHOWN: usize = 8;

/// The authorities that this machine trusts.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    roots: RootCertStore,
}

/// What is to be said of a certificate.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) findings: Vec<Finding>,
    /// Whether secrets may be sent to who showed it.
    pub(crate) is_trusted: bool,
}

impl Trust {
    /// Those that the machine knows; `SSL_CERT_FILE` and `SSL_CERT_DIR` count.
    pub(crate) fn of_this_machine() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self { roots }
    }

    /// Looks at the certificates that `place` showed to who asked for `name`.
    pub(crate) fn judge(
        &self,
        place: &str,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: SystemTime,
    ) -> Judgement {
        let tried = format!("the certificate that {place} shows");
        let parsed: Result<Vec<Certificate>, _> =
            chain.iter().map(|certificate| Certificate::from_der(certificate)).collect();
        let (Ok(parsed), Some((own, others))) = (parsed, chain.split_first()) else {
            let finding = Finding::failure("certificate", tried, "it cannot be read")
                .means("no client connects")
                .mend(FILES);
            return Judgement { findings: vec![finding], is_trusted: false };
        };
        let dates = dates(&tried, &parsed, now);
        let name = names(&tried, own, &parsed[0], name);
        let chain = self.chain(&tried, own, others, &parsed, now);
        let is_trusted =
            dates.level != Level::Failure && name.level == Level::Fine && chain.level == Level::Fine;
        Judgement { findings: vec![dates, name, chain], is_trusted }
    }

    fn chain(
        &self,
        tried: &str,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        parsed: &[Certificate],
        now: SystemTime,
    ) -> Finding {
        const CHECK: &str = "certificate.chain";
        let last = parsed.last().expect("there is at least one");
        let issuer = last.tbs_certificate().issuer().to_string();
        // Whether it is over is another question.
        let validity = parsed[0].tbs_certificate().validity();
        let during = now.clamp(validity.not_before.to_system_time(), validity.not_after.to_system_time());
        let during = UnixTime::since_unix_epoch(during.duration_since(UNIX_EPOCH).unwrap_or_default());
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(own).and_then(|own| {
            verify_server_cert_signed_by_trust_anchor(&own, &self.roots, others, during, algorithms)
        });
        let Err(error) = verified else {
            let count = parsed.len();
            return Finding::fine(
                CHECK,
                tried,
                format!("{count} certificates, issued by {issuer}, which is trusted"),
            );
        };
        if is_self_signed(&parsed[0]) {
            return Finding::warning(CHECK, tried, "it is self-signed")
                .means("browsers warn until somebody accepts it; programs and TURN over TLS refuse it")
                .mend("for a public server: [acme] domains = [\"your.name.example\"], or http.certificate_file and http.key_file");
        }
        if self.roots.is_empty() {
            return Finding::skipped(CHECK, tried, "this machine has no root certificates to check it by")
                .mend("install ca-certificates here, or set SSL_CERT_FILE");
        }
        if is_self_signed(last) {
            return Finding::failure(CHECK, tried, format!("it is issued by {issuer}, whom this machine does not trust"))
                .means("clients that do not know this authority refuse to connect")
                .mend(
                    "use a certificate of a public authority ([acme] domains), or make your authority known to every client \
                     (here: SSL_CERT_FILE=/path/to/root.pem)",
                );
        }
        let count = parsed.len();
        Finding::failure(
            CHECK,
            tried,
            format!("the chain is incomplete: of {count} certificates the last is issued by {issuer}, which was not sent ({error})"),
        )
        .means("some browsers fetch what is missing, phones and programs do not: for them the server cannot be reached")
        .mend(
            "put your certificate and then all intermediate ones in http.certificate_file (authorities call that file \
             fullchain.pem); where the issuer is an authority of your own, make it known here with SSL_CERT_FILE",
        )
    }
}

/// Whether it is for the name that was asked for.
fn names(tried: &str, own: &CertificateDer<'_>, parsed: &Certificate, name: &ServerName<'_>) -> Finding {
    let names = names_of(parsed).join(", ");
    let is_right = ParsedCertificate::try_from(own)
        .is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok());
    if is_right {
        return Finding::fine("certificate.name", tried, format!("it is for {names}"));
    }
    let name = name.to_str();
    Finding::failure("certificate.name", tried, format!("it is for {names}, and not for {name}"))
        .means("browsers warn and other clients refuse to connect under this name")
        .mend(format!(
            "get a certificate for {name}, for example [acme] domains = [\"{name}\"]; or open the server under a name that \
             the certificate has"
        ))
}

/// What to do about the files themselves.
const FILES: &str =
    "http.certificate_file = \"/etc/veche/fullchain.pem\" and http.key_file = \"/etc/veche/key.pem\"";

/// Whether all of them are valid now, and for how long yet.
fn dates(tried: &str, parsed: &[Certificate], now: SystemTime) -> Finding {
    const CHECK: &str = "certificate.dates";
    let whose =
        |index| if index == 0 { "it".to_owned() } else { format!("certificate {} of its chain", index + 1) };
    for (index, certificate) in parsed.iter().enumerate() {
        let validity = certificate.tbs_certificate().validity();
        let (begins, ends) = (validity.not_before, validity.not_after);
        if ends.to_system_time() < now {
            return Finding::failure(CHECK, tried, format!("{} has expired on {ends}", whose(index)))
                .means("no client connects without a warning, most not at all")
                .mend(
                    "renew it (with acme.domains the server does so by itself, if the authority reaches its port 443; with \
                     http.certificate_file it reads a renewed file within seconds). If that date is to come yet, set the clock",
                );
        }
        if begins.to_system_time() > now {
            return Finding::failure(CHECK, tried, format!("{} is not valid before {begins}", whose(index)))
                .means("clients whose clock is right refuse it")
                .mend("set the clock of this machine and of the server (timedatectl set-ntp true), or get another certificate");
        }
    }
    let first_end = parsed.iter().map(|one| one.tbs_certificate().validity().not_after);
    let Some(ends) = first_end.min_by_key(Time::to_system_time) else {
        return Finding::skipped(CHECK, tried, "there is none");
    };
    let left = ends.to_system_time().duration_since(now).unwrap_or_default();
    let days = left.as_secs() / (24 * 60 * 60);
    if left < RENEWAL {
        return Finding::warning(CHECK, tried, format!("it ends in {days} days, on {ends}"))
            .means("then no client connects any more")
            .mend("see to its renewal: with acme.domains look for warnings of the server's log, else ask whoever renews the file");
    }
    Finding::fine(CHECK, tried, format!("valid for {days} days yet, until {ends}"))
}

fn is_self_signed(certificate: &Certificate) -> bool {
    let certificate = certificate.tbs_certificate();
    certificate.issuer() == certificate.subject()
}

/// The names and addresses that it is for.
fn names_of(certificate: &Certificate) -> Vec<String> {
    let extension = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok().flatten();
    let Some((_, SubjectAltName(names))) = extension else { return vec!["nobody".to_owned()] };
    let count = names.len();
    let mut shown: Vec<String> = names.iter().take(NAMES_SHOWN).filter_map(name_of).collect();
    if count > NAMES_SHOWN {
        shown.push(format!("{} more", count - NAMES_SHOWN));
    }
    shown
}

fn name_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(|octets| std::net::IpAddr::from(octets).to_string());
            let v6 = <[u8; 16]>::try_from(bytes).map(|octets| std::net::IpAddr::from(octets).to_string());
            v4.or(v6).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// A root, an authority below it, and certificates of that.
    struct World {
        trust: Trust,
        root: CertificateDer<'static>,
        authority: CertifiedIssuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    }

    impl World {
        fn new() -> Self {
            let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
            let below =
                CertifiedIssuer::signed_by(authority("below"), KeyPair::generate().unwrap(), &root).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(root.der().clone()).unwrap();
            Self { trust: Trust { roots }, root: root.der().clone(), authority: below }
        }

        fn certificate(&self, ends: SystemTime) -> CertificateDer<'static> {
            let mut parameters = CertificateParams::new(vec!["call.example".to_owned()]).unwrap();
            parameters.distinguished_name.push(DnType::CommonName, "call");
            parameters.not_before = (SystemTime::now() - 60 * DAY).into();
            parameters.not_after = ends.into();
            let key = KeyPair::generate().unwrap();
            parameters.signed_by(&key, &self.authority).unwrap().der().clone()
        }

        fn judge(&self, chain: &[CertificateDer<'_>], name: &'static str) -> (bool, Vec<(Level, String)>) {
            let name = ServerName::try_from(name).unwrap();
            let Judgement { findings, is_trusted } =
                self.trust.judge("a server", chain, &name, SystemTime::now());
            assert!(findings.iter().all(|f| f.level <= Level::Skipped || !f.mend.is_empty()));
            (is_trusted, findings.into_iter().map(|finding| (finding.level, finding.got)).collect())
        }
    }

    #[test]
    fn a_whole_chain_in_time_and_for_the_name_is_trusted() {
        let world = World::new();
        let chain = [world.certificate(SystemTime::now() + 60 * DAY), world.authority.der().clone()];
        let (is_trusted, findings) = world.judge(&chain, "call.example");
        assert!(is_trusted && findings.iter().all(|(level, _)| *level == Level::Fine), "{findings:?}");
        let soon = [world.certificate(SystemTime::now() + 5 * DAY), world.authority.der().clone()];
        let (is_trusted, findings) = world.judge(&soon, "call.example");
        assert!(is_trusted && findings[0].0 == Level::Warning, "{findings:?}");
        assert!(findings[0].1.starts_with("it ends in 4 days"), "{findings:?}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_alone() {
        let world = World::new();
        let below = world.authority.der().clone();
        let good = world.certificate(SystemTime::now() + 60 * DAY);
        let old = world.certificate(SystemTime::now() - DAY);
        let cases: [(&[CertificateDer<'_>], &str, usize, &str); 4] = [
            (&[old, below.clone()], "call.example", 0, "it has expired on"),
            (
                &[good.clone(), below.clone()],
                "other.example",
                1,
                "it is for call.example, and not for other.example",
            ),
            (std::slice::from_ref(&good), "call.example", 2, "the chain is incomplete"),
            (
                &[good.clone(), below, world.root.clone()],
                "call.example",
                2,
                "whom this machine does not trust",
            ),
        ];
        let stranger = World::new();
        for (number, (chain, name, wrong, said)) in cases.into_iter().enumerate() {
            let judge = if number == 3 { &stranger } else { &world };
            let (is_trusted, findings) = judge.judge(chain, name);
            assert!(!is_trusted && findings[wrong].1.contains(said), "{findings:?}");
            let failures = findings.iter().filter(|(level, _)| *level == Level::Failure).count();
            assert_eq!(failures, 1, "{findings:?}");
        }
    }

    #[test]
    fn a_self_signed_one_is_for_trying_out() {
        let world = World::new();
        let (is_trusted, findings) = world.judge(std::slice::from_ref(&world.root), "call.example");
        assert!(!is_trusted);
        assert_eq!(findings[2], (Level::Warning, "it is self-signed".to_owned()));
        let (is_trusted, findings) = world.judge(&[], "call.example");
        assert!(!is_trusted && findings[0].0 == Level::Failure);
    }
}
