//! The memory that fits take, beside what they say beforehand.
#![cfg(feature = "heads")]
#![allow(unsafe_code, reason = "an allocator has no safe form")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use meddino::Tensor;
use meddino::heads::{Extent, LinearProbe, Link, Logistic, Neighbours, Standard, Targets};

/// The system's allocator, which counts the bytes that the process holds.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(held, Ordering::SeqCst);
        // SAFETY: the caller's layout is not empty.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`, and returns the most bytes that the process held meanwhile beyond what it held before.
fn peak(work: impl FnOnce()) -> u64 {
    let before = HELD.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    work();
    (PEAK.load(Ordering::SeqCst) - before) as u64
}

/// A test of its own, because others would allocate meanwhile.
#[test]
fn no_fit_takes_more_memory_than_it_says_and_none_says_far_more_than_it_takes() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (rows, width, classes) in [(3000, 200, 2), (3000, 200, 12), (100, 300, 3), (12_000, 24, 5), (900, 900, 2)] {
        let x = Tensor::new([rows, width], common::uniform("x", rows * width, 1));
        let labels: Vec<usize> = (0..rows).map(|row| (row * 7 + row / 5) % classes).collect();
        let (cs, rates) = ([0.01, 1.0, 100.0], vec![0.01, 0.1]);
        let extent = |candidates| Extent { rows, width, classes, candidates, threads };
        let targets = || Targets::of_labels(&labels, classes).expect("labels");
        let mut found = Vec::new();
        for link in [Link::Softmax, Link::OneAgainstRest] {
            let settings = Logistic { link, iterations: 30, ..Logistic::default() };
            let took = peak(|| {
                let standard = Standard::of(&x).expect("measured");
                let fits = settings.path(&x, &targets(), &standard, &cs).expect("fitted");
                fits.iter().for_each(|fit| drop(fit.linear.probabilities(&x).expect("predicted")));
            });
            found.push((format!("{link:?}"), took, settings.bytes(&extent(cs.len()))));
        }
        let probe = LinearProbe { rates, steps: 40, ..LinearProbe::default() };
        let took = peak(|| {
            let standard = Standard::of(&x).expect("measured");
            let fits = probe.fit(&x, &targets(), &standard).expect("fitted");
            fits.iter().for_each(|linear| drop(linear.probabilities(&x).expect("predicted")));
        });
        found.push(("probe".into(), took, probe.bytes(&extent(2))));
        let took = peak(|| {
            let bank = Neighbours::new(&x, &labels, classes, 0.07).expect("a bank");
            drop(bank.probabilities(&x, &[5, 10]).expect("predicted"));
        });
        found.push(("neighbours".into(), took, Neighbours::bytes(&extent(2))));
        for (name, took, told) in found {
            println!("{rows} x {width}, {classes} classes, {name}: takes {took}, tells {told}");
            assert!(took <= told, "{rows} x {width}, {classes} classes, {name}: takes {took}, tells {told}");
            // Below some MB, fixed sizes and what threads hold at a time count.
            assert!(told <= 3 * took + (8 << 20), "{rows} x {width}, {classes} classes, {name}: takes {took}, tells {told}");
        }
    }
}
