//! Precedence, and each refusal: over 500 lines because each flag is named twice.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use uproar_ring::{Feature, Features};

use super::*;
use crate::accounts::UserCommand;
use crate::config::{
    AllowedOrigin, Anonymous, ApiAddress, Auth, Config, LogFormat, MetricsPlace, Placement, Presence,
};

/// Parses `args` (without the program's name) in an environment of these variables.
fn parse_in(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, UsageError> {
    refused_in(args, variables).map_err(|refused| refused.error)
}

/// The same with the form in which a refusal is to be said.
fn refused_in(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, CliError> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    parse(["uproar"].iter().chain(args), variables)
}

fn config(args: &[&str]) -> Config {
    parse_in(args, &[]).unwrap().config
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let error = parse_in(args, variables).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// A configuration file and its path.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

#[test]
fn the_flags_are_well_formed() {
    Flags::command().debug_assert();
}

/// The help shows the defaults as text, and the configuration has them as values.
#[test]
fn the_defaults_of_the_help_are_those_of_the_configuration() {
    let invocation = parse_in(&[], &[]).unwrap();
    assert_eq!(invocation.config, Config::default());
    assert_eq!(invocation.command, Command::Serve);
}

#[test]
fn check_is_a_command_before_and_behind_the_flags() {
    for args in [["check", "--history", "7"], ["--history", "7", "check"]] {
        let invocation = parse_in(&args, &[("UPROAR_RATE", "8")]).unwrap();
        assert_eq!(invocation.command, Command::Check);
        assert_eq!((invocation.config.history, invocation.config.rate), (7, 8));
    }
    let invocation = parse_in(&["--", "check"], &[("UPROAR_RATE", "8")]).unwrap();
    assert_eq!(invocation.command, Command::Check);
    assert!(refusal(&["chekc"], &[]).contains("the commands are check, user, token and api-key"));
}

#[test]
fn accounts_are_managed_in_the_directory_that_any_place_names() {
    let (_file, path) = file("data = \"/from/file\"\n");
    for (args, variables, command, data) in [
        (
            &["user", "add", " Ann ", "--admin", "--data", "/flag"][..],
            &[("UPROAR_DATA", "/variable")][..],
            UserCommand::Add { name: "Ann".into(), is_admin: true },
            "/flag",
        ),
        (
            &["user", "--data=/flag", "add", "--", "-x"],
            &[],
            UserCommand::Add { name: "-x".into(), is_admin: false },
            "/flag",
        ),
        (&["user", "list"], &[("UPROAR_DATA", "/variable")], UserCommand::List, "/variable"),
        (
            &["user", "passwd", "Ann", "--config", &path],
            &[],
            UserCommand::Passwd { name: "Ann".into() },
            "/from/file",
        ),
        (
            &["user", "promote", " \u{202e}old ", "--data=/flag"],
            &[],
            UserCommand::SetAdmin { name: "\u{202e}old".into(), is_admin: true },
            "/flag",
        ),
        (
            &["user", "demote", "Ann", "--data=/flag"],
            &[],
            UserCommand::SetAdmin { name: "Ann".into(), is_admin: false },
            "/flag",
        ),
        (
            &["user", "remove", "Ann"],
            &[("UPROAR_CONFIG", &*path)],
            UserCommand::Remove { name: "Ann".into() },
            "/from/file",
        ),
    ] {
        let invocation = parse_in(args, variables).unwrap();
        assert_eq!(invocation.command, Command::User { command, data: data.into() });
    }
}

#[test]
fn what_is_no_command_about_an_account_is_refused() {
    assert!(refusal(&["user", "list"], &[]).contains("uproar user needs --data DIR"));
    assert!(refusal(&["--history=1", "user"], &[]).contains("the command user comes first"));
    for (args, wanted) in [
        (&["user"][..], "Usage: uproar user"),
        (&["user", "add"], "<NAME>"),
        (&["user", "add", "Ann", "secret"], "unexpected argument 'secret'"),
        (&["user", "add", "Ann", "--password=secret"], "unexpected argument"),
        (&["user", "dance"], "unrecognized subcommand 'dance'"),
        (&["user", "add", "x23456789012345678901"], "allowed are 1 to 20 characters"),
        (&["user", "add", "a\tb"], "none of them a control character"),
        (&["user", "list", "--data="], "value is required"),
    ] {
        let said = refusal(args, &[]);
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
    assert_eq!(parse_in(&["user", "add", "--help"], &[]).unwrap_err().exit_code(), 0);
}

#[test]
fn a_token_is_made_of_flags_and_of_the_servers_settings() {
    let token = |args: &[&str], variables: &[(&str, &str)]| match parse_in(args, variables).unwrap().command {
        Command::Token { command, files } => (command, files),
        other => panic!("{other:?}"),
    };
    let (command, files) = token(
        &[
            "token",
            "--sub=ann",
            "--expires=5m",
            "--room=team-*",
            "--room=general",
            "--admin",
            "--token-key=a,b",
        ],
        &[("UPROAR_TOKEN_ISSUER", "backend"), ("UPROAR_TOKEN_KEY", "c"), ("UPROAR_AUTH", "required")],
    );
    assert_eq!((&*command.subject, command.is_admin, command.may_rename), ("ann", true, false));
    assert_eq!(
        (command.expires, command.rooms),
        (Duration::from_secs(300), vec!["team-*".into(), "general".into()])
    );
    assert_eq!(files.keys, ["a", "b"].map(PathBuf::from));
    assert_eq!((files.issuer.as_deref(), files.audience), (Some("backend"), None));
    assert!(refusal(&["token"], &[]).contains("--sub <NAME>"));
    assert!(refusal(&["token", "--sub=ann", "--rate=x"], &[]).contains("allowed is a whole number"));
    assert!(refusal(&["--history=1", "token"], &[]).contains("the command token comes first"));
}

#[test]
fn every_flag_reaches_the_configuration() {
    let config = config(&[
        "--listen=[::1]:9000",
        "--cores=0,2-4",
        "--acceptors=2",
        "--busy-poll=50us",
        "--max-clients=10",
        "--max-message=1KiB",
        "--max-frame=2KiB",
        "--send-queue=4096",
        "--ping-interval=500ms",
        "--idle-timeout=2s",
        "--handshake-timeout=3s",
        "--session-timeout=90s",
        "--drain-timeout=4s",
        "--rooms=general,tea room",
        "--data=/srv/uproar",
        "--auth=required",
        "--anonymous=listen",
        "--token-key=a.pem,b.pem",
        "--token-key=c.key",
        "--token-jwks=set.json",
        "--token-issuer=backend",
        "--token-audience=chat",
        "--max-clients-per-address=0",
        "--connect-rate-per-address=9",
        "--no-limit-for=10.0.0.0/8",
        "--no-limit-for=2001:db8::1",
        "--trusted-proxy=10.0.0.5",
        "--trusted-proxy=192.0.2.0/24,2001:db8::2",
        "--proxy-protocol",
        "--dialects=chat,raw",
        "--topic-rate=10",
        "--topics-max=11",
        "--room-pattern=team-*,a",
        "--room-pattern=*",
        "--rooms-max=12",
        "--room-ttl=13s",
        "--rooms-kept=14",
        "--history=5",
        "--presence=count",
        "--presence-limit=6",
        "--ring-features=no-iowait",
        "--acceptor-cores=5-6",
        "--rate=7",
        "--burst=8",
        "--allow-origin=https://a.example",
        "--allow-origin=null,*",
        "--allow-host=chat.example,münchen.example",
        "--max-head=32KiB",
        "--tls-cert=chain.pem",
        "--tls-key=key.pem",
        "--api-listen=[::1]:9090",
        "--api-key-file=api.keys",
        "--api-tls",
        "--metrics=public",
        "--log=json",
        "--log-access",
        "--log-level=debug",
    ]);
    let wanted = Config {
        listen: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9000)),
        placement: Placement::Pinned(vec![0, 2, 3, 4]),
        acceptors: NonZeroUsize::new(2),
        acceptor_cores: Some(vec![5, 6]),
        busy_poll: Duration::from_micros(50),
        ring_features: Features::NONE.with(Feature::NoIowait),
        max_clients: Some(10),
        max_clients_per_address: Some(0),
        connect_rate_per_address: 9,
        no_limit_for: ["10.0.0.0/8", "2001:db8::1"].map(|range| range.parse().unwrap()).to_vec(),
        trusted_proxies: ["10.0.0.5", "192.0.2.0/24", "2001:db8::2"]
            .map(|range| range.parse().unwrap())
            .to_vec(),
        proxy_protocol: true,
        dialects: "chat,raw".parse().unwrap(),
        max_message_bytes: 1024,
        max_frame_bytes: 2048,
        max_head_bytes: 32 << 10,
        send_queue_bytes: 4096,
        ping_interval: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(2),
        handshake_timeout: Duration::from_secs(3),
        session_timeout: Duration::from_secs(90),
        drain_timeout: Duration::from_secs(4),
        rooms: vec!["general".into(), "tea room".into()],
        data: Some("/srv/uproar".into()),
        cluster: None,
        auth: Auth::Required,
        anonymous: Some(Anonymous::Listen),
        token_keys: ["a.pem", "b.pem", "c.key"].map(PathBuf::from).to_vec(),
        token_jwks: Some("set.json".into()),
        token_issuer: Some("backend".into()),
        token_audience: Some("chat".into()),
        history: 5,
        presence: Presence::Count,
        presence_limit: 6,
        rate: 7,
        burst: 8,
        topic_rate: 10,
        topics_max: 11,
        room_patterns: ["team-*", "a", "*"].map(String::from).to_vec(),
        rooms_max: 12,
        room_ttl: Duration::from_secs(13),
        rooms_kept: 14,
        allow_origins: vec![
            AllowedOrigin::Origin("https://a.example".into()),
            AllowedOrigin::Origin("null".into()),
            AllowedOrigin::Any,
        ],
        allow_hosts: ["chat.example", "xn--mnchen-3ya.example"].map(|host| host.parse().unwrap()).to_vec(),
        tls_cert: Some("chain.pem".into()),
        tls_key: Some("key.pem".into()),
        api_listen: Some(ApiAddress::Tcp(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9090)))),
        api_key_file: Some("api.keys".into()),
        api_tls: true,
        metrics: MetricsPlace::Public,
        log_format: LogFormat::Json,
        log_access: true,
        log_level: LevelFilter::DEBUG,
    };
    assert_eq!(config, wanted);
}

