//! Names of label maps.

use std::path::Path;

use meddino::nnunet::LABEL_ENDINGS;

/// Returns whether `output` names a label map and not a folder.
pub fn is_file_name(output: &Path) -> bool {
    let name = output.to_string_lossy().to_lowercase();
    !output.is_dir() && LABEL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}
