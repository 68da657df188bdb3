//! Answers to publications: who asked, and repetitions of a request that must do nothing.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{PublishError, SendError};
use crate::hub::{Published, Sent};
use crate::member::Member;
use crate::name::{ChannelName, Timestamp};
use crate::outbox::{Item, Tag};

/// How long a repetition is recognised, in milliseconds.
const REMEMBERED: u64 = 600_000;

/// How many requests are remembered in each part; then the oldest is forgotten early.
const REMEMBERED_PER_SHARD: usize = 8_192;
const SHARDS: usize = 16;

/// The longest key, in bytes.
const MAX_KEY: usize = 128;

/// How many repetitions may wait for one publication; a further one is told that storage is busy.
const MAX_WAITING: usize = 16;

/// Makes the repetition of a request harmless: for 10 minutes it is answered like the first and does nothing.
#[derive(Clone, Debug)]
pub struct Once {
    /// Whose key it is: a user, an API key or a connection.
    pub scope: Arc<str>,
    /// What the client chose: 1 to 128 bytes.
    pub key: Box<str>,
}

/// Who is to be told what became of a publication.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A connection, through its outbox, which is bounded to so many bytes.
    Member(Arc<Member>, Tag, usize),
    Receipt(oneshot::Sender<Result<Published, PublishError>>),
}

impl Asker {
    pub fn tell(self, channel: &ChannelName, result: Result<Published, PublishError>) {
        match self {
            Self::Member(member, tag, limit) => {
                let published = Box::new((tag, channel.clone(), result));
                member.put(Item::Published(published), limit);
            }
            // Whoever does not wait any more does not want to know.
            Self::Receipt(receipt) => drop(receipt.send(result)),
        }
    }
}

/// What becomes of a publication, when that is known.
#[derive(Debug)]
pub struct Receipt(pub(crate) oneshot::Receiver<Result<Published, PublishError>>);

impl Receipt {
    /// What became of it, if that is known already.
    pub fn try_now(&mut self) -> Option<Result<Published, PublishError>> {
        self.0.try_recv().ok()
    }
}

impl Future for Receipt {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A publication is dropped unanswered only with the whole hub.
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(PublishError::Draining)))
    }
}

/// The answer to a publication that is under way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub asker: Asker,
    /// If it may be repeated: where its result is remembered.
    pub claim: Option<Claim>,
}

impl Answer {
    pub fn tell(self, recent: &Recent, channel: &ChannelName, result: Result<Published, PublishError>) {
        if let Some(claim) = self.claim {
            recent.settle(&claim, channel, &result);
        }
        self.asker.tell(channel, result);
    }
}

/// What was asked for lately, by key.
#[derive(Debug)]
pub(crate) struct Recent {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    by_key: HashMap<Arc<str>, Arc<Entry>, RandomState>,
    order: VecDeque<(Timestamp, Arc<str>)>,
}

#[derive(Debug)]
struct Entry {
    /// Tells the same request from another with the same key.
    fingerprint: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    UnderWay(Vec<Asker>),
    Published(Published),
    Sent(Sent),
    Failed(PublishError),
}

/// A publication's place among those that may be repeated.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Arc<str>,
    entry: Arc<Entry>,
}

