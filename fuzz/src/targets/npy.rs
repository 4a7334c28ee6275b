//! `.npy`.

use super::{Desk, volume};

/// The most bytes of values that are made up.
const VALUES: usize = 1 << 16;

/// Bytes that begin as the text of a header are made a file: magic, version and length come before, and as many values as it promises after, of what follows the line.
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

/// Bytes of values by a header's text: the numbers between its parentheses, and the digits behind the type's two letters.
fn promised(text: &str) -> Option<usize> {
    let shape = text.split_once('(')?.1.split_once(')')?.0;
    let descr = text.split_once("'descr': '")?.1.split_once('\'')?.0;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    let item: usize = descr.get(2..)?.parse().ok()?;
    sides.map(|side| side.parse().ok()).try_fold(item, |product, side: Option<usize>| product.checked_mul(side?))
}
