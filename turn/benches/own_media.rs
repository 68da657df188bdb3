//! What a packet between a relay and this server's own media costs the threads of both, with the relay's socket in between and
//! without: a call of eight, all through relays, in real time.
//!
//! ```sh
//! cargo bench -p veche-turn --bench own_media
//! ```
//!
//! Both ways take turns, so that what else runs on the machine is the same for both. Processor time is that of the threads of
//! TURN and of media alone, as the system counts it.

#[path = "../tests/stories/call.rs"]
#[expect(dead_code, reason = "stories need more of it")]
mod call;
#[path = "../tests/stories/server.rs"]
#[expect(dead_code, reason = "stories need more of it")]
mod server;

use std::fs;
use std::time::{Duration, Instant};

use call::Call;
use veche_sfu::SfuConfig;

const PEOPLE: usize = 8;
const ROUNDS: usize = 3;
const FRAMES: usize = 100;

/// Longer than workers take to tell their numbers.
const NUMBERS: Duration = Duration::from_millis(1_200);

fn main() {
    println!("{:>8} {:>10} {:>16} {:>16}", "way", "packets", "TURN us/packet", "media us/packet");
    let mut sums = [(0.0, 0.0); 2];
    for _ in 0..ROUNDS {
        for (hatches, sum) in [false, true].into_iter().zip(&mut sums) {
            let (packets, turn, media) = measure(hatches);
            let way = if hatches { "hatches" } else { "sockets" };
            println!("{way:>8} {packets:>10} {turn:>16.3} {media:>16.3}");
            *sum = (sum.0 + turn, sum.1 + media);
        }
    }
    let [sockets, hatches] = sums;
    println!(
        "hatches take {:.2} of what sockets take (TURN {:.2}, media {:.2})",
        (hatches.0 + hatches.1) / (sockets.0 + sockets.1),
        hatches.0 / sockets.0,
        hatches.1 / sockets.1
    );
}

/// Packets relayed, and the microseconds that a worker of TURN and one of media have had for each.
fn measure(hatches: bool) -> (u64, f64, f64) {
    let mut call = Call::new(SfuConfig::on_loopback(1));
    let turn = server::start(|config| {
        config.workers = 1;
        config.peers.own = call.addresses([127, 0, 0, 1]);
    });
    if hatches {
        let bells = turn.handle.bells().expect("there are files left");
        turn.handle.connect(call.sfu.handle.open_hatches(&bells).expect("there are files left"));
    }
    for _ in 0..PEOPLE {
        call.join_through(turn.handle.addresses()[0]);
    }
    call.all_see_all(call.start, 10);
    std::thread::sleep(NUMBERS);
    let times = || ["turn-0", "media-0"].map(thread_time);
    let (packets, before) = (call::relayed_packets(&turn), times());
    call.all_see_all(Instant::now(), FRAMES);
    std::thread::sleep(NUMBERS);
    let (packets, after) = (call::relayed_packets(&turn) - packets, times());
    let each = |index: usize| after[index].saturating_sub(before[index]).as_secs_f64() * 1e6 / packets as f64;
    (packets, each(0), each(1))
}

/// The processor time of the thread of this process that has this name.
fn thread_time(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells its threads");
    let of_task = |task: fs::DirEntry| {
        let comm = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok().filter(|_| comm.trim() == name)?;
        times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.flatten().filter_map(of_task).sum()
}
