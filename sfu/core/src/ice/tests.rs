//! Stories of an agent in virtual time, with a client that sends it requests.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::path::ConnectionId;
use crate::stun::client::TestRequest;

const OLD: (&str, &str) = ("oldu:peer", "old password of 22 chars");
const NEW: (&str, &str) = ("newu:peer", "new password of 22 chars");

/// An agent in virtual time, and a client that sends it requests.
struct Story {
    agent: IceAgent,
    now: Instant,
    user: (&'static str, &'static str),
    response: Vec<u8>,
}

impl Story {
    // Virtual time has to begin somewhere; only differences matter.
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let now = Instant::now();
        Self { agent: IceAgent::new(&credentials(OLD), now), now, user: OLD, response: Vec::new() }
    }

    fn send(&mut self, path: Path, change: impl FnOnce(&mut TestRequest<'_>)) -> Result<(), DropReason> {
        let (username, password) = self.user;
        let mut request = TestRequest { username, password, ..TestRequest::default() };
        change(&mut request);
        let datagram = request.write();
        let request = BindingRequest::parse(&datagram).unwrap();
        self.agent.handle_request(self.now, path, &request, &mut self.response)
    }

    fn check(&mut self, path: Path) {
        self.send(path, |_| {}).unwrap();
    }

    fn nominate(&mut self, path: Path) {
        self.send(path, |request| request.use_candidate = true).unwrap();
    }

    /// Lets time pass, as an event loop does: timeouts are handled when they are due.
    fn pass(&mut self, seconds: f32) {
        let end = self.now + Duration::from_secs_f32(seconds);
        while let Some(at) = self.agent.poll_timeout().filter(|&at| at <= end) {
            self.now = at;
            self.agent.handle_timeout(at);
            assert_ne!(self.agent.poll_timeout(), Some(at), "a timeout must not repeat at once");
        }
        self.now = end;
    }

    fn knows(&self, path: Path) -> bool {
        self.agent.paths().any(|known| known == path)
    }

    fn events(&mut self) -> Vec<IceEvent> {
        std::iter::from_fn(|| self.agent.poll_event()).collect()
    }
}

fn credentials((username, pwd): (&str, &str)) -> IceCredentials {
    let (ufrag, _) = username.split_once(':').unwrap();
    IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() }
}

fn udp(port: u16) -> Path {
    Path::Udp { remote: ([192, 0, 2, 1], port).into(), local: None }
}

fn tcp(connection: u64) -> Path {
    Path::Tcp { connection: ConnectionId(connection), remote: ([192, 0, 2, 1], 9).into() }
}

#[test]
fn the_newest_checked_path_carries_until_the_client_nominates() {
    let mut story = Story::new();
    assert_eq!((story.agent.state(), story.agent.selected()), (IceState::New, None));
    story.check(udp(1));
    assert_eq!(
        story.events(),
        [IceEvent::PathKnown(udp(1)), IceEvent::State(IceState::Connected), IceEvent::Selected(Some(udp(1)))]
    );
    assert_eq!(story.response[..2], [1, 1]);
    story.check(udp(2));
    assert_eq!(story.agent.selected(), Some(udp(2)));
    story.nominate(udp(1));
    story.check(udp(2));
    assert_eq!(story.agent.selected(), Some(udp(1)));
    assert!(story.knows(udp(2)) && !story.knows(udp(3)));
}

#[test]
fn a_nomination_is_followed_to_a_worse_pair_and_back() {
    let mut story = Story::new();
    story.send(udp(1), |r| (r.priority, r.use_candidate) = (200, true)).unwrap();
    story.pass(3.0);
    story.send(udp(2), |r| (r.priority, r.use_candidate) = (100, true)).unwrap();
    assert_eq!(story.agent.selected(), Some(udp(2)));
    story.send(udp(1), |r| (r.priority, r.use_candidate) = (200, true)).unwrap();
    assert_eq!(story.agent.selected(), Some(udp(1)));
}

