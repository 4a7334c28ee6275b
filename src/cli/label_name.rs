//! Names of label maps.

use std::path::Path;

use meddino::ct::LabelFormat;

/// Returns whether `output` names a label map and not a folder.
pub fn is_file_name(output: &Path) -> bool {
    !output.is_dir() && LabelFormat::of(output).is_some()
}
