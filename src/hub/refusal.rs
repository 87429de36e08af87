//! What a server's refusal means for the user.

use crate::Error;

/// What the user can do where a server refuses.
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// What is expected where the server answers 401 or 403.
    pub when_denied: &'static str,
    /// What is expected where the server answers 404 or 410.
    pub when_missing: &'static str,
}

/// An answer that is no success.
#[derive(Debug)]
pub enum Refusal {
    /// It may be better next time.
    Transient(String),
    /// The same would happen again.
    Final(Error),
}

/// Judges `status` (with its phrase: "404 Not Found") of the answer for `url`, whose body may say why.
pub fn refusal(url: &str, code: u16, status: &str, body: &str, advice: Advice) -> Refusal {
    let explanation = explanation(body).map_or_else(String::new, |text| format!(" ({text})"));
    let problem = format!("the server answers {status}{explanation}");
    let place = without_secrets(url);
    match code {
        429 => Refusal::Transient(format!(
            "{problem}: it limits how often one address may ask; wait a few minutes"
        )),
        408 | 425 | 500..=599 => Refusal::Transient(problem),
        401 | 403 => Refusal::Final(Error::input(place, problem, advice.when_denied)),
        404 | 410 => Refusal::Final(Error::input(place, problem, advice.when_missing)),
        _ => Refusal::Final(Error::Network { url: place, problem }),
    }
}

/// The `error` or `message` of a JSON body. Pages meant for browsers are left out.
pub fn explanation(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = value.get("error").or_else(|| value.get("message"))?.as_str()?;
    Some(text.chars().filter(|char| !char.is_control()).take(200).collect())
}

/// An address fit to be shown: user, password and query, which may hold a signature, are left out.
pub fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// Start and, unless it is `*`, total of a `Content-Range` (RFC 9110, section 14.4).
pub fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_addresses_hold_no_secrets() {
        assert_eq!(without_secrets("https://u:p@host:8/a/b?sig=1#x"), "https://host:8/a/b");
        assert_eq!(without_secrets("https://host"), "https://host");
    }

    #[test]
    fn a_limit_is_told_apart_from_a_refusal() {
        let advice = Advice { when_denied: "a token", when_missing: "a name" };
        let judged = |code| refusal("https://h/x?sig=1", code, "said", r#"{"error":"why"}"#, advice);
        assert!(matches!(judged(429), Refusal::Transient(text) if text.contains("wait a few minutes")));
        assert!(matches!(judged(503), Refusal::Transient(_)));
        let Refusal::Final(denied) = judged(403) else { panic!("403 is final") };
        assert_eq!(denied.to_string(), "https://h/x: the server answers said (why); expected a token");
    }
}
