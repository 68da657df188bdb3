//! Stories of whole negotiations. The offers in `testdata/` were captured from Chromium 156, Firefox 153 and aiortc.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::parser::{Attributes as _, parse};
use super::*;
use crate::control::SectionLabels;
use crate::engine::Candidate;
use crate::ids::{Mid, Ssrc, WorkerId};
use crate::media::{Codec, Extension, MediaKind};

macro_rules! captured {
    ($($name:literal),+) => { [$(include_str!(concat!("testdata/", $name, ".sdp"))),+] };
}

/// What one browser session offers, in this order: data, two tracks and five slots; two slots more; camera and a slot
/// stopped; both recycled and a section added; ICE restarted; two sections inactive; a screen shared.
const CHROMIUM: [&str; 7] = captured!(
    "chromium_first",
    "chromium_grown",
    "chromium_stopped",
    "chromium_recycled",
    "chromium_restart",
    "chromium_inactive",
    "chromium_screen"
);
const FIREFOX: [&str; 7] = captured!(
    "firefox_first",
    "firefox_grown",
    "firefox_stopped",
    "firefox_recycled",
    "firefox_restart",
    "firefox_inactive",
    "firefox_screen"
);
const AIORTC: [&str; 2] = captured!("aiortc_first", "aiortc_grown");
/// Both tracks `sendrecv`, without simulcast.
const CHROMIUM_PLAIN: [&str; 1] = captured!("chromium_plain");

const FINGERPRINT: &str =
    "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F";

fn negotiator(seed: u64) -> Negotiator {
    let candidate = |tcp| Candidate { address: "192.0.2.1:9000".parse().unwrap(), tcp };
    let local = LocalDescription {
        candidates: vec![candidate(false), candidate(true)],
        fingerprint: Fingerprint([0xab; 32]),
        max_message_size: 262_144,
        worker: WorkerId(0),
    };
    Negotiator::new(local, StdRng::seed_from_u64(seed))
}

fn answer(negotiator: &mut Negotiator, offer: &str) -> Negotiation {
    negotiator.answer(offer, &SectionLabels::default()).expect("a sound offer")
}

fn refuse(negotiator: &mut Negotiator, offer: &str) -> OfferError {
    let error = negotiator.answer(offer, &SectionLabels::default()).expect_err("an unusable offer");
    assert!(error.line <= offer.lines().count() && !error.reason.is_empty());
    error
}

/// A hand-made offer of these sections, each written by [`section`], all in one BUNDLE group.
fn offer(sections: &[String]) -> String {
    let mids = sections.iter().flat_map(|s| s.lines()).filter_map(|line| line.strip_prefix("a=mid:"));
    let bundle = mids.collect::<Vec<_>>().join(" ");
    format!(
        "v=0\no=- 7 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE {bundle}\na=ice-ufrag:abcd\n\
         a=ice-pwd:0123456789012345678901\na=fingerprint:sha-256 {FINGERPRINT}\na=setup:actpass\n{}",
        sections.concat()
    )
}

/// A section with the codecs of its kind.
fn section(mid: &str, kind: &str, direction: &str) -> String {
    let codecs = match kind {
        "audio" => "111\na=rtpmap:111 opus/48000/2",
        _ => "96 97\na=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96",
    };
    format!("m={kind} 9 UDP/TLS/RTP/SAVPF {codecs}\na=mid:{mid}\na={direction}\na=rtcp-mux\n")
}

fn stopped(mid: &str, kind: &str) -> String {
    format!("m={kind} 0 UDP/TLS/RTP/SAVPF 96\na=mid:{mid}\na=inactive\n")
}

fn data(mid: &str) -> String {
    format!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:{mid}\na=sctp-port:5000\n")
}

fn slot(negotiation: &Negotiation, index: usize) -> &SlotSection {
    match &negotiation.sections[index].usage {
        SectionUse::Slot(slot) => slot,
        other => panic!("section {index} is {other:?}"),
    }
}

fn published(negotiation: &Negotiation, index: usize) -> &PublishedSection {
    match &negotiation.sections[index].usage {
        SectionUse::Published(published) => published,
        other => panic!("section {index} is {other:?}"),
    }
}

