//! NIfTI: values, sizes and positions of files that the tests write byte by byte, and the turn to LPS from every
//! storage order.
#![cfg(feature = "readers")]
#![allow(clippy::float_cmp, reason = "readers give values to the last bit")]

mod file;
mod hostile;
mod orient;
mod place;
mod values;
mod version_2;
