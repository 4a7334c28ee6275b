//! A minimal hub and its storage: two HTTP servers on two local ports, which misbehave on request.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// A request that a server received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Values by lower-case name.
    pub headers: HashMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A server's answer. The connection is closed after it.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Sends chunks instead of a `Content-Length`.
    pub chunked: bool,
    /// After this many bytes of the body, pauses for this long and closes the connection.
    pub cut: Option<(usize, Duration)>,
    /// The pause before each 4096 bytes of the body.
    pub slow: Duration,
}

/// A server on one port, and every request that it received.
pub struct Server {
    pub address: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                // Errors of a client that disconnects are ignored.
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { address, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let request = loop {
        let request = read(&mut reader)?;
        log.lock().expect("no panic").push(request.clone());
        if request.method != "CONNECT" {
            break request;
        }
        // As a proxy, this server answers for every host.
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    };
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let has_length = reply.headers.iter().any(|(name, _)| *name == "Content-Length");
    match (reply.chunked, has_length) {
        (true, _) => head += "Transfer-Encoding: chunked\r\n",
        (false, false) => head += &format!("Content-Length: {}\r\n", reply.body.len()),
        _ => {}
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let sent = reply.cut.map_or(reply.body.len(), |(sent, _)| sent.min(reply.body.len()));
    for piece in reply.body[..sent].chunks(4096) {
        thread::sleep(reply.slow);
        if reply.chunked {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).ok()?;
        }
        stream.write_all(piece).ok()?;
        if reply.chunked {
            stream.write_all(b"\r\n").ok()?;
        }
    }
    match reply.cut {
        Some((_, silence)) => thread::sleep(silence),
        None if reply.chunked => stream.write_all(b"0\r\n\r\n").ok()?,
        None => {}
    }
    Some(())
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Some(Request { method, target, headers })
}

/// The commit of the hub's `main`.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A change of an answer.
pub type Twist = Box<dyn Fn(Reply) -> Reply + Send>;

/// A hub with one file, whose bytes come from a storage on another port.
pub struct World {
    pub hub: Server,
    pub storage: Server,
    /// Changes of the storage's next answers, one for each. Later answers are correct.
    pub twists: Arc<Mutex<VecDeque<Twist>>>,
    pub sha256: String,
}

impl World {
    pub fn new(file: Vec<u8>) -> Self {
        Self::with(file, |_, reply| reply)
    }

    /// A hub whose answers go through `hub`.
    pub fn with(file: Vec<u8>, hub: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Self {
        let sha256 = format!("{:x}", Sha256::digest(&file));
        let size = file.len();
        let twists = Arc::new(Mutex::new(VecDeque::<Twist>::new()));
        let todo = twists.clone();
        let storage = Server::start(move |request| {
            let twist = todo.lock().expect("no panic").pop_front();
            twist.into_iter().fold(stored(&file, request), |reply, twist| twist(reply))
        });
        let location = format!("{}/store/file?signature=s%2Fecret", storage.address);
        let described = vec![
            ("X-Repo-Commit", COMMIT.to_string()),
            ("X-Linked-Etag", format!("\"{sha256}\"")),
            ("X-Linked-Size", size.to_string()),
            ("Location", location),
        ];
        let hub = Server::start(move |request| {
            let found = Reply { status: 302, headers: described.clone(), body: b"Found".to_vec(), ..Reply::default() };
            if request.method == "HEAD" { hub(request, found) } else { Reply { status: 405, ..Reply::default() } }
        });
        Self { hub, storage, twists, sha256 }
    }

    /// Lets the storage's next answer go through `twist`.
    pub fn twist(&self, twist: impl Fn(Reply) -> Reply + Send + 'static) -> &Self {
        self.twists.lock().expect("no panic").push_back(Box::new(twist));
        self
    }

    /// The `Range` header of each request to the storage.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.storage.requests().iter().map(|r| r.header("range").map(Into::into)).collect()
    }
}

/// The correct answer of a storage.
fn stored(file: &[u8], request: &Request) -> Reply {
    let etag = ("ETag", "\"of-the-storage\"".to_string());
    let range = request.header("range").filter(|_| request.header("if-range").is_none_or(|known| known == etag.1));
    let Some(first) = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) else {
        return Reply { status: 200, headers: vec![etag], body: file.to_vec(), ..Reply::default() };
    };
    let range = ("Content-Range", format!("bytes {first}-{}/{}", file.len() - 1, file.len()));
    Reply { status: 206, headers: vec![etag, range], body: file[first..].to_vec(), ..Reply::default() }
}