/// One letter per section: published, slot, data or stopped; upper case for video, in brackets when inactive.
fn shape(negotiation: &Negotiation) -> String {
    let letter = |letter: &str, kind: MediaKind, active: bool| {
        let letter = if kind == MediaKind::Video { letter.to_uppercase() } else { letter.to_owned() };
        if active { letter } else { format!("({letter})") }
    };
    let one = |section: &Section| match &section.usage {
        SectionUse::Stopped => "-".to_owned(),
        SectionUse::Data(_) => "d".to_owned(),
        SectionUse::Published(p) => letter("p", p.kind, p.active),
        SectionUse::Slot(s) => letter("s", s.kind, s.active),
    };
    negotiation.sections.iter().map(one).collect()
}

/// The lines of one section of an answer.
fn answered(negotiation: &Negotiation, index: usize) -> Vec<&str> {
    let section = negotiation.answer.split("\r\nm=").nth(index + 1).unwrap();
    section.lines().collect()
}

#[test]
fn browsers_are_answered_all_along_their_sessions() {
    let shapes = [
        (CHROMIUM, ["pPssSSSd", "pPssSSSdSS", "p-s-SSSdSS", "psssSSSdSSP"]),
        (FIREFOX, ["pPssSSSd", "pPssSSSdSS", "p-s-SSSdSS", "pPssSSSdSSs"]),
    ];
    for (offers, shapes) in shapes {
        let mut negotiator = negotiator(1);
        let mut all: Vec<Negotiation> = Vec::new();
        for (index, offer) in offers.iter().enumerate() {
            let negotiation = answer(&mut negotiator, offer);
            assert_eq!(negotiation.new_session, index == 0);
            assert_eq!(negotiation.ice_restarted, index == 4);
            all.push(negotiation);
        }
        for (negotiation, shape_wanted) in all.iter().zip(shapes) {
            assert_eq!(shape(negotiation), shape_wanted);
        }
        let last = all.last().unwrap();
        assert!(shape(last).starts_with("(p)"), "the microphone is inactive, and still published");
        assert_eq!(slot(&all[0], 2).ssrc, slot(last, 2).ssrc, "a slot keeps its SSRC");
        assert_ne!(all[3].ice_local, all[4].ice_local);
        assert_eq!(all[4].ice_local, all[6].ice_local);
    }
}

#[test]
fn a_browsers_simulcast_is_answered_by_rid() {
    for offers in [CHROMIUM, FIREFOX] {
        let negotiation = answer(&mut negotiator(1), offers[0]);
        let camera = published(&negotiation, 1);
        let rids: Vec<_> = camera.layers.iter().map(|l| l.rid.as_ref().unwrap().as_str()).collect();
        assert_eq!(rids, ["q", "h", "f"]);
        let lines = answered(&negotiation, 1);
        for line in ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f", "a=recvonly"] {
            assert!(lines.contains(&line), "{line}");
        }
        assert!(negotiation.extensions.id(Extension::Rid).is_some());
        assert!(negotiation.writable_extensions.id(Extension::Rid).is_none());
        assert!(negotiation.writable_extensions.id(Extension::Mid).is_some());
    }
    let chromium = answer(&mut negotiator(1), CHROMIUM[0]);
    let codecs: Vec<Codec> = published(&chromium, 1).codecs.iter().map(|c| c.codec).collect();
    assert_eq!(
        (codecs[0], codecs.contains(&Codec::H264), codecs.contains(&Codec::Av1)),
        (Codec::Vp8, true, true)
    );
    assert!(published(&chromium, 1).codecs.iter().all(|c| c.rtx.is_some() && c.pli && c.transport_cc));
    assert!(published(&chromium, 0).codecs[0].red.is_some());
    for index in [2, 3] {
        assert!(slot(&chromium, index).codecs[0].red.is_some(), "RED in slots");
        let lines = answered(&chromium, index);
        assert!(lines.contains(&"a=rtpmap:63 red/48000/2") && lines.contains(&"a=fmtp:63 111/111"));
    }
    assert_eq!(chromium.extensions.id(Extension::DependencyDescriptor), Some(12));
    let firefox = answer(&mut negotiator(1), FIREFOX[0]);
    assert_eq!(firefox.extensions.id(Extension::DependencyDescriptor), Some(8));
    assert_eq!(
        firefox.writable_extensions.id(Extension::DependencyDescriptor),
        None,
        "Firefox only sends it"
    );
}

