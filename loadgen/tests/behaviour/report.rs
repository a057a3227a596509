//! `loadgen report` on results that are whole, damaged, or hostile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Conduct, start};
use serde_json::Value;
use tempfile::TempDir;

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().expect("loadgen runs")
}

/// A short run saved under a name.
fn saved(parent: &TempDir, name: &str, conduct: Conduct, dialect: &str) -> PathBuf {
    let out = parent.path().join(name);
    let url = format!("ws://{}", start(conduct));
    let short = ["--duration", "2s", "--warmup", "100ms", "--drain", "500ms", "--quiet"];
    let load = ["--clients", "10", "--rate", "50", "--dialect", dialect, "--url", &url];
    let output = loadgen(&[&short[..], &load, &["--out", path(&out)]].concat());
    assert!(out.join("run.json").exists(), "{output:?}");
    out
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The page, or the exit code and what was said.
fn report(directories: &[&Path]) -> Result<String, (Option<i32>, String)> {
    let parent = tempfile::tempdir().expect("a directory");
    let html = parent.path().join("page.html");
    let mut arguments = vec!["report", "--html", path(&html)];
    arguments.extend(directories.iter().map(|directory| path(directory)));
    let output = loadgen(&arguments);
    if output.status.success() {
        return Ok(fs::read_to_string(&html).expect("a page"));
    }
    assert!(!html.exists(), "no page is better than half a page");
    Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn change_json(directory: &Path, change: impl FnOnce(&mut Value)) {
    let file = directory.join("run.json");
    let mut json = serde_json::from_slice(&fs::read(&file).expect("reads")).expect("JSON");
    change(&mut json);
    fs::write(file, json.to_string()).expect("writes");
}

#[test]
fn one_page_shows_all_runs_with_their_verdicts() {
    let parent = tempfile::tempdir().expect("a directory");
    let whole = saved(&parent, "whole", Conduct::default(), "raw");
    let lossy = saved(&parent, "lossy", Conduct { drop_one_in: Some(20), ..Conduct::default() }, "raw");
    let echo = saved(&parent, "echo", Conduct::default(), "echo");
    // The machine may be too busy for a valid run, and this test is not about that.
    change_json(&whole, |json| {
        json["validity"]["valid"] = true.into();
        json["validity"]["gates"]
            .as_array_mut()
            .expect("gates")
            .iter_mut()
            .for_each(|gate| gate["passed"] = true.into());
    });

    let page = report(&[&whole, &lossy, &echo]).expect("a page");
    assert!(page.contains(r#"<span class="valid">valid</span>"#));
    assert!(page.contains("deliveries arrived: reach 95.0000 %"), "the reason of an invalid run");
    assert!(page.contains(r#"class="curve bound""#) && page.contains("≥ 500.000"), "a censored tail");
    assert_eq!(page.matches("<figure").count(), 4);
    for figure in ["latency", "timeline", "receivers", "spread"] {
        assert!(page.contains(&format!(r#"<desc id="{figure}-desc">"#)), "{figure}");
    }
    for network in [" src=", "@import", "url(", "<link"] {
        assert!(!page.contains(network), "{network}");
    }

    let page = report(&[&echo]).expect("a page");
    assert_eq!(page.matches("<figure").count(), 2, "an echo has one receiver");
}

#[test]
fn what_the_server_and_its_cores_cost_is_shown_with_its_marks() {
    let parent = tempfile::tempdir().expect("a directory");
    let run = saved(&parent, "run", Conduct::default(), "raw");
    let shared = saved(&parent, "shared", Conduct::default(), "raw");
    let costs = |shared: &[usize], before: Option<&str>| {
        serde_json::json!({
            "pid": 1, "cpu": {"total_ns": 5_123_000_000_u64, "user_us": 123_000, "system_us": 5_000_000},
            "cpu_thin": true, "window_seconds": 10.0, "deliveries": 1_000_000, "cpu_us_per_delivery": 5.123,
            "cores": {"cores": [0], "busy_us": 6_789_000, "thin": false, "us_per_delivery": 6.789,
                "shared_with_loadgen": shared, "whole_machine": false},
            "resident_before_connect": 1 << 20, "resident_connected": 2 << 20, "resident_end": 3 << 20,
            "served_before": before,
        })
    };
    change_json(&run, |json| json["server"] = costs(&[], None));
    change_json(&shared, |json| json["server"] = costs(&[0], Some("it has had 90.0 MiB")));
    let page = report(&[&run, &shared]).expect("a page");
    assert!(page.contains("5.12 µs<span class=\"mark\">†</span>"), "thin");
    // In the table of runs where the cores were the server's alone, and with both in that of servers.
    assert_eq!(page.matches("6.79 µs<span class=\"mark\"></span>").count(), 3);
    assert!(page.contains("0: the server alone") && page.contains("0: loadgen's work is counted, too"));
    assert_eq!(page.matches("‡").count(), 2, "the mark and its note");
}

#[test]
fn text_from_files_stays_text() {
    let parent = tempfile::tempdir().expect("a directory");
    let run = saved(&parent, "<img onerror=alert(1)>", Conduct::default(), "raw");
    let hostile = "</script></style><script>alert(1)</script>\" onload='alert(1)";
    change_json(&run, |json| {
        json["settings"]["room"] = hostile.into();
        json["settings"]["dialect"] = hostile.into();
        json["settings"][hostile] = hostile.into();
        json["validity"]["warnings"] = vec![hostile].into();
        json["validity"]["gates"][0]["name"] = hostile.into();
        json["provenance"]["argv"] = vec![hostile].into();
        json["provenance"]["host"] = serde_json::json!({ hostile: [hostile] });
    });
    let page = report(&[&run]).expect("a page");
    assert!(!page.contains("<img") && !page.contains("<script>alert"), "markup got through");
    assert!(page.contains("&lt;img onerror=alert(1)&gt;") && page.contains("&lt;script&gt;alert(1)"));
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
}

#[test]
fn what_cannot_be_read_is_named_and_ends_with_two() {
    let parent = tempfile::tempdir().expect("a directory");
    let run = saved(&parent, "run", Conduct::default(), "raw");
    let (json, hlog) = (run.join("run.json"), run.join("run.hlog"));
    let refused = |why: &str| {
        let (code, stderr) = report(&[&run]).expect_err(why);
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(why) && stderr.contains(path(&run)), "{why}: {stderr}");
    };

    let whole = fs::read(&hlog).expect("reads");
    fs::write(&hlog, &whole[..whole.len() / 2]).expect("writes");
    refused("run.hlog is damaged");
    fs::write(&hlog, [0xff, 0xfe]).expect("writes");
    refused("run.hlog: stream did not contain valid UTF-8");
    // Without its last latencies the log does not belong to this run.json any more.
    let text = String::from_utf8(whole.clone()).expect("ASCII");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("1.000,")).collect();
    fs::write(&hlog, lines.join("\n") + "\n").expect("writes");
    refused("and run.json counts 1000");
    fs::write(&hlog, whole).expect("writes");

    let whole = fs::read(&json).expect("reads");
    change_json(&run, |json| json["schema_version"] = 99.into());
    refused("has schema version 99, and this loadgen reads version 1");
    fs::write(&json, &whole).expect("writes");
    change_json(&run, |json| json["latency"] = Value::Null);
    refused("run.json is damaged");
    fs::write(&json, &whole[..whole.len() / 2]).expect("writes");
    refused("run.json is damaged");
    fs::remove_file(&json).expect("removes");
    refused("run.json is missing");
}
