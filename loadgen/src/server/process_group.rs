//! The processes that a command has started, and the one that listens on a port, as `/proc` shows them
//! (proc_pid_stat(5), proc_net(5)).

use std::collections::BTreeSet;
use std::fs;

/// The state of a socket that listens (`TCP_LISTEN` in the kernel's tcp_states.h).
const LISTENING: &str = "0A";

/// The processes of a group, in rising order. Those that have ended and were not waited for are left out.
#[must_use]
pub fn members(group: u32) -> Vec<u32> {
    let is_member = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parse_group(&stat) == Some(group)
    };
    processes().into_iter().filter(is_member).collect()
}

/// All processes, in rising order.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    processes
}

/// The process of a group that listens on a TCP port; the first where there are several.
#[must_use]
pub fn listener(group: u32, port: u16) -> Option<u32> {
    holder(members(group), port)
}

/// The process of this host that listens on a TCP port, as far as descriptors may be looked at: one's own
/// processes, for root all of them.
#[must_use]
pub fn any_listener(port: u16) -> Option<u32> {
    holder(processes(), port)
}

fn holder(processes: Vec<u32>, port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: BTreeSet<String> = tables
        .iter()
        .flat_map(|table| listening_inodes(table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    processes.into_iter().find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
    })
}

/// The group of a process that has not ended.
fn parse_group(stat: &str) -> Option<u32> {
    // The second field is the name in parentheses, which may hold spaces and parentheses itself; state,
    // parent and group follow.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some(group)
}

fn listening_inodes(table: &str, port: u16) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        let (_, local_port) = local.rsplit_once(':')?;
        let matches = state == LISTENING && u16::from_str_radix(local_port, 16) == Ok(port);
        matches.then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_processes_are_in_no_group() {
        assert_eq!(parse_group("42 (a) (b c) S 1 40 42 0"), Some(40));
        assert_eq!(parse_group("42 (a) Z 1 40 42 0"), None);
        assert_eq!(parse_group(""), None);
    }

    #[test]
    fn the_process_that_listens_is_found() {
        let listener_socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener_socket.local_addr().expect("is bound").port();
        let own = std::process::id();
        let stat = fs::read_to_string("/proc/self/stat").expect("it runs");
        let group = parse_group(&stat).expect("a group");
        assert!(members(group).contains(&own));
        assert_eq!(listener(group, port), Some(own));
        assert_eq!(any_listener(port), Some(own));
        drop(listener_socket);
        assert_eq!((listener(group, port), any_listener(port)), (None, None));
    }
}
