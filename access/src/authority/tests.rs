//! Tokens good and forged, keys of every kind, and keys that somebody else publishes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::action::Action;
use crate::grants::{GrantsClaim, Resource};
use crate::issue::{NewToken, issue};
use crate::settings::{PublicKey, Secret};

const SECRET: &str = "a secret of at least 32 bytes, for tests";
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

/// Somebody who signs tokens.
enum Signer {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn secret(secret: &str) -> Self {
        Self::Secret(secret.as_bytes().to_vec())
    }

    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token of anna, of this key.
    fn good(&self, kid: Option<&str>) -> String {
        let mut header = json!({ "alg": self.algorithm(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.token(&header, &claims())
    }

    fn public_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Secret(_) => panic!("a secret has no public key"),
            Self::Rsa(key) => key.public_key().as_der().unwrap(),
            Self::Ec(key) => key.public_key().as_der().unwrap(),
            Self::Ed(key) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    fn jwk(&self, kid: &str) -> Value {
        let pem = self.pem();
        let (key, algorithm) = match self {
            Self::Secret(_) => panic!("a secret is not published"),
            Self::Rsa(_) => (DecodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), Algorithm::RS256),
            Self::Ec(_) => (DecodingKey::from_ec_pem(pem.as_bytes()).unwrap(), Algorithm::ES256),
            Self::Ed(_) => (DecodingKey::from_ed_pem(pem.as_bytes()).unwrap(), Algorithm::EdDSA),
        };
        let mut jwk = Jwk::from_decoding_key(&key, Some(algorithm)).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn claims() -> Value {
    json!({ "sub": "anna", "exp": NOW.as_secs() + 60 })
}

/// A folder of this test, removed with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("veche-access-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn with_secret() -> AccessSettings {
    AccessSettings { secrets: vec![Secret::Text(SECRET.into())], ..AccessSettings::default() }
}

async fn verify(authority: &Authority, token: &str) -> Result<Identity, AccessError> {
    authority.verify_at(&Credential::Token(token.to_owned()), now()).await
}

async fn refused(authority: &Authority, token: &str) -> String {
    let error = verify(authority, token).await.unwrap_err();
    assert_eq!(error.kind, AccessErrorKind::Invalid, "{error}");
    error.message
}

#[tokio::test]
async fn every_kind_of_key_lets_its_own_tokens_in_and_no_others() {
    let folder = Folder::new("kinds");
    let signers = [Signer::secret(SECRET), Signer::rsa(), Signer::ec(), Signer::ed()];
    for signer in &signers {
        let settings = match signer {
            Signer::Secret(_) => with_secret(),
            _ => AccessSettings {
                public_keys: vec![PublicKey::File(folder.write(signer.algorithm(), &signer.pem()))],
                ..AccessSettings::default()
            },
        };
        let authority = Authority::new(&settings, None).unwrap();
        for other in &signers {
            let token = other.good(None);
            if other.algorithm() == signer.algorithm() {
                let anna = verify(&authority, &token).await.unwrap();
                assert_eq!(anna.user_id.as_deref(), Some("anna"));
            } else {
                let message = refused(&authority, &token).await;
                assert_eq!(
                    message,
                    format!("this server has no key for tokens signed with {}", other.algorithm())
                );
            }
        }
    }
    let authority = Authority::new(&with_secret(), None).unwrap();
    let other = Signer::secret("another secret of at least 32 bytes for tests");
    assert!(refused(&authority, &other.good(None)).await.contains("signature is of no HS256 key"));
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let folder = Folder::new("forged");
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    let public_keys = [&rsa, &ec].map(|key| PublicKey::File(folder.write(key.algorithm(), &key.pem())));
    let settings = AccessSettings { public_keys: public_keys.into(), ..AccessSettings::default() };
    let keys_only = Authority::new(&settings, None).unwrap();
    let both =
        Authority::new(&AccessSettings { public_keys: settings.public_keys, ..with_secret() }, None).unwrap();
    let good = rsa.good(None);
    let (message, _) = good.rsplit_once('.').unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());

    for authority in [&keys_only, &both] {
        assert!(verify(authority, &good).await.is_ok());
        // Without a signature, and with `alg: none` in every spelling.
        refused(authority, &format!("{message}.")).await;
        refused(authority, message).await;
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let forged = format!("{}.{}.", part(&json!({ "alg": alg })), part(&claims()));
            assert!(refused(authority, &forged).await.contains("`alg`"));
        }
        // The public key, which everybody knows, as the secret of HS256, in each form that it has.
        for key in [&rsa, &ec] {
            for secret in [key.pem().into_bytes(), key.pem().trim().into(), key.public_der()] {
                refused(authority, &Signer::Secret(secret).good(None)).await;
            }
        }
        // The right key for another algorithm, and other claims under a good signature.
        refused(authority, &rsa.token(&json!({ "alg": "ES256" }), &claims())).await;
        refused(authority, &rsa.token(&json!({ "alg": "RS512" }), &claims())).await;
        let admin = json!({ "sub": "anna", "exp": NOW.as_secs() + 60, "veche": { "admin": true } });
        let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
        refused(authority, &format!("{header}.{}.{signature}", part(&admin))).await;
        // Somebody else's key, in the token itself.
        let own = Signer::ec();
        let header = json!({ "alg": "ES256", "jwk": own.jwk("x"), "jku": "https://evil.example/keys" });
        refused(authority, &own.token(&header, &claims())).await;
        // Tokens that are for something else, or too large, or no tokens.
        refused(authority, &rsa.token(&json!({ "alg": "RS256", "typ": "logout+jwt" }), &claims())).await;
        refused(authority, &rsa.token(&json!({ "alg": "RS256", "crit": ["b64"], "b64": false }), &claims()))
            .await;
        let large = json!({ "sub": "anna", "exp": NOW.as_secs() + 60, "x": "x".repeat(8192) });
        assert!(refused(authority, &rsa.token(&json!({ "alg": "RS256" }), &large)).await.contains("longer"));
        for nonsense in ["", ".", "..", "....", "e30.e30.e30", "\u{0}", "ы.ы.ы"] {
            refused(authority, nonsense).await;
        }
    }
    // A signature of zeros, which a broken check of ECDSA takes for good.
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let forged = format!("{}.{}.{zeros}", part(&json!({ "alg": "ES256" })), part(&claims()));
    refused(&keys_only, &forged).await;
    // One that is written in another way than the one that was made.
    refused(&keys_only, &format!("{good}=")).await;
}

#[tokio::test]
async fn secrets_are_changed_without_a_gap() {
    let named = |kid: &str, secret: &str| Secret::Named { kid: kid.into(), secret: secret.into() };
    let (old, new) = ("old secret old secret old secret old", "new secret new secret new secret new");
    let settings = |secrets| AccessSettings { secrets, ..AccessSettings::default() };
    let authority = Authority::new(&settings(vec![named("1", old)]), None).unwrap();
    let clone = authority.clone();
    let (of_old, of_new) = (Signer::secret(old).good(Some("1")), Signer::secret(new).good(Some("2")));
    assert!(verify(&authority, &of_old).await.is_ok());
    refused(&authority, &of_new).await;
    authority.reload(&settings(vec![named("2", new), named("1", old)])).unwrap();
    assert!(verify(&clone, &of_old).await.is_ok());
    assert!(verify(&clone, &of_new).await.is_ok());
    // A name is a promise: the right key under the wrong name is not tried, without a name it is.
    refused(&clone, &Signer::secret(new).good(Some("1"))).await;
    assert!(verify(&clone, &Signer::secret(new).good(None)).await.is_ok());
    authority.reload(&settings(vec![named("2", new)])).unwrap();
    refused(&clone, &of_old).await;
    let error = authority.reload(&settings(vec![named("3", "short")])).unwrap_err();
    assert!(error.to_string().starts_with("access.secrets: a secret is shorter than 32 bytes"), "{error}");
    assert!(verify(&clone, &of_new).await.is_ok(), "a wrong setting changes nothing");
}

#[test]
fn key_files_that_cannot_work_are_named_with_what_is_wrong() {
    let folder = Folder::new("files");
    let error = |file: std::path::PathBuf| {
        let settings =
            AccessSettings { public_keys: vec![PublicKey::File(file)], ..AccessSettings::default() };
        Authority::new(&settings, None).unwrap_err().to_string()
    };
    assert!(error(folder.0.join("none.pem")).contains("none.pem: "));
    assert!(error(folder.write("text", "hello")).contains("is no public key"));
    let private = Ed25519KeyPair::generate().unwrap();
    let private = pem("PRIVATE KEY", private.to_pkcs8().unwrap().as_ref());
    assert!(error(folder.write("private", &private)).contains("is a private key"));
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = p384.public_key().as_der().unwrap();
    assert!(error(folder.write("p384", &pem("PUBLIC KEY", der.as_ref()))).contains("another curve"));
}

#[tokio::test]
async fn doors_ask_as_they_are_told_and_none_leads_around_another() {
    let doors = [Door::WebSocket, Door::Signaling, Door::Sse, Door::Http, Door::Grpc];
    let asked = |settings: &AccessSettings| {
        let authority = Authority::new(settings, None).unwrap();
        doors.map(|door| authority.is_required(door))
    };
    let open = AccessSettings::default();
    assert_eq!(asked(&open), [false; 5]);
    assert_eq!(asked(&AccessSettings { required: true, ..open.clone() }), [true; 5]);
    let websocket = AccessSettings { websocket_required: true, ..open.clone() };
    assert_eq!(asked(&websocket), [true, true, false, true, true]);
    let sse = AccessSettings { sse_required: true, ..open };
    assert_eq!(asked(&sse), [false, false, true, true, true]);

    let missing = Authority::new(&sse, None).unwrap().identify(Door::Sse, None).await.unwrap_err();
    assert_eq!((missing.kind.code(), missing.kind.close_code()), ("authentication_required", 4001));
    let anybody = Authority::open().identify(Door::Http, None).await.unwrap();
    assert_eq!(anybody.allows(Action::Administer, Resource::Server), Ok(()));
    let guest = Authority::new(&with_secret(), None).unwrap().identify(Door::Http, None).await.unwrap();
    assert!(guest.allows(Action::Administer, Resource::Server).is_err());
    assert_eq!(guest.allows(Action::Join, Resource::Room("tea")), Ok(()));
    // A wrong token is refused even where none is needed, but for servers that cannot check any.
    let token = Credential::Token("x".into());
    let authority = Authority::new(&with_secret(), None).unwrap();
    let error = authority.identify(Door::WebSocket, Some(&token)).await.unwrap_err();
    assert_eq!((error.kind.code(), error.kind.close_code()), ("invalid_token", 4002));
    let anybody = Authority::open().identify(Door::WebSocket, Some(&token)).await.unwrap();
    assert!(!anybody.is_authenticated());
    let required = AccessSettings { required: true, ..AccessSettings::default() };
    let error =
        Authority::new(&required, None).unwrap().identify(Door::Http, Some(&token)).await.unwrap_err();
    assert_eq!(error.kind, AccessErrorKind::Invalid);
}

#[tokio::test]
async fn a_token_that_was_issued_is_accepted_by_the_same_settings() {
    let settings = AccessSettings {
        secrets: vec![Secret::Named { kid: "a".into(), secret: SECRET.into() }],
        issuer: "https://id.example".into(),
        audience: vec!["veche".into()],
        ..AccessSettings::default()
    };
    let rooms = [("tea".to_owned(), crate::Actions::ALL)].into();
    let new = NewToken {
        user_id: Some("anna".into()),
        name: Some("Anna".into()),
        grants: Some(GrantsClaim { rooms, ..GrantsClaim::default() }),
        lifetime: Duration::from_mins(1),
    };
    let token = issue(&settings, &new, now()).unwrap();
    let authority = Authority::new(&settings, None).unwrap();
    let anna = verify(&authority, &token).await.unwrap();
    assert_eq!((anna.user_id.as_deref(), anna.name.as_deref()), (Some("anna"), Some("Anna")));
    assert_eq!(anna.allows(Action::Moderate, Resource::Room("tea")), Ok(()));
    let late = authority.verify_at(&Credential::Token(token), now() + Duration::from_mins(3)).await;
    assert_eq!(late.unwrap_err().kind, AccessErrorKind::Expired);
    let error = issue(&AccessSettings::default(), &new, now()).unwrap_err();
    assert!(error.to_string().starts_with("access.secrets: there is none"), "{error}");
}

/// A publisher of keys on loopback: what it answers for each path, and how often it was asked.
struct Publisher {
    url: String,
    answers: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked) =
            (Arc::<Mutex<HashMap<String, String>>>::default(), Arc::<AtomicUsize>::default());
        tokio::spawn({
            let (answers, asked) = (answers.clone(), asked.clone());
            async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap();
                    let (status, body) = match answers.lock().get(path) {
                        Some(body) => ("200 OK", body.clone()),
                        None => ("404 Not Found", String::new()),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Self { url, answers, asked }
    }

    fn answer(&self, path: &str, body: &Value) {
        self.answers.lock().insert(path.to_owned(), body.to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn published_keys_are_fetched_once_kept_and_rotated() {
    let publisher = Publisher::start().await;
    let settings =
        AccessSettings { jwks_url: format!("{}/keys", publisher.url), ..AccessSettings::default() };
    let authority = Authority::new(&settings, None).unwrap();
    let (rsa, ec, ed) = (Signer::rsa(), Signer::ec(), Signer::ed());

    // Nothing is there yet: nobody is called wrong, and the publisher is not asked for each token.
    for _ in 0..3 {
        let error = verify(&authority, &ec.good(Some("ec"))).await.unwrap_err();
        assert_eq!(error.kind, AccessErrorKind::Unavailable, "{error}");
    }
    assert_eq!(publisher.asked(), 1);

    let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "oct" });
    let mut for_encryption = ed.jwk("enc");
    for_encryption["use"] = "enc".into();
    let odd = [secret, for_encryption, json!({ "kty": "AKP" }), json!(7)];
    let keys = |keys: &[Value]| json!({ "keys": odd.iter().chain(keys).collect::<Vec<_>>() });
    publisher.answer("/keys", &keys(&[ec.jwk("ec"), rsa.jwk("rsa")]));
    pass(Duration::from_secs(11)).await;
    for token in [ec.good(Some("ec")), rsa.good(Some("rsa")), rsa.good(None)] {
        assert!(verify(&authority, &token).await.is_ok());
    }
    assert_eq!(publisher.asked(), 2);
    // Shared secrets, keys that are for something else, and HS256 at all are not for such sets.
    refused(&authority, &Signer::secret(SECRET).good(Some("oct"))).await;
    assert_eq!(publisher.asked(), 2);
    refused(&authority, &ed.good(Some("enc"))).await;
    // A key that is not known is asked for, but not for each token that names one.
    for kid in ["x", "y", "z"] {
        refused(&authority, &ed.good(Some(kid))).await;
    }
    assert_eq!(publisher.asked(), 2);
    publisher.answer("/keys", &keys(&[ec.jwk("ec"), ed.jwk("new")]));
    pass(Duration::from_secs(11)).await;
    assert!(verify(&authority, &ed.good(Some("new"))).await.is_ok());
    assert_eq!(publisher.asked(), 3);
    refused(&authority, &rsa.good(Some("rsa"))).await;

    // A publisher that fails for a while does not matter, for ever it does. Reloading keeps what was fetched.
    publisher.answers.lock().clear();
    authority.reload(&settings).unwrap();
    pass(Duration::from_hours(1)).await;
    assert!(verify(&authority, &ed.good(Some("new"))).await.is_ok());
    pass(Duration::from_hours(24)).await;
    let error = verify(&authority, &ed.good(Some("new"))).await.unwrap_err();
    assert_eq!(error.kind, AccessErrorKind::Unavailable);
}

#[tokio::test]
async fn keys_without_names_are_rotated_too() {
    let publisher = Publisher::start().await;
    let settings =
        AccessSettings { jwks_url: format!("{}/keys", publisher.url), ..AccessSettings::default() };
    let authority = Authority::new(&settings, None).unwrap();
    let (old, new) = (Signer::ed(), Signer::ed());
    let without_name = |signer: &Signer| {
        let mut jwk = signer.jwk("");
        jwk.as_object_mut().unwrap().remove("kid");
        json!({ "keys": [jwk] })
    };
    publisher.answer("/keys", &without_name(&old));
    assert!(verify(&authority, &old.good(None)).await.is_ok());
    publisher.answer("/keys", &without_name(&new));
    // Whoever shows wrong tokens does not cause a request for each.
    refused(&authority, &new.good(None)).await;
    assert_eq!(publisher.asked(), 1);
    pass(Duration::from_secs(11)).await;
    assert!(verify(&authority, &new.good(Some("new"))).await.is_ok());
    refused(&authority, &old.good(None)).await;
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn the_keys_of_an_issuer_are_found_by_its_discovery_document() {
    let publisher = Publisher::start().await;
    let ec = Signer::ec();
    let settings = AccessSettings {
        oidc_issuer: publisher.url.clone(),
        audience: vec!["veche".into()],
        ..AccessSettings::default()
    };
    let authority = Authority::new(&settings, None).unwrap();
    let token = |iss: &str| {
        let claims = json!({ "sub": "anna", "iss": iss, "aud": ["veche"], "exp": NOW.as_secs() + 60 });
        ec.token(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": "1" }), &claims)
    };
    publisher.answer("/keys", &json!({ "keys": [ec.jwk("1")] }));
    let discovery = "/.well-known/openid-configuration";
    for (issuer, keys) in [("https://evil.example", "/keys"), (&*publisher.url, "http://id.example/keys")] {
        let jwks_uri =
            if keys.starts_with('/') { format!("{}{keys}", publisher.url) } else { keys.to_owned() };
        publisher.answer(discovery, &json!({ "issuer": issuer, "jwks_uri": jwks_uri }));
        let error = verify(&authority, &token(&publisher.url)).await.unwrap_err();
        assert_eq!(error.kind, AccessErrorKind::Unavailable, "{error}");
        pass(Duration::from_secs(11)).await;
    }
    let jwks_uri = format!("{}/keys", publisher.url);
    publisher.answer(discovery, &json!({ "issuer": publisher.url, "jwks_uri": jwks_uri, "more": [1] }));
    assert!(verify(&authority, &token(&publisher.url)).await.is_ok());
    assert!(refused(&authority, &token("https://evil.example")).await.contains("`iss`"));
}

#[test]
fn the_digest_that_is_kept_of_a_key_is_its_sha_256() {
    let new = crate::NewApiKey::new("x", None, &GrantsClaim::default(), None).unwrap();
    let expected = digest::digest(&digest::SHA256, new.key.as_bytes());
    let expected = expected.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(new.record.hash, expected);
}