#[test]
fn sendrecv_without_simulcast_is_published_by_ssrc() {
    let negotiation = answer(&mut negotiator(1), CHROMIUM_PLAIN[0]);
    assert_eq!(shape(&negotiation), "pP");
    let layers = &published(&negotiation, 1).layers;
    assert_eq!(layers.len(), 1);
    assert!(layers[0].ssrc.is_some() && layers[0].rtx_ssrc.is_some() && layers[0].rid.is_none());
    assert!(answered(&negotiation, 1).contains(&"a=recvonly"));
}

#[test]
fn aiortc_keeps_its_session_though_it_changes_the_o_line() {
    let mut negotiator = negotiator(1);
    let first = answer(&mut negotiator, AIORTC[0]);
    let grown = answer(&mut negotiator, AIORTC[1]);
    assert_ne!(parse(AIORTC[0]).unwrap().origin, parse(AIORTC[1]).unwrap().origin);
    assert!(first.new_session && !grown.new_session && !grown.ice_restarted);
    assert_eq!(shape(&first), "pPsSd");
    assert_eq!(shape(&grown), "pPsSdS");
    assert_eq!(slot(&first, 3).ssrc, slot(&grown, 3).ssrc);
}

#[test]
fn a_slot_says_what_browsers_need_to_repair_and_to_separate_it() {
    let mut sections = vec![section("a", "audio", "recvonly"), section("v", "video", "recvonly")];
    sections.push(section("w", "video", "recvonly"));
    let labels = SectionLabels {
        pairs: vec![("a", "v"), ("a", "w"), ("x", "w")]
            .into_iter()
            .map(|(a, v)| (Mid::new(a).unwrap(), Mid::new(v).unwrap()))
            .collect(),
        ..SectionLabels::default()
    };
    let negotiation = negotiator(1).answer(&offer(&sections), &labels).unwrap();
    let (video, cname) = (slot(&negotiation, 1), &negotiation.cname);
    let lines = answered(&negotiation, 1);
    for line in [
        "a=mid:v".to_owned(),
        "a=sendonly".to_owned(),
        "a=rtcp-mux".to_owned(),
        "a=msid:slot-a track-v".to_owned(),
        format!("a=ssrc-group:FID {} {}", video.ssrc, video.rtx_ssrc),
        format!("a=ssrc:{} cname:{cname}", video.ssrc),
        format!("a=ssrc:{} cname:{cname}", video.rtx_ssrc),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}");
    }
    let audio = answered(&negotiation, 0);
    assert!(audio.contains(&"a=msid:slot-a track-a"));
    assert_eq!(audio.iter().filter(|line| line.starts_with("a=ssrc")).count(), 1, "no RTX, no FID");
    assert_eq!(slot(&negotiation, 0).pair.as_ref().unwrap().as_str(), "v");
    assert_eq!(video.pair.as_ref().unwrap().as_str(), "a");
    assert!(answered(&negotiation, 2).contains(&"a=msid:slot-w track-w"), "a is taken, and x is not there");
}

#[test]
fn the_transport_stands_in_the_answer() {
    let sections = [section("a", "audio", "sendonly"), section("v", "video", "recvonly"), data("d")];
    let negotiation = answer(&mut negotiator(1), &offer(&sections));
    assert!(negotiation.answer.contains("\r\na=group:BUNDLE a v d\r\na=ice-lite\r\n"));
    for index in 0..3 {
        let lines = answered(&negotiation, index);
        assert!(lines.contains(&"a=setup:passive"));
        assert!(lines.contains(&format!("a=ice-ufrag:{}", negotiation.ice_local.ufrag).as_str()));
        let candidates = lines.iter().filter(|line| line.starts_with("a=candidate:")).count();
        assert_eq!(candidates, if index == 0 { 2 } else { 0 });
        assert_eq!(lines.contains(&"a=end-of-candidates"), index == 0);
    }
    assert!(answered(&negotiation, 2).contains(&"a=max-message-size:262144"));
    assert!(negotiation.ice_local.ufrag.len() >= 8 && negotiation.ice_local.pwd.len() >= 24);
    assert_eq!(negotiation.ice_remote.ufrag, "abcd");
    assert_eq!(negotiation.fingerprint.0[31], 31);
    let SectionUse::Data(sctp) = &negotiation.sections[2].usage else { panic!("data") };
    assert_eq!((sctp.remote_port, sctp.max_message_size), (5000, 65_536));
}

