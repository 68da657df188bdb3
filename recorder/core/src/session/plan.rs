//! What is recorded, and in which files.

use std::time::{SystemTime, UNIX_EPOCH};

use veche_sfu_core::ids::TrackId;
use veche_sfu_core::media::Source;

use crate::manifest::{Manifest, VERSION};

/// What is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The recording's name.
    pub id: String,
    /// The room's name.
    pub room: String,
    /// Peers of whom something is recorded; empty: of all.
    pub peers: Vec<String>,
    /// Tracks that are recorded; empty: all.
    pub tracks: Vec<TrackId>,
    /// How tracks are put into files.
    pub layout: Layout,
}

/// How tracks are put into files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Somebody's voice and camera in one file, their screen and its sound in another.
    #[default]
    Person,
    /// Each track in a file of its own.
    Track,
}

/// The tracks that share files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Voice and camera.
    Person,
    /// Screen and its sound.
    Screen,
    /// What shows this.
    Only(Source),
}

/// What people call somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Their name for people.
    pub name: String,
    /// Which user they are, where that is known.
    pub user: Option<String>,
}

/// So much of a peer's name is in the names of their files, in characters.
const MAX_SLUG: usize = 32;

impl Plan {
    /// Whether a track of a peer is recorded.
    pub(super) fn covers(&self, peer: &str, track: TrackId) -> bool {
        (self.peers.is_empty() || self.peers.iter().any(|p| p == peer))
            && (self.tracks.is_empty() || self.tracks.contains(&track))
    }

    /// The manifest of a recording that begins now.
    pub(super) fn manifest(&self, date: SystemTime) -> Manifest {
        Manifest {
            version: VERSION,
            id: self.id.clone(),
            room: self.room.clone(),
            started_at: rfc3339(date),
            ended_at: None,
            duration_ms: 0,
            end: None,
            encrypted: false,
            participants: Vec::new(),
            files: Vec::new(),
            speakers: Vec::new(),
            gaps: Vec::new(),
        }
    }
}

impl Layout {
    pub(super) fn group(self, source: Source) -> Group {
        match (self, source) {
            (Layout::Track, source) => Group::Only(source),
            (Layout::Person, Source::Microphone | Source::Camera) => Group::Person,
            (Layout::Person, Source::Screen | Source::ScreenAudio) => Group::Screen,
        }
    }
}

/// How the names of files begin of somebody who is the n-th in the manifest and has so many reels already.
pub(super) fn file_stem(person: usize, peer: &str, group: Group, reels: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let slug: String = peer.chars().map(plain).take(MAX_SLUG).collect();
    let what = match group {
        Group::Person => "person",
        Group::Screen | Group::Only(Source::Screen) => "screen",
        Group::Only(Source::Microphone) => "microphone",
        Group::Only(Source::Camera) => "camera",
        Group::Only(Source::ScreenAudio) => "screen-audio",
    };
    let more = if reels < 2 { String::new() } else { format!("-{reels}") };
    format!("{:03}-{slug}-{what}{more}", person + 1)
}

/// A time on the wall as RFC 3339, in UTC with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The date of a day since 1970, in the Gregorian calendar. Years are counted from March, so that leap days end them.
fn civil(days: i64) -> (i64, i64, i64) {
    // From the first of March of the year 0 on; an era of 400 years has 146,097 days.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: u64| rfc3339(UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_795_341_599), "2026-11-22T09:59:59.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }

    #[test]
    fn what_somebody_is_called_leads_nowhere() {
        let stem = |peer, reels| file_stem(0, peer, Group::Person, reels);
        assert_eq!(stem("../../etc", 0), "001-------etc-person");
        assert_eq!(stem("анна", 2), "001------person-2");
        assert!(stem(&"x".repeat(99), 0).len() < 60);
    }

    #[test]
    fn a_plan_covers_what_it_names() {
        let all = Plan::default();
        assert!(all.covers("ann", TrackId(1)));
        let some = Plan { peers: vec!["ann".to_owned()], tracks: vec![TrackId(1)], ..Plan::default() };
        assert!(some.covers("ann", TrackId(1)));
        assert!(!some.covers("bob", TrackId(1)) && !some.covers("ann", TrackId(2)));
    }
}
