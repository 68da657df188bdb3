//! What the studio knows of one room.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::bridge::lanes::Bridges;
use crate::bridge::{LayerView, News, TrackNews};
use crate::ids::{ParticipantId, RoomId, TrackId, WorkerId};
use crate::media::MediaKind;

use super::Guest;

/// A room that is listened to.
#[derive(Debug, Default)]
pub(super) struct Hall {
    carriers: SmallVec<[WorkerId; 4]>,
    people: BTreeMap<ParticipantId, Person>,
    pub(super) guests: BTreeMap<ParticipantId, Guest>,
}

/// Somebody who is at home on a worker.
#[derive(Debug)]
struct Person {
    home: WorkerId,
    peer: Option<Arc<str>>,
    reachable: bool,
    tracks: BTreeMap<TrackId, Known>,
}

/// A track of theirs.
#[derive(Debug)]
struct Known {
    news: Box<TrackNews>,
    asked: u8,
    layers: Vec<LayerView>,
    /// The layers that come, one bit each.
    taken: u8,
}

impl Hall {
    /// The workers that carry the room.
    pub(super) fn carriers(&self) -> &[WorkerId] {
        &self.carriers
    }

    pub(super) fn is_carried_by(&self, worker: WorkerId) -> bool {
        self.carriers.contains(&worker)
    }

    /// Another one; `false` when it is known.
    pub(super) fn add_carrier(&mut self, worker: WorkerId) -> bool {
        let new = !self.is_carried_by(worker);
        if new {
            self.carriers.push(worker);
        }
        new
    }

    /// One less: nothing of what is here is for it.
    pub(super) fn remove_carrier(&mut self, worker: WorkerId) {
        self.carriers.retain(|carrier| *carrier != worker);
        for guest in self.guests.values_mut() {
            guest.release(worker);
        }
    }

    /// Takes what a worker tells of its people, but for who left ([`Hall::remove_person`]). `false` when it changes nothing, or is
    /// of somebody who is elsewhere.
    pub(super) fn learn(&mut self, from: WorkerId, news: &News) -> bool {
        match news {
            News::Joined { participant, peer } => {
                let Some(person) = self.person(from, *participant) else { return false };
                person.peer = Some(peer.clone());
                true
            }
            News::Track(news) => {
                let Some(person) = self.person(from, news.participant) else { return false };
                person.reachable = news.reachable;
                match person.tracks.get_mut(&news.id) {
                    Some(known) => known.news.clone_from(news),
                    None => drop(person.tracks.insert(news.id, Known::new(news.clone()))),
                }
                true
            }
            News::TrackGone { participant, track } => {
                let person = self.people.get_mut(participant).filter(|person| person.home == from);
                person.is_some_and(|person| person.tracks.remove(track).is_some())
            }
            News::Reachable { participant, reachable } => {
                let Some(person) = self.people.get_mut(participant).filter(|p| p.home == from) else {
                    return false;
                };
                person.reachable = *reachable;
                for known in person.tracks.values_mut() {
                    known.news.reachable = *reachable;
                }
                true
            }
            News::Layers { participant, track, asked, layers } => {
                let person = self.people.get_mut(participant).filter(|person| person.home == from);
                let Some(known) = person.and_then(|person| person.tracks.get_mut(track)) else {
                    return false;
                };
                (known.asked, known.layers) = (*asked, layers.clone());
                true
            }
            _ => false,
        }
    }

    /// All of it, as it was learned.
    pub(super) fn everything(&self) -> Vec<News> {
        let mut all = Vec::new();
        for (&participant, person) in &self.people {
            if let Some(peer) = person.peer.clone() {
                all.push(News::Joined { participant, peer });
            }
            for (&track, known) in &person.tracks {
                all.push(News::Track(known.news.clone()));
                let (asked, layers) = (known.asked, known.layers.clone());
                if !layers.is_empty() {
                    all.push(News::Layers { participant, track, asked, layers });
                }
            }
            if !person.reachable {
                all.push(News::Reachable { participant, reachable: false });
            }
        }
        all
    }

    /// Whose a track is, and where they are at home.
    pub(super) fn owner(&self, track: TrackId) -> Option<(ParticipantId, WorkerId)> {
        let (id, person) = self.people.iter().find(|(_, person)| person.tracks.contains_key(&track))?;
        Some((*id, person.home))
    }

