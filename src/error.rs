//! The one error type of the core. Variants are told apart by what the user can do next, and each
//! message says what happened, where, and what was expected.

use std::io::ErrorKind;
use std::path::Path;

/// Result of everything in the core that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, grouped by the next step open to the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mend a file, a row, a flag or a setting, then run again.
    #[error("{place}: {problem}; expected {expected}")]
    Input {
        /// File with line or field, flag, or setting: enough to jump there.
        place: String,
        /// What was found, with the value where it is short.
        problem: String,
        /// What would have been right.
        expected: String,
    },
    /// Several places of the same input are wrong; all are listed at once.
    #[error("{}", join_lines(.0))]
    Inputs(Vec<Error>),
    /// Choose something that is supported.
    #[error("{what} is not supported; supported: {supported}")]
    Unsupported {
        /// The thing asked for.
        what: String,
        /// What can be asked for instead.
        supported: String,
    },
    /// Free space, change permissions or the path.
    #[error("could not {action} {path}: {source}")]
    Io {
        /// A verb phrase: "read", "write", "create".
        action: &'static str,
        /// File, folder or key.
        path: String,
        /// The system's own word.
        source: std::io::Error,
    },
    /// Check the connection or the address; what was fetched so far is kept.
    #[error("could not fetch {url}: {problem}")]
    Network {
        /// Address as requested, without credentials.
        url: String,
        /// Status or transport error.
        problem: String,
    },
    /// Choose another device or change its load.
    #[error("device {device}: {problem}; {advice}")]
    Device {
        /// Device name as `attune devices` prints it.
        device: String,
        /// What failed on it.
        problem: String,
        /// What to try.
        advice: String,
    },
    /// The numbers left the rails.
    #[error("{}{quantity} is not finite ({value}); {advice}", at_step(*step))]
    NotFinite {
        /// Optimizer step, counted from 1; 0 outside training.
        step: usize,
        /// `loss`, `grad_norm`, `weights` …
        quantity: &'static str,
        /// The value seen.
        value: f64,
        /// What to try.
        advice: String,
    },
    /// The user, or the program's owner, asked to stop.
    #[error("stopped at {0}")]
    Interrupted(String),
    /// A fault of attune itself; worth a report.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// A mistake in something the user gave.
    pub fn input(place: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Input { place: place.into(), problem: problem.into(), expected: expected.into() }
    }

    /// A file-system failure at `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().display().to_string(), source }
    }

    /// The listed errors as one, or `Ok` when there are none.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.swap_remove(0)),
            _ => Err(Self::Inputs(errors)),
        }
    }

    /// The same with file names instead of the keys in and beside the model `key`: `model.safetensors` for
    /// `models/one/model.safetensors`, `one.gguf` for `models/one.gguf`.
    pub fn without_folder(self, key: &str) -> Self {
        let parent = key.rsplit_once('/').map_or("", |(parent, _)| parent);
        let short = |text: String| {
            let text = text.replace(&format!("{key}/"), "");
            if parent.is_empty() { text } else { text.replace(&format!("{parent}/"), "") }
        };
        match self {
            Self::Input { place, problem, expected } => {
                Self::Input { place: short(place), problem, expected }
            }
            Self::Inputs(several) => {
                Self::Inputs(several.into_iter().map(|error| error.without_folder(key)).collect())
            }
            Self::Unsupported { what, supported } => Self::Unsupported { what: short(what), supported },
            Self::Io { action, path, source } => Self::Io { action, path: short(path), source },
            other => other,
        }
    }

    /// 2 where the user's input is at fault, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input { .. } | Self::Inputs(_) | Self::Unsupported { .. } => 2,
            Self::Io { source, .. } if is_for_the_user(source.kind()) => 2,
            Self::Device { .. } => 2,
            Self::Io { .. }
            | Self::Network { .. }
            | Self::NotFinite { .. }
            | Self::Interrupted(_)
            | Self::Internal(_) => 1,
        }
    }
}

fn at_step(step: usize) -> String {
    if step == 0 { String::new() } else { format!("step {step}: ") }
}

/// Whether another path, other permissions or more space would have helped.
fn is_for_the_user(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
            // A text that is not UTF-8.
            | ErrorKind::InvalidData
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
    )
}

fn join_lines(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_key_is_shown_as_its_file() {
        let shown = |key: &str, place: &str| Error::input(place, "p", "e").without_folder(key).to_string();
        let key = "models/one";
        assert_eq!(shown(key, "models/one/config.json"), "config.json: p; expected e");
        assert_eq!(shown(key, "models/one"), "one: p; expected e");
        assert_eq!(shown("models/x.gguf", "models/x.gguf, tensor a"), "x.gguf, tensor a: p; expected e");
        let several = Error::Inputs(vec![Error::input("models/one/a", "p", "e")]);
        assert_eq!(several.without_folder(key).to_string(), "a: p; expected e");
    }

    #[test]
    fn what_the_user_can_mend_is_exit_code_2() {
        let code = |kind: ErrorKind| Error::io("write", "x", kind.into()).exit_code();
        for kind in [ErrorKind::StorageFull, ErrorKind::IsADirectory, ErrorKind::PermissionDenied] {
            assert_eq!(code(kind), 2, "{kind}");
        }
        assert_eq!(code(ErrorKind::Other), 1);
    }
}
