//! The ways in which kernels are written, and what each needs from a device: plain data. `gpu/` decides which one a
//! device gets.

use std::fmt;
use std::str::FromStr;

/// The type of a tensor's elements on the device. Sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Elem {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: IEEE half precision.
    F16,
}

impl Elem {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The type's name in WGSL.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

impl FromStr for Elem {
    type Err = String;

    /// `f32` or `f16`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err(format!("{text} is no precision; expected f32 or f16")),
        }
    }
}

/// How kernels are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// WGSL that every WebGPU device runs, with tiles in workgroup memory.
    #[default]
    Baseline,
    /// Without workgroup memory and barriers, for software GPUs such as llvmpipe, where barriers are slow.
    Direct,
    /// The baseline, with subgroup operations for sums over a workgroup.
    Subgroups,
    /// Cooperative matrices (tensor cores) of 8 x 8 x 8 for matrix products and attention; the rest as with
    /// subgroups. An f32 factor is the sum of two f16, which costs three products and no accuracy.
    Cooperative8,
    /// The same with matrices of 16 x 16 x 16.
    Cooperative16,
}

impl Tier {
    /// Every tier, simplest first.
    pub const ALL: [Self; 5] = [Self::Baseline, Self::Direct, Self::Subgroups, Self::Cooperative8, Self::Cooperative16];

    /// The tier's name in flags and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Direct => "direct",
            Self::Subgroups => "subgroups",
            Self::Cooperative8 => "cooperative8",
            Self::Cooperative16 => "cooperative16",
        }
    }

    /// The side of the tier's cooperative matrices, if it uses any.
    pub fn cooperative(self) -> Option<u32> {
        match self {
            Self::Baseline | Self::Direct | Self::Subgroups => None,
            Self::Cooperative8 => Some(8),
            Self::Cooperative16 => Some(16),
        }
    }

    /// Whether the tier's kernels are for Vulkan alone. Cooperative matrices are loaded from tiles of vec4s, which naga
    /// translates rightly for no other API.
    pub fn needs_vulkan(self) -> bool {
        self.cooperative().is_some()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|tier| tier.name() == text).ok_or_else(|| format!("{text} is no tier; expected one of {}", names()))
    }
}

/// What a device's shaders can do beyond what every WebGPU device can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The tier of a software GPU such as llvmpipe, which runs on the CPU; `None` for cards. Direct kernels suit most. DX12's
    /// has the baseline, because its compiler, FXC, takes minutes for a direct kernel; and so have those of browsers, because
    /// Chromium's computes wrongly with direct kernels.
    pub software: Option<Tier>,
    /// Whether storage may hold f16.
    pub f16: bool,
    /// The most invocations that a subgroup has; `None` if there are no subgroup operations. On some devices the driver
    /// chooses fewer for some kernels.
    pub subgroups: Option<u32>,
    /// Sides of the device's square cooperative matrices with factors of f16 and sums of f32.
    pub cooperative: Vec<u32>,
}

impl Abilities {
    /// Whether it is a software GPU.
    pub fn is_software(&self) -> bool {
        self.software.is_some()
    }

    /// Whether the device can run kernels of `tier` over tensors of `elem`.
    pub fn run(&self, tier: Tier, elem: Elem) -> bool {
        let runs = match tier {
            Tier::Baseline | Tier::Direct => true,
            Tier::Subgroups => self.subgroups.is_some(),
            Tier::Cooperative8 | Tier::Cooperative16 => {
                let side = tier.cooperative().unwrap_or_default();
                self.f16 && self.subgroups.is_some() && self.cooperative.contains(&side)
            }
        };
        runs && (elem == Elem::F32 || self.f16)
    }

    /// The tiers to try for tensors of `elem` if the caller names none, best first. Over f32 every device
    /// runs the last one.
    ///
    /// Cooperative matrices are used on real GPUs alone, because software GPUs gain nothing from tiles. Over f32, where they
    /// take three products for one, they are used where subgroups have at most 32 invocations, as on NVIDIA's cards. AMD's
    /// have 64, and a compute unit of RDNA3 adds and multiplies 256 times a cycle by matrices, and 64 to 128 times in f32
    /// without them.
    pub fn ladder(&self, elem: Elem) -> Vec<Tier> {
        let pays = |tier: Tier| tier.cooperative().is_none() || elem == Elem::F16 || self.subgroups.is_some_and(|most| most <= 32);
        let of_cards = &[Tier::Cooperative16, Tier::Cooperative8, Tier::Subgroups, Tier::Baseline];
        let best_first = self.software.as_ref().map_or(&of_cards[..], std::slice::from_ref);
        best_first.iter().copied().filter(|&tier| self.run(tier, elem) && pays(tier)).collect()
    }
}

impl fmt::Display for Abilities {
    /// The tiers, each followed by the types that it runs over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for tier in Tier::ALL {
            let elems: Vec<&str> = [Elem::F32, Elem::F16].into_iter().filter(|&e| self.run(tier, e)).map(Elem::name).collect();
            if !elems.is_empty() {
                write!(f, "{}{tier} ({})", if first { "" } else { ", " }, elems.join(", "))?;
                first = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_needs_what_its_kernels_use() {
        let nothing = Abilities::default();
        assert_eq!(nothing.ladder(Elem::F32), [Tier::Baseline]);
        assert!(nothing.ladder(Elem::F16).is_empty(), "no f16, no tier over f16");
        let gpu = Abilities { f16: true, subgroups: Some(32), cooperative: vec![16], ..nothing.clone() };
        assert_eq!(gpu.ladder(Elem::F16), [Tier::Cooperative16, Tier::Subgroups, Tier::Baseline]);
        assert_eq!(gpu.ladder(Elem::F32), [Tier::Cooperative16, Tier::Subgroups, Tier::Baseline]);
        assert!(!gpu.run(Tier::Cooperative8, Elem::F32) && !gpu.run(Tier::Cooperative8, Elem::F16));
        let no_f16 = Abilities { f16: false, ..gpu.clone() };
        assert_eq!(no_f16.ladder(Elem::F32), [Tier::Subgroups, Tier::Baseline], "matrices hold f16");
        let no_subgroups = Abilities { subgroups: None, ..gpu.clone() };
        assert_eq!(no_subgroups.ladder(Elem::F16), [Tier::Baseline]);
        let wide = Abilities { subgroups: Some(64), ..gpu.clone() };
        assert!(wide.run(Tier::Cooperative16, Elem::F32), "if it is asked for");
        assert_eq!(wide.ladder(Elem::F32), [Tier::Subgroups, Tier::Baseline]);
        assert_eq!(wide.ladder(Elem::F16), [Tier::Cooperative16, Tier::Subgroups, Tier::Baseline]);
        let software = Abilities { software: Some(Tier::Direct), ..gpu };
        assert_eq!(software.ladder(Elem::F16), [Tier::Direct]);
        assert_eq!(
            Abilities { software: Some(Tier::Baseline), ..software }.ladder(Elem::F16),
            [Tier::Baseline],
            "as on DX12 and in browsers"
        );
        assert_eq!(Tier::ALL.map(|tier| tier.name().parse::<Tier>()), Tier::ALL.map(Ok));
        assert!("warp".parse::<Tier>().unwrap_err().contains("cooperative16"));
    }
}
