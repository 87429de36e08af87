//! Reading numbers and strings off the beginning of a file of which only a part is at hand.

use crate::Error;

/// Why parsing stopped.
pub(super) enum Stop {
    /// The bytes at hand end before this many; the file has them.
    NeedMore(u64),
    /// The file is at fault.
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Bad(error)
    }
}

/// A position in the first bytes of a file.
pub(super) struct Cursor<'a> {
    /// The file's beginning, as far as it is read.
    pub bytes: &'a [u8],
    /// The whole file's size.
    pub file_size: u64,
    /// Where the next value begins.
    pub at: u64,
    /// The file's name, for messages.
    pub file: &'a str,
}

impl<'a> Cursor<'a> {
    /// Bytes of the file after the position.
    pub fn remaining(&self) -> u64 {
        self.file_size - self.at
    }

    /// The next `n` bytes; `what` they are goes into the message where the file is too short.
    pub fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], Stop> {
        if n > self.remaining() {
            let problem = format!("{what} takes {n} bytes, {} remain in the file", self.remaining());
            return Err(Error::input(self.place(), problem, "a length within the file").into());
        }
        let end = self.at + n; // within the file's size, so no overflow
        let bounds = usize::try_from(self.at).ok().zip(usize::try_from(end).ok());
        let taken = bounds.and_then(|(start, end)| self.bytes.get(start..end)).ok_or(Stop::NeedMore(end))?;
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Stop> {
        let taken = self.take(N as u64, what)?;
        <[u8; N]>::try_from(taken).map_err(|_| Stop::NeedMore(self.at))
    }

    /// The next four bytes as a number.
    pub fn u32(&mut self, what: &str) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// The next eight bytes as a number.
    pub fn u64(&mut self, what: &str) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of items of at least `n_bytes_each`, refused where the file cannot hold so many.
    pub fn count(&mut self, n_bytes_each: u64, what: &str) -> Result<u64, Stop> {
        let place = self.place();
        let count = self.u64(what)?;
        let limit = self.remaining() / n_bytes_each;
        if count > limit {
            let problem = format!("{what} is {count}");
            return Err(
                Error::input(place, problem, format!("at most {limit} in the rest of the file")).into()
            );
        }
        Ok(count)
    }

    /// A string behind its length.
    pub fn string(&mut self, what: &str) -> Result<&'a str, Stop> {
        let place = self.place();
        let length = self.u64(what)?;
        let bytes = self.take(length, what)?;
        let text = std::str::from_utf8(bytes);
        text.map_err(|e| Error::input(place, format!("{what} is not UTF-8: {e}"), "UTF-8 text").into())
    }

    /// The position, for messages.
    pub fn place(&self) -> String {
        format!("{}, byte {}", self.file, self.at)
    }
}
