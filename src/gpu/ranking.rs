//! The order in which adapters are tried. A pure function of their reports.

use std::fmt;

use super::report::{DeviceReport, Kind};

/// An adapter and its standing among the others.
#[derive(Clone, Copy, Debug)]
pub struct Ranked<'a> {
    /// The adapter.
    pub device: &'a DeviceReport,
    /// Whether, and when, `auto` tries the adapter.
    pub standing: Standing,
}

/// Whether, and when, `auto` tries an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The first way to a card.
    Card,
    /// Another API of the card that the adapter of this index opens; tried if that adapter fails.
    SameCardAs(usize),
    /// A software rasteriser. The CPU backend is faster.
    Software,
    /// A layer that translates one API to another. It lists cards that it may be unable to use.
    Layer,
}

impl Standing {
    /// Returns whether `auto` prefers the CPU to the adapter.
    pub fn is_below_cpu(self) -> bool {
        matches!(self, Self::Software | Self::Layer)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card => f.write_str("a card"),
            Self::SameCardAs(index) => write!(f, "the card of device {index} again, for the case that {index} fails"),
            Self::Software => f.write_str("a software rasteriser, slower than the CPU backend"),
            Self::Layer => f.write_str("a layer over another API, which may be unable to use the card that it lists"),
        }
    }
}

/// Words in the name or driver of software rasterisers, in lower case. OpenGL has no kind of device, so that a name may
/// be all there is.
const SOFTWARE: [&str; 7] = ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "swrast", "basic render driver", "gdi generic"];

/// Words in the name or driver of layers, in lower case: Mesa's Vulkan and OpenGL over Direct3D 12 (`dozen`, `d3d12`),
/// OpenGL over Vulkan (`zink`), OpenGL over Direct3D (`angle`), Vulkan over Metal (`moltenvk`), wine's DX12 over Vulkan.
const LAYERS: [&str; 7] = ["dozen", "microsoft direct3d12", "d3d12 (", "zink", "angle (", "moltenvk", "(wine)"];

/// Returns the adapters with compute shaders, in the order in which they are tried.
///
/// Cards come first: discrete before integrated, or the other way round if `low_power`, then virtual GPUs and GPUs of
/// unknown kind. All APIs of one card follow each other, Vulkan before DX12 before OpenGL. Layers and then software
/// rasterisers come last. If an adapter is of Metal, the other APIs are layers over Metal.
pub(super) fn ranking(list: &[DeviceReport], low_power: bool) -> Vec<Ranked<'_>> {
    let has_metal = list.iter().any(|device| device.backend == "Metal");
    let (mut cards, mut below): (Vec<Vec<&DeviceReport>>, Vec<Ranked>) = (Vec::new(), Vec::new());
    let mut devices: Vec<&DeviceReport> = list.iter().filter(|device| device.abilities.is_some()).collect();
    devices.sort_by_key(|device| api_rank(device));
    for device in devices {
        if let Some(standing) = below_cpu(device, has_metal) {
            below.push(Ranked { device, standing });
            continue;
        }
        // Two cards of one product are listed twice by each API.
        let is_this =
            |card: &&mut Vec<&DeviceReport>| card.iter().all(|other| other.backend != device.backend && is_same_card(other, device));
        match cards.iter_mut().find(is_this) {
            Some(card) => card.push(device),
            None => cards.push(vec![device]),
        }
    }
    // The sorts are stable, so that equal cards keep the order of the list. OpenGL may know no kind of a card that
    // another API knows.
    cards.sort_by_key(|card| card.iter().map(|device| kind_rank(device.kind, low_power)).min());
    below.sort_by_key(|ranked| ranked.standing == Standing::Software);
    let cards = cards.iter().flat_map(|card| {
        let standing = |at| if at == 0 { Standing::Card } else { Standing::SameCardAs(card[0].index) };
        card.iter().enumerate().map(move |(at, &device)| Ranked { device, standing: standing(at) })
    });
    cards.chain(below).collect()
}

fn api_rank(device: &DeviceReport) -> u8 {
    match device.backend {
        "Metal" | "WebGPU" => 0,
        "Vulkan" => 1,
        "DX12" => 2,
        _ => 3,
    }
}

