//! ICE-lite (RFC 8445 section 2.5): the server's side of the connectivity checks of one transport, which has one
//! component (BUNDLE, rtcp-mux). The client checks and nominates; the server answers and follows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::drops::DropReason;
use crate::path::Path;
use crate::sdp::IceCredentials;
use crate::stun::{self, BindingRequest, IceRole, IntegrityKey, StunError};

/// How long nothing authenticated may come before the connection counts as interrupted.
pub const INTERRUPTED_AFTER: Duration = Duration::from_secs(5);
/// How long nothing authenticated may come before nothing is sent any more (RFC 7675 section 5.1).
pub const CONSENT_EXPIRES_AFTER: Duration = Duration::from_secs(30);
/// How many paths of one transport are known at a time.
pub const MAX_PATHS: usize = 16;
/// A client with aggressive nomination (RFC 5245 section 8.1.1.2) nominates every pair with its first check and
/// means the best of them. For this long after the first nomination a worse pair is not followed; later a
/// nomination is a decision.
const SETTLING: Duration = Duration::from_secs(1);

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceState {
    /// The client has not come yet.
    New,
    /// Authenticated packets come.
    Connected,
    /// None came for [`INTERRUPTED_AFTER`], or the last path is gone. Sending goes on where there is a path.
    Interrupted,
    /// None came for [`CONSENT_EXPIRES_AFTER`]: all paths are forgotten, nothing may be sent. The next authenticated
    /// request brings it back.
    Expired,
}

/// What changed; the caller keeps its map from datagrams to transports and its own state by these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IceEvent {
    /// Datagrams on this path belong to this transport from now on.
    PathKnown(Path),
    /// They no longer do.
    PathForgotten(Path),
    /// Everything is sent on this path from now on; `None` when there is nowhere to send to.
    Selected(Option<Path>),
    /// Requests for this local user name fragment are no longer answered.
    UfragForgotten(String),
    /// The state changed.
    State(IceState),
}

/// The ICE-lite agent of one transport. Events are to be polled after each call that takes `&mut self`.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct IceAgent {
    selected: Option<Selected>,
    current: Credentials,
    /// From before a restart that the client has not confirmed yet.
    previous: Option<Credentials>,
    /// All paths on which an authenticated request came: the valid pairs of a lite agent.
    paths: SmallVec<[KnownPath; 4]>,
    /// When the client first nominated under the current credentials.
    first_nomination: Option<Instant>,
    state: IceState,
    last_heard: Instant,
    /// When to look at how long it has been silent. It does not move with each packet, so that timers need not.
    check_at: Option<Instant>,
    events: VecDeque<IceEvent>,
}

#[derive(Debug)]
struct Credentials {
    ufrag: String,
    key: IntegrityKey,
}

#[derive(Clone, Copy, Debug)]
struct KnownPath {
    path: Path,
    priority: u32,
    last_heard: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Selected {
    path: Path,
    /// By the client; otherwise it is a guess of ours.
    nominated: bool,
}

impl IceAgent {
    /// An agent that waits for its client. The client's credentials are not needed: a lite agent sends no requests,
    /// and a request is authentic by the server's password alone (RFC 8445 section 7.3).
    pub fn new(local: &IceCredentials, now: Instant) -> Self {
        Self {
            current: Credentials::new(local),
            previous: None,
            paths: SmallVec::new(),
            selected: None,
            first_nomination: None,
            state: IceState::New,
            last_heard: now,
            check_at: Some(now + CONSENT_EXPIRES_AFTER),
            events: VecDeque::new(),
        }
    }

    /// Takes fresh credentials (RFC 8445 section 9). Until the first authenticated request under them everything
    /// goes on as before, requests under the old ones included. With the user name fragment that is in use already
    /// nothing is restarted.
    pub fn restart(&mut self, local: &IceCredentials) {
        if local.ufrag == self.current.ufrag {
            return;
        }
        let replaced = std::mem::replace(&mut self.current, Credentials::new(local));
        if self.previous.is_none() {
            self.previous = Some(replaced);
        } else {
            // The client never confirmed these; what is in use are the ones from before them.
            self.events.push_back(IceEvent::UfragForgotten(replaced.ufrag));
        }
    }