#[test]
fn candidates_go_to_the_first_section_that_is_accepted() {
    let foreign = section("a", "audio", "sendonly").replace("opus", "speex");
    let negotiation = answer(&mut negotiator(1), &offer(&[foreign, section("v", "video", "sendonly")]));
    assert_eq!(shape(&negotiation), "-P", "without a common codec a section is rejected, not the offer");
    assert!(negotiation.answer.contains("a=group:BUNDLE v\r\n"));
    assert_eq!(answered(&negotiation, 0)[0], "audio 0 UDP/TLS/RTP/SAVPF 111");
    assert!(answered(&negotiation, 1).contains(&"a=end-of-candidates"));
}

#[test]
fn dtls_roles_are_ours_to_choose_once() {
    let with = |setup: &str| offer(&[data("0")]).replace("actpass", setup);
    for (setup, role) in
        [("actpass", SetupRole::Passive), ("active", SetupRole::Passive), ("passive", SetupRole::Active)]
    {
        let mut negotiator = negotiator(1);
        let negotiation = answer(&mut negotiator, &with(setup));
        assert_eq!(negotiation.setup, role);
        let word = if role == SetupRole::Active { "a=setup:active" } else { "a=setup:passive" };
        assert!(answered(&negotiation, 0).contains(&word));
        assert_eq!(answer(&mut negotiator, &with("actpass")).setup, role, "it stays");
        let other = if role == SetupRole::Active { "active" } else { "passive" };
        assert_eq!(refuse(&mut negotiator, &with(other)).line, 9);
    }
    assert_eq!(refuse(&mut negotiator(1), &with("holdconn")).line, 9);
}

#[test]
fn an_ice_restart_renews_both_sides_and_nothing_else() {
    let mut negotiator = negotiator(1);
    let text = offer(&[section("v", "video", "recvonly")]);
    let first = answer(&mut negotiator, &text);
    let restarted = answer(&mut negotiator, &text.replace("ufrag:abcd", "ufrag:efgh"));
    assert!(restarted.ice_restarted && !restarted.new_session);
    assert_eq!(restarted.ice_remote.ufrag, "efgh");
    assert_ne!(restarted.ice_local.ufrag, first.ice_local.ufrag);
    assert_ne!(restarted.ice_local.pwd, first.ice_local.pwd);
    assert_eq!(slot(&restarted, 0).ssrc, slot(&first, 0).ssrc);
}

#[test]
fn another_browser_session_starts_anew() {
    let sections = [section("v", "video", "recvonly"), section("w", "video", "recvonly")];
    let text = offer(&sections);
    let shorter = offer(&sections[..1]);
    for other in [
        shorter.replace("0E:0F", "0E:FF"),
        shorter.replace("o=- 7", "o=- 8").replace("ufrag:abcd", "ufrag:efgh"),
    ] {
        let mut negotiator = negotiator(1);
        let first = answer(&mut negotiator, &text);
        let second = answer(&mut negotiator, &other);
        assert!(second.new_session && !second.ice_restarted);
        assert_ne!(second.ice_local, first.ice_local);
        assert_ne!(slot(&second, 0).ssrc, slot(&first, 0).ssrc);
    }
}

