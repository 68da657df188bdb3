use std::cell::RefCell;
use std::rc::Rc;

use veche_sfu_core::rtcp::{Packet as Rtcp, parse};

use super::*;
use crate::network::{Capacity, LinkConfig, QueueConfig};

const QUEUE: QueueConfig = QueueConfig::Time(Duration::from_millis(300));

/// Always allows the same, and counts what it is told.
struct Fixed {
    rate: u64,
    told: Rc<RefCell<Told>>,
}

#[derive(Default)]
struct Told {
    sent: u64,
    came: u64,
    missing: u64,
    probed: usize,
    rtt: Duration,
    probe: Option<Probe>,
}

impl Controller for Fixed {
    fn on_sent(&mut self, _now: Instant, _seq: u16, bytes: usize, probe: Option<u32>) {
        let mut told = self.told.borrow_mut();
        told.sent += 1;
        told.probed += if probe.is_some() { bytes } else { 0 };
    }

    fn on_feedback(&mut self, _now: Instant, rtcp: &[u8]) {
        for packet in parse(rtcp) {
            let Ok(Rtcp::TransportFeedback(feedback)) = packet else { panic!("{packet:?}") };
            let mut told = self.told.borrow_mut();
            let came = feedback.statuses().filter(|(_, delta)| delta.is_some()).count() as u64;
            told.came += came;
            told.missing += u64::from(feedback.status_count) - came;
        }
    }

    fn on_rtt(&mut self, _now: Instant, rtt: Duration) {
        self.told.borrow_mut().rtt = rtt;
    }

    fn target(&self) -> u64 {
        self.rate
    }

