//! The browser's GPU. It is opened once for each precision and tier of kernels, so that a model that is loaded after another
//! finds its kernels tested and compiled.

use std::cell::RefCell;
use std::collections::HashMap;

use meddino::Error;
use meddino::backbone::{Choice, Tuning};
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Selection};
use wasm_bindgen::JsValue;

use crate::error::{Result, thrown};
use crate::options;

/// A precision and a tier, as JavaScript names them.
type Wanted = (Option<String>, Option<String>);

thread_local! {
    static OPENED: RefCell<HashMap<Wanted, Context>> = RefCell::default();
}

/// Runs `work` on the GPU, opened for `precision` and `tier` as [`options::tuning`] reads them. If a device that was opened
/// earlier is lost meanwhile, `work` runs once more on a new one.
pub async fn on<T>(
    precision: Option<String>,
    tier: Option<String>,
    work: impl AsyncFn(&Context) -> Result<T, Error>,
) -> Result<(T, Context)> {
    let tuning = options::tuning(precision.as_deref(), tier.as_deref()).map_err(thrown)?;
    let wanted = (precision, tier);
    if let Some(context) = OPENED.with_borrow(|opened| opened.get(&wanted).cloned()) {
        match work(&context).await {
            Err(error) if is_lost(&error) => {}
            done => return Ok((done.map_err(thrown)?, context)),
        }
    }
    let context = open(tuning).await?;
    OPENED.with_borrow_mut(|opened| opened.insert(wanted, context.clone()));
    Ok((work(&context).await.map_err(failed)?, context))
}

/// Returns the JavaScript error for what failed on the GPU. A lost device serves no other model.
pub fn failed(error: Error) -> JsValue {
    if is_lost(&error) {
        OPENED.take();
    }
    thrown(error)
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Gpu { kind: GpuFailure::Lost, .. })
}

async fn open(tuning: Tuning) -> Result<Context> {
    let opened = Choice::Gpu(Selection::Auto).context_async(tuning).await.map_err(thrown)?;
    opened.ok_or_else(|| thrown(Error::option("backend", "the browser gives no GPU")))
}
