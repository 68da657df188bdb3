//! What the estimate is worth on networks of all kinds: the targets, and what peers suffered. `--example targets` prints the
//! figures.

use veche_sim::contestants::OURS;
use veche_sim::line::{DEEP, Line, MEGABIT, millis, seconds};
use veche_testkit::congestion::FlowId;
use veche_testkit::network::{Bursts, Capacity, Codel, LinkConfig, Mobile, QueueConfig};

#[test]
fn a_steady_link_is_used_without_a_queue() {
    // At 300 kbit/s a single packet takes 33 ms.
    for (seed, kbits, longest) in [(1, 300, 66), (2, 500, 50), (3, 800, 50), (4, 2_500, 50), (5, 6_000, 50)] {
        let line = Line::steady(OURS, seed, kbits * 1000).run(60);
        let (used, p95) = (line.used(15, 60), line.p95(15, 60));
        assert!(used >= 0.85 && p95 < millis(longest), "{kbits} kbit/s: {used:.2} used, {p95:?} of queue");
    }
}

#[test]
fn the_start_is_quick() {
    let line = Line::steady(OURS, 5, 5 * MEGABIT).run(20);
    let reached = line.reached(0, 4 * MEGABIT);
    assert!(reached < seconds(5), "{reached:?}");
}

#[test]
fn a_tenth_of_the_capacity_is_followed_and_so_is_the_way_back() {
    for seed in 1..4 {
        let steps = [(seconds(0), 5 * MEGABIT), (seconds(30), MEGABIT / 2), (seconds(60), 5 * MEGABIT)];
        let line = Line::new(OURS, seed, Capacity::steps(&steps), DEEP)
            .with_flow(LinkConfig::slow(millis(25)))
            .run(90);
        let silence = line.lab.record(line.flows[0]).longest_silence(seconds(30), seconds(60));
        assert!(silence < seconds(1), "nothing came for {silence:?}");
        let (used, p95) = (line.used(33, 60), line.p95(33, 60));
        assert!(used > 0.75 && p95 < millis(100), "seed {seed}, settled: {used:.2} used, {p95:?} of queue");
        let back = line.reached(60, 4_250_000);
        assert!(back < seconds(8), "seed {seed}: back after {back:?}");
    }
}

#[test]
fn two_flows_share_a_bottleneck() {
    for seed in 1..4 {
        let line = Line::new(OURS, seed, Capacity::constant(3 * MEGABIT), DEEP);
        let link = LinkConfig::slow(millis(25));
        let line = line.with_flow(link).with_flow(link).run(120);
        let rate = |id: FlowId| line.lab.record(id).rate(seconds(30), seconds(120));
        let (one, other) = (rate(line.flows[0]), rate(line.flows[1]));
        let apart = (one - other).abs() / (one + other);
        assert!(apart < 0.2, "seed {seed}: {one:.0} and {other:.0} bit/s");
        assert!(line.used(30, 120) > 0.85, "seed {seed}: {:.2} used", line.used(30, 120));
    }
}

#[test]
fn random_loss_costs_little() {
    let mean = |loss| {
        let link = LinkConfig { loss, ..LinkConfig::slow(millis(25)) };
        Line::new(OURS, 7, Capacity::constant(2 * MEGABIT), DEEP).with_flow(link).run(90).target(20, 90)
    };
    let without = mean(0.0);
    for loss in [0.01, 0.02, 0.05] {
        let with = mean(loss);
        assert!(with > 0.85 * without, "{loss}: {with:.0} of {without:.0} bit/s");
    }
}

#[test]
fn loss_in_bursts_costs_little() {
    let bursts = Some(Bursts::losing(0.02, 5.0));
    let link = LinkConfig { bursts, ..LinkConfig::slow(millis(25)) };
    let line = Line::new(OURS, 8, Capacity::constant(2 * MEGABIT), DEEP).with_flow(link).run(90);
    assert!(line.target(20, 90) > 0.7 * 2e6, "{:.0}", line.target(20, 90));
}

/// LiveKit and mediasoup were seen to stay low after a time in which little was sent.
#[test]
fn the_estimate_is_not_stuck_low_after_a_quiet_time() {
    for quiet in [0, 40_000, 200_000] {
        let mut line = Line::steady(OURS, 9, 5 * MEGABIT);
        let flow = line.flows[0];
        if quiet == 0 {
            line.lab.stop(flow, seconds(20));
            line.lab.start(flow, seconds(60));
        } else {
            line.lab.limit(flow, seconds(20), quiet);
            line.lab.limit(flow, seconds(60), u64::MAX);
        }
        let line = line.run(80);
        let back = line.reached(60, 4 * MEGABIT);
        assert!(back < seconds(8), "after {quiet} bit/s: {back:?}");
        assert!(line.used(68, 80) > 0.8, "after {quiet} bit/s: {:.2} used", line.used(68, 80));
    }
}

