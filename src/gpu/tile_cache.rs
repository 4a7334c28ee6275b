//! Keeps the fastest tiles on disk, in one file for each adapter, tier and type of elements.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy as _, choose_native_strategy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::context::Context;
use crate::error::{Error, Result};
use crate::graph::{Elem, Tier, TileChoice, Tiles};

/// A folder of records, one JSON file each. A record is valid for one adapter, driver and version of this crate. Any
/// other record counts as none, and is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileCache {
    folder: PathBuf,
}

impl TileCache {
    /// The records in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// This user's records: in the folder that `MEDDINO_CACHE` names, or if it is not set in `meddino` in the system's
    /// cache folder. None if `MEDDINO_CACHE` is empty or the system has no such folder; then no tiles are looked for or
    /// tried.
    pub fn from_env() -> Option<Self> {
        if let Some(named) = std::env::var_os("MEDDINO_CACHE") {
            return (!named.is_empty()).then(|| Self::new(named));
        }
        let caches = choose_native_strategy().ok()?.cache_dir();
        Some(Self::new(caches.join("meddino")))
    }

    /// The path of the record for this context, whether or not it exists.
    pub fn path(&self, context: &Context) -> PathBuf {
        let limits = context.limits();
        let name = format!("{} {:?} {} {}", context.info().name, context.info().backend, limits.tier, limits.elem.name());
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
        let words: Vec<&str> = plain.split_whitespace().collect();
        self.folder.join(format!("tiles-{}.json", words.join("-")))
    }

    /// The tiles in the record for this context; none without a record, or with another driver's or version's.
    ///
    /// # Errors
    /// A message for people if the file makes no sense or cannot be read.
    pub(super) fn load(&self, context: &Context) -> Result<Option<Tiles>, String> {
        let path = self.path(context);
        let bad = |problem: &str| format!("{}: {problem}; it is ignored, and `meddino tune` writes it anew", path.display());
        if !path.exists() {
            return Ok(None);
        }
        let text = read(&path).map_err(|problem| bad(&problem))?;
        let Record { identity, tiles } = serde_json::from_str::<Record<Value>>(&text).map_err(|problem| {
            let expected = if problem.is_data() { "is no record of tile geometries" } else { "is no JSON" };
            bad(&format!("{expected}: {problem}"))
        })?;
        if identity != Identity::of(context) {
            return Ok(None);
        }
        let class = |name: &str| {
            TileChoice::deserialize(&tiles[name]).map_err(|problem| bad(&format!("tiles.{name} is no tile geometry: {problem}")))
        };
        Ok(Some(Tiles { few: class("few")?, some: class("some")?, many: class("many")? }))
    }

    /// The tiers with a record for this device, but for plain kernels. They have passed their test, without which no tier
    /// but the plain kernels is tuned. None on a driver without a name, which may have been updated since.
    pub(crate) fn known(&self, context: &Context) -> Vec<(Tier, Elem)> {
        if Identity::of(context).driver.is_empty() {
            return Vec::new();
        }
        let all = Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]);
        let has_record = |of_tier: Context| !of_tier.has_plain_kernels() && self.load(&of_tier).is_ok_and(|tiles| tiles.is_some());
        all.filter(|&(tier, elem)| has_record(context.of_tier(tier, elem))).collect()
    }

    /// Keeps `tiles` for this context, in place of an earlier record.
    ///
    /// # Errors
    /// If the folder cannot be created or written to.
    pub fn save(&self, context: &Context, tiles: Tiles) -> Result<PathBuf> {
        let path = self.path(context);
        let record = Record { identity: Identity::of(context), tiles };
        let write = |mut file: NamedTempFile| -> std::io::Result<()> {
            serde_json::to_writer_pretty(&mut file, &record)?;
            writeln!(file)?;
            file.persist(&path)?;
            Ok(())
        };
        self.unfinished().and_then(write).map_err(|problem| cannot_write(&path, &problem))?;
        Ok(path)
    }

    /// Checks that a record for this context could be kept, so that a caller learns of a problem before the trials.
    ///
    /// # Errors
    /// As [`TileCache::save`].
    pub fn check(&self, context: &Context) -> Result<()> {
        self.unfinished().map(drop).map_err(|problem| cannot_write(&self.path(context), &problem))
    }

    /// A new file in the folder under a temporary name. Creates the folder if necessary.
    fn unfinished(&self) -> std::io::Result<NamedTempFile> {
        std::fs::create_dir_all(&self.folder)?;
        #[cfg_attr(not(unix), allow(unused_mut, reason = "permissions are given on Unix alone"))]
        let mut builder = tempfile::Builder::new();
        // Permissions of any new file (rw-rw-rw- less the umask), so that users can share a folder. The default is the
        // rw------- of a secret.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&self.folder)
    }
}

