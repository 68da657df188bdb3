//! Pictures that are looked at without being decoded: what passes is whole, within the limits, and ends where it says.

use veche_cameras::jpeg::inspect;

const MAX_PIXELS: u32 = 1 << 22;

pub(crate) fn run(input: &[u8]) {
    let Ok(jpeg) = inspect(input, MAX_PIXELS) else { return };
    assert!(u32::from(jpeg.width) * u32::from(jpeg.height) <= MAX_PIXELS);
    assert!(jpeg.width > 0 && jpeg.height > 0);
    let picture = &input[..jpeg.len];
    assert!(picture.starts_with(&[0xff, 0xd8]) && picture.ends_with(&[0xff, 0xd9]));
    assert_eq!(inspect(picture, MAX_PIXELS), Ok(jpeg), "what follows does not matter");
    assert!(inspect(&picture[..jpeg.len - 1], MAX_PIXELS).is_err(), "and nothing may be missing");
}
