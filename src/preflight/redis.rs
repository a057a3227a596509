//! Whether the Redis of a cluster can be used.

use std::time::Duration;

use uproar_cluster::client::{Check, ConnectError, Finding as Judgement, inspect};

use super::report::{CheckOutcome, Finding, REDIS_CHECK, finding};
use crate::config::Cluster;

/// How long all checks of Redis may take. One that takes longer to answer would delay every message.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects and asks it, on a runtime of this thread. `out_of_reach` is the outcome if it does not answer.
pub(super) fn check(cluster: &Cluster, out_of_reach: CheckOutcome) -> Vec<Finding> {
    let address = &cluster.redis;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![finding(REDIS_CHECK, out_of_reach, format!("{address} cannot be asked: {error}"))];
        }
    };
    let inspected = runtime
        .block_on(async {
            tokio::time::timeout(TIMEOUT, inspect(address, cluster.partitions, cluster.replicas)).await
        })
        .unwrap_or(Err(ConnectError::Timeout));
    // Without waiting for a name server that does not answer.
    runtime.shutdown_background();
    match inspected {
        Ok(checks) => checks.iter().map(judge).collect(),
        Err(error) if error.is_refusal() => {
            vec![finding(REDIS_CHECK, CheckOutcome::Fatal, format!("{address} refuses: {error}"))]
        }
        Err(error) => {
            vec![finding(REDIS_CHECK, out_of_reach, format!("{address} is out of reach: {error}"))]
        }
    }
}

fn judge(Check { name, found, finding: judgement }: &Check) -> Finding {
    match judgement {
        Judgement::Good => finding(REDIS_CHECK, CheckOutcome::Ok, format!("{name} {found}")),
        Judgement::Warning(advice) => {
            finding(REDIS_CHECK, CheckOutcome::Lacking, format!("{name} {found}: {advice}"))
        }
        Judgement::Bad(advice) => {
            finding(REDIS_CHECK, CheckOutcome::Fatal, format!("{name} {found}: {advice}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_advice() {
        let judged = |finding| judge(&Check { name: "role", found: "slave".into(), finding });
        assert_eq!(judged(Judgement::Good).detail, "role slave");
        let warning = judged(Judgement::Warning("do"));
        assert_eq!((warning.outcome, &*warning.detail), (CheckOutcome::Lacking, "role slave: do"));
        assert_eq!(judged(Judgement::Bad("do")).outcome, CheckOutcome::Fatal);
    }

    #[test]
    fn a_redis_that_is_not_there_or_does_not_answer_is_out_of_reach() {
        // A port that is taken and not listened on, and one where nothing is said.
        let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap().into();
        for socket in [taken, silent] {
            let port = socket.local_addr().unwrap().as_socket().unwrap().port();
            let address = format!("redis://:secret@127.0.0.1:{port}").parse().unwrap();
            let cluster = Cluster::new(address, "a".parse().unwrap());
            let findings = check(&cluster, CheckOutcome::Lacking);
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!(finding.outcome, CheckOutcome::Lacking);
            let start = format!("redis://127.0.0.1:{port} is out of reach: ");
            assert!(
                finding.detail.starts_with(&start) && !finding.detail.contains("secret"),
                "{}",
                finding.detail
            );
        }
    }
}
