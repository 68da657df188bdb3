//! Who is seen when: the recording in stretches in which that stays the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use veche_recorder_core::manifest::{File, Manifest, Source};

use crate::Look;
use crate::layout::{self, Layout, MOST_IN_GRID, MOST_IN_STRIP, Place};

/// All that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The names of the files, to which tiles and sounds refer by number.
    pub files: Vec<String>,
    /// Pictures, one stretch behind the other.
    pub stretches: Vec<Stretch>,
    /// What sounds from when on.
    pub sounds: Vec<Sound>,
    /// How long it is.
    pub duration_ms: u64,
}

/// A time in which the same tiles are at the same places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// When it begins, at a picture.
    pub from_ms: u64,
    /// How many pictures it has.
    pub pictures: u64,
    /// From the back to the front.
    pub tiles: Vec<Tile>,
}

/// Somebody, or their screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tile {
    /// Where.
    pub place: Place,
    /// What is seen; nothing of somebody whose camera is off.
    pub view: Option<View>,
    /// Shown in the tile: one line, without what could mislead.
    pub name: String,
}

/// A track of a file from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The number of the file.
    pub file: usize,
    /// Which of its tracks of pictures.
    pub track: usize,
    /// From where in the file.
    pub from_ms: u64,
}

/// A track that sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sound {
    /// The number of the file.
    pub file: usize,
    /// Which of its tracks of sound.
    pub track: usize,
    /// When the file begins.
    pub offset_ms: u64,
}

/// Who speaks for less does not become large.
const LEAST_SPEECH_MS: u64 = 1_000;

/// A name is cut here.
const LONGEST_NAME: usize = 40;

impl Plan {
    /// The plan for a manifest that was checked.
    pub fn new(manifest: &Manifest, look: &Look) -> Self {
        let scene = Scene { manifest, look, speakers: speakers(manifest) };
        let mut stretches: Vec<Stretch> = Vec::new();
        let picture = |ms: u64| ms.saturating_mul(look.rate.into()).saturating_add(500) / 1_000;
        let cuts: Vec<u64> = scene.cuts().into_iter().collect();
        for around in cuts.windows(2) {
            let pictures = picture(around[1]).saturating_sub(picture(around[0]));
            let from_ms = picture(around[0]) * 1_000 / u64::from(look.rate);
            // What is shown is what is there in the middle: at its ends files begin and end.
            let tiles = scene.tiles(u64::midpoint(around[0], around[1]), from_ms);
            if pictures > 0 {
                stretches.push(Stretch { from_ms, pictures, tiles });
            }
        }
        let files = manifest.files.iter().map(|file| file.name.clone()).collect();
        Self { files, stretches, sounds: sounds(manifest), duration_ms: manifest.duration_ms }
    }
}

/// What everything is decided from.
struct Scene<'a> {
    manifest: &'a Manifest,
    look: &'a Look,
    /// Who speaks from when on, without those who only cough.
    speakers: Vec<(u64, &'a str)>,
}

impl<'a> Scene<'a> {
    /// All times at which something may change, with both ends.
    fn cuts(&self) -> BTreeSet<u64> {
        let end = self.manifest.duration_ms;
        let mut cuts = BTreeSet::from([0, end]);
        for file in self.manifest.files.iter().filter(|file| pictures_of(file).next().is_some()) {
            cuts.extend([file.offset_ms, file.end_ms()]);
        }
        for participant in &self.manifest.participants {
            cuts.insert(participant.joined_ms);
            cuts.extend(participant.left_ms);
        }
        cuts.extend(self.speakers.iter().map(|(from, _)| *from));
        cuts.retain(|cut| *cut <= end);
        cuts
    }

    /// What is seen at a time, in a stretch that begins at `from_ms`.
    fn tiles(&self, at: u64, from_ms: u64) -> Vec<Tile> {
        let people = self.people(at);
        let screen = self.manifest.participants.iter().find_map(|participant| {
            Some((participant.id.as_str(), self.view(&participant.id, Source::Screen, at, from_ms)?))
        });
        let tile = |place, id: &str, view, suffix| Tile { place, view, name: self.name(id) + suffix };
        let camera = |id: &str| self.view(id, Source::Camera, at, from_ms);
        let size = self.look.size;
        let large = match (self.look.layout, screen) {
            // In a grid a screen is one tile among others.
            (Layout::Grid, screen) => {
                let screens = screen.into_iter().map(|(id, view)| (id, Some(view), " (screen)"));
                let shown: Vec<_> =
                    screens.chain(people.iter().map(|id| (*id, camera(id), ""))).take(MOST_IN_GRID).collect();
                let places = layout::grid(shown.len(), size);
                let tiles = places.into_iter().zip(shown);
                return tiles.map(|(place, (id, view, suffix))| tile(place, id, view, suffix)).collect();
            }
            (Layout::Screen, Some((id, view))) => Some((id, Some(view), " (screen)")),
            _ => people.first().map(|id| (*id, camera(id), "")),
        };
        let Some((large_id, view, suffix)) = large else { return Vec::new() };
        let is_screen = !suffix.is_empty();
        let beside = people.iter().filter(|id| is_screen || **id != large_id).take(MOST_IN_STRIP);
        let beside: Vec<&&str> = beside.collect();
        let mut places = layout::strip(beside.len(), size).into_iter();
        let mut tiles: Vec<Tile> =
            places.next().map(|place| tile(place, large_id, view, suffix)).into_iter().collect();
        tiles.extend(places.zip(beside).map(|(place, id)| tile(place, id, camera(id), "")));
        tiles
    }

