//! The system's dialogs for opening a scan.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;

use eframe::egui;
use rfd::AsyncFileDialog;

/// The kind of path that the user chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A scan in one file.
    File,
    /// A folder of DICOM files.
    Folder,
}

/// Shows a dialog without waiting for it. The chosen path goes to `chosen`.
pub fn open(what: What, context: &egui::Context, chosen: &Sender<PathBuf>) {
    // Some systems require dialogs to start on the window's thread. Any thread may wait for them.
    let (context, chosen) = (context.clone(), chosen.clone());
    let wait = move |picked: Option<rfd::FileHandle>| {
        if let Some(file) = picked {
            // If the receiver is gone, the window is closing.
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