fn kind_rank(kind: Kind, low_power: bool) -> u8 {
    match (kind, low_power) {
        (Kind::Discrete, false) | (Kind::Integrated, true) => 0,
        (Kind::Discrete, true) | (Kind::Integrated, false) => 1,
        (Kind::Virtual, _) => 2,
        (Kind::Unknown, _) => 3,
        (Kind::Software, _) => 4,
    }
}

/// Returns why `auto` prefers the CPU to the adapter, or `None` for a card.
fn below_cpu(device: &DeviceReport, has_metal: bool) -> Option<Standing> {
    let text = format!("{} {}", device.name, device.driver).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if device.kind == Kind::Software || has(&SOFTWARE) {
        Some(Standing::Software)
    } else if has(&LAYERS) || (has_metal && device.backend != "Metal") {
        Some(Standing::Layer)
    } else {
        None
    }
}

/// Returns whether two adapters of different APIs are one card: by the place on the bus if both APIs tell it, else by
/// the numbers of the product if both tell them, else by the name.
fn is_same_card(a: &DeviceReport, b: &DeviceReport) -> bool {
    if !a.bus.is_empty() && !b.bus.is_empty() {
        return a.bus.eq_ignore_ascii_case(&b.bus);
    }
    if a.product.1 != 0 && b.product.1 != 0 {
        return a.product == b.product;
    }
    bare_name(&a.name) == bare_name(&b.name)
}

