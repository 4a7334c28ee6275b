//! Ctrl-C for a command that a test has started.

use std::process::{Child, Command};

/// Starts `command`, so that [`interrupt`] reaches it and nobody else.
#[cfg(unix)]
pub fn start(command: &mut Command) -> Child {
    command.spawn().expect("started")
}

/// Presses Ctrl-C for `child`. Always true, see the version for Windows.
#[cfg(unix)]
#[must_use]
pub fn interrupt(child: &mut Child) -> bool {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("sent");
    assert!(sent.success());
    true
}

/// Starts `command` as a group of its own, so that [`interrupt`] reaches it and nobody else.
#[cfg(windows)]
pub fn start(command: &mut Command) -> Child {
    use std::os::windows::process::CommandExt;
    use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP).spawn().expect("started")
}

/// Presses Ctrl-Break for `child`. Windows sends Ctrl-C to no single group, and the command treats both alike. False where
/// `MEDDINO_NO_CTRL_BREAK` says that this Windows sends neither, as wine 8: then `child` is killed, and the test is skipped.
#[cfg(windows)]
#[must_use]
pub fn interrupt(child: &mut Child) -> bool {
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
    if std::env::var_os("MEDDINO_NO_CTRL_BREAK").is_some() {
        // Not by eprintln!, which the test harness captures.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED what Ctrl-C does: this Windows sends none\n");
        child.kill().expect("killed");
        child.wait().expect("ended");
        return false;
    }
    #[expect(unsafe_code, reason = "the standard library sends no such event")]
    // SAFETY: the call takes two numbers; the second is the group that `start` made.
    let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, child.id()) };
    assert!(sent != 0, "{}", std::io::Error::last_os_error());
    true
}