#[test]
fn of_pairs_that_are_nominated_all_at_once_the_best_is_used() {
    for order in [[tcp(1), udp(1), udp(2)], [udp(1), udp(2), tcp(1)], [udp(2), tcp(1), udp(1)]] {
        let mut story = Story::new();
        for path in order {
            let priority = if path == udp(1) { 200 } else { 100 };
            story.send(path, |r| (r.priority, r.use_candidate) = (priority, true)).unwrap();
            story.pass(0.05);
        }
        assert_eq!(story.agent.selected(), Some(udp(1)));
    }
}

#[test]
fn nothing_happens_without_the_right_password() {
    let mut story = Story::new();
    let wrong = story.send(udp(1), |r| (r.password, r.use_candidate) = ("guess", true));
    assert_eq!(wrong, Err(DropReason::StunUnauthenticated));
    // Neither a role conflict nor an unknown attribute is answered for a stranger.
    let conflict = story.send(udp(1), |r| (r.password, r.role) = ("guess", IceRole::Controlled(1)));
    assert_eq!(conflict, Err(DropReason::StunUnauthenticated));
    let unknown = story.send(udp(1), |r| (r.password, r.unknown) = ("guess", &[0x7001]));
    assert_eq!(unknown, Err(DropReason::StunUnauthenticated));
    let stranger = story.send(udp(1), |r| r.username = "nobo:peer");
    assert_eq!(stranger, Err(DropReason::StunUnknownUser));
    story.agent.on_authenticated(story.now, udp(1));
    assert!(story.response.is_empty());
    assert_eq!(story.events(), []);
    assert_eq!((story.agent.state(), story.agent.selected()), (IceState::New, None));
}

#[test]
fn a_client_in_our_role_and_one_that_asks_too_much_are_told_so() {
    let mut story = Story::new();
    story.send(udp(1), |r| (r.role, r.use_candidate) = (IceRole::Controlled(1), true)).unwrap();
    assert_eq!(story.response[..2], [1, 0x11]);
    assert!(story.response.windows(4).any(|w| w == [0, 0, 4, 87]));
    story.send(udp(1), |r| r.unknown = &[0x7001]).unwrap();
    assert!(story.response.windows(4).any(|w| w == [0, 0, 4, 20]));
    assert_eq!(story.events(), []);
}

#[test]
fn silence_interrupts_then_expires_and_a_request_brings_it_back() {
    let mut story = Story::new();
    story.nominate(udp(1));
    story.events();
    story.pass(4.9);
    assert_eq!(story.events(), []);
    story.pass(0.2);
    assert_eq!(story.events(), [IceEvent::State(IceState::Interrupted)]);
    assert_eq!(story.agent.selected(), Some(udp(1)));
    story.pass(24.8);
    assert_eq!(story.agent.state(), IceState::Interrupted);
    story.pass(0.2);
    assert_eq!(
        story.events(),
        [IceEvent::Selected(None), IceEvent::PathForgotten(udp(1)), IceEvent::State(IceState::Expired)]
    );
    assert_eq!(story.agent.poll_timeout(), None);
    story.agent.on_authenticated(story.now, udp(1));
    assert_eq!(story.agent.state(), IceState::Expired);
    story.check(udp(1));
    assert_eq!((story.agent.state(), story.agent.selected()), (IceState::Connected, Some(udp(1))));
    story.pass(5.0);
    assert_eq!(story.agent.state(), IceState::Interrupted);
}

#[test]
fn media_alone_keeps_a_connection_alive_and_revives_it() {
    let mut story = Story::new();
    story.nominate(udp(1));
    for _ in 0..20 {
        story.pass(4.0);
        story.agent.on_authenticated(story.now, udp(1));
    }
    assert_eq!(story.agent.state(), IceState::Connected);
    story.pass(10.0);
    assert_eq!(story.agent.state(), IceState::Interrupted);
    story.agent.on_authenticated(story.now, udp(1));
    assert_eq!(story.agent.state(), IceState::Connected);
    story.pass(5.0);
    assert_eq!(story.agent.state(), IceState::Interrupted);
}