/// What is sent says nothing about what could be: without a probe that shows more, the estimate does not grow away.
#[test]
fn a_quiet_time_does_not_raise_the_estimate_above_the_link() {
    let mut line = Line::steady(OURS, 10, MEGABIT);
    let flow = line.flows[0];
    line.lab.limit(flow, seconds(15), 300_000);
    let line = line.run(60);
    assert!(line.target(20, 60) < 1.5e6, "{:.0}", line.target(20, 60));
    assert!(line.p95(20, 60) < millis(50), "{:?}", line.p95(20, 60));
}

#[test]
fn controlled_delay_is_no_trouble() {
    let queue = QueueConfig::Codel(Codel::default());
    let line = Line::new(OURS, 11, Capacity::constant(2 * MEGABIT), queue)
        .with_flow(LinkConfig::slow(millis(25)))
        .run(60);
    let (used, lost) = (line.used(15, 60), line.lost(15, 60));
    assert!(used > 0.85 && lost < 0.03, "{used:.2} used, {lost:.3} lost");
}

/// A policer hardly delays, it drops.
#[test]
fn a_short_queue_is_found_by_its_loss() {
    for queue in [20, 30] {
        let queue = QueueConfig::Time(millis(queue));
        let line = Line::new(OURS, 12, Capacity::constant(2 * MEGABIT), queue)
            .with_flow(LinkConfig::slow(millis(25)));
        let line = line.run(60);
        let (used, lost) = (line.used(15, 60), line.lost(15, 60));
        assert!(used > 0.7 && lost < 0.06, "{queue:?}: {used:.2} used, {lost:.3} lost");
    }
}

#[test]
fn jitter_alone_does_not_pull_it_down() {
    for jitter_reorders in [false, true] {
        let link = LinkConfig { jitter: millis(60), jitter_reorders, ..LinkConfig::slow(millis(25)) };
        let line = Line::new(OURS, 13, Capacity::constant(2 * MEGABIT), DEEP).with_flow(link).run(60);
        let used = line.used(15, 60);
        assert!(used > 0.8, "reordered: {jitter_reorders}, {used:.2} used");
    }
}

#[test]
fn lost_feedback_is_no_drama() {
    let mut line = Line::steady(OURS, 14, 2 * MEGABIT);
    let flow = line.flows[0];
    line.lab.links(flow)[1].loss = 0.2;
    let line = line.run(60);
    let (used, p95) = (line.used(15, 60), line.p95(15, 60));
    assert!(used > 0.85 && p95 < millis(60), "{used:.2} used, {p95:?} of queue");
}

#[test]
fn it_comes_back_after_darkness() {
    let mut line = Line::steady(OURS, 15, 2 * MEGABIT).run(20);
    for link in line.lab.links(line.flows[0]) {
        link.blackout = true;
    }
    line.lab.run_until(seconds(23));
    for link in line.lab.links(line.flows[0]) {
        link.blackout = false;
    }
    line.lab.run_until(seconds(40));
    let back = line.reached(23, 1_600_000);
    assert!(back < seconds(8), "{back:?}");
    assert!(line.used(31, 40) > 0.8, "{:.2} used", line.used(31, 40));
}

/// People on the move: much of what there is, and no seconds of queue.
#[test]
fn mobile_links_are_followed() {
    for seed in 1..5 {
        let mobile =
            Mobile { mean: 2 * MEGABIT, swing: 0.4, swing_time: seconds(4), fade_every: seconds(30) };
        let capacity = Capacity::mobile(mobile, seed, seconds(120));
        let line = Line::new(OURS, seed, capacity, QueueConfig::Bytes(150_000))
            .with_flow(LinkConfig::slow(millis(40)));
        let line = line.run(120);
        let (used, p95, lost) = (line.used(10, 120), line.p95(10, 120), line.lost(10, 120));
        assert!(
            used > 0.55 && p95 < millis(400) && lost < 0.05,
            "seed {seed}: {used:.2} used, {p95:?} of queue, {lost:.3} lost"
        );
    }
}
