//! The figures that no change may worsen, in a file with a line for each kernel of each card.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::hot_loop::HotLoop;

const HEAD: &str =
    "# card\tkernel\twaves\tproducts, per cent of the hottest loop\tloads a product, in hundredths\tscalar instructions\tinstructions aside
# Written by: benches/compiler/run.sh --record\n";

/// The figures of one kernel on one card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Floor {
    waves: u64,
    percent: u64,
    loads: u64,
    scalars: u64,
    aside: u64,
}

impl Floor {
    /// A kernel without products has waves only.
    fn new(waves: u64, hot: Option<HotLoop>) -> Self {
        let hundred = |share: f64| (100.0 * share).round() as u64;
        let [percent, loads] = hot.map_or([0, 0], |hot| [hot.share(), hot.loads_per_product()].map(hundred));
        let [scalars, aside] = hot.map_or([0, 0], |hot| [hot.scalars, hot.aside]).map(u64::from);
        Self { waves, percent, loads, scalars, aside }
    }

    /// Says which figures are worse than `self`. Two runs of the same compiler may differ by one or two scalar
    /// instructions in a hundred, and so by one per cent of products.
    fn worse(&self, now: &Self) -> Option<String> {
        let grown = |floor: u64, now: u64| now > floor + 2 + floor / 50;
        let rules = [
            ("waves", self.waves, now.waves, now.waves < self.waves),
            ("per cent of products", self.percent, now.percent, now.percent + 1 < self.percent),
            ("loads a product, in hundredths", self.loads, now.loads, now.loads > self.loads),
            ("scalar instructions", self.scalars, now.scalars, grown(self.scalars, now.scalars)),
            ("instructions aside", self.aside, now.aside, grown(self.aside, now.aside)),
        ];
        let texts: Vec<String> =
            rules.iter().filter(|rule| rule.3).map(|(what, floor, now, _)| format!("{what} {now}, recorded {floor}")).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// The recorded figures, by card and kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors(BTreeMap<(String, String), Floor>);

impl Floors {
    /// Adds a kernel's figures on a card.
    pub fn add(&mut self, card: &str, kernel: &str, waves: u64, hot: Option<HotLoop>) {
        self.0.insert((card.to_owned(), kernel.to_owned()), Floor::new(waves, hot));
    }

    /// Lists what is worse in `now` than recorded, and the kernels that only one of the two has.
    pub fn problems(&self, now: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key @ (card, kernel), floor) in &now.0 {
            match self.0.get(key).map(|recorded| recorded.worse(floor)) {
                None => problems.push(format!("{card}, {kernel}: nothing is recorded")),
                Some(Some(worse)) => problems.push(format!("{card}, {kernel}: {worse}")),
                Some(None) => {}
            }
        }
        let gone = self.0.keys().filter(|key| !now.0.contains_key(*key));
        problems.extend(gone.map(|(card, kernel)| format!("{card}, {kernel}: recorded, but there is no such kernel")));
        problems
    }
}

impl fmt::Display for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for ((card, kernel), Floor { waves, percent, loads, scalars, aside }) in &self.0 {
            writeln!(f, "{card}\t{kernel}\t{waves}\t{percent}\t{loads}\t{scalars}\t{aside}")?;
        }
        Ok(())
    }
}

impl FromStr for Floors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut floors = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[card, kernel, ref figures @ ..] = fields.as_slice() else { return Err(format!("no line of floors: {line:?}")) };
            let figures: Result<Vec<u64>, _> = figures.iter().map(|figure| figure.parse()).collect();
            let Ok(&[waves, percent, loads, scalars, aside]) = figures.as_deref() else { return Err(format!("no five figures: {line:?}")) };
            floors.insert((card.to_owned(), kernel.to_owned()), Floor { waves, percent, loads, scalars, aside });
        }
        Ok(Self(floors))
    }
}
