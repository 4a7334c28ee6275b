//! The `meddino` command.

fn main() {}
