//! Requests by HTTP: what is retried, and what a refusal means for the user.

use super::{Events, environment};
use crate::hub::{self, Advice, Refusal, without_secrets};
use crate::protocol::Event;
use crate::{Error, Result};
use std::io::Read;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, ResponseExt};

/// Pauses before the second, third … attempt.
const PAUSES_MS: [u64; 5] = [500, 1000, 2000, 4000, 8000];
/// Longest pause a server can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of an error's body that are looked at.
const ERROR_BODY_LIMIT: u64 = 4096;
/// Attempts after the first that a server gets that never answered: an address may be wrong, a line may be down.
const N_FIRST_CONTACT: usize = 2;

/// What to ask for, and what to tell the user when the server refuses.
#[derive(Clone, Debug)]
pub(super) struct Get<'a> {
    /// Address; user and password in it are sent as basic authorization.
    pub url: &'a str,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// What the user can do where the server refuses.
    pub advice: Advice,
}

/// A short answer.
pub(super) struct Reply {
    /// Address after redirects: relative links start from it.
    pub url: String,
    /// Media type, lower case; empty where the server names none.
    pub content_type: String,
    /// The body.
    pub bytes: Vec<u8>,
}

/// Why one attempt failed.
pub(super) enum Failure {
    /// No answer came.
    Unreachable { problem: String },
    /// An answer came that may be better next time, perhaps after the pause that the server asks for.
    Transient { problem: String, pause: Option<Duration> },
    /// The same would happen again.
    Fatal(Error),
}

/// HTTP with this machine's proxies and certificates.
pub(super) struct Client {
    agent: Agent,
    pauses: Vec<Duration>,
}

impl Client {
    /// Proxies from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; certificates from the system, which
    /// on Linux means `SSL_CERT_FILE` and `SSL_CERT_DIR` too.
    pub fn from_environment() -> Self {
        Self {
            agent: agent(ureq::Proxy::try_from_env()),
            pauses: PAUSES_MS.map(Duration::from_millis).to_vec(),
        }
    }

    /// Without proxies and with pauses too short to notice.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self { agent: agent(None), pauses: vec![Duration::from_millis(5); 3] }
    }

    /// The answer, when it is no longer than `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Input`] where the server refuses (status 4xx), [`Error::Network`] where it cannot be reached.
    pub fn get(&self, get: &Get, limit: u64, events: Events) -> Result<Reply> {
        let mut retries = self.retries(get.url, N_FIRST_CONTACT);
        loop {
            match self.send(get, &[]).and_then(|response| read_reply(response, get.url, limit)) {
                Ok(reply) => return Ok(reply),
                Err(failure) => retries.pause(failure, "", events)?,
            }
        }
    }

    /// Patience for one address; without any answer it ends after `n_unreachable` attempts more.
    pub fn retries<'c>(&'c self, url: &'c str, n_unreachable: usize) -> Retries<'c> {
        Retries { url, pauses: &self.pauses, n_unreachable, n_failed: 0 }
    }

    /// One attempt. Redirects are followed; authorization is not sent on to another host.
    pub fn send(&self, get: &Get, more_headers: &[(&str, String)]) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(get.url);
        for (name, value) in &get.headers {
            request = request.header(*name, value);
        }
        for (name, value) in more_headers {
            request = request.header(*name, value);
        }
        let response = request.call().map_err(|error| transport_failure(get.url, error))?;
        match response.status() {
            // The ranges of a resumed download are its own affair.
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            _ => Err(refusal(get, response)),
        }
    }
}

/// How often one address has failed in a row, and how long to wait for it.
pub(super) struct Retries<'c> {
    url: &'c str,
    pauses: &'c [Duration],
    n_unreachable: usize,
    n_failed: usize,
}

impl Retries<'_> {
    /// Something came: patience begins anew.
    pub fn reset(&mut self) {
        self.n_failed = 0;
    }

    /// Sleeps before the next attempt, or turns the last failure into an error, to which `kept` is added.
    pub fn pause(&mut self, failure: Failure, kept: &str, events: Events) -> Result<()> {
        let (problem, asked, limit) = match failure {
            Failure::Fatal(error) => return Err(error),
            Failure::Transient { problem, pause } => (problem, pause, self.pauses.len()),
            Failure::Unreachable { problem } => (problem, None, self.n_unreachable),
        };
        let url = without_secrets(self.url);
        let Some(own) = self.pauses.get(self.n_failed).filter(|_| self.n_failed < limit) else {
            let problem = format!("{problem}, after {} attempts{kept}", self.n_failed + 1);
            return Err(Error::Network { url, problem });
        };
        self.n_failed += 1;
        let pause = asked.unwrap_or(*own).min(LONGEST_PAUSE);
        events(Event::Note {
            message: format!("{url}: {problem}; trying again in {:.1} s", pause.as_secs_f64()),
        });
        std::thread::sleep(pause);
        Ok(())
    }
}

fn agent(proxy: Option<ureq::Proxy>) -> Agent {
    Agent::config_builder()
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("attune/", env!("CARGO_PKG_VERSION")))
        // Error bodies say why; statuses are judged in `refusal`.
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_connect(Some(Duration::from_secs(30)))
        // No limit on the whole: a model may take hours. A silent minute is a broken line.
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

