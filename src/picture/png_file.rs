//! Writing a canvas as a PNG file.

#[cfg(feature = "files")]
use std::path::Path;

use super::Canvas;
#[cfg(feature = "files")]
use crate::archive::NewFile;
use crate::error::{Error, Problem, Result};

/// Writes `canvas` to `path` as PNG (sRGB, 8 bits). The write is atomic: the file is written completely or not at all.
/// `text` is stored in the file as (keyword, text): `Title`, `Software`, facts about the features. PNG limits keywords
/// to 1 to 79 Latin-1 characters.
///
/// # Errors
/// If the file cannot be written, or a keyword is invalid.
#[cfg(feature = "files")]
pub fn write_png(canvas: &Canvas, path: impl AsRef<Path>, text: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<()> {
    let path = path.as_ref();
    let mut file = NewFile::create(path)?;
    let bytes = encoded(canvas, text).map_err(|problem| Error::output(path.display(), Problem::caused_by(problem.to_string(), problem)))?;
    file.write_at(0, &bytes)?;
    file.commit()
}

/// Encodes `canvas` as the bytes of a PNG file with `text` in it. `write_png` writes the same bytes to a file.
///
/// # Errors
/// If a keyword is invalid.
pub fn encode_png(canvas: &Canvas, text: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Vec<u8>> {
    encoded(canvas, text).map_err(|problem| Error::option("text", Problem::caused_by(problem.to_string(), problem)))
}

fn encoded(canvas: &Canvas, text: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, canvas.width() as u32, canvas.height() as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    for (keyword, text) in text {
        encoder.add_itxt_chunk(keyword.as_ref().to_string(), text.as_ref().to_string())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(canvas.pixels().as_flattened())?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_picture_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.png");
        let mut canvas = Canvas::new(3, 5, [1, 2, 3]);
        *canvas.at(4, 2) = [250, 0, 9];
        write_png(&canvas, &path, &[("Title", "\u{dc}ber \u{4e2d}")]).expect("written");
        let file = std::io::BufReader::new(std::fs::File::open(&path).expect("a file"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!((info.height, info.width), (3, 5));
        assert_eq!(pixels, canvas.pixels().as_flattened());
        let text = &reader.info().utf8_text[0];
        assert_eq!((text.keyword.as_str(), text.get_text().expect("text")), ("Title", "\u{dc}ber \u{4e2d}".into()));
        assert_eq!(std::fs::read(&path).expect("read"), encode_png(&canvas, &[("Title", "\u{dc}ber \u{4e2d}")]).expect("encoded"));
        assert!(write_png(&canvas, &path, &[("", "no keyword")]).is_err());
    }
}
