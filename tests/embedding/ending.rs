//! How servers start and end within a process.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::time::timeout;
use uproar::api::{Message, PublishError};
use uproar::config::{ApiAddress, Config};
use uproar::server::{Server, ServerError};

use crate::{Client, PATIENCE, small, start};

#[tokio::test]
async fn a_shutdown_closes_clients_and_frees_port_and_data() {
    let data = tempfile::tempdir().unwrap();
    let config = Config { data: Some(data.path().to_owned()), ..small() };
    let server = start(config.clone());
    let address = server.local_addr();
    let mut member = Client::enter(address);
    let published = server.publish("general", "kept").await.unwrap();
    let locked = Server::start(config.clone()).unwrap_err();
    assert!(matches!(locked, ServerError::Data(_)), "{locked}");
    let watching = std::thread::spawn(move || member.closed());
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
    assert_eq!(watching.join().unwrap(), Some(1001));
    server.shutdown().await.expect("it has ended well already");
    assert_eq!(server.publish("general", "late").await, Err(PublishError::ShuttingDown));
    assert_eq!(server.broadcast("prices", "late").await, Err(PublishError::ShuttingDown));
    // The handle of one that has ended holds nothing.
    let again = start(Config { listen: address, ..config });
    let next = again.publish("general", "and again").await.unwrap();
    assert_eq!(next.epoch, published.epoch);
    assert!(next.message_id > published.message_id);
}

#[tokio::test]
async fn publishing_during_a_shutdown_is_answered() {
    for _ in 0..5 {
        let server = Arc::new(start(small()));
        let backend = server.backend();
        let publishing = tokio::spawn(async move {
            for count in 0.. {
                match backend.publish("general", Message::text(count.to_string())).await {
                    Ok(published) => assert_eq!(published.message_id.0, count + 1),
                    Err(error) => return error,
                }
            }
            unreachable!("it ends with an error")
        });
        timeout(PATIENCE, server.publish("general", "")).await.unwrap().unwrap_err();
        timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
        // Every message before was taken, and this one was not.
        assert_eq!(publishing.await.unwrap(), PublishError::ShuttingDown);
    }
}

#[tokio::test]
async fn an_interrupt_cuts_a_shutdown_short() {
    let server = start(Config { drain_timeout: 10 * PATIENCE, ..small() });
    // It never answers the close.
    let _deaf = Client::enter(server.local_addr());
    let (_, ended) = tokio::join!(
        async {
            assert!(timeout(PATIENCE / 40, server.shutdown()).await.is_err(), "it waits for the client");
            server.interrupt();
        },
        timeout(PATIENCE, server.wait())
    );
    assert!(matches!(*ended.unwrap().unwrap_err(), ServerError::Interrupted));
}

#[tokio::test]
async fn a_dropped_handle_shuts_the_server_down() {
    let server = start(small());
    let mut member = Client::enter(server.local_addr());
    let backend = server.backend();
    drop(server);
    assert_eq!(tokio::task::spawn_blocking(move || member.closed()).await.unwrap(), Some(1001));
    assert!(backend.publish("general", Message::text("late")).await.is_err());
}

#[tokio::test]
async fn servers_in_one_process_are_apart() {
    let (one, two) = (start(small()), start(small()));
    assert_ne!(one.local_addr(), two.local_addr());
    let mut member = Client::enter(two.local_addr());
    one.publish("general", "in one").await.unwrap();
    timeout(PATIENCE, one.shutdown()).await.unwrap().unwrap();
    two.publish("general", "in two").await.unwrap();
    assert_eq!(member.until("message")["content"], "in two");
    assert_eq!((one.stats().users_online, two.stats().users_online), (0, 1));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::start(Config { listen: address, ..small() }).unwrap_err();
    assert!(error.to_string().contains("choose another one with --listen"), "{error}");
    let error = Server::start(Config { max_message_bytes: 1, ..small() }).unwrap_err();
    assert!(matches!(error, ServerError::Config(_)), "{error}");
    let api = ApiAddress::Unix("/nowhere/api.sock".into());
    let error = Server::start(Config { api_listen: Some(api), ..small() }).unwrap_err();
    assert!(matches!(error, ServerError::ApiListen(_)), "{error}");
}

#[tokio::test]
async fn a_handle_tells_where_the_api_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let api = ApiAddress::Unix(path.clone());
    let server = start(Config { api_listen: Some(api.clone()), ..small() });
    assert_eq!(server.api_addr(), Some(&api));
    UnixStream::connect(&path).unwrap();
    timeout(PATIENCE, server.shutdown()).await.unwrap().unwrap();
    assert!(!path.exists());
    assert!(start(small()).api_addr().is_none());
}

#[test]
fn the_thread_that_starts_a_server_is_left_alone() {
    let allowed = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let cores = |status: String| {
        status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
    };
    let before = cores(allowed());
    let pinned = uproar::config::Placement::Pinned(vec![0]);
    let _server = start(Config { placement: pinned, ..small() });
    assert_eq!(cores(allowed()), before);
}
