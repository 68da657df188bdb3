//! A room over two workers, with their threads and sockets: real clients see and hear each other across.

mod common;

use std::time::Instant;

use common::Call;
use veche_sfu_core::control::Command;
use veche_sfu_core::ids::RequestId;

#[tokio::test]
async fn a_room_of_four_spreads_over_two_workers_and_nobody_can_tell() {
    let mut call = Call::new();
    for _ in 0..4 {
        call.join();
    }
    let workers: Vec<u64> = call.seats.iter().map(|seat| seat.participant.0 % 2).collect();
    let home = call.room.0 % 2;
    assert_eq!(workers, [home, home, 1 - home, 1 - home]);
    call.run_until("all see all", |call| call.all_see_all(call.start, 10));
    let from = Instant::now();
    call.run_until("all go on to see all", |call| call.all_see_all(from, 60));
    for seat in &call.seats {
        assert_eq!(seat.client.strange, 0);
    }

    // One question, an answer of each worker.
    let request = RequestId(77);
    call.command(Command::RoomStats { room: call.room, request, engines: 1 });
    call.run_until("both answer", |call| call.stats.get(&request).is_some_and(|(_, missing)| *missing == 0));
    let mut told: Vec<_> = call.stats[&request].0.iter().map(|stats| stats.participant).collect();
    told.sort_unstable();
    let mut all: Vec<_> = call.seats.iter().map(|seat| seat.participant).collect();
    all.sort_unstable();
    assert_eq!(told, all);

    // The two at home leave: the others go on.
    for _ in 0..2 {
        let gone = call.seats.remove(0);
        call.command(Command::RemoveParticipant { participant: gone.participant });
    }
    call.run_until("their engine hears of it", |call| {
        let metrics = call.sfu.handle.metrics();
        metrics[home as usize].participants == 0 && metrics[1 - home as usize].participants == 2
    });
    let from = Instant::now();
    call.run_until("those left see each other", |call| call.all_see_all(from, 30));
    let metrics = call.sfu.handle.metrics();
    assert!(metrics.iter().all(|worker| worker.running), "{metrics:?}");
    call.sfu.handle.stop().await;
}
