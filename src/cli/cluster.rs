//! The settings of a cluster, which only make sense together, and the password, which may come from several places.

use super::error::UsageError;
use super::flags::Flags;
use super::layers::{Environment, GivenSettings, PASSWORD, variable};
use crate::config::Cluster;
use uproar_cluster::NodeName;
use uproar_cluster::client::{RedisAddress, without_password};

/// The flag of the file with the password.
const PASSWORD_FILE: &str = "redis-password-file";

/// The settings that mean nothing without `--redis`.
const OF_A_CLUSTER: [&str; 5] = ["node", "redis-replicas", "redis-partitions", "redis-log", PASSWORD_FILE];

/// What the settings say about a cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterSettings {
    /// The place of the server in it; `None` without `--redis`.
    pub(super) cluster: Option<Cluster>,
    /// What is unwise about how they were given.
    pub(super) warning: Option<String>,
}

impl ClusterSettings {
    /// Reads them. `default_node` stands in for `--node`, if the command needs none.
    ///
    /// # Errors
    ///
    /// When one is missing, stands there in vain or is invalid, or the password cannot be read.
    pub(super) fn read(
        flags: &mut Flags,
        settings: &GivenSettings,
        environment: &Environment,
        default_node: Option<NodeName>,
    ) -> Result<Self, UsageError> {
        let Some(url) = flags.redis.take() else {
            refuse_without_redis(settings, environment)?;
            return Ok(Self::default());
        };
        let shown = without_password(&url.0);
        let refused = |reason: &dyn std::fmt::Display| settings.refused("redis", &shown, &reason.to_string());
        let mut redis: RedisAddress = url.0.parse().map_err(|error| refused(&error))?;
        let is_shown_by_ps = redis.has_password() && settings.is_on_command_line("redis");
        let warning = is_shown_by_ps.then(|| {
            format!(
                "ps shows everybody the password in --redis: put it into a file for --{PASSWORD_FILE}, or into {}",
                variable(PASSWORD)
            )
        });
        if let Some(password) = password(flags, settings, environment)? {
            redis = redis.with_password(&password);
        }
        let node = flags.node.take().or(default_node).ok_or_else(|| {
            refused(
                &"allowed is an address together with --node NAME, a name of this server that no other one in the \
                  cluster has and that stays when it restarts, such as chat-1",
            )
        })?;
        let cluster = Cluster {
            redis,
            node,
            replicas: flags.redis_replicas,
            partitions: flags.redis_partitions,
            log_bytes: flags.redis_log as u64,
        };
        Ok(Self { cluster: Some(cluster), warning })
    }
}

fn refuse_without_redis(settings: &GivenSettings, environment: &Environment) -> Result<(), UsageError> {
    const REASON: &str = "allowed is a value together with --redis, the address of the cluster's Redis";
    if let Some(key) = OF_A_CLUSTER.into_iter().find(|key| settings.is_given(key)) {
        return Err(settings.refused(key, "", REASON));
    }
    match environment.get(PASSWORD) {
        Some(_) => Err(refused_password(REASON)),
        None => Ok(()),
    }
}

/// The password, if one was given beside the address. As with all settings, the command line beats the environment, and
/// the environment beats the file of `--config`.
fn password(
    flags: &Flags,
    settings: &GivenSettings,
    environment: &Environment,
) -> Result<Option<String>, UsageError> {
    let given = environment.get(PASSWORD).filter(|_| !settings.is_on_command_line(PASSWORD_FILE));
    if let Some(password) = given {
        if environment.get(PASSWORD_FILE).is_some() {
            return Err(UsageError::Conflict {
                one: variable(PASSWORD),
                other: variable(PASSWORD_FILE),
                advice: "give the password, or the file that has it",
            });
        }
        let password = password.to_str().ok_or_else(|| refused_password("allowed is UTF-8"))?;
        return Ok(Some(password.to_owned()));
    }
    let Some(path) = &flags.redis_password_file else { return Ok(None) };
    let refused = |reason: &str| settings.refused(PASSWORD_FILE, &path.display().to_string(), reason);
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(&format!("the file cannot be read: {error}")))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
        _ => Err(refused("allowed is a file with the password in its first line, which is empty")),
    }
}

