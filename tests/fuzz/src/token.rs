//! Tokens: one as it stands, or a header and claims, a line each, signed with the key of the server. What is not signed lets
//! nobody in; whatever a signed one says, it is somebody, or an error that says why not.

use aws_lc_rs::hmac;
use tokio::runtime::{Builder, Runtime};
use veche_access::{AccessSettings, Action, Authority, Credential, Identity, Resource, Secret};

const SECRET: &str = "a secret of at least 32 bytes, for fuzzing";

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime can be made");
    static AUTHORITY: Authority = {
        let secrets = vec![Secret::Text(SECRET.into())];
        let settings = AccessSettings { secrets, ..AccessSettings::default() };
        Authority::new(&settings, None).expect("the settings are right")
    };
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.split_once('\n') {
        None => {
            // Nobody guesses a signature of HMAC-SHA-256.
            assert!(verify(&text).is_none(), "a token that nobody signed");
        }
        Some((header, claims)) => {
            let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
            let signature =
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
            if let Some(identity) = verify(&format!("{message}.{}", base64url(signature.as_ref()))) {
                ask(&identity);
            }
        }
    }
}

fn verify(token: &str) -> Option<Identity> {
    let credential = Credential::Token(token.to_owned());
    let result =
        AUTHORITY.with(|authority| RUNTIME.with(|runtime| runtime.block_on(authority.verify(&credential))));
    result.inspect_err(|error| assert!(!error.message.is_empty(), "an error says what is wrong")).ok()
}

/// Whatever is granted, nobody speaks for the server.
fn ask(identity: &Identity) {
    assert!(identity.is_authenticated() && identity.expires_at.is_some());
    for name in ["", "*", "news", "room:tea:chat", "user:anna", "$server"] {
        for action in Action::ALL {
            let _ = identity.allows(action, Resource::Channel(name));
            let _ = identity.allows(action, Resource::Room(name));
        }
    }
    assert!(identity.allows(Action::Send, Resource::Channel("$server")).is_err());
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = move |index: usize| DIGITS[(bits >> (18 - 6 * index) & 63) as usize] as char;
        (0..=chunk.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
