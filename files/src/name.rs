//! Names of files: made harmless when they come, written into headers when they go. They are labels for people and never
//! part of a path on the server.

use std::fmt::Write as _;

/// The longest file name that is kept, in bytes: what common file systems take.
const MAX_NAME_BYTES: usize = 255;
/// The longest ending that survives when a name is cut, in bytes with its dot.
const MAX_ENDING_BYTES: usize = 16;

/// Names that Windows takes for devices, whatever ending follows.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
    "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// A name that can be shown and saved anywhere: the last part of what may be a path, without control and invisible
/// characters, without those that file systems refuse, at most 255 bytes long with its ending kept. `None` when nothing
/// remains.
pub(crate) fn clean(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = veche_doors::name::clean(last)
        .chars()
        .map(|c| if "<>:\"|?*".contains(c) { '_' } else { c })
        .collect();
    // Windows drops dots and spaces at the end, so that they could hide another name.
    let trimmed = visible.trim_end_matches(['.', ' ']);
    if trimmed.is_empty() {
        return None;
    }
    let stem = trimmed.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let is_device = DEVICES.contains(&stem.as_str());
    let name = if is_device { format!("_{trimmed}") } else { trimmed.to_owned() };
    Some(shortened(&name))
}

/// The value of `Content-Disposition` (RFC 6266): the name as it is in the form of RFC 8187, and for old programs one in
/// ASCII.
pub(crate) fn disposition(inline: bool, name: &str) -> String {
    let kind = if inline { "inline" } else { "attachment" };
    let plain: String = name
        .chars()
        .map(|c| if c == ' ' || (c.is_ascii_graphic() && !"\"\\%".contains(c)) { c } else { '_' })
        .collect();
    if plain == name {
        return format!("{kind}; filename=\"{plain}\"");
    }
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", encoded(name))
}

/// Cut to what is allowed between two characters; a short ending stays.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|at| &name[at..]).filter(|ending| ending.len() <= MAX_ENDING_BYTES);
    let ending = ending.unwrap_or_default();
    let stem = &name[..name.floor_char_boundary(MAX_NAME_BYTES - ending.len())];
    if !ending.is_empty() {
        return format!("{stem}{ending}");
    }
    // The cut may have laid bare what must not stand at the end.
    match stem.trim_end_matches(['.', ' ']) {
        "" => "_".to_owned(),
        stem => stem.to_owned(),
    }
}

/// Percent-encoded but for the `attr-char` of RFC 8187, section 3.2.1.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len() * 3), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_controls_and_turned_text_are_removed_and_names_of_all_scripts_stay() {
        let cleaned = |name| clean(name).unwrap_or_default();
        assert_eq!(cleaned("../../etc/passwd"), "passwd");
        assert_eq!(cleaned("C:\\Windows\\system32\\evil.dll"), "evil.dll");
        assert_eq!(cleaned("/etc/cron.d/\0job"), "job");
        assert_eq!(cleaned("photo\u{202e}gpj.exe"), "photogpj.exe");
        assert_eq!(cleaned("a\r\nSet-Cookie: b=c.txt"), "aSet-Cookie_ b=c.txt");
        assert_eq!(cleaned("con.txt"), "_con.txt");
        assert_eq!(cleaned("NUL"), "_NUL");
        assert_eq!(cleaned("what?.txt. . "), "what_.txt");
        for name in ["Отчёт за май.pdf", "写真.jpg", "صورة.png", "a b (2).txt", ".profile", "archive.tar.gz"]
        {
            assert_eq!(cleaned(name), name);
        }
        for nothing in ["", "..", "/", "a/..", "...", " \u{200b} ", "\\\\"] {
            assert_eq!(clean(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_ending() {
        let long = clean(&format!("{}.jpeg", "ж".repeat(400))).unwrap();
        assert!(long.len() <= MAX_NAME_BYTES && long.len() > MAX_NAME_BYTES - 4);
        assert!(long.ends_with("ж.jpeg"));
        assert_eq!(clean(&"x".repeat(1000)).unwrap().len(), MAX_NAME_BYTES);
    }

    #[test]
    fn headers_carry_every_name_and_cannot_be_broken_out_of() {
        assert_eq!(disposition(true, "a b.png"), "inline; filename=\"a b.png\"");
        assert_eq!(
            disposition(false, "€ rates.txt"),
            "attachment; filename=\"_ rates.txt\"; filename*=UTF-8''%E2%82%AC%20rates.txt"
        );
        let nasty = disposition(false, "a\"; filename=\"b\\%41.txt");
        assert_eq!(nasty.matches('"').count(), 2);
        assert!(nasty.is_ascii());
    }
}
