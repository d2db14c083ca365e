//! What consumers of a classic group tell each other through their coordinator, in Kafka's layouts: what a member reads
//! (`ConsumerProtocolSubscription`) and what it was assigned (`ConsumerProtocolAssignment`), versions 0 to 3. A version that is not
//! known begins like the newest that is.
//!
//! A coordinator that only hands these on need not look into them. One that assigns for such members must.

use aquifer_protocol::{DecodeError, EncodeError, Reader, Str, Writer};
use bytes::Bytes;

/// The newest version of both.
const VERSION_MAX: i16 = 3;
/// From here on a member says what it has.
const VERSION_OWNED: i16 = 1;
/// From here on it says in which generation it was given that.
const VERSION_GENERATION: i16 = 2;
/// From here on it says where it is.
const VERSION_RACK: i16 = 3;
/// The fewest bytes of a topic with its partitions.
const TOPIC_BYTES_MIN: usize = 6;
const NAME_BYTES_MIN: usize = 2;
const INDEX_BYTES: usize = 4;

/// Topics by their names, each with partitions.
pub(crate) type Named = Vec<(Str, Vec<i32>)>;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// In which its assignment is to be told to it.
    pub(crate) version: i16,
    pub(crate) topics: Vec<Str>,
    /// What it still has; one that gives everything back before it joins has nothing.
    pub(crate) owned: Named,
    pub(crate) rack: Option<Str>,
}

/// What a member was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: Named,
    /// What only the assignor and its likes understand.
    pub(crate) user_data: Bytes,
}

impl Subscription {
    /// Reads what a member said.
    pub(crate) fn read(bytes: &Bytes) -> Result<Subscription, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        let version = reader.i16()?;
        let topics = reader.array(false, NAME_BYTES_MIN, |reader| Ok(reader.string(false)?.detached()))?;
        let _user_data = reader.nullable_bytes(false)?;
        let owned = if version >= VERSION_OWNED { named(&mut reader)? } else { Named::new() };
        if version >= VERSION_GENERATION {
            let _generation = reader.i32()?;
        }
        let rack = if version >= VERSION_RACK { reader.nullable_string(false)? } else { None };
        Ok(Subscription { version, topics, owned, rack: rack.map(|rack| rack.detached()) })
    }
}

impl Assignment {
    /// Reads what a leader handed in.
    pub(crate) fn read(bytes: &Bytes) -> Result<Assignment, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        let _version = reader.i16()?;
        let partitions = named(&mut reader)?;
        let user_data = reader.nullable_bytes(false)?;
        Ok(Assignment { partitions, user_data: user_data.unwrap_or_default() })
    }
}

/// An assignment as a member reads it that speaks this version.
pub(crate) fn assignment(version: i16, partitions: &Named) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::bare();
    writer.i16(version.clamp(0, VERSION_MAX));
    writer.array(false, partitions, |writer, (topic, indexes)| {
        writer.string(false, topic)?;
        writer.array(false, indexes, |writer, index| {
            writer.i32(*index);
            Ok(())
        })
    })?;
    writer.nullable_bytes(false, None)?;
    Ok(writer.finish()?.into_bytes())
}

fn named(reader: &mut Reader) -> Result<Named, DecodeError> {
    reader.array(false, TOPIC_BYTES_MIN, |reader| {
        let topic = reader.string(false)?.detached();
        Ok((topic, reader.array(false, INDEX_BYTES, Reader::i32)?))
    })
}

#[cfg(test)]
pub(in crate::groups) mod tests {
    use super::*;

    /// What a member says that reads these topics and has these partitions, in version 1.
    pub(in crate::groups) fn subscription(topics: &[Str], owned: &Named) -> Bytes {
        let mut writer = Writer::bare();
        writer.i16(VERSION_OWNED);
        writer.array(false, topics, |writer, topic| writer.string(false, topic)).expect("short names");
        writer.nullable_bytes(false, None).expect("nothing");
        let rest = assignment(0, owned).expect("short names");
        // Between its version and its user data an assignment has what a subscription ends with.
        let mut bytes = writer.finish().expect("short").into_bytes().to_vec();
        bytes.extend_from_slice(&rest[2..rest.len() - 4]);
        bytes.into()
    }

    fn bytes(hex: &str) -> Bytes {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
    }

    /// As the classes of Kafka 4.3.1 write them.
    #[test]
    fn the_bytes_are_kafkas() {
        let topics = "00000002".to_owned() + "000174" + "000175" + "ffffffff";
        let owned = "00000001".to_owned() + "000174" + "00000002" + "00000000" + "00000002";
        let had = vec![(Str::from("t"), vec![0, 2])];
        for (version, bytes_of, expected, rack) in [
            (0, "0000".to_owned() + &topics, Named::new(), None),
            (1, "0001".to_owned() + &topics + &owned, had.clone(), None),
            (2, "0002".to_owned() + &topics + &owned + "00000007", had.clone(), None),
            (3, "0003".to_owned() + &topics + &owned + "00000007" + "000172", had, Some(Str::from("r"))),
        ] {
            let read = Subscription::read(&bytes(&bytes_of)).expect("Kafka's");
            let topics = vec![Str::from("t"), Str::from("u")];
            assert_eq!(read, Subscription { version, topics, owned: expected, rack }, "v{version}");
        }
        let partitions = vec![(Str::from("t"), vec![0, 2]), (Str::from("u"), vec![1])];
        let rest = "00000002".to_owned()
            + "000174"
            + "00000002"
            + "00000000"
            + "00000002"
            + "000175"
            + "00000001"
            + "00000001"
            + "ffffffff";
        for (version, prefix) in [(0, "0000"), (1, "0001"), (3, "0003"), (9, "0003")] {
            let written = assignment(version, &partitions).expect("short names");
            assert_eq!(written, bytes(&(prefix.to_owned() + &rest)), "v{version}");
            let read = Assignment::read(&written).expect("ours");
            assert_eq!(read, Assignment { partitions: partitions.clone(), user_data: Bytes::new() });
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for hex in ["", "0000", "000000000001", "00000000000100", "0001000000000000000000000001"] {
            assert!(Subscription::read(&bytes(hex)).is_err(), "{hex}");
        }
        assert!(Assignment::read(&bytes("00000000000100")).is_err());
    }
}
