//! What a JPEG picture (ITU-T T.81) says of itself, read without decoding it: its size, whether all of it is there, and whether
//! to decode it would cost more than a picture of its size should.

use memchr::memchr;

/// The most passes that a progressive picture may be painted in. Encoders make about ten; each costs as much as another whole
/// picture.
const MAX_SCANS: usize = 64;

/// The longest side that pictures may have, in pixels: what browsers and encoders of video can take.
const MAX_SIDE: u16 = 16_384;

/// A picture that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jpeg {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Where it ends: some cameras send more behind it.
    pub len: usize,
}

/// Why a picture is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not begin like one.
    #[error("not a JPEG picture: it must begin with FF D8")]
    NotJpeg,
    /// It ends before its end.
    #[error("the picture is cut off")]
    Truncated,
    /// It contradicts itself.
    #[error("the picture is broken: {0}")]
    Broken(&'static str),
    /// Of a kind that browsers do not show.
    #[error("{0} pictures are not shown by browsers; send a baseline or progressive one")]
    Unsupported(&'static str),
    /// Larger than allowed, in pixels.
    #[error("the picture has {0} x {1} pixels; cameras.max_pixels allows fewer")]
    TooManyPixels(u16, u16),
    /// Painted in more passes than a picture needs.
    #[error("the picture is painted in more than {MAX_SCANS} passes")]
    TooManyScans,
}

impl Fault {
    /// Its name where refusals are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJpeg => "not_jpeg",
            Self::Truncated => "truncated",
            Self::Broken(_) => "broken",
            Self::Unsupported(_) => "unsupported",
            Self::TooManyPixels(..) => "too_many_pixels",
            Self::TooManyScans => "too_many_scans",
        }
    }
}

/// Looks at a picture from its beginning to its end, without decoding it.
pub fn inspect(bytes: &[u8], max_pixels: u32) -> Result<Jpeg, Fault> {
    if !bytes.starts_with(&[0xff, SOI]) {
        return Err(Fault::NotJpeg);
    }
    let mut reader = Reader { bytes, at: 2 };
    let mut frame: Option<FrameHeader> = None;
    let mut scans = 0;
    loop {
        match reader.marker()? {
            EOI => break,
            marker @ 0xc0..=0xc2 => {
                if frame.is_some() {
                    return Err(Fault::Broken("it has two sizes"));
                }
                frame = Some(FrameHeader::read(reader.segment()?, marker == 0xc2, max_pixels)?);
            }
            0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                return Err(Fault::Unsupported("lossless and hierarchical"));
            }
            0xc9 | 0xca | 0xcc => return Err(Fault::Unsupported("arithmetically coded")),
            SOS => {
                let frame = frame.as_ref().ok_or(Fault::Broken("its content comes before its size"))?;
                scans += 1;
                frame.check_scan(reader.segment()?, scans)?;
                reader.skip_scan()?;
            }
            0xdc => return Err(Fault::Unsupported("late-sized")),
            SOI | 0x00..=0x01 | 0xd0..=0xd7 => {
                return Err(Fault::Broken("a marker stands where none may be"));
            }
            _ => drop(reader.segment()?),
        }
    }
    let frame = frame.ok_or(Fault::Broken("it has no size"))?;
    if scans == 0 {
        return Err(Fault::Broken("it has no content"));
    }
    Ok(Jpeg { width: frame.width, height: frame.height, len: reader.at })
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// What the header of a frame says (T.81 B.2.2).
struct FrameHeader {
    width: u16,
    height: u16,
    components: u8,
    progressive: bool,
}

impl FrameHeader {
    fn read(segment: &[u8], progressive: bool, max_pixels: u32) -> Result<Self, Fault> {
        let (&[precision, h1, h0, w1, w0, components], rest) =
            segment.split_first_chunk().ok_or(Fault::Broken("its size is cut off"))?;
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        if precision != 8 {
            return Err(Fault::Unsupported("12-bit"));
        }
        if !matches!(components, 1 | 3 | 4) || rest.len() != 3 * usize::from(components) {
            return Err(Fault::Broken("its number of colours is none"));
        }
        let is_fine = |&[_, sampling, _]: &[u8; 3]| {
            (1..=4).contains(&(sampling >> 4)) && (1..=4).contains(&(sampling & 15))
        };
        if !rest.as_chunks::<3>().0.iter().all(is_fine) {
            return Err(Fault::Broken("its colours are sampled like none"));
        }
        if width == 0 || height == 0 {
            return Err(Fault::Broken("it has no pixels"));
        }
        if u32::from(width) * u32::from(height) > max_pixels || width.max(height) > MAX_SIDE {
            return Err(Fault::TooManyPixels(width, height));
        }
        Ok(Self { width, height, components, progressive })
    }

