//! Commands are killed at random moments.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

use crate::common::uniform;
use crate::{COMMANDS, Case, desk};

/// How often each command is killed, unless `MEDDINO_KILLS` gives a number.
const KILLS: usize = 3;

#[test]
fn a_killed_command_loses_nothing() {
    let desk = desk();
    let kills = std::env::var("MEDDINO_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut hit = 0;
    for (number, &line) in COMMANDS.iter().enumerate() {
        let case = Case::new(&desk, line);
        let began = Instant::now();
        desk.succeed(line);
        let takes = began.elapsed();
        case.clear(&desk);
        for (kill, share) in uniform(line, kills, number as u64).into_iter().enumerate() {
            // From 0 to 1.1 times the command's duration.
            let after = takes.mul_f32((share + 1.0) * 0.55);
            let mut child = desk.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
            sleep(after);
            child.kill().expect("killed");
            hit += usize::from(!child.wait().expect("ended").success());
            let kill_description = format!("kill {kill}, after {after:?} of {takes:?}");
            case.check_disturbed(&desk, &kill_description, true);
            case.check_redone(&desk, &kill_description);
            case.clear(&desk);
        }
    }
    println!("{hit} of {} commands were killed before they ended, and nothing was lost", kills * COMMANDS.len());
    assert!(hit > 0, "no kill came in time");
}
