//! Elements, `tag | length, 2 bytes, big endian | value`: sorting those of a body, and writing them.
//!
//! Reading is liberal about what it does not need and strict about what it uses: elements come in any order (Jabber's order is
//! not that of the other known phone), those a message has no use for are counted and passed over, one that it uses may stand
//! once only.

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::codes::{Command, ElementTag};
use super::error::{EncodeError, ParseError, Problem};
use super::frame::{Frame, HEADER_LENGTH};
use super::octets::Octets;
use super::reader::Reader;

/// Elements that were passed over, for a line in the debug log. Values are not kept: nobody knows what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: usize,
    /// The tag of the first.
    pub first: Option<ElementTag>,
}

/// The elements of one body that its message has a use for, to be taken out one by one.
pub(super) struct Elements<'a> {
    found: Vec<(ElementTag, Reader<'a>)>,
    skipped: Skipped,
    end: Reader<'a>,
}

impl<'a> Elements<'a> {
    /// Splits the body, keeps the elements in `used`, and counts the others.
    pub(super) fn of(frame: &'a Frame, used: &[ElementTag]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(frame.body(), HEADER_LENGTH, frame.command());
        let mut found: Vec<(ElementTag, Reader<'a>)> = Vec::with_capacity(used.len());
        let mut skipped = Skipped::default();
        while !reader.is_empty() {
            let start = reader.clone();
            let tag = ElementTag(reader.u8()?);
            let value = reader.counted().map_err(|error| ParseError { element: Some(tag), ..error })?;
            if !used.contains(&tag) {
                skipped.count += 1;
                skipped.first = skipped.first.or(Some(tag));
            } else if found.iter().any(|(other, _)| *other == tag) {
                return Err(start.within(tag).error(Problem::Duplicate));
            } else {
                found.push((tag, value.within(tag)));
            }
        }
        Ok(Self { found, skipped, end: reader })
    }

    /// What was passed over.
    pub(super) fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The value of an element read by `read`, which must leave nothing over; `None` when it does not stand there.
    pub(super) fn optional<T>(
        &mut self,
        tag: ElementTag,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ParseError> {
        let Some(index) = self.found.iter().position(|(found, _)| *found == tag) else {
            return Ok(None);
        };
        let (_, mut reader) = self.found.swap_remove(index);
        let value = read(&mut reader)?;
        reader.finish()?;
        Ok(Some(value))
    }

    /// The same for an element the message cannot do without.
    pub(super) fn required<T>(
        &mut self,
        tag: ElementTag,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.optional(tag, read)?.ok_or_else(|| self.missing(tag))
    }

    /// The error that an element is missing.
    pub(super) fn missing(&self, tag: ElementTag) -> ParseError {
        self.end.clone().within(tag).error(Problem::Missing)
    }
}

/// All of a value, which must not be empty.
pub(super) fn octets(reader: &mut Reader<'_>) -> Result<Octets, ParseError> {
    match reader.take(reader.left())? {
        [] => Err(reader.error(Problem::Empty)),
        bytes => Ok(Octets::from(bytes)),
    }
}

/// A text and the one NUL that ends it; at most `limit` bytes without the NUL.
///
/// The known server cuts the last byte off unseen, so that a name sent without NUL loses a letter and is another name
/// (observed). Here such a text is refused.
pub(super) fn text<'a>(reader: &mut Reader<'a>, limit: usize) -> Result<&'a str, ParseError> {
    let place = reader.clone();
    let value = reader.take(reader.left())?;
    let Some((0, text)) = value.split_last() else {
        return Err(place.error(Problem::NoNul));
    };
    if text.len() > limit {
        return Err(place.error(Problem::TooLong { length: text.len(), limit }));
    }
    if text.contains(&0) {
        return Err(place.error(Problem::InnerNul));
    }
    std::str::from_utf8(text).map_err(|_| place.error(Problem::NotText))
}

/// The same for a text that nobody may see.
pub(super) fn secret_text(reader: &mut Reader<'_>, limit: usize) -> Result<SecretString, ParseError> {
    text(reader, limit).map(SecretString::from)
}

/// Writes the elements of one body into one buffer, which is wiped when dropped.
pub(super) struct BodyWriter {
    command: Command,
    bytes: Zeroizing<Vec<u8>>,
}

impl BodyWriter {
    /// A writer that expects `values`, the lengths of the values to come. With the right lengths the buffer never moves, and
    /// a moved buffer would leave a copy behind that is not wiped.
    pub(super) fn new(command: Command, values: &[usize]) -> Self {
        let capacity = values.iter().map(|length| 3 + length).sum();
        Self { command, bytes: Zeroizing::new(Vec::with_capacity(capacity)) }
    }

    /// Adds an element whose value is these parts in a row.
    pub(super) fn element(&mut self, tag: ElementTag, parts: &[&[u8]]) -> Result<(), EncodeError> {
        self.bytes.push(tag.0);
        self.counted(tag, parts)
    }

    /// Adds a one-byte element if there is something to say.
    pub(super) fn number(&mut self, tag: ElementTag, value: Option<u8>) -> Result<(), EncodeError> {
        value.map_or(Ok(()), |value| self.element(tag, &[&[value]]))
    }

    /// Adds a text and its NUL.
    pub(super) fn text(&mut self, tag: ElementTag, text: &str) -> Result<(), EncodeError> {
        if text.contains('\0') {
            return Err(EncodeError::InnerNul { element: tag });
        }
        self.element(tag, &[text.as_bytes(), &[0]])
    }

    fn counted(&mut self, tag: ElementTag, parts: &[&[u8]]) -> Result<(), EncodeError> {
        let length = parts.iter().map(|part| part.len()).sum();
        let bytes = length_bytes(tag, length)?;
        self.bytes.extend_from_slice(&bytes);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    /// The frame around what was written.
    pub(super) fn frame(self, session_id: super::SessionId) -> Result<Frame, EncodeError> {
        Frame::new(self.command, session_id, self.bytes)
    }
}

/// A length as two bytes, big endian, inside the element `tag`.
pub(super) fn length_bytes(tag: ElementTag, length: usize) -> Result<[u8; 2], EncodeError> {
    u16::try_from(length).map(u16::to_be_bytes).map_err(|_| EncodeError::ValueTooLong { element: tag, length })
}
