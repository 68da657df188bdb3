use veche_recorder_core::manifest;

use super::*;
use crate::Form;

fn look(layout: Layout) -> Look {
    Look { layout, size: (1_280, 720), rate: 25, names: true, form: Form::Mp4 }
}

fn manifest() -> Manifest {
    let file = |name: &str, id: Option<&str>, sources: &[&str], from: u64, duration: u64| {
        let tracks: Vec<_> =
            sources.iter().map(|source| serde_json::json!({"source": source, "codec": "vp8"})).collect();
        serde_json::json!({
            "name": name, "container": "webm", "participant": id, "tracks": tracks,
            "offset_ms": from, "duration_ms": duration, "bytes": 1,
        })
    };
    serde_json::from_value(serde_json::json!({
        "version": 1, "id": "r", "room": "daily", "started_at": "2026-11-22T07:00:00Z", "duration_ms": 10_000,
        "participants": [
            {"id": "a", "name": "Ana", "joined_ms": 0},
            {"id": "b", "name": "Boris", "joined_ms": 2_000, "left_ms": 8_000},
            {"id": "c", "name": "Cem", "joined_ms": 0},
        ],
        "files": [
            file("a-1.webm", Some("a"), &["microphone", "camera"], 0, 5_010),
            file("a-2.webm", Some("a"), &["microphone", "camera"], 5_010, 4_990),
            file("b-1.webm", Some("b"), &["camera", "microphone"], 2_000, 6_000),
            file("c-1.webm", Some("c"), &["microphone"], 0, 10_000),
            file("c-2.webm", Some("c"), &["screen", "screen-audio"], 6_000, 2_000),
        ],
        "speakers": [
            {"offset_ms": 1_000, "participant": "a"}, {"offset_ms": 3_000, "participant": "b"},
            {"offset_ms": 3_400, "participant": "c"}, {"offset_ms": 7_000},
        ],
    }))
    .unwrap()
}

/// From when, how many pictures, and who with what.
fn told(plan: &Plan) -> Vec<(u64, u64, Vec<String>)> {
    let tile = |tile: &Tile| match tile.view {
        Some(view) => format!("{}: {} from {}", tile.name, plan.files[view.file], view.from_ms),
        None => tile.name.clone(),
    };
    let stretches = plan.stretches.iter();
    stretches.map(|s| (s.from_ms, s.pictures, s.tiles.iter().map(tile).collect())).collect()
}

#[test]
fn a_grid_changes_with_who_is_there() {
    let plan = Plan::new(&manifest(), &look(Layout::Grid));
    let told = told(&plan);
    assert_eq!(told.iter().map(|(_, pictures, _)| pictures).sum::<u64>(), 250, "nothing is lost in between");
    assert!(told.windows(2).all(|pair| pair[0].0 + pair[0].1 * 40 == pair[1].0));
    assert_eq!(told[0].2, ["Ana: a-1.webm from 0", "Cem"]);
    let at = |ms: u64| &told.iter().rev().find(|(from, ..)| *from <= ms).unwrap().2;
    assert_eq!(*at(2_500), ["Ana: a-1.webm from 2000", "Boris: b-1.webm from 0", "Cem"]);
    assert_eq!(*at(5_500), ["Ana: a-2.webm from 0", "Boris: b-1.webm from 3000", "Cem"]);
    assert_eq!(at(6_500)[0], "Cem (screen): c-2.webm from 0");
    assert_eq!(*at(9_000), ["Ana: a-2.webm from 2990", "Cem"]);
}

#[test]
fn who_speaks_is_large_and_a_cough_is_no_speech() {
    let plan = Plan::new(&manifest(), &look(Layout::Speaker));
    let told = told(&plan);
    let large = |ms: u64| told.iter().rev().find(|(from, ..)| *from <= ms).unwrap().2[0].as_str();
    assert_eq!(large(1_500), "Ana: a-1.webm from 1000");
    assert_eq!(large(3_200), "Ana: a-1.webm from 2000", "Boris only coughed");
    assert_eq!(large(4_000), "Cem");
    assert_eq!(large(7_500), "Cem", "and stays when it is silent");
}

#[test]
fn a_screen_goes_first_and_its_owner_is_beside() {
    let plan = Plan::new(&manifest(), &look(Layout::Screen));
    let told = told(&plan);
    let at = |ms: u64| &told.iter().rev().find(|(from, ..)| *from <= ms).unwrap().2;
    assert_eq!(at(6_500)[..2], ["Cem (screen): c-2.webm from 0", "Cem"]);
    assert_eq!(at(8_500)[0], "Cem");
}

#[test]
fn everybody_sounds_unless_there_is_a_mix() {
    let mut manifest = manifest();
    let sounds = |manifest: &Manifest| Plan::new(manifest, &look(Layout::Grid)).sounds;
    let files: Vec<usize> = sounds(&manifest).iter().map(|sound| sound.file).collect();
    assert_eq!(files, [0, 1, 2, 3, 4]);
    assert_eq!(sounds(&manifest)[1].offset_ms, 5_010);
    manifest.files[3].tracks[0].source = manifest::Source::Mix;
    assert_eq!(sounds(&manifest), [Sound { file: 3, track: 0, offset_ms: 0 }]);
}

#[test]
fn names_are_one_line_that_fits() {
    assert_eq!(shown("Ana\nBo\u{202e}ris \0"), "Ana Boris");
    assert_eq!(shown("%{pts}:'x[0];drawtext"), "%{pts}:'x[0];drawtext", "text stays text");
    assert_eq!(shown(&"я".repeat(50)).chars().count(), LONGEST_NAME);
}

#[test]
fn any_manifest_has_a_plan() {
    let mut manifest = manifest();
    manifest.files[0].offset_ms = u64::MAX;
    manifest.files[1].duration_ms = u64::MAX;
    manifest.participants[0].joined_ms = u64::MAX;
    manifest.speakers[0].offset_ms = u64::MAX;
    for layout in [Layout::Grid, Layout::Speaker, Layout::Screen] {
        let plan = Plan::new(&manifest, &look(layout));
        assert_eq!(plan.stretches.iter().map(|stretch| stretch.pictures).sum::<u64>(), 250);
    }
}
