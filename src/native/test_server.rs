//! A small HTTP server on this machine that misbehaves on demand, for the tests of fetching.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Path with query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header field's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What to send back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Status; 200 becomes 206 when a range is asked for and honoured.
    pub status: u16,
    /// Header fields besides the length.
    pub headers: Vec<(&'static str, String)>,
    /// The whole value.
    pub body: Vec<u8>,
    /// Whether ranges are honoured.
    pub ranges: bool,
    /// Bytes after which the connection is cut.
    pub cut_after: Option<usize>,
}

impl Answer {
    /// 200 with `body`.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), ranges: true, cut_after: None }
    }

    /// An empty answer.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    /// 302 to `location`.
    pub fn redirect(location: &str) -> Self {
        Self { status: 302, headers: vec![("location", location.to_owned())], ..Self::ok("") }
    }

    /// With one more header field.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

type Respond = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// Answers until the test ends; its thread ends with the process.
pub(super) struct TestServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl TestServer {
    /// Serves what `respond` says; its second argument counts the requests of the same path before.
    pub fn start(respond: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let respond: Arc<Respond> = Arc::new(respond);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
                // A client that hangs up is part of the tests.
                std::thread::spawn(move || drop(serve(stream, &seen, &*respond)));
            }
        });
        Self { address, requests }
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, respond: &Respond) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let request = Request { path, headers };
    let n_before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.iter().filter(|other| other.path == request.path).count() - 1
    };
    let answer = respond(&request, n_before);
    let (status, range, body) = select(&request, &answer);
    let mut head =
        format!("HTTP/1.1 {status} Test\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in answer
        .headers
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(range.iter().map(|r| ("content-range", r)))
    {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body[..answer.cut_after.unwrap_or(body.len()).min(body.len())])?;
    stream.flush()
}

/// Status, content range and bytes, with `Range` and `If-Range` honoured as RFC 9110 says.
fn select<'a>(request: &Request, answer: &'a Answer) -> (u16, Option<String>, &'a [u8]) {
    let whole = (answer.status, None, &answer.body[..]);
    let start = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let Some(start) = start.filter(|_| answer.ranges && answer.status == 200) else { return whole };
    let etag = answer.headers.iter().find(|(name, _)| *name == "etag").map(|(_, value)| value.as_str());
    if request.header("if-range").is_some_and(|wanted| Some(wanted) != etag) {
        return whole;
    }
    let total = answer.body.len();
    if start >= total {
        return (416, Some(format!("bytes */{total}")), &[]);
    }
    (206, Some(format!("bytes {start}-{}/{total}", total - 1)), &answer.body[start..])
}