    /// Who is there: in a grid as they came while all have a place; else who spoke last first.
    fn people(&self, at: u64) -> Vec<&'a str> {
        let here = self.manifest.participants.iter().filter(|participant| {
            participant.joined_ms <= at && participant.left_ms.is_none_or(|left| at < left)
        });
        let mut people: Vec<&str> = here.map(|participant| participant.id.as_str()).collect();
        if self.look.layout != Layout::Grid || people.len() > MOST_IN_GRID {
            let last: HashMap<&str, u64> = self
                .speakers
                .iter()
                .filter(|(from, _)| *from <= at)
                .map(|(from, id)| (*id, from + 1))
                .collect();
            people.sort_by_key(|id| std::cmp::Reverse(last.get(id).copied().unwrap_or_default()));
        }
        people
    }

    /// What there is of somebody at a time.
    fn view(&self, id: &str, source: Source, at: u64, from_ms: u64) -> Option<View> {
        self.manifest.files.iter().enumerate().find_map(|(number, file)| {
            let is_theirs = file.participant.as_deref() == Some(id);
            if !is_theirs || at < file.offset_ms || at >= file.end_ms() {
                return None;
            }
            let track = pictures_of(file).position(|found| found == source)?;
            Some(View { file: number, track, from_ms: from_ms.saturating_sub(file.offset_ms) })
        })
    }

    fn name(&self, id: &str) -> String {
        let named = self.manifest.participants.iter().find(|participant| participant.id == id);
        shown(named.map_or("", |participant| &participant.name))
    }
}

/// The sources of a file's tracks of pictures.
fn pictures_of(file: &File) -> impl Iterator<Item = Source> {
    let sources = file.tracks.iter().map(|track| track.source);
    sources.filter(|source| matches!(source, Source::Camera | Source::Screen))
}

/// What sounds: the mix of the room where there is one, or else everybody's tracks.
fn sounds(manifest: &Manifest) -> Vec<Sound> {
    let of = |is_wanted: fn(Source) -> bool| {
        let files = manifest.files.iter().enumerate();
        let tracks = files.flat_map(move |(number, file)| {
            let sounds = file.tracks.iter().map(|track| track.source);
            let sounds =
                sounds.filter(|source| !matches!(source, Source::Camera | Source::Screen)).enumerate();
            let wanted = sounds.filter(move |(_, source)| is_wanted(*source));
            wanted.map(move |(track, _)| Sound { file: number, track, offset_ms: file.offset_ms })
        });
        tracks.collect::<Vec<_>>()
    };
    let mix = of(|source| source == Source::Mix);
    if mix.is_empty() { of(|source| matches!(source, Source::Microphone | Source::ScreenAudio)) } else { mix }
}

/// Who speaks from when on: whoever is silent again at once has not spoken, and who pauses speaks on.
fn speakers(manifest: &Manifest) -> Vec<(u64, &str)> {
    let mut changes: Vec<_> = manifest.speakers.iter().collect();
    changes.sort_by_key(|change| change.offset_ms);
    let ends = changes.iter().skip(1).map(|next| next.offset_ms).chain([manifest.duration_ms]);
    let mut speakers: Vec<(u64, &str)> = Vec::new();
    for (change, end) in changes.iter().zip(ends) {
        let Some(id) = change.participant.as_deref() else { continue };
        let is_long = end.saturating_sub(change.offset_ms) >= LEAST_SPEECH_MS;
        if is_long && speakers.last().is_none_or(|(_, last)| *last != id) {
            speakers.push((change.offset_ms, id));
        }
    }
    speakers
}

/// A name as it is shown: one line of a length that fits, without marks that turn the direction of writing.
fn shown(name: &str) -> String {
    let is_hidden = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let line: String =
        name.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_hidden(c)).collect();
    let line = line.trim();
    if line.chars().count() <= LONGEST_NAME {
        return line.to_owned();
    }
    line.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
}
