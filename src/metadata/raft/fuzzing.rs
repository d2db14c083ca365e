//! What fuzz targets do with the bytes of metadata, and what they start from.

use aquifer_model::fuzzing::resealed;

use super::codec;
use crate::metadata::codec::{command, image};
use crate::metadata::node::Node;

/// Golden commands, a name and hexadecimal a line.
pub(crate) const COMMANDS: &str = include_str!("../codec/golden/commands-v1.txt");
/// The golden image, in hexadecimal.
pub(crate) const IMAGE: &str = include_str!("../codec/golden/image-v1.txt");

/// The same with client quotas.
pub(crate) const IMAGE_QUOTAS: &str = include_str!("../codec/golden/image-v1-quotas.txt");

/// What the Raft log and its peers hold: a command, an entry, a vote, a position, a snapshot; and the node file. What is read,
/// written and read again is the same.
pub(crate) fn record(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), resealed(bytes)].into_iter().flatten() {
        if let Ok(command) = command::decode(&bytes) {
            assert_eq!(command::decode(&command::encode(&command)), Ok(command));
        }
        if let Ok(entry) = codec::decode_entry(&bytes) {
            assert_eq!(codec::decode_entry(&codec::encode_entry(&entry)), Ok(entry));
        }
        if let Ok(vote) = codec::decode_vote(&bytes) {
            assert_eq!(codec::decode_vote(&codec::encode_vote(&vote)), Ok(vote));
        }
        if let Ok(position) = codec::decode_position(&bytes) {
            assert_eq!(codec::decode_position(&codec::encode_position(&position)), Ok(position));
        }
        if let Ok(owner) = codec::decode_owner(&bytes) {
            assert_eq!(codec::decode_owner(&codec::encode_owner(owner)), Ok(owner));
        }
        if let Ok(node) = Node::decode(&bytes) {
            assert_eq!(Node::decode(&node.encode()), Ok(node));
        }
        let _ = codec::decode_snapshot_head(&bytes);
        if let Ok(snapshot) = codec::decode_snapshot(&bytes) {
            let written = codec::encode_snapshot(&snapshot).expect("it is no larger than what was read");
            assert_eq!(codec::decode_snapshot(&written), Ok(snapshot));
        }
    }
}

/// The image in a snapshot, which has no envelope of its own.
pub(crate) fn image(bytes: &[u8]) {
    let Ok(image) = image::read(bytes) else { return };
    let mut writer = aquifer_model::format::Writer::new();
    image::write(&mut writer, &image);
    assert_eq!(image::read(&writer.finish()), Ok(image));
}
