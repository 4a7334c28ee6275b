//! Patterns of files and folders that a cohort takes or skips.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::jobs::text::name_text;

/// A pattern for the names of files and folders, or for their paths below the searched folder. The pattern is a
/// closure, for example with the `glob` or the `regex` crate, because the library has no pattern syntax of its own.
///
/// ```
/// use meddino::jobs::Pattern;
///
/// let is_ct = Pattern::of_names(|name| name.starts_with("ct."));
/// let first_visits = Pattern::of_paths(|path| path.starts_with("visit1/"));
/// ```
#[derive(Clone)]
pub struct Pattern {
    matches: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    is_of_paths: bool,
}

impl Pattern {
    /// Creates a pattern for the names of files and folders. Labels, and files that this program wrote, are skipped
    /// even if they match.
    pub fn of_names(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { matches: Arc::new(matches), is_of_paths: false }
    }

    /// Creates a pattern for the paths of files and folders below the searched folder, with `/` between names on every
    /// system. Labels, and files that this program wrote, are taken if they match.
    pub fn of_paths(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { matches: Arc::new(matches), is_of_paths: true }
    }

    pub(super) fn is_of_paths(&self) -> bool {
        self.is_of_paths
    }

    /// Returns whether the pattern matches `path`, relative to the searched folder.
    pub(super) fn matches(&self, path: &Path) -> bool {
        let subject = if self.is_of_paths {
            path.iter().map(name_text).collect::<Vec<_>>().join("/")
        } else {
            path.file_name().map(name_text).unwrap_or_default()
        };
        (self.matches)(&subject)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern").field("is_of_paths", &self.is_of_paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Creates a shell pattern as the command line does.
    pub fn glob(text: &str) -> Pattern {
        let pattern = glob::Pattern::new(text.strip_prefix("./").unwrap_or(text)).expect("a pattern");
        let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        let matches = move |subject: &str| pattern.matches_with(subject, options);
        if text.contains('/') { Pattern::of_paths(matches) } else { Pattern::of_names(matches) }
    }
}
