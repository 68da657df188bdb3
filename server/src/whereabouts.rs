//! Where this machine is, for all who tell clients of it: looked at from the start to the end, since interfaces come and go, and
//! a NAT may get another address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::{Instant, sleep};
use veche_access::Authority;

use crate::config::Config;
use crate::discovery::{Mapping, StunServer, discover};
use crate::turn::{self, Urls};

/// How often the addresses of this machine are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// After how long STUN servers are asked again though nothing has changed here, and where none has answered.
const ASK_INTERVAL: Duration = Duration::from_mins(5);
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Where this machine is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Whereabouts(Arc<Inner>);

struct Inner {
    /// What is in force.
    config: RwLock<Config>,
    /// What is known of the NAT in front, by the address of this machine that is behind it.
    mappings: RwLock<BTreeMap<IpAddr, Mapping>>,
    followers: Followers,
}

/// Who is told when something has changed.
pub(crate) struct Followers {
    pub(crate) authority: Authority,
    pub(crate) media: Option<veche_sfu::Handle>,
    pub(crate) turn: Option<(veche_turn::Handle, Urls)>,
}

/// Remembers what was looked at, and says what there is to do.
struct Watch {
    own: BTreeSet<IpAddr>,
    /// When STUN servers are to be asked again.
    ask_at: Instant,
}

/// How others see this machine, before anybody is told of it. Takes some seconds at most; the start never fails for it.
pub(crate) async fn first_look(config: &Config) -> BTreeMap<IpAddr, Mapping> {
    let mappings = look(config).await;
    for (ip, mapping) in &mappings {
        report(*ip, *mapping);
    }
    mappings
}

/// The addresses in what was found that lead to the ports that media is bound to.
pub(crate) fn reached_at(mappings: &BTreeMap<IpAddr, Mapping>) -> Vec<IpAddr> {
    let addresses: BTreeSet<IpAddr> = mappings.values().filter_map(|mapping| mapping.reached_at()).collect();
    addresses.into_iter().collect()
}

impl Whereabouts {
    pub(crate) fn new(config: Config, mappings: BTreeMap<IpAddr, Mapping>, followers: Followers) -> Self {
        Self(Arc::new(Inner { config: config.into(), mappings: mappings.into(), followers }))
    }

    /// Looks for as long as the server runs.
    pub(crate) async fn watch(&self) {
        let servers = self.0.config.read().media.discover.clone();
        let mut watch = Watch::new(own_addresses(), self.next_question(&servers));
        loop {
            sleep(LOOK_INTERVAL).await;
            let mut changed = watch.look(own_addresses());
            if watch.is_time_to_ask(changed) && !servers.is_empty() {
                changed |= self.ask().await;
                watch.ask_at = self.next_question(&servers);
            }
            if changed {
                self.tell();
            }
        }
    }

    /// Takes another configuration: of its settings only those of relays' peers count before a restart.
    pub(crate) fn reload(&self, config: Config) {
        *self.0.config.write() = config;
        self.tell();
    }

    /// When the servers are to be asked, from now on.
    fn next_question(&self, servers: &[StunServer]) -> Instant {
        let is_known = servers.is_empty() || !self.0.mappings.read().is_empty();
        Instant::now() + if is_known { ASK_INTERVAL } else { RETRY_INTERVAL }
    }

    /// Asks STUN servers. What was known stays true until one of them says something else. Returns whether one did.
    async fn ask(&self) -> bool {
        let config = self.0.config.read().clone();
        let mut is_new = false;
        for (ip, mapping) in look(&config).await {
            if self.0.mappings.write().insert(ip, mapping) != Some(mapping) {
                report(ip, mapping);
                is_new = true;
            }
        }
        is_new
    }