fn cannot_write(path: &Path, problem: &std::io::Error) -> Error {
    let advice = "name a folder that can be written to in MEDDINO_CACHE, or set that to nothing to do without";
    Error::output(path.display(), format!("{problem}; {advice}"))
}

/// Longer than any record.
const LONGEST: u64 = 64 << 10;

fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?.len();
    if length > LONGEST {
        return Err(format!("is no record of tile geometries: {length} bytes long"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))
}

/// How records are written. A record of another format counts as none. To be raised when a kernel or the list of tiles
/// changes, too, because a record spares a test.
const FORMAT: u32 = 8;

/// A file's content, with [`Tiles`] as they are written.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    #[serde(flatten)]
    identity: Identity,
    #[serde(default)]
    tiles: T,
}

/// Where a record is valid; a missing field is no device's.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Identity {
    format: u32,
    version: String,
    adapter: String,
    backend: String,
    driver: String,
    tier: String,
    precision: String,
}

impl Identity {
    fn of(context: &Context) -> Self {
        let (info, limits) = (context.info(), context.limits());
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: info.name.clone(),
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            tier: limits.tier.name().to_owned(),
            precision: limits.elem.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AttentionTile, Limits, ProductSplit, ProductTile};

    fn device() -> Option<Context> {
        super::super::tune::tests::device(Tier::Baseline, Elem::F32)
    }

    fn some_tiles() -> Tiles {
        let product = ProductTile { rows: 32, cols: 64, split: ProductSplit::Tiled { depth: 16, sums: [4, 4], groups: 1 } };
        let attention = AttentionTile::Blocked { queries: 32, keys: 32, sums: [4, 4] };
        Tiles { few: TileChoice::of_products(product), some: TileChoice::DEFAULT, many: TileChoice::of_attention(attention) }
    }

    #[test]
    fn what_is_kept_is_found_again_by_the_same_device_alone() {
        let Some(context) = device() else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = TileCache::new(folder.path().join("not yet there"));
        assert_eq!(cache.load(&context), Ok(None));
        let path = cache.save(&context, some_tiles()).unwrap();
        assert_eq!(cache.load(&context), Ok(Some(some_tiles())));
        assert_eq!(context.with_best_tiles(Some(&cache)).limits().tiles, some_tiles());
        let mut other = context.clone();
        other.limits.elem = Elem::F16;
        assert_eq!(cache.load(&other), Ok(None), "another precision has a file of its own");
        let text = std::fs::read_to_string(&path).unwrap();
        let driver = context.info().driver_info.clone();
        std::fs::write(&path, text.replace(&driver, "of yesterday")).unwrap();
        assert!(driver.is_empty() || cache.load(&context) == Ok(None), "another driver's");
        std::fs::write(&path, text.replace(env!("CARGO_PKG_VERSION"), "0.0.0")).unwrap();
        assert_eq!(cache.load(&context), Ok(None), "another version's");
        let mut former: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        former.remove("format");
        former["tiles"] = serde_json::json!({
            "few": { "products": [32, 64, 16, 4, 4], "attention": null },
            "many": { "products": null, "attention": [32, 64] },
        });
        std::fs::write(&path, serde_json::to_string(&former).unwrap()).unwrap();
        assert_eq!(cache.load(&context), Ok(None), "the format before this one");
    }

