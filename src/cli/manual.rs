//! `meddino completions` and `meddino man`: what a shell and a reader of manuals know about the flags.

use clap::CommandFactory;
use meddino::{Error, Result};

use super::flags::{Args, Completions, Man};
use super::terminal::say::result;

/// Prints the script that completes flags in a shell.
pub fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "meddino", &mut script);
    result(String::from_utf8_lossy(&script).trim_end())
}

/// Prints a page of the manual in the format of `man`.
pub fn man(args: &Man) -> Result<()> {
    let mut all = Args::command();
    // Gives each command its full name and the flags that all commands share.
    all.build();
    let mut page = &all;
    for name in &args.command {
        page = page.find_subcommand(name).ok_or_else(|| {
            let known: Vec<_> = page.get_subcommands().map(clap::Command::get_name).collect();
            let expected = if known.is_empty() { "no more names".to_owned() } else { format!("one of {}", known.join(", ")) };
            Error::option("command", format!("expected {expected}; found {name}"))
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page.clone()).render(&mut text).map_err(|e| Error::output("stdout", e))?;
    result(String::from_utf8_lossy(&text).trim_end())
}
