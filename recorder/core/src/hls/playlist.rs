//! Playlists (RFC 8216bis section 4).

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{LISTED, Live, PART, TARGET, codecs};

/// How far behind the end players stay, in parts.
const HOLD_BACK: i64 = 3;

/// Of this many segments before the end the parts are listed.
const WITH_PARTS: usize = 3;

/// The media playlist.
pub(super) fn write(live: &Live, query: &str) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
    line(&mut out, format_args!("#EXT-X-TARGETDURATION:{}", TARGET / 1_000_000_000));
    let hold_back = Seconds(HOLD_BACK * PART);
    line(&mut out, format_args!("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back}"));
    line(&mut out, format_args!("#EXT-X-PART-INF:PART-TARGET={}", Seconds(PART)));
    let whole = live.segments.iter().filter(|segment| segment.duration.is_some()).count();
    let skipped = whole.saturating_sub(LISTED);
    let unlisted = live.segments.iter().take(skipped);
    let changes = live.forgotten_changes + unlisted.filter(|segment| segment.changed).count() as u64;
    let first = live.segments.get(skipped).map_or(0, |segment| segment.number);
    line(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
    if changes > 0 {
        line(&mut out, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{changes}"));
    }
    let mut head = None;
    for (index, segment) in live.segments.iter().enumerate().skip(skipped) {
        if segment.changed {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if head != Some(segment.head) {
            head = Some(segment.head);
            line(&mut out, format_args!("#EXT-X-MAP:URI=\"init-{}.mp4{query}\"", segment.head));
        }
        let date = live.date + Duration::from_nanos(segment.began.max(0) as u64);
        line(&mut out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", Date(date)));
        let number = segment.number;
        let is_recent = index + WITH_PARTS >= live.segments.len();
        for (index, part) in segment.parts.iter().enumerate().filter(|_| is_recent) {
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let duration = Seconds(part.duration);
            let uri = format_args!("{number}.{index}.m4s{query}");
            line(&mut out, format_args!("#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}"));
        }
        if let Some(duration) = segment.duration {
            line(&mut out, format_args!("#EXTINF:{},\n{number}.m4s{query}", Seconds(duration)));
        }
    }
    if live.ended {
        out.push_str("#EXT-X-ENDLIST\n");
    } else {
        let (number, part) =
            live.open().map_or((live.next_number(), 0), |open| (open.number, open.parts.len()));
        line(&mut out, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{number}.{part}.m4s{query}\""));
    }
    out
}

/// The multivariant playlist with the one variant that there is.
pub(super) fn write_multivariant(live: &Live, address: &str, query: &str) -> String {
    let rate = |segment: &super::Segment| {
        segment.duration.map(|duration| segment.bytes() as u64 * 8_000_000_000 / duration.max(1) as u64)
    };
    let bandwidth = live.segments.iter().filter_map(rate).max().unwrap_or_default();
    let tracks = live.heads.back().map(|head| &head.tracks[..]).unwrap_or_default();
    let names: Vec<String> = tracks.iter().map(codecs::name).collect();
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
    let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{}\"", names.join(","));
    if let Some((width, height)) = tracks.iter().find_map(|track| track.size) {
        let _ = write!(out, ",RESOLUTION={width}x{height}");
    }
    line(&mut out, format_args!("\n{address}{query}"));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Text takes whatever is written.
    let _ = writeln!(out, "{text}");
}

/// Nanoseconds, shown in seconds.
struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = (self.0 + 500_000) / 1_000_000;
        write!(formatter, "{}.{:03}", millis / 1_000, millis % 1_000)
    }
}

/// A date, shown in RFC 3339.
pub(super) struct Date(pub SystemTime);

impl std::fmt::Display for Date {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let millis = since.subsec_millis();
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The year, month and day that is so many days after the first of January 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from the first of March 0000, so that the leap day is the last of a year; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day - first + 1)
}
