//! What somebody who mistyped a name may have meant.

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.8;

/// The known name that is most like `name`, where one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // In short names one slip weighs much: two letters that have changed places, one too many or too few.
    let likeness = |other: &str| match strsim::osa_distance(name, other) {
        1 => 1.0,
        _ => strsim::jaro_winkler(name, other),
    };
    let likeness = known.into_iter().map(|other| (likeness(other), other));
    likeness
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, other)| other)
}

/// `; did you mean …?`, or nothing.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_something_else_does_not() {
        let known = ["listen", "https_listen", "data_dir", "max_connections"];
        assert_eq!(nearest("listn", known), Some("listen"));
        assert_eq!(nearest("https_lisen", known), Some("https_listen"));
        assert_eq!(nearest("max_conections", known), Some("max_connections"));
        assert_eq!(nearest("tpc", ["tcp", "bind"]), Some("tcp"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(did_you_mean("datadir", known), "; did you mean data_dir?");
    }
}
