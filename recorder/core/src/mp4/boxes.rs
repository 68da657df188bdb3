//! Boxes (ISO/IEC 14496-12 section 4.2): a size, a name of four letters, and what they hold.

/// The name of a box.
pub(crate) type Name = [u8; 4];

/// The head of a box: its size in four bytes, and its name.
pub(crate) const HEAD: usize = 8;

/// Writes a box that holds what `inside` writes.
pub(crate) fn write(name: Name, out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&name);
    inside(out);
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// The same for a box with a version and flags.
pub(crate) fn write_full(
    name: Name,
    version: u8,
    flags: u32,
    out: &mut Vec<u8>,
    inside: impl FnOnce(&mut Vec<u8>),
) {
    write(name, out, |out| {
        put32(u32::from(version) << 24 | flags, out);
        inside(out);
    });
}

/// Fills exactly so many bytes, at least 8, with nothing.
pub(crate) fn write_free(bytes: usize, out: &mut Vec<u8>) {
    write(*b"free", out, |out| out.resize(out.len() + bytes - HEAD, 0));
}

pub(crate) fn put16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Several numbers of 32 bits.
pub(crate) fn put_each(values: &[u32], out: &mut Vec<u8>) {
    for value in values {
        put32(*value, out);
    }
}

pub(crate) fn put64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// The boxes in some bytes, one behind the other, up to the first that is cut off.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = get32(rest, 0)? as usize;
        let name = *rest.get(4..)?.first_chunk()?;
        let (whole, after) = rest.split_at_checked(size)?;
        rest = after;
        Some((name, whole.get(HEAD..)?))
    })
}

/// The first box of this name in some bytes.
pub(super) fn find(name: Name, bytes: &[u8]) -> Option<&[u8]> {
    each(bytes).find(|(found, _)| *found == name).map(|(_, inside)| inside)
}

pub(super) fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn get64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