#[test]
fn flag_beats_environment_beats_file() {
    let (_file, path) = file("history = 1\nrate = 1\nburst = 1\n");
    let variables = [("UPROAR_HISTORY", "2"), ("UPROAR_RATE", "2"), ("UPROAR_CONFIG", &*path)];
    let config = parse_in(&["--history", "3"], &variables).unwrap().config;
    assert_eq!((config.history, config.rate, config.burst), (3, 2, 1));
}

#[test]
fn the_config_flag_beats_its_variable() {
    let (_file, path) = file("history = 1\n");
    let config = parse_in(&["--config", &path], &[("UPROAR_CONFIG", "/nonexistent")]).unwrap().config;
    assert_eq!(config.history, 1);
}

#[test]
fn an_empty_variable_is_unset() {
    let config = parse_in(&[], &[("UPROAR_HISTORY", ""), ("UPROAR_CONFIG", "")]).unwrap().config;
    assert_eq!(config.history, 100);
}

#[test]
fn a_file_writes_lists_and_numbers_as_toml_does() {
    let (_file, path) = file(
        "listen = \"0.0.0.0:1\"\nmax-clients = 10000\nrooms = [\"general\", \"b\"]\ncores = [0, \"2-3\"]\n\
         allow-origin = []\nallow-host = []\nmax-message = 512\nping-interval = \"1s\"\n",
    );
    let config = config(&["--config", &path]);
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 1)));
    assert_eq!(config.max_clients, Some(10_000));
    assert_eq!(config.rooms, ["general", "b"]);
    assert_eq!(config.placement, Placement::Pinned(vec![0, 2, 3]));
    assert_eq!(config.allow_origins, []);
    assert_eq!(config.max_message_bytes, 512);
    assert_eq!(config.ping_interval, Duration::from_secs(1));
}

