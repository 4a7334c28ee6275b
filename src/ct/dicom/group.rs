//! Groups slices into stacks. The slices of a stack agree in everything that distinguishes slices, and are positioned
//! along one line.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::frame::{Frame, Plane, SAME_PLACE, dot};
use super::traits::{TRAITS, Weight, compare};

/// How far, in mm, a slice may be from the line of its stack. The limit is half the distance between the two closest
/// slices at one depth, if that is less.
const MAX_BESIDE: f64 = 10.0;
/// Slices at one depth that are further apart than this, in mm, are on two lines.
const BESIDE: f64 = 0.1;
/// How many of the following slices each slice is compared with, to find the shear of a stack.
const COMPARED: usize = 8;
/// The fewest slices with one value that make a stack of their own.
const FEW: usize = 3;

/// The slices of one stack, unsorted.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub frames: Vec<Frame>,
    /// The decisions made about the slices, one sentence each.
    pub warnings: Vec<String>,
    /// Why the slices do not form a stack after all.
    pub unclear: Option<String>,
}

/// Sorts `frames` into stacks, by series and by the traits that distinguish stacks.
pub(super) fn groups(frames: Vec<Frame>) -> Vec<Group> {
    let mut groups: Vec<Group> = alike(frames).into_iter().flat_map(of_alike).collect();
    let mut numbers: HashMap<String, i64> = HashMap::new();
    for image in groups.iter().flat_map(|group| &group.frames).map(|frame| &frame.image) {
        let number = numbers.entry(image.series.clone()).or_insert(i64::MAX);
        *number = image.series_number.unwrap_or(i64::MAX).min(*number);
    }
    groups.sort_by(|a, b| {
        let series = |group: &Group| {
            let uid = &group.frames[0].image.series;
            (numbers.get(uid).copied(), uid.clone())
        };
        let traits = || (0..TRAITS.len()).map(|index| compare(&a.values(index)[0], &b.values(index)[0]));
        let order = |group: &Group| group.frames.iter().map(|frame| (frame.order, frame.image.path.clone())).min();
        series(a).cmp(&series(b)).then_with(|| traits().fold(Ordering::Equal, Ordering::then)).then_with(|| order(a).cmp(&order(b)))
    });
    groups
}

impl Group {
    fn of(frames: Vec<Frame>) -> Self {
        Self { frames, warnings: Vec::new(), unclear: None }
    }

    /// Returns the lowest and highest value of the trait at `index` among the slices.
    pub fn values(&self, index: usize) -> [String; 2] {
        let values = || self.frames.iter().map(|frame| frame.traits.get(index));
        [values().min_by(|a, b| compare(a, b)), values().max_by(|a, b| compare(a, b))].map(|value| value.unwrap_or_default().to_string())
    }

    /// Returns a group of other slices with the same decisions.
    fn with(&self, frames: Vec<Frame>) -> Self {
        Self { frames, warnings: self.warnings.clone(), unclear: self.unclear.clone() }
    }
}

/// Groups frames by what a comparison of two slices can tell.
fn alike(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    let mut groups: Vec<Vec<Frame>> = Vec::new();
    // The groups that agree in text and size. Directions and spacings are compared separately, because they may differ
    // in their last digits.
    let mut known: HashMap<String, Vec<usize>> = HashMap::new();
    for frame in frames {
        let format = &frame.image.format;
        let name = format!("{} {} {}\n{}", format.rows, format.columns, frame.image.series, frame.traits.always());
        let same = known.entry(name).or_default();
        if let Some(at) = same.iter().copied().find(|&at| are_alike(&groups[at][0], &frame)) {
            let frame = as_turned(frame, groups[at][0].plane);
            groups[at].push(frame);
        } else {
            same.push(groups.len());
            groups.push(vec![frame]);
        }
    }
    groups
}

/// Gives `frame` the directions of `first`, so that one normal applies to all slices. Directions differ in their last
/// digits from slice to slice. Far from the origin, such a difference would move a slice along its own normal.
fn as_turned(mut frame: Frame, first: Option<Plane>) -> Frame {
    if let (Some(plane), Some(first)) = (&mut frame.plane, first) {
        *plane = Plane { position: plane.position, ..first };
    }
    frame
}