/// Returns a card's name without what its driver adds: `NVIDIA RTX A2000/PCIe/SSE2` and `Mesa Intel(R) UHD (CML GT2)`.
fn bare_name(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("mesa ").unwrap_or(&name);
    let end = [name.find(" ("), name.find('/')].into_iter().flatten().min().unwrap_or(name.len());
    name[..end].trim().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::graph::{Abilities, Limits};

    /// An adapter of a made-up machine.
    pub fn card(name: &str, backend: &'static str, kind: Kind) -> DeviceReport {
        DeviceReport {
            index: 0,
            name: name.to_owned(),
            backend,
            product: (0, 0),
            bus: String::new(),
            kind,
            driver: String::new(),
            abilities: Some(Abilities::default()),
            limits: Limits::DEFAULT,
            timestamps: true,
        }
    }

    /// Numbers the adapters.
    pub fn list(mut devices: Vec<DeviceReport>) -> Vec<DeviceReport> {
        devices.iter_mut().enumerate().for_each(|(index, device)| device.index = index);
        devices
    }

    /// The machine, its adapters, the indices of those that `auto` tries, and of those that it never takes.
    type Machine = (&'static str, Vec<DeviceReport>, &'static [usize], &'static [usize]);

    fn machines() -> Vec<Machine> {
        use Kind::{Discrete, Integrated, Software, Unknown, Virtual};
        let on = |bus: &str, device: DeviceReport| DeviceReport { bus: bus.to_owned(), ..device };
        let of = |product, device: DeviceReport| DeviceReport { product, ..device };
        let unfit = |device: DeviceReport| DeviceReport { abilities: None, ..device };
        vec![
            ("nothing", vec![], &[], &[]),
            ("a server without a card", vec![card("llvmpipe (LLVM 15, 256 bits)", "Vulkan", Software)], &[], &[0]),
            ("a card too old for compute", vec![unfit(card("Radeon HD 4200", "OpenGL", Integrated))], &[], &[]),
            (
                "a laptop with two cards",
                vec![
                    card("llvmpipe", "Vulkan", Software),
                    card("Intel(R) UHD Graphics (CML GT2)", "Vulkan", Integrated),
                    card("NVIDIA GeForce RTX 3080", "Vulkan", Discrete),
                ],
                &[2, 1],
                &[0],
            ),
            (
                "OpenGL, which knows a card by its name alone",
                vec![
                    card("NVIDIA GeForce RTX 3080/PCIe/SSE2", "OpenGL", Unknown),
                    card("Mesa Intel(R) UHD Graphics (CML GT2)", "OpenGL", Integrated),
                    card("Intel(R) UHD Graphics (CML GT2)", "Vulkan", Integrated),
                    card("NVIDIA GeForce RTX 3080", "Vulkan", Discrete),
                ],
                &[3, 0, 2, 1],
                &[],
            ),
            (
                "Windows, two cards by two APIs, and Windows' own rasteriser",
                vec![
                    of((0x8086, 1), card("Intel(R) Iris(R) Xe", "DX12", Integrated)),
                    of((0x10de, 2), card("NVIDIA RTX A2000", "DX12", Discrete)),
                    of((0x1414, 0x8c), card("Microsoft Basic Render Driver", "DX12", Software)),
                    of((0x10de, 2), card("NVIDIA RTX A2000 Laptop GPU", "Vulkan", Discrete)),
                    of((0x8086, 1), card("Intel(R) Iris(R) Xe Graphics", "Vulkan", Integrated)),
                ],
                &[3, 1, 4, 0],
                &[2],
            ),
            (
                "two cards of one product, told apart by the bus",
                vec![
                    on("0000:02:00.0", card("H100", "DX12", Discrete)),
                    on("0000:01:00.0", card("H100", "DX12", Discrete)),
                    on("0000:01:00.0", card("H100", "Vulkan", Discrete)),
                    on("0000:02:00.0", card("H100", "Vulkan", Discrete)),
                ],
                &[2, 1, 3, 0],
                &[],
            ),
            (
                "two cards of one product, not told apart",
                vec![card("H100", "Vulkan", Discrete), card("H100", "Vulkan", Discrete), card("H100", "DX12", Discrete)],
                &[0, 2, 1],
                &[],
            ),
            (
                "a virtual machine",
                vec![card("mystery", "Vulkan", Unknown), card("Virtio-GPU Venus (NVIDIA H100)", "Vulkan", Virtual)],
                &[1, 0],
                &[],
            ),
        ]
    }

    /// Those with layers over other APIs.
    fn layered() -> Vec<Machine> {
        use Kind::{Discrete, Integrated, Software, Unknown};
        let by_driver = |driver: &str, device| DeviceReport { driver: driver.to_owned(), ..device };
        vec![
            (
                "Linux in Windows, where Mesa translates to Direct3D 12",
                vec![
                    by_driver("Dozen Mesa 25", card("Microsoft Direct3D12 (NVIDIA RTX A2000)", "Vulkan", Discrete)),
                    card("D3D12 (NVIDIA RTX A2000)", "OpenGL", Unknown),
                    card("llvmpipe", "Vulkan", Software),
                ],
                &[],
                &[0, 1, 2],
            ),
            (
                "wine, whose DX12 calls a rasteriser a card",
                vec![
                    by_driver("9.21.13.9135 (wine)", card("NVIDIA GeForce GTX 470", "DX12", Integrated)),
                    card("llvmpipe", "Vulkan", Software),
                ],
                &[],
                &[0, 1],
            ),
            (
                "OpenGL over Vulkan, and a rasteriser that OpenGL knows by its name alone",
                vec![
                    card("softpipe", "OpenGL", Unknown),
                    card("zink Vulkan 1.4(NVIDIA RTX A2000 (NVIDIA_PROPRIETARY))", "OpenGL", Unknown),
                    card("NVIDIA RTX A2000", "Vulkan", Discrete),
                ],
                &[2],
                &[1, 0],
            ),
            (
                "a Mac with Vulkan over Metal",
                vec![card("Apple M2", "Vulkan", Integrated), card("Apple M2", "Metal", Integrated)],
                &[1],
                &[0],
            ),
        ]
    }

    #[test]
    fn made_up_machines() {
        for (machine, devices, tried, never) in machines().into_iter().chain(layered()) {
            let devices = list(devices);
            let ranked = ranking(&devices, false);
            let [above, below] = [false, true].map(|below| {
                let of_kind = ranked.iter().filter(|ranked| ranked.standing.is_below_cpu() == below);
                of_kind.map(|ranked| ranked.device.index).collect::<Vec<_>>()
            });
            assert_eq!((&above[..], &below[..]), (tried, never), "{machine}");
            assert!(ranked.is_sorted_by_key(|ranked| ranked.standing.is_below_cpu()), "{machine}: the CPU divides the list");
        }
    }

    #[test]
    fn another_api_of_a_card_names_the_first() {
        let devices = list(vec![card("RTX", "DX12", Kind::Discrete), card("RTX", "Vulkan", Kind::Discrete)]);
        let standings: Vec<_> = ranking(&devices, false).iter().map(|ranked| ranked.standing).collect();
        assert_eq!(standings, [Standing::Card, Standing::SameCardAs(1)]);
    }
}
