//! Reading with bounds: a reader that knows where it stands, hands out exact pieces, and complains about leftovers.

use super::codes::{Command, ElementTag};
use super::error::{ParseError, Problem};

/// Reads a piece of one frame's body from front to back.
///
/// It carries the command, the element and the offset of what it reads, so that each error is complete where it arises.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
    command: Command,
    element: Option<ElementTag>,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, the first of which is byte `offset` of a frame with this command.
    pub(super) fn new(bytes: &'a [u8], offset: usize, command: Command) -> Self {
        Self { rest: bytes, offset, command, element: None }
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Exactly `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let Some((piece, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.error(Problem::BreaksOff { wanted: count, left: self.rest.len() }));
        };
        self.rest = rest;
        self.offset += count;
        Ok(piece)
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, ParseError> {
        Ok(self.take(1)?[0])
    }

    /// Two bytes, big endian.
    pub(super) fn u16(&mut self) -> Result<u16, ParseError> {
        let piece = self.take(2)?;
        Ok(u16::from_be_bytes([piece[0], piece[1]]))
    }

    /// A reader of the next bytes, as many as the two-byte length before them says.
    pub(super) fn counted(&mut self) -> Result<Reader<'a>, ParseError> {
        let length = usize::from(self.u16()?);
        let mut inner = self.clone();
        inner.rest = self.take(length)?;
        Ok(inner)
    }

    /// The same place, to be spoken of as this element.
    pub(super) fn within(mut self, element: ElementTag) -> Self {
        self.element = Some(element);
        self
    }

    /// The end, where nothing may be left over.
    pub(super) fn finish(self) -> Result<(), ParseError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(Problem::LeftOver { left })),
        }
    }

    /// An error about the place where the reader stands.
    pub(super) fn error(&self, problem: Problem) -> ParseError {
        ParseError { command: self.command, element: self.element, offset: self.offset, problem }
    }
}
