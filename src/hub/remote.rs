//! Requests to the hub: one for a file's description, one for its bytes. This module follows redirects one by one,
//! because the responses on the way hold the description, and because only the hub may receive the token, not the
//! servers that it redirects to.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::cache::is_hex;
use super::event::Trouble;
use super::file::HubFile;
use super::settings::HubSettings;
use crate::error::Problem;

/// About as many redirects as `requests` and browsers follow.
const MAX_REDIRECTS: usize = 20;

/// A file of the hub.
pub struct Remote<'a> {
    settings: &'a HubSettings,
    file: &'a HubFile,
    /// The path OWNER/NAME/resolve/REVISION/FILE under the endpoint.
    url: Uri,
}

/// The hub's description of a file.
pub struct Described {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// The SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// The file's size in bytes.
    pub size: u64,
    /// Download address, often signed and therefore valid only for a while.
    pub url: Uri,
}

impl<'a> Remote<'a> {
    pub fn new(settings: &'a HubSettings, file: &'a HubFile) -> Self {
        let revision = file.revision.unwrap_or("main");
        let url = format!("{}/{}/resolve/{revision}/{}", settings.endpoint_text(), file.repository, file.file);
        Self { settings, file, url: url.parse().expect("an address with a path added") }
    }

    /// Asks the hub for the file's description.
    pub fn describe(&self) -> Result<Described, Trouble> {
        let agent = self.agent(Some(self.settings.etag_timeout), self.settings.etag_timeout);
        // The redirect to the storage carries the description. Earlier redirects, such as one to a renamed repository,
        // do not.
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
            return Err(Trouble::Lasting(
                format!("{} answers with the commit {commit:?}, expected {wanted}; look at HF_ENDPOINT", self.url).into(),
            ));
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
            ).into())),
        }
    }

    /// Requests the bytes from `from` on. If `unchanged` is given, the request asks for this range on condition that
    /// the file still has that ETag. The server may respond with the whole file in any case.
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
            return Err(Trouble::Lasting(
                format!("{} sends a web page in its place; does the network ask for a login?", shown(&url)).into(),
            ));
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

    /// Follows redirects from `url` to a response, or to a redirect whose headers satisfy `enough`. A refusal by the
    /// server is an error.
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
            // No encoding is accepted, so that lengths and ranges refer to the file's own bytes.
            let mut request = Request::builder().method(method).uri(&url).header(ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_hub(&url)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|e| {
                let text = format!("{} cannot be asked: {e}", shown(&url));
                Trouble::Lasting(Problem::caused_by(text, e))
            })?;
            let response = agent.run(request).map_err(|e| no_answer(&url, e))?;
            let redirects = response.status().is_redirection() && response.headers().contains_key(LOCATION);
            if !redirects || enough(response.headers()) {
                return match response.status() {
                    status if status.is_success() || redirects || status == StatusCode::RANGE_NOT_SATISFIABLE => Ok((url, response)),
                    status => Err(self.refusal(&url, status)),
                };
            }
            url = location(&url, response.headers())?;
        }
        Err(Trouble::Lasting(format!("{} leads from redirect to redirect, {MAX_REDIRECTS} of them; look at HF_ENDPOINT", self.url).into()))
    }

    /// Returns whether `url` belongs to the hub: same scheme, host and port.
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
                let problem = match self.settings.token {
                    None => format!(
                        "{page} is not open to all ({status}): accept its terms there, then log in with `hf auth login` or set HF_TOKEN"
                    ),
                    Some(_) => format!(
                        "{page} is closed to this token ({status}): accept its terms there, and see whether HF_TOKEN is still valid"
                    ),
                };
                Trouble::Lasting(problem.into())
            }
            404 | 410 => {
                Trouble::Lasting(format!("is not at {address} ({status}); look at HF_ENDPOINT, and whether the file has moved").into())
            }
            // An expired signed address (403), or a server that is temporarily busy or broken.
            403 | 408 | 425 | 429 | 500..=599 => Trouble::Passing(format!("{address} answers {status}").into()),
            _ => Trouble::Lasting(format!("{address} answers {status}").into()),
        }
    }
}

/// Describes why there is no response, and decides whether a retry may succeed.
fn no_answer(url: &Uri, error: ureq::Error) -> Trouble {
    let url = shown(url);
    let reached = |reason: &dyn std::fmt::Display| format!("{url} cannot be reached: {reason}");
    match error {
        // The server's certificate is signed by no trusted authority.
        ureq::Error::Io(e) if e.kind() == ErrorKind::InvalidData => {
            let text = format!("{}; if the network looks into TLS, SSL_CERT_FILE names the file of its certificate", reached(&e));
            Trouble::Lasting(Problem::caused_by(text, e))
        }
        ureq::Error::Io(e) => Trouble::Passing(Problem::caused_by(reached(&e), e)),
        e @ (ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)) => {
            Trouble::Passing(Problem::caused_by(reached(&e), e))
        }
        e => Trouble::Lasting(Problem::caused_by(reached(&e), e)),
    }
}

/// Resolves the target of a redirect from `base` (RFC 3986, section 5.2, except dot segments in paths, which servers
/// resolve).
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
    absolute.parse().map_err(|e| {
        let text = format!("{} redirects to {target:?}, which is no address: {e}", shown(base));
        Trouble::Lasting(Problem::caused_by(text, e))
    })
}

/// Formats an address for messages. The query is left out, because it may hold a signature.
fn shown(url: &Uri) -> String {
    url.to_string().split('?').next().unwrap_or_default().to_string()
}

/// Returns a header's value as text.
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
