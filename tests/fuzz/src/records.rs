//! How an input of several steps is laid out: records of a kind, a length and bytes, so that a fuzzer can shorten,
//! repeat and exchange them.

/// The most records of one input that are looked at; more make a run slow and find nothing else.
const MAX_RECORDS: usize = 64;

/// The records of an input: a byte of kind, two of length, so many bytes (fewer at the end).
pub fn records(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], rest) = input.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        input = rest;
        Some((kind, bytes))
    })
    .take(MAX_RECORDS)
}

/// Appends a record.
pub fn write(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("seeds are short");
    out.push(kind);
    out.extend(len.to_be_bytes());
    out.extend(bytes);
}
