use futures::FutureExt as _;
use tokio::io::AsyncWriteExt as _;

use super::*;

async fn frames(bytes: &[u8], bytes_max: usize) -> (Vec<usize>, Option<String>) {
    let mut reader = FrameReader::new(bytes);
    let mut lengths = Vec::new();
    loop {
        match reader.frame(bytes_max).await {
            Ok(Some(frame)) => lengths.push(frame.len()),
            Ok(None) => return (lengths, None),
            Err(error) => return (lengths, Some(error.to_string())),
        }
    }
}

fn framed(bodies: &[&[u8]]) -> Vec<u8> {
    let frame = |body: &&[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    bodies.iter().flat_map(frame).collect()
}

#[tokio::test]
async fn frames_follow_each_other() {
    let large = vec![7; 3 * FIRST_STEP_BYTES + 5];
    let bytes = framed(&[&[1, 2], &[], &large, &[9]]);
    assert_eq!(frames(&bytes, 1 << 20).await, (vec![2, 0, large.len(), 1], None));
}

#[tokio::test]
async fn what_is_no_frame_ends_the_stream() {
    let cases: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1", "the other side speaks Http, not Kafka's protocol"),
        (&[0x16, 3, 1, 0, 0], "the other side speaks Tls, not Kafka's protocol"),
        (&[0xff, 0, 0, 0], "frame length -16777216 is negative"),
        (&[0x7f, 0xff, 0xff, 0xff], "frame of 2147483647 bytes, at most 1024 are allowed"),
        (&[0, 0, 4, 1], "frame of 1025 bytes, at most 1024 are allowed"),
        (&[0, 0], "the stream ended within a frame: 2 bytes of 4 had arrived"),
        (&[0, 0, 0, 3, 1], "the stream ended within a frame: 5 bytes of 7 had arrived"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(frames(bytes, 1024).await, (vec![], Some(expected.to_owned())));
    }
}

#[tokio::test]
async fn nothing_is_lost_when_a_read_is_given_up() {
    let body: Vec<u8> = (0..FIRST_STEP_BYTES * 2).map(|number| number as u8).collect();
    let bytes = framed(&[&body, &[1]]);
    let (mut far, near) = tokio::io::duplex(1 << 20);
    let mut reader = FrameReader::new(near);
    // Each piece arrives alone, and each time the read that waits for more is dropped.
    for piece in bytes[..bytes.len() - 1].chunks(10_007) {
        far.write_all(piece).await.unwrap();
        if let Some(frame) = reader.frame(1 << 20).now_or_never() {
            assert_eq!(frame.unwrap().unwrap(), body);
        }
    }
    far.write_all(&bytes[bytes.len() - 1..]).await.unwrap();
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), [1u8][..]);
}

#[tokio::test]
async fn memory_follows_what_arrives_and_an_idle_reader_has_none() {
    let (mut far, near) = tokio::io::duplex(1 << 20);
    let mut reader = FrameReader::new(near);
    far.write_all(&(100u32 << 20).to_be_bytes()).await.unwrap();
    far.write_all(&[0; 1000]).await.unwrap();
    assert!(reader.frame(1 << 30).now_or_never().is_none());
    assert!(reader.buffer.capacity() <= 2 * FIRST_STEP_BYTES, "{}", reader.buffer.capacity());

    let (mut far, near) = tokio::io::duplex(1 << 20);
    let mut reader = FrameReader::new(near);
    far.write_all(&framed(&[&[1; 100]])).await.unwrap();
    drop(reader.frame(1 << 20).await.unwrap());
    assert!(reader.frame(1 << 20).now_or_never().is_none());
    assert_eq!(reader.buffer.capacity(), 0);
}

#[tokio::test]
async fn a_read_that_ends_a_frame_brings_the_head_of_the_next() {
    let (small, large) = (vec![1; 1_000], vec![2; 5 * FIRST_STEP_BYTES]);
    let (mut far, near) = tokio::io::duplex(8 << 20);
    let mut reader = FrameReader::new(near);
    far.write_all(&framed(&[&small, &large, &large, &small, &[3; 10]])).await.unwrap();
    for body in [&small, &large, &large, &small] {
        assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body[..]);
        assert!((1..=WAITING_BYTES).contains(&reader.buffer.len()), "{}", reader.buffer.len());
        assert!(reader.buffer.capacity() <= WAITING_BYTES, "it holds {} bytes", reader.buffer.capacity());
    }
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), [3; 10][..]);
}

