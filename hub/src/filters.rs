//! Filters: which messages of a channel a subscriber wants.

use serde::{Deserialize, Serialize};

use crate::message::Body;

/// How many entries a list of a filter may have, and how long each may be.
const MAX_ENTRIES: usize = 64;
const MAX_ENTRY: usize = 255;

/// What a subscriber wants. What is not named is not filtered; plain data always passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// `false`: no binary messages and files.
    pub binary_data: Option<bool>,
    /// The largest binary message or file, in bytes.
    pub max_file_size: Option<u64>,
    /// Content types of binary messages and files: `image/*`, `application/pdf`, `*`.
    pub allowed_types: Option<Vec<String>>,
    /// Kinds of notifications: `message`, `call`, or `*`.
    pub notification_types: Option<Vec<String>>,
}

/// Why filters are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filters.{field} may have up to 64 entries of up to 255 bytes each")]
pub struct BadFilters {
    field: &'static str,
}

impl Filters {
    /// Whether the lists are within bounds.
    pub fn check(&self) -> Result<(), BadFilters> {
        for (field, list) in
            [("allowed_types", &self.allowed_types), ("notification_types", &self.notification_types)]
        {
            let Some(list) = list else { continue };
            if list.len() > MAX_ENTRIES || list.iter().any(|entry| entry.len() > MAX_ENTRY) {
                return Err(BadFilters { field });
            }
        }
        Ok(())
    }

    /// Whether nothing is filtered.
    pub(crate) fn is_open(&self) -> bool {
        self.binary_data != Some(false)
            && self.max_file_size.is_none()
            && self.allowed_types.is_none()
            && self.notification_types.is_none()
    }

    /// Whether the subscriber wants it.
    pub fn take(&self, body: &Body) -> bool {
        match body {
            Body::Binary(binary) => self.take_content(binary.data.len() as u64, &binary.content_type),
            Body::File(file) => self.take_content(file.size, &file.content_type),
            Body::Notification(note) => self.notification_types.as_ref().is_none_or(|types| {
                types.iter().any(|wanted| wanted == "*" || **wanted == *note.notification_type)
            }),
            Body::Data(_) | Body::Signal(_) | Body::Presence(_) | Body::Verbatim(_) => true,
        }
    }

    fn take_content(&self, size: u64, content_type: &str) -> bool {
        self.binary_data != Some(false)
            && self.max_file_size.is_none_or(|max| size <= max)
            && self
                .allowed_types
                .as_ref()
                .is_none_or(|types| types.iter().any(|wanted| is_of_type(content_type, wanted)))
    }
}

/// Whether a content type is the wanted one, without regard to its parameters and to capital letters.
fn is_of_type(content_type: &str, wanted: &str) -> bool {
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (content_type, wanted) = (essence(content_type), essence(wanted));
    if wanted == "*" || wanted == "*/*" || wanted == content_type {
        return true;
    }
    let (Some(kind), Some((wanted_kind, "*"))) = (content_type.split('/').next(), wanted.split_once('/'))
    else {
        return false;
    };
    kind == wanted_kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Binary, Notification};
    use bytes::Bytes;
    use serde_json::value::RawValue;

    fn binary(content_type: &str, size: usize) -> Body {
        let data = Bytes::from(vec![0; size]);
        Body::Binary(Binary { data, content_type: content_type.into(), filename: None })
    }

    fn note(kind: &str) -> Body {
        Body::Notification(Notification {
            title: "t".into(),
            body: "b".into(),
            notification_type: kind.into(),
            data: None,
        })
    }

    #[test]
    fn only_what_is_named_filters() {
        let open = Filters::default();
        assert!(open.is_open());
        let plain = Body::Data(RawValue::from_string("1".into()).unwrap());
        for body in [&binary("image/png", 10), &note("call"), &plain] {
            assert!(open.take(body));
        }
        let none = Filters { binary_data: Some(false), ..open.clone() };
        assert!(!none.take(&binary("image/png", 10)));
        assert!(none.take(&note("call")) && none.take(&plain));
    }

    #[test]
    fn types_have_wildcards_parameters_and_sizes() {
        let filters = Filters {
            binary_data: Some(true),
            max_file_size: Some(100),
            allowed_types: Some(vec!["image/*".into(), "application/PDF".into()]),
            notification_types: Some(vec!["message".into()]),
        };
        assert!(!filters.is_open());
        for (content_type, size, wanted) in [
            ("image/png", 100, true),
            ("IMAGE/PNG; q=1", 1, true),
            ("image/png", 101, false),
            ("application/pdf", 1, true),
            ("application/zip", 1, false),
            ("imagery/png", 1, false),
            ("", 1, false),
        ] {
            assert_eq!(filters.take(&binary(content_type, size)), wanted, "{content_type}");
        }
        assert!(filters.take(&note("message")) && !filters.take(&note("call")));
    }

    #[test]
    fn lists_are_bounded() {
        let many = Filters { allowed_types: Some(vec![String::new(); 65]), ..Filters::default() };
        assert!(many.check().unwrap_err().to_string().contains("allowed_types"));
        let long = Filters { notification_types: Some(vec!["x".repeat(256)]), ..Filters::default() };
        assert!(long.check().is_err());
        assert!(Filters { allowed_types: Some(vec!["*".into(); 64]), ..Filters::default() }.check().is_ok());
    }
}
