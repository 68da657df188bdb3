//! Small pictures of pictures (WebP).

use webp::{Encoder, PixelLayout};

use crate::raster::{Raster, RasterError};

/// How well they are kept, of 100: small is what matters.
const QUALITY: f32 = 60.0;

/// A JPEG picture, of at most `max_side` pixels on each side, as WebP of at most so many pixels width and height.
pub fn thumbnail(jpeg: &[u8], max_side: u32, width: u32, height: u32) -> Result<Vec<u8>, RasterError> {
    let picture = Raster::from_jpeg(jpeg, max_side)?;
    let (width, height) = picture.fit(width, height);
    let small = picture.scaled(width, height)?;
    let encoded = Encoder::new(small.rgb(), PixelLayout::Rgb, width, height).encode_simple(false, QUALITY);
    let failed = |error| RasterError::Undecodable(format!("libwebp: {error:?}"));
    encoded.map(|webp| webp.to_vec()).map_err(failed)
}
