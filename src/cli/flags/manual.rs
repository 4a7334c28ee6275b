//! The flags of `completions` and `man`.

use clap_complete::Shell;

/// Print a script that completes meddino's commands and flags in a shell
///
/// For bash: meddino completions bash > ~/.local/share/bash-completion/completions/meddino
#[derive(clap::Args)]
pub struct Completions {
    /// The shell that reads the script
    pub shell: Shell,
}

/// Print a page of the manual, to be read with `man -l`
#[derive(clap::Args)]
pub struct Man {
    /// The command that the page describes, such as `features` or `probe fit`; without it, meddino as a whole
    pub command: Vec<String>,
}
