//! The ways between the clients of a world and its engines: links, and bottlenecks that clients share, also with others.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::{ClientId, What, World};
use crate::congestion::{End, Flow, Packet};
use crate::network::{Bottleneck, Capacity, Link, LinkConfig, QueueConfig};

/// A bottleneck that clients of a world share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BottleneckId(usize);

/// One direction between a client and its engine.
pub(super) struct Way {
    pub link: Link<What>,
    /// What comes before the link.
    pub behind: Option<BottleneckId>,
    /// The look at the link that is in the queue.
    due_at: Option<Instant>,
}

/// Something else that uses a bottleneck: a download, say.
pub(super) struct Other {
    flow: Box<dyn Flow>,
    bottleneck: BottleneckId,
    /// What its packets take besides, each way.
    delay: Duration,
    /// The wake-up that is in the queue.
    due_at: Option<Instant>,
}

/// Whose a packet in a shared bottleneck is.
pub(super) enum Carried {
    Client { seat: usize, up: bool, what: What },
    Other { index: usize, packet: Packet },
}

/// A bottleneck with what it carries.
pub(super) struct Shared {
    bottleneck: Bottleneck<Carried>,
    /// The look at it that is in the queue.
    due_at: Option<Instant>,
}

impl World {
    /// A bottleneck that clients can be put behind. Its capacity begins now.
    pub fn add_bottleneck(&mut self, capacity: Capacity, queue: QueueConfig) -> BottleneckId {
        let bottleneck = Bottleneck::new(self.now, capacity, queue);
        self.bottlenecks.push(Shared { bottleneck, due_at: None });
        BottleneckId(self.bottlenecks.len() - 1)
    }

    /// Another capacity of a bottleneck, from now on.
    pub fn set_capacity(&mut self, id: BottleneckId, capacity: Capacity) {
        self.bottlenecks[id.0].bottleneck.set_capacity(self.now, capacity);
        self.look_at_bottleneck(id.0);
    }

    /// What a client sends goes through this bottleneck from now on, before its own link.
    pub fn put_up_behind(&mut self, id: ClientId, bottleneck: Option<BottleneckId>) {
        self.seats[id.0].up.behind = bottleneck;
    }

    /// What is sent to a client goes through this bottleneck from now on, before its own link.
    pub fn put_down_behind(&mut self, id: ClientId, bottleneck: Option<BottleneckId>) {
        self.seats[id.0].down.behind = bottleneck;
    }

    /// Something else uses this bottleneck from now on, such as a download ([`crate::congestion::Tcp`]), whose packets take
    /// this long besides, each way.
    pub fn add_other(&mut self, mut flow: Box<dyn Flow>, bottleneck: BottleneckId, delay: Duration) {
        flow.set_running(self.now, true);
        self.others.push(Other { flow, bottleneck, delay, due_at: None });
        self.drain_other(self.others.len() - 1);
    }

    /// Puts a datagram on its way: through the bottleneck that a client is behind, if any, then on its link.
    pub(super) fn put_on_way(&mut self, seat: usize, up: bool, bytes: usize, what: What) {
        let Some(BottleneckId(index)) = self.way(seat, up).behind else {
            self.put_on_link(seat, up, bytes, what);
            return;
        };
        self.look_at_bottleneck(index);
        let carried = Carried::Client { seat, up, what };
        self.bottlenecks[index].bottleneck.handle_packet(self.now, bytes, carried);
        self.look_at_bottleneck(index);
    }

    fn put_on_link(&mut self, seat: usize, up: bool, bytes: usize, what: What) {
        let now = self.now;
        self.way(seat, up).link.handle_packet(now, bytes, what);
        self.plan_link(seat, up);
    }

    /// What has left a shared bottleneck by now goes on.
    pub(super) fn look_at_bottleneck(&mut self, index: usize) {
        let now = self.now;
        self.bottlenecks[index].due_at.take_if(|at| *at <= now);
        while let Some(passed) = self.bottlenecks[index].bottleneck.poll_packet(self.now) {
            match passed.item {
                Carried::Client { seat, up, what } => self.put_on_link(seat, up, passed.bytes, what),
                Carried::Other { index, packet } => {
                    let at = self.now + self.others[index].delay;
                    self.plan(at, What::ToOther { index, end: End::Receiver, packet });
                }
            }
        }
        let Shared { bottleneck, due_at } = &mut self.bottlenecks[index];
        if let Some(at) = bottleneck.poll_timeout()
            && due_at.is_none_or(|due| at < due)
        {
            *due_at = Some(at);
            self.plan(at, What::Bottleneck { index });
        }
    }

    pub(super) fn wake_other(&mut self, index: usize) {
        let now = self.now;
        let other = &mut self.others[index];
        other.due_at.take_if(|at| *at <= now);
        if other.flow.poll_timeout().is_some_and(|at| at <= now) {
            other.flow.handle_timeout(now);
        }
        self.drain_other(index);
    }

    pub(super) fn give_other(&mut self, index: usize, end: End, packet: Packet) {
        self.others[index].flow.handle_packet(self.now, end, packet);
        self.drain_other(index);
    }

    /// What else uses a bottleneck sends what it has to.
    fn drain_other(&mut self, index: usize) {
        while let Some((end, packet)) = self.others[index].flow.poll_packet(self.now) {
            let Other { bottleneck: BottleneckId(shared), delay, .. } = self.others[index];
            if end == End::Receiver {
                self.look_at_bottleneck(shared);
                let (bytes, carried) = (packet.bytes, Carried::Other { index, packet });
                self.bottlenecks[shared].bottleneck.handle_packet(self.now, bytes, carried);
                self.look_at_bottleneck(shared);
            } else {
                self.plan(self.now + delay, What::ToOther { index, end, packet });
            }
        }
        let other = &mut self.others[index];
        if let Some(at) = other.flow.poll_timeout()
            && other.due_at.is_none_or(|due| at < due)
        {
            other.due_at = Some(at);
            self.plan(at, What::Other { index });
        }
    }

    /// What has arrived on a link happens.
    pub(super) fn look_at_link(&mut self, seat: usize, up: bool) {
        let now = self.now;
        self.way(seat, up).due_at.take_if(|at| *at <= now);
        while let Some((_, what)) = self.way(seat, up).link.poll_packet(now) {
            self.happen(what);
        }
        self.plan_link(seat, up);
    }

    fn plan_link(&mut self, seat: usize, up: bool) {
        let way = self.way(seat, up);
        if let Some(at) = way.link.poll_timeout()
            && way.due_at.is_none_or(|due| at < due)
        {
            way.due_at = Some(at);
            self.plan(at, What::Link { seat, up });
        }
    }

    fn way(&mut self, seat: usize, up: bool) -> &mut Way {
        let seat = &mut self.seats[seat];
        if up { &mut seat.up } else { &mut seat.down }
    }
}

impl Way {
    pub fn new(rng: StdRng) -> Self {
        Self { link: Link::new(LinkConfig::default(), rng), behind: None, due_at: None }
    }
}