fn read_reply(response: Response<Body>, url: &str, limit: u64) -> Result<Reply, Failure> {
    let final_url = response.get_uri().to_string();
    let content_type = header(&response, "content-type").unwrap_or_default().to_lowercase();
    let mut bytes = Vec::new();
    match response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => Err(Failure::Fatal(Error::Network {
            url: without_secrets(url),
            problem: format!("the answer is longer than {limit} bytes"),
        })),
        Ok(_) => Ok(Reply { url: final_url, content_type, bytes }),
        Err(error) => {
            Err(Failure::Transient { problem: format!("the connection broke: {error}"), pause: None })
        }
    }
}

/// A header field's text.
pub(super) fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn transport_failure(url: &str, error: ureq::Error) -> Failure {
    let fatal = |problem: String| Failure::Fatal(Error::Network { url: without_secrets(url), problem });
    match error {
        ureq::Error::Rustls(error) => fatal(format!(
            "no trusted connection: {error}; where a proxy or an own authority signs, name its certificates in SSL_CERT_FILE"
        )),
        ureq::Error::Tls(problem) => fatal(format!("no trusted connection: {problem}")),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => fatal(format!("not an address: {error}")),
        ureq::Error::TooManyRedirects => fatal("it is redirected in a ring".to_owned()),
        ureq::Error::InvalidProxyUrl => fatal("the proxy's address is not one; check HTTPS_PROXY".to_owned()),
        ureq::Error::ConnectProxyFailed(problem) => {
            fatal(format!("the proxy refuses: {problem}; check HTTPS_PROXY"))
        }
        error => Failure::Unreachable {
            problem: format!("{error} (check the address, the connection and the proxy settings)"),
        },
    }
}

fn refusal(get: &Get, response: Response<Body>) -> Failure {
    let status = response.status();
    let pause =
        header(&response, "retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let mut body = String::new();
    // Only to explain; the status alone decides.
    let _ = response.into_body().into_reader().take(ERROR_BODY_LIMIT).read_to_string(&mut body);
    match hub::refusal(get.url, status.as_u16(), &status.to_string(), &body, get.advice) {
        Refusal::Transient(problem) => Failure::Transient { problem, pause },
        Refusal::Final(error) => Failure::Fatal(error),
    }
}

/// `HF_HUB_OFFLINE` and the like: set to anything but 0, false, no or off.
pub(super) fn is_switched_on(name: &str) -> bool {
    environment(name)
        .is_some_and(|value| !matches!(value.to_lowercase().as_str(), "0" | "false" | "no" | "off"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_server::{Answer, TestServer};
    use super::*;

    fn get(url: &str) -> Get<'_> {
        Get {
            url,
            headers: vec![("authorization", "Bearer secret".to_owned())],
            advice: Advice { when_denied: "a token", when_missing: "a name" },
        }
    }

    fn text(url: &str) -> Result<String> {
        let reply = Client::for_tests().get(&get(url), 1000, &mut |_| {})?;
        Ok(String::from_utf8(reply.bytes).unwrap())
    }

    #[test]
    fn server_errors_are_retried_and_refusals_are_not() {
        let server = TestServer::start(|request, n_before| match request.path.as_str() {
            "/shaky" if n_before < 2 => Answer::status(503),
            "/shaky" => Answer::ok("well"),
            "/dead?signature=x" => Answer::status(500),
            "/gated" => Answer { status: 403, ..Answer::ok(r#"{"error":"Accept the licence"}"#) },
            _ => Answer::status(404),
        });
        assert_eq!(text(&server.url("/shaky")).unwrap(), "well");
        let dead = text(&server.url("/dead?signature=x")).unwrap_err();
        assert!(matches!(dead, Error::Network { .. }));
        assert!(dead.to_string().contains("500") && dead.to_string().contains("4 attempts"), "{dead}");
        assert!(!dead.to_string().contains("signature"), "{dead}");
        let gated = text(&server.url("/gated")).unwrap_err();
        assert_eq!(gated.exit_code(), 2);
        assert!(
            gated.to_string().contains("403") && gated.to_string().contains("expected a token"),
            "{gated}"
        );
        assert!(gated.to_string().contains("Accept the licence"), "{gated}");
        assert!(text(&server.url("/none")).unwrap_err().to_string().contains("expected a name"));
        assert_eq!(server.requests().iter().filter(|request| request.path == "/none").count(), 1);
    }

    #[test]
    fn authorization_stays_with_its_host() {
        let elsewhere = TestServer::start(|_, _| Answer::ok("there"));
        // The same machine under another name.
        let other = elsewhere.url("/there").replace("127.0.0.1", "localhost");
        let server = TestServer::start(move |request, _| match request.path.as_str() {
            "/away" => Answer::redirect(&other),
            "/near" => Answer::redirect("/home"),
            _ => Answer::ok("home"),
        });
        assert_eq!(text(&server.url("/away")).unwrap(), "there");
        assert_eq!(elsewhere.requests()[0].header("authorization"), None);
        assert_eq!(text(&server.url("/near")).unwrap(), "home");
        assert_eq!(server.requests()[2].header("authorization"), Some("Bearer secret"));
    }

    #[test]
    fn an_answer_that_is_too_long_is_refused() {
        let server = TestServer::start(|_, _| Answer::ok("x".repeat(1001)));
        assert!(text(&server.url("/")).unwrap_err().to_string().contains("longer than 1000"));
    }

    #[test]
    fn nothing_listening_is_a_network_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = text(&url).unwrap_err();
        assert!(matches!(error, Error::Network { .. }));
        assert!(
            error.to_string().contains("check the address") && error.to_string().contains("3 attempts"),
            "{error}"
        );
    }
}