    /// Answers a binding request that came on `path` and follows what it says. `response` is replaced by what is to
    /// be sent back on the same path; on an error it is empty. An error leaves everything as it was.
    pub fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        request: &BindingRequest<'_>,
        response: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        response.clear();
        let renewed = request.local_ufrag == self.current.ufrag;
        let credentials = if renewed {
            &self.current
        } else {
            let previous = self.previous.as_ref().filter(|previous| previous.ufrag == request.local_ufrag);
            previous.ok_or(DropReason::StunUnknownUser)?
        };
        if !request.verify(&credentials.key) {
            return Err(DropReason::StunUnauthenticated);
        }
        if let Some(error) = objection(request) {
            stun::write_error(request, error, &credentials.key, response);
            return Ok(());
        }
        stun::write_success(request, path.remote(), &credentials.key, response);
        if renewed {
            self.confirm_restart();
        }
        self.remember(now, path, request.priority);
        self.heard(now);
        if request.use_candidate {
            self.follow_nomination(now, path);
        } else {
            self.use_until_nominated(now, path);
        }
        Ok(())
    }

    /// Something authenticated other than STUN came: SRTP, SRTCP or DTLS records. It counts as life when its path is
    /// known; consent that has expired it cannot renew.
    pub fn on_authenticated(&mut self, now: Instant, path: Path) {
        let Some(known) = self.paths.iter_mut().find(|known| known.path == path) else { return };
        known.last_heard = now;
        self.heard(now);
        if self.selected_is_silent(now) {
            self.select(Some(Selected { path, nominated: false }));
        }
    }

    /// The path is gone: its TCP connection was closed, or another transport was heard on it. When it was selected,
    /// the path that was heard last takes its place.
    pub fn on_disconnected(&mut self, now: Instant, path: Path) {
        let Some(index) = self.paths.iter().position(|known| known.path == path) else { return };
        self.forget(index);
        if self.selected.is_some_and(|selected| selected.path == path) {
            let live = self.paths.iter().filter(|known| !known.is_silent(now, CONSENT_EXPIRES_AFTER));
            let fallback = live.max_by_key(|known| (known.last_heard, known.priority));
            self.select(fallback.map(|known| Selected { path: known.path, nominated: false }));
        }
        if self.selected.is_none() && self.state == IceState::Connected {
            self.change_state(IceState::Interrupted);
        }
    }

    /// Where to send; `None` before the first authenticated request, without a living path, and after expiry.
    pub fn selected(&self) -> Option<Path> {
        self.selected.map(|selected| selected.path)
    }