    /// These layers of a track shall come, and no others.
    pub(super) fn take(&mut self, bridges: &mut Bridges, room: RoomId, track: TrackId, layers: u8) {
        let Some((&participant, person)) =
            self.people.iter_mut().find(|(_, person)| person.tracks.contains_key(&track))
        else {
            return;
        };
        let home = person.home;
        let Some(known) = person.tracks.get_mut(&track).filter(|k| k.news.section.kind == MediaKind::Video)
        else {
            return;
        };
        let changed = known.taken ^ layers;
        if changed == 0 {
            return;
        }
        known.taken = layers;
        bridges.tell(home, room, News::Wanted { participant, track, layers });
        for layer in (0..8).filter(|layer| changed & 1 << layer != 0) {
            let on = layers & 1 << layer != 0;
            bridges.tell(home, room, News::Take { participant, track, layer, on });
        }
    }

    /// Somebody on this worker has left. Returns their tracks; `None` when they are unknown or elsewhere.
    pub(super) fn remove_person(&mut self, home: WorkerId, id: ParticipantId) -> Option<Vec<TrackId>> {
        self.people.get(&id).filter(|person| person.home == home)?;
        Some(self.people.remove(&id)?.tracks.into_keys().collect())
    }

    /// Nobody is known on that worker any more. Returns who it was, and their tracks.
    pub(super) fn drop_people(&mut self, worker: WorkerId) -> Vec<(ParticipantId, Vec<TrackId>)> {
        let mut gone = Vec::new();
        self.people.retain(|id, person| {
            let stays = person.home != worker;
            if !stays {
                gone.push((*id, person.tracks.keys().copied().collect()));
            }
            stays
        });
        gone
    }

    /// Somebody on this worker, who may be new; `None` when they are elsewhere.
    fn person(&mut self, home: WorkerId, id: ParticipantId) -> Option<&mut Person> {
        let new = || Person { home, peer: None, reachable: true, tracks: BTreeMap::new() };
        let person = self.people.entry(id).or_insert_with(new);
        (person.home == home).then_some(person)
    }
}

impl Known {
    fn new(news: Box<TrackNews>) -> Self {
        Self { news, asked: u8::MAX, layers: Vec::new(), taken: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Mid;
    use crate::media::{ExtensionIds, Source};
    use crate::sdp::PublishedSection;

    const HOME: WorkerId = WorkerId(0);
    const ANA: ParticipantId = ParticipantId(1);

    fn track(id: TrackId, reachable: bool) -> News {
        let section = PublishedSection {
            kind: MediaKind::Audio,
            active: true,
            codecs: SmallVec::new(),
            layers: SmallVec::new(),
        };
        News::Track(Box::new(TrackNews {
            participant: ANA,
            reachable,
            id,
            mid: Mid::new("0").unwrap(),
            section,
            source: Source::Microphone,
            muted: false,
            published: 0,
            extensions: ExtensionIds::default(),
        }))
    }

    #[test]
    fn who_can_be_reached_again_is_told_as_such() {
        let mut hall = Hall::default();
        assert!(hall.learn(HOME, &track(TrackId(1), false)));
        for reachable in [true, false] {
            assert!(hall.learn(HOME, &News::Reachable { participant: ANA, reachable }));
            let all = hall.everything();
            let tracks = all.iter().filter_map(|news| match news {
                News::Track(track) => Some(track.reachable),
                _ => None,
            });
            assert_eq!(tracks.collect::<Vec<_>>(), [reachable]);
            assert_eq!(all.iter().any(|news| matches!(news, News::Reachable { .. })), !reachable);
        }
    }

    #[test]
    fn only_their_home_tells_that_somebody_left_and_their_tracks_go_along() {
        let mut hall = Hall::default();
        for id in [1, 2] {
            hall.learn(HOME, &track(TrackId(id), true));
        }
        assert_eq!(hall.remove_person(WorkerId(1), ANA), None);
        assert_eq!(hall.remove_person(HOME, ANA), Some(vec![TrackId(1), TrackId(2)]));
        assert_eq!(hall.remove_person(HOME, ANA), None, "once");
        assert!(hall.everything().is_empty());
    }
}
