//! Settings of the hub and the cache, from the environment variables of `huggingface_hub`. Source of names and
//! defaults: <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::error::{Error, Problem, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// The settings that the environment variables give.
#[derive(Clone)]
pub struct HubSettings {
    /// Address of the hub, `http(s)://HOST[:PORT][/PATH]`, without a slash at its end.
    pub endpoint: Uri,
    /// The cache folder, which holds a folder for each repository.
    pub cache: PathBuf,
    /// The access token, sent only to the endpoint.
    pub token: Option<String>,
    pub offline: bool,
    /// The certificate authorities to trust instead of the public ones, as in networks that intercept TLS.
    pub authorities: Option<Vec<Certificate<'static>>>,
    /// Whether the cache's files may be symlinks to the blobs.
    pub symlinks: bool,
    /// The longest time that a request for a file's description may take.
    pub etag_timeout: Duration,
    /// The longest time that the server may send nothing during a download.
    pub download_timeout: Duration,
}

impl fmt::Debug for HubSettings {
    /// Leaves the token out, because a token must not appear in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// Looks a variable up.
type Var<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl HubSettings {
    pub fn from_vars(var: Var<'_>) -> Result<Self> {
        let home = hf_home(var);
        let folder = |names: &[&str], default: &str| {
            let named = names.iter().find_map(|name| path(var, name));
            named.or_else(|| home.as_ref().map(|home| home.join(default)))
        };
        let cache = folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"], "hub").ok_or_else(|| {
            Error::option("HF_HOME", "is not set, and there is no home folder to keep downloaded files in; set it to a folder for them")
        })?;
        Ok(Self {
            endpoint: endpoint(var)?,
            token: token(var, folder(&["HF_TOKEN_PATH"], "token").as_deref())?,
            cache,
            offline: flag(var, "HF_HUB_OFFLINE").or_else(|| flag(var, "TRANSFORMERS_OFFLINE")).unwrap_or(false),
            authorities: authorities(var)?,
            symlinks: !flag(var, "HF_HUB_DISABLE_SYMLINKS").unwrap_or(false),
            etag_timeout: seconds(var, "HF_HUB_ETAG_TIMEOUT")?,
            download_timeout: seconds(var, "HF_HUB_DOWNLOAD_TIMEOUT")?,
        })
    }

    /// Returns the endpoint, without a slash at its end.
    pub fn endpoint_text(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_string()
    }
}

/// Reads a variable as text, or returns `None` if it is unset or empty.
fn text(var: Var<'_>, name: &str) -> Option<String> {
    var(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// Reads a variable that names a path. `~` and `$NAME` are expanded as in a shell and in `huggingface_hub`.
fn path(var: Var<'_>, name: &str) -> Option<PathBuf> {
    let value = var(name).filter(|value| !value.is_empty())?;
    // A path that is not valid Unicode is taken literally.
    let Some(value) = value.to_str() else { return Some(value.into()) };
    let value = match value.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => format!("{}{rest}", user_home(var)?.to_str()?),
        _ => value.to_string(),
    };
    Some(expand(&value, var).into())
}

/// Replaces `$NAME` and `${NAME}` by their values. Names of unset variables are left as they are.
fn expand(value: &str, var: Var<'_>) -> String {
    let mut pieces = value.split('$');
    let mut expanded = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (name, rest) = match piece.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(split) => split,
            None => piece.split_at(piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(piece.len())),
        };
        match var(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded.extend([&value.to_string_lossy(), rest]),
            None => expanded.extend(["$", piece]),
        }
    }
    expanded
}

fn user_home(var: Var<'_>) -> Option<PathBuf> {
    let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    var(name).filter(|home| !home.is_empty()).map(PathBuf::from).or_else(std::env::home_dir)
}

fn hf_home(var: Var<'_>) -> Option<PathBuf> {
    path(var, "HF_HOME").or_else(|| {
        let caches = path(var, "XDG_CACHE_HOME").or_else(|| user_home(var).map(|home| home.join(".cache")))?;
        Some(caches.join("huggingface"))
    })
}

/// Reads a variable as a yes or no, or returns `None` if it is unset or empty.
fn flag(var: Var<'_>, name: &str) -> Option<bool> {
    let value = text(var, name)?;
    Some(["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word)))
}

fn endpoint(var: Var<'_>) -> Result<Uri> {
    let value = text(var, "HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
    let uri = value.trim_end_matches('/').parse::<Uri>().ok();
    uri.filter(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none())
        .ok_or_else(|| Error::option("HF_ENDPOINT", format!("expected the address of a hub, such as {ENDPOINT}, found {value:?}")))
}

fn seconds(var: Var<'_>, name: &str) -> Result<Duration> {
    let Some(value) = text(var, name) else { return Ok(Duration::from_secs(10)) };
    match value.trim().parse::<u32>() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(Error::option(name, format!("expected whole seconds from 1, found {value:?}"))),
    }
}

/// Reads the certificates of the PEM file that the environment names, as `huggingface_hub`'s HTTP libraries do.
fn authorities(var: Var<'_>) -> Result<Option<Vec<Certificate<'static>>>> {
    let Some((name, file)) = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].iter().find_map(|name| Some((name, path(var, name)?))) else {
        return Ok(None);
    };
    let fail = |problem: Problem| {
        let text = format!("{} {problem}", file.display());
        Error::option(name, problem.reworded(text))
    };
    let pem = fs::read(&file).map_err(|e| fail(Problem::from(e).within("cannot be read")))?;
    let certificates: Vec<_> =
        parse_pem(&pem).filter_map(|item| if let Ok(PemItem::Certificate(c)) = item { Some(c) } else { None }).collect();
    if certificates.is_empty() { Err(fail("holds no certificate; expected a file of PEM".into())) } else { Ok(Some(certificates)) }
}

/// Returns the token of the environment, or else the one that `hf auth login` saved in `file`.
fn token(var: Var<'_>, file: Option<&Path>) -> Result<Option<String>> {
    if flag(var, "HF_HUB_DISABLE_IMPLICIT_TOKEN") == Some(true) {
        return Ok(None);
    }
    let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| text(var, name).map(|value| ((*name).to_string(), value)));
    let kept = || file.and_then(|file| Some((file.display().to_string(), fs::read_to_string(file).ok()?)));
    let Some((place, value)) = named.or_else(kept) else { return Ok(None) };
    let token = value.replace(['\r', '\n'], "").trim().to_string();
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Error::option(place, "holds no token: a token is letters, digits and signs without spaces, such as hf_..."));
    }
    Ok(Some(token).filter(|token| !token.is_empty()))
}