#[test]
fn a_session_without_sections_has_lost_its_transport() {
    let mut negotiator = negotiator(1);
    answer(&mut negotiator, &offer(&[section("v", "video", "recvonly")]));
    let bare = "v=0\no=- 7 3 IN IP4 127.0.0.1\ns=-\nt=0 0\nm=video 0 UDP/TLS/RTP/SAVPF 96\n";
    let nothing = answer(&mut negotiator, bare);
    assert_eq!((shape(&nothing).as_str(), nothing.new_session), ("-", false));
    assert_eq!(nothing.sections[0].mid.as_str(), "v", "it keeps the mid that the offer leaves out");
    let again = answer(&mut negotiator, &offer(&[section("x", "audio", "recvonly").replace("abcd", "efgh")]));
    assert!(again.new_session, "a new transport, whatever the o= line says");
    assert_eq!(refuse(&mut self::negotiator(1), bare).line, 0, "and there must have been one");
}

#[test]
fn inactive_sections_stay_what_they_were() {
    let mut negotiator = negotiator(1);
    let both = |direction: [&str; 2]| {
        offer(&[section("p", "video", direction[0]), section("s", "video", direction[1])])
    };
    let first = answer(&mut negotiator, &both(["sendonly", "recvonly"]));
    let paused = answer(&mut negotiator, &both(["inactive", "inactive"]));
    assert_eq!(shape(&paused), "(P)(S)");
    assert!((0..2).all(|index| answered(&paused, index).contains(&"a=inactive")));
    let back = answer(&mut negotiator, &both(["sendonly", "recvonly"]));
    assert_eq!(shape(&back), "PS");
    assert_eq!(slot(&back, 1).ssrc, slot(&first, 1).ssrc);
    let turned = answer(&mut negotiator, &both(["recvonly", "sendrecv"]));
    assert_eq!(shape(&turned), "SP");
    let fresh = answer(&mut self::negotiator(2), &both(["inactive", "inactive"]));
    assert_eq!(shape(&fresh), "(S)(S)");
}

#[test]
fn stopped_sections_are_recycled_across_kinds() {
    let mut negotiator = negotiator(1);
    let first = answer(&mut negotiator, &offer(&[data("d"), section("v", "video", "recvonly")]));
    assert_eq!(shape(&answer(&mut negotiator, &offer(&[data("d"), stopped("v", "video")]))), "d-");
    let recycled = answer(&mut negotiator, &offer(&[data("d"), section("x", "audio", "recvonly")]));
    assert_eq!((shape(&recycled).as_str(), recycled.sections[1].mid.as_str()), ("ds", "x"));
    assert_ne!(slot(&recycled, 1).ssrc, slot(&first, 1).ssrc);
}

#[test]
fn sections_neither_shrink_nor_move_nor_change_their_kind() {
    let mut negotiator = negotiator(1);
    let (a, v) = (section("a", "audio", "recvonly"), section("v", "video", "recvonly"));
    answer(&mut negotiator, &offer(&[a.clone(), v.clone()]));
    let text = offer(std::slice::from_ref(&a));
    assert_eq!(refuse(&mut negotiator, &text).line, 10, "the last section that is left");
    assert!(refuse(&mut negotiator, &offer(&[v.clone(), a.clone()])).reason.contains("`a`"));
    assert!(refuse(&mut negotiator, &offer(&[section("b", "audio", "recvonly"), v])).reason.contains("`a`"));
    let other_kind = refuse(&mut negotiator, &offer(&[a, section("v", "audio", "recvonly")]));
    assert!(other_kind.reason.contains("video"), "{other_kind}");
}

#[test]
fn a_refused_offer_changes_nothing() {
    let sections = [section("v", "video", "recvonly"), section("w", "video", "recvonly")];
    let (mut one, mut other) = (negotiator(3), negotiator(3));
    assert_eq!(
        answer(&mut one, &offer(&sections[..1])).answer,
        answer(&mut other, &offer(&sections[..1])).answer
    );
    for broken in ["a=setup:actpass", "a=rtcp-mux", "a=mid:w", "m=video", "a=ice-pwd:"] {
        let text = offer(&sections).replace(broken, "a=setup:holdconn").replace("0E:0F", "0E:FF");
        refuse(&mut other, &text);
    }
    assert_eq!(answer(&mut one, &offer(&sections)).answer, answer(&mut other, &offer(&sections)).answer);
}

