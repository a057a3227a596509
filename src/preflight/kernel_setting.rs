//! Settings of the kernel, as its files give them.

/// A file of the kernel's, trimmed; empty when it is not there.
pub(super) fn kernel_setting(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
