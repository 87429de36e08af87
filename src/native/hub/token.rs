//! Where the hub's token is kept, by the rules of the hub's own tools.

use crate::{Error, Result};
use std::path::PathBuf;

/// The token, read by `environment`: `HF_TOKEN`, or the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`.
///
/// # Errors
/// [`Error::Input`] where what is there cannot be a token. It is never shown.
pub(super) fn token(environment: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
    let home = || environment("HOME").or_else(|| environment("USERPROFILE")).map(PathBuf::from);
    let from_file = || {
        let path = environment("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
            let caches =
                || environment("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".cache")));
            let folder =
                environment("HF_HOME").map(PathBuf::from).or_else(|| Some(caches()?.join("huggingface")))?;
            Some(folder.join("token"))
        })?;
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path.display().to_string(), text.trim().to_owned())).filter(|(_, token)| !token.is_empty())
    };
    let Some((place, token)) =
        environment("HF_TOKEN").map(|token| ("HF_TOKEN".to_owned(), token)).or_else(from_file)
    else {
        return Ok(None);
    };
    // The value itself is a secret: it is not shown.
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Some(token)),
        false => {
            Err(Error::input(place, "holds spaces or other characters no token has", "one token of the hub"))
        }
    }
}