#[test]
fn unusable_offers_are_refused_with_line_and_reason() {
    let sound = offer(&[section("a", "audio", "sendonly"), section("v", "video", "recvonly")]);
    assert_eq!(shape(&answer(&mut negotiator(1), &sound)), "pS");
    let line_of = |text: &str, line: &str| text.lines().position(|l| l == line).map_or(0, |index| index + 1);
    let video = line_of(&sound, "m=video 9 UDP/TLS/RTP/SAVPF 96 97");
    for (from, to, line, reason) in [
        ("a=group:BUNDLE a v\n", "", 9, "BUNDLE"),
        ("BUNDLE a v", "BUNDLE a", video, "BUNDLE"),
        ("a=recvonly\na=rtcp-mux\n", "a=recvonly\n", video, "a=rtcp-mux"),
        ("a=ice-ufrag:abcd\n", "", 9, "ICE credentials"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc", 6, "4 to 256"),
        ("a=fingerprint:sha-256", "a=x", 10, "a=fingerprint"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", 8, "sha-256"),
        ("a=setup:actpass", "a=ice-lite", 9, "ICE-lite"),
        ("a=mid:v\n", "", video, "a=mid"),
        ("a=mid:v", "a=mid:a", video + 5, "`a`"),
        ("a=mid:v", "a=mid:v w", video + 5, "mid"),
        ("video 9 UDP/TLS/RTP/SAVPF", "video 9 RTP/AVP", video, "not encrypted"),
        ("a=recvonly", "a=extmap:1/both x", video + 6, "direction"),
        ("t=0 0", "q=0 0", 4, "`q`"),
        ("v=0", "v=2", 1, "version"),
    ] {
        let text = sound.replacen(from, to, 1);
        assert_ne!(text, sound, "{from}");
        let error = refuse(&mut negotiator(1), &text);
        assert!(error.line == line && error.reason.contains(reason), "{to}: {error}");
    }
    let plan_b = section("a", "audio", "sendonly") + "a=ssrc:1 msid:a b\na=ssrc:2 msid:c d\n";
    assert!(refuse(&mut negotiator(1), &offer(&[plan_b])).reason.contains("Plan B"));
    let no_sections = refuse(&mut negotiator(1), &offer(&[]));
    assert_eq!((no_sections.line, no_sections.reason.as_str()), (0, "the offer has no media section"));
    for (port, line) in [("a=sctp-port:0", 12), ("a=x", 10), ("a=sctp-port:5000\na=max-message-size:x", 13)] {
        let text = offer(&[data("d")]).replace("a=sctp-port:5000", port);
        assert_eq!(refuse(&mut negotiator(1), &text).line, line);
    }
}

#[test]
fn what_the_server_has_no_part_in_is_rejected_alone() {
    let text = "m=text 9 UDP/TLS/RTP/SAVPF 98\na=mid:t\n".to_owned();
    let bfcp = data("b").replace("UDP/DTLS/SCTP", "UDP/TLS/BFCP");
    let negotiation = answer(&mut negotiator(1), &offer(&[data("d"), text, bfcp, data("e")]));
    assert_eq!(shape(&negotiation), "d---", "nor is there a second SCTP association");
}

#[test]
fn one_section_needs_no_bundle() {
    let text = offer(&[section("v", "video", "recvonly")]).replace("a=group:BUNDLE v\n", "");
    let negotiation = answer(&mut negotiator(1), &text);
    assert_eq!(shape(&negotiation), "S");
    assert!(!negotiation.answer.contains("BUNDLE"));
    assert!(answered(&negotiation, 0).contains(&"a=end-of-candidates"));
}

#[test]
fn two_hundred_sections_have_ssrcs_of_their_own() {
    let sections: Vec<String> = (0..200).map(|mid| section(&mid.to_string(), "video", "recvonly")).collect();
    let negotiation = answer(&mut negotiator(1), &offer(&sections));
    let mut ssrcs: Vec<Ssrc> = (0..200)
        .flat_map(|index| [slot(&negotiation, index).ssrc, slot(&negotiation, index).rtx_ssrc])
        .collect();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), 400);
}

