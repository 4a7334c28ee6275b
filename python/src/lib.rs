//! The native part of the Python package `meddino`: the room `jobs` of the library and the command line, for `meddino/`
//! beside this folder, which shapes arguments and results as Python programs know them.

mod arrays;
mod engine;
mod errors;
mod work;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The native part of the package `meddino`.
#[pymodule]
mod _meddino {
    #[pymodule_export]
    use super::engine::PyEngine;
    #[pymodule_export]
    use super::run_command;
}

/// Runs the command line with `arguments`, of which the first is the program's name, and returns its exit code.
#[pyfunction]
fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| meddino::cli::run(arguments))
}
