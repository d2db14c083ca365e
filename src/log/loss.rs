//! That a log lacks something which was acknowledged, or may, noted in its folder. Its other bytes may be sound, and end where a batch
//! does, so that nothing else would tell the next start; and damage that this start would not cut may look torn to one after a reboot.
//!
//! The note is durable before what has shown the loss is forgotten, and goes once somebody has settled what the log ends with: by a
//! cut, by bringing back the bytes (a walk then passes the place that is noted), or by removing the note by hand.
//!
//! It is text, for operators: a line that names segment and position, if these are known, and what is wrong. A line that does not read
//! as that is a part of what is wrong, and the note then stands until it is removed.

use std::io;
use std::path::Path;

use aquifer_model::Offset;
use aquifer_runtime::files::Disk;

use super::layout;

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(super) what: String,
    /// Where damage was met; `None` if what is lost has left no trace in the files.
    pub(super) place: Option<Place>,
}

/// A place in the files of a log; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) segment: Offset,
    pub(super) position: u64,
}

impl Loss {
    /// Something that nothing in the files shows.
    pub(super) fn unseen(what: &str) -> Loss {
        Loss { what: what.to_owned(), place: None }
    }

    /// Whether a walk that met nothing wrong before `reached` has shown that what was noted is there.
    pub(super) fn is_passed(&self, reached: Place) -> bool {
        self.place.is_some_and(|place| place < reached)
    }

    fn encode(&self) -> String {
        match self.place {
            Some(Place { segment, position }) => {
                let name = layout::segment_file(Path::new(""), segment, layout::LOG);
                format!("{}:{position}\n{}", name.display(), self.what)
            }
            None => self.what.clone(),
        }
    }

    fn decode(text: &str) -> Loss {
        let placed = text.split_once('\n').and_then(|(place, what)| {
            let (name, position) = place.split_once(':')?;
            let segment = layout::parse_segment_file(name, layout::LOG)?;
            Some(Loss {
                what: what.to_owned(),
                place: Some(Place { segment, position: position.parse().ok()? }),
            })
        });
        placed.unwrap_or_else(|| Loss::unseen(text))
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

    #[test]
    fn a_note_says_what_it_was_told() {
        let place = Place { segment: Offset::new(1200).unwrap(), position: 77 };
        let damage = Loss { what: "a wrong checksum:\nof 12".to_owned(), place: Some(place) };
        let unseen = Loss::unseen("a part of the journal");
        for loss in [damage.clone(), unseen.clone()] {
            assert_eq!(Loss::decode(&loss.encode()), loss);
        }
        assert_eq!(damage.encode(), "00000000000000001200.log:77\na wrong checksum:\nof 12");
        for vague in ["0.log:1\nx", "00000000000000001200.log:\nx", "00000000000000001200.index:7\nx"] {
            assert_eq!(Loss::decode(vague), Loss::unseen(vague));
        }
        let places = [(1199, 500), (1200, 76), (1200, 77), (1200, 78), (1300, 0)];
        let passed = places.map(|(segment, position)| {
            let reached = Place { segment: Offset::new(segment).unwrap(), position };
            (damage.is_passed(reached), unseen.is_passed(reached))
        });
        assert_eq!(passed.map(|(damage, _)| damage), [false, false, false, true, true]);
        assert!(passed.iter().all(|(_, unseen)| !unseen));
    }
}
