//! Requests that come twice: whoever does not hear an answer sends again, with the same `Idempotency-Key`, and gets the answer
//! to the first.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use parking_lot::Mutex;
use veche_doors::{Error, ErrorKind};

use super::Uploaded;

/// How long an answer is remembered, in milliseconds.
const REMEMBERED: i64 = 10 * 60 * 1000;
/// How many are; then the oldest goes.
const MAX_ANSWERS: usize = 4096;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 128;

/// Answers by caller and key.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<HashMap<Key, Known>>>);

type Key = (String, String);

struct Known {
    since: i64,
    /// `None` while the first request is under way.
    answer: Option<Uploaded>,
}

/// What is known of a request.
pub(super) enum Seen {
    /// It has no key, or comes for the first time.
    New(Option<First>),
    /// It was answered before.
    Again(Box<Uploaded>),
}

/// The first request with a key; dropping it without an answer forgets the key.
pub(super) struct First {
    repeats: Repeats,
    key: Option<Key>,
}

impl Repeats {
    /// Looks at the key of a request by `caller`.
    pub(super) fn look(&self, caller: &str, headers: &HeaderMap, now: i64) -> Result<Seen, Error> {
        let Some(key) = headers.get("idempotency-key") else { return Ok(Seen::New(None)) };
        let text = key.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
        let message = "Idempotency-Key: 1 to 128 ASCII characters";
        let text = text.ok_or_else(|| Error::new(ErrorKind::BadIdempotencyKey, message))?;
        let key = (caller.to_owned(), text.to_owned());
        let mut known = self.0.lock();
        match known.get(&key).filter(|known| now - known.since < REMEMBERED) {
            Some(Known { answer: Some(answer), .. }) => return Ok(Seen::Again(Box::new(answer.clone()))),
            Some(Known { answer: None, .. }) => {
                let message = "the first request with this Idempotency-Key is under way; wait for it";
                return Err(Error::new(ErrorKind::IdempotencyConflict, message));
            }
            None => {}
        }
        if known.len() >= MAX_ANSWERS {
            known.retain(|_, known| now - known.since < REMEMBERED);
        }
        if known.len() >= MAX_ANSWERS {
            let oldest = known.iter().min_by_key(|(_, known)| known.since).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| known.remove(&oldest));
        }
        known.insert(key.clone(), Known { since: now, answer: None });
        Ok(Seen::New(Some(First { repeats: self.clone(), key: Some(key) })))
    }
}

impl First {
    /// Remembers the answer.
    pub(super) fn answered(mut self, answer: &Uploaded) {
        let Some(key) = self.key.take() else { return };
        if let Some(known) = self.repeats.0.lock().get_mut(&key) {
            known.answer = Some(answer.clone());
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.repeats.0.lock().remove(key);
        }
    }
}
