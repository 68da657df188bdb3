//! The counters inside a video payload that must stay continuous over a switch: VP8 and VP9 picture ids and TL0PICIDX,
//! VP8 KEYIDX, and the frame number of the dependency descriptor.
//!
//! Letting them go backwards freezes the picture of a browser for seconds without a request for a key frame.

use crate::media::Codec;

/// Where a counter stands in the payload, and what it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    value: u16,
    offset: u8,
}

/// The counters of one packet, found once for all subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureFields {
    picture_id: Option<Field>,
    tl0_pic_idx: Option<Field>,
    key_idx: Option<Field>,
    frame_number: Option<u16>,
}

impl PictureFields {
    /// Finds the counters. `descriptor` is the dependency descriptor, where the packet has one. 7-bit picture ids are
    /// left alone: no browser sends them, and they are too short to be told apart over a switch.
    pub fn read(codec: Codec, payload: &[u8], descriptor: Option<&[u8]>) -> Self {
        let mut fields = match codec {
            Codec::Vp8 => read_vp8(payload),
            Codec::Vp9 => read_vp9(payload),
            _ => None,
        }
        .unwrap_or_default();
        fields.frame_number = descriptor.and_then(|d| Some(u16::from_be_bytes([*d.get(1)?, *d.get(2)?])));
        fields
    }

    /// The same counters without their places.
    fn values(&self) -> PictureIds {
        PictureIds {
            picture_id: self.picture_id.unwrap_or_default().value,
            tl0_pic_idx: self.tl0_pic_idx.unwrap_or_default().value as u8,
            key_idx: self.key_idx.unwrap_or_default().value as u8,
            frame_number: self.frame_number.unwrap_or_default(),
        }
    }
}

/// RFC 7741 section 4.2: X R N S R PID, then I L T K, then the optional fields.
fn read_vp8(payload: &[u8]) -> Option<PictureFields> {
    let mut fields = PictureFields::default();
    if payload.first()? & 0x80 == 0 {
        return Some(fields);
    }
    let flags = *payload.get(1)?;
    let mut at = 2;
    if flags & 0x80 != 0 {
        at += read_picture_id(payload, at, &mut fields)?;
    }
    if flags & 0x40 != 0 {
        fields.tl0_pic_idx = Some(Field { value: u16::from(*payload.get(at)?), offset: at as u8 });
        at += 1;
    }
    if flags & 0x30 != 0 {
        let byte = *payload.get(at)?;
        if flags & 0x10 != 0 {
            fields.key_idx = Some(Field { value: u16::from(byte & 0x1f), offset: at as u8 });
        }
    }
    Some(fields)
}

/// RFC 9628 section 4.2: I P L F B E V Z, then the optional fields; TL0PICIDX only in non-flexible mode.
fn read_vp9(payload: &[u8]) -> Option<PictureFields> {
    let mut fields = PictureFields::default();
    let flags = *payload.first()?;
    let mut at = 1;
    if flags & 0x80 != 0 {
        at += read_picture_id(payload, at, &mut fields)?;
    }
    if flags & 0x20 != 0 && flags & 0x10 == 0 {
        at += 1;
        fields.tl0_pic_idx = Some(Field { value: u16::from(*payload.get(at)?), offset: at as u8 });
    }
    Some(fields)
}

/// Both codecs write it alike: M and 7 bits, or M and 15 bits. Returns its length.
fn read_picture_id(payload: &[u8], at: usize, fields: &mut PictureFields) -> Option<usize> {
    let first = *payload.get(at)?;
    if first & 0x80 == 0 {
        return Some(1);
    }
    let value = u16::from_be_bytes([first & 0x7f, *payload.get(at + 1)?]);
    fields.picture_id = Some(Field { value, offset: at as u8 });
    Some(2)
}

/// Values of the counters, or differences between them; each wraps at its own width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureIds {
    picture_id: u16,
    tl0_pic_idx: u8,
    key_idx: u8,
    frame_number: u16,
}

impl PictureIds {
    /// The offsets that let the counters of a new source go on one above these.
    #[must_use]
    pub fn continued_by(&self, fields: &PictureFields) -> PictureIds {
        let incoming = fields.values();
        PictureIds {
            picture_id: self.picture_id.wrapping_add(1).wrapping_sub(incoming.picture_id) & 0x7fff,
            tl0_pic_idx: self.tl0_pic_idx.wrapping_add(1).wrapping_sub(incoming.tl0_pic_idx),
            key_idx: self.key_idx.wrapping_add(1).wrapping_sub(incoming.key_idx) & 0x1f,
            frame_number: self.frame_number.wrapping_add(1).wrapping_sub(incoming.frame_number),
        }
    }

    /// These offsets after so many pictures were left out, whose ids the next ones take.
    #[must_use]
    pub fn without_pictures(self, pictures: u16) -> PictureIds {
        PictureIds { picture_id: self.picture_id.wrapping_sub(pictures) & 0x7fff, ..self }
    }

    /// Notes what a packet was sent with, where it is newer than all before it. A counter that the packet does not
    /// carry stays.
    pub fn advance(&mut self, fields: &PictureFields, offsets: &PictureIds) {
        let sent = fields.values().plus(*offsets);
        if fields.picture_id.is_some() && newer(sent.picture_id << 1, self.picture_id << 1) {
            self.picture_id = sent.picture_id;
        }
        if fields.tl0_pic_idx.is_some() && (sent.tl0_pic_idx.wrapping_sub(self.tl0_pic_idx) as i8) > 0 {
            self.tl0_pic_idx = sent.tl0_pic_idx;
        }
        if fields.key_idx.is_some() && (sent.key_idx.wrapping_sub(self.key_idx) & 0x1f) < 0x10 {
            self.key_idx = sent.key_idx;
        }
        if fields.frame_number.is_some() && newer(sent.frame_number, self.frame_number) {
            self.frame_number = sent.frame_number;
        }
    }

