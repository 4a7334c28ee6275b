//! Marks: the labels that the user gave to patches, and the strokes that gave them.

use std::collections::BTreeMap;

/// Number of labels. Each has a digit key.
pub const LABELS: u16 = 10;

/// A patch: the index of its slice, and its index on the slice.
type Place = (usize, usize);

/// What a stroke changed: each patch with the label before and after.
type Stroke = Vec<(Place, Option<u16>, Option<u16>)>;

/// The label of each marked patch, with the strokes that can be undone and done again.
#[derive(Debug, Default)]
pub struct Marks {
    labels: BTreeMap<Place, u16>,
    done: Vec<Stroke>,
    undone: Vec<Stroke>,
    version: u64,
}

impl Marks {
    /// Removes everything, the strokes too.
    pub fn clear(&mut self) {
        *self = Self { version: self.version + 1, ..Self::default() };
    }

    /// Begins a stroke, which is undone as one.
    pub fn begin(&mut self) {
        if self.done.last().is_none_or(|stroke| !stroke.is_empty()) {
            self.done.push(Stroke::new());
        }
    }

    /// Marks `patches` of `slice` with `label`, or removes their marks, as part of the stroke that began last.
    pub fn mark(&mut self, slice: usize, patches: &[usize], label: Option<u16>) {
        if self.done.is_empty() {
            self.begin();
        }
        for place in patches.iter().map(|patch| (slice, *patch)) {
            let before = self.labels.get(&place).copied();
            if before == label {
                continue;
            }
            self.set(place, label);
            if let Some(stroke) = self.done.last_mut() {
                stroke.push((place, before, label));
            }
            self.undone.clear();
            self.version += 1;
        }
    }

    /// Undoes the last stroke. Returns whether there was one.
    pub fn undo(&mut self) -> bool {
        let Some(stroke) = std::iter::from_fn(|| self.done.pop()).find(|stroke| !stroke.is_empty()) else { return false };
        stroke.iter().rev().for_each(|(place, before, _)| self.set(*place, *before));
        self.undone.push(stroke);
        self.version += 1;
        true
    }

    /// Does the stroke again that was undone last. Returns whether there was one.
    pub fn redo(&mut self) -> bool {
        let Some(stroke) = self.undone.pop() else { return false };
        stroke.iter().for_each(|(place, _, after)| self.set(*place, *after));
        self.done.push(stroke);
        self.version += 1;
        true
    }

    fn set(&mut self, place: Place, label: Option<u16>) {
        match label {
            Some(label) => drop(self.labels.insert(place, label)),
            None => drop(self.labels.remove(&place)),
        }
    }

    /// Returns a number that differs after each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns whether there is no mark.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns whether a stroke can be undone.
    pub fn can_undo(&self) -> bool {
        self.done.iter().any(|stroke| !stroke.is_empty())
    }

    /// Returns whether a stroke can be done again.
    pub fn can_redo(&self) -> bool {
        !self.undone.is_empty()
    }

    /// Returns the marked slices, ascending.
    pub fn slices(&self) -> Vec<usize> {
        let mut slices: Vec<usize> = self.labels.keys().map(|(slice, _)| *slice).collect();
        slices.dedup();
        slices
    }

    /// Returns the marked patches of `slice` and their labels, by patch.
    pub fn of_slice(&self, slice: usize) -> impl Iterator<Item = (usize, u16)> {
        self.labels.range((slice, 0)..=(slice, usize::MAX)).map(|((_, patch), label)| (*patch, *label))
    }

    /// Returns the number of marks of each label.
    pub fn counts(&self) -> [usize; LABELS as usize] {
        let mut counts = [0; LABELS as usize];
        self.labels.values().for_each(|label| counts[usize::from(*label)] += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(marks: &Marks) -> Vec<(usize, usize, u16)> {
        marks.slices().into_iter().flat_map(|slice| marks.of_slice(slice).map(move |(patch, label)| (slice, patch, label))).collect()
    }

    #[test]
    fn strokes_are_undone_and_done_again_as_a_whole() {
        let mut marks = Marks::default();
        assert!(!marks.undo() && !marks.redo() && marks.is_empty());
        marks.begin();
        marks.mark(3, &[5, 6], Some(1));
        marks.mark(3, &[6, 7], Some(1));
        marks.begin();
        marks.mark(3, &[6], Some(2));
        marks.mark(1, &[0], Some(0));
        let both = vec![(1, 0, 0), (3, 5, 1), (3, 6, 2), (3, 7, 1)];
        assert_eq!((all(&marks), marks.counts()[..3].to_vec()), (both.clone(), vec![1, 2, 1]));
        assert!(marks.undo());
        assert_eq!(all(&marks), [(3, 5, 1), (3, 6, 1), (3, 7, 1)]);
        assert!(marks.redo() && !marks.redo());
        assert_eq!(all(&marks), both);
        assert!(marks.undo() && marks.undo() && !marks.undo() && marks.is_empty());
        assert!(marks.redo());
        marks.begin();
        marks.mark(3, &[5], None);
        assert!(!marks.can_redo(), "a new stroke ends what was undone");
        assert_eq!(all(&marks), [(3, 6, 1), (3, 7, 1)]);
        assert!(marks.undo());
        assert_eq!(all(&marks), [(3, 5, 1), (3, 6, 1), (3, 7, 1)]);
        marks.clear();
        assert!(marks.is_empty() && !marks.can_undo() && !marks.can_redo());
    }

    #[test]
    fn what_changes_nothing_is_no_stroke_and_no_change() {
        let mut marks = Marks::default();
        marks.begin();
        marks.mark(0, &[1], Some(4));
        let version = marks.version();
        marks.begin();
        marks.mark(0, &[1], Some(4));
        marks.mark(0, &[2], None);
        assert_eq!(marks.version(), version);
        assert!(marks.undo() && marks.is_empty(), "the empty stroke is passed over");
        assert_ne!(marks.version(), version);
        assert!(!marks.undo());
    }
}
