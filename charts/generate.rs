//! Writes what is made of the chart and of the types: part of `make generate`.

use std::fs;

mod made;

fn main() -> std::io::Result<()> {
    for made in made::all() {
        fs::write(made::root().join(&made.path), made.content)?;
    }
    Ok(())
}