    /// The `number`th scan (T.81 B.2.3).
    fn check_scan(&self, segment: &[u8], number: usize) -> Result<(), Fault> {
        let count = segment.first().copied().unwrap_or_default();
        if !(1..=self.components).contains(&count) || segment.len() != 4 + 2 * usize::from(count) {
            return Err(Fault::Broken("a part of its content has colours that it does not have"));
        }
        let most = if self.progressive { MAX_SCANS } else { usize::from(self.components) };
        if number > most {
            return Err(Fault::TooManyScans);
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next marker; any number of fill bytes may stand before it.
    fn marker(&mut self) -> Result<u8, Fault> {
        if self.byte()? != 0xff {
            return Err(Fault::Broken("something stands between its parts"));
        }
        loop {
            match self.byte()? {
                0xff => {}
                marker => return Ok(marker),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.at).copied().ok_or(Fault::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// What a segment has behind its length.
    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let content = length.checked_sub(2).ok_or(Fault::Broken("a part of it is shorter than its head"))?;
        let segment = self.bytes.get(self.at..self.at + content).ok_or(Fault::Truncated)?;
        self.at += content;
        Ok(segment)
    }

    /// To the marker that ends a scan: in it `FF` is followed by 0, or is a restart marker.
    fn skip_scan(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let found = memchr(0xff, rest).ok_or(Fault::Truncated)?;
            match rest.get(found + 1).ok_or(Fault::Truncated)? {
                0x00 | 0xd0..=0xd7 => self.at += found + 2,
                0xff => self.at += found + 1,
                _ => {
                    self.at += found;
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const PLENTY: u32 = 8 << 20;

    /// A picture of so many pixels and scans, whose content is none: enough for who does not decode it.
    pub(crate) fn picture(width: u16, height: u16, sof: u8, scans: usize) -> Vec<u8> {
        let [w1, w0] = width.to_be_bytes();
        let [h1, h0] = height.to_be_bytes();
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, b'J', b'F'];
        bytes.extend([0xff, sof, 0, 17, 8, h1, h0, w1, w0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
        for _ in 0..scans {
            bytes.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
            bytes.extend([1, 2, 0xff, 0x00, 3, 0xff, 0xd0, 4]);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn a_picture_tells_its_size_and_where_it_ends() {
        let mut bytes = picture(1280, 720, 0xc0, 1);
        let len = bytes.len();
        let jpeg = Jpeg { width: 1280, height: 720, len };
        assert_eq!(inspect(&bytes, PLENTY), Ok(jpeg));
        bytes.extend([0; 10]);
        assert_eq!(inspect(&bytes, PLENTY), Ok(jpeg));
        assert_eq!(inspect(&picture(1, 1, 0xc2, 10), PLENTY).map(|jpeg| jpeg.width), Ok(1));
    }

    #[test]
    fn a_picture_that_is_cut_off_anywhere_is_refused() {
        let bytes = picture(64, 48, 0xc0, 1);
        for len in 0..bytes.len() {
            let fault = inspect(&bytes[..len], PLENTY).unwrap_err();
            let expected = if len < 2 { Fault::NotJpeg } else { Fault::Truncated };
            assert_eq!(fault, expected, "{len} bytes");
        }
    }

    #[test]
    fn what_would_cost_more_than_it_is_worth_is_refused() {
        let fault = |bytes: &[u8], max_pixels| inspect(bytes, max_pixels).unwrap_err();
        assert_eq!(fault(&picture(65_535, 100, 0xc0, 1), PLENTY), Fault::TooManyPixels(65_535, 100));
        assert_eq!(fault(&picture(100, 100, 0xc0, 1), 9_999), Fault::TooManyPixels(100, 100));
        assert_eq!(fault(&picture(100, 100, 0xc2, MAX_SCANS + 1), PLENTY), Fault::TooManyScans);
        assert_eq!(fault(&picture(100, 100, 0xc0, 4), PLENTY), Fault::TooManyScans);
    }

    #[test]
    fn what_no_browser_shows_and_what_contradicts_itself_is_refused() {
        let fault = |bytes: &[u8]| inspect(bytes, PLENTY).unwrap_err().name();
        assert_eq!(fault(b"\x89PNG\r\n"), "not_jpeg");
        assert_eq!(fault(&picture(8, 8, 0xc3, 1)), "unsupported");
        assert_eq!(fault(&picture(8, 8, 0xc9, 1)), "unsupported");
        assert_eq!(fault(&picture(0, 8, 0xc0, 1)), "broken");
        assert_eq!(fault(&picture(8, 8, 0xc0, 0)), "broken");
        assert_eq!(fault(&[0xff, 0xd8, 0xff, 0xd9]), "broken");
        let twice = [&picture(8, 8, 0xc0, 0)[..27], &picture(8, 8, 0xc0, 1)[2..]].concat();
        assert_eq!(inspect(&twice, PLENTY), Err(Fault::Broken("it has two sizes")));
        let mut strange = picture(8, 8, 0xc0, 1);
        strange[19] = 0x55;
        assert_eq!(fault(&strange), "broken");
    }
}