    /// A test submits work, and a device that is taken without one submits none.
    #[test]
    fn kernels_with_a_record_are_not_tested_again() {
        let Some(context) = super::super::tune::tests::device(Tier::Subgroups, Elem::F32) else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = TileCache::new(folder.path());
        let submissions = || {
            let before = context.submissions();
            let known = cache.known(&context);
            let tuned = context.tuned_unless_known(Elem::F32, Some(Tier::Subgroups), &known);
            assert_eq!(super::super::blocking::block_on(tuned).unwrap().limits().tier, Tier::Subgroups);
            context.submissions() - before
        };
        assert!(submissions() > 0, "nothing is known yet");
        let of_tier = context.tuned(Elem::F32, Some(Tier::Subgroups)).unwrap();
        let path = cache.save(&of_tier, some_tiles()).unwrap();
        assert_eq!((submissions(), cache.known(&context)), (0, vec![(Tier::Subgroups, Elem::F32)]));
        let text = std::fs::read_to_string(&path).unwrap();
        let plain = context.tuned(Elem::F32, Some(Tier::Baseline)).unwrap();
        cache.save(&plain, some_tiles()).unwrap();
        assert_eq!(cache.known(&context), [(Tier::Subgroups, Elem::F32)], "plain kernels are tuned without a test");
        for other in [text.replace(env!("CARGO_PKG_VERSION"), "0.0.0"), text.replace("subgroups", "baseline"), "no JSON".to_owned()] {
            std::fs::write(&path, other).unwrap();
            assert!(submissions() > 0, "another version's or tier's record, or a bad one");
        }
    }

    #[test]
    fn a_bad_record_is_ignored_with_a_warning() {
        let Some(context) = device() else { return };
        let folder = tempfile::tempdir().unwrap();
        let cache = TileCache::new(folder.path());
        let path = cache.save(&context, some_tiles()).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let long = format!("{good}{}", " ".repeat(usize::try_from(LONGEST).unwrap()));
        let cases = [
            ("", "is no JSON"),
            ("[1]", "is no record"),
            (&good[..good.len() / 2], "is no JSON"),
            (&good.replace("64", "-64"), "tiles.few is no tile geometry"),
            (&good.replace("\"some\"", "\"several\""), "tiles.some is no tile geometry"),
            (&good.replace("\"many\"", "\"much\""), "tiles.many is no tile geometry"),
            (&long, "bytes long"),
        ];
        for (text, problem) in cases {
            std::fs::write(&path, text).unwrap();
            let warning = cache.load(&context).unwrap_err();
            assert!(warning.contains(problem) && warning.contains("meddino tune") && warning.contains("tiles-"), "{text}: {warning}");
            if context.abilities().is_software() {
                let untuned = context.with_best_tiles(Some(&cache));
                assert_eq!((untuned.limits().tiles, untuned.warnings()), (Tiles::DEFAULT, &[warning][..]));
            }
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(cache.load(&context).unwrap_err().contains("cannot be read"));
        let saved = TileCache::new(&path).save(&context, some_tiles());
        assert!(saved.is_ok(), "a folder may exist already");
        let file = folder.path().join("a file");
        std::fs::write(&file, "").unwrap();
        let refused = TileCache::new(&file).save(&context, some_tiles()).unwrap_err().to_string();
        assert!(refused.contains("a file") && refused.contains("MEDDINO_CACHE"), "{refused}");
        assert_eq!(TileCache::new(&file).check(&context).unwrap_err().to_string(), refused, "and is so before the trials");
    }

    /// Sizes that no kernel has never reach a kernel; the default tile is used.
    #[test]
    fn geometries_that_no_kernel_has_change_nothing() {
        let Some(context) = device() else { return };
        let product = ProductTile { rows: 7, cols: 0, split: ProductSplit::Tiled { depth: 3, sums: [0, 0], groups: 1 } };
        let wild = TileChoice {
            wide: Some(product),
            narrow: Some(product),
            attention: Some(AttentionTile::Direct { lanes: 0, queries: u32::MAX }),
        };
        let context = context.with_tiles(Tiles::all(wild));
        let mut g = crate::kernels::Recorder::new(*context.limits());
        let [x, w] = [(); 2].map(|()| g.tensor("factor", [70, 36], crate::graph::Role::Input));
        g.matmul("product", x, w, crate::kernels::Epilogue::None).unwrap();
        let mut plain = crate::kernels::Recorder::new(Limits { tiles: Tiles::DEFAULT, ..*context.limits() });
        let [x, w] = [(); 2].map(|()| plain.tensor("factor", [70, 36], crate::graph::Role::Input));
        plain.matmul("product", x, w, crate::kernels::Epilogue::None).unwrap();
        assert_eq!(g.graph().steps()[0].kernel, plain.graph().steps()[0].kernel);
    }
}
