//! `.npy`.

use super::{Desk, volume};

/// The most bytes of generated values.
const VALUES: usize = 1 << 16;

/// Bytes that begin as a header's text become a file: magic, version and length go before the text, and after it as
/// many values as it promises, taken from the bytes after the line.
pub fn read(desk: &Desk, bytes: &[u8]) -> bool {
    volume::read(&desk.write("scan.npy", &if bytes.starts_with(b"{") { framed(bytes) } else { bytes.to_vec() }))
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| at + 1).min(usize::from(u16::MAX));
    let (text, rest) = bytes.split_at(end);
    let promised = promised(&String::from_utf8_lossy(text)).filter(|&n| n <= VALUES).unwrap_or(rest.len());
    let values: Vec<u8> = rest.iter().chain(std::iter::repeat(&7)).copied().take(promised).collect();
    [b"\x93NUMPY\x01\x00", &(end as u16).to_le_bytes()[..], text, &values].concat()
}

/// The bytes of values that a header's text promises: the product of the numbers in parentheses and of the type's size,
/// which follows the type's two letters.
fn promised(text: &str) -> Option<usize> {
    let shape = text.split_once('(')?.1.split_once(')')?.0;
    let descr = text.split_once("'descr': '")?.1.split_once('\'')?.0;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    let item: usize = descr.get(2..)?.parse().ok()?;
    sides.map(|side| side.parse().ok()).try_fold(item, |product, side: Option<usize>| product.checked_mul(side?))
}
