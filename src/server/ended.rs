//! Why a connection ends.

use std::io;

use aquifer_protocol::frame::{ForeignProtocol, FrameError};

use crate::net::ReadFrameError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("client closed the connection")]
    ByClient,
    #[error("idle for too long")]
    Idle,
    #[error("broker is stopping")]
    Stopping,
    #[error("client speaks {0:?}; this port speaks Kafka's protocol without TLS")]
    Foreign(ForeignProtocol),
    #[error(transparent)]
    Frame(FrameError),
    #[error("client left in the middle of a request: {arrived} bytes of {announced} had arrived")]
    CutShort { arrived: usize, announced: usize },
    #[error("request of {announced} bytes arrived too slowly")]
    TooSlow { announced: usize },
    #[error("request cannot be read: {0}")]
    Request(String),
    #[error("answer cannot be written in the version asked for: {0}")]
    Answer(String),
    #[error("produce without acknowledgement failed: {0}")]
    UnacknowledgedProduce(String),
    #[error("client took nothing of its answer for too long")]
    NotReading,
    #[error("client took its answer too slowly while memory for answers was spent")]
    InTheWay,
    #[error(transparent)]
    Io(io::Error),
}

impl From<ReadFrameError> for Ended {
    fn from(error: ReadFrameError) -> Ended {
        match error {
            ReadFrameError::Io(error) => Ended::Io(error),
            ReadFrameError::Foreign(protocol) => Ended::Foreign(protocol),
            ReadFrameError::Length(error) => Ended::Frame(error),
            ReadFrameError::CutShort { arrived, announced } => Ended::CutShort { arrived, announced },
        }
    }
}

impl Ended {
    /// Why an answer was not taken.
    pub(super) fn of_write(error: io::Error) -> Ended {
        if error.kind() == io::ErrorKind::TimedOut { Ended::NotReading } else { Ended::Io(error) }
    }
}
