//! The native part of the Python package `meddino`: the rooms `jobs` and `heads` of the library and the command line,
//! for `meddino/` beside this folder, which shapes arguments and results as Python programs know them.

mod arrays;
mod engine;
mod errors;
mod features;
mod heads;
mod machine;
mod recipe;
mod scan;
mod segment;
mod work;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The native part of the package `meddino`.
#[pymodule]
mod _meddino {
    #[pymodule_export]
    use super::engine::PyEngine;
    #[pymodule_export]
    use super::features::{PyBatches, features, pca, prepare, similarity, write_case, write_features};
    #[pymodule_export]
    use super::heads::{
        PyHead, check_head, dinov3_cs, dinov3_rates, fit_logistic, fit_neighbours, fit_probe, head_of_state, open_head, read_vectors,
        save_head,
    };
    #[pymodule_export]
    use super::machine::{devices, verify};
    #[pymodule_export]
    use super::run_command;
    #[pymodule_export]
    use super::scan::PyScan;
    #[pymodule_export]
    use super::segment::PySegmentJob;
}

/// Runs the command line with `arguments`, of which the first is the program's name, and returns its exit code.
#[pyfunction]
fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| meddino::cli::run(arguments))
}
