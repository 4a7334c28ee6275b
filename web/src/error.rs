//! Errors as JavaScript's.

use meddino::Error;
use wasm_bindgen::JsValue;

/// A result for JavaScript.
pub type Result<T, E = JsValue> = std::result::Result<T, E>;

/// Returns a JavaScript `Error` with the library's text. `kind` is `checkpoint`, `input`, `output`, `option`, `gpu`,
/// `cancelled` or `mismatch`; `failure` says what failed on a GPU, such as `Lost` or `OutOfMemory`.
#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
pub fn thrown(error: Error) -> JsValue {
    let (kind, failure) = match &error {
        Error::Checkpoint { .. } => ("checkpoint", None),
        Error::Input { .. } => ("input", None),
        Error::Output { .. } => ("output", None),
        Error::Option { .. } => ("option", None),
        Error::Gpu { kind, .. } => ("gpu", Some(format!("{kind:?}"))),
        Error::Cancelled => ("cancelled", None),
        _ => ("mismatch", None),
    };
    let thrown = js_sys::Error::new(&error.to_string());
    thrown.set_name("MeddinoError");
    set(&thrown, "kind", &kind.into());
    if let Some(failure) = failure {
        set(&thrown, "failure", &failure.into());
    }
    thrown.into()
}

fn set(object: &JsValue, key: &str, value: &JsValue) {
    // Only a frozen object refuses a property, and the error is new.
    let _ = js_sys::Reflect::set(object, &key.into(), value);
}

/// Returns `record` as a JavaScript object.
pub fn object(record: &impl serde::Serialize) -> Result<JsValue> {
    let text = serde_json::to_string(record).map_err(|e| JsValue::from(js_sys::Error::new(&e.to_string())))?;
    js_sys::JSON::parse(&text)
}