#[tokio::test]
async fn frames_that_come_together_are_read_together() {
    let body: &[u8] = &[1; 16 << 10];
    let length = body.len();
    let (mut far, near) = tokio::io::duplex(8 << 20);
    let mut reader = FrameReader::new(near);
    far.write_all(&framed(&[body; 5])).await.unwrap();
    assert_eq!(reader.length(1 << 20).await.unwrap(), Some(length));
    assert_eq!(reader.block_bytes(length), None, "none has come with others yet");
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body);
    let block = reader.block_bytes(length).expect("the first came with others");
    assert_eq!(block, 7 * (HEAD_BYTES + length) + WAITING_BYTES);
    reader.begin_block(block);
    reader.fill(length, length).await.unwrap();
    assert_eq!(reader.buffer.len(), 4 * (HEAD_BYTES + length));
    for left in (0..4).rev() {
        assert_eq!(reader.block_bytes(length), None, "it is here");
        assert_eq!(reader.take(length), body);
        assert_eq!(reader.is_in_block(), left > 0);
    }
    assert_eq!(reader.buffer.capacity(), 0);

    // One block is wasted on a client that sends one at a time by now.
    for expected in [Some(block), None] {
        far.write_all(&framed(&[body])).await.unwrap();
        assert_eq!(reader.length(1 << 20).await.unwrap(), Some(length));
        assert_eq!(reader.block_bytes(length), expected);
        if let Some(bytes) = expected {
            reader.begin_block(bytes);
        }
        assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body);
    }
}

#[tokio::test]
async fn a_frame_ends_in_its_block_or_leaves_it() {
    let (body, large): (&[u8], &[u8]) = (&[1; 1_000], &[2; 100_000]);
    let bytes = framed(&[body, body, body, large, body]);
    let (mut far, near) = tokio::io::duplex(8 << 20);
    let mut reader = FrameReader::new(near);
    let (two_and_a_half, rest) = bytes.split_at(2_500);
    far.write_all(two_and_a_half).await.unwrap();
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body);
    reader.begin_block(reader.block_bytes(body.len()).expect("the first came with others"));
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body);
    assert!(reader.block_holds(body.len()), "half of the third is here, and room for all of it");
    let begins = reader.buffer.as_ptr();
    far.write_all(rest).await.unwrap();
    let third = reader.frame(1 << 20).await.unwrap().unwrap();
    assert_eq!((&third[..], third.as_ptr()), (body, begins.wrapping_add(HEAD_BYTES)), "it was not moved");
    assert!(reader.is_in_block() && !reader.block_holds(large.len()));
    reader.leave_block();
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), large);
    assert_eq!(reader.frame(1 << 20).await.unwrap().unwrap(), body);
}

#[tokio::test]
async fn no_more_is_read_than_there_is_room_for() {
    let body = vec![1; MOVED_ONCE_BYTES];
    let (mut far, near) = tokio::io::duplex(8 << 20);
    let mut reader = FrameReader::new(near);
    far.write_all(&framed(&[&body])).await.unwrap();
    assert_eq!(reader.length(1 << 30).await.unwrap(), Some(body.len()));
    for step in [FIRST_STEP_BYTES, STEP_FACTOR * FIRST_STEP_BYTES] {
        reader.fill(step, body.len()).await.unwrap();
        let here = reader.buffer.len();
        assert!((HEAD_BYTES + step..=HEAD_BYTES + step + WAITING_BYTES).contains(&here), "{here} of {step}");
    }
}

#[tokio::test]
async fn steps_grow_with_the_room_there_is() {
    for (length, room, expected) in [
        (10, 0, 10),
        (100 << 20, 0, FIRST_STEP_BYTES),
        (100 << 20, FIRST_STEP_BYTES, STEP_FACTOR * FIRST_STEP_BYTES),
        (3 * FIRST_STEP_BYTES, FIRST_STEP_BYTES, 3 * FIRST_STEP_BYTES),
        (usize::MAX, usize::MAX / 2, usize::MAX),
    ] {
        assert_eq!(FrameReader::<&[u8]>::next_step(length, room), expected, "{length} {room}");
    }
}
