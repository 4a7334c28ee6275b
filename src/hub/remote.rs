//! What the hub says: one question about a file, one request for its bytes. Redirects are followed here, one by one, because the answers on the
//! way hold what is asked for, and because the token is for the hub alone and not for the servers that it redirects to.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::cache::is_hex;
use super::event::Trouble;
use super::file::HubFile;
use super::settings::Settings;

/// As many as `requests` and browsers follow, or about.
const MAX_REDIRECTS: usize = 20;

/// A file of the hub.
pub struct Remote<'a> {
    settings: &'a Settings,
    file: &'a HubFile,
    /// OWNER/NAME/resolve/REVISION/FILE under the endpoint.
    url: Uri,
}

/// What the hub says about a file.
pub struct Described {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// Where its bytes are; often signed, and good for a while only.
    pub url: Uri,
}

impl<'a> Remote<'a> {
    pub fn new(settings: &'a Settings, file: &'a HubFile) -> Self {
        let revision = file.revision.unwrap_or("main");
        let url = format!("{}/{}/resolve/{revision}/{}", settings.endpoint_text(), file.repository, file.file);
        Self { settings, file, url: url.parse().expect("an address with a path added") }
    }

    /// Asks the hub about the file.
    pub fn describe(&self) -> Result<Described, Trouble> {
        let agent = self.agent(Some(self.settings.etag_timeout), self.settings.etag_timeout);
        // The redirect to the storage says it all; those before it, to a new name of the repository, say nothing.
        let says_it = |headers: &HeaderMap| headers.contains_key("x-linked-etag");
        let (url, response) = self.follow(&agent, &Method::HEAD, &self.url, &[], says_it)?;
        let headers = response.headers();
        let url = if response.status().is_redirection() { location(&url, headers)? } else { url };
        let (commit, etag) = (text(headers, "x-repo-commit"), text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str())));
        let length = text(headers, "x-linked-size").or_else(|| text(headers, CONTENT_LENGTH.as_str()));
        let sha256 = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        if let (Some(wanted), Some(commit)) = (self.file.revision, commit)
            && commit != wanted
        {
            return Err(Trouble::Lasting(format!(
                "{} answers with the commit {commit:?}, expected {wanted}; look at HF_ENDPOINT",
                self.url
            )));
        }
        match (commit, sha256, length.and_then(|n| n.parse().ok())) {
            (Some(commit), Some(sha256), Some(size @ 1..)) if is_hex(commit, 40) && is_hex(sha256, 64) => {
                Ok(Described { commit: commit.into(), sha256: sha256.into(), size, url })
            }
            _ => Err(Trouble::Lasting(format!(
                "{} answers unlike a hub: expected X-Repo-Commit, the SHA-256 as X-Linked-Etag and X-Linked-Size, found {commit:?}, {etag:?} and \
                 {length:?} ({}); look at HF_ENDPOINT and at the network's proxy",
                self.url,
                text(headers, CONTENT_TYPE.as_str()).unwrap_or("of no type"),
            ))),
        }
    }

    /// Asks for the bytes from `from` on, as long as the file is still the one with the ETag `unchanged`, if that is known; the answer may
    /// be the whole file nevertheless.
    pub fn bytes(&self, url: &Uri, from: u64, unchanged: Option<&str>) -> Result<Response<Body>, Trouble> {
        let mut headers = Vec::new();
        if from > 0 {
            headers.push((RANGE, format!("bytes={from}-")));
            headers.extend(unchanged.map(|etag| (IF_RANGE, etag.to_string())));
        }
        let agent = self.agent(None, self.settings.download_timeout);
        let (url, response) = self.follow(&agent, &Method::GET, url, &headers, |_| false)?;
        let is_page = text(response.headers(), CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html"));
        if is_page && response.status().is_success() {
            return Err(Trouble::Lasting(format!("{} sends a web page in its place; does the network ask for a login?", shown(&url))));
        }
        Ok(response)
    }

    fn agent(&self, response: Option<Duration>, read: Duration) -> Agent {
        let roots = self.settings.authorities.clone().map_or(RootCerts::WebPki, RootCerts::from);
        Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("meddino/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(self.settings.etag_timeout))
            .timeout_recv_response(response)
            .timeout_per_read(Some(read))
            .build()
            .into()
    }

    /// Follows redirects from `url` to an answer, or to a redirect whose headers are `enough`. A refusal is an error.
    fn follow(
        &self,
        agent: &Agent,
        method: &Method,
        url: &Uri,
        headers: &[(HeaderName, String)],
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<(Uri, Response<Body>), Trouble> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            // No encoding: a length and a range are those of the file itself.
            let mut request = Request::builder().method(method).uri(&url).header(ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_hub(&url)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|e| Trouble::Lasting(format!("{} cannot be asked: {e}", shown(&url))))?;
            let response = agent.run(request).map_err(|e| no_answer(&url, &e))?;
            let redirects = response.status().is_redirection() && response.headers().contains_key(LOCATION);
            if !redirects || enough(response.headers()) {
                return match response.status() {
                    status if status.is_success() || redirects || status == StatusCode::RANGE_NOT_SATISFIABLE => Ok((url, response)),
                    status => Err(self.refusal(&url, status)),
                };
            }
            url = location(&url, response.headers())?;
        }
        Err(Trouble::Lasting(format!("{} leads from redirect to redirect, {MAX_REDIRECTS} of them; look at HF_ENDPOINT", self.url)))
    }

    /// Whether `url` is the hub's own: same scheme, host and port.
    fn is_hub(&self, url: &Uri) -> bool {
        let origin = |uri: &Uri| {
            let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            (uri.scheme().cloned(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().unwrap_or(default))
        };
        origin(url) == origin(&self.settings.endpoint)
    }

    fn refusal(&self, url: &Uri, status: StatusCode) -> Trouble {
        let address = shown(url);
        match status.as_u16() {
            401 | 403 if self.is_hub(url) => {
                let page = format!("{}/{}", self.settings.endpoint_text(), self.file.repository);
                Trouble::Lasting(match self.settings.token {
                    None => format!(
                        "{page} is not open to all ({status}): accept its terms there, then log in with `hf auth login` or set HF_TOKEN"
                    ),
                    Some(_) => format!(
                        "{page} is closed to this token ({status}): accept its terms there, and see whether HF_TOKEN is still valid"
                    ),
                })
            }
            404 | 410 => Trouble::Lasting(format!("is not at {address} ({status}); look at HF_ENDPOINT, and whether the file has moved")),
            // A signed address that has run out (403), a server that is busy or broken for a while.
            403 | 408 | 425 | 429 | 500..=599 => Trouble::Passing(format!("{address} answers {status}")),
            _ => Trouble::Lasting(format!("{address} answers {status}")),
        }
    }
}

/// Why there is no answer, and whether there may be one later.
fn no_answer(url: &Uri, error: &ureq::Error) -> Trouble {
    let reason: &dyn std::fmt::Display = if let ureq::Error::Io(io) = error { io } else { error };
    let problem = format!("{} cannot be reached: {reason}", shown(url));
    match error {
        // A certificate that nobody vouches for.
        ureq::Error::Io(io) if io.kind() == ErrorKind::InvalidData => {
            Trouble::Lasting(format!("{problem}; if the network looks into TLS, SSL_CERT_FILE names the file of its certificate"))
        }
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
            Trouble::Passing(problem)
        }
        _ => Trouble::Lasting(problem),
    }
}

/// Where a redirect from `base` leads (RFC 3986, section 5.2, without the dots in paths, which servers resolve).
fn location(base: &Uri, headers: &HeaderMap) -> Result<Uri, Trouble> {
    let target = text(headers, LOCATION.as_str()).unwrap_or_default();
    let (scheme, host) = (base.scheme_str().unwrap_or_default(), base.authority().map_or("", |a| a.as_str()));
    let absolute = match target {
        _ if target.starts_with("http://") || target.starts_with("https://") => target.to_string(),
        _ if target.starts_with("//") => format!("{scheme}:{target}"),
        _ if target.starts_with('/') => format!("{scheme}://{host}{target}"),
        _ if target.starts_with('?') => format!("{scheme}://{host}{}{target}", base.path()),
        _ => format!("{scheme}://{host}{}/{target}", base.path().rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    absolute.parse().map_err(|e| Trouble::Lasting(format!("{} redirects to {target:?}, which is no address: {e}", shown(base))))
}

/// An address for people: without its query, which may be a signature.
fn shown(url: &Uri) -> String {
    url.to_string().split('?').next().unwrap_or_default().to_string()
}

/// A header as text.
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
