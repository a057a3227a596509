//! The version of what nodes write into the log.
//!
//! Each node tells in its beginning the highest format that it reads, and reads the one before as well. Nodes write the
//! lowest that is the highest of a live node. So they can be replaced one after the other: while both versions run, all
//! write the old format; once the last old one has ended, they write the new one.
//!
//! From then on a node of the old version does not begin any more, even if all others would write its format again:
//! what stands in Redis may be in the new one. The script `append` sees to both, because no node knows of another one's
//! beginning before it has read it: it refuses a batch in a new format as long as a live node cannot read that, and the
//! beginning of a node that cannot read what the log is written in. Likewise, a node that is two versions ahead of the
//! log refuses to read it.

/// The newest format, which this version reads, and writes where all nodes do.
pub const FORMAT: u16 = 1;

/// True for the newest format and the one before it.
pub(crate) fn is_readable(format: u16) -> bool {
    format > 0 && (FORMAT - 1..=FORMAT).contains(&format)
}
