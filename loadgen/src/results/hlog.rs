//! `run.hlog`: an HdrHistogram interval log, one interval a second, written while the run goes on.
//!
//! Lines without a tag hold latencies (intended → received) by time of receipt. What never arrived is in
//! a last interval of its own, with the time that it was waited for, so that merging all intervals gives
//! the quantiles of `run.json`. The other histograms follow as one tagged line each. Values are
//! nanoseconds; the third column is the interval's maximum in milliseconds.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

const NS_PER_MS: f64 = 1e6;

/// Writes the log. The sink is flushed after every line.
pub struct Log<'a, W: Write> {
    writer: IntervalLogWriter<'a, 'a, W, V2DeflateSerializer>,
}

impl<'a, W: Write> Log<'a, W> {
    /// Writes the head of the log. Times in it count from `begin`, when measuring began.
    ///
    /// # Errors
    ///
    /// What the sink reports.
    pub fn begin(
        sink: &'a mut W,
        serializer: &'a mut V2DeflateSerializer,
        begin: SystemTime,
    ) -> io::Result<Self> {
        let seconds = begin.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
        writeln!(sink, "#[Histogram log format version 1.3]")?;
        writeln!(sink, "#[loadgen {}: nanoseconds, intended to received]", env!("CARGO_PKG_VERSION"))?;
        writeln!(sink, "#[StartTime: {seconds:.3} (seconds since epoch)]")?;
        writeln!(sink, "#[BaseTime: {seconds:.3} (seconds since epoch)]")?;
        writeln!(
            sink,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )?;
        let mut builder = IntervalLogWriterBuilder::new();
        let writer = builder.with_max_value_divisor(NS_PER_MS).begin_log_with(sink, serializer)?;
        Ok(Self { writer })
    }

    /// Writes one interval that began `start` after the log.
    ///
    /// # Errors
    ///
    /// What the sink reports.
    pub fn interval(
        &mut self,
        histogram: &Histogram<u64>,
        start: Duration,
        length: Duration,
    ) -> io::Result<()> {
        self.write(histogram, start, length, None)
    }

    /// Writes a histogram of the whole run under a name without spaces and commas.
    ///
    /// # Errors
    ///
    /// What the sink reports.
    pub fn tagged(&mut self, name: &str, histogram: &Histogram<u64>, length: Duration) -> io::Result<()> {
        let tag = Tag::new(name).expect("Bug: a tag with spaces or commas");
        self.write(histogram, Duration::ZERO, length, Some(tag))
    }

    /// Writes a remark.
    ///
    /// # Errors
    ///
    /// What the sink reports.
    pub fn remark(&mut self, remark: &str) -> io::Result<()> {
        self.writer.write_comment(&format!("[{remark}]"))
    }

    fn write(
        &mut self,
        histogram: &Histogram<u64>,
        start: Duration,
        length: Duration,
        tag: Option<Tag<'_>>,
    ) -> io::Result<()> {
        self.writer.write_histogram(histogram, start, length, tag).map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_is_written_can_be_read_and_merged() {
        let mut sink = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let begin = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mut log = Log::begin(&mut sink, &mut serializer, begin).expect("writes");
        let mut written = crate::timings::histogram();
        for second in 0..3u64 {
            let mut interval = crate::timings::histogram();
            interval.record_n((second + 1) * 1_000_003, 10).expect("within bounds");
            written.add(&interval).expect("the same bounds");
            log.interval(&interval, Duration::from_secs(second), Duration::from_secs(1)).expect("writes");
        }
        log.tagged("service", &written, Duration::from_secs(3)).expect("writes");
        log.remark("a remark").expect("writes");

        let text = String::from_utf8(sink).expect("ASCII");
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"));
        assert!(text.contains("\n\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","));
        assert!(text.contains("#[StartTime: 1700000000.250 (seconds since epoch)]\n"));
        let mut deserializer = Deserializer::new();
        let mut merged = crate::timings::histogram();
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.expect("parses") else { continue };
            let bytes = STANDARD.decode(interval.encoded_histogram()).expect("base64");
            let histogram: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).expect("V2 deflate");
            match interval.tag() {
                None => {
                    starts.push(interval.start_timestamp().as_secs());
                    merged.add(&histogram).expect("the same bounds");
                }
                Some(tag) => assert_eq!((tag.as_str(), &histogram), ("service", &written)),
            }
        }
        assert_eq!(merged, written);
        assert_eq!(starts, [0, 1, 2]);
    }
}
