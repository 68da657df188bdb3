//! Which track each slot of a subscriber shows. Pure: ranking in, assignment out.
//!
//! Video: what the client asked for by name, then pinned, then speaking, then recent, as many as there are slots; what
//! is shown already stays where it is. Audio: the slot paired with a video slot carries the voice of whoever is shown
//! there; all other slots carry the rest, all of them when they suffice, the loudest otherwise.

use crate::ids::TrackId;

/// A published track of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackRef {
    /// The publisher's index in the room.
    pub participant: u32,
    /// The track's index among the publisher's.
    pub track: u32,
    /// The track's identity.
    pub id: TrackId,
}

/// What a client wants of a video slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What the ranking gives.
    Ranked,
    /// This track; `None` when it is not there or shall be nothing.
    Fixed(Option<TrackRef>),
}

/// A video slot as the assignment sees it.
#[derive(Clone, Copy, Debug)]
pub struct VideoSlot {
    /// What it shows now.
    pub shows: Option<TrackRef>,
    /// What is wanted of it.
    pub want: Want,
}

/// Assigns video: one entry per slot. `ranked` has the candidates, the most wanted first, without duplicates.
pub fn assign_video(slots: &[VideoSlot], ranked: &[TrackRef], out: &mut Vec<Option<TrackRef>>) {
    out.clear();
    out.extend(slots.iter().map(|slot| match slot.want {
        Want::Fixed(track) => track,
        Want::Ranked => None,
    }));
    let free = slots.iter().filter(|s| s.want == Want::Ranked).count();
    let fixed = |track: &TrackRef| slots.iter().any(|s| s.want == Want::Fixed(Some(*track)));
    let chosen: Vec<TrackRef> = ranked.iter().filter(|t| !fixed(t)).take(free).copied().collect();
    let places: Vec<Option<TrackRef>> =
        slots.iter().map(|s| s.shows.filter(|_| s.want == Want::Ranked)).collect();
    let usable: Vec<bool> = slots.iter().map(|s| s.want == Want::Ranked).collect();
    place(&chosen, &places, &usable, out);
}

/// An audio slot as the assignment sees it.
#[derive(Clone, Copy, Debug)]
pub struct AudioSlot {
    /// What it carries now.
    pub shows: Option<TrackRef>,
    /// The sound that belongs to the picture of its paired video slot, which must be here or nowhere.
    /// `None` for a slot without a pair, or whose pair shows nothing.
    pub reserved: Option<TrackRef>,
}

/// Assigns audio: one entry per slot. `ranked` has all other participants' tracks, the loudest first.
pub fn assign_audio(slots: &[AudioSlot], ranked: &[TrackRef], out: &mut Vec<Option<TrackRef>>) {
    out.clear();
    out.extend(slots.iter().map(|slot| slot.reserved));
    let usable: Vec<bool> = slots.iter().map(|s| s.reserved.is_none()).collect();
    let free = usable.iter().filter(|u| **u).count();
    let reserved = |track: &TrackRef| slots.iter().any(|s| s.reserved == Some(*track));
    let chosen: Vec<TrackRef> = ranked.iter().filter(|t| !reserved(t)).take(free).copied().collect();
    let places: Vec<Option<TrackRef>> = slots.iter().map(|s| s.shows).collect();
    place(&chosen, &places, &usable, out);
}

/// Puts the chosen tracks into the usable slots: each stays where it is shown already, the others fill the gaps.
fn place(chosen: &[TrackRef], shown: &[Option<TrackRef>], usable: &[bool], out: &mut [Option<TrackRef>]) {
    let mut waiting: Vec<TrackRef> = chosen.to_vec();
    let mut gaps: Vec<usize> = Vec::new();
    for i in (0..out.len()).filter(|&i| usable[i]) {
        match shown[i].and_then(|shown| waiting.iter().position(|t| *t == shown)) {
            Some(place) => out[i] = Some(waiting.remove(place)),
            None => gaps.push(i),
        }
    }
    for (gap, track) in gaps.into_iter().zip(waiting) {
        out[gap] = Some(track);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(n: u32) -> TrackRef {
        TrackRef { participant: n, track: 0, id: TrackId(u64::from(n)) }
    }

    fn video(slots: &[VideoSlot], ranked: &[u32]) -> Vec<Option<u32>> {
        let ranked: Vec<TrackRef> = ranked.iter().map(|n| track(*n)).collect();
        let mut out = Vec::new();
        assign_video(slots, &ranked, &mut out);
        out.iter().map(|t| t.map(|t| t.participant)).collect()
    }

    fn ranked_slot(shows: Option<u32>) -> VideoSlot {
        VideoSlot { shows: shows.map(track), want: Want::Ranked }
    }

    #[test]
    fn what_is_shown_stays_where_it_is() {
        let slots = [ranked_slot(Some(3)), ranked_slot(None), ranked_slot(Some(1))];
        assert_eq!(video(&slots, &[1, 2, 3]), [Some(3), Some(2), Some(1)]);
    }

    #[test]
    fn a_new_speaker_takes_the_place_of_the_least_wanted_only() {
        let slots = [ranked_slot(Some(1)), ranked_slot(Some(2)), ranked_slot(Some(3))];
        assert_eq!(video(&slots, &[9, 1, 3, 2]), [Some(1), Some(9), Some(3)]);
    }

    #[test]
    fn a_client_can_name_a_track_or_nothing() {
        let named = VideoSlot { shows: None, want: Want::Fixed(Some(track(2))) };
        let nothing = VideoSlot { shows: Some(track(1)), want: Want::Fixed(None) };
        assert_eq!(video(&[named, nothing, ranked_slot(None)], &[2, 1]), [Some(2), None, Some(1)]);
    }

    #[test]
    fn a_track_is_never_in_two_ranked_slots() {
        let slots = [ranked_slot(Some(1)), ranked_slot(Some(1)), ranked_slot(None)];
        assert_eq!(video(&slots, &[1, 2]), [Some(1), Some(2), None]);
    }

    fn audio(slots: &[(Option<u32>, Option<u32>)], ranked: &[u32]) -> Vec<Option<u32>> {
        let slots: Vec<AudioSlot> =
            slots.iter().map(|s| AudioSlot { shows: s.0.map(track), reserved: s.1.map(track) }).collect();
        let ranked: Vec<TrackRef> = ranked.iter().map(|n| track(*n)).collect();
        let mut out = Vec::new();
        assign_audio(&slots, &ranked, &mut out);
        out.iter().map(|t| t.map(|t| t.participant)).collect()
    }

    #[test]
    fn everybody_is_heard_when_the_slots_suffice() {
        let slots = [(None, None), (None, None), (Some(2), None)];
        assert_eq!(audio(&slots, &[1, 2, 3]), [Some(1), Some(3), Some(2)]);
    }

    #[test]
    fn a_paired_slot_carries_whoever_its_picture_shows() {
        let slots = [(Some(5), Some(1)), (None, None), (None, None)];
        assert_eq!(audio(&slots, &[5, 6, 1]), [Some(1), Some(5), Some(6)]);
    }

    #[test]
    fn the_loudest_win_when_the_slots_do_not_suffice() {
        let slots = [(Some(1), None), (Some(2), None)];
        assert_eq!(audio(&slots, &[7, 2, 1]), [Some(7), Some(2)]);
    }
}
