//! Compiles every kernel with AMD's driver for cards that need not be there, and prints what the compiler says of each.
//! `run.sh` fetches the driver and runs this; nothing runs on a GPU.

mod floors;
mod hot_loop;
mod kernels;
mod radv;
mod row;
mod spirv;

use std::path::Path;
use std::process::ExitCode;

use meddino::gpu::devices;
use meddino::graph::{Elem, Tier};

use floors::Floors;
use radv::Radv;
use row::Row;

/// Cards by the names of their generation and of the driver's family, and whether this driver offers cooperative matrices
/// there.
const CARDS: [(&str, &str, bool); 3] = [("RDNA2", "navi21", false), ("RDNA3", "navi31", true), ("RDNA4", "gfx1200", false)];

const FLOORS: &str = "benches/compiler/floors.tsv";

/// Exit code: the driver is not the one that `run.sh` fetches.
const NO_COMPILER: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (json, record) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => (None, false),
        ["--record"] => (None, true),
        ["--json", file] => (Some(*file), false),
        ["--json", file, "--record"] | ["--record", "--json", file] => (Some(*file), true),
        _ => {
            eprintln!("usage: benches/compiler/run.sh [--json FILE] [--record]");
            return ExitCode::from(2);
        }
    };
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for card in CARDS {
        match compile_all(card) {
            Ok((of_card, refused)) => {
                rows.extend(of_card);
                problems.extend(refused);
            }
            Err(problem) => {
                eprintln!("compiler: {}: {problem}; benches/compiler/run.sh fetches a driver that has this card", card.0);
                return ExitCode::from(NO_COMPILER);
            }
        }
    }
    println!("{}", Row::head());
    rows.iter().for_each(|row| println!("{row}"));
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&rows).expect("rows are JSON")).expect("the JSON file can be written");
    }
    problems.extend(rows.iter().filter(|row| row.spills > 0).map(|row| format!("{}, {}: registers spill to memory", row.card, row.kernel)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FLOORS);
    let mut now = Floors::default();
    rows.iter().for_each(|row| now.add(row.card, &row.kernel, row.waves, row.hot));
    if record {
        std::fs::write(&path, now.to_string()).expect("the floors can be written");
    } else {
        let recorded = std::fs::read_to_string(&path).map_err(|e| format!("{FLOORS}: {e}")).and_then(|text| text.parse::<Floors>());
        problems.extend(recorded.map_or_else(|problem| vec![problem], |recorded| recorded.problems(&now)));
    }
    eprintln!("{} kernels on {} cards", rows.len(), CARDS.len());
    if problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{}\nIf that is meant, `benches/compiler/run.sh --record` records the new figures.", problems.join("\n"));
    ExitCode::FAILURE
}

/// Compiles every kernel that a card gets. Returns the rows, and the kernels that the driver refuses.
///
/// # Errors
/// If there is no such card.
fn compile_all((name, family, has_matrices): (&'static str, &str, bool)) -> Result<(Vec<Row>, Vec<String>), String> {
    choose(family);
    let device = devices().list.into_iter().next().ok_or("no device")?;
    let radv = Radv::open()?;
    if !radv.name.contains("RADV") {
        return Err(format!("{} is not a card of this driver", radv.name));
    }
    let abilities = device.abilities.ok_or("a device without compute shaders")?;
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    if abilities.run(Tier::Cooperative16, Elem::F16) != has_matrices {
        refused.push(format!("{name}: the tiers are {abilities}, and cooperative matrices were expected to be there: {has_matrices}"));
    }
    for (kernel, source) in kernels::kernels(&abilities, device.limits) {
        // Kernels that know the size of subgroups are right with smaller ones, but then half of them would only repeat work.
        let assumed = source.constants.iter().any(|(constant, _)| *constant == "SUBGROUP_SIZE");
        let compiled = spirv::module(&source).and_then(|(words, bindings)| radv.compile(&words, &bindings));
        let row = compiled.and_then(|compiled| match compiled.subgroup_size {
            size if assumed && Some(size) != abilities.subgroups => Err(format!("has subgroups of {size}; those of {name} can be larger")),
            _ => Row::new(name, kernel.clone(), &compiled),
        });
        match row {
            Ok(row) => rows.push(row),
            Err(problem) => refused.push(format!("{name}, {kernel}: {problem}")),
        }
    }
    Ok((rows, refused))
}

/// Tells the driver which card to open.
#[expect(unsafe_code, reason = "the driver takes the card from the environment alone")]
fn choose(family: &str) {
    // SAFETY: no other thread runs that reads the environment.
    unsafe { std::env::set_var("RADV_FORCE_FAMILY", family) }
}
