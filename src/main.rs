fn main() {
    for crd in capf::crds::all() { println!("---\n{}", capf::crds::yaml(&crd)); }
}
