//! Times as histograms with fixed bounds, and the quantiles that are read off them.

pub mod quantiles;
