//! From a scan to features: `cargo run --release --example features`.

use meddino::backbone::{Backbone, Choice};
use meddino::ct::{Size, Volume, Window, prepare};
use meddino::vit::{config::ModelSize, features::Request, model::Model};

fn main() -> meddino::Result<()> {
    let model = Model::seeded(0, ModelSize::Tiny); // random weights; or Model::open("MedDINOv3-B-CT3M.pth")?
    let backbone = Backbone::new(&model, Choice::Auto)?;
    let mut scan = Volume::phantom(); // or Volume::open("scan.nii.gz")
    let image = prepare(&scan.read_slice(0)?, &Window::DEMO, Size::Native); // [1, 1, H, W]
    let features = backbone.features(&image, None, &Request::default())?;
    println!("{:?}, patch tokens {:?}, on {}", features.grid, features.patches().shape(), backbone.device());
    Ok(())
}