/// Returns whether two slices have the same orientation and pixel spacing.
fn are_alike(a: &Frame, b: &Frame) -> bool {
    let close = |a: &[f64], b: &[f64], by: f64| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by);
    let planes = match (a.plane, b.plane) {
        (Some(a), Some(b)) => close(&a.along_row, &b.along_row, 1e-3) && close(&a.down_column, &b.down_column, 1e-3),
        (None, None) => true,
        _ => false,
    };
    let spacings = match (a.spacing, b.spacing) {
        (Some(a), Some(b)) => close(&a, &b, 1e-3 * a[0]),
        (None, None) => true,
        _ => false,
    };
    planes && spacings
}

/// Returns the stacks among slices that are alike.
fn of_alike(frames: Vec<Frame>) -> Vec<Group> {
    let (frames, copies) = without_copies(frames);
    let mut groups: Vec<Group> = lines(frames).into_iter().map(Group::of).collect();
    for (index, of) in TRAITS.iter().enumerate() {
        let split = match of.weight {
            Weight::Always => continue,
            Weight::WhereStacksOverlap => by_value,
            Weight::WherePlacesRepeat => by_own_value,
        };
        groups = groups.into_iter().flat_map(|group| split(group, index)).collect();
    }
    groups = groups.into_iter().flat_map(by_instance).collect();
    for group in &mut groups {
        let ids: HashSet<(&str, u32)> = group.frames.iter().map(id).collect();
        let mut copies = copies.iter().filter(|copy| ids.contains(&id(copy)));
        let Some(first) = copies.next() else { continue };
        let (name, count) = (first.image.name(), 1 + copies.count());
        group.warnings.push(format!(
            "{count} files or frames are copies of others, with one SOPInstanceUID and place (the first {name}): one of each is read"
        ));
    }
    groups
}

/// The SOPInstanceUID and frame index, which no two slices should share.
fn id(frame: &Frame) -> (&str, u32) {
    (&frame.image.uid, frame.index)
}

/// Separates the slices that are copies of another one. Returns the kept slices, then the copies.
fn without_copies(frames: Vec<Frame>) -> (Vec<Frame>, Vec<Frame>) {
    let mut known: HashMap<(String, u32), Vec<usize>> = HashMap::new();
    let (mut kept, mut copies): (Vec<Frame>, Vec<Frame>) = (Vec::new(), Vec::new());
    for frame in frames {
        let same = known.entry((frame.image.uid.clone(), frame.index)).or_default();
        let is_copy = |&at: &usize| kept[at].plane == frame.plane && kept[at].traits == frame.traits && kept[at].instance == frame.instance;
        if !frame.image.uid.is_empty() && same.iter().any(is_copy) {
            copies.push(frame);
        } else {
            same.push(kept.len());
            kept.push(frame);
        }
    }
    (kept, copies)
}

/// Returns the position of a slice along the normal of its plane, in mm.
fn depth(frame: &Frame) -> f64 {
    frame.plane.as_ref().map_or(0.0, Plane::depth)
}

