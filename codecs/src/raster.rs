//! A picture as pixels: decoded from JPEG, scaled.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// A picture of 24 bits a pixel: red, green, blue, line by line from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Why a picture could not be decoded or scaled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RasterError {
    /// The decoder does not understand it.
    #[error("the picture cannot be decoded: {0}")]
    Undecodable(String),
    /// No size can be scaled to.
    #[error("a picture cannot be scaled to {0} x {1}")]
    BadSize(u32, u32),
}

impl Raster {
    /// Decodes a JPEG picture of at most so many pixels on each side.
    pub fn from_jpeg(jpeg: &[u8], max_side: u32) -> Result<Self, RasterError> {
        let undecodable = |error: &dyn std::fmt::Display| RasterError::Undecodable(error.to_string());
        let options = DecoderOptions::default()
            .set_max_width(max_side as usize)
            .set_max_height(max_side as usize)
            .set_strict_mode(false)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        let rgb = decoder.decode().map_err(|error| undecodable(&format!("{error:?}")))?;
        let (width, height) = decoder.dimensions().ok_or_else(|| undecodable(&"it has no size"))?;
        Self::new(width as u32, height as u32, rgb)
            .ok_or_else(|| undecodable(&"it has not as many pixels as it says"))
    }

    /// Of these pixels; `None`: there are not so many.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let is_whole = rgb.len() == width as usize * height as usize * 3;
        is_whole.then_some(Self { width, height, rgb })
    }

    /// In pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Red, green and blue of each pixel, line by line.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The same picture in another size, averaged over what each new pixel covers.
    pub fn scaled(&self, width: u32, height: u32) -> Result<Self, RasterError> {
        if (width, height) == self.size() {
            return Ok(self.clone());
        }
        let bad = || RasterError::BadSize(width, height);
        if width == 0 || height == 0 {
            return Err(bad());
        }
        let from = ImageRef::new(self.width, self.height, &self.rgb, PixelType::U8x3).map_err(|_| bad())?;
        let mut to = Image::new(width, height, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
        Resizer::new().resize(&from, &mut to, &options).map_err(|_| bad())?;
        Self::new(width, height, to.into_vec()).ok_or_else(bad)
    }

    /// The largest size of the same shape within this one, with even sides as video has them. Never larger than it is.
    pub fn fit(&self, max_width: u32, max_height: u32) -> (u32, u32) {
        let [width, height] = [self.width, self.height].map(f64::from);
        let scale = (f64::from(max_width) / width).min(f64::from(max_height) / height).min(1.0);
        let even = |side: f64| ((side * scale).round() as u32 & !1).max(2);
        (even(width), even(height))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Left of one colour, right of another.
    pub(crate) fn halves(width: u32, height: u32, left: [u8; 3], right: [u8; 3]) -> Raster {
        let line = (0..width).flat_map(|x| if x < width / 2 { left } else { right });
        let line: Vec<u8> = line.collect();
        Raster::new(width, height, line.repeat(height as usize)).unwrap()
    }

    #[test]
    fn a_picture_is_scaled_in_its_shape_and_keeps_its_colours() {
        let picture = halves(1280, 720, [200, 10, 10], [10, 10, 200]);
        assert_eq!(picture.fit(640, 640), (640, 360));
        assert_eq!(picture.fit(4000, 4000), (1280, 720));
        assert_eq!(halves(101, 1, [0; 3], [0; 3]).fit(50, 50), (50, 2));
        let small = picture.scaled(640, 360).unwrap();
        assert_eq!(small.size(), (640, 360));
        assert_eq!(small, halves(640, 360, [200, 10, 10], [10, 10, 200]));
        assert_eq!(picture.scaled(0, 10), Err(RasterError::BadSize(0, 10)));
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(Raster::from_jpeg(b"\xff\xd8 nonsense", 100).is_err());
        assert!(Raster::new(2, 2, vec![0; 11]).is_none());
    }
}
