//! Features into files.
