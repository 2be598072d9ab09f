//! A file system in the form that a kernel unpacks into memory when it boots: `newc` of cpio.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::output;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An image under construction. Paths are those inside, absolute.
pub(super) struct Image<W: Write> {
    to: W,
    entries: u32,
    there: BTreeSet<PathBuf>,
}

impl Image<BufWriter<File>> {
    /// An image in a file that is made anew.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Image::new(BufWriter::new(file)))
    }

    /// Adds a program of this machine's, and the libraries that it loads.
    pub(super) fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
        self.file(path, &read(program)?)?;
        let libraries = output(Command::new("ldd").arg(program))?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.file(library, &read(Path::new(library))?)?;
        }
        Ok(())
    }
}

impl<W: Write> Image<W> {
    fn new(to: W) -> Image<W> {
        Image { to, entries: 0, there: BTreeSet::from(["/".into()]) }
    }

    /// Adds a directory and those above it; nothing where it is there.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        let path = Path::new(path);
        let mut lacking: Vec<&Path> =
            path.ancestors().take_while(|path| !self.there.contains(*path)).collect();
        lacking.reverse();
        for path in lacking {
            self.entry(path, DIRECTORY, &[])?;
        }
        Ok(())
    }

    /// Adds a file that may be run; nothing where it is there.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let path = Path::new(path);
        if self.there.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent().and_then(Path::to_str) {
            self.directory(parent)?;
        }
        self.entry(path, PROGRAM, content)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        self.there.insert(path.to_owned());
        let name = path.to_str().context("a path is no text")?.trim_start_matches('/').to_owned();
        self.write(&name, mode, content)
    }

    fn write(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).context("a file of the image is too large")?;
        let links = 1;
        // Number, mode, owner, group, links, time, size, device (4 numbers), length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let mut head = String::from("070701");
        head.extend(fields.map(|field| format!("{field:08X}")));
        head += name;
        // The name's zero, and more of them up to a multiple of four.
        let padded = |length: usize| length.next_multiple_of(4) - length;
        let zeros = [0; 4];
        self.to.write_all(head.as_bytes())?;
        self.to.write_all(&zeros[..1 + padded(head.len() + 1)])?;
        self.to.write_all(content)?;
        self.to.write_all(&zeros[..padded(content.len())]).context("the image cannot be written")
    }

    /// Ends the image.
    pub(super) fn finish(mut self) -> Result<W> {
        self.write("TRAILER!!!", 0, &[])?;
        self.to.flush().context("the image cannot be written")?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_the_format_says() {
        let mut image = Image::new(Vec::new());
        image.file("/bin/a", b"hello").unwrap();
        image.file("/bin/a", b"again").unwrap();
        let bytes = image.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        // The directory above it, the file, and the end.
        let places: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(places.len(), 3);
        assert!(places.iter().all(|at| at % 4 == 0), "{places:?}");
        let file = &text[places[1]..places[2]];
        assert_eq!(&file[14..22], "000081ED");
        assert_eq!(&file[54..62], "00000005");
        assert_eq!(&file[110..], "bin/a\0hello\0\0\0");
        assert!(!text.contains("again"));
    }
}
