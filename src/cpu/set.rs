//! The instruction set that the CPU's kernels use, chosen once for the whole process.

use std::fmt;
use std::sync::LazyLock;

use pulp::Arch;

use crate::error::{Error, Result};

/// The environment variable that chooses a lower set than the CPU has.
const VARIABLE: &str = "MEDDINO_CPU";

/// An instruction set that the kernels are compiled for.
///
/// All sets sum in the same order. [`Avx512`](Self::Avx512), [`Avx2`](Self::Avx2) and [`Neon`](Self::Neon) round a
/// product and a sum once, the other two twice. So each of these groups has results of its own, equal bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512 (F, BW, CD, DQ and VL) with FMA: 32 registers of 16 numbers.
    Avx512,
    /// AVX2 with FMA: 16 registers of 8 numbers.
    Avx2,
    /// Arm's NEON: 32 registers of 4 numbers.
    Neon,
    /// WebAssembly's `simd128`: registers of 4 numbers.
    Simd128,
    /// What the build's target has on every machine.
    Portable,
}

/// The chosen set and how [`pulp`] reaches it, or what is wrong with the variable.
static CHOSEN: LazyLock<Result<(InstructionSet, Arch), String>> = LazyLock::new(|| {
    let named = std::env::var_os(VARIABLE);
    let chosen = choose(named.as_ref().map(|name| name.to_string_lossy()).as_deref());
    if let Err(problem) = &chosen {
        log::warn!("{VARIABLE}: {problem}");
    }
    chosen
});

/// The set with this name, or the best set if there is no name or an empty one.
fn choose(name: Option<&str>) -> Result<(InstructionSet, Arch), String> {
    let here = || InstructionSet::of_this_cpu().map(|set| set.to_string()).collect::<Vec<_>>().join(", ");
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(InstructionSet::best()) };
    let set = InstructionSet::ALL
        .into_iter()
        .find(|set| set.to_string() == name)
        .ok_or_else(|| format!("{name} is no instruction set that meddino knows; this CPU has {}", here()))?;
    let arch = set.on_this_cpu().ok_or_else(|| format!("this CPU does not have {name}; it has {}", here()))?;
    Ok((set, arch))
}

/// How [`pulp`] reaches the set in use.
pub(super) fn arch() -> Arch {
    in_use().1
}

/// The chosen set. If the variable is wrong, the best one; [`InstructionSet::chosen`] reports the mistake.
fn in_use() -> (InstructionSet, Arch) {
    CHOSEN.as_ref().map_or_else(|_| InstructionSet::best(), |chosen| *chosen)
}

impl InstructionSet {
    /// The sets from best to plainest.
    const ALL: [Self; 5] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Simd128, Self::Portable];

    /// The set that the kernels use.
    pub fn in_use() -> Self {
        in_use().0
    }

    /// [`InstructionSet::in_use`]: the set that the environment variable `MEDDINO_CPU` named when the process first
    /// asked, or else the best that this CPU has.
    ///
    /// # Errors
    /// If the variable names no set, or a set that this CPU lacks.
    pub fn chosen() -> Result<Self> {
        CHOSEN.as_ref().map(|(set, _)| *set).map_err(|problem| Error::option(VARIABLE, problem.clone()))
    }

    /// The sets that this CPU has, best first.
    pub fn of_this_cpu() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.on_this_cpu().is_some())
    }

    /// Whether the set multiplies and adds with one rounding, which decides the last bits of every result.
    pub fn is_fused(self) -> bool {
        matches!(self, Self::Avx512 | Self::Avx2 | Self::Neon)
    }

    fn best() -> (Self, Arch) {
        Self::ALL.into_iter().find_map(|set| Some((set, set.on_this_cpu()?))).unwrap_or((Self::Portable, Arch::Scalar))
    }

    /// How [`pulp`] reaches the set, if this CPU has it.
    fn on_this_cpu(self) -> Option<Arch> {
        match self {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            #[cfg(target_arch = "wasm32")]
            Self::Simd128 => pulp::wasm::Simd128::try_new().map(Arch::Simd128),
            Self::Portable => Some(Arch::Scalar),
            _ => None,
        }
    }
}

/// The set's name in `MEDDINO_CPU`.
impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
            Self::Portable => "portable",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_chooses_a_set() {
        for set in InstructionSet::of_this_cpu() {
            assert_eq!(choose(Some(&set.to_string())).expect("this CPU has it").0, set);
        }
        assert_eq!(choose(Some("portable")).expect("every CPU has it").0, InstructionSet::Portable);
        let best = InstructionSet::of_this_cpu().next();
        assert!([None, Some("")].iter().all(|name| choose(*name).ok().map(|chosen| chosen.0) == best));
    }

    #[test]
    fn a_wrong_name_and_a_missing_set_are_refused() {
        let problem = choose(Some("avx3")).expect_err("no such set");
        assert!(problem.starts_with("avx3 is no instruction set") && problem.ends_with("portable"), "{problem}");
        let missing = InstructionSet::ALL.into_iter().find(|set| set.on_this_cpu().is_none()).expect("no CPU has all sets");
        let problem = choose(Some(&missing.to_string())).expect_err("a set that this CPU lacks");
        assert!(problem.starts_with(&format!("this CPU does not have {missing}; it has ")), "{problem}");
    }

    /// Runs the tests of this room again with each lower set, in processes of their own.
    #[test]
    fn lower_sets_pass_the_tests_of_this_room() {
        for set in InstructionSet::of_this_cpu().skip_while(|set| *set != InstructionSet::in_use()).skip(1) {
            let tests = std::env::current_exe().expect("this program");
            let run =
                Command::new(tests).args(["cpu::", "--skip", "lower_sets"]).env(VARIABLE, set.to_string()).output().expect("it starts");
            let text = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success() && !text.contains("running 0 tests"), "{set}: {text}");
        }
    }
}
