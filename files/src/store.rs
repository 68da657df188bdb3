//! Where contents are kept: objects in a local folder, or in a bucket of an S3-compatible service.
//!
//! Contents come from a staged file that is whole. In a local folder it is moved, which costs nothing; to a bucket it is
//! sent in parts.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use crate::incoming::INCOMING;
use crate::settings::FileSettings;

/// What is sent to a bucket at once; its memory is that much. More than the 5 MiB that S3 asks of a part.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How many contents are sent to a bucket at once; others wait.
const MAX_TRANSFERS: usize = 4;
/// What is read from a disk at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a bucket may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// How often and how long a request to a bucket is tried again: a client waits for it.
const RETRIES: usize = 3;
const RETRY_TIME: Duration = Duration::from_secs(20);

/// A content, piece by piece.
pub(crate) type Content = BoxStream<'static, std::io::Result<Bytes>>;

/// Where contents are kept.
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// What keys begin with; empty in a local folder.
    prefix: String,
    is_local: bool,
    transfers: Semaphore,
}

impl Store {
    /// The store that the settings name; a local one is `folder`.
    pub(crate) fn open(settings: &FileSettings, folder: &Path) -> Result<Self, object_store::Error> {
        let (objects, prefix): (Arc<dyn ObjectStore>, _) = match settings.bucket() {
            Some((bucket, prefix)) => (Arc::new(remote(settings, bucket)?), prefix.to_owned()),
            None => (Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true)), String::new()),
        };
        let is_local = settings.bucket().is_none();
        Ok(Self { objects, prefix, is_local, transfers: Semaphore::new(MAX_TRANSFERS) })
    }

    /// Writes something small, reads it and removes it again.
    pub(crate) async fn try_out(&self, key: &str) -> Result<(), object_store::Error> {
        let (key, content) = (self.key(key), Bytes::from_static(b"veche doctor"));
        self.objects.put(&key, PutPayload::from(content.clone())).await?;
        let read = async { self.objects.get(&key).await?.bytes().await }.await;
        self.objects.delete(&key).await?;
        if read? == content {
            Ok(())
        } else {
            Err(failed(std::io::Error::other("what was read is not what was written")))
        }
    }

    /// Keeps the content of a staged file under a key. In a local folder the file is moved.
    pub(crate) async fn keep(&self, staged: &Path, key: &str) -> Result<(), object_store::Error> {
        if self.is_local {
            let name = staged.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            return self.objects.rename(&Key::from(format!("{INCOMING}/{name}")), &Key::from(key)).await;
        }
        let _permit = self.transfers.acquire().await.expect("the semaphore is never closed");
        let mut file = tokio::fs::File::open(staged).await.map_err(failed)?;
        let key = self.key(key);
        let first = read_part(&mut file).await?;
        if first.len() < PART_BYTES {
            self.objects.put(&key, PutPayload::from(first)).await?;
            return Ok(());
        }
        let mut upload = self.objects.put_multipart(&key).await?;
        let sent = async {
            let mut part = first;
            while !part.is_empty() {
                upload.put_part(PutPayload::from(part)).await?;
                part = read_part(&mut file).await?;
            }
            upload.complete().await
        };
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Parts of an upload that is neither completed nor aborted would be kept, and paid for, for ever.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "an upload to the bucket could not be aborted");
                }
                Err(error)
            }
        }
    }

    /// Reads a part of a content.
    pub(crate) async fn read(&self, key: &str, range: Range<u64>) -> Result<Content, object_store::Error> {
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let length = range.end - range.start;
        let options = GetOptions::new().with_range(Some(range.clone()));
        let result = self.objects.get_opts(&self.key(key), options).await?;
        match result.payload {
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(failed)?;
                Ok(ReaderStream::with_capacity(file.take(length), READ_BYTES).boxed())
            }
            GetResultPayload::Stream(stream) => Ok(stream.map_err(std::io::Error::other).boxed()),
        }
    }

    /// Removes a content; it need not be there.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), object_store::Error> {
        match self.objects.delete(&self.key(key)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    fn key(&self, key: &str) -> Key {
        if self.prefix.is_empty() { Key::from(key) } else { Key::from(format!("{}/{key}", self.prefix)) }
    }
}

/// A bucket. What the settings leave empty comes from the environment variables of Amazon's own tools.
fn remote(settings: &FileSettings, bucket: &str) -> Result<object_store::aws::AmazonS3, object_store::Error> {
    // A whole request may take as long as a slow client reads; only silence ends it.
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_connect_timeout(SILENCE)
        .with_allow_http(settings.s3_endpoint.starts_with("http://"));
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(client)
        .with_retry(RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() })
        .with_bucket_name(bucket)
        // Not every compatible service knows deletion of many at once; this server deletes one by one.
        .with_disable_bulk_delete(true);
    if !settings.s3_region.is_empty() {
        builder = builder.with_region(&settings.s3_region);
    }
    if !settings.s3_endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.s3_endpoint);
    }
    if !settings.s3_access_key.is_empty() {
        builder = builder.with_access_key_id(&settings.s3_access_key);
    }
    if !settings.s3_secret_key.0.is_empty() {
        builder = builder.with_secret_access_key(&settings.s3_secret_key.0);
    }
    builder.build()
}

/// The next part, shorter only at the end.
async fn read_part(file: &mut tokio::fs::File) -> Result<Bytes, object_store::Error> {
    let mut part = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut part).await.map_err(failed)?;
    Ok(part.into())
}

fn failed(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "veche", source: error.into() }
}
