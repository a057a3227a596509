//! A browser with one window, and what a person does and sees in it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::wd::{Capabilities, TimeoutConfiguration};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::harness::{PATIENCE, Server, within};

/// The machine carries the browsers of one test at a time.
static STAGE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test has browsers open.
pub(crate) async fn stage() -> MutexGuard<'static, ()> {
    STAGE.lock().await
}

/// What a browser is like before it opens.
#[derive(Clone)]
pub(crate) struct Kind {
    language: &'static str,
    is_phone: bool,
}

impl Kind {
    pub(crate) const DESKTOP: Self = Self { language: "en-US", is_phone: false };
    pub(crate) const PHONE: Self = Self { language: "en-US", is_phone: true };
    pub(crate) const CHINESE: Self = Self { language: "zh-CN", is_phone: false };
}

/// A running browser. It is ended when dropped, also by a test that fails.
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Opens a browser with a profile of its own.
    pub(crate) async fn open(kind: Kind) -> Self {
        let (driver, port) = start_driver();
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            "--window-size=1280,800",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--lang={}", kind.language));
        arguments.push(format!("--accept-lang={}", kind.language));
        let mut options = json!({ "args": arguments });
        if kind.is_phone {
            let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 2, "touch": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        // No authority of a browser's has signed a test's certificate.
        capabilities.insert("acceptInsecureCerts".to_owned(), true.into());
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{port}");
        let client = within("browser", builder.connect(&address)).await.expect("a browser session");
        let timeouts = TimeoutConfiguration::new(Some(2 * PATIENCE), Some(PATIENCE), None);
        client.update_timeouts(timeouts).await.unwrap();
        Self { client, driver, _profile: profile }
    }

    /// Opens a browser on the chat, and returns when it can be written in.
    pub(crate) async fn enter(kind: Kind, server: &Server) -> Self {
        let browser = Self::open(kind).await;
        let scheme = if server.certificate().is_some() { "https" } else { "http" };
        browser.visit(&format!("{scheme}://{}/", server.address())).await;
        browser.is_ready().await;
        browser
    }

    /// Opens the chat, and gives no name where it asks for one.
    pub(crate) async fn visit(&self, url: &str) {
        self.look_at(url).await;
        // It either asks or connects at once.
        self.until("at('dialog').open || at('state').dataset.state").await;
        self.run("if (at('dialog').open) at('dialog').close();", Value::Null).await;
    }

    /// Opens a page, and returns once its scripts have run.
    pub(crate) async fn look_at(&self, url: &str) {
        within("page", self.client.goto(url)).await.expect("the page opens");
        // On a busy machine chromedriver may return while the page before is still there.
        let is_there = format!(
            "const address = (url) => new URL(url).href.split('#')[0];
            return document.readyState === 'complete' && address(location) === address({});",
            json!(url)
        );
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.client.execute(&is_there, vec![]).await, Ok(Value::Bool(true))) {
            assert!(Instant::now() < deadline, "{url} does not open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Loads the page again.
    pub(crate) async fn reload(&self) {
        within("page", self.client.refresh()).await.expect("the page opens");
    }

    /// Keeps a picture of the window where `PAGE_PICTURES` names a directory, for people to look at.
    pub(crate) async fn picture(&self, name: &str) {
        if let Some(directory) = std::env::var_os("PAGE_PICTURES") {
            let picture = self.client.screenshot().await.expect("a picture");
            std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), picture).unwrap();
        }
    }

    /// Waits until it is connected and in a room.
    pub(crate) async fn is_ready(&self) {
        self.until("at('state').dataset.state === 'open' && at('timeline').childElementCount > 0").await;
    }

    /// Waits until a JavaScript expression is true in the page, and returns its value. `at` finds an
    /// element by its id, `all` those of a selector, and `text` what one of a selector says.
    pub(crate) async fn until(&self, expression: &str) -> Value {
        self.until_within(PATIENCE, expression).await
    }

    /// The same, for what takes the page longer by its own rules.
    pub(crate) async fn until_within(&self, patience: Duration, expression: &str) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let value = self.look_for(expression).await;
            if !value.is_null() {
                return value;
            }
            if Instant::now() >= deadline {
                let page = self.see("document.body.innerText").await;
                panic!("never true: {expression}\n--- the page\n{}", page.as_str().unwrap());
            }
        }
    }

    /// Null when it was not true within [`PATIENCE`]: no script may run for longer.
    async fn look_for(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0], end = performance.now() + {};
            {LOOKING}
            (function look() {{
                const value = {expression};
                if (value) done(value);
                else if (performance.now() > end) done(null);
                else setTimeout(look, 20);
            }})();",
            PATIENCE.as_millis(),
        );
        self.checked(self.client.execute_async(&script, vec![]).await)
    }

    /// The value of a JavaScript expression.
    pub(crate) async fn see(&self, expression: &str) -> Value {
        let script = format!("{LOOKING} return {expression};");
        self.checked(self.client.execute(&script, vec![]).await)
    }

    /// Runs statements that get `argument` as `arguments[0]`.
    pub(crate) async fn run(&self, statements: &str, argument: impl Into<Value>) {
        let script = format!("{LOOKING} {statements}");
        self.checked(self.client.execute(&script, vec![argument.into()]).await);
    }

    fn checked(&self, result: Result<Value, CmdError>) -> Value {
        result.unwrap_or_else(|error| panic!("the page's script failed: {error}"))
    }

    /// Clicks an element, and finds it once more where the page has drawn it anew in between.
    pub(crate) async fn click(&self, selector: &str) {
        let clicked = async {
            loop {
                let element = self.client.find(Locator::Css(selector)).await.expect(selector);
                match element.click().await {
                    Err(error) if error.is_stale_element_reference() => {}
                    outcome => return outcome.expect(selector),
                }
            }
        };
        tokio::time::timeout(PATIENCE, clicked).await.expect(selector);
    }

    /// Writes into a field as a keyboard would.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.client.find(Locator::Css(selector)).await.expect(selector);
        element.send_keys(text).await.expect(selector);
    }

    pub(crate) async fn press(&self, key: Key) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(&String::from(char::from(key))).await.unwrap();
    }

    /// Says something in the conversation that is open. Any text can be said, also what no keyboard has.
    pub(crate) async fn say(&self, text: &str) {
        let statements = "at('text').value = arguments[0];
            at('text').dispatchEvent(new Event('input'));
            at('composer').requestSubmit();";
        self.run(statements, text).await;
    }

    /// Clicks the button that says this.
    pub(crate) async fn choose(&self, label: &str) {
        self.until(&format!("all('button').some((one) => one.innerText.includes({}))", json!(label))).await;
        let statements = "all('button').find((one) => one.innerText.includes(arguments[0])).click();";
        self.run(statements, label).await;
    }

    /// Has the page connect now, unless its own delay is over already.
    pub(crate) async fn reconnect(&self) {
        self.run("if (!at('reconnect').hidden) at('reconnect').click();", Value::Null).await;
    }

    /// Opens the card of a member in the list.
    pub(crate) async fn choose_member(&self, name: &str) {
        let is_it = format!("(one) => one.querySelector('.name').textContent === {}", json!(name));
        self.until(&format!("all('.member').some({is_it})")).await;
        self.run(&format!("all('.member').find({is_it}).click();"), Value::Null).await;
    }

    /// Takes the name, and waits until it is ours.
    pub(crate) async fn be_called(&self, name: &str) {
        self.click("#me").await;
        self.run("document.querySelector('dialog input').value = arguments[0];", name).await;
        self.choose("Save").await;
        self.until(&format!("text('#me .name') === {}", json!(name))).await;
    }

    /// What was said in the conversation that is open, line by line.
    pub(crate) async fn said(&self) -> Vec<String> {
        let said = self.see("all('#timeline .text').map((one) => one.textContent)").await;
        serde_json::from_value(said).unwrap()
    }

    /// Waits until exactly this was said in the conversation that is open.
    pub(crate) async fn has_heard(&self, expected: &[&str]) {
        let said = "JSON.stringify(all('#timeline .text').map((one) => one.textContent))";
        self.until(&format!("{said} === {}", json!(json!(expected).to_string()))).await;
    }
}

