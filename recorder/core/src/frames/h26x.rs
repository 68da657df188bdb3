//! H264 (RFC 6184) and H265 (RFC 7798): units out of packets, each behind its length.

/// H264: several units in a packet, and a part of one.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// H265: the same.
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

/// Marks of a part: the first of its unit, and the last.
const START: u8 = 0x80;
const END: u8 = 0x40;

/// Puts the units of an H264 payload behind `data`. `open` is where the unit begins that is not whole yet. `None` when the
/// payload is none, or belongs to a unit of which the start is missing.
pub(super) fn append_h264(payload: &[u8], open: &mut Option<usize>, data: &mut Vec<u8>) -> Option<()> {
    let (&indicator, rest) = payload.split_first()?;
    match indicator & 0x1f {
        1..=23 => append_unit(payload, *open, data),
        STAP_A => append_aggregated(rest, *open, data),
        FU_A => {
            let (&part, body) = rest.split_first()?;
            append_part(part, &[indicator & 0xe0 | part & 0x1f], body, open, data)
        }
        _ => None,
    }
}

/// The same for an H265 payload, without decoding order numbers, which nobody negotiates.
pub(super) fn append_h265(payload: &[u8], open: &mut Option<usize>, data: &mut Vec<u8>) -> Option<()> {
    let (&[first, second], rest) = payload.split_first_chunk()?;
    match first >> 1 & 0x3f {
        AGGREGATION => append_aggregated(rest, *open, data),
        FRAGMENT => {
            let (&part, body) = rest.split_first()?;
            append_part(part, &[first & 0x81 | (part & 0x3f) << 1, second], body, open, data)
        }
        0..AGGREGATION => append_unit(payload, *open, data),
        _ => None,
    }
}

fn append_aggregated(mut rest: &[u8], open: Option<usize>, data: &mut Vec<u8>) -> Option<()> {
    while !rest.is_empty() {
        let (&len, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        append_unit(unit, open, data)?;
        rest = after;
    }
    Some(())
}

fn append_unit(unit: &[u8], open: Option<usize>, data: &mut Vec<u8>) -> Option<()> {
    if open.is_some() {
        return None;
    }
    data.extend_from_slice(&u32::try_from(unit.len()).ok()?.to_be_bytes());
    data.extend_from_slice(unit);
    Some(())
}

fn append_part(
    part: u8,
    header: &[u8],
    body: &[u8],
    open: &mut Option<usize>,
    data: &mut Vec<u8>,
) -> Option<()> {
    let start = match *open {
        None if part & START != 0 => {
            let start = data.len();
            data.extend_from_slice(&[0; 4]);
            data.extend_from_slice(header);
            *open = Some(start);
            start
        }
        Some(start) if part & START == 0 => start,
        _ => return None,
    };
    data.extend_from_slice(body);
    if part & END != 0 {
        let length = u32::try_from(data.len() - start - 4).ok()?;
        data.get_mut(start..start + 4)?.copy_from_slice(&length.to_be_bytes());
        *open = None;
    }
    Some(())
}
