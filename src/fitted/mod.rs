//! Fitted heads in files: what a head may be applied to, and its scores for patch tokens.

mod body;
mod dense;
mod directions;
mod file;
mod kind;

pub use body::{BodyHead, cut_to_body};
pub use dense::DenseHead;
pub use directions::Directions;
pub use file::{About, Head, HeadFile};
pub use kind::{agree, kind_of, patch_kind};