    /// The first packet of a slot defines the counters.
    pub fn start(&mut self, fields: &PictureFields) {
        *self = fields.values();
    }

    /// Writes the counters, moved by these offsets, into a copy of the payload that they were read from.
    pub fn apply(&self, fields: &PictureFields, payload: &mut [u8]) {
        let sent = fields.values().plus(*self);
        if let Some(field) = fields.picture_id {
            let at = field.offset as usize;
            if let Some(place) = payload.get_mut(at..at + 2) {
                place.copy_from_slice(&(sent.picture_id | 0x8000).to_be_bytes());
            }
        }
        if let Some(place) = fields.tl0_pic_idx.and_then(|f| payload.get_mut(f.offset as usize)) {
            *place = sent.tl0_pic_idx;
        }
        if let Some(place) = fields.key_idx.and_then(|f| payload.get_mut(f.offset as usize)) {
            *place = (*place & 0xe0) | sent.key_idx;
        }
    }

    /// Writes the frame number, moved by these offsets, into a copy of the dependency descriptor.
    pub fn apply_to_descriptor(&self, fields: &PictureFields, descriptor: &mut [u8]) {
        if let (Some(number), Some(place)) = (fields.frame_number, descriptor.get_mut(1..3)) {
            place.copy_from_slice(&number.wrapping_add(self.frame_number).to_be_bytes());
        }
    }

    fn plus(self, offsets: PictureIds) -> PictureIds {
        PictureIds {
            picture_id: self.picture_id.wrapping_add(offsets.picture_id) & 0x7fff,
            tl0_pic_idx: self.tl0_pic_idx.wrapping_add(offsets.tl0_pic_idx),
            key_idx: self.key_idx.wrapping_add(offsets.key_idx) & 0x1f,
            frame_number: self.frame_number.wrapping_add(offsets.frame_number),
        }
    }
}

fn newer(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VP8 payload as browsers send it: X, then I L T K, a 15-bit picture id, TL0PICIDX, TID and KEYIDX.
    fn vp8(picture: u16, tl0: u8, key: u8) -> [u8; 8] {
        let [high, low] = (picture | 0x8000).to_be_bytes();
        [0x90, 0xf0, high, low, tl0, 0x20 | key, 0x10, 0xaa]
    }

    fn sent(offsets: PictureIds, packet: [u8; 8]) -> [u8; 8] {
        let mut copy = packet;
        offsets.apply(&PictureFields::read(Codec::Vp8, &packet, None), &mut copy);
        copy
    }

    #[test]
    fn the_counters_go_on_over_a_switch() {
        let mut ids = PictureIds::default();
        let first = PictureFields::read(Codec::Vp8, &vp8(0x7ffe, 255, 31), None);
        ids.start(&first);
        let unchanged = PictureIds::default();
        ids.advance(&PictureFields::read(Codec::Vp8, &vp8(0x7fff, 0, 31), None), &unchanged);

        let other = vp8(100, 7, 3);
        let offsets = ids.continued_by(&PictureFields::read(Codec::Vp8, &other, None));
        assert_eq!(sent(offsets, other), vp8(0, 1, 0));
        assert_eq!(sent(offsets, vp8(101, 7, 3)), vp8(1, 1, 0));
    }

    #[test]
    fn a_reordered_packet_does_not_take_the_counters_back() {
        let mut ids = PictureIds::default();
        ids.start(&PictureFields::read(Codec::Vp8, &vp8(500, 10, 1), None));
        let offsets = PictureIds::default();
        ids.advance(&PictureFields::read(Codec::Vp8, &vp8(499, 9, 1), None), &offsets);
        assert_eq!((ids.picture_id, ids.tl0_pic_idx), (500, 10));
    }

    #[test]
    fn the_frame_number_of_a_descriptor_goes_on_too() {
        let mut ids = PictureIds::default();
        ids.start(&PictureFields::read(Codec::Av1, &[], Some(&[0xc0, 0xff, 0xff])));
        let other = [0xc0, 0x12, 0x34, 0x56];
        let fields = PictureFields::read(Codec::Av1, &[], Some(&other));
        let offsets = ids.continued_by(&fields);
        let mut copy = other;
        offsets.apply_to_descriptor(&fields, &mut copy);
        assert_eq!(copy, [0xc0, 0, 0, 0x56]);
    }

    #[test]
    fn vp9_counters_are_found_where_they_stand() {
        let payload = [0xa0, 0x81, 0x02, 0x40, 0x09, 0xee];
        let fields = PictureFields::read(Codec::Vp9, &payload, None);
        assert_eq!(fields.picture_id, Some(Field { value: 0x102, offset: 1 }));
        assert_eq!(fields.tl0_pic_idx, Some(Field { value: 9, offset: 4 }));
    }

    #[test]
    fn no_input_panics() {
        for length in 0..8 {
            for first in 0..=255u8 {
                for second in [0, 0x80, 0xf0, 0xff] {
                    let mut payload = [first, second, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
                    for codec in [Codec::Vp8, Codec::Vp9] {
                        let fields = PictureFields::read(codec, &payload[..length], Some(&[second][..]));
                        PictureIds::default().apply(&fields, &mut payload[..length]);
                    }
                }
            }
        }
    }
}