#[test]
fn the_clients_ssrcs_are_avoided() {
    let slots = || section("v", "video", "recvonly");
    let would_be = slot(&answer(&mut negotiator(5), &offer(&[slots()])), 0).ssrc;
    let claimed = slots() + &format!("a=ssrc:{would_be} cname:x\n");
    let negotiation = answer(&mut negotiator(5), &offer(&[claimed]));
    assert_ne!(slot(&negotiation, 0).ssrc, would_be);
}

#[test]
fn our_own_parser_reads_our_answers() {
    for offers in [&CHROMIUM[..], &FIREFOX, &AIORTC, &CHROMIUM_PLAIN] {
        let mut negotiator = negotiator(1);
        for offer in offers {
            let negotiation = answer(&mut negotiator, offer);
            let lines = parse(&negotiation.answer).unwrap();
            assert_eq!(lines.media.len(), negotiation.sections.len());
            for (media, section) in lines.media.iter().zip(&negotiation.sections) {
                assert_eq!(media.attributes.attribute("mid").unwrap().value, section.mid.as_str());
                assert_eq!(media.port == 0, matches!(section.usage, SectionUse::Stopped));
                let agreed = match &section.usage {
                    SectionUse::Published(published) => (published.kind, &published.codecs),
                    SectionUse::Slot(slot) => (slot.kind, &slot.codecs),
                    SectionUse::Stopped | SectionUse::Data(_) => continue,
                };
                let read = codec::match_codecs(media, agreed.0, codec::Flow::FromClient).unwrap();
                let read: Vec<_> = read.into_iter().map(|codec| codec.negotiated).collect();
                assert_eq!(read[..], agreed.1[..]);
            }
        }
    }
}

/// Damages an offer as no stack would: lines lost, repeated, moved, mixed with those of another, bytes changed.
fn mutate(rng: &mut StdRng, offer: &str, other: &str) -> String {
    let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    let others: Vec<&str> = other.lines().collect();
    for _ in 0..rng.random_range(1..6) {
        let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
        match rng.random_range(0..7) {
            0 if lines.len() > 1 => drop(lines.remove(a)),
            1 => lines.insert(a, lines[b].clone()),
            2 => lines.swap(a, b),
            3 => lines[a] = others[rng.random_range(0..others.len())].to_owned(),
            4 => lines.truncate(a.max(1)),
            5 => {
                let at = rng.random_range(0..=lines[a].chars().count());
                lines[a] = lines[a].chars().take(at).collect();
            }
            _ => {
                const BYTES: [char; 14] =
                    ['\0', '\n', ' ', ':', ';', '/', '=', '0', '9', '-', '~', ',', 'a', 'ж'];
                let mut chars: Vec<char> = lines[a].chars().collect();
                let at = rng.random_range(0..=chars.len());
                chars.insert(at, BYTES[rng.random_range(0..BYTES.len())]);
                lines[a] = chars.into_iter().collect();
            }
        }
    }
    lines.join("\n")
}

#[test]
fn mutilated_offers_are_answered_or_refused_and_never_more() {
    let all: Vec<&str> = [&CHROMIUM[..], &FIREFOX, &AIORTC, &CHROMIUM_PLAIN].concat();
    let mut rng = StdRng::seed_from_u64(20);
    let mut negotiator = negotiator(1);
    let (mut answered, mut refused) = (0, 0);
    for round in 0..1500 {
        let (one, other) = (all[rng.random_range(0..all.len())], all[rng.random_range(0..all.len())]);
        let text = mutate(&mut rng, one, other);
        match negotiator.answer(&text, &SectionLabels::default()) {
            Ok(negotiation) => {
                let lines = parse(&negotiation.answer).expect("whatever was offered, the answer is sound");
                assert_eq!(lines.media.len(), negotiation.sections.len(), "round {round}");
                answered += 1;
            }
            Err(error) => {
                assert!(error.line <= text.split('\n').count(), "round {round}: {error}");
                refused += 1;
            }
        }
    }
    assert!(answered > 100 && refused > 100, "{answered} answered, {refused} refused");
}
