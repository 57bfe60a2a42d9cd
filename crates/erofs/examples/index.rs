//! Writes the index of a tar: `index LAYER.tar INDEX`, with the time it took.
use std::io::BufWriter;
use std::time::Instant;
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (tar, out) = (args.next().unwrap(), args.next().unwrap());
    let start = Instant::now();
    let file = std::fs::File::open(&tar)?;
    let len = file.metadata()?.len();
    let mut reader = layer::tar::Reader::new(file, layer::tar::Limits::default());
    let mut tree = erofs::Tree::new(erofs::Options::default());
    let mut adding = std::time::Duration::ZERO;
    while let Some(entry) = reader.next_entry()? {
        let begin = Instant::now();
        tree.add(&entry, reader.position())?;
        adding += begin.elapsed();
    }
    let read = start.elapsed();
    let mut out = BufWriter::new(std::fs::File::create(out)?);
    let summary = tree.finish(len, &mut out)?;
    println!("{summary:?}\nread and add {read:?}, of it add {adding:?}, finish {:?}", start.elapsed() - read);
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
    Ok(())
}
