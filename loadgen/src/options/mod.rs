//! The options of a run as values. What they come to, and which contradict each other, is the plan's to say.

pub mod threshold;
