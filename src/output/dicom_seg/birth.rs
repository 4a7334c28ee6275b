//! The UIDs and the time of a new DICOM object.

use chrono::{DateTime, FixedOffset, Local, Utc};

use super::uid::uid;
use crate::ct::DicomImages;

/// The UIDs and the time of one SEG.
pub(super) struct Birth {
    seed: String,
    time: DateTime<FixedOffset>,
}

impl Birth {
    /// Returns the UIDs and the time of an object that is made of `images` now. The time is local, or that of `zone`
    /// (`+0100`), the images' TimezoneOffsetFromUTC, because that element covers every time of a data set.
    pub fn now(images: &DicomImages, zone: Option<&str>) -> Self {
        let zone = zone.and_then(|zone| zone.parse::<FixedOffset>().ok());
        let time = zone.map_or_else(|| Local::now().fixed_offset(), |zone| Utc::now().with_timezone(&zone));
        let nanoseconds = time.timestamp_nanos_opt().unwrap_or_default();
        let seed = format!("{} {} {nanoseconds} {}", images.series, images.first.display(), std::process::id());
        Self { seed, time }
    }

    /// Returns the date and the time as DICOM writes them (DA, TM).
    pub fn date_and_time(&self) -> [String; 2] {
        ["%Y%m%d", "%H%M%S%.6f"].map(|form| self.time.format(form).to_string())
    }

    /// Returns SOPInstanceUID.
    pub fn instance(&self) -> String {
        self.uid("instance")
    }

    /// Returns the UID for `purpose`.
    pub fn uid(&self, purpose: &str) -> String {
        uid(&self.seed, purpose)
    }
}
