//! The record of tile geometries that a device keeps.

use std::sync::OnceLock;

use meddino::gpu::{Context, Selection, TileCache};
use meddino::graph::Tiles;

use super::Desk;

/// A software device, if there is one. A real device would measure anew after an invalid record.
fn context() -> Option<&'static Context> {
    static CONTEXT: OnceLock<Option<Context>> = OnceLock::new();
    let software = || Context::new(&Selection::Auto).ok().filter(|context| context.abilities().is_software());
    CONTEXT.get_or_init(software).as_ref()
}

/// The record that this device would write, up to its tiles. Records of other devices are ignored.
fn own(cache: &TileCache, context: &Context) -> String {
    static RECORD: OnceLock<String> = OnceLock::new();
    let saved = || {
        let path = cache.save(context, Tiles::DEFAULT).expect("saved");
        let text = std::fs::read_to_string(path).expect("read");
        text.split_once("\"tiles\"").expect("tiles").0.to_string()
    };
    RECORD.get_or_init(saved).clone()
}

/// Bytes that begin as a JSON object become the tiles of this device's record.
pub fn read(desk: &Desk, bytes: &[u8]) -> bool {
    let Some(context) = context() else { return false };
    let cache = TileCache::new(desk.path("tiles"));
    let record =
        if bytes.starts_with(b"{") { [own(&cache, context).as_bytes(), b"\"tiles\":", bytes, b"}"].concat() } else { bytes.to_vec() };
    let name = cache.path(context);
    desk.write(&format!("tiles/{}", name.file_name().expect("a file").display()), &record);
    let tuned = context.with_best_tiles(Some(&cache));
    assert!(tuned.warnings().iter().all(|warning| !warning.contains('\n')), "{:?}", tuned.warnings());
    tuned.warnings().is_empty()
}