#[test]
fn cores_and_shards_of_one_place_conflict_and_of_two_places_take_precedence() {
    assert!(refusal(&["--cores=0", "--shards=2"], &[]).contains("cannot be used with"));
    let both = [("UPROAR_CORES", "0"), ("UPROAR_SHARDS", "2")];
    assert!(refusal(&[], &both).starts_with("UPROAR_CORES and UPROAR_SHARDS cannot be used together"));

    let (_file, path) = file("cores = \"0\"\n");
    let two = Placement::Unpinned(NonZeroUsize::new(2).unwrap());
    assert_eq!(config(&["--config", &path, "--shards=2"]).placement, two);
    let placement = parse_in(&["--config", &path], &[("UPROAR_SHARDS", "2")]).unwrap().config.placement;
    assert_eq!(placement, two);
}

#[test]
fn an_error_names_the_place_where_the_value_was_written() {
    let flag = refusal(&["--history=x"], &[]);
    assert!(flag.contains("invalid value 'x' for '--history <N>': allowed is a whole number"), "{flag}");
    assert_eq!(
        refusal(&["--history=20000"], &[]),
        "invalid value '20000' for --history: allowed is 0 to 10000"
    );
    assert_eq!(
        refusal(&[], &[("UPROAR_IDLE_TIMEOUT", "120")]),
        "invalid value '120' for UPROAR_IDLE_TIMEOUT: allowed is a duration with its unit, such as 30s or 500ms"
    );
    assert_eq!(
        refusal(&[], &[("UPROAR_MAX_FRAME", "2MiB")]),
        "invalid value '2MiB' for UPROAR_MAX_FRAME: allowed is at most send-queue, which is 1MiB; or set \
         --send-queue, too"
    );
    for (text, wanted) in [
        ("max-message = \"tiny\"", "'tiny' for max-message in PATH: allowed is a size, such as"),
        ("max-message = 1", "'1' for max-message in PATH: allowed is 64 to 16MiB"),
        ("rate = -1", "'-1' for rate in PATH: allowed is a whole number from 0 on"),
        (
            "rate = 1.5",
            "'1.5' for rate in PATH: allowed is a string, a whole number, true or false, or a list",
        ),
        (
            "rooms = [\"general\", \"a,b\"]",
            "for rooms in PATH: allowed is a string, a whole number, true or false, or a list",
        ),
        ("rooms = []", "'' for rooms in PATH: allowed is a list that contains general"),
        ("presence = \"always\"", "'always' for presence in PATH: allowed is auto, exact or count"),
        ("allow-origin = \"example.com\"", "in PATH: allowed is an origin without a path"),
        ("no-limit-for = \"10.0.0\"", "in PATH: allowed is an address or a range of them"),
        ("trusted-proxy = \"proxy\"", "in PATH: allowed is an address or a range of them"),
        ("proxy-protocol = \"yes\"", "'yes' for proxy-protocol in PATH: allowed is true or false"),
        (
            "proxy-protocol = true",
            "'true' for proxy-protocol in PATH: allowed is false; or true together with",
        ),
        (
            "dialects = \"chat,irc\"",
            "'chat,irc' for dialects in PATH: allowed is a list of chat,hub,raw,echo",
        ),
        ("allow-host = \"a:80\"", "in PATH: allowed is the name of a host, without scheme and port"),
        ("log-level = \"loud\"", "'loud' for log-level in PATH: allowed is error, warn"),
        ("cores = \"3-1\"", "'3-1' for cores in PATH: allowed is cores and ranges of them, such as 0,2-3"),
        ("shards = 0", "'0' for shards in PATH: allowed is 1 to 1024"),
        ("acceptors = 0", "'0' for acceptors in PATH: allowed is 1 to 1024"),
        ("listen = 8080", "'8080' for listen in PATH: allowed is an address or a name, and a port"),
        ("auth = \"maybe\"", "'maybe' for auth in PATH: allowed is off or required"),
        ("log = \"xml\"", "'xml' for log in PATH: allowed is text or json"),
    ] {
        let (_file, path) = file(text);
        let said = refusal(&["--config", &path], &[]);
        assert!(said.contains(&wanted.replace("PATH", &path)), "{text}: {said}");
    }
}

