//! The STUN and TURN servers that clients are told of.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::http::TurnReport;
use crate::protocol::IceServer;
use crate::token::new_id;

/// Makes the TURN servers of one user or guest, with a credential of their own. What it takes is whose usage it is.
pub type TurnSource = Arc<dyn Fn(&str) -> Vec<IceServer> + Send + Sync>;

/// Tells who uses the TURN server.
pub type TurnReports = Arc<dyn Fn() -> TurnReport + Send + Sync>;

/// The STUN and TURN servers that clients are told of.
#[derive(Default)]
pub(crate) struct IceServers {
    /// The same for everybody.
    fixed: Vec<IceServer>,
    turn: OnceLock<TurnSource>,
    reports: OnceLock<TurnReports>,
}

impl IceServers {
    /// STUN servers by their addresses.
    pub(crate) fn stun(urls: &[String]) -> Self {
        let server = IceServer { urls: urls.to_vec(), username: None, credential: None };
        let fixed = if urls.is_empty() { Vec::new() } else { vec![server] };
        Self { fixed, ..Self::default() }
    }

    /// TURN servers come from here from now on. Only the first counts.
    pub(crate) fn set_turn(&self, source: TurnSource) {
        let _ = self.turn.set(source);
    }

    /// Who uses the TURN server is asked for here from now on. Only the first counts.
    pub(crate) fn set_turn_reports(&self, reports: TurnReports) {
        let _ = self.reports.set(reports);
    }

    /// Who uses the TURN server; `None` where there is none.
    pub(crate) fn turn_report(&self) -> Option<TurnReport> {
        self.reports.get().map(|reports| reports())
    }

    /// All for one user, or for somebody whom no token names.
    pub(crate) fn of(&self, user_id: Option<&str>) -> Vec<IceServer> {
        let turn = self.turn.get().map(|source| source(&holder(user_id))).unwrap_or_default();
        self.fixed.iter().cloned().chain(turn).collect()
    }
}

/// Whose usage it is. Guests choose their peer ids, so that these tell nothing: each has a name that nobody else has, and what
/// they use together is bounded by their address.
fn holder(user_id: Option<&str>) -> String {
    match user_id {
        Some(id) => format!("user:{id}"),
        None => new_id("guest"),
    }
}

impl fmt::Debug for IceServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IceServers({} fixed, TURN: {})", self.fixed.len(), self.turn.get().is_some())
    }
}
