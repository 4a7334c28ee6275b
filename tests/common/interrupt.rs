//! Ctrl-C for a command that a test has started.

use std::process::{Child, Command};

/// Starts `command`, so that [`interrupt`] reaches it and nobody else.
#[cfg(unix)]
pub fn start(command: &mut Command) -> Child {
    command.spawn().expect("started")
}

/// Presses Ctrl-C for `child`.
#[cfg(unix)]
pub fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("sent");
    assert!(sent.success());
}

/// Starts `command` as a group of its own, so that [`interrupt`] reaches it and nobody else.
#[cfg(windows)]
pub fn start(command: &mut Command) -> Child {
    use std::os::windows::process::CommandExt;
    use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP).spawn().expect("started")
}

/// Presses Ctrl-Break for `child`. Windows sends Ctrl-C to no single group, and the command treats both alike.
#[cfg(windows)]
pub fn interrupt(child: &Child) {
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
    #[expect(unsafe_code, reason = "the standard library sends no such event")]
    // SAFETY: the call takes two numbers; the second is the group that `start` made.
    let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, child.id()) };
    assert!(sent != 0, "{}", std::io::Error::last_os_error());
}
