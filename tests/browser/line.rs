//! The line between a browser and a server. It can be cut, fall silent, and lead through a proxy that changes
//! requests.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A port that leads to a server, until it is cut, and again when it is mended.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct Proxy {
    prefix: &'static str,
    renames_host: bool,
}

#[derive(Clone, Copy)]
struct State {
    server: SocketAddr,
    is_cut: bool,
    /// How many connections there were so far.
    accepted: usize,
    /// Of so many, the first ones, nothing reaches the server any more.
    mute: usize,
    /// Of so many, the first ones, nothing reaches the browser any more.
    deaf: usize,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::through(None, server).await
    }

    /// A proxy that knows the server as `prefix`, and takes it off each path.
    pub(crate) async fn under(prefix: &'static str, server: SocketAddr) -> Self {
        Self::through(Some(Proxy { prefix, renames_host: false }), server).await
    }

    /// A proxy that calls the server by the server's own address.
    pub(crate) async fn renaming_host(server: SocketAddr) -> Self {
        Self::through(Some(Proxy { prefix: "", renames_host: true }), server).await
    }

    async fn through(proxy: Option<Proxy>, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, _) = watch::channel(State { server, is_cut: false, accepted: 0, mute: 0, deaf: 0 });
        let watched = state.clone();
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                watched.send_modify(|state| state.accepted += 1);
                tokio::spawn(connection(browser, proxy, watched.subscribe()));
            }
        });
        Self { address, state }
    }

    /// Ends every connection; new ones end at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.is_cut = true);
    }

    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }

    /// Leads new connections to another server, as a load balancer does when one has died.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.state.send_modify(|state| state.server = server);
    }

    /// Loses everything on the connections that there are, without ending them. New ones are sound.
    pub(crate) fn silence(&self) {
        self.state.send_modify(|state| (state.mute, state.deaf) = (state.accepted, state.accepted));
    }

    /// The same, of what the server sends alone.
    pub(crate) fn deafen(&self) {
        self.state.send_modify(|state| state.deaf = state.accepted);
    }
}

async fn connection(mut browser: TcpStream, proxy: Option<Proxy>, mut watched: watch::Receiver<State>) {
    let State { server, is_cut, accepted: number, .. } = *watched.borrow();
    if is_cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if let Some(proxy) = proxy
        && !pass_head(&mut browser, &mut server, proxy).await
    {
        return;
    }
    let (from_browser, to_browser) = browser.split();
    let (from_server, to_server) = server.split();
    let (outward, inward) = (watched.clone(), watched.clone());
    let both = async {
        tokio::join!(
            carry(from_browser, to_server, || outward.borrow().mute >= number),
            carry(from_server, to_browser, || inward.borrow().deaf >= number),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = watched.wait_for(|state| state.is_cut) => {}
    }
}

/// Passes on the head of a request as a proxy does. False when the path is not the server's.
async fn pass_head(browser: &mut TcpStream, server: &mut TcpStream, proxy: Proxy) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 14 {
        let Ok(byte) = browser.read_u8().await else { return false };
        head.push(byte);
    }
    let mut head = String::from_utf8(head).unwrap();
    let Some(path) = head.find(&format!(" {}/", proxy.prefix)).filter(|path| *path < "HEAD ".len()) else {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        browser.write_all(answer).await.unwrap();
        return false;
    };
    head.replace_range(path + 1..=path + proxy.prefix.len(), "");
    if proxy.renames_host {
        let outside = browser.local_addr().unwrap();
        head = head
            .replace(&format!("Host: {outside}\r\n"), &format!("Host: {}\r\n", server.peer_addr().unwrap()));
    }
    server.write_all(head.as_bytes()).await.is_ok()
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_silent: impl Fn() -> bool,
) {
    let mut bytes = vec![0; 1 << 14];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !is_silent() && to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    if !is_silent() {
        let _ = to.shutdown().await;
    }
}
