//! The system's dialogs for opening a scan.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;

use eframe::egui;
use rfd::AsyncFileDialog;

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A scan in one file.
    File,
    /// A folder of DICOM files.
    Folder,
}

/// Shows a dialog, and does not wait: what is chosen goes to `chosen`.
pub fn open(what: What, context: &egui::Context, chosen: &Sender<PathBuf>) {
    // Some systems want dialogs to begin on the thread of the window; waiting for them may be anywhere.
    let (context, chosen) = (context.clone(), chosen.clone());
    let wait = move |picked: Option<rfd::FileHandle>| {
        if let Some(file) = picked {
            // If nobody listens any more the window is closing.
            let _ = chosen.send(file.path().to_path_buf());
            context.request_repaint();
        }
    };
    match what {
        What::File => {
            let dialog = AsyncFileDialog::new()
                .set_title("Open a scan")
                .add_filter("Scans", &["nii", "gz", "hdr", "img", "dcm", "npy"])
                .add_filter("All files", &["*"])
                .pick_file();
            thread::spawn(move || wait(pollster::block_on(dialog)));
        }
        What::Folder => {
            let dialog = AsyncFileDialog::new().set_title("Open a folder of DICOM files").pick_folder();
            thread::spawn(move || wait(pollster::block_on(dialog)));
        }
    }
}
