//! A process that has no more files.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};
use veche_stun::Message;

use crate::client::{ALLOCATE, Attribute, CREATE_PERMISSION, Client, TCP, Wire};
use crate::server::start;
use crate::streams::connect;

/// Says that this process may be left without files.
const ALONE: &str = "VECHE_TEST_ALONE";

#[test]
fn a_worker_sleeps_while_peers_wait_for_files() {
    if std::env::var_os(ALONE).is_some() {
        return wait_without_files();
    }
    let name = "shortage::a_worker_sleeps_while_peers_wait_for_files";
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let status = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").status().unwrap();
    assert!(status.success(), "{status}");
}

fn wait_without_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).unwrap();
    let turn = start(|config| config.workers = 1);
    let control = connect(&turn);
    let mut client = Client::greeted(&control);
    let relay = client.ask(&control, ALLOCATE, &[TCP]).relayed[0];
    let permission = [Attribute::Peer((Ipv4Addr::LOCALHOST, 1).into())];
    assert_eq!(client.ask(&control, CREATE_PERMISSION, &permission).code, 0);
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    peer.connect(&relay.into()).unwrap();
    // The system has taken it, and the relay cannot: for a while the process is to have nothing to do.
    let (begin, used) = (Instant::now(), used());
    while begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = self::used().saturating_sub(used);
    assert!(used < Duration::from_millis(200), "{used:?} of processor time");
    drop(held);
    let told = (&control).receive();
    assert_eq!(Message::parse(&told).unwrap().kind(), 0x001c, "the peer is announced then");
}

/// The processor time of this process.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
