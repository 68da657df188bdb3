//! The STUN and TURN servers that clients are told of.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::protocol::IceServer;

/// Makes the TURN servers of one user, with a credential of their own.
pub type TurnSource = Arc<dyn Fn(&str) -> Vec<IceServer> + Send + Sync>;

/// The STUN and TURN servers that clients are told of.
#[derive(Default)]
pub(crate) struct IceServers {
    /// The same for everybody.
    fixed: Vec<IceServer>,
    turn: OnceLock<TurnSource>,
}

impl IceServers {
    /// STUN servers by their addresses.
    pub(crate) fn stun(urls: &[String]) -> Self {
        let server = IceServer { urls: urls.to_vec(), username: None, credential: None };
        let fixed = if urls.is_empty() { Vec::new() } else { vec![server] };
        Self { fixed, turn: OnceLock::new() }
    }

    /// TURN servers come from here from now on. Only the first counts.
    pub(crate) fn set_turn(&self, source: TurnSource) {
        let _ = self.turn.set(source);
    }

    /// All for one user.
    pub(crate) fn of(&self, user: &str) -> Vec<IceServer> {
        let turn = self.turn.get().map(|source| source(user)).unwrap_or_default();
        self.fixed.iter().cloned().chain(turn).collect()
    }
}

impl fmt::Debug for IceServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IceServers({} fixed, TURN: {})", self.fixed.len(), self.turn.get().is_some())
    }
}
