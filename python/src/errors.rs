//! The library's errors as Python's exceptions, with the library's words.

use std::io::ErrorKind;

use meddino::Error;
use meddino::error::GpuFailure;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileExistsError, PyFileNotFoundError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyPermissionError, PyRuntimeError, PyValueError,
};

/// Names of the library's parameters, and their names in Python.
const NAMES: [(&str, &str); 2] = [("`backend`", "`device`"), ("`mask`", "`masks`")];

/// Returns the exception for `error`: `ValueError` for input that does not fit, an `OSError` for the file system,
/// `MemoryError`, and `RuntimeError` for a device.
pub fn exception(error: &Error) -> PyErr {
    let text = NAMES.iter().fold(error.to_string(), |text, (from, to)| text.replace(from, to));
    match error {
        Error::Cancelled => return PyKeyboardInterrupt::new_err(()),
        Error::Gpu { kind: GpuFailure::OutOfMemory, .. } => return PyMemoryError::new_err(text),
        Error::Option { option, .. } if option == "memory" => return PyMemoryError::new_err(text),
        Error::Gpu { .. } | Error::Mismatch { .. } => return PyRuntimeError::new_err(text),
        _ => {}
    }
    match error.io_kind() {
        Some(ErrorKind::NotFound) => PyFileNotFoundError::new_err(text),
        Some(ErrorKind::PermissionDenied) => PyPermissionError::new_err(text),
        Some(ErrorKind::AlreadyExists) => PyFileExistsError::new_err(text),
        Some(ErrorKind::OutOfMemory) => PyMemoryError::new_err(text),
        // A file that ends early or holds nonsense is input that does not fit.
        Some(ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof) | None => PyValueError::new_err(text),
        Some(_) => PyOSError::new_err(text),
    }
}