    /// Tells everybody how it is now.
    fn tell(&self) {
        let Inner { config, mappings, followers } = &*self.0;
        let (config, discovered) = (config.read(), reached_at(&mappings.read()));
        if let Some(media) = &followers.media
            && let Err(error) = media.announce(&discovered)
        {
            tracing::warn!("clients are told of the addresses of before: {error}");
        }
        if let Some((turn, urls)) = &followers.turn {
            let is_guarded = turn::is_guarded(&followers.authority);
            let ports = followers.media.as_ref().map(turn::media_ports).unwrap_or_default();
            match turn::peers(&config, &discovered, &ports, is_guarded) {
                Ok(peers) => turn.set_peers(&peers),
                Err(error) => tracing::error!("relays reach whom they reached before: {error:#}"),
            }
            if let Ok([v4, v6]) = turn::relays(&config, &discovered) {
                turn.set_relays(v4, v6);
            }
            urls.renew(&config, &discovered);
        }
    }
}

impl Watch {
    fn new(own: BTreeSet<IpAddr>, ask_at: Instant) -> Self {
        Self { own, ask_at }
    }

    /// Whether the addresses of this machine have changed.
    fn look(&mut self, own: BTreeSet<IpAddr>) -> bool {
        if own == self.own {
            return false;
        }
        let list = |some: &mut dyn Iterator<Item = &IpAddr>| {
            some.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let new = list(&mut own.difference(&self.own));
        let gone = list(&mut self.own.difference(&own));
        tracing::info!(new, gone, "the addresses of this machine have changed");
        self.own = own;
        true
    }

    /// A change here may be one in front as well.
    fn is_time_to_ask(&self, changed: bool) -> bool {
        changed || Instant::now() >= self.ask_at
    }
}

/// Asks the STUN servers that the configuration names.
async fn look(config: &Config) -> BTreeMap<IpAddr, Mapping> {
    let media = &config.media;
    if media.discover.is_empty() {
        return BTreeMap::new();
    }
    let mappings = discover(&media.discover, &media.bind).await;
    if mappings.is_empty() {
        tracing::warn!("media.discover: no STUN server answers over UDP; are they the right ones?");
    }
    mappings
}

/// Tells those who run the server.
fn report(ip: IpAddr, mapping: Mapping) {
    if mapping.reached_at().is_some() {
        tracing::info!("what is bound to {ip}: {mapping}");
    } else {
        tracing::warn!("what is bound to {ip}: {mapping}");
    }
}

/// The addresses of the network interfaces. Those of links come and go with containers, and lead nowhere.
fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().filter(|interface| !interface.is_link_local()).map(if_addrs::Interface::ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn servers_are_asked_when_something_has_changed_here_and_every_some_minutes() {
        let ask_at = Instant::now() + ASK_INTERVAL;
        let mut watch = Watch::new(set(&["127.0.0.1", "192.0.2.2"]), ask_at);
        assert!(!watch.look(set(&["192.0.2.2", "127.0.0.1"])));
        assert!(!watch.is_time_to_ask(false));
        assert!(watch.look(set(&["127.0.0.1", "192.0.2.3"])) && watch.is_time_to_ask(true));
        assert!(!watch.look(set(&["127.0.0.1", "192.0.2.3"])));
        tokio::time::advance(ASK_INTERVAL / 2).await;
        assert!(!watch.is_time_to_ask(false));
        tokio::time::advance(ASK_INTERVAL / 2).await;
        assert!(watch.is_time_to_ask(false));
    }

    #[test]
    fn only_what_leads_to_the_bound_ports_is_announced() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let outside = ip("203.0.113.5");
        let mappings = [
            (ip("0.0.0.0"), Mapping::Kept(outside)),
            (ip("10.0.0.5"), Mapping::Kept(outside)),
            (ip("10.0.0.6"), Mapping::Moved(ip("203.0.113.6"))),
            (ip("::"), Mapping::Symmetric(ip("2001:db8::1"))),
        ];
        assert_eq!(reached_at(&mappings.into()), [outside]);
    }
}
