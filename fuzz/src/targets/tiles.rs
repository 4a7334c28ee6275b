//! The record of tile geometries that a device keeps.

use std::sync::OnceLock;

use meddino::gpu::{Context, Selection, TileCache};

use super::Desk;

/// A software device, if there is one: on another, a record that makes no sense would be measured anew.
fn context() -> Option<&'static Context> {
    static CONTEXT: OnceLock<Option<Context>> = OnceLock::new();
    let software = || Context::new(&Selection::Auto).ok().filter(|context| context.abilities().software);
    CONTEXT.get_or_init(software).as_ref()
}

pub fn read(desk: &Desk, bytes: &[u8]) {
    let Some(context) = context() else { return };
    let cache = TileCache::new(desk.path("tiles"));
    let name = cache.path(context);
    desk.write(&format!("tiles/{}", name.file_name().expect("a file").display()), bytes);
    let tuned = context.with_best_tiles(Some(&cache));
    assert!(tuned.warnings().iter().all(|warning| !warning.contains('\n')), "{:?}", tuned.warnings());
}
