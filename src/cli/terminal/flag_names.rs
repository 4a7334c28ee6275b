//! Turns the parameter names in library messages into flags: `size` becomes --size on the terminal.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use meddino::Error;

/// The long flags of all commands, without dashes.
static FLAGS: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Stores the flags of `command` and its subcommands. Until then, messages keep the parameter names.
pub fn learn(command: &clap::Command) {
    FLAGS.get_or_init(|| flags_of(command));
}

/// Returns the long flags of `command` and of all commands below it.
fn flags_of(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(flags_of)).collect()
}

/// Returns `--NAME` if the parameter `name` is a flag. Underscores in parameters are dashes in flags.
fn flag(name: &str) -> Option<String> {
    let name = name.replace('_', "-");
    FLAGS.get()?.contains(&name).then(|| format!("--{name}"))
}

/// Returns the text of `error` with its parameters as flags. File names in the text do not change.
pub fn error_text(error: &Error) -> String {
    match error {
        Error::Checkpoint { source_name, problem, .. } => Error::checkpoint(source_name, with_flags(problem)).to_string(),
        Error::Input { source_name, problem, .. } => Error::input(source_name, with_flags(problem)).to_string(),
        Error::Output { target, problem, .. } => Error::output(target, with_flags(problem)).to_string(),
        Error::Option { option, problem, .. } => Error::option(flag(option).as_ref().unwrap_or(option), with_flags(problem)).to_string(),
        Error::Mismatch { problem, .. } => Error::mismatch(with_flags(problem)).to_string(),
        Error::Gpu { kind, problem, .. } => Error::gpu(*kind, with_flags(problem)).to_string(),
        other => other.to_string(),
    }
}

/// Replaces every parameter in backticks in `text` with its flag, without backticks.
pub fn with_flags(text: &str) -> String {
    let (mut result, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('`') {
        result += before;
        if let Some((flag, left)) = after.split_once('`').and_then(|(name, left)| Some((flag(name)?, left))) {
            result += &flag;
            rest = left;
        } else {
            result.push('`');
            rest = after;
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;
    use meddino::error::GpuFailure;

    use super::*;
    use crate::cli::flags::Args;

    #[test]
    fn a_parameter_in_a_message_is_printed_as_its_flag() {
        learn(&Args::command());
        let printed = |error| error_text(&error);
        let memory = "use a smaller image (`size`), a smaller `batch`, or `backend` cpu";
        assert_eq!(
            printed(Error::gpu(GpuFailure::OutOfMemory, memory)),
            "gpu: use a smaller image (--size), a smaller --batch, or --backend cpu"
        );
        assert_eq!(printed(Error::option("precision", "take f32")), "--precision: take f32");
        assert_eq!(printed(Error::option("max_memory", "give more")), "--max-memory: give more");
        assert_eq!(printed(Error::option("HF_HOME", "is not set")), "HF_HOME: is not set");
        assert_eq!(printed(Error::input("a `size` b", "give `size`")), "input a `size` b: give --size");
    }

    #[test]
    fn backticks_around_other_words_stay() {
        learn(&Args::command());
        assert_eq!(with_flags("run `meddino tune`, or raise `ulimit -n`"), "run `meddino tune`, or raise `ulimit -n`");
        assert_eq!(with_flags("one ` alone, then `size`, then `"), "one ` alone, then --size, then `");
        assert_eq!(with_flags("`sizes` `size``batch`"), "`sizes` --size--batch");
    }

    /// Returns the path and the text of every line of library code with a backtick, without comments and unit tests.
    fn texts_with_backticks(folder: &Path) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
        let texts_in = |path: PathBuf| {
            if path.is_dir() {
                return if path.ends_with("cli") { Vec::new() } else { texts_with_backticks(&path) };
            }
            let source = fs::read_to_string(&path).expect("a source");
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            let is_text = |line: &&str| line.contains('`') && !line.trim_start().starts_with("//") && !line.contains("reason = ");
            code.lines().filter(is_text).map(|line| (path.clone(), line.to_owned())).collect()
        };
        entries.flat_map(texts_in).collect()
    }

    #[test]
    fn every_parameter_that_the_library_names_is_a_flag() {
        learn(&Args::command());
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-'));
        let texts = texts_with_backticks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let names_in = |text: &str| text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect::<Vec<_>>();
        let named: Vec<_> = texts.iter().flat_map(|(path, text)| names_in(text).into_iter().map(move |name| (path, name))).collect();
        assert!(named.len() > 20, "only {} names found", named.len());
        let wrong = named.iter().filter(|(_, name)| flag(name).is_none()).map(|(path, name)| format!("{}: `{name}`", path.display()));
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "these are not flags of the command:\n{}", wrong.join("\n"));
    }
}