impl Recent {
    pub fn new(hasher: RandomState) -> Self {
        let shard =
            || Mutex::new(Shard { by_key: HashMap::with_hasher(hasher.clone()), order: VecDeque::new() });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher }
    }

    /// A publication that may be repeated: gives its answer if it is the first. If it is a repetition, whoever asked is
    /// told the same as the first, and there is nothing to do.
    pub fn claim(
        &self,
        once: &Once,
        fingerprint: u64,
        channel: &ChannelName,
        asker: Asker,
        now: Timestamp,
    ) -> Result<Option<Answer>, PublishError> {
        let key = full_key(once).ok_or(PublishError::BadKey)?;
        let mut shard = self.shard(&key);
        shard.forget(now);
        let Some(entry) = shard.by_key.get(&key).map(Arc::clone) else {
            let state = Mutex::new(State::UnderWay(Vec::new()));
            let entry = Arc::new(Entry { fingerprint, state });
            shard.insert(Arc::clone(&key), Arc::clone(&entry), now);
            return Ok(Some(Answer { asker, claim: Some(Claim { key, entry }) }));
        };
        drop(shard);
        if entry.fingerprint != fingerprint {
            return Err(PublishError::KeyReused);
        }
        let mut state = entry.state.lock();
        let result = match &mut *state {
            State::UnderWay(waiting) if waiting.len() < MAX_WAITING => {
                waiting.push(asker);
                return Ok(None);
            }
            State::UnderWay(_) => Err(PublishError::Busy),
            State::Published(published) => Ok(Published { repeated: true, ..*published }),
            State::Failed(error) => Err(error.clone()),
            State::Sent(_) => Err(PublishError::KeyReused),
        };
        drop(state);
        asker.tell(channel, result);
        Ok(None)
    }

    /// What became of a publication: it is remembered, unless it failed and may be tried again.
    fn settle(&self, claim: &Claim, channel: &ChannelName, result: &Result<Published, PublishError>) {
        let settled = match result {
            Ok(published) => State::Published(*published),
            Err(error) => State::Failed(error.clone()),
        };
        if result.is_err() {
            let mut shard = self.shard(&claim.key);
            if shard.by_key.get(&claim.key).is_some_and(|entry| Arc::ptr_eq(entry, &claim.entry)) {
                shard.by_key.remove(&claim.key);
            }
        }
        let before = std::mem::replace(&mut *claim.entry.state.lock(), settled);
        if let State::UnderWay(waiting) = before {
            for asker in waiting {
                asker
                    .tell(channel, result.clone().map(|published| Published { repeated: true, ..published }));
            }
        }
    }

    /// Sends, unless that was done before.
    pub fn send(
        &self,
        once: &Once,
        fingerprint: u64,
        now: Timestamp,
        send: impl FnOnce() -> Result<Sent, SendError>,
    ) -> Result<Sent, SendError> {
        let key = full_key(once).ok_or(SendError::BadKey)?;
        // Held while it is sent, so that a repetition at the same time waits.
        let mut shard = self.shard(&key);
        shard.forget(now);
        if let Some(entry) = shard.by_key.get(&key) {
            return match &*entry.state.lock() {
                State::Sent(sent) if entry.fingerprint == fingerprint => Ok(Sent { repeated: true, ..*sent }),
                _ => Err(SendError::KeyReused),
            };
        }
        let sent = send()?;
        let entry = Entry { fingerprint, state: Mutex::new(State::Sent(sent)) };
        shard.insert(key, Arc::new(entry), now);
        Ok(sent)
    }

    fn shard(&self, key: &str) -> parking_lot::MutexGuard<'_, Shard> {
        self.shards[(self.hasher.hash_one(key) >> 48) as usize % SHARDS].lock()
    }
}

impl Shard {
    fn insert(&mut self, key: Arc<str>, entry: Arc<Entry>, now: Timestamp) {
        if self.order.len() >= REMEMBERED_PER_SHARD {
            self.forget_oldest();
        }
        self.order.push_back((now, Arc::clone(&key)));
        self.by_key.insert(key, entry);
    }

    fn forget(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| at.after(REMEMBERED) <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        // One that failed and was tried again stands here twice; then the first forgets the second early, which only
        // lets a repetition through that comes after the first's ten minutes.
        if let Some((_, key)) = self.order.pop_front() {
            self.by_key.remove(&key);
        }
    }
}

/// The key with its scope; `None` if it is empty or too long.
fn full_key(once: &Once) -> Option<Arc<str>> {
    let fits = !once.key.is_empty() && once.key.len() <= MAX_KEY;
    fits.then(|| format!("{}\n{}", once.scope, once.key).into())
}
