//! The settings of files: the section `[files]` of the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content_type;

/// The settings of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSettings {
    /// `false`: uploads and downloads answer 503. Also `BINARY_DATA_ENABLED`.
    pub enabled: bool,
    /// The largest file, in bytes. Also `BINARY_MAX_FILE_SIZE`.
    pub max_file_bytes: u64,
    /// Content types that files may have, with `*`: `image/*`. Also `BINARY_ALLOWED_TYPES`.
    pub allowed_types: Vec<String>,
    /// Whether text is kept compressed (zstd) where that saves a tenth or more. Also `BINARY_COMPRESSION_ENABLED`.
    pub compression: bool,
    /// Files up to this size travel within messages, as base64; larger ones are announced with a link. In bytes.
    pub inline_bytes: u32,
    /// Where contents are kept: empty for the folder `files` in `data_dir`, or `s3://bucket/prefix`.
    pub store: String,
    /// The address of an S3-compatible service; empty for Amazon's own.
    pub s3_endpoint: String,
    /// The region of the bucket.
    pub s3_region: String,
    /// The access key; empty for `AWS_ACCESS_KEY_ID` in the environment.
    pub s3_access_key: String,
    /// The secret of the access key; empty for `AWS_SECRET_ACCESS_KEY` in the environment.
    pub s3_secret_key: Secret,
    /// How long a file is kept, in hours; 0 for until it is deleted.
    pub expire_hours: u32,
    /// How long a link that carries a signature works, in hours.
    pub link_hours: u32,
    /// How many bytes the files of one user may have together; 0 for any number.
    pub max_user_bytes: u64,
    /// How many bytes the files of one room, or of one channel outside of rooms, may have together; 0 for any number.
    pub max_room_bytes: u64,
    /// How many bytes all files may have together; 0 for any number.
    pub max_total_bytes: u64,
    /// How many uploads there may be at once, resumable ones that wait for their rest counted.
    pub max_uploads: usize,
    /// How many of them one user, or one address where users are anonymous, may have.
    pub max_uploads_per_user: usize,
    /// How long a resumable upload waits for its next bytes, in minutes. It lives 24 times as long at most.
    pub upload_idle_minutes: u32,
}

/// A text that is not shown in logs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"…\"" })
    }
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_file_bytes: 50 * 1024 * 1024,
            allowed_types: ["image/*", "video/*", "audio/*", "application/pdf", "text/*"]
                .map(str::to_owned)
                .to_vec(),
            compression: true,
            inline_bytes: 256 * 1024,
            store: String::new(),
            s3_endpoint: String::new(),
            s3_region: "us-east-1".to_owned(),
            s3_access_key: String::new(),
            s3_secret_key: Secret::default(),
            expire_hours: 30 * 24,
            link_hours: 24,
            max_user_bytes: 1 << 30,
            max_room_bytes: 5 << 30,
            max_total_bytes: 50 << 30,
            max_uploads: 256,
            max_uploads_per_user: 16,
            upload_idle_minutes: 60,
        }
    }
}

impl FileSettings {
    /// The largest `inline_bytes`: what is inline is held in memory whole.
    pub const MAX_INLINE_BYTES: u32 = 16 * 1024 * 1024;

    /// Finds values that cannot work: the field, and what is wrong with an example of what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("max_file_bytes", self.max_file_bytes),
            ("link_hours", u64::from(self.link_hours)),
            ("max_uploads", self.max_uploads as u64),
            ("max_uploads_per_user", self.max_uploads_per_user as u64),
            ("upload_idle_minutes", u64::from(self.upload_idle_minutes)),
        ];
        if let Some((field, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err((field, "must be at least 1".into()));
        }
        if self.inline_bytes > Self::MAX_INLINE_BYTES {
            return Err((
                "inline_bytes",
                format!("must be at most {}, for example 262144", Self::MAX_INLINE_BYTES),
            ));
        }
        if let Some(pattern) = self.allowed_types.iter().find(|pattern| !content_type::is_pattern(pattern)) {
            return Err((
                "allowed_types",
                format!("`{pattern}` is not like \"image/*\", \"application/pdf\" or \"*/*\""),
            ));
        }
        if !self.store.is_empty() && self.bucket().is_none() {
            return Err((
                "store",
                format!("`{}` is not like \"s3://bucket/prefix\"; empty for a local folder", self.store),
            ));
        }
        let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if !self.s3_endpoint.is_empty() && !is_address(&self.s3_endpoint) {
            return Err((
                "s3_endpoint",
                format!("`{}` is not like \"https://s3.example:9000\"", self.s3_endpoint),
            ));
        }
        Ok(())
    }

    /// The bucket and the prefix of its keys, where contents are kept in one.
    pub(crate) fn bucket(&self) -> Option<(&str, &str)> {
        let rest = self.store.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        (!bucket.is_empty() && bucket.chars().all(is_name)).then_some((bucket, prefix.trim_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_work_is_named() {
        assert_eq!(FileSettings::default().check(), Ok(()));
        let field = |settings: FileSettings| settings.check().unwrap_err().0;
        let base = FileSettings::default;
        assert_eq!(field(FileSettings { max_file_bytes: 0, ..base() }), "max_file_bytes");
        assert_eq!(field(FileSettings { max_uploads: 0, ..base() }), "max_uploads");
        assert_eq!(field(FileSettings { inline_bytes: u32::MAX, ..base() }), "inline_bytes");
        assert_eq!(field(FileSettings { allowed_types: vec!["png".into()], ..base() }), "allowed_types");
        assert_eq!(field(FileSettings { store: "/srv/files".into(), ..base() }), "store");
        assert_eq!(field(FileSettings { store: "s3:///prefix".into(), ..base() }), "store");
        assert_eq!(field(FileSettings { s3_endpoint: "s3.example".into(), ..base() }), "s3_endpoint");
        let settings = FileSettings { store: "s3://bucket/a/b/".into(), ..base() };
        assert_eq!((settings.check(), settings.bucket()), (Ok(()), Some(("bucket", "a/b"))));
    }

    #[test]
    fn secrets_are_not_shown_in_logs() {
        let settings = FileSettings { s3_secret_key: Secret("hush".into()), ..FileSettings::default() };
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
