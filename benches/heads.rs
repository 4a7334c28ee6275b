//! Logistic regression over 45 values of C, as `benches/peers/heads.py` measures scikit-learn's. Arguments: vectors
//! (20000), channels (768), classes (10); `tolerance=T` (1e-4). Or `stream`, vectors and channels: passes over vectors that are computed block
//! by block, which do not fit into memory. Or `marks`, slices (5) and marks (60): a refit and a label map, as after a
//! click in the viewer.

use std::time::Instant;

use meddino::heads::{Chosen, Lattice, Logistic, Rows, Standard, Targets, dinov3_cs};
use meddino::{Result, Tensor};

/// `uniform` of `tests/golden/seeded.py`, from element `first` on.
fn uniform(name: &str, first: usize, n: usize) -> impl Iterator<Item = f32> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = format!("0/{name}").bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    (first as u64..(first + n) as u64).map(move |i| {
        let x = hash.wrapping_add(i.wrapping_mul(GOLDEN)).wrapping_add(GOLDEN);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

/// Vectors that are computed when they are read.
struct Made {
    count: usize,
    width: usize,
    classes: usize,
    centres: Vec<f32>,
}

impl Made {
    fn new(count: usize, width: usize, classes: usize) -> Self {
        Self { count, width, classes, centres: uniform("centres", 0, classes * width).collect() }
    }

    /// Noise, with a twelfth of the class's centre, and an eighth of the neighbouring channel's noise, so that channels
    /// depend on each other; each fourth channel four times as wide.
    fn value(&self, at: usize, noise: f32, before: f32) -> f32 {
        let (row, channel) = (at / self.width, at % self.width);
        let centre = self.centres[row % self.classes * self.width + channel];
        (noise + before + 0.083 * centre) * if channel.is_multiple_of(4) { 4.0 } else { 1.0 }
    }
}

impl Rows for Made {
    fn count(&self) -> usize {
        self.count
    }

    fn width(&self) -> usize {
        self.width
    }

    fn read<'a>(&'a self, first: usize, count: usize, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        let start = first * self.width;
        buffer.clear();
        let mut before = 0.0;
        buffer.extend(uniform("features", start, count * self.width).enumerate().map(|(i, noise)| {
            let value = self.value(start + i, noise, if (start + i).is_multiple_of(self.width) { 0.0 } else { before });
            before = noise;
            value
        }));
        Ok(buffer)
    }
}

fn targets(made: &Made) -> Targets {
    let labels: Vec<usize> = (0..made.count).map(|i| i % made.classes).collect();
    Targets::of_labels(&labels, made.classes).expect("labels")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let tolerance = args.iter().find_map(|arg| arg.strip_prefix("tolerance=")?.parse().ok()).unwrap_or(1e-4);
    let numbers: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if args.first().is_some_and(|arg| arg == "stream") {
        return stream(numbers.first().copied().unwrap_or(1_000_000), numbers.get(1).copied().unwrap_or(3072));
    }
    if args.first().is_some_and(|arg| arg == "marks") {
        return marks(numbers.first().copied().unwrap_or(5), numbers.get(1).copied().unwrap_or(60));
    }
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let made = Made::new(number(0, 20_000), number(1, 768), number(2, 10));
    let mut buffer = Vec::new();
    let values = made.read(0, made.count, &mut buffer).expect("made").to_vec();
    let (x, targets) = (Tensor::new([made.count, made.width], values), targets(&made));
    let standard = Standard::of(&x).expect("measured");
    let cs = dinov3_cs();
    let start = Instant::now();
    let fits = Logistic { tolerance, ..Logistic::default() }.path(&x, &targets, &standard, &cs).expect("fitted");
    let seconds = start.elapsed().as_secs_f64();
    for (c, fit) in cs.iter().zip(&fits) {
        println!("C {c:e}: objective {:.12}, {} iterations, converged {}", fit.objective, fit.iterations, fit.converged);
    }
    println!("{} values of C in {seconds:.2} s", cs.len());
}

/// Fits with at most two iterations.
fn stream(count: usize, width: usize) {
    let made = Made::new(count, width, 10);
    let targets = targets(&made);
    let settings = Logistic { iterations: 1, ..Logistic::default() };
    let start = Instant::now();
    let fit = settings.fit(&made, &targets, &Standard::none(width)).expect("fitted");
    let seconds = start.elapsed().as_secs_f64();
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned();
    println!("{count} x {width}: objective {:.9} after {} iterations in {seconds:.1} s; {peak}", fit.objective, fit.iterations);
}

/// Fits three labels to marks on slices of 512 x 512, whose standardisation is known, and labels one of the slices. Prints
/// medians of 11.
fn marks(slices: usize, marks: usize) {
    const PATCHES: usize = 1024;
    let made = Made::new(slices * PATCHES, 768, 3);
    let mut buffer = Vec::new();
    let x = Tensor::new([made.count, made.width], made.read(0, made.count, &mut buffer).expect("made").to_vec());
    let slice = Tensor::new([PATCHES, made.width], x.data()[..PATCHES * made.width].to_vec());
    let rows: Vec<usize> = (0..marks).map(|i| i * made.count / marks).collect();
    let labels: Vec<usize> = rows.iter().map(|row| row % made.classes).collect();
    let targets = Targets::of_labels(&labels, made.classes).expect("labels").balanced();
    let lattice = Lattice::new((32, 32), 16, 1, (512, 512));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..11 {
        let start = Instant::now();
        let standard = Standard::of(&x).expect("measured");
        times[0].push(start.elapsed());
        let start = Instant::now();
        let fit = Logistic::default().fit(&Chosen::new(&x, &rows), &targets, &standard).expect("fitted");
        times[1].push(start.elapsed());
        let start = Instant::now();
        let scores: Vec<f32> = fit.linear.scores(&slice).expect("scored").into_iter().map(|v| v as f32).collect();
        lattice.decide(&scores, made.classes, (512, 512));
        times[2].push(start.elapsed());
    }
    let [standard, fit, map] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    println!("{slices} slices, {marks} marks: standardisation {standard:.1} ms, fit {fit:.1} ms, label map {map:.1} ms");
}