#[test]
fn the_setting_that_was_given_is_blamed_and_not_a_default() {
    for (args, wanted) in [
        (
            &["--max-frame=5KiB"][..],
            "invalid value '5KiB' for --max-frame: allowed is at least max-message, which is 10KiB; or set \
             --max-message, too",
        ),
        (
            &["--ping-interval=5m"],
            "invalid value '5m' for --ping-interval: allowed is shorter than idle-timeout, which is 2m; or set \
             --idle-timeout, too",
        ),
        (
            &["--idle-timeout=20s"],
            "invalid value '20s' for --idle-timeout: allowed is longer than ping-interval",
        ),
        (
            &["--send-queue=1KiB", "--max-frame=64KiB"],
            "invalid value '1KiB' for --send-queue: allowed is at least max-frame",
        ),
    ] {
        let said = refusal(args, &[]);
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn variables_with_our_prefix_that_name_nothing_are_refused() {
    let said = refusal(&[], &[("UPROAR_MAX_CLIENT", "5"), ("UPROAR_RATE", "7")]);
    assert!(
        said.starts_with(
            "unknown variable UPROAR_MAX_CLIENT; known are UPROAR_REDIS_PASSWORD, UPROAR_LISTEN, "
        ),
        "{said}"
    );
    assert!(said.ends_with(", UPROAR_CONFIG"), "{said}");
    assert!(refusal(&["user", "list"], &[("UPROAR_DATE", "/x")]).starts_with("unknown variable UPROAR_DATE"));
    // Empty ones are unset, others have other prefixes, or are known to be of others.
    let config = parse_in(
        &[],
        &[
            ("UPROAR_NOTHING", ""),
            ("UPROAR", "target/release/uproar"),
            ("UPROARS_RATE", "1"),
            ("UPROAR_BASELINES", "/tmp"),
            ("UPROAR_SERVICE_HOST", "10.0.0.1"),
            ("UPROAR_SERVICE_PORT", "8080"),
            ("UPROAR_SERVICE_PORT_HTTP", "8080"),
            ("UPROAR_PORT", "tcp://10.0.0.1:8080"),
            ("UPROAR_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("UPROAR_METRICS_SERVICE_HOST", "10.0.0.2"),
            ("UPROAR_METRICS_PORT_80_TCP", "tcp://10.0.0.2:80"),
            ("UPROAR_RATE", "7"),
        ],
    );
    assert_eq!(config.unwrap().config.rate, 7);
    assert!(refusal(&[], &[("UPROAR_PORT", "8080")]).starts_with("unknown variable UPROAR_PORT;"));
}

#[test]
fn a_refusal_is_told_in_the_form_of_the_log_as_soon_as_that_is_known() {
    let (_file, path) = file("log = \"json\"\nhistory = 20000\n");
    for (args, variables, wanted) in [
        (&["--history=x"][..], &[][..], LogFormat::Text),
        (&["--history=x", "--log=json"], &[], LogFormat::Json),
        (&["--log", "json", "--unheard-of"], &[], LogFormat::Json),
        (&["--history=20000", "--log=json"], &[], LogFormat::Json),
        (&["--history=x"], &[("UPROAR_LOG", "json")], LogFormat::Json),
        (&[], &[("UPROAR_LOG", "json"), ("UPROAR_BURST", "x")], LogFormat::Json),
        (&["--log=text", "--history=x"], &[("UPROAR_LOG", "json")], LogFormat::Text),
        (&["--log=xml"], &[("UPROAR_LOG", "xml")], LogFormat::Text),
        (&["--config", &path], &[], LogFormat::Json),
    ] {
        assert_eq!(refused_in(args, variables).unwrap_err().log_format, wanted, "{args:?} {variables:?}");
    }
}

#[test]
fn a_name_to_listen_on_stands_for_its_ipv4_address_if_it_has_one() {
    let listen = config(&["--listen=localhost:8090"]).listen;
    assert!(listen.ip().is_loopback() && listen.port() == 8090, "{listen}");
    let found = ["[::1]:80", "127.0.0.1:80", "127.0.0.2:80"].map(|text| text.parse().unwrap());
    assert_eq!(values::preferred(found.into_iter()), Some(found[1]));
    assert_eq!(values::preferred(found[..1].iter().copied()), Some(found[0]));
    let said = refusal(&[], &[("UPROAR_LISTEN", "no-such-name.invalid:80")]);
    let start = "invalid value 'no-such-name.invalid:80' for UPROAR_LISTEN: the name cannot be resolved: ";
    assert!(said.starts_with(start), "{said}");
    for text in
        ["localhost", ":80", "127.0.0.1:99999", "127.0.0.300:80", "a b:80", "http://a:80", "::1:80", "a:+8"]
    {
        assert!(
            refusal(&["--listen", text], &[]).contains("allowed is an address or a name, and a port"),
            "{text}"
        );
    }
    // `uproar user` does not listen.
    assert!(
        parse_in(&["user", "list", "--data=/x"], &[("UPROAR_LISTEN", "no-such-name.invalid:80")]).is_ok()
    );
}

#[test]
fn an_unusable_file_is_refused_by_its_name() {
    let missing = refusal(&["--config", "/nonexistent.toml"], &[]);
    assert!(missing.starts_with("configuration file /nonexistent.toml: No such file"), "{missing}");
    let (_file, path) = file("max_clients = 3\n");
    let unknown = refusal(&["--config", &path], &[]);
    let start =
        format!("configuration file {path}: unknown key 'max_clients'; known are listen, cores, shards, ");
    assert!(unknown.starts_with(&start), "{unknown}");
    assert!(
        unknown.ends_with("tls-key, api-listen, api-key-file, api-tls, metrics, log, log-access, log-level"),
        "{unknown}"
    );
    let (_file, path) = file("rate = \n");
    assert!(refusal(&["--config", &path], &[]).contains("line 1"));
}

#[test]
fn help_and_version_are_no_failure() {
    for flag in ["--help", "--version"] {
        assert_eq!(parse_in(&[flag], &[]).unwrap_err().exit_code(), 0);
    }
    assert_eq!(parse_in(&["--no-such-flag"], &[]).unwrap_err().exit_code(), 2);
}
