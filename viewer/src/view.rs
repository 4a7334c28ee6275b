//! The picture in the middle: the slice, its overlay, and the mouse actions on it.

use eframe::egui::{Color32, Event, MouseWheelUnit, PointerButton, Pos2, Rect, Sense, Stroke, StrokeKind, TextureId, Ui, Vec2};
use meddino::maps::Mesh;

/// The scroll distance per slice, in points, of a fine wheel or a touch pad.
const POINTS_A_SLICE: f32 = 40.0;

/// A mark on a patch.
pub struct Mark {
    /// (x, y) in pixels of the slice.
    pub middle: (f64, f64),
    /// (width, height) in pixels of the slice.
    pub size: (f64, f64),
    pub colour: Color32,
}

/// The content of the picture.
pub struct SliceView {
    /// Rows and columns of the slice.
    pub slice: (usize, usize),
    /// Height and width of a pixel, in any unit.
    pub pixel: (f64, f64),
    /// The slice in grayscale.
    pub gray: TextureId,
    /// The texture over the slice, and the opacity from 0 to 1. With a mesh, it covers the patches alone.
    pub overlay: Option<(TextureId, Option<Mesh>, f32)>,
    pub marks: Vec<Mark>,
    /// The position of the chosen patch: (x, y) in pixels of the slice.
    pub mark: Option<(f64, f64)>,
}

/// The actions of the mouse.
#[derive(Debug, Default)]
pub struct Did {
    /// The position of the mouse: (x, y) in pixels of the slice.
    pub over: Option<(f64, f64)>,
    /// Whether the user clicked there.
    pub clicked: bool,
    /// The position of the mouse, also beside the slice, while the left button is down that was pressed on the picture.
    pub down: Option<(f64, f64)>,
    /// The number of slices that the wheel turned.
    pub scrolled: f32,
    /// A drag with the right button, in points, and the length of the view's shorter side in points.
    pub dragged: Option<(Vec2, f32)>,
}

/// Draws the picture as large as the space allows, and returns the mouse's actions.
pub fn show(ui: &mut Ui, view: &SliceView) -> Did {
    let (area, response) = ui.allocate_exact_size(ui.available_size(), Sense::click_and_drag());
    let (height, width) = (view.slice.0 as f64 * view.pixel.0, view.slice.1 as f64 * view.pixel.1);
    let rect = fit(area, (width / height) as f32);
    let painter = ui.painter_at(area);
    painter.rect_filled(area, 0.0, Color32::BLACK);
    painter.image(view.gray, rect, unit(), Color32::WHITE);
    if let Some((texture, mesh, opacity)) = &view.overlay {
        let seen = Rect::from_min_size(rect.min, rect.size() * mesh.as_ref().map_or(Vec2::splat(1.0), covered));
        let alpha = (opacity.clamp(0.0, 1.0) * 255.0).round() as u8;
        painter.image(*texture, seen, unit(), Color32::from_rgba_unmultiplied(255, 255, 255, alpha));
    }
    let (rows, cols) = (view.slice.0 as f32, view.slice.1 as f32);
    let points = |(x, y): (f64, f64)| Vec2::new(x as f32 / cols, y as f32 / rows) * rect.size();
    for Mark { middle, size, colour } in &view.marks {
        let mark = Rect::from_center_size(rect.min + points(*middle), points(*size));
        painter.rect(mark, 1.0, *colour, Stroke::new(1.0, Color32::BLACK), StrokeKind::Outside);
    }
    if let Some(place) = view.mark {
        let at = rect.min + points(place);
        for (width, colour) in [(3.0, Color32::BLACK), (1.5, Color32::WHITE)] {
            painter.circle_stroke(at, 7.0, Stroke::new(width, colour));
        }
    }
    let pixels = |at: Pos2| {
        let share = (at - rect.min) / rect.size();
        (f64::from(share.x * cols), f64::from(share.y * rows))
    };
    let over = response.hover_pos().filter(|at| rect.contains(*at)).map(pixels);
    let is_down = response.is_pointer_button_down_on() && ui.input(|input| input.pointer.primary_down());
    Did {
        over,
        down: if is_down { response.interact_pointer_pos().map(pixels) } else { None },
        clicked: over.is_some() && response.clicked_by(PointerButton::Primary),
        scrolled: if response.hovered() { scrolled(ui) } else { 0.0 },
        dragged: response.dragged_by(PointerButton::Secondary).then(|| (response.drag_delta(), area.width().min(area.height()).max(1.0))),
    }
}

fn unit() -> Rect {
    Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0))
}

/// Returns the largest rectangle of an aspect (width over height) in the middle of an area.
fn fit(area: Rect, aspect: f32) -> Rect {
    let width = area.width().min(area.height() * aspect);
    Rect::from_center_size(area.center(), Vec2::new(width, width / aspect))
}

/// Returns the share of the slice that patches cover, from its top left corner: (across, down).
fn covered(mesh: &Mesh) -> Vec2 {
    let (rows, cols) = mesh.covered();
    Vec2::new((cols / mesh.slice.1 as f64) as f32, (rows / mesh.slice.0 as f64) as f32)
}

/// Returns the number of slices that the wheel turned since the last frame. Down is forward.
fn scrolled(ui: &Ui) -> f32 {
    let turned = |event: &Event| match event {
        Event::MouseWheel { unit: MouseWheelUnit::Point, delta, .. } => -delta.y / POINTS_A_SLICE,
        Event::MouseWheel { delta, .. } => -delta.y,
        _ => 0.0,
    };
    ui.input(|input| input.events.iter().map(turned).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape() {
        let area = Rect::from_min_size(Pos2::new(10.0, 20.0), Vec2::new(200.0, 100.0));
        assert_eq!(fit(area, 1.0), Rect::from_min_size(Pos2::new(60.0, 20.0), Vec2::new(100.0, 100.0)));
        assert_eq!(fit(area, 4.0), Rect::from_min_size(Pos2::new(10.0, 45.0), Vec2::new(200.0, 50.0)));
    }
}
