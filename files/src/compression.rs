//! Keeping text small: contents are compressed when that saves a tenth or more, and given out as they are kept to those who
//! understand zstd.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::store::Content;

/// Below this nothing is saved on a disk.
pub(crate) const MIN_BYTES: u64 = 4096;

/// The level of zstd: quick, and most of what can be had with text.
const LEVEL: i32 = 3;
/// How far back a compressed content refers, as a power of two: what reading it takes in memory. 2 MiB.
const WINDOW_LOG: u32 = 21;
const READ_BYTES: usize = 64 * 1024;

/// Writes a compressed form of `from` to `to` and gives its size, or `None` when it is not worth it. Blocks.
pub(crate) fn compress(from: &Path, to: &Path) -> io::Result<Option<u64>> {
    let mut source = File::open(from)?;
    let size = source.metadata()?.len();
    let mut encoder = zstd::Encoder::new(File::create(to)?, LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(size))?;
    io::copy(&mut source, &mut encoder)?;
    let file = encoder.finish()?;
    let compressed = file.metadata()?.len();
    if compressed > size / 10 * 9 {
        drop(file);
        std::fs::remove_file(to)?;
        return Ok(None);
    }
    file.sync_all()?;
    Ok(Some(compressed))
}

/// A part of what a compressed content unfolds to. What stands before it is unfolded and thrown away.
pub(crate) async fn decompress(content: Content, part: Range<u64>) -> io::Result<Content> {
    let source = BufReader::with_capacity(READ_BYTES, StreamReader::new(content));
    let mut decoder = ZstdDecoder::with_params(source, &[DParameter::window_log_max(WINDOW_LOG)]);
    let skipped = tokio::io::copy(&mut (&mut decoder).take(part.start), &mut tokio::io::sink()).await?;
    if skipped < part.start {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(ReaderStream::with_capacity(decoder.take(part.end - part.start), READ_BYTES).boxed())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn text_shrinks_and_comes_back_whole_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("a"), folder.path().join("a.zst"));
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        std::fs::write(&plain, &text).unwrap();
        let size = compress(&plain, &packed).unwrap().unwrap();
        assert!(size < text.len() as u64 / 3);
        let packed = Bytes::from(std::fs::read(packed).unwrap());
        for part in [0..text.len(), 1_000_000..1_000_100, text.len() - 1..text.len(), 0..0] {
            let chunks = packed.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
            let content = futures_util::stream::iter(chunks.collect::<Vec<_>>()).boxed();
            let range = part.start as u64..part.end as u64;
            let pieces: Vec<Bytes> = decompress(content, range).await.unwrap().try_collect().await.unwrap();
            assert!(pieces.concat() == text[part]);
        }
    }

    #[test]
    fn what_does_not_shrink_by_a_tenth_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("a"), folder.path().join("a.zst"));
        let mut noise = vec![0; 100_000];
        aws_lc_rs::rand::fill(&mut noise).unwrap();
        std::fs::write(&plain, noise).unwrap();
        assert_eq!(compress(&plain, &packed).unwrap(), None);
        assert!(!packed.exists());
    }
}