/// The error about the variable with the password, which is not shown.
fn refused_password(reason: &str) -> UsageError {
    UsageError::Value { value: "***".into(), place: variable(PASSWORD), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Invocation, parse};

    /// What becomes of these arguments and variables. A refusal never shows `secret`.
    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, String> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let refused = match parse(["uproar"].iter().chain(args), variables) {
            Ok(invocation) => return Ok(invocation),
            Err(refused) => refused.error.text(),
        };
        assert!(!refused.contains("secret"), "{refused}");
        Err(refused)
    }

    fn cluster(args: &[&str], variables: &[(&str, &str)]) -> Cluster {
        read(args, variables).unwrap().config.cluster.unwrap()
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    }

    #[test]
    fn every_setting_reaches_the_cluster_from_every_place() {
        let wanted = Cluster {
            redis: "redis+sentinel://a:1,b:2/main".parse().unwrap(),
            node: "chat-1".parse().unwrap(),
            replicas: 2,
            partitions: 4,
            log_bytes: 32 << 20,
        };
        let args = ["--redis=redis+sentinel://a:1,b:2/main", "--node=chat-1", "--redis-replicas=2"];
        let variables = [("UPROAR_REDIS_PARTITIONS", "4"), ("UPROAR_REDIS_LOG", "32MiB")];
        assert_eq!(cluster(&args, &variables), wanted);
        let (_file, path) = file(
            "redis = \"redis+sentinel://a:1,b:2/main\"\nnode = \"chat-1\"\nredis-replicas = 2\nredis-partitions = 4\n\
             redis-log = \"32MiB\"\n",
        );
        assert_eq!(cluster(&["--config", &path], &[]), wanted);
        let defaults = Cluster::new("redis://a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(cluster(&["--redis=redis://a", "--node=b"], &[]), defaults);
    }

    #[test]
    fn the_password_may_come_from_a_file_or_a_variable() {
        let redis = |args: &[&str], variables: &[(&str, &str)]| {
            let args: Vec<&str> =
                ["--redis=redis://user:old@host", "--node=a"].iter().chain(args).copied().collect();
            cluster(&args, variables).redis
        };
        let with =
            |password| "redis://user:old@host".parse::<RedisAddress>().unwrap().with_password(password);
        let (_file, path) = file("secret\nand more\n");
        let (_settings, settings) = file(&format!("redis-password-file = \"{path}\"\n"));
        assert_eq!(redis(&[], &[]), "redis://user:old@host".parse().unwrap());
        assert_eq!(redis(&["--redis-password-file", &path], &[]), with("secret"));
        assert_eq!(redis(&[], &[("UPROAR_REDIS_PASSWORD_FILE", &path)]), with("secret"));
        assert_eq!(redis(&["--config", &settings], &[]), with("secret"));
        let variable = ("UPROAR_REDIS_PASSWORD", "other");
        assert_eq!(redis(&[], &[variable]), with("other"));
        assert_eq!(
            redis(&["--redis-password-file", &path], &[variable]),
            with("secret"),
            "a flag beats a variable"
        );
        assert_eq!(redis(&["--config", &settings], &[variable]), with("other"), "a variable beats a file");
    }

    #[test]
    fn a_password_that_ps_shows_is_warned_of() {
        let warning = |args: &[&str], variables: &[(&str, &str)]| {
            let args: Vec<&str> = ["--node=a"].iter().chain(args).copied().collect();
            read(&args, variables).unwrap().warning
        };
        let warned = warning(&["--redis=redis://:secret@host"], &[]).unwrap();
        assert_eq!(
            warned,
            "ps shows everybody the password in --redis: put it into a file for --redis-password-file, or into \
             UPROAR_REDIS_PASSWORD"
        );
        assert_eq!(warning(&["--redis=redis://user@host"], &[("UPROAR_REDIS_PASSWORD", "secret")]), None);
        assert_eq!(warning(&[], &[("UPROAR_REDIS", "redis://:secret@host")]), None);
    }

    #[test]
    fn a_check_needs_no_name_and_a_node_does() {
        let checked = read(&["check", "--redis=redis://a"], &[]).unwrap();
        assert_eq!((checked.command, checked.config.cluster.is_some()), (Command::Check, true));
        let refused = read(&["--redis=redis://user:secret@a"], &[]).unwrap_err();
        let wanted = "error: invalid value 'redis://a' for --redis: allowed is an address together with --node NAME, a \
                      name of this server that no other one in the cluster has";
        assert!(refused.starts_with(wanted), "{refused}");
    }

    #[test]
    fn what_is_not_allowed_is_told_with_its_place_and_without_a_password() {
        let (_empty, empty) = file("\nsecret\n");
        let (_both, both) = file("redis-log = \"1MiB\"\n");
        let node = ["--redis=redis://a", "--node=a"];
        for (args, variables, wanted) in [
            (&["--node=a"][..], &[][..], "'a' for --node: allowed is a value together with --redis"),
            (
                &["--config", &both],
                &[],
                &*format!("'1MiB' for redis-log in {both}: allowed is a value together"),
            ),
            (
                &[],
                &[("UPROAR_REDIS_PASSWORD", "secret")],
                "'***' for UPROAR_REDIS_PASSWORD: allowed is a value",
            ),
            (&["--redis=http://:secret@a"], &[], "'http://a' for --redis: not redis://HOST:PORT, rediss://"),
            (&["--redis="], &[], "'' for --redis: not redis://HOST:PORT"),
            (
                &[],
                &[("UPROAR_REDIS", "redis://:secret@a:b")],
                "'redis://a:b' for UPROAR_REDIS: not a valid address",
            ),
            (&["--redis=redis://a", "--node=a b"], &[], "allowed is 1 to 64 letters, digits, dots"),
            (&[node[0], node[1], "--data=d"], &[], "'d' for --data: allowed is a directory without --redis"),
            (
                &[node[0], node[1], "--redis-replicas=17"],
                &[],
                "'17' for --redis-replicas: allowed is 0 to 16",
            ),
            (
                &[node[0], node[1], "--redis-partitions=65"],
                &[],
                "'65' for --redis-partitions: allowed is 1 to 64",
            ),
            (
                &[node[0], node[1]],
                &[("UPROAR_REDIS_LOG", "1MiB")],
                "'1MiB' for UPROAR_REDIS_LOG: allowed is 16MiB",
            ),
            (
                &[node[0], node[1], "--redis-password-file=/no/such"],
                &[],
                "'/no/such' for --redis-password-file: the file cannot be read: No such file",
            ),
            (
                &[node[0], node[1], "--redis-password-file", &empty],
                &[],
                "allowed is a file with the password in its first line, which is empty",
            ),
            (
                &node,
                &[("UPROAR_REDIS_PASSWORD", "secret"), ("UPROAR_REDIS_PASSWORD_FILE", &empty)],
                "UPROAR_REDIS_PASSWORD and UPROAR_REDIS_PASSWORD_FILE cannot be used together",
            ),
        ] {
            let refused = read(args, variables).unwrap_err();
            assert!(refused.contains(wanted), "{args:?} {variables:?}: {refused}");
        }
    }
}
