//! Relays whose peer is this server's own media.

use std::time::Instant;

use veche_sfu::SfuConfig;
use veche_sfu::hatch::Handed;
use veche_turn::Turn;

use crate::call::Call;
use crate::server::{start, wait_until};

/// A call, and a TURN server that reaches it without sockets.
fn connected(workers: usize) -> (Call, Turn) {
    let call = Call::new(SfuConfig { spread_from: 2, ..SfuConfig::on_loopback(workers) });
    let turn = start(|config| config.peers.own = call.addresses([127, 0, 0, 1]));
    turn.handle.connect(call.sfu.handle.open_hatches(&turn.handle.bells().unwrap()).unwrap());
    (call, turn)
}

fn handed(of_workers: impl Iterator<Item = Handed>) -> Handed {
    of_workers.fold(Handed::default(), |all, one| Handed {
        packets_in: all.packets_in + one.packets_in,
        packets_out: all.packets_out + one.packets_out,
        drops: all.drops + one.drops,
    })
}

fn by_turn(turn: &Turn) -> Handed {
    handed(turn.handle.metrics().into_iter().map(|worker| worker.handed))
}

fn by_media(call: &Call) -> Handed {
    handed(call.sfu.handle.metrics().into_iter().map(|worker| worker.handed))
}

#[test]
fn a_call_through_relays_takes_no_socket_of_theirs() {
    let (mut call, turn) = connected(2);
    for _ in 0..4 {
        call.join_through(turn.handle.addresses()[0]);
    }
    call.all_see_all(call.start, 30);
    wait_until("all is counted", || {
        let (turn_side, media_side, total) = (by_turn(&turn), by_media(&call), turn.handle.total());
        turn_side.packets_out > 500
            && turn_side.packets_out == media_side.packets_in
            && turn_side.packets_in == media_side.packets_out
            && total.packets_to_peers == turn_side.packets_out
            && total.packets_to_clients == turn_side.packets_in
    });
    assert_eq!((by_turn(&turn).drops, by_media(&call).drops), (0, 0));
    for worker in call.sfu.handle.metrics() {
        let traffic = worker.traffic;
        assert_eq!((traffic.packets_in, traffic.packets_out), (0, 0), "no datagram came to media or left it");
        assert!(worker.handed.packets_in > 0, "people are on both workers");
    }
}

#[test]
fn who_comes_directly_meets_who_comes_through_a_relay_also_when_that_ends() {
    let (mut call, turn) = connected(1);
    call.join();
    call.join_through(turn.handle.addresses()[0]);
    call.join();
    call.all_see_all(call.start, 10);
    drop(turn);
    wait_until("what cannot be handed over any more is counted", || by_media(&call).drops > 0);
    call.leave(1);
    call.all_see_all(Instant::now(), 10);
}