#[test]
fn a_client_that_never_comes_expires() {
    let mut story = Story::new();
    story.pass(29.9);
    assert_eq!(story.agent.state(), IceState::New);
    story.pass(0.2);
    assert_eq!(story.events(), [IceEvent::State(IceState::Expired)]);
}

#[test]
fn a_nominated_path_that_falls_silent_gives_way_to_one_that_lives() {
    let mut story = Story::new();
    story.nominate(udp(1));
    for _ in 0..4 {
        story.pass(1.0);
        story.check(udp(2));
        assert_eq!(story.agent.selected(), Some(udp(1)));
    }
    story.pass(1.0);
    story.agent.on_authenticated(story.now, udp(2));
    assert_eq!(story.agent.selected(), Some(udp(2)));
    story.nominate(udp(1));
    assert_eq!(story.agent.selected(), Some(udp(1)));
}

#[test]
fn when_the_tcp_connection_is_gone_another_live_path_takes_over() {
    let mut story = Story::new();
    story.check(udp(1));
    story.pass(1.0);
    story.check(udp(2));
    story.nominate(tcp(1));
    story.events();
    story.agent.on_disconnected(story.now, tcp(1));
    assert_eq!(story.events(), [IceEvent::PathForgotten(tcp(1)), IceEvent::Selected(Some(udp(2)))]);
    story.agent.on_disconnected(story.now, udp(1));
    assert_eq!(story.events(), [IceEvent::PathForgotten(udp(1))]);
    story.agent.on_disconnected(story.now, udp(2));
    assert_eq!(story.agent.selected(), None);
    assert_eq!(story.agent.state(), IceState::Interrupted);
    story.nominate(tcp(2));
    assert_eq!((story.agent.state(), story.agent.selected()), (IceState::Connected, Some(tcp(2))));
}

#[test]
fn a_restart_keeps_the_old_pair_until_the_new_one_is_nominated() {
    let mut story = Story::new();
    story.nominate(udp(1));
    story.pass(2.0);
    story.agent.restart(&credentials(NEW));
    assert_eq!(story.agent.local_ufrags().collect::<Vec<_>>(), ["newu", "oldu"]);
    // The old session goes on, nominations included.
    story.nominate(udp(2));
    assert_eq!(story.agent.selected(), Some(udp(2)));
    story.events();

    story.user = NEW;
    story.check(udp(3));
    assert_eq!(story.events(), [IceEvent::UfragForgotten("oldu".into()), IceEvent::PathKnown(udp(3))]);
    assert_eq!(story.agent.selected(), Some(udp(2)));
    assert_eq!(story.agent.local_ufrags().collect::<Vec<_>>(), ["newu"]);
    story.user = OLD;
    assert_eq!(story.send(udp(2), |_| {}), Err(DropReason::StunUnknownUser));
    story.user = NEW;
    story.send(udp(3), |r| (r.priority, r.use_candidate) = (1, true)).unwrap();
    assert_eq!(story.agent.selected(), Some(udp(3)));
}

#[test]
fn of_two_restarts_without_an_answer_only_the_second_and_the_session_in_use_count() {
    let mut story = Story::new();
    story.nominate(udp(1));
    story.agent.restart(&credentials(("lost:peer", "lost password of 22 chars")));
    story.events();
    story.agent.restart(&credentials(NEW));
    assert_eq!(story.events(), [IceEvent::UfragForgotten("lost".into())]);
    story.check(udp(1));
    assert_eq!(story.agent.local_ufrags().collect::<Vec<_>>(), ["newu", "oldu"]);
    story.user = NEW;
    story.nominate(udp(2));
    assert_eq!(story.agent.selected(), Some(udp(2)));
}