/// Splits slices by the lines along which they are stacked. All lines have the same shear.
fn lines(mut frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    let Some(first) = frames[0].plane else { return vec![frames] };
    frames.sort_by(|a, b| depth(a).total_cmp(&depth(b)));
    let across = |frame: &Frame| {
        let position = frame.plane.unwrap_or(first).position;
        [dot(position, first.along_row), dot(position, first.down_column)]
    };
    let points: Vec<(f64, [f64; 2])> = frames.iter().map(|frame| (depth(frame), across(frame))).collect();
    let shear = shear(&points);
    let reach = closest_beside(&points).map_or(MAX_BESIDE, |closest| MAX_BESIDE.min(closest / 2.0));
    let mut lines: Vec<([f64; 2], Vec<Frame>)> = Vec::new();
    for (frame, (depth, [x, y])) in frames.into_iter().zip(points) {
        let at = [x - shear[0] * depth, y - shear[1] * depth];
        let near = lines.iter_mut().map(|line| (distance(line.0, at), line)).min_by(|a, b| a.0.total_cmp(&b.0));
        match near.filter(|near| near.0 <= reach) {
            Some((_, line)) => {
                line.0 = at;
                line.1.push(frame);
            }
            None => lines.push((at, vec![frame])),
        }
    }
    lines.into_iter().map(|(_, frames)| frames).collect()
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Returns how far slices shift sideways per mm of depth: the shear of most pairs of neighbours, up to 45 degrees.
fn shear(points: &[(f64, [f64; 2])]) -> [f64; 2] {
    /// Shears are rounded to multiples of this, so that nearly equal ones count together.
    const STEP: f64 = 0.02;
    let mut votes: HashMap<[i64; 2], (usize, [f64; 2])> = HashMap::new();
    for (index, (depth, [x, y])) in points.iter().enumerate() {
        for (other, [u, v]) in points.iter().skip(index + 1).take(COMPARED) {
            let way = other - depth;
            let shear = [(u - x) / way, (v - y) / way];
            if way > SAME_PLACE && shear[0].hypot(shear[1]) <= 1.0 {
                let vote = votes.entry(shear.map(|v| (v / STEP).round() as i64)).or_default();
                *vote = (vote.0 + 1, [vote.1[0] + shear[0], vote.1[1] + shear[1]]);
            }
        }
    }
    let least = |step: &[i64; 2]| step[0] * step[0] + step[1] * step[1];
    let most = votes.into_iter().max_by(|(a, x), (b, y)| x.0.cmp(&y.0).then_with(|| least(b).cmp(&least(a))).then_with(|| a.cmp(b)));
    most.map_or([0.0; 2], |(_, (count, sum))| sum.map(|v| v / count as f64))
}

/// Returns the distance between the two closest slices at one depth, not counting slices in the same place.
fn closest_beside(points: &[(f64, [f64; 2])]) -> Option<f64> {
    let mut closest = None;
    for level in points.chunk_by(|a, b| b.0 - a.0 <= SAME_PLACE) {
        let mut places: Vec<[f64; 2]> = level.iter().map(|point| point.1).collect();
        places.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let apart = places.windows(2).map(|pair| distance(pair[0], pair[1])).filter(|&apart| apart > BESIDE);
        closest = closest.into_iter().chain(apart).reduce(f64::min);
    }
    closest
}

/// Groups the slices by their value of the trait at `index`, in the order of the values.
fn classes(frames: Vec<Frame>, index: usize) -> Vec<Vec<Frame>> {
    let mut classes: HashMap<String, Vec<Frame>> = HashMap::new();
    frames.into_iter().for_each(|frame| classes.entry(frame.traits.get(index).to_string()).or_default().push(frame));
    let mut classes: Vec<(String, Vec<Frame>)> = classes.into_iter().collect();
    classes.sort_by(|a, b| compare(&a.0, &b.0));
    classes.into_iter().map(|(_, frames)| frames).collect()
}

/// Returns the depths of the first and the last slice.
fn extent(frames: &[Frame]) -> [f64; 2] {
    frames.iter().map(depth).fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], at| [low.min(at), high.max(at)])
}

/// Splits by the trait at `index` where slices of different values overlap. Values whose slices follow one after
/// another stay together.
fn by_value(group: Group, index: usize) -> Vec<Group> {
    let classes = classes(group.frames.clone(), index);
    if classes.len() == 1 {
        return vec![group];
    }
    let mut stacks: Vec<(Vec<[f64; 2]>, Vec<Frame>)> = Vec::new();
    for frames in classes {
        let [low, high] = extent(&frames);
        let is_free = |taken: &[f64; 2]| high < taken[0] - SAME_PLACE || low > taken[1] + SAME_PLACE;
        match stacks.iter_mut().find(|(taken, _)| taken.iter().all(is_free)) {
            Some(stack) => {
                stack.0.push([low, high]);
                stack.1.extend(frames);
            }
            None => stacks.push((vec![[low, high]], frames)),
        }
    }
    let stack = |(parts, frames): (Vec<[f64; 2]>, Vec<Frame>)| {
        let mut stack = group.with(frames);
        // A part of one or two slices is a step of the table and needs no warning.
        if parts.len() > 1 && stack.frames.len() >= FEW * parts.len() {
            let [first, last] = stack.values(index);
            let (name, unit) = (TRAITS[index].name, TRAITS[index].unit);
            stack
                .warnings
                .push(format!("it is put together from {} parts, one behind another: {name} {first} to {last}{unit}", parts.len()));
        }
        stack
    };
    stacks.into_iter().map(stack).collect()
}

