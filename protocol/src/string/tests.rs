use std::collections::HashMap;

use super::*;

#[test]
fn a_map_of_them_is_asked_with_a_str() {
    let map = HashMap::from([(Str::from("rivers"), 1), (Str::EMPTY, 2)]);
    assert_eq!((map.get("rivers"), map.get(""), map.get("lakes")), (Some(&1), Some(&2), None));
}

#[test]
fn what_is_no_utf8_is_refused() {
    assert!(Str::from_utf8(Bytes::from_static(&[0xc3])).is_err());
    assert_eq!(Str::from_utf8(Bytes::from_static(b"abc")).expect("ascii"), "abc");
}

#[test]
fn a_detached_one_lets_the_frame_go() {
    let frame = Bytes::from(vec![b'a'; 64]);
    let slice = Str::from_utf8(frame.slice(8..12)).expect("ascii");
    let copy = slice.detached();
    assert_eq!((&copy, frame.is_unique()), (&slice, false));
    drop(slice);
    assert!(frame.is_unique());
}
