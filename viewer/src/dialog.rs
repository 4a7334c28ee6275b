//! The system's dialogs for files.

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

/// A file that is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The label map.
    Labels,
    /// The head.
    Head,
}

/// Shows a dialog for the place of `output`, without waiting for it. It proposes `name`. The chosen path goes to `chosen`.
pub fn save(output: Output, name: &str, context: &egui::Context, chosen: &Sender<(Output, PathBuf)>) {
    let (context, chosen) = (context.clone(), chosen.clone());
    let (title, kinds, endings) = match output {
        Output::Labels => ("Save the label map", "Label maps", &["gz", "nii", "nrrd", "mha"][..]),
        Output::Head => ("Save the head", "Heads", &["safetensors"][..]),
    };
    let dialog = AsyncFileDialog::new().set_title(title).add_filter(kinds, endings).set_file_name(name).save_file();
    thread::spawn(move || {
        if let Some(file) = pollster::block_on(dialog) {
            // If the receiver is gone, the window is closing.
            let _ = chosen.send((output, file.path().to_path_buf()));
            context.request_repaint();
        }
    });
}
