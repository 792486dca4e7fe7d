//! Entering the authentication string, as the phone's user does it.

use std::io::{self, BufRead, Write};

use secrecy::{SecretString, zeroize::Zeroizing};

use crate::domain::string::{AuthenticationString, Malformed};

/// What the phone shows.
pub const PROMPT: &str = "Enter authentication string: ";

/// How often a user may mistype before anything is sent.
const TRIES: usize = 3;

/// Bytes read of a line at most: ten digits, a line end, and enough more to call it too long.
const LINE_LIMIT: usize = 64;

/// No string was entered.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The terminal or file cannot be read.
    #[error("read authentication string: {0}")]
    Read(#[from] io::Error),
    /// The input ended first.
    #[error(
        "read authentication string: the input is at its end; type it, or give --authentication-string-file or --null-string"
    )]
    Nothing,
    /// What was entered is no string.
    #[error("read authentication string: it {0}")]
    Malformed(#[from] Malformed),
}

/// Asks for 4 to 10 digits on `output` and reads them from a line of `input`; asks again when they are none, three times in all.
///
/// # Errors
/// [`EntryError`]; what was entered is never in it.
pub fn ask(input: &mut impl BufRead, output: &mut impl Write) -> Result<SecretString, EntryError> {
    let mut tries = 1;
    loop {
        write!(output, "{PROMPT}")?;
        output.flush()?;
        let mut line = Zeroizing::new(String::with_capacity(LINE_LIMIT));
        if io::Read::take(&mut *input, LINE_LIMIT as u64).read_line(&mut line)? == 0 {
            return Err(EntryError::Nothing);
        }
        match AuthenticationString::parse(&line) {
            Ok(string) => return Ok(string.digits().clone()),
            Err(problem) if tries == TRIES => return Err(problem.into()),
            Err(problem) => writeln!(output, "It {problem}.")?,
        }
        tries += 1;
    }
}

/// Reads 4 to 10 digits, and one line end at most, from what a file holds.
///
/// # Errors
/// [`EntryError`]; what the file holds is never in it.
pub fn parse(content: &str) -> Result<SecretString, EntryError> {
    Ok(AuthenticationString::parse(content)?.digits().clone())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn entered(text: &str) -> (Result<SecretString, EntryError>, String) {
        let mut output = Vec::new();
        let digits = ask(&mut text.as_bytes(), &mut output);
        (digits, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_line_of_digits_is_taken() {
        let (digits, shown) = entered("4711\nmore");
        assert_eq!(digits.unwrap().expose_secret(), "4711");
        assert_eq!(shown, "Enter authentication string: ");
    }

    #[test]
    fn a_mistyped_string_is_asked_for_again_and_never_shown() {
        let (digits, shown) = entered("12x4\n123\n0815\n");
        assert_eq!(digits.unwrap().expose_secret(), "0815");
        assert_eq!(shown.matches(PROMPT).count(), 3);
        assert!(!shown.contains("12x4") && !shown.contains("123"), "{shown}");
    }

    #[test]
    fn the_third_mistake_and_the_end_of_input_are_errors_that_show_nothing() {
        let error = entered("1\n22\n33x3\n4444\n").0.unwrap_err().to_string();
        assert!(!error.contains("33x3") && error.contains("4 to 10 digits"), "{error}");
        assert!(matches!(entered("").0, Err(EntryError::Nothing)));
    }
}