#[test]
fn a_restart_under_the_wrong_password_confirms_nothing() {
    let mut story = Story::new();
    story.nominate(udp(1));
    story.agent.restart(&credentials(OLD));
    assert_eq!(story.agent.local_ufrags().count(), 1);
    story.agent.restart(&credentials(NEW));
    let forged = story.send(udp(9), |r| (r.username, r.password) = (NEW.0, OLD.1));
    assert_eq!(forged, Err(DropReason::StunUnauthenticated));
    assert_eq!(story.agent.local_ufrags().count(), 2);
    story.check(udp(1));
}

#[test]
fn old_paths_are_forgotten_but_never_the_selected_one() {
    let mut story = Story::new();
    story.nominate(udp(1));
    for port in 2..40 {
        story.pass(0.01);
        story.check(udp(port));
    }
    assert_eq!(story.agent.paths().count(), MAX_PATHS);
    assert!(story.knows(udp(1)) && story.knows(udp(39)) && !story.knows(udp(2)));
    let events = story.events();
    let forgotten = events.iter().filter(|e| matches!(e, IceEvent::PathForgotten(_))).count();
    assert_eq!(forgotten, 39 - MAX_PATHS);
    for _ in 0..12 {
        story.pass(3.0);
        story.nominate(udp(1));
    }
    assert_eq!(story.agent.paths().collect::<Vec<_>>(), [udp(1)]);
}

/// Whatever happens, the events alone tell which paths and names belong to the agent.
#[test]
fn events_tell_all_that_a_demultiplexer_needs() {
    let mut random = StdRng::seed_from_u64(8445);
    let mut story = Story::new();
    let (mut paths, mut ufrags) = (Vec::new(), vec!["oldu".to_string()]);
    let (mut selected, mut state) = (None, IceState::New);
    for _ in 0..20_000 {
        let port = random.random_range(1..25);
        let path = if random.random_bool(0.5) { udp(port) } else { tcp(port.into()) };
        story.user = if random.random_bool(0.5) { OLD } else { NEW };
        match random.random_range(0..100) {
            0..40 => drop(story.send(path, |_| {})),
            40..60 => drop(story.send(path, |r| r.use_candidate = true)),
            60..65 => drop(story.send(path, |r| r.password = "wrong")),
            65..80 => story.agent.on_authenticated(story.now, path),
            80..90 => story.agent.on_disconnected(story.now, path),
            90..92 => {
                let fresh = if story.agent.current.ufrag == "oldu" { NEW } else { OLD };
                if story.agent.previous.is_none() {
                    story.agent.restart(&credentials(fresh));
                    ufrags.push(credentials(fresh).ufrag);
                }
            }
            92..99 => story.pass(random.random_range(0.0..2.0)),
            _ => story.pass(random.random_range(0.0..40.0)),
        }
        for event in story.events() {
            match event {
                IceEvent::PathKnown(path) => paths.push(path),
                IceEvent::PathForgotten(path) => paths.retain(|&p| p != path),
                IceEvent::Selected(path) => selected = path,
                IceEvent::UfragForgotten(ufrag) => ufrags.retain(|u| *u != ufrag),
                IceEvent::State(new) => state = new,
            }
        }
        let mut known: Vec<_> = story.agent.local_ufrags().collect();
        known.sort_unstable();
        ufrags.sort_unstable();
        assert_eq!(known, ufrags);
        assert_eq!(paths.len(), story.agent.paths().count());
        assert!(paths.iter().all(|&path| story.knows(path)) && paths.len() <= MAX_PATHS);
        assert_eq!((selected, state), (story.agent.selected(), story.agent.state()));
        assert!(selected.is_none_or(|path| paths.contains(&path)));
        assert!(state != IceState::Connected || selected.is_some());
    }
}