    fn poll_probe(&mut self, _now: Instant) -> Option<Probe> {
        self.told.borrow_mut().probe.take()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lab(bits: u64) -> (Lab, Route) {
    let mut lab = Lab::new(1);
    let forward = vec![lab.add_bottleneck(Capacity::constant(bits), QUEUE)];
    let link = LinkConfig::slow(Duration::from_millis(20));
    (lab, Route { forward, backward: Vec::new(), link, back: link })
}

fn add_media(lab: &mut Lab, route: &Route, rate: u64) -> (FlowId, Rc<RefCell<Told>>) {
    let told = Rc::new(RefCell::new(Told::default()));
    let controller = Box::new(Fixed { rate, told: told.clone() });
    let media = Media::new(lab.now(), MediaConfig::default(), controller, lab.chance());
    let id = lab.add_flow(Box::new(media), route.clone());
    lab.start(id, Duration::ZERO);
    (id, told)
}

fn add_tcp(lab: &mut Lab, route: &Route, downloads: Downloads) -> FlowId {
    let tcp = Tcp::new(downloads, lab.chance());
    let id = lab.add_flow(Box::new(tcp), route.clone());
    lab.start(id, Duration::ZERO);
    id
}

#[test]
fn media_sends_what_it_may_and_is_reported_on_packet_by_packet() {
    let (mut lab, mut route) = lab(2_000_000);
    route.link.loss = 0.02;
    let (id, told) = add_media(&mut lab, &route, 1_000_000);
    lab.stop(id, seconds(19));
    lab.run_until(seconds(20));
    let record = lab.record(id);
    let rate = record.rate(seconds(2), seconds(19));
    assert!((950_000.0..1_010_000.0).contains(&rate), "{rate}");
    assert!(record.waits(seconds(2), seconds(19)).p95 < Duration::from_millis(15));
    let (sent, lost) = record.sent_and_lost(Duration::ZERO, seconds(20));
    let told = told.borrow();
    assert_eq!((told.sent, told.came), (sent as u64, (sent - lost) as u64));
    // The very last ones may be missing without anything after them to show it.
    assert!(told.missing <= lost as u64 && told.missing + 3 > lost as u64, "{} of {lost}", told.missing);
    assert!((40..60).contains(&told.rtt.as_millis()), "{:?}", told.rtt);
    assert!(record.rate(seconds(19) + Duration::from_millis(300), seconds(20)) < 1.0);
}

#[test]
fn too_much_fills_the_queue_and_is_lost() {
    let (mut lab, route) = lab(500_000);
    let (id, _) = add_media(&mut lab, &route, 1_000_000);
    lab.run_until(seconds(20));
    let record = lab.record(id);
    let (bits, waits) = (record.wire_bits(seconds(5), seconds(20)), record.waits(seconds(5), seconds(20)));
    assert!((7_400_000.0..7_510_000.0).contains(&bits), "{bits}");
    assert!(
        waits.median > Duration::from_millis(270) && waits.longest <= Duration::from_millis(300),
        "{waits:?}"
    );
    let (sent, lost) = record.sent_and_lost(seconds(5), seconds(19));
    assert!((0.4..0.6).contains(&(lost as f64 / sent as f64)), "{lost} of {sent}");
}

#[test]
fn the_narrower_of_two_bottlenecks_counts() {
    let (mut lab, mut route) = lab(1_000_000);
    route.forward.push(lab.add_bottleneck(Capacity::constant(400_000), QUEUE));
    let (id, _) = add_media(&mut lab, &route, 800_000);
    lab.run_until(seconds(20));
    let bits = lab.record(id).wire_bits(seconds(5), seconds(20)) / 15.0;
    assert!((390_000.0..401_000.0).contains(&bits), "{bits}");
}

#[test]
fn a_probe_is_sent_at_its_rate() {
    let (mut lab, route) = lab(100_000_000);
    let (id, told) = add_media(&mut lab, &route, 300_000);
    lab.run_until(seconds(5));
    told.borrow_mut().probe = Some(Probe { id: 7, rate: 2_400_000, bytes: 30_000 });
    lab.run_until(seconds(5) + Duration::from_millis(20));
    let before = told.borrow().probed;
    lab.run_until(seconds(5) + Duration::from_millis(80));
    // 60 ms of 2.4 Mbit/s, give or take a burst.
    let during = told.borrow().probed - before;
    assert!((15_000..21_000).contains(&during), "{during} bytes");
    lab.run_until(seconds(6));
    let all = told.borrow().probed;
    assert!((30_000..31_200).contains(&all), "{all} bytes");
    assert_eq!(lab.record(id).sent_and_lost(Duration::ZERO, Duration::from_millis(5_900)).1, 0);
}

#[test]
fn tcp_fills_the_link_and_shares_it_with_its_like() {
    let (mut lab, route) = lab(5_000_000);
    let one = add_tcp(&mut lab, &route, Downloads::Endless);
    let two = add_tcp(&mut lab, &route, Downloads::Endless);
    lab.stop(two, seconds(60));
    lab.run_until(seconds(90));
    let [alone, first, second] = [(one, 70, 90), (one, 20, 60), (two, 20, 60)]
        .map(|(id, from, to)| lab.record(id).wire_bits(seconds(from), seconds(to)) / (to - from) as f64);
    assert!(alone > 4_700_000.0, "{alone}");
    assert!(first + second > 4_800_000.0, "{first} and {second}");
    assert!(first / second < 2.0 && second / first < 2.0, "{first} and {second}");
}

#[test]
fn tcp_goes_on_after_losses_and_darkness() {
    let (mut lab, mut route) = lab(5_000_000);
    route.link.loss = 0.01;
    let id = add_tcp(&mut lab, &route, Downloads::Endless);
    lab.run_until(seconds(10));
    lab.links(id)[0].blackout = true;
    lab.run_until(seconds(12));
    lab.links(id)[0].blackout = false;
    lab.run_until(seconds(25));
    // Mathis et al. 1997: about 1.22 segments of 1448 bytes, per round trip, over the root of the loss.
    let rate = lab.record(id).rate(seconds(15), seconds(25));
    assert!((1_500_000.0..5_000_000.0).contains(&rate), "{rate}");
}

#[test]
fn files_come_and_go() {
    let (mut lab, route) = lab(10_000_000);
    let files = Downloads::Files { smallest: 100_000, largest: 1_000_000, idle: seconds(2), begins: true };
    let id = add_tcp(&mut lab, &route, files);
    lab.run_until(seconds(120));
    // About 550 kB each 2.8 s.
    let rate = lab.record(id).rate(Duration::ZERO, seconds(120));
    assert!((700_000.0..3_000_000.0).contains(&rate), "{rate}");
    assert!(lab.record(id).longest_silence(Duration::ZERO, seconds(120)) > seconds(2));
}

#[test]
fn the_same_seed_gives_the_same_course() {
    let course = || {
        let (mut lab, mut route) = lab(1_500_000);
        route.link = LinkConfig { jitter: Duration::from_millis(10), loss: 0.01, ..route.link };
        let (id, _) = add_media(&mut lab, &route, 900_000);
        add_tcp(&mut lab, &route, Downloads::Endless);
        lab.run_until(seconds(10));
        (lab.record(id).rate(Duration::ZERO, seconds(10)), lab.record(id).waits(Duration::ZERO, seconds(10)))
    };
    assert_eq!(course(), course());
}
