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
    // Shorter than addresses, so that a sum of one and a constant cannot overflow.
    start: u32,
    end: u32,
}

impl<'a> Frame<'a> {
    /// The packet of `len` bytes that begins at `start` of `buffer`; both are cut to what the buffer holds, in its first
    /// 4 GiB.
    #[inline]
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize) -> Self {
        let room = buffer.len().min(u32::MAX as usize);
        let start = start.min(room);
        let end = start.saturating_add(len).min(room);
        Frame { buffer, start: start as u32, end: end as u32 }
    }

    /// The same of a packet that is known to lie within `buffer`: where it does not, no access finds it.
    #[inline(always)]
    pub fn within(buffer: &'a mut [u8], start: u16, len: u16) -> Self {
        let (start, len) = (u32::from(start), u32::from(len));
        Frame { buffer, start, end: start + len }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        self.start as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.end as usize
    }

    /// The packet's length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether no byte is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where the packet begins in its buffer, and its length: what an mbuf is told after the packet was rewritten.
    #[inline]
    pub fn extent(&self) -> (u32, u32) {
        (self.start, self.end - self.start)
    }

    /// Free bytes in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start()
    }

    /// The packet's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start()..self.end()).unwrap_or_default()
    }

    /// The packet's bytes, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start()..self.end()).unwrap_or_default()
    }

    /// The `N` bytes of the buffer that begin `offset` bytes into the packet. Those behind the packet's end mean nothing:
    /// whoever looks here compares lengths first. `None` where the buffer ends before.
    #[inline(always)]
    pub fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.buffer.get(..self.start() + offset + N)?.last_chunk()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.buffer.get_mut(..self.start as usize + offset + N)?.last_chunk_mut()
    }

    /// The buffer from `front` bytes before what begins `offset` bytes into the packet, to its end. `None` where there are
    /// fewer.
    #[inline(always)]
    pub fn around(&mut self, offset: usize, front: usize) -> Option<&mut [u8]> {
        let begin = (self.start as usize + offset).checked_sub(front)?;
        self.buffer.get_mut(begin..)
    }

    /// Makes the packet what begins `offset` bytes into it and is `len` bytes long, with `front` bytes more in front of that.
    /// `None`, and nothing changed, where the packet ends before, or there is less headroom.
    #[inline(always)]
    pub fn recut(&mut self, offset: usize, len: usize, front: usize) -> Option<()> {
        let inner = self.start() + offset;
        let (start, end) = (inner.checked_sub(front)?, inner + len);
        if end > self.end() {
            return None;
        }
        (self.start, self.end) = (start as u32, end as u32);
        Some(())
    }

    /// The `len` bytes of the packet that begin `offset` bytes into it, as a packet of their own; both are cut to what the
    /// packet holds.
    pub fn inner(&mut self, offset: usize, len: usize) -> Frame<'_> {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        Frame::new(self.buffer, self.start as usize + offset, len)
    }

    /// Takes `count` bytes off the front. `None`, and nothing changed, where the packet is shorter.
    #[inline]
    pub fn pop_front(&mut self, count: usize) -> Option<()> {
        if count > self.len() {
            return None;
        }
        self.start += count as u32;
        Some(())
    }

    /// Puts `count` bytes in front and returns the packet from its new start. What they hold is whatever the headroom
    /// held. `None`, and nothing changed, where the headroom is smaller.
    #[inline]
    pub fn push_front(&mut self, count: usize) -> Option<&mut [u8]> {
        self.start = self.start().checked_sub(count)? as u32;
        Some(self.bytes_mut())
    }

    /// Bytes that the packet may have where it begins: its own, and the free ones behind it.
    pub fn room(&self) -> usize {
        self.buffer.len().min(u32::MAX as usize).saturating_sub(self.start())
    }

    /// Makes the packet `len` bytes long; bytes beyond its end are whatever the buffer held. `None`, and nothing changed,
    /// where there is less [`room`](Self::room).
    pub fn resize(&mut self, len: usize) -> Option<()> {
        if len > self.room() {
            return None;
        }
        self.end = self.start + len as u32;
        Some(())
    }

    /// Cuts the packet to its first `len` bytes; a shorter one stays as it is.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end().min(self.start() + len) as u32;
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
        assert_eq!(frame.around(1, 3), Some(&mut [1, 2, 3, 4, 5, 6, 7][..]));
        assert_eq!(frame.around(0, 4), None);
        assert_eq!(frame.around(9, 1), None);
    }

    #[test]
    fn nothing_is_found_of_a_packet_that_is_not_within_its_buffer() {
        let mut buffer = [0, 1, 2, 3];
        assert_eq!(Frame::within(&mut buffer, 1, 2).bytes(), [1, 2]);
        for (start, len) in [(2, 3), (5, 1), (u16::MAX, u16::MAX)] {
            let mut frame = Frame::within(&mut buffer, start, len);
            assert_eq!(frame.bytes(), [0; 0]);
            assert_eq!(frame.window::<1>(2), None);
            assert_eq!(frame.bytes_mut(), [0; 0]);
            assert_eq!(frame.resize(9), None);
        }
    }

    #[test]
    fn recut_moves_both_ends_or_none() {
        let mut buffer = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut frame = Frame::new(&mut buffer, 2, 5);
        assert_eq!(frame.recut(3, 3, 0), None);
        assert_eq!(frame.recut(1, 2, 4), None);
        assert_eq!(frame.extent(), (2, 5));
        assert_eq!(frame.recut(2, 2, 3), Some(()));
        assert_eq!(frame.bytes(), [1, 2, 3, 4, 5]);
        assert_eq!(frame.inner(1, 2).bytes(), [2, 3]);
        assert_eq!(frame.inner(4, 9).bytes(), [5]);
        assert_eq!(frame.inner(9, 9).bytes(), [0; 0]);
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