/// The shortest way to what a person sees.
const LOOKING: &str = "const at = (id) => document.getElementById(id);
    const all = (selector) => [...document.querySelectorAll(selector)];
    const text = (selector) => document.querySelector(selector)?.textContent ?? '';";

/// Starts chromedriver on a port that it finds itself. It ends where another program takes that port first, which it finds free
/// for IPv4 and needs for IPv6, too; then another one is started.
fn start_driver() -> (Child, u16) {
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts (Debian: apt-get install chromium chromium-driver)");
        let output = driver.stdout.take().unwrap();
        let (announce, announced) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let port = line.split_once("started successfully on port ");
                if let Some(port) = port.and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok()) {
                    let _ = announce.send(port);
                }
            }
        });
        // The first one may have to come from a slow disk.
        let port = announced.recv_timeout(6 * PATIENCE);
        if let Ok(port) = port {
            return (driver, port);
        }
        let _ = driver.kill();
        let _ = driver.wait();
        assert_eq!(
            port,
            Err(RecvTimeoutError::Disconnected),
            "chromedriver did not say on which port it listens"
        );
    }
    panic!("chromedriver ends when it is started");
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its browser is in its process group, and would outlive it.
        let group = Pid::from_child(&self.driver);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.driver.wait();
    }
}