/// Splits by the trait at `index`, of which each slice may have its own value.
fn by_own_value(group: Group, index: usize) -> Vec<Group> {
    let places = places(&group.frames);
    let most = places.iter().map(|place| distinct(place, index)).max().unwrap_or_default();
    let values = distinct(&group.frames, index);
    if values == 1 || places.len() == 1 {
        return vec![group];
    }
    let is_stack = |frames: &Vec<Frame>| frames.len() >= FEW && is_even(frames);
    if most == values {
        return by_value(group, index);
    }
    if most == 1 {
        let split = if classes(group.frames.clone(), index).iter().all(is_stack) { by_value(group.clone(), index) } else { Vec::new() };
        return if split.len() > 1 { split } else { vec![group] };
    }
    // Each slice has its own value. If no slice is missing, the first slice of every place belongs to the first stack.
    let ranked =
        if places.iter().all(|place| distinct(place, index) == most) { by_rank(places, index) } else { by_turn(&group.frames, index) };
    if ranked.len() == most {
        return ranked.into_iter().map(|frames| group.with(frames)).collect();
    }
    let name = TRAITS[index].name;
    let unclear = format!("several slices have one position and differ in {name}, and it cannot be told which ones belong together");
    vec![Group { unclear: Some(unclear), ..group }]
}

/// Groups the slices by place, in order of depth.
fn places(frames: &[Frame]) -> Vec<Vec<Frame>> {
    let mut frames = frames.to_vec();
    frames.sort_by(|a, b| depth(a).total_cmp(&depth(b)));
    frames.chunk_by(|a, b| depth(b) - depth(a) <= SAME_PLACE).map(<[Frame]>::to_vec).collect()
}

/// Returns the number of distinct values of the trait at `index`.
fn distinct(frames: &[Frame], index: usize) -> usize {
    frames.iter().map(|frame| frame.traits.get(index)).collect::<HashSet<_>>().len()
}

/// Puts the nth value of each place into the nth stack.
fn by_rank(places: Vec<Vec<Frame>>, index: usize) -> Vec<Vec<Frame>> {
    let mut stacks: Vec<Vec<Frame>> = Vec::new();
    for place in places {
        for (rank, frames) in classes(place, index).into_iter().enumerate() {
            if rank == stacks.len() {
                stacks.push(Vec::new());
            }
            stacks[rank].extend(frames);
        }
    }
    stacks
}

/// Goes through the slices in the order of their values, and starts a new stack where a place would repeat.
fn by_turn(frames: &[Frame], index: usize) -> Vec<Vec<Frame>> {
    let mut stacks: Vec<Vec<Frame>> = Vec::new();
    let mut taken: HashSet<i64> = HashSet::new();
    for class in classes(frames.to_vec(), index) {
        let at: Vec<i64> = class.iter().map(|frame| (depth(frame) / SAME_PLACE).round() as i64).collect();
        let is_taken = at.iter().any(|at| (at - 1..=at + 1).any(|at| taken.contains(&at)));
        if is_taken || stacks.is_empty() {
            stacks.push(Vec::new());
            taken.clear();
        }
        taken.extend(at);
        stacks.last_mut().expect("just made").extend(class);
    }
    stacks
}

/// Returns whether neighbours are about equally far apart everywhere, within 10%.
fn is_even(frames: &[Frame]) -> bool {
    let mut depths: Vec<f64> = frames.iter().map(depth).collect();
    depths.sort_by(f64::total_cmp);
    let gaps: Vec<f64> = depths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let [low, high] = gaps.iter().fold([f64::INFINITY, 0.0], |[low, high]: [f64; 2], &gap| [low.min(gap), high.max(gap)]);
    low > SAME_PLACE && high <= low * 1.1
}

/// Splits stacks that are in the same places and differ in nothing but their InstanceNumbers.
fn by_instance(group: Group) -> Vec<Group> {
    let places = places(&group.frames);
    let count = places[0].len();
    let numbers: HashSet<i64> = group.frames.iter().filter_map(|frame| frame.instance).collect();
    if count == 1 || places.len() == 1 || places.iter().any(|place| place.len() != count) || numbers.len() != group.frames.len() {
        return vec![group];
    }
    let mut stacks: Vec<Vec<Frame>> = vec![Vec::new(); count];
    for mut place in places {
        place.sort_by_key(|frame| frame.instance);
        place.into_iter().zip(&mut stacks).for_each(|(frame, stack)| stack.push(frame));
    }
    stacks.into_iter().map(|frames| group.with(frames)).collect()
}
