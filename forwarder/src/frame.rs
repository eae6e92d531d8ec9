//! A packet in memory: one buffer, two offsets.
//!
//! Everything between the receive and the transmit call of a device works on this type alone, so the packet code runs
//! the same on an mbuf, on a line of a capture file and on an array in a test. Headers are taken off by moving the
//! start forward and put on by moving it back into the headroom; bytes are never shifted.

/// Bytes kept free in front of a received packet for the headers that encapsulation adds: DPDK's own default.
pub const HEADROOM: usize = 128;

/// A packet: the bytes `start..end` of a buffer, with room on both sides.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    /// The packet of `len` bytes that begins at `start` of `buffer`; both are cut to what the buffer holds.
    #[inline]
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize) -> Self {
        let start = start.min(buffer.len());
        let end = start.saturating_add(len).min(buffer.len());
        Frame { buffer, start, end }
    }

    /// The packet's length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where the packet begins in its buffer, and its length: what an mbuf is told after the packet was rewritten.
    #[inline]
    pub fn extent(&self) -> (usize, usize) {
        (self.start, self.len())
    }

    /// Free bytes in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// The packet's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The packet's bytes, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// The packet's bytes with all the room behind them, to be changed in place, and how many of them are the packet's.
    #[inline(always)]
    pub fn bytes_and_room(&mut self) -> (&mut [u8], usize) {
        let len = self.len();
        (self.buffer.get_mut(self.start..).unwrap_or_default(), len)
    }

    /// The `N` bytes of the buffer that begin `offset` bytes into the packet. Those behind the packet's end mean nothing:
    /// whoever looks here compares lengths first. `None` where the buffer ends before.
    #[inline(always)]
    pub fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.buffer.get(..self.start + offset + N)?.last_chunk()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.buffer.get_mut(..self.start + offset + N)?.last_chunk_mut()
    }

    /// The `N` bytes right in front of the packet. `None` where the headroom is smaller.
    #[inline(always)]
    pub fn room_in_front<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.buffer.get_mut(..self.start)?.last_chunk_mut()
    }

    /// Takes `count` bytes off the front. `None`, and nothing changed, where the packet is shorter.
    #[inline]
    pub fn pop_front(&mut self, count: usize) -> Option<()> {
        if count > self.len() {
            return None;
        }
        self.start += count;
        Some(())
    }

    /// Puts `count` bytes in front and returns the packet from its new start. What they hold is whatever the headroom
    /// held. `None`, and nothing changed, where the headroom is smaller.
    #[inline]
    pub fn push_front(&mut self, count: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(count)?;
        Some(self.bytes_mut())
    }

    /// Bytes that the packet may have where it begins: its own, and the free ones behind it.
    pub fn room(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Makes the packet `len` bytes long; bytes beyond its end are whatever the buffer held. `None`, and nothing changed,
    /// where there is less [`room`](Self::room).
    pub fn resize(&mut self, len: usize) -> Option<()> {
        if len > self.room() {
            return None;
        }
        self.end = self.start + len;
        Some(())
    }

    /// Cuts the packet to its first `len` bytes; a shorter one stays as it is.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pop_then_push_restores_the_packet() {
        let mut buffer = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut frame = Frame::new(&mut buffer, 2, 5);
        assert_eq!(frame.pop_front(3), Some(()));
        assert_eq!(frame.bytes(), [5, 6]);
        assert_eq!(frame.push_front(3).unwrap(), [2, 3, 4, 5, 6]);
        assert_eq!(frame.extent(), (2, 5));
    }

    #[test]
    fn pop_refuses_more_than_the_packet_holds() {
        let mut buffer = [0; 8];
        let mut frame = Frame::new(&mut buffer, 2, 5);
        assert_eq!(frame.pop_front(6), None);
        assert_eq!(frame.extent(), (2, 5));
    }

    #[test]
    fn push_refuses_more_than_the_headroom_holds() {
        let mut buffer = [0; 8];
        let mut frame = Frame::new(&mut buffer, 2, 5);
        assert!(frame.push_front(3).is_none());
        assert_eq!(frame.headroom(), 2);
    }

    #[test]
    fn windows_reach_as_far_as_the_buffer() {
        let mut buffer = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut frame = Frame::new(&mut buffer, 3, 2);
        assert_eq!(frame.window::<4>(1), Some(&[4, 5, 6, 7]));
        assert_eq!(frame.window::<4>(2), None);
        assert_eq!(frame.window::<1>(9), None);
        assert_eq!(frame.window_mut::<2>(0), Some(&mut [3, 4]));
        assert_eq!(frame.room_in_front::<2>(), Some(&mut [1, 2]));
        assert_eq!(frame.room_in_front::<4>(), None);
    }

    #[test]
    fn truncate_cuts_the_end_and_never_lengthens() {
        let mut buffer = [0, 1, 2, 3];
        let mut frame = Frame::new(&mut buffer, 1, 3);
        frame.truncate(9);
        assert_eq!(frame.len(), 3);
        frame.truncate(1);
        assert_eq!(frame.bytes(), [1]);
    }

    #[test]
    fn resize_uses_the_room_behind_and_no_more() {
        let mut buffer = [0, 1, 2, 3, 4];
        let mut frame = Frame::new(&mut buffer, 2, 1);
        assert_eq!(frame.room(), 3);
        assert_eq!(frame.resize(4), None);
        assert_eq!(frame.extent(), (2, 1));
        assert_eq!(frame.resize(3), Some(()));
        assert_eq!(frame.bytes(), [2, 3, 4]);
        assert_eq!(frame.resize(2), Some(()));
        assert_eq!(frame.bytes(), [2, 3]);
    }

    #[test]
    fn extent_outside_the_buffer_is_cut() {
        let mut buffer = [0; 4];
        assert_eq!(Frame::new(&mut buffer, 9, 9).extent(), (4, 0));
        assert_eq!(Frame::new(&mut buffer, 2, usize::MAX).extent(), (2, 2));
    }
}
