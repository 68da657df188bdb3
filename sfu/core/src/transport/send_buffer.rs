//! The send buffer of one transport: packets one behind the other, ready to leave as GSO trains.

use crate::drops::DropReason;

/// Packets that wait for the end of the receive batch, in one contiguous run of bytes.
#[derive(Debug, Default)]
pub struct SendBuffer {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl SendBuffer {
    /// What one transport may have waiting within one receive batch, in bytes. More can only come from a burst that
    /// the subscriber's network would not carry either.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// What is kept allocated between batches, in bytes.
    const KEPT_BYTES: usize = 16 * 1024;

    /// Appends one packet. `write` gets the buffer and the place where the packet starts, and appends to it; when it
    /// fails, nothing has been appended.
    pub fn write(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), DropReason>,
    ) -> Result<usize, DropReason> {
        let start = self.bytes.len();
        if start >= Self::MAX_BYTES {
            return Err(DropReason::SendBufferFull);
        }
        if let Err(reason) = write(&mut self.bytes, start) {
            self.bytes.truncate(start);
            return Err(reason);
        }
        self.ends.push(self.bytes.len() as u32);
        Ok(self.bytes.len() - start)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The packets that wait, and where each ends.
    pub fn packets(&self) -> (&[u8], &[u32]) {
        (&self.bytes, &self.ends)
    }

    /// Forgets the packets: they are sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Gives back memory that a burst took. Not to be called for every batch.
    pub fn trim(&mut self) {
        if self.bytes.capacity() > 4 * Self::KEPT_BYTES {
            self.bytes.shrink_to(Self::KEPT_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let mut buffer = SendBuffer::default();
        buffer
            .write(|out, _| {
                out.extend_from_slice(b"one");
                Ok(())
            })
            .unwrap();
        let failed = buffer.write(|out, _| {
            out.extend_from_slice(b"half");
            Err(DropReason::SrtpKeyExhausted)
        });
        assert_eq!(failed, Err(DropReason::SrtpKeyExhausted));
        assert_eq!(buffer.packets(), (&b"one"[..], &[3u32][..]));
    }

    #[test]
    fn a_full_buffer_refuses_and_shrinks_when_it_is_sent() {
        let mut buffer = SendBuffer::default();
        let mut taken = 0;
        while buffer
            .write(|out, _| {
                out.extend_from_slice(&[0; 1200]);
                Ok(())
            })
            .is_ok()
        {
            taken += 1;
        }
        assert!(taken * 1200 < SendBuffer::MAX_BYTES + 1200);
        buffer.clear();
        buffer.trim();
        assert!(buffer.is_empty());
        assert!(buffer.bytes.capacity() <= 4 * SendBuffer::KEPT_BYTES);
    }
}
