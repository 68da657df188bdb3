//! Patterns for names of rooms and channels: `*` stands for any characters, `{user_id}` for the user's own id.

/// The placeholder for the id of the user who has the grant.
const USER_ID: &str = "{user_id}";

/// A pattern, with the user's id filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What stands between the stars; one more than there are stars.
    pieces: Box<[Box<str>]>,
}

impl Pattern {
    /// The longest pattern, in bytes: as long as the longest name of a channel.
    pub(crate) const MAX_BYTES: usize = 255;

    /// `None` where it asks for the id of a user and there is none: such a pattern matches nothing. The user's id is
    /// taken as it is, also where it has a `*`.
    pub(crate) fn new(text: &str, user_id: Option<&str>) -> Option<Self> {
        let fill = |piece: &str| match (piece.contains(USER_ID), user_id) {
            (false, _) => Some(piece.into()),
            (true, Some(user_id)) => Some(piece.replace(USER_ID, user_id).into()),
            (true, None) => None,
        };
        text.split('*').map(fill).collect::<Option<_>>().map(|pieces| Self { pieces })
    }

    /// What every name begins with that matches.
    pub(crate) fn prefix(&self) -> &str {
        &self.pieces[0]
    }

    /// Whether a name matches, all of it. Takes time in proportion to the length of the name for each star at most.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &*self.pieces else {
            return name == self.prefix();
        };
        let Some(mut rest) = name.strip_prefix(&**first) else { return false };
        for piece in middle {
            match rest.find(&**piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern, Some("an*a")).is_some_and(|pattern| pattern.matches(name))
    }

    #[test]
    fn a_star_stands_for_any_characters_and_the_rest_for_itself() {
        for (pattern, name) in [
            ("tea", "tea"),
            ("*", ""),
            ("*", "room:tea"),
            ("news:*", "news:"),
            ("news:*:eu", "news:sports:eu"),
            ("*tea*", "green tea."),
            ("a*b*b", "a-b-b"),
            ("a**b", "ab"),
            ("чай:*", "чай:зелёный"),
            ("user:{user_id}:*", "user:an*a:x"),
            ("*{user_id}", "xan*a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("tea", "teas"),
            ("", "a"),
            ("news:*", "news"),
            ("news:*:eu", "news:eu"),
            ("a*b*b", "ab"),
            ("ab*ba", "aba"),
            ("user:{user_id}", "user:anna"),
            ("user:{user_id}", "user:{user_id}"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert_eq!(Pattern::new("user:{user_id}", None), None);
    }
}
