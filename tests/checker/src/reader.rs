//! One reader of a partition: what it may see next. Its events come in the order in which it saw them, and it asks one thing
//! after the other, so that whatever goes back went back in truth.

use crate::event::{Offset, Partition, Reader};
use crate::report::{Kind, Report};

#[derive(Debug, Default)]
pub(crate) struct Position {
    /// Behind the last offset that it read; where it went, if it read nothing since.
    next: Option<i64>,
    /// Behind the highest offset that it read.
    end: Option<i64>,
    high_watermark: Option<i64>,
    log_start: Option<i64>,
    /// The highest offset that was denied to it although it had been told that the log goes further.
    denied: Option<i64>,
}

impl Position {
    pub(crate) fn seek(&mut self, offset: Offset) {
        self.next = Some(offset.0);
    }

    pub(crate) fn read(
        &mut self,
        offset: Offset,
        count: u32,
        who: (&Reader, &Partition),
        report: &mut Report,
    ) {
        let (reader, partition) = who;
        if let Some(next) = self.next {
            let gone = self.log_start.is_some_and(|start| start >= offset.0);
            if offset.0 > next && !gone {
                report.add(Kind::Gap, partition, || {
                    format!("{reader} was led from offset {next} to offset {offset}")
                });
            } else if offset.0 < next {
                report.add(Kind::Repeated, partition, || {
                    format!("{reader} was led back from offset {next} to offset {offset}")
                });
            }
        }
        self.next = Some(offset.0.saturating_add(i64::from(count)));
        self.end = self.end.max(self.next);
    }

    pub(crate) fn marks(
        &mut self,
        log_start: Option<Offset>,
        high_watermark: Option<Offset>,
        who: (&Reader, &Partition),
        report: &mut Report,
    ) {
        let (reader, partition) = who;
        if let Some(Offset(start)) = log_start {
            if let Some(before) = self.log_start.filter(|before| start < *before) {
                report.add(Kind::StartBack, partition, || {
                    format!("{reader} was told the log starts at {before}, later at {start}")
                });
            }
            self.log_start = Some(start);
        }
        if let Some(Offset(mark)) = high_watermark {
            if let Some(before) = self.high_watermark.filter(|before| mark < *before) {
                report.add(Kind::WatermarkBack, partition, || {
                    format!("{reader} was told the high watermark is {before}, later {mark}")
                });
            }
            if let Some(end) = self.end.filter(|end| mark < *end) {
                report.add(Kind::WatermarkBack, partition, || {
                    format!("{reader} had read up to offset {end}, and was told the high watermark is {mark}")
                });
            }
            self.high_watermark = Some(mark);
        }
    }

    /// It was told that what it read is behind the log's end.
    pub(crate) fn denied(&mut self, offset: Offset) {
        if self.high_watermark.max(self.end).is_some_and(|end| offset.0 <= end) {
            self.denied = self.denied.max(Some(offset.0));
        }
    }

    /// `start`: where the log starts in the end; it was no higher before.
    pub(crate) fn finish(&self, start: i64, who: (&Reader, &Partition), report: &mut Report) {
        let (reader, partition) = who;
        if let Some(denied) = self.denied.filter(|denied| *denied >= start) {
            report.add(Kind::Denied, partition, || {
                format!("{reader} was told that offset {denied} is out of range; the log starts at {start}")
            });
        }
    }
}
