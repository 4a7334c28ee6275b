//! The `meddino` command as users run it: files in and out, messages, exit codes.

#![cfg(feature = "cli")]

mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/desk.rs"]
mod desk;
#[path = "../device/mod.rs"]
mod device;
mod features;
mod measure;
mod messages;
