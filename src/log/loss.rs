//! That a log lacks something which was acknowledged, or may, noted in its folder. Its other bytes may be sound, and end where a batch
//! does, so that nothing else would tell the next start; and damage that this start would not cut may look torn to one after a reboot.
//!
//! The note is durable before what has shown the loss is forgotten, and goes once it is settled what the log ends with: by a cut, by
//! bringing back the bytes, or by removing the note by hand. That the bytes are back is known of damage alone: a walk, begun where
//! it lay or before, then comes soundly to where the log's files ended when it was found. A crash behind a cut may leave the note.
//!
//! It is text, for operators: a line that names both places, if these are known, and what is wrong. A line that does not read as that is
//! a part of what is wrong, and the note then stands until it is removed.

use std::io;
use std::path::Path;

use aquifer_model::Offset;
use aquifer_runtime::files::Disk;

use super::layout;

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(super) what: String,
    /// Where damage lies; `None` if what is lost has left no trace in the files.
    pub(super) damage: Option<Stretch>,
}

/// A place in the files of a log; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) segment: Offset,
    pub(super) position: u64,
}

/// From where damage was met to the end of all that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(super) from: Place,
    pub(super) to: Place,
}

impl Loss {
    /// Something that nothing in the files shows.
    pub(super) fn unseen(what: &str) -> Loss {
        Loss { what: what.to_owned(), damage: None }
    }

    /// Whether a walk that met nothing wrong has shown that what was noted is there.
    pub(super) fn is_back(&self, walked: Stretch) -> bool {
        self.damage.is_some_and(|damage| walked.from <= damage.from && damage.to <= walked.to)
    }

    fn encode(&self) -> String {
        match self.damage {
            Some(Stretch { from, to }) => format!("{} to {}\n{}", from.encode(), to.encode(), self.what),
            None => self.what.clone(),
        }
    }

    fn decode(text: &str) -> Loss {
        let placed = text.split_once('\n').and_then(|(places, what)| {
            let (from, to) = places.split_once(" to ")?;
            let damage = Stretch { from: Place::decode(from)?, to: Place::decode(to)? };
            Some(Loss { what: what.to_owned(), damage: Some(damage) })
        });
        placed.unwrap_or_else(|| Loss::unseen(text))
    }
}

impl Place {
    fn encode(self) -> String {
        let name = layout::segment_file(Path::new(""), self.segment, layout::LOG);
        format!("{}:{}", name.display(), self.position)
    }

    fn decode(text: &str) -> Option<Place> {
        let (name, position) = text.split_once(':')?;
        let segment = layout::parse_segment_file(name, layout::LOG)?;
        Some(Place { segment, position: position.parse().ok()? })
    }
}

/// Notes what is lost, durably.
pub(super) fn note(disk: &Disk, folder: &Path, loss: &Loss) -> io::Result<()> {
    disk.write_atomic(&folder.join(layout::LOST), loss.encode().as_bytes())
}

/// What was noted, if anything.
pub(super) fn noted(disk: &Disk, folder: &Path) -> io::Result<Option<Loss>> {
    let stored = disk.read_if_exists(&folder.join(layout::LOST))?;
    Ok(stored.map(|text| Loss::decode(&String::from_utf8_lossy(&text))))
}

/// What was noted has been settled: the note goes, durably.
pub(super) fn forget(disk: &Disk, folder: &Path) -> io::Result<()> {
    disk.remove(&folder.join(layout::LOST))?;
    disk.sync_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: i64, position: u64) -> Place {
        Place { segment: Offset::new(segment).unwrap(), position }
    }

    fn damage() -> Loss {
        let damage = Stretch { from: place(1200, 77), to: place(1500, 90) };
        Loss { what: "a wrong checksum:\nof 12".to_owned(), damage: Some(damage) }
    }

    #[test]
    fn a_note_says_what_it_was_told() {
        for loss in [damage(), Loss::unseen("a part of the journal")] {
            assert_eq!(Loss::decode(&loss.encode()), loss);
        }
        let text = "00000000000000001200.log:77 to 00000000000000001500.log:90\na wrong checksum:\nof 12";
        assert_eq!(damage().encode(), text);
        for vague in [
            "00000000000000001200.log:77\nx",
            "0.log:1 to 0.log:2\nx",
            "00000000000000001200.log: to 00000000000000001500.log:90\nx",
            "00000000000000001200.log:77 to 00000000000000001500.index:90\nx",
        ] {
            assert_eq!(Loss::decode(vague), Loss::unseen(vague));
        }
    }

    #[test]
    fn what_was_noted_is_back_once_all_of_it_was_walked() {
        for (from, to, expected) in [
            (place(0, 0), place(1500, 90), true),
            (place(1200, 77), place(1500, 91), true),
            (place(1200, 77), place(1600, 0), true),
            (place(0, 0), place(1500, 89), false),
            (place(0, 0), place(1200, 500), false),
            (place(1200, 78), place(1500, 90), false),
            (place(1500, 0), place(1500, 90), false),
        ] {
            assert_eq!(damage().is_back(Stretch { from, to }), expected, "{from:?} {to:?}");
            assert!(!Loss::unseen("x").is_back(Stretch { from, to }));
        }
    }
}
