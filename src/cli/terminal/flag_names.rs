//! Parameters that the library names, as the flags that people type: `size` in a message becomes --size on the terminal.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use meddino::Error;

/// The long flags of all commands, without dashes.
static FLAGS: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Takes down the flags of `command` and of its subcommands: before that, messages name no flag.
pub fn learn(command: &clap::Command) {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let long = |flag: &clap::Arg| flag.get_long().map(str::to_owned);
    FLAGS.get_or_init(|| commands.flat_map(clap::Command::get_arguments).filter_map(long).collect());
}

/// `--NAME` for a parameter `name` that is a flag; a parameter of two words has an underscore, and its flag a dash.
fn flag(name: &str) -> Option<String> {
    let name = name.replace('_', "-");
    FLAGS.get()?.contains(&name).then(|| format!("--{name}"))
}

/// The text of `error` with its parameters as flags. The names of files in it stay as they are.
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

/// `text` with every parameter that stands in backticks as its flag, without the backticks.
pub fn with_flags(text: &str) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('`') {
        whole += before;
        if let Some((flag, left)) = after.split_once('`').and_then(|(name, left)| Some((flag(name)?, left))) {
            whole += &flag;
            rest = left;
        } else {
            whole.push('`');
            rest = after;
        }
    }
    whole + rest
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

    /// (path, text) of every line of the library's code that holds a backtick, up to its unit tests.
    fn texts_with_backticks(folder: &Path) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
        let of = |path: PathBuf| {
            if path.is_dir() {
                return if path.ends_with("cli") { Vec::new() } else { texts_with_backticks(&path) };
            }
            let source = fs::read_to_string(&path).expect("a source");
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            let is_text = |line: &&str| line.contains('`') && !line.trim_start().starts_with("//") && !line.contains("reason = ");
            code.lines().filter(is_text).map(|line| (path.clone(), line.to_owned())).collect()
        };
        entries.flat_map(of).collect()
    }

    #[test]
    fn every_parameter_that_the_library_names_is_a_flag() {
        learn(&Args::command());
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-'));
        let texts = texts_with_backticks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let mut names = 0;
        for (path, text) in texts {
            for name in text.split('`').skip(1).step_by(2).filter(is_name) {
                assert!(flag(name).is_some(), "{}: `{name}` is no flag of the command:\n{text}", path.display());
                names += 1;
            }
        }
        assert!(names > 20, "only {names} names found");
    }
}