    /// All known paths, at most [`MAX_PATHS`].
    pub fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.paths.iter().map(|known| known.path)
    }

    /// The local user name fragments under which requests are answered: the current one, and during a restart the
    /// one before it.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|credentials| credentials.ufrag.as_str())
    }

    /// How the connection is.
    pub fn state(&self) -> IceState {
        self.state
    }

    /// What changed since the last call, in order.
    pub fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }

    /// Whether something changed since the last call.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When [`IceAgent::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.check_at
    }

    /// Notices silence. Calling it too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check_at.is_none_or(|at| now < at) {
            return;
        }
        let silence = now.saturating_duration_since(self.last_heard);
        if silence >= CONSENT_EXPIRES_AFTER {
            self.expire();
            return;
        }
        if silence >= INTERRUPTED_AFTER && self.state == IceState::Connected {
            self.change_state(IceState::Interrupted);
        }
        self.forget_silent_paths(now);
        let next = if self.state == IceState::Connected { INTERRUPTED_AFTER } else { CONSENT_EXPIRES_AFTER };
        self.check_at = Some(self.last_heard + next);
    }

    /// The first request under the credentials of a restart retires those from before it. The pair in use stays in
    /// use until the client nominates another, or it falls silent (RFC 8445 section 9).
    fn confirm_restart(&mut self) {
        if let Some(previous) = self.previous.take() {
            self.first_nomination = None;
            self.events.push_back(IceEvent::UfragForgotten(previous.ufrag));
        }
    }

    fn remember(&mut self, now: Instant, path: Path, priority: u32) {
        let heard = KnownPath { path, priority, last_heard: now };
        if let Some(known) = self.paths.iter_mut().find(|known| known.path == path) {
            *known = heard;
            return;
        }
        if self.paths.len() >= MAX_PATHS {
            let selected = self.selected();
            let others = self.paths.iter().enumerate().filter(|(_, known)| Some(known.path) != selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, known)| known.last_heard) {
                self.forget(oldest);
            }
        }
        self.paths.push(heard);
        self.events.push_back(IceEvent::PathKnown(path));
    }

    fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        if self.state != IceState::Connected {
            self.change_state(IceState::Connected);
            self.check_at = Some(now + INTERRUPTED_AFTER);
        }
    }

    fn follow_nomination(&mut self, now: Instant, path: Path) {
        let settling = self.first_nomination.is_some_and(|first| now < first + SETTLING);
        self.first_nomination.get_or_insert(now);
        let better = |selected: Selected| {
            selected.nominated && self.priority_of(selected.path) > self.priority_of(path)
        };
        if !(settling && self.selected.is_some_and(better)) {
            self.select(Some(Selected { path, nominated: true }));
        }
    }

    /// Before the client nominates, the path that was proven last is the best guess, so that DTLS need not wait.
    /// So it is when the nominated one has fallen silent.
    fn use_until_nominated(&mut self, now: Instant, path: Path) {
        let nominated = self.selected.is_some_and(|selected| selected.nominated);
        if !nominated || self.selected_is_silent(now) {
            self.select(Some(Selected { path, nominated: false }));
        }
    }

    fn selected_is_silent(&self, now: Instant) -> bool {
        let selected = self.selected();
        let known = self.paths.iter().find(|known| Some(known.path) == selected);
        known.is_none_or(|known| known.is_silent(now, INTERRUPTED_AFTER))
    }

    fn priority_of(&self, path: Path) -> u32 {
        self.paths.iter().find(|known| known.path == path).map_or(0, |known| known.priority)
    }

    fn forget_silent_paths(&mut self, now: Instant) {
        let selected = self.selected();
        let silent =
            |known: &KnownPath| Some(known.path) != selected && known.is_silent(now, CONSENT_EXPIRES_AFTER);
        while let Some(index) = self.paths.iter().position(silent) {
            self.forget(index);
        }
    }

    fn expire(&mut self) {
        self.check_at = None;
        self.select(None);
        while !self.paths.is_empty() {
            self.forget(0);
        }
        self.change_state(IceState::Expired);
    }

    fn forget(&mut self, index: usize) {
        let forgotten = self.paths.remove(index);
        self.events.push_back(IceEvent::PathForgotten(forgotten.path));
    }

    fn select(&mut self, selected: Option<Selected>) {
        let before = self.selected();
        self.selected = selected;
        if self.selected() != before {
            self.events.push_back(IceEvent::Selected(self.selected()));
        }
    }

    fn change_state(&mut self, state: IceState) {
        if self.state != state {
            self.state = state;
            self.events.push_back(IceEvent::State(state));
        }
    }
}

impl Credentials {
    fn new(credentials: &IceCredentials) -> Self {
        Self { ufrag: credentials.ufrag.clone(), key: IntegrityKey::new(&credentials.pwd) }
    }
}

impl KnownPath {
    fn is_silent(&self, now: Instant, limit: Duration) -> bool {
        now.saturating_duration_since(self.last_heard) >= limit
    }
}

/// Why an authentic request is refused all the same.
fn objection(request: &BindingRequest<'_>) -> Option<StunError> {
    if !request.unknown_attributes().is_empty() {
        return Some(StunError::UnknownAttribute);
    }
    // A lite agent is always the controlled one (RFC 8445 section 6.1.1).
    matches!(request.role, Some(IceRole::Controlled(_))).then_some(StunError::RoleConflict)
}

#[cfg(test)]
mod tests;
